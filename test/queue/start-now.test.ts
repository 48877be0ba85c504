/** Jobs that a person waits for: at once, one after the other, without a daemon and without the one who asked. */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Job } from '../../src/model/job.ts';
import { identityOf, isAlive } from '../../src/queue/process-identity.ts';
import { Queue } from '../../src/queue/queue.ts';
import { submitterOf } from '../../src/queue/submitter.ts';
import type { TestVm } from '../support/disk-images.ts';
import { fileDigest, HOOK_TIMEOUT_MS, MIB, only, Tale, until } from '../tales/tale.ts';

/** The built one: what it starts is the built program. */
const { startNow } = (await import(
  '../../dist/src/queue/start-now.js' as string
)) as typeof import('../../src/queue/start-now.ts');

let tale: Tale;
let vm: TestVm;
let archive: string;
let queue: Queue;

beforeAll(async () => {
  tale = new Tale();
  vm = await tale.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: 12 * MIB }]);
  ({ archive } = only((await tale.backup(vm.folder)).disks));
  queue = new Queue({ configDir: tale.path(), stateDir: tale.path('state'), logDir: tale.path('log') });
}, HOOK_TIMEOUT_MS);

afterEach(async () => {
  queue.removePending();
  for (const { id } of queue.db.jobs({ states: ['running'] })) await queue.kill(id, 0);
  for (const kind of ['restore', 'backup'] as const) queue.db.clearLock(kind);
  queue.purge();
  tale.configure({});
});

afterAll(() => {
  queue.close();
  tale.remove();
});

/** Slow enough for a restore to be met in its midst. */
function slowDown(): void {
  tale.home.writeConfig(
    'targets: [{ number: 1, name: one, transport: vmfs, path: one, bandwidthLimitBytesPerSecond: 900000 }]\n',
  );
}

function submit(...folders: string[]): number[] {
  const requests = folders.map((to) => ({ archive, to }));
  return queue.submit('restore', requests, submitterOf({})).map(({ id }) => id);
}

const states = (ids: readonly number[]): string[] => ids.map((id) => queue.job(id).state);

/** What its processes said; nothing before the first has begun. */
function logOf(id: number): string {
  const file = queue.logFileOf(id);
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}

/** Field 4 of /proc/PID/stat: the process that started this one. */
function parentOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
}

async function whenRunning(id: number): Promise<Job> {
  await until(() => queue.job(id).state === 'running');
  return queue.job(id);
}

