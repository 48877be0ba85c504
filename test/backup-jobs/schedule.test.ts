/** When jobs run, in local time, over the hours that come twice or not at all. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseSchedule } from '../../src/backup-jobs/schedule.ts';

const zone = process.env.TZ;
beforeAll(() => {
  process.env.TZ = 'Europe/Berlin';
});
afterAll(() => {
  if (zone === undefined) delete process.env.TZ;
  else process.env.TZ = zone;
});

const local = (date: Date | null): string => date?.toLocaleString('sv-SE').slice(0, 16) ?? 'never';
const nextOf = (text: string, after: string, count = 3): string[] => {
  const schedule = parseSchedule(text);
  const found: string[] = [];
  for (let at: Date | null = new Date(after); found.length < count && at; ) {
    at = schedule.next(at);
    found.push(local(at));
  }
  return found;
};

describe('A schedule', () => {
  it.each([
    ['sat 22:00', ['2026-11-28 22:00', '2026-12-05 22:00', '2026-12-12 22:00']],
    ['mon-fri 1:30', ['2026-11-27 01:30', '2026-11-30 01:30', '2026-12-01 01:30']],
    ['fri-mon,wed 22:00', ['2026-11-27 22:00', '2026-11-28 22:00', '2026-11-29 22:00']],
    ['Daily 00:00', ['2026-11-27 00:00', '2026-11-28 00:00', '2026-11-29 00:00']],
    ['15 3 1 * *', ['2026-12-01 03:15', '2027-01-01 03:15', '2027-02-01 03:15']],
    ['*/20 * * * *', ['2026-11-26 12:20', '2026-11-26 12:40', '2026-11-26 13:00']],
  ])('%s comes at %j', (text, times) => {
    expect(nextOf(text, '2026-11-26T12:00:00')).toEqual(times);
  });

  it.each([
    ['0 0 30 2 *', /never comes/],
    ['sat 25:00', /is no schedule/],
    ['saturday 22:00', /expected one like/],
    ['every night', /expected one like/],
    ['99 * * * *', /is no schedule/],
    ['', /is no schedule/],
  ])('%j is refused', (text, why) => {
    expect(() => parseSchedule(text)).toThrow(why);
  });

  it('comes once in the night of each change of the clock', () => {
    expect(nextOf('daily 02:30', '2026-10-24T12:00:00', 2)).toEqual(['2026-10-25 02:30', '2026-10-26 02:30']);
    const spring = nextOf('daily 02:30', '2026-03-28T12:00:00', 2);
    expect(spring[0]?.slice(0, 10)).toBe('2026-03-29');
    expect(spring[1]).toBe('2026-03-30 02:30');
  });
});
