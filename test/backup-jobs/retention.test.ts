/** What stays and what goes: no DELTA without its FULL, never the last good copy, nothing that is held. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type KeepRules, type RetainedRun, retain } from '../../src/backup-jobs/retention.ts';
import type { Stamp } from '../../src/model/archive.ts';

const NOTHING: KeepRules = { last: 0, daily: 0, weekly: 0, monthly: 0 };

function run(stamp: string, full: string, more: Partial<RetainedRun> = {}): RetainedRun {
  const needs = [full as Stamp];
  return {
    stamp: stamp as Stamp,
    vm: 'web',
    folder: stamp,
    needs,
    isComplete: true,
    isDamaged: false,
    isHeld: false,
    isRead: false,
    isForeign: false,
    isArriving: false,
    ...more,
  };
}

const kept = (runs: readonly RetainedRun[], rules: Partial<KeepRules>): string[] =>
  retain(runs, { ...NOTHING, ...rules })
    .filter(({ keep }) => keep)
    .map(({ run: one }) => one.stamp);

/** A FULL each Sunday of November 2026, a DELTA on each other day. */
const NOVEMBER = Array.from({ length: 30 }, (_, at) => {
  const day = String(at + 1).padStart(2, '0');
  const sunday = String(at + 1 - (at % 7)).padStart(2, '0');
  return run(`2026-11-${day}T22:00`, `2026-11-${sunday}T22:00`);
});

describe('Retention', () => {
  it('keeps the last ones, and the FULLs they need', () => {
    expect(kept(NOVEMBER, { last: 2 })).toEqual(['2026-11-30T22:00', '2026-11-29T22:00']);
    expect(kept(NOVEMBER.slice(0, 12), { last: 2 })).toEqual([
      '2026-11-12T22:00',
      '2026-11-11T22:00',
      '2026-11-08T22:00',
    ]);
  });

  it('keeps the newest of each day, week and month; the reason is told', () => {
    const twice = [
      ...NOVEMBER,
      run('2026-11-30T23:00', '2026-11-29T22:00'),
      run('2026-10-31T22:00', '2026-10-31T22:00'),
    ];
    const lines = retain(twice, { ...NOTHING, daily: 2, weekly: 2, monthly: 2 });
    const reasons = lines.filter(({ keep }) => keep).map(({ run: one, reason }) => `${one.stamp} ${reason}`);
    expect(reasons).toEqual([
      '2026-11-30T23:00 the newest of day 2026-11-30',
      '2026-11-29T22:00 the newest of day 2026-11-29',
      '2026-10-31T22:00 the newest of month 2026-10',
    ]);
    expect(lines.find(({ run: one }) => one.stamp === '2026-11-28T22:00')).toMatchObject({
      keep: false,
      reason: 'no rule keeps it',
    });
  });

  it('never takes the newest complete run, nor the newest one that is not damaged, whatever the rules', () => {
    const runs = [
      run('2026-11-01T22:00', '2026-11-01T22:00'),
      run('2026-11-02T22:00', '2026-11-01T22:00'),
      run('2026-11-03T22:00', '2026-11-01T22:00', { isDamaged: true }),
    ];
    expect(kept(runs, {})).toEqual(['2026-11-03T22:00', '2026-11-02T22:00', '2026-11-01T22:00']);
  });

  it('counts a VM that was renamed as one, and keeps the last good run of each name', () => {
    const runs = [1, 2, 3, 4, 5, 6].map((day) =>
      run(`2026-11-0${day}T22:00`, `2026-11-0${day}T22:00`, { vm: day < 4 ? 'old' : 'new' }),
    );
    expect(
      retain(runs, { ...NOTHING, last: 2 })
        .filter(({ keep }) => keep)
        .map(({ reason }) => reason),
    ).toEqual(['one of the last 2 (1)', 'one of the last 2 (2)', 'the newest good run of old']);
  });

  it('counts copies, whose runs lie among each other, by themselves', () => {
    const runs = [1, 2, 3, 4, 5, 6].map((day) =>
      run(`2026-11-0${day}T22:00`, `2026-11-0${day}T22:00`, { vm: day % 2 === 0 ? 'web' : 'web copy' }),
    );
    expect(kept(runs, { last: 2 }).map((stamp) => stamp.slice(8, 10))).toEqual(['06', '05', '04', '03']);
  });

  it('leaves alone what may be under way, and takes what lacks disks once a newer run is complete', () => {
    const runs = [
      run('2026-11-01T22:00', '2026-11-01T22:00'),
      run('2026-11-02T22:00', '2026-11-02T22:00', { isComplete: false }),
      run('2026-11-03T22:00', '2026-11-01T22:00'),
      run('2026-11-04T22:00', '2026-11-01T22:00', { isComplete: false }),
    ];
    expect(kept(runs, { last: 1 })).toEqual(['2026-11-04T22:00', '2026-11-03T22:00', '2026-11-01T22:00']);
    expect(
      kept(
        runs.filter(({ isComplete }) => !isComplete),
        { last: 1 },
      ),
    ).toHaveLength(2);
  });

  it('holds for any history and any rules', () => {
    const history = fc
      .array(
        fc.record({
          gap: fc.integer({ min: 1, max: 5000 }),
          full: fc.boolean(),
          isComplete: fc.boolean(),
          isDamaged: fc.boolean(),
          isHeld: fc.boolean(),
        }),
        { minLength: 1, maxLength: 40 },
      )
      .map((steps) => {
        const runs: RetainedRun[] = [];
        let minutes = 0;
        let full = '';
        for (const { gap, full: isFull, ...more } of steps) {
          minutes += gap;
          const stamp = new Date(Date.UTC(2026, 0, 1) + minutes * 60_000).toISOString().slice(0, 16);
          if (isFull || full === '') full = stamp;
          runs.push(run(stamp, full, more));
        }
        return runs;
      });
    const few = fc.integer({ min: 0, max: 4 });
    const rules = fc.record({ last: few, daily: few, weekly: few, monthly: few });
    fc.assert(
      fc.property(history, rules, (runs, chosen) => {
        const stamps = new Set(kept(runs, chosen));
        const complete = runs.filter(({ isComplete }) => isComplete);
        for (const one of runs) {
          if (one.isHeld) expect(stamps).toContain(one.stamp);
          if (stamps.has(one.stamp)) for (const stamp of one.needs) expect(stamps).toContain(stamp);
        }
        const newest = complete.at(-1);
        if (newest) expect(stamps).toContain(newest.stamp);
        const good = complete.filter(({ isDamaged }) => !isDamaged).at(-1);
        if (good) expect(stamps).toContain(good.stamp);
        for (const one of complete.slice(-chosen.last || runs.length))
          if (chosen.last > 0) expect(stamps).toContain(one.stamp);
        // What is removed leaves room for the same rules to keep the same: doing it again takes nothing.
        const left = runs.filter(({ stamp }) => stamps.has(stamp));
        expect(new Set(kept(left, chosen))).toEqual(stamps);
      }),
    );
  });
});
