/** The program's log: one line for each event, UTC time first. Written lines hold no secrets: callers see to that. */
import { appendFileSync, renameSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Clock } from '../clock.ts';
import { fromErrno } from '../errors.ts';
import type { Places } from '../model/config.ts';
import { escapeText } from './display-text.ts';

/** The log is set aside as `phd.log.1` when it is larger than this. */
const MAX_LOG_BYTES = 10 * 1024 * 1024;

export function logFileOf(places: Places): string {
  return path.join(places.logDir, 'phd.log');
}

/**
 * Appends one line at each call; control characters are made visible. A log that cannot be written (a full volume) is told once
 * and ends nothing: the work that it tells of matters more.
 */
export function openLog(
  places: Places,
  clock: Clock,
  onFault: (message: string) => void,
): (text: string) => void {
  const file = logFileOf(places);
  let isTold = false;
  return (text) => {
    try {
      const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
      if (size > MAX_LOG_BYTES) renameSync(file, `${file}.1`);
      appendFileSync(file, `${clock.now().toISOString()} ${escapeText(text)}\n`, { mode: 0o600 });
    } catch (error) {
      if (!isTold)
        onFault(`${fromErrno(error, `cannot write the log ${file}`).message}: the work goes on without`);
      isTold = true;
    }
  };
}