describe('jobs that a person waits for', () => {
  it('start at once without a daemon, one after the other, in the order they were given', async () => {
    const folders = [tale.newFolder(), tale.newFolder(), tale.newFolder()];
    const ids = submit(...folders);
    await startNow(queue, ids, tale.home.env);
    let atOnce = 0;
    await until(() => {
      atOnce = Math.max(atOnce, queue.db.counts().running ?? 0);
      return states(ids).every((state) => state === 'done' || state === 'done with warnings');
    });
    expect(atOnce).toBe(1);
    expect(queue.isDaemonRunning()).toBe(false);
    const starts = ids.map((id) => queue.job(id).startedAt ?? '');
    expect([...starts].sort()).toEqual(starts);
    for (const folder of folders) {
      expect(fileDigest(path.join(folder, 'CRM-flat.vmdk'))).toBe(fileDigest(vm.disks[0]?.flatPath ?? ''));
    }
  });

  it('are left waiting by a lock that is set meanwhile; the one under way ends its disk', async () => {
    slowDown();
    const ids = submit(tale.newFolder(), tale.newFolder());
    await startNow(queue, ids, tale.home.env);
    await whenRunning(ids[0] as number);
    queue.db.setLock({ kind: 'restore', by: submitterOf({}), at: queue.now() });
    await until(() => queue.job(ids[0] as number).exitStatus === 0);
    const [, second] = ids as [number, number];
    await until(() => /is not started: restores are stopped by/.test(logOf(second)));
    expect(queue.job(second)).toMatchObject({ state: 'waiting', attempt: 0 });
  });

  it('never write the same disk at the same time, whoever started them', async () => {
    slowDown();
    const folder = tale.newFolder();
    const [first, second] = [submit(folder), submit(folder)] as [number[], number[]];
    await startNow(queue, first, tale.home.env);
    await whenRunning(first[0] as number);
    await startNow(queue, second, tale.home.env);
    let atOnce = 0;
    await until(() => {
      atOnce = Math.max(atOnce, queue.db.counts().running ?? 0);
      return states([...first, ...second]).every((state) => !['waiting', 'running'].includes(state));
    });
    expect(atOnce).toBe(1);
    expect(queue.job(first[0] as number).exitStatus).toBe(0);
  });

  it('go on when the runner between them is killed; the rest waits and can be started again', async () => {
    slowDown();
    const ids = submit(tale.newFolder(), tale.newFolder()) as [number, number];
    await startNow(queue, ids, tale.home.env);
    const { owner } = await whenRunning(ids[0]);
    const runner = parentOf(owner?.pid ?? 0);
    process.kill(runner, 'SIGKILL');
    await until(() => queue.job(ids[0]).exitStatus === 0);
    expect(queue.job(ids[1]).state).toBe('waiting');
    await startNow(queue, [ids[1]], tale.home.env);
    await until(() => queue.job(ids[1]).exitStatus === 0);
  });

  it('that cannot even begin have failed, and say where to look', async () => {
    tale.home.writeConfig('targets: [{ number: x }]\n');
    const ids = submit(tale.newFolder()) as [number];
    await startNow(queue, ids, tale.home.env);
    await until(() => queue.job(ids[0]).state === 'failed');
    expect(queue.job(ids[0]).errorMessage).toContain(queue.logFileOf(ids[0]));
  });

  it('that are killed are cancelled and leave no process behind', async () => {
    slowDown();
    const ids = submit(tale.newFolder(), tale.newFolder()) as [number, number];
    await startNow(queue, ids, tale.home.env);
    const { owner } = await whenRunning(ids[0]);
    const runner = parentOf(owner?.pid ?? 0);
    await queue.kill(ids[1]);
    await queue.kill(ids[0]);
    expect(states(ids)).toEqual(['cancelled', 'cancelled']);
    if (owner) expect(isAlive(owner)).toBe(false);
    await until(() => identityOf(runner) === undefined);
  });

  it('are started by phd jobs start too; one that does not wait is refused before any starts', async () => {
    const ids = submit(tale.newFolder(), tale.newFolder()) as [number, number];
    await queue.kill(ids[1]);
    const refused = await tale.phd(['jobs', 'start', ...ids.map(String)]);
    expect(refused).toMatchObject({ status: 2, stdout: '' });
    expect(refused.stderr).toContain(`job ${ids[1]} is cancelled: only one that waits can be started`);
    expect(queue.job(ids[0]).state).toBe('waiting');
    const run = await tale.phd(['jobs', 'start', String(ids[0])]);
    expect(run).toMatchObject({ status: 0 });
    await until(() => queue.job(ids[0]).exitStatus === 0);
  });

  it('whose log cannot be written are run all the same', async () => {
    const [id] = submit(tale.newFolder()) as [number];
    rmSync(queue.logFileOf(id), { force: true });
    mkdirSync(queue.logFileOf(id));
    try {
      await startNow(queue, [id], tale.home.env);
      await until(() => queue.job(id).exitStatus === 0);
    } finally {
      rmSync(queue.logFileOf(id), { recursive: true });
    }
    const log = await tale.phd(['jobs', 'log', String(id)]);
    expect([log.status, log.stdout]).toEqual([0, '']);
    expect(log.stderr).toContain(`there is no ${queue.logFileOf(id)}`);
  });
});
