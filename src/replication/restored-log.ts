/**
 * `restored.log`: one line for each proved restore of a pass, for people and for the next pass. Fields lie between tabs,
 * which no name of an archive and no goal can hold. A line that was cut is no entry: its disk is restored again.
 */
import { open, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { fromErrno } from '../errors.ts';
import type { Places } from '../model/config.ts';

export interface RestoredEntry {
  /** UTC, ISO 8601. */
  time: string;
  /** `N:folder/file` */
  archive: string;
  /** Absolute path of the disk. */
  goal: string;
  bytes: number;
  result: 'restored' | 'restored and verified';
}

export interface RestoredLog {
  entries: RestoredEntry[];
  /** Whether this archive, from whichever target, was restored to this goal. */
  names(archive: string, goal: string): boolean;
  /** Numbers of lines that are no entries: cut, or changed by hand. */
  damagedLines: number[];
}

const HEAD =
  '# Restored by replication: UTC time, archive, disk, bytes, result.\n# A line that is removed lets its archive be restored once more.\n';

export function restoredLogFile(places: Places): string {
  return path.join(places.stateDir, 'restored.log');
}

/** Reads the text. Never throws. */
export function parseRestoredLog(text: string): RestoredLog {
  const entries: RestoredEntry[] = [];
  const damagedLines: number[] = [];
  const keys = new Set<string>();
  for (const [at, line] of text.split('\n').entries()) {
    const whole = line.replace(/\r$/, '');
    if (whole === '' || whole.startsWith('#')) continue;
    const entry = parseEntry(whole);
    if (entry === undefined) {
      damagedLines.push(at + 1);
      continue;
    }
    entries.push(entry);
    keys.add(keyOf(entry.archive, entry.goal));
  }
  return { entries, damagedLines, names: (archive, goal) => keys.has(keyOf(archive, goal)) };
}

export function printEntry({ time, archive, goal, bytes, result }: RestoredEntry): string {
  return `${[time, archive, goal, bytes, result].join('\t')}\n`;
}

/** The log of this home; empty if there is none. Throws IO. */
export async function readRestoredLog(places: Places): Promise<RestoredLog> {
  const file = restoredLogFile(places);
  try {
    return parseRestoredLog(await readFile(file, 'utf8'));
  } catch (error) {
    const failure = fromErrno(error, `cannot read ${file}`);
    if (failure.code === 'NOT_FOUND') return parseRestoredLog('');
    throw failure;
  }
}

/** Adds entries, durably, on a line of their own even behind one that was cut. Throws IO, NO_SPACE. */
export async function appendRestored(places: Places, entries: readonly RestoredEntry[]): Promise<void> {
  if (entries.length === 0) return;
  const file = restoredLogFile(places);
  try {
    const handle = await open(file, 'a+', 0o600);
    try {
      const { size } = await handle.stat();
      const last = Buffer.alloc(1);
      if (size > 0) await handle.read(last, 0, 1, size - 1);
      const lead = size === 0 ? HEAD : last[0] === 0x0a ? '' : '\n';
      await handle.appendFile(lead + entries.map(printEntry).join(''));
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fromErrno(error, `cannot write ${file}`);
  }
}

/** Removes the log: everything counts as not restored. Throws IO. */
export async function clearRestoredLog(places: Places): Promise<void> {
  try {
    await rm(restoredLogFile(places), { force: true });
  } catch (error) {
    throw fromErrno(error, `cannot remove ${restoredLogFile(places)}`);
  }
}

function parseEntry(line: string): RestoredEntry | undefined {
  const [time = '', archive = '', goal = '', bytes = '', result = '', ...others] = line.split('\t');
  const isWhole =
    others.length === 0 &&
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(time) &&
    /^\d{1,4}:.+\/.+$/s.test(archive) &&
    goal.startsWith('/') &&
    /^\d{1,16}$/.test(bytes) &&
    (result === 'restored' || result === 'restored and verified');
  return isWhole ? { time, archive, goal, bytes: Number(bytes), result } : undefined;
}

/** Copies on several targets are one archive. */
function keyOf(archive: string, goal: string): string {
  return `${archive.replace(/^\d+:/, '')}\t${goal}`;
}
