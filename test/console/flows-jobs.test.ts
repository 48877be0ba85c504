/** Jobs in the console: they run elsewhere, so neither console nor worker may die with one another's troubles. */
import { existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Job } from '../../src/model/job.ts';
import { isAlive } from '../../src/queue/process-identity.ts';
import { Queue } from '../../src/queue/queue.ts';
import { submitterOf } from '../../src/queue/submitter.ts';
import { type ConsolePty, closeAll, open } from '../support/console-pty.ts';
import type { TestVm } from '../support/disk-images.ts';
import { fileDigest, flipByte, fullBlock, HOOK_TIMEOUT_MS, MIB, only, Tale, until } from '../tales/tale.ts';

/** A restore of the disk takes some seconds. */
const SLOW_BYTES_PER_SECOND = 900_000;
/** The budget of a frame of progress on a slow line. */
const FRAME_BYTES = 60;

let tale: Tale;
let vm: TestVm;
let archive: string;
let fullFile: string;
let queue: Queue;

beforeAll(async () => {
  tale = new Tale({ targets: ['one', 'torn'] });
  vm = await tale.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: 12 * MIB }]);
  ({ archive } = only((await tale.backup(vm.folder)).disks));
  const torn = only((await tale.backup(vm.folder, ['--target', '2'])).disks);
  fullFile = tale.file(torn.full, 'torn');
  queue = new Queue({ configDir: tale.path(), stateDir: tale.path('state'), logDir: tale.path('log') });
}, HOOK_TIMEOUT_MS);

afterEach(async () => {
  await closeAll();
  queue.removePending();
  for (const { id } of queue.db.jobs({ states: ['running'] })) await queue.kill(id, 0);
  if (queue.isDaemonRunning()) await tale.phd(['daemon', 'stop', '--now']);
  for (const kind of ['restore', 'backup'] as const) queue.db.clearLock(kind);
  queue.purge();
  configure();
});

afterAll(() => {
  queue.close();
  tale.remove();
});

function configure(limit?: number): void {
  const more = limit === undefined ? '' : `, bandwidthLimitBytesPerSecond: ${limit}`;
  tale.home.writeConfig(
    `targets:\n  - { number: 1, name: one, transport: vmfs, path: one${more} }\ndatastores: [vmfs]\n`,
  );
}

function submit(...folders: string[]): number[] {
  const requests = folders.map((to) => ({ archive, to }));
  return queue.submit('restore', requests, submitterOf({})).map(({ id }) => id);
}

const isEqual = (folder: string): boolean =>
  fileDigest(path.join(folder, 'CRM-flat.vmdk')) === fileDigest(vm.disks[0]?.flatPath ?? '');

async function atMainMenu(args = ['--thin', '--slow'], env: NodeJS.ProcessEnv = {}): Promise<ConsolePty> {
  const console_ = open({ args, env: { ...tale.home.env, ...env } });
  await console_.waitFor('Main menu');
  await console_.waitFor(/Daemon: (not )?running/);
  return console_;
}

async function atBackground(): Promise<ConsolePty> {
  const console_ = await atMainMenu();
  console_.press('1');
  await console_.waitFor('Background status');
  return console_;
}

/** Starts the waiting job that the marker stands at, and shows its progress. */
async function startAndFollow(console_: ConsolePty, id: number): Promise<Job> {
  console_.press('s');
  await console_.waitFor(/running +\d+ %/);
  console_.press('enter');
  await console_.waitFor(`Job ${id}: restore`);
  console_.press('enter');
  await console_.waitFor(/Done +FULL +\d+ %/);
  return queue.job(id);
}

