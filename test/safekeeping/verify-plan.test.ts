/** The verify plan: what is due, in which order, what it stands back for, and what it says of a damaged archive. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type * as Engine from '../../src/engine/index.ts';
import type * as QueueModule from '../../src/queue/queue.ts';
import type * as Plan from '../../src/safekeeping/verify-plan.ts';
import type * as PlanState from '../../src/safekeeping/verify-plan-state.ts';
import { HOOK_TIMEOUT_MS, linesOf, MIB, only, Tale, until } from '../tales/tale.ts';

const BUILT = new URL('../../dist/src/', import.meta.url).href;
const engine = (await import(`${BUILT}engine/index.js`)) as typeof Engine;
const { Queue } = (await import(`${BUILT}queue/queue.js`)) as typeof QueueModule;
const { isPlanDue, isWithin, runVerifyPlan } = (await import(
  `${BUILT}safekeeping/verify-plan.js`
)) as typeof Plan;
const { readPlanState } = (await import(`${BUILT}safekeeping/verify-plan-state.js`)) as typeof PlanState;

const DAY_MS = 86_400_000;
const SUBMITTER = { user: 'root', terminal: null, host: 'here' } as never;
let tale: Tale;
let now = new Date();
let archives: string[];

const at = (hours: number, minutes: number): Date => new Date(2026, 10, 26, hours, minutes);

/** Works as the daemon's process does, with a clock that the test moves. */
async function inPlan<T>(
  work: (context: Engine.EngineContext, queue: QueueModule.Queue) => Promise<T>,
): Promise<T> {
  const clock = { now: () => now };
  const context = await engine.openContext({ env: tale.home.env, clock });
  const queue = new Queue(context.places, clock);
  try {
    return await work(context, queue);
  } finally {
    queue.close();
    await context.close();
  }
}

async function runPlan(): Promise<{ good: string[]; end: Plan.PlanEnd }> {
  const good: string[] = [];
  const end = await inPlan((context, queue) =>
    runVerifyPlan(context, queue, SUBMITTER, { onGood: (archive) => good.push(archive) }),
  );
  return { good, end };
}

const isDue = (): Promise<boolean> => inPlan((context, queue) => isPlanDue(queue, context.config, now));

beforeAll(async () => {
  tale = new Tale({ config: 'verifyPlan: { enabled: true }\n' });
  archives = [];
  for (const name of ['CRM', 'mail']) {
    const vm = await tale.makeVm(name, [{ name: `${name}.vmdk`, sizeBytes: 2 * MIB }]);
    const { archive, full } = only((await tale.backup(vm.folder)).disks) as never as Record<string, string>;
    archives.push(archive as string, full as string);
  }
}, HOOK_TIMEOUT_MS);
afterEach(() => {
  tale.configure({ config: 'verifyPlan: { enabled: true }\n' });
});
afterAll(() => tale.remove());

describe('The window of the plan', () => {
  it('may go over midnight; the first minute counts, the last does not', () => {
    const night = { fromMinute: 22 * 60, toMinute: 6 * 60 };
    const lunch = { fromMinute: 12 * 60, toMinute: 13 * 60 + 30 };
    expect(isWithin(null, at(3, 0))).toBe(true);
    const hits = [at(21, 59), at(22, 0), at(0, 0), at(5, 59), at(6, 0)].map((one) => isWithin(night, one));
    expect(hits).toEqual([false, true, true, true, false]);
    expect([at(11, 59), at(12, 0), at(13, 29), at(13, 30)].map((one) => isWithin(lunch, one))).toEqual([
      false,
      true,
      true,
      false,
    ]);
  });

  it.each(['25:00-06:00', '22:00', '22:00-22:00', '22-6'])(
    '%s is refused with line and key',
    async (window) => {
      tale.configure({ config: `verifyPlan: { window: "${window}" }\n` });
      const run = await tale.phd(['config', 'check']);
      expect(run.status).toBe(2);
      expect(run.stdout + run.stderr).toMatch(/phd\.yaml:4.*verifyPlan\.window/);
    },
  );
});

