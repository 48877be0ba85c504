/**
 * Eight daemons for one home, one of which holds it; it is killed again and again, and all are started anew. Each job
 * is begun once, by whichever daemon. `PHD_CAMPAIGN=10` does it with 1,000 jobs.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Queue } from '../../src/queue/queue.ts';
import { submitterOf } from '../../src/queue/submitter.ts';
import { CAMPAIGN, PHD } from '../faults/farm.ts';
import { HOOK_TIMEOUT_MS, only, Tale, until } from '../tales/tale.ts';

const JOBS = CAMPAIGN >= 10 ? 1_000 : 6;
const KILLS = CAMPAIGN >= 10 ? 20 : 1;
const LIMIT_MS = 3_600_000;

let tale: Tale;
let queue: Queue;
let archive: string;
const daemons = new Set<ChildProcess>();
/** Exit statuses and signals. */
const ends: string[] = [];

beforeAll(async () => {
  tale = new Tale({ config: 'jobs: { atOnce: 4 }\n' });
  const vm = await tale.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: 262_144 }]);
  ({ archive } = only((await tale.backup(vm.folder)).disks));
  queue = new Queue({ configDir: tale.path(), stateDir: tale.path('state'), logDir: tale.path('log') });
}, HOOK_TIMEOUT_MS);

afterAll(async () => {
  for (const daemon of daemons) daemon.kill('SIGTERM');
  await Promise.all([...daemons].map((daemon) => once(daemon, 'exit')));
  queue.close();
  tale.remove();
});

/** A daemon in the foreground; those that find the home taken end at once. */
function startDaemon(): void {
  const daemon = spawn(process.execPath, [PHD, 'daemon', 'run'], { env: tale.home.env, stdio: 'ignore' });
  daemons.add(daemon);
  daemon.once('exit', (status, signal) => {
    daemons.delete(daemon);
    ends.push(signal ?? String(status));
  });
}

const countDone = (): number => queue.db.jobs({ states: ['done'] }).length;

it(
  'start each attempt of each job once, although the one that holds the home is killed',
  async () => {
    const requests = Array.from({ length: JOBS }, () => ({ archives: [archive] }));
    const ids = queue.submit('verify', requests, submitterOf({})).map(({ id }) => id);
    const held = new Set<number>();
    for (let round = 0; round <= KILLS; round++) {
      while (daemons.size < 8) startDaemon();
      const wanted = round === KILLS ? JOBS : Math.floor(((round + 1) * JOBS) / (KILLS + 2));
      await until(() => countDone() >= wanted && daemons.size === 1, LIMIT_MS);
      const [holder] = daemons;
      const pid = holder?.pid ?? 0;
      expect(queue.db.daemon()?.process.pid).toBe(pid);
      held.add(pid);
      if (round === KILLS) break;
      holder?.kill('SIGKILL');
      await until(() => daemons.size === 0);
    }
    expect(held.size).toBe(KILLS + 1);
    expect(ends.filter((end) => end === '5')).toHaveLength(7 * (KILLS + 1));
    expect(ends.filter((end) => end === 'SIGKILL')).toHaveLength(KILLS);
    expect(ends).toHaveLength(8 * (KILLS + 1) - 1);
    const jobs = queue.db.jobs();
    expect(jobs.map(({ id }) => id).sort((a, b) => a - b)).toEqual(ids);
    expect(new Set(jobs.map(({ state, attempt }) => `${state} ${attempt}`))).toEqual(new Set(['done 1']));
    expect(jobs.flatMap(({ id }) => queue.db.attempts(id))).toHaveLength(JOBS);
    // What the workers themselves wrote when they had claimed their job.
    const begun = ids.map(
      (id) => readFileSync(queue.logFileOf(id), 'utf8').match(/ job \d+, attempt \d+: /g)?.length,
    );
    expect(begun).toEqual(ids.map(() => 1));
  },
  LIMIT_MS,
);
