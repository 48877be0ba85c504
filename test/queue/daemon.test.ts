import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Job } from '../../src/model/job.ts';
import { isAlive } from '../../src/queue/process-identity.ts';
import { Queue } from '../../src/queue/queue.ts';
import { submitterOf } from '../../src/queue/submitter.ts';
import type { TestVm } from '../support/disk-images.ts';
import { fileDigest, HOOK_TIMEOUT_MS, linesOf, MIB, only, Tale } from '../tales/tale.ts';

/** Far more than anything here takes on a slow and shared machine. */
const LIMIT_MS = 90_000;
const LOOK_EVERY_MS = 30;
/** Slow enough for a restore of the disk to be met in its midst. */
const SLOW_BYTES_PER_SECOND = 900_000;

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
  await phd('daemon', 'stop', '--now');
  for (const { id } of queue.db.jobs({ states: ['running'] })) await queue.kill(id, 0);
  await phd('locks', 'clear');
  queue.removePending();
  queue.purge();
  tale.configure({});
});

afterAll(() => {
  queue.close();
  tale.remove();
});

const phd = (...words: string[]) => tale.phd(words);

async function ok(...words: string[]): Promise<string> {
  const run = await phd(...words);
  if (run.status !== 0) throw new Error(`phd ${words.join(' ')} ended with ${run.status}: ${run.stderr}`);
  return run.stdout;
}

async function until<T>(what: string, look: () => T | undefined | false): Promise<T> {
  const startedMs = performance.now();
  for (;;) {
    const found = look();
    if (found) return found;
    if (performance.now() - startedMs > LIMIT_MS)
      throw new Error(`waited in vain: ${what}; ${JSON.stringify(queue.db.jobs())}`);
    await delay(LOOK_EVERY_MS);
  }
}

const untilState = (id: number, state: Job['state']): Promise<Job> =>
  until(`job ${id} ${state}`, () => {
    const job = queue.job(id);
    return job.state === state && job;
  });

function slowTarget(more = ''): void {
  tale.home.writeConfig(
    `targets: [{ number: 1, name: one, transport: vmfs, path: one, bandwidthLimitBytesPerSecond: ${SLOW_BYTES_PER_SECOND} }]\n${more}`,
  );
}

/** Queues a restore of the disk; its job and where it goes. */
async function queueRestore(folder: string = tale.newFolder()): Promise<{ id: number; flat: string }> {
  const run = await phd('restore', archive, '--to', folder, '--background', '--json');
  expect(run.status).toBe(0);
  return { id: Number(only(linesOf(run, 'queued')).job), flat: path.join(folder, 'CRM-flat.vmdk') };
}

/** Waits until the restore writes its disk. */
const untilWriting = ({ id, flat }: { id: number; flat: string }): Promise<Job> =>
  until(`job ${id} writing`, () => {
    const job = queue.job(id);
    return existsSync(`${flat}.part`) && job.state === 'running' && job;
  });

const original = (): string => fileDigest(vm.disks[0]?.flatPath as string);

describe('the daemon', () => {
  it('is there when start returns, is one for the home, tells its state, and stops', async () => {
    expect((await phd('daemon', 'status')).status).toBe(1);
    await ok('daemon', 'start');
    expect(queue.isDaemonRunning()).toBe(true);
    const pid = queue.db.daemon()?.process.pid;
    expect(await ok('daemon', 'start')).toBe(`daemon runs already, process ${pid}\n`);
    expect(JSON.parse(await ok('daemon', 'status', '--json'))).toMatchObject({ running: true, pid });
    const second = await phd('daemon', 'run');
    expect(second.status).toBe(5);
    expect(second.stderr).toContain(`process ${pid}`);
    expect(await ok('daemon', 'stop')).toBe('daemon stopped\n');
    expect(queue.isDaemonRunning()).toBe(false);
    expect(await ok('daemon', 'stop')).toBe('no daemon runs\n');
  });

  it('prints a unit for systemd with the paths of this installation', async () => {
    const unit = await ok('daemon', 'unit');
    expect(unit).toMatch(/^ExecStart="\/.*node" "\/.*\/dist\/src\/main\.js" daemon run$/m);
    expect(unit).toContain(`Environment="PHD_HOME=${tale.path()}"\n`);
    for (const line of ['Type=simple', 'UMask=0077', 'KillMode=process']) expect(unit).toContain(`${line}\n`);
  });
});

