/** The one source of time, and local time of the backup host as the names on targets tell it. */
import type { Stamp } from './model/archive.ts';

export interface Clock {
  now(): Date;
}

export const systemClock: Clock = { now: () => new Date() };

const twoDigits = (value: number): string => String(value).padStart(2, '0');

/** `YYYY-MM-DD` in the local time zone. */
export function localDate(date: Date): string {
  const year = String(date.getFullYear()).padStart(4, '0');
  return `${year}-${twoDigits(date.getMonth() + 1)}-${twoDigits(date.getDate())}`;
}

/** `YYYY-MM-DDTHH:MM` in the local time zone; seconds are dropped. */
export function localStamp(date: Date): Stamp {
  return `${localDate(date)}T${twoDigits(date.getHours())}:${twoDigits(date.getMinutes())}`;
}

/** The moment a stamp names, read in the local time zone (of two moments in the autumn hour: the first). */
export function dateOfStamp(stamp: Stamp): Date {
  const [year, month, day, hour, minute] = stamp.split(/\D/).map(Number);
  return new Date(year ?? 0, (month ?? 1) - 1, day ?? 1, hour ?? 0, minute ?? 0);
}