describe('a restore that is watched', () => {
  it('goes on when the console is killed, and another console shows it to its end', async () => {
    configure(SLOW_BYTES_PER_SECOND / 2);
    const folder = tale.newFolder();
    const [id] = submit(folder) as [number];
    const first = await atBackground();
    const { owner } = await startAndFollow(first, id);
    first.signal('SIGKILL');
    await first.exit();
    expect(queue.job(id)).toMatchObject({ state: 'running', owner });
    const second = await atMainMenu();
    await second.waitFor('Status: running 1');
    second.press('1');
    await second.waitFor(/> +1 +\d+ running +\d+ %/);
    second.press('enter');
    await second.waitFor(`Job ${id}: restore`);
    second.press('enter');
    await second.waitFor('RESTORED: ALL BLOCKS PROVED');
    for (const figure of ['Blocks total', 'processed', 'from FULL', 'from DELTA', 'zero', 'retried']) {
      expect(second.text).toMatch(new RegExp(`^${figure} +\\d+$`, 'm'));
    }
    expect(isEqual(folder)).toBe(true);
  });

  it('whose worker is killed is interrupted; R tries again and it ends byte-equal', async () => {
    configure(SLOW_BYTES_PER_SECOND);
    const folder = tale.newFolder();
    const [id] = submit(folder) as [number];
    const console_ = await atBackground();
    const { owner } = await startAndFollow(console_, id);
    process.kill(owner?.pid ?? 0, 'SIGKILL');
    await console_.waitFor('INTERRUPTED: NOT RESTORED');
    expect(console_.text).toContain('retry');
    expect(existsSync(path.join(folder, 'CRM-flat.vmdk'))).toBe(false);
    configure();
    console_.press('r');
    await console_.waitFor('RESTORED: ALL BLOCKS PROVED');
    expect(queue.db.attempts(id).map(({ state }) => state)).toEqual(['interrupted', 'done']);
    expect(isEqual(folder)).toBe(true);
  });

  it('asks at ^C: left alone it runs on, cancelled only by a clear yes', async () => {
    configure(SLOW_BYTES_PER_SECOND / 4);
    const [id] = submit(tale.newFolder()) as [number];
    const console_ = await atBackground();
    const { owner } = await startAndFollow(console_, id);
    console_.press('ctrl-c');
    await console_.waitFor('> L  Leave it running');
    console_.press('enter');
    await console_.waitFor('It goes on without this screen');
    expect(queue.job(id).state).toBe('running');
    console_.press('enter');
    await console_.waitFor(/Done +FULL/);
    console_.press('ctrl-c');
    await console_.waitFor('C  Cancel it');
    console_.press('c');
    await console_.waitFor('Cancel now?');
    console_.press('enter');
    await console_.waitFor(/Done +FULL/);
    expect(queue.job(id).state).toBe('running');
    console_.press('ctrl-c');
    await console_.waitFor('C  Cancel it');
    console_.press('c');
    await console_.waitFor('Cancel now?');
    console_.press('y');
    await console_.waitFor('CANCELLED: NOT RESTORED');
    expect(owner && isAlive(owner)).toBe(false);
  });

  it('is shown with the others that were queued with it; what nobody starts is started by S', async () => {
    configure(SLOW_BYTES_PER_SECOND);
    const folders = [tale.newFolder(), tale.newFolder()];
    submit(...folders);
    const console_ = await atBackground();
    console_.press('s');
    await console_.waitFor(/running +\d+ %/);
    console_.press('enter');
    await console_.waitFor('Enter progress');
    console_.press('enter');
    await console_.waitFor('Restore: 2 jobs');
    await console_.waitFor('1 of 2 jobs done');
    await console_.waitFor('waits: no daemon runs, S starts it now');
    console_.press('s');
    await console_.waitFor('2 of 2 jobs done');
    for (const folder of folders) expect(isEqual(folder)).toBe(true);
    console_.press('enter');
    await console_.waitFor('RESTORED: ALL BLOCKS PROVED');
  });

  it('costs few bytes a second on a slow line', async () => {
    configure(SLOW_BYTES_PER_SECOND / 2);
    const [id] = submit(tale.newFolder()) as [number];
    const console_ = await atBackground();
    await startAndFollow(console_, id);
    await console_.waitFor('remaining');
    console_.forgetBytes();
    await console_.waitFor('RESTORED: ALL BLOCKS PROVED');
    // Every frame ends by placing the cursor; the last one is that of the end.
    const frames = console_.bytes
      .toString('latin1')
      .split(/(?<=\x1b\[1;1H)/)
      .slice(0, -1)
      .map(({ length }) => length);
    expect(frames.length).toBeGreaterThan(0);
    const mean = frames.reduce((sum, one) => sum + one, 0) / frames.length;
    expect(mean, `frames of ${frames.join(', ')} bytes`).toBeLessThanOrEqual(FRAME_BYTES);
  });

  it('that cannot be had is salvaged only for the typed word, under a name that says so', async () => {
    tale.home.writeConfig(
      'targets:\n  - { number: 2, name: torn, transport: vmfs, path: torn }\ndatastores: [vmfs]\n',
    );
    // Away from the head of a stored piece, some bits of which stand for nothing (RFC 1951, 3.2.4).
    const damaged = fullBlock(fullFile).middle + 1_000;
    flipByte(fullFile, damaged);
    const folder = tale.newFolder();
    const request = { archive: `2:${path.relative(tale.path('torn'), fullFile)}`, to: folder };
    const [job] = queue.submit('restore', [request], submitterOf({}));
    const console_ = await atBackground();
    console_.press('s');
    await console_.waitFor(/> +\d+ +\d+ failed/);
    console_.press('enter');
    await console_.waitFor('FAILED: NOT RESTORED');
    expect(console_.text).toContain('DIGEST_MISMATCH');
    console_.press('enter');
    await console_.waitFor(`Job ${job?.id}: failed`);
    console_.press('s');
    await console_.waitFor('Type SALVAGE');
    console_.type('SALVAG');
    console_.press('enter');
    await console_.waitFor('that is not the word');
    console_.type('E');
    console_.press('enter');
    await console_.waitFor('.damaged');
    await until(() => existsSync(path.join(folder, 'CRM-flat.vmdk.damaged')));
    expect(existsSync(path.join(folder, 'CRM-flat.vmdk'))).toBe(false);
    flipByte(fullFile, damaged);
  });
});

describe('Background status', () => {
  it('shows every job, deletes and removes only after a yes, and what was seen is no news any more', async () => {
    const [failed] = queue.submit(
      'restore',
      [{ archive: '1:no/such.phd', to: tale.newFolder() }],
      submitterOf({}),
    );
    const console_ = await atBackground();
    console_.press('s');
    await console_.waitFor(/> +\d+ +\d+ failed/);
    submit(tale.newFolder(), tale.newFolder());
    await console_.waitFor(/ 1 +\d+ waiting.* 2 +\d+ waiting.*failed/s);
    await console_.waitFor('No daemon runs');
    console_.press('r');
    await console_.waitFor('2 jobs that wait. What runs goes on.');
    console_.press('enter');
    await console_.waitFor((screen) => !screen.some((row) => row.includes('Remove them?')));
    expect(queue.db.counts().waiting).toBe(2);
    console_.press('r');
    await console_.waitFor('Remove them?');
    console_.press('y');
    await console_.waitFor('2 jobs removed.');
    expect(queue.job(failed?.id ?? 0).isSeen).toBe(false);
    console_.press('q', 'enter');
    await console_.waitFor('Status: idle');
    expect(queue.job(failed?.id ?? 0).isSeen).toBe(true);
    console_.press('1');
    await console_.waitFor('failed');
    console_.press('d');
    await console_.waitFor('1 job that ended, with their logs.');
    console_.press('y');
    await console_.waitFor('no jobs');
    console_.press('up');
    await console_.waitFor('Enter choose');
    await console_.close({ comparing: true });
  });

  it('shows the log of a job as it grows, and lends the terminal to the pager', async () => {
    configure(SLOW_BYTES_PER_SECOND / 4);
    const [id] = submit(tale.newFolder()) as [number];
    const pager = tale.home.write('pager', '#!/bin/sh\necho "pager with $1 over $2"\nread key\n', 0o755);
    const console_ = await atMainMenu(['--thin'], { PAGER: `${pager} -R` });
    console_.press('1');
    await console_.waitFor('waiting');
    console_.press('s');
    await console_.waitFor(/running +\d+ %/);
    console_.press('enter');
    await console_.waitFor(`job ${id}, attempt 1: restore`);
    console_.press('l');
    await console_.waitFor(`Log of job ${id}`);
    await console_.waitFor('following');
    console_.press('escape');
    await console_.waitFor(`Job ${id}: restore`);
    console_.press('e');
    await console_.waitFor(`pager with -R over ${queue.logFileOf(id)}`.slice(0, 70));
    expect(console_.isAlternateScreen).toBe(false);
    console_.press('enter');
    await console_.waitFor(`Job ${id}: restore`);
    expect(console_.isAlternateScreen).toBe(true);
    console_.press('k');
    await console_.waitFor('Kill it?');
    console_.press('enter');
    await console_.waitFor((screen) => !screen.some((row) => row.includes('Kill it?')));
    expect(queue.job(id).state).toBe('running');
    console_.press('k');
    await console_.waitFor('Kill it?');
    console_.press('y');
    await console_.waitFor('CANCELLED: NOT RESTORED');
  });

  it('tells when jobs.db goes away, and goes on living', async () => {
    submit(tale.newFolder());
    const console_ = await atBackground();
    await console_.waitFor('waiting');
    const file = tale.path('state', 'jobs.db');
    renameSync(file, `${file}.away`);
    try {
      await console_.waitFor('jobs.db was removed or replaced');
      console_.press('enter');
      await console_.waitFor(/Job \d+: restore/);
      await console_.waitFor('jobs.db was removed or replaced');
      console_.press('escape');
      await console_.waitFor('Background status');
      console_.press('a');
      await console_.waitFor(/Status: \.\.\./);
      console_.press('?');
      await console_.waitFor('Down J');
      console_.press('escape');
      await console_.waitFor(
        (screen) =>
          screen.some((row) => row.includes('jobs.db was removed or replaced')) &&
          screen.some((row) => /Daemon: \.\.\./.test(row)),
      );
    } finally {
      renameSync(`${file}.away`, file);
    }
    await console_.waitFor((screen) => !screen.some((row) => row.includes('was removed or replaced')));
  });
});

describe('locks and the daemon', () => {
  it('a lock tells who set it, from where and since when; the jobs it holds say so and start when it is cleared', async () => {
    const console_ = await atMainMenu();
    console_.press('3');
    await console_.waitFor('No lock is set');
    console_.press('p');
    await console_.waitFor('For which jobs');
    console_.press('r');
    await console_.waitFor(/restores are stopped by \S+ on \S+ \(pts\/\d+\) since \d{4}-/);
    console_.press('escape');
    await console_.waitFor(/3 {2}Locks: restores are stopped by/);
    const folder = tale.newFolder();
    const [id] = submit(folder) as [number];
    console_.press('1');
    await console_.waitFor('waiting');
    console_.press('s');
    await console_.waitFor('That did not work');
    await console_.waitFor('Locks clears it.');
    console_.press('enter');
    console_.press('l');
    await console_.waitFor('C  Clear all locks');
    console_.press('c');
    await console_.waitFor('No lock is set');
    console_.press('escape');
    await console_.waitFor('Background status');
    console_.press('s');
    await until(() => queue.job(id).exitStatus === 0);
    expect(isEqual(folder)).toBe(true);
  });

  it('kill ends what runs after a yes and keeps the rest from starting', async () => {
    configure(SLOW_BYTES_PER_SECOND / 4);
    const ids = submit(tale.newFolder(), tale.newFolder()) as [number, number];
    const console_ = await atMainMenu();
    console_.press('2');
    await console_.waitFor('No daemon runs: queued jobs wait until it is started.');
    console_.press('s');
    await console_.waitFor(/The daemon runs since .*, process \d+/);
    await until(() => queue.job(ids[0]).progress !== null);
    console_.press('escape');
    await console_.waitFor('Daemon: running');
    await console_.waitFor('Status: running 1, waiting 1');
    console_.press('3');
    await console_.waitFor('K  Kill what runs');
    console_.press('k');
    await console_.waitFor('For which jobs');
    console_.press('o');
    await console_.waitFor(`job ${ids[0]}: restore`);
    console_.press('y');
    await until(() => queue.job(ids[0]).state === 'cancelled');
    await console_.waitFor('backups are stopped by');
    expect(queue.job(ids[1])).toMatchObject({ state: 'waiting', attempt: 0 });
    console_.press('escape');
    await console_.waitFor('Daemon: running');
    console_.press('2');
    await console_.waitFor('P  Stop after its jobs');
    console_.press('p');
    await console_.waitFor('No daemon runs');
    expect(queue.isDaemonRunning()).toBe(false);
  });
});

describe('backup and configuration', () => {
  it('a VM is found on the datastore, backed up and watched to its verdict', async () => {
    const console_ = await atMainMenu();
    console_.press('k');
    await console_.waitFor('V  Back up a VM');
    console_.press('v');
    await console_.waitFor('Back up which VM');
    await console_.waitFor(/> +1 CRM +/);
    console_.press('enter');
    await console_.waitFor('Backup: is all of this right?');
    expect(console_.text).toContain('CRM.vmdk, 12 MB');
    console_.press('m');
    await console_.waitFor('FULL of all disks');
    console_.press('r');
    await console_.waitFor('BACKED UP, READ BACK AND COMPARED');
    expect(queue.db.jobs({ kinds: ['backup'] })).toMatchObject([{ exitStatus: 0 }]);
  });

  it('passphrases are typed twice, kept in files of their own and never shown', async () => {
    configure();
    const console_ = await atMainMenu();
    console_.press('c');
    await console_.waitFor('E  Encryption');
    console_.press('e');
    await console_.waitFor('S  System passphrase: none');
    console_.press('s');
    await console_.waitFor('New system passphrase');
    console_.type('correct horse');
    console_.press('enter');
    await console_.waitFor('The same again');
    console_.type('correct horsf');
    console_.press('enter');
    await console_.waitFor('They differ: once more.');
    console_.press('enter');
    for (const question of ['New system passphrase', 'The same again']) {
      await console_.waitFor(question);
      console_.type('correct horse');
      console_.press('enter');
    }
    await console_.waitFor('-- Kept --');
    console_.press('enter');
    await console_.waitFor('S  System passphrase: set');
    expect(console_.bytes.includes('correct')).toBe(false);
    const file = tale.path('secrets', 'system');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(file, 'utf8')).toBe('correct horse\n');
    console_.press('t');
    await console_.waitFor('> ');
    console_.type('wrong');
    console_.press('enter');
    await console_.waitFor('neither the system nor the master passphrase');
  });

  it('a target is tested step by step; the look turns at once and is kept with the comments of the file', async () => {
    tale.home.writeConfig(
      '# mine\ntargets:\n  - { number: 1, name: one, transport: vmfs, path: one } # here\ndatastores: [vmfs]\n',
    );
    const console_ = await atMainMenu();
    console_.press('c');
    await console_.waitFor('T  Targets');
    console_.press('t');
    await console_.waitFor(/1 one +vmfs +.* [GT]B /);
    console_.press('t');
    await console_.waitFor('Target 1 works');
    expect(console_.text).toMatch(/ok +ranged read/);
    console_.press('enter');
    console_.press('escape');
    await console_.waitFor('L  Look of the console');
    console_.press('l');
    await console_.waitFor('C  Characters: UTF-8');
    console_.press('c');
    await console_.waitFor('C  Characters: ASCII only');
    console_.press('l');
    await console_.waitFor(/^-{80}$/m);
    await console_.close({ comparing: true });
    const file = readFileSync(tale.path('phd.yaml'), 'utf8');
    expect(file).toMatch(/^# mine\n.*# here\n.*console:/s);
    expect((await tale.phd(['config', 'get', 'console.charset'])).stdout).toContain('ascii');
    const again = await atMainMenu([]);
    await again.waitFor(/^-{80}$/m);
  });

  it('backup jobs are shown with their last run and next time, previewed, run, and told of', async () => {
    tale.home.writeConfig(
      'targets:\n  - { number: 1, name: one, transport: vmfs, path: one }\ndatastores: [vmfs]\nbackupJobs: [{ name: nightly, vms: [CRM], delta: daily 22:00 }]\n',
    );
    const console_ = await atMainMenu();
    console_.press('k');
    await console_.waitFor('J  Backup jobs');
    console_.press('p');
    await console_.waitFor('nightly: next DELTA');
    await console_.waitFor('CRM (');
    console_.press('escape');
    await console_.waitFor('S  Status');
    console_.press('j');
    await console_.waitFor(/> +1 nightly +never +DELTA \d{4}-\d\d-\d\d 22:00/);
    console_.press('enter');
    await console_.waitFor('D  Run now');
    console_.press('d');
    await console_.waitFor('Backup job nightly runs in the background');
    console_.press('enter');
    await until(() => existsSync(tale.path('state', 'backup-jobs', 'runs.jsonl')));
    console_.press('enter');
    await console_.waitFor('L  Last run');
    console_.press('l');
    await console_.waitFor('BACKED UP');
    console_.press('escape');
    await console_.waitFor('L  Last run');
    console_.press('escape');
    await console_.waitFor(/> +1 nightly/);
    console_.press('escape');
    await console_.waitFor('S  Status');
    // phd.yaml is changed by another while the console is open: taken away, put back, changed.
    const text = readFileSync(tale.path('phd.yaml'), 'utf8');
    rmSync(tale.path('phd.yaml'));
    console_.press('escape');
    await console_.waitFor(/Restore .*no target is set up/);
    tale.home.writeConfig(text);
    await console_.waitFor((screen) => !screen.some((row) => row.includes('no target is set up')));
    console_.press('k');
    await console_.waitFor('S  Status');
    writeFileSync(
      tale.path('phd.yaml'),
      readFileSync(tale.path('phd.yaml'), 'utf8').replace('22:00', '21:30'),
    );
    console_.press('j');
    await console_.waitFor(/> +1 nightly +.* DELTA \d{4}-\d\d-\d\d 21:30/);
    await console_.close({ comparing: true });
  });

  it('a host is added by questions; its password never stands in phd.yaml, and it leaves again without a trace', async () => {
    tale.home.writeConfig('targets:\n  - { number: 1, name: one, transport: vmfs, path: one } # here\n');
    const console_ = await atMainMenu();
    console_.press('c');
    await console_.waitFor('M  Hosts');
    console_.press('m');
    await console_.waitFor('No host is set up: N adds one.');
    console_.press('n');
    await console_.waitFor('E  ESX host');
    console_.press('e');
    for (const [question, answer] of [
      ['Its name', 'esx01'],
      ['Host name or address', '127.0.0.1'],
      ['Port', '1'],
      ['User on that host', 'root'],
    ] as const) {
      await console_.waitFor(question);
      console_.type(answer);
      console_.press('enter');
    }
    await console_.waitFor('P  By a password');
    console_.press('p');
    await console_.waitFor('Password of root');
    console_.type('open sesame');
    console_.press('enter');
    await console_.waitFor('esx01 is kept, but does not answer yet');
    const host =
      '\n  - name: esx01\n    type: esx\n    host: 127.0.0.1\n    port: 1\n    user: root\n    passwordFile: secrets/host-esx01\n';
    expect(readFileSync(tale.path('phd.yaml'), 'utf8')).toContain(host);
    expect(readFileSync(tale.path('secrets', 'host-esx01'), 'utf8')).toBe('open sesame\n');
    expect(console_.bytes.includes('sesame')).toBe(false);
    console_.press('enter');
    await console_.waitFor(/> +1 esx01 +esx +root@127\.0\.0\.1:1/);
    console_.press('enter');
    await console_.waitFor('X  Remove');
    console_.press('x');
    await console_.waitFor('Remove it?');
    console_.press('y');
    await console_.waitFor('No host is set up: N adds one.');
    expect(readFileSync(tale.path('phd.yaml'), 'utf8')).toMatch(/# here\nhosts: \[\]\n/);
  });
});