describe('a restore in the background', () => {
  it('is queued at once, says when no daemon runs, and ends byte-equal with a log', async () => {
    const folder = tale.newFolder();
    const queued = await phd('restore', archive, '--to', folder, '--vmx', '--background');
    expect(queued.status).toBe(0);
    expect(queued.stdout).toMatch(/^job \d+ queued: restore 1:/);
    expect(queued.stderr).toContain('no daemon runs');
    const id = Number(/\d+/.exec(queued.stdout)?.[0]);
    await ok('daemon', 'start');
    const job = await untilState(id, 'done');
    expect(fileDigest(path.join(folder, 'CRM-flat.vmdk'))).toBe(original());
    expect(existsSync(path.join(folder, 'CRM.vmdk'))).toBe(true);
    expect(existsSync(path.join(folder, 'CRM.vmx'))).toBe(true);
    expect(JSON.parse(job.result ?? '')).toMatchObject({ diskBytes: 12 * MIB, unproved: false });
    expect(statSync(queue.logFileOf(id)).mode & 0o777).toBe(0o600);
    const log = await ok('jobs', 'log', String(id));
    expect(log).toContain(`job ${id}, attempt 1: restore ${archive}`);
    expect(log).toMatch(/Z done\n$/);
    expect(await ok('log')).toContain(`job ${id}, attempt 1: restore ${archive} to ${folder}: done\n`);
    expect(JSON.parse(await ok('jobs', 'show', String(id), '--json'))).toMatchObject({
      job: id,
      state: 'done',
      percent: 100,
      exitStatus: 0,
      attempts: [{ attempt: 1, state: 'done' }],
    });
  });

  it('takes an archive by its path as well, wherever the daemon runs', async () => {
    const file = tale.file(archive);
    const folder = tale.newFolder();
    await tale.phd(['restore', path.basename(file), '--to', folder, '--background'], {
      cwd: path.dirname(file),
    });
    const missing = await phd('restore', 'no-such-file.phd', '--to', folder, '--background');
    expect(missing.status).not.toBe(0);
    const [job] = queue.db.jobs();
    expect(queue.db.jobs()).toHaveLength(1);
    await ok('daemon', 'start');
    await untilState((job as Job).id, 'done');
    expect(fileDigest(path.join(folder, 'CRM-flat.vmdk'))).toBe(original());
  });

  it('of a whole VM is one job for each disk, and one of them is retried alone', async () => {
    const disks = ['a.vmdk', 'b.vmdk'].map((name) => ({ name, sizeBytes: MIB }));
    const mail = await tale.makeVm('MAIL', disks);
    await tale.backup(mail.folder);
    const folder = tale.newFolder();
    const run = await phd('restore', '--vm', 'MAIL', '--to', folder, '--background', '--json');
    const queued = linesOf(run, 'queued');
    const [one, two] = queued.map(({ job }) => Number(job)) as [number, number];
    expect(queued.map(({ group }) => group)).toEqual([one, one]);
    await ok('jobs', 'kill', String(two));
    await ok('daemon', 'start');
    await untilState(one, 'done');
    expect(queue.job(two)).toMatchObject({ state: 'cancelled', attempt: 0 });
    await ok('jobs', 'retry', String(two));
    await untilState(two, 'done');
    expect(queue.db.attempts(one)).toHaveLength(1);
    for (const { flatPath } of mail.disks)
      expect(fileDigest(path.join(folder, path.basename(flatPath)))).toBe(fileDigest(flatPath));
  });

  it('whose process is killed is interrupted, leaves nothing under the final name, and a retry ends it', async () => {
    slowTarget();
    await ok('daemon', 'start');
    const restore = await queueRestore();
    const { owner } = await untilWriting(restore);
    process.kill(owner?.pid as number, 'SIGKILL');
    await untilState(restore.id, 'interrupted');
    expect(existsSync(restore.flat)).toBe(false);
    tale.configure({});
    expect(await ok('jobs', 'retry', String(restore.id))).toBe(`job ${restore.id} waits for attempt 2\n`);
    await untilState(restore.id, 'done');
    expect(fileDigest(restore.flat)).toBe(original());
    expect(queue.db.attempts(restore.id).map(({ state }) => state)).toEqual(['interrupted', 'done']);
  });

  it('goes on when the terminal it came from closes and the daemon is killed; a new daemon looks after it', async () => {
    slowTarget();
    const folder = tale.newFolder();
    const quoted = ['restore', archive, '--to', folder, '--background'].map((word) => `'${word}'`).join(' ');
    const phdWords = `'${process.execPath}' '${path.resolve('dist/src/main.js')}'`;
    const terminal = spawn(
      'script',
      ['-qfc', `${phdWords} daemon start && ${phdWords} ${quoted}; exec sleep 1000`, '/dev/null'],
      { env: tale.home.env, stdio: ['pipe', 'ignore', 'ignore'] },
    );
    const job = await until('a job from the terminal', () => queue.db.jobs()[0]);
    expect(job.submitter.tty).toMatch(/^\/dev\/pts\/\d+$/);
    const flat = path.join(folder, 'CRM-flat.vmdk');
    const { owner } = await untilWriting({ id: job.id, flat });
    terminal.kill('SIGKILL');
    await once(terminal, 'exit');
    process.kill(queue.db.daemon()?.process.pid as number, 'SIGKILL');
    await until('the lock of the dead daemon free', () => !queue.isDaemonRunning());
    expect(owner !== null && isAlive(owner)).toBe(true);
    await ok('daemon', 'start');
    expect(queue.job(job.id)).toMatchObject({ state: 'running', attempt: 1, owner });
    await untilState(job.id, 'done');
    expect(fileDigest(flat)).toBe(original());
    expect(queue.db.attempts(job.id)).toHaveLength(1);
  });

  it('is cancelled by a kill, and its process is gone', async () => {
    slowTarget();
    await ok('daemon', 'start');
    const restore = await queueRestore();
    const { owner } = await untilWriting(restore);
    expect(await ok('jobs', 'kill', String(restore.id))).toBe(`job ${restore.id} is cancelled\n`);
    expect(owner !== null && isAlive(owner)).toBe(false);
    expect(existsSync(restore.flat)).toBe(false);
    expect((await phd('jobs', 'kill', String(restore.id))).status).toBe(2);
  });

  it('that fails keeps code and message, and its log says why', async () => {
    const missing = archive.replace(/[^/]+$/, (file) => file.replace('CRM', 'ERP'));
    await ok('restore', missing, '--to', tale.newFolder(), '--background');
    await ok('daemon', 'start');
    const [job] = queue.db.jobs();
    const failed = await untilState((job as Job).id, 'failed');
    expect(failed).toMatchObject({ errorCode: 'NOT_FOUND', exitStatus: 1, isSeen: false });
    expect(readFileSync(queue.logFileOf(failed.id), 'utf8')).toContain('failed: there is no archive');
    await ok('jobs', 'show', String(failed.id));
    expect(queue.job(failed.id).isSeen).toBe(true);
  });

  it('that cannot even begin fails instead of being tried for ever', async () => {
    const restore = await queueRestore();
    await ok('daemon', 'start');
    await untilState(restore.id, 'done');
    tale.home.writeConfig('targets: 7\n');
    queue.submit('verify', [{ archives: [archive] }], { user: 'u', host: 'h', tty: null, sshClient: null });
    const [job] = queue.db.jobs();
    const failed = await untilState((job as Job).id, 'failed');
    expect(failed.errorMessage).toContain('ended with status 2 before it began');
    expect(readFileSync(queue.logFileOf(failed.id), 'utf8')).toContain('phd.yaml');
    tale.configure({});
  });
});

