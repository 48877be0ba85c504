import { describe, expect, it } from 'vitest';
import { readShownTime } from '../../src/engine/shown-time.ts';

const HOUR_MS = 3_600_000;
const NOW = Date.UTC(2026, 10, 20, 13, 0);
const time = (text: string, nowMs = NOW): string | undefined => {
  const read = readShownTime(text, nowMs);
  return read === null ? undefined : new Date(read.ms).toISOString().slice(0, 16);
};

describe('a time that a server shows without zone', () => {
  it('is of the last twelve months where it has minutes, and of a day where it has a year', () => {
    expect(time('Nov 20 12:59')).toBe('2026-11-20T12:59');
    expect(time('Nov 21 02:00')).toBe('2026-11-21T02:00');
    expect(time('Nov 21 09:00')).toBe('2025-11-21T09:00');
    expect(time('Dec 31 23:59')).toBe('2025-12-31T23:59');
    expect(time('Jan  1 00:00', Date.UTC(2026, 11, 31, 23, 0))).toBe('2027-01-01T00:00');
    expect(time('Jun  1  2025')).toBe('2025-06-01T00:00');
    expect(time('06-01-25 03:20PM')).toBe('2025-06-01T15:20');
    expect(time('06-01-2025 12:20AM')).toBe('2025-06-01T00:20');
    expect(time('06-01-25 15:20')).toBe('2025-06-01T15:20');
  });

  it('is nothing where it cannot be read', () => {
    for (const text of [
      '',
      'Foo 20 12:59',
      'Feb 30  2025',
      '13-01-25 03:20PM',
      'Nov 20 25:00',
      '20. Nov 12:59',
    ])
      expect(time(text), text).toBeUndefined();
  });

  it('may be off by the zone, and by a day where it shows none of its hours', () => {
    expect(readShownTime('Nov 20 12:59', NOW)?.offByMs).toBe(15 * HOUR_MS);
    expect(readShownTime('Jun  1  2025', NOW)?.offByMs).toBe(39 * HOUR_MS);
  });
});
