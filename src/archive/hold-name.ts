/** Names of the small files that hold a run on its target: `HELD-2026.11.26-2200.txt`. */
import type { Stamp } from '../model/archive.ts';

const NAME = /^HELD-(\d{4})\.(\d\d)\.(\d\d)-(\d\d)(\d\d)\.txt$/;

export function holdName(stamp: Stamp): string {
  return `HELD-${stamp.replace(/-/g, '.').replace('T', '-').replace(':', '')}.txt`;
}

/** The stamp of the run that a file of a folder holds; undefined: it is none. */
export function heldStamp(name: string): Stamp | undefined {
  const [, year, month, day, hour, minute] = NAME.exec(name) ?? [];
  return year === undefined ? undefined : `${year}-${month}-${day}T${hour}:${minute}`;
}