describe('locks', () => {
  it('stop new restores, queued and in the foreground, but no backups, until they are cleared', async () => {
    await ok('locks', 'stop', '--restore');
    expect(await ok('locks', 'show')).toMatch(
      /^backups may start\nrestores are stopped by .+ on .+ since 20/,
    );
    const refused = await phd('restore', archive, '--to', tale.newFolder());
    expect(refused.status).toBe(5);
    expect(refused.stderr).toMatch(/restores are stopped by .+ since 20.+ phd locks clear --restore/);
    const restore = await queueRestore();
    await ok('backup', vm.folder, '--background');
    await ok('daemon', 'start');
    await until('the backup', () => queue.db.jobs({ kinds: ['backup'] })[0]?.exitStatus === 0);
    expect(queue.job(restore.id)).toMatchObject({ state: 'waiting', attempt: 0 });
    await ok('locks', 'clear', '--restore');
    await untilState(restore.id, 'done');
  });

  it('stop backups: one in the foreground ends with status 5', async () => {
    await ok('locks', 'stop', '--backup');
    expect((await phd('backup', vm.folder)).status).toBe(5);
    expect((await phd('restore', archive, '--to', tale.newFolder())).status).toBe(0);
  });
});

describe('a lock set in the midst of a backup', () => {
  it('lets the current disk finish and no other begin', async () => {
    slowTarget();
    const disks = ['a.vmdk', 'b.vmdk'].map((name) => ({ name, sizeBytes: 8 * MIB }));
    const { folder } = await tale.makeVm('ERP', disks);
    const backup = tale.phd(['backup', folder, '--json']);
    await until('the first disk on its way', () =>
      tale.filesOn('one').some((file) => file.includes('-a.vmdk.') && file.endsWith('.part')),
    );
    queue.db.setLock({ kind: 'backup', by: submitterOf({}), at: queue.now() });
    const ended = await backup;
    expect(ended.status).toBe(5);
    expect(linesOf(ended, 'done').map(({ disk }) => disk)).toEqual(['a.vmdk']);
    expect(linesOf(ended, 'error').map(({ disk, code }) => [disk, code])).toEqual([['b.vmdk', 'LOCKED']]);
  });
});

