/** What reaches work that is under way: changed settings, and the kill of a lock, in the background and the foreground. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Queue } from '../../src/queue/queue.ts';
import { HOOK_TIMEOUT_MS, linesOf, MIB, only, type Run, Tale, until } from '../tales/tale.ts';

let tale: Tale;
let archive: string;
let queue: Queue;

beforeAll(async () => {
  tale = new Tale();
  const vm = await tale.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: 12 * MIB }]);
  ({ archive } = only((await tale.backup(vm.folder)).disks));
  queue = new Queue({ configDir: tale.path(), stateDir: tale.path('state'), logDir: tale.path('log') });
}, HOOK_TIMEOUT_MS);

afterEach(async () => {
  await tale.phd(['daemon', 'stop', '--now']);
  for (const { id } of queue.db.jobs({ states: ['running'] })) await queue.kill(id, 0);
  queue.removePending();
  queue.purge();
  tale.configure({});
});

afterAll(() => {
  queue.close();
  tale.remove();
});

/** Slow enough for a restore to be met in its midst. */
function configure(more: string): void {
  tale.home.writeConfig(
    `targets: [{ number: 1, name: one, transport: vmfs, path: one, bandwidthLimitBytesPerSecond: 400000 }]\n${more}`,
  );
}

async function queueRestore(): Promise<number> {
  const run = await tale.phd(['restore', archive, '--to', tale.newFolder(), '--background', '--json']);
  return Number(only(linesOf(run, 'queued')).job);
}

const runningCount = (): number => queue.db.counts().running ?? 0;

/** Starts a restore in the foreground and waits until it writes its disk. */
async function startRestore(): Promise<{ end: Promise<Run>; flat: string }> {
  const folder = tale.newFolder();
  const flat = path.join(folder, 'CRM-flat.vmdk');
  const end = tale.phd(['restore', archive, '--to', folder]);
  await until(() => existsSync(`${flat}.part`));
  return { end, flat };
}

describe('the daemon takes a changed phd.yaml without a restart', () => {
  it('more jobs at once start at once; a broken file changes nothing and is told', async () => {
    configure('jobs: { atOnce: 1 }\n');
    expect((await tale.phd(['daemon', 'start'])).status).toBe(0);
    for (let n = 0; n < 3; n++) await queueRestore();
    await until(() => runningCount() === 1);
    configure('jobs: { atOnce: 5 }\n');
    const log = async (): Promise<string> => (await tale.phd(['log'])).stdout;
    await until(async () => /settings stay as they were: .*phd\.yaml:2: jobs\.atOnce/.test(await log()));
    expect(runningCount()).toBe(1);
    configure('jobs: { atOnce: 3 }\n');
    await until(() => runningCount() === 3);
    expect(await log()).toContain('phd.yaml was changed: 3 jobs at once');
  });
});

describe('phd locks kill', () => {
  it('ends a restore in the foreground, in order; one of another kind it leaves alone', async () => {
    configure('');
    const { end, flat } = await startRestore();
    const other = await tale.phd(['locks', 'kill', '--backup']);
    expect(other.stdout).toBe('nothing of the kind runs\n');
    expect(existsSync(`${flat}.part`)).toBe(true);
    const kill = await tale.phd(['locks', 'kill', '--restore']);
    expect(kill.status).toBe(0);
    expect(kill.stdout).toMatch(/^the restore of process \d+ is ended\n$/);
    const ended = await end;
    expect(ended.status).toBe(130);
    expect(ended.stderr).toMatch(/phd: cancelled(: the same command goes on where it was)?\n$/);
    expect(existsSync(flat)).toBe(false);
  });

  it('ends what runs in the background and in the foreground alike', async () => {
    configure('');
    const id = await queueRestore();
    await tale.phd(['daemon', 'start']);
    await until(() => queue.job(id).state === 'running');
    const { end } = await startRestore();
    const kill = await tale.phd(['locks', 'kill']);
    expect(kill.stdout).toContain(`job ${id} is cancelled\n`);
    expect(kill.stdout).toMatch(/the restore of process \d+ is ended\n/);
    expect((await end).status).toBe(130);
  });

  it('never hits a process that was given the number of one that is gone', async () => {
    const notes = path.join(tale.path('state'), 'foreground');
    expect(readdirSync(notes)).toEqual([]);
    const stranger = { pid: process.pid, startTicks: '1', bootId: 'another boot' };
    writeFileSync(
      path.join(notes, `${process.pid}.json`),
      JSON.stringify({ kind: 'restore', process: stranger }),
    );
    writeFileSync(path.join(notes, '7.json'), '{"kind":');
    const kill = await tale.phd(['locks', 'kill']);
    expect(kill).toMatchObject({ status: 0, stdout: 'nothing of the kind runs\n' });
    expect(readdirSync(notes)).toEqual([]);
  });
});