describe('The verify plan', () => {
  it('names what is due before anything is done', async () => {
    const rows = linesOf(await tale.phd(['verify', '--plan', '--dry-run', '--json']), 'due');
    expect(rows.map(({ archive }) => archive).sort()).toEqual([...archives].sort());
    expect(rows.every(({ verifiedAt }) => verifiedAt === null)).toBe(true);
    const { stdout } = await tale.phd(['verify', '--plan', '--dry-run']);
    expect(stdout).toContain('4 archives not verified within 30 days');
  });

  it('verifies all that is due, then nothing for as many days as the setting says; lists show the date', async () => {
    now = new Date();
    expect(await isDue()).toBe(true);
    const first = await runPlan();
    expect(first.good.sort()).toEqual([...archives].sort());
    expect(first.end).toMatchObject({ goodCount: 4, failures: [], leftCount: 0, why: null });
    const rows = linesOf(await tale.phd(['list', '--json']));
    expect(rows.map(({ verifyResult }) => verifyResult)).toEqual(['good', 'good', 'good', 'good']);
    for (const [age, count] of [
      ['2020-01-01', 0],
      ['2999-12-31T23:59', 4],
    ] as const) {
      const run = await tale.phd(['verify', '--target', '1', '--older-than', age, '--json']);
      expect(linesOf(run, 'done')).toHaveLength(count);
    }
    const wrong = await tale.phd(['verify', '--target', '1', '--older-than', '2020-13-01']);
    expect(wrong.status).toBe(2);
    now = new Date();
    expect(await isDue()).toBe(false);
    now = new Date(now.getTime() + 29 * DAY_MS);
    expect(await isDue()).toBe(true);
    expect((await runPlan()).good).toEqual([]);
    now = new Date(now.getTime() + 2 * DAY_MS);
    expect((await runPlan()).good).toHaveLength(4);
  });

  it('takes what was verified longest ago first', async () => {
    now = new Date(now.getTime() + 31 * DAY_MS);
    const last = archives[3] as string;
    await inPlan(async (context) => engine.verifyArchive(context, await engine.archiveRef(context, last)));
    now = new Date(now.getTime() + 31 * DAY_MS);
    const { good } = await runPlan();
    expect(good).toHaveLength(4);
    expect(good.at(-1)).toBe(last);
  });

  it('begins nothing outside its window, while a restore or a backup waits, or under a lock', async () => {
    now = new Date(now.getTime() + 31 * DAY_MS);
    now.setHours(12, 0);
    tale.configure({ config: 'verifyPlan: { enabled: true, window: "22:00-06:00" }\n' });
    expect(await isDue()).toBe(false);
    expect((await runPlan()).end).toMatchObject({
      goodCount: 0,
      leftCount: 4,
      why: 'the time window is over',
    });
    now.setHours(23, 30);
    expect(await isDue()).toBe(true);
    const [archive = ''] = archives;
    await tale.phd(['restore', archive, '--to', tale.newFolder(), '--background']);
    expect(await isDue()).toBe(false);
    expect((await runPlan()).end.why).toMatch(/^job \d+ \(restore\) is waiting$/);
    tale.configure({ config: 'verifyPlan: { enabled: true }\njobs: { restoreQueue: false }\n' });
    expect(await isDue()).toBe(true);
    await inPlan(async (_context, queue) => void queue.removePending());
    await tale.phd(['locks', 'stop', '--restore']);
    expect(await isDue()).toBe(false);
    await expect(runPlan()).rejects.toMatchObject({ code: 'LOCKED' });
    await tale.phd(['locks', 'clear', '--restore']);
    expect((await runPlan()).good).toHaveLength(4);
  });

  it('goes on past a damaged archive, which becomes a job', async () => {
    now = new Date(now.getTime() + 31 * DAY_MS);
    const [, full = ''] = archives;
    const file = tale.file(full);
    const before = readFileSync(file);
    const damaged = Buffer.from(before);
    damaged[Math.floor(damaged.length / 2)] = (damaged[Math.floor(damaged.length / 2)] ?? 0) ^ 0x10;
    writeFileSync(file, damaged);
    try {
      const { good, end } = await runPlan();
      // The DELTA needs its FULL, so both may be named.
      expect(end.failures.map(({ archive }) => archive)).toContain(full);
      expect(good.filter((one) => archives.slice(2).includes(one))).toHaveLength(2);
      const jobs = linesOf(await tale.phd(['jobs', 'list', '--json'])).filter(
        ({ kind }) => kind === 'verify',
      );
      expect(jobs.map(({ title }) => title)).toContain(full);
      const row = linesOf(await tale.phd(['list', '--json'])).find(
        ({ mode, vm }) => mode === 'full' && vm === 'CRM',
      );
      expect(row).toMatchObject({ verifyResult: 'damaged' });
      expect(readFileSync(tale.path('log', 'phd.log'), 'utf8')).toContain(`verify plan: ${full}`);
    } finally {
      writeFileSync(file, before);
      await inPlan(async (_context, queue) => void queue.removePending());
    }
  });

  it('goes on without a target that cannot be listed, and says so', async () => {
    now = new Date(now.getTime() + 31 * DAY_MS);
    tale.configure({ targets: ['one', 'two'], config: 'verifyPlan: { enabled: true }\n' });
    rmSync(tale.path('two'), { recursive: true });
    const warnings: string[] = [];
    const end = await inPlan((context, queue) =>
      runVerifyPlan(context, queue, SUBMITTER, { onWarning: (message) => warnings.push(message) }),
    );
    expect(end).toMatchObject({ goodCount: 4, failures: [], leftCount: 0 });
    expect(warnings.join()).toContain('target 2');
  });

  it('tries an archive that cannot be read again after a day, not at once', async () => {
    now = new Date(now.getTime() + 31 * DAY_MS);
    const [, full = ''] = archives;
    const end = await inPlan((context, queue) =>
      runVerifyPlan(context, queue, SUBMITTER, { onGood: () => rmSync(tale.file(full), { force: true }) }),
    );
    expect(end.failures.map(({ error }) => error.code)).toContain('NOT_FOUND');
    const { tried } = await inPlan((context) => readPlanState(context.places));
    expect(Object.keys(tried)).toEqual(end.failures.map(({ archive }) => archive));
    expect((await runPlan()).end).toMatchObject({ failures: [], leftCount: 0 });
  });

  it('is run by the daemon once it is enabled', async () => {
    tale.loseState();
    tale.configure({ config: 'verifyPlan: { enabled: true }\n' });
    await tale.phd(['daemon', 'start']);
    try {
      await until(async () =>
        linesOf(await tale.phd(['list', '--json'])).every(({ verifyResult }) => verifyResult === 'good'),
      );
    } finally {
      await tale.phd(['daemon', 'stop', '--now']);
    }
  });
});
