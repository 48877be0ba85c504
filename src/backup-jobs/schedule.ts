/** When a backup job runs: `sat 22:00`, `mon-fri,sun 22:00`, `daily 01:30`, or a cron line, in local time. */
import { Cron } from 'croner';
import { PhdError } from '../errors.ts';

export interface Schedule {
  /** As it was written. */
  text: string;
  /** The first run after this moment; null: there is none, ever. */
  next(after: Date): Date | null;
}

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const DAY = DAYS.join('|');
const FORM = new RegExp(
  `^(daily|(?:${DAY})(?:-(?:${DAY}))?(?:,(?:${DAY})(?:-(?:${DAY}))?)*)\\s+([01]?\\d|2[0-3]):([0-5]\\d)$`,
);

/** Throws CONFIG_INVALID if the text is no schedule, or one that never comes. */
export function parseSchedule(text: string): Schedule {
  const line = text.trim().toLowerCase();
  const [, days, hour, minute] = FORM.exec(line) ?? [];
  const cron =
    days === undefined ? cronOf(line, text) : `${Number(minute)} ${Number(hour)} * * ${daysOf(days)}`;
  let timer: Cron;
  try {
    timer = new Cron(cron, { paused: true, mode: '5-part' });
  } catch (error) {
    const words = `${JSON.stringify(text)} is no schedule: ${(error as Error).message}`;
    throw new PhdError('CONFIG_INVALID', words, { cause: error });
  }
  if (timer.nextRun(new Date(2026, 0, 1)) === null)
    throw new PhdError('CONFIG_INVALID', `${JSON.stringify(text)} never comes: no day fits`);
  return { text, next: (after) => timer.nextRun(after) };
}

function cronOf(line: string, text: string): string {
  if (/^\S+(\s+\S+){4}$/.test(line)) return line;
  throw new PhdError(
    'CONFIG_INVALID',
    `${JSON.stringify(text)} is no schedule: expected one like "sat 22:00", "mon-fri 22:00", "daily 01:30" or a cron line`,
  );
}

/** Days of the week as cron numbers them; a span may go over Saturday. */
function daysOf(text: string): string {
  if (text === 'daily') return '*';
  const numbers = text.split(',').flatMap((part) => {
    const [from = '', to = from] = part.split('-');
    const first = DAYS.indexOf(from);
    const count = (DAYS.indexOf(to) - first + 7) % 7;
    return Array.from({ length: count + 1 }, (_, at) => (first + at) % 7);
  });
  return [...new Set(numbers)].sort().join(',');
}