describe('phd daemon stop', () => {
  it('--now cancels what runs, as many at once as the setting says, never two on one disk', async () => {
    slowTarget('jobs: { atOnce: 2 }\n');
    // Queued before they can start, so that on a busy machine none is done before the last begins.
    const first = await queueRestore();
    const restores = [first, await queueRestore(path.dirname(first.flat)), await queueRestore()] as const;
    await ok('daemon', 'start');
    await Promise.all([restores[0], restores[2]].map(untilWriting));
    expect(restores.map(({ id }) => queue.job(id).state)).toEqual(['running', 'waiting', 'running']);
    expect(await ok('daemon', 'stop', '--now')).toBe('daemon stopped\n');
    const states = restores.map(({ id }) => queue.job(id).state);
    expect(states[1]).toBe('waiting');
    // On a busy machine one may have ended in the moment before it was told to.
    for (const state of [states[0], states[2]]) expect(['cancelled', 'done']).toContain(state);
    for (const at of [0, 2] as const) expect(existsSync(restores[at].flat)).toBe(states[at] === 'done');
  });

  it('lets what runs finish and starts nothing new', async () => {
    slowTarget();
    await ok('daemon', 'start');
    const running = await queueRestore();
    const waiting = await queueRestore();
    await untilWriting(running);
    expect(await ok('daemon', 'stop')).toContain('stops after 1 running job');
    await untilState(running.id, 'done');
    await until('the daemon gone', () => !queue.isDaemonRunning());
    expect(queue.job(waiting.id).state).toBe('waiting');
    expect(fileDigest(running.flat)).toBe(original());
  });
});
