/**
 * A kill before, or an error at, the k-th call of each kind that a backup or a restore makes on its target, its state
 * and its disk. Some k here; `PHD_CAMPAIGN=10` takes every k there is, of the databases every fourth.
 */
import { existsSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { archivesUnder, CAMPAIGN } from './farm.ts';
import { FrozenHome } from './frozen-home.ts';
import { type Injected, phdWithFault } from './injection.ts';
import { type Ended, errorLines, phd } from './processes.ts';

const IS_CAMPAIGN = CAMPAIGN >= 10;
vi.setConfig({ testTimeout: IS_CAMPAIGN ? 7_200_000 : 180_000 });

/** Call, where, and the few k of the short form. */
type Point = [call: string, where: 'target' | 'state' | 'goal' | 'source' | 'anywhere', some: number[]];

let frozen: FrozenHome;
beforeAll(async () => {
  frozen = await FrozenHome.make();
});
afterAll(() => frozen.remove());
beforeEach(() => frozen.thaw());

function placesOf(where: Point[1], mode: 'full' | 'delta' | 'restore'): string[] {
  if (where === 'anywhere') return [];
  if (where === 'state') return frozen.placesOfState();
  if (where === 'goal') return frozen.placesOfRestore();
  if (mode === 'restore') return [frozen.full, frozen.empty].map((name) => path.join(frozen.target, name));
  return where === 'source' ? [frozen.flat] : frozen.placesOfNext(mode);
}

/** A database makes its calls by the dozen. */
const strideOf = (where: Point[1]): number => (where === 'state' ? 4 : 1);

/** Runs `trial` for every k (of a database: every fourth) until the call does not come that often, or for some k. */
async function forEachCall(
  { some, stride }: { some: number[]; stride: number },
  name: string,
  trial: (k: number) => Promise<Injected>,
): Promise<void> {
  const statuses = new Map<string, number>();
  let hits = 0;
  for (let at = 0; IS_CAMPAIGN || at < some.length; at += 1) {
    const k = IS_CAMPAIGN ? stride * at + 1 : (some[at] as number);
    if (at > 0) frozen.thaw();
    const ended = await trial(k);
    if (ended.hits === 0 && IS_CAMPAIGN) break;
    expect(ended.hits, `${name} ${k} does not occur`).toBeGreaterThan(0);
    hits += 1;
    const key = ended.signal ?? `status ${ended.status}`;
    statuses.set(key, (statuses.get(key) ?? 0) + 1);
  }
  const counts = [...statuses].sort().map(([key, count]) => `${key}: ${count}`);
  if (IS_CAMPAIGN) process.stdout.write(`${name}: ${hits} injected; ${counts.join('; ')}\n`);
  expect(hits, name).toBeGreaterThan(0);
}

const backupWords = (mode: 'full' | 'delta'): string[] => ['backup', frozen.vm.folder, `--${mode}`, '--json'];
const restoreWords = (): string[] => ['restore', `1:${frozen.full}`, '--to', frozen.out];

/** The DELTA that a run with --json names in its result. */
function deltaOf(ended: Ended): string {
  const line = ended.stdout.split('\n').find((one) => /"event":"done"/.test(one));
  if (line === undefined) throw new Error(`no result line: ${ended.stdout}${ended.stderr}`);
  return (JSON.parse(line) as { archive: string }).archive.replace(/^1:/, '');
}

async function expectBackup(ended: Ended, what: string): Promise<void> {
  expect(ended.status, `${what}: ${ended.stdout}${ended.stderr}`).toBe(0);
  expect((await frozen.restored(deltaOf(ended))).equals(readFileSync(frozen.flat)), what).toBe(true);
}

/** Everything that has a name is whole; the next run is good by itself and leaves nothing unfinished. */
async function expectSound(mode: 'full' | 'delta', what: string): Promise<void> {
  const names = frozen.finalNames();
  expect(names, what).toEqual(expect.arrayContaining([frozen.full, frozen.empty]));
  expect(names, what).toEqual(expect.arrayContaining(await frozen.listedGood()));
  await frozen.verifyAll();
  await expectBackup(await phd(backupWords(mode), { env: frozen.home.env }), `${what}, next run`);
  await frozen.verifyAll();
  expect(
    archivesUnder(frozen.target).filter((name) => name.endsWith('.part')),
    what,
  ).toEqual([]);
  expect(frozen.scratchFolders(), what).toEqual([]);
}

/** What bears the name of the disk is the disk; the next restore is good by itself. */
async function expectRestorable(what: string): Promise<void> {
  const flat = path.join(frozen.out, 'd-flat.vmdk');
  const disk = await frozen.restored(frozen.full);
  if (existsSync(flat)) expect(readFileSync(flat).equals(disk), what).toBe(true);
  else expect(existsSync(path.join(frozen.out, 'd.vmdk')), `${what}: descriptor without disk`).toBe(false);
  const next = await phd([...restoreWords(), '--assume-off'], { env: frozen.home.env });
  expect(next.status, `${what}, next restore: ${next.stderr}`).toBe(0);
  expect(readFileSync(flat).equals(disk), what).toBe(true);
  const left = archivesUnder(frozen.out).filter((name) => name.endsWith('.part'));
  expect(left, what).toEqual([]);
  expect(archivesUnder(frozen.out), what).toEqual(['d-flat.vmdk', 'd.vmdk']);
  expect(frozen.scratchFolders(), what).toEqual([]);
}

function expectHonest(ended: Ended, what: string): void {
  expect(ended.status, `${what}: ${ended.stderr}`).not.toBeNull();
  if (ended.status === 0) return;
  expect(errorLines(ended).length + ended.stdout.length, `${what}: no word`).toBeGreaterThan(0);
  expect(ended.stderr, what).not.toMatch(/^\s+at .*:\d+:\d+\)?$/m);
}

const BACKUP_CALLS: Record<'full' | 'delta', Point[]> = {
  full: [
    ['openat', 'target', []],
    ['write', 'target', []],
    ['fsync', 'target', []],
    ['link', 'target', [2]],
    ['unlink', 'target', [2]],
    ['rename', 'anywhere', []],
    ['openat', 'state', []],
    ['pwrite64', 'state', [20]],
    ['fsync', 'state', []],
    ['ftruncate', 'state', []],
    ['unlink', 'state', []],
  ],
  delta: [
    ['mkdir', 'target', []],
    ['openat', 'target', []],
    ['write', 'target', [3]],
    ['fsync', 'target', []],
    ['link', 'target', []],
    ['unlink', 'target', []],
    ['pwrite64', 'state', []],
    ['fsync', 'state', []],
    ['unlink', 'state', []],
  ],
};
const RESTORE_CALLS: Point[] = [
  ['mkdir', 'goal', []],
  ['openat', 'goal', []],
  ['ftruncate', 'goal', []],
  ['pwritev', 'goal', []],
  ['fsync', 'goal', []],
  ['rename', 'goal', [1]],
  ['link', 'anywhere', [1]],
  ['unlink', 'anywhere', []],
  ['write', 'anywhere', []],
];
const wanted = (points: Point[]): Point[] => points.filter(([, , some]) => IS_CAMPAIGN || some.length > 0);

describe.each(['full', 'delta'] as const)('a backup (%s) that is killed', (mode) => {
  it.each(wanted(BACKUP_CALLS[mode]))('before a call: %s, %s', async (call, where, some) => {
    await forEachCall(
      { some, stride: strideOf(where) },
      `kill, backup --${mode}, ${call}, ${where}`,
      async (k) => {
        const fault = { call, what: 'signal=KILL', when: String(k), paths: placesOf(where, mode) };
        const ended = await phdWithFault(backupWords(mode), frozen.home.env, frozen.root, fault);
        if (ended.hits > 0) expect(ended.signal).toBe('SIGKILL');
        await expectSound(mode, `${call} ${k}`);
        return ended;
      },
    );
  });
});

describe('a restore that is killed', () => {
  it.each(wanted(RESTORE_CALLS))('before a call: %s, %s', async (call, where, some) => {
    // Calls on eventfds, which wake threads, are without number.
    const most = call === 'write' ? 60 : Number.POSITIVE_INFINITY;
    await forEachCall({ some, stride: strideOf(where) }, `kill, restore, ${call}, ${where}`, async (k) => {
      const fault = { call, what: 'signal=KILL', when: String(k), paths: placesOf(where, 'restore') };
      if (k > most) return { status: 0, signal: null, stdout: '', stderr: '', ms: 0, hits: 0 };
      const ended = await phdWithFault(restoreWords(), frozen.home.env, frozen.root, fault);
      await expectRestorable(`${call} ${k}`);
      return ended;
    });
  });
});

const BACKUP_ERRORS: Record<'full' | 'delta', [...Point, string[]][]> = {
  full: [
    ['openat', 'target', [], ['EIO', 'ENOSPC']],
    ['write', 'target', [], ['EIO', 'ENOSPC', 'EDQUOT']],
    ['fsync', 'target', [3], ['EIO', 'ENOSPC', 'EDQUOT']],
    ['link', 'target', [], ['EIO', 'ENOSPC', 'EDQUOT']],
    ['unlink', 'target', [], ['EIO']],
    ['pread64', 'target', [], ['EIO']],
    ['rename', 'anywhere', [], ['EIO', 'ENOSPC', 'EDQUOT']],
    ['openat', 'state', [], ['EIO']],
    ['pwrite64', 'state', [], ['EIO', 'ENOSPC', 'EDQUOT']],
    ['fsync', 'state', [], ['EIO']],
    ['pread64', 'state', [], ['EIO']],
    ['pread64', 'source', [], ['EIO']],
  ],
  delta: [
    ['mkdir', 'target', [], ['EIO', 'ENOSPC']],
    ['openat', 'target', [], ['EIO']],
    ['write', 'target', [], ['EIO', 'EDQUOT']],
    ['fsync', 'target', [], ['EIO']],
    ['link', 'target', [1], ['EDQUOT']],
    ['unlink', 'target', [], ['EIO']],
    ['pread64', 'target', [], ['EIO']],
    ['pwrite64', 'state', [], ['ENOSPC']],
    ['pread64', 'source', [], ['EIO']],
  ],
};
const RESTORE_ERRORS: [...Point, string[]][] = [
  ['mkdir', 'goal', [], ['EIO', 'ENOSPC']],
  ['openat', 'goal', [], ['EIO', 'ENOSPC']],
  ['pwritev', 'goal', [1], ['EDQUOT']],
  ['fsync', 'goal', [], ['EIO', 'ENOSPC', 'EDQUOT']],
  ['rename', 'goal', [], ['EIO', 'ENOSPC', 'EDQUOT']],
  ['link', 'anywhere', [], ['EIO', 'ENOSPC']],
  ['unlink', 'anywhere', [], ['EIO']],
  ['pread64', 'target', [2], ['EIO']],
  ['pread64', 'state', [], ['EIO']],
];
const wantedErrors = (points: [...Point, string[]][]) =>
  points.filter(([, , some]) => IS_CAMPAIGN || some.length > 0);

describe.each(['full', 'delta'] as const)('a backup (%s) whose call fails', (mode) => {
  it.each(wantedErrors(BACKUP_ERRORS[mode]))('%s, %s', async (call, where, some, errors) => {
    await forEachCall(
      { some, stride: strideOf(where) },
      `${errors.join('/')}, backup --${mode}, ${call}, ${where}`,
      async (k) => {
        const errno = errors[(k - 1) % errors.length];
        const what = `${call} ${k} ${errno}`;
        const fault = { call, what: `error=${errno}`, when: String(k), paths: placesOf(where, mode) };
        const ended = await phdWithFault(backupWords(mode), frozen.home.env, frozen.root, fault);
        expectHonest(ended, what);
        if (call === 'write' && errno !== 'EIO') expect(ended.status, ended.stderr).toBe(6);
        if (ended.status === 0) await expectBackup(ended, what);
        await expectSound(mode, what);
        return ended;
      },
    );
  });
});

describe('a restore whose call fails', () => {
  it.each(wantedErrors(RESTORE_ERRORS))('%s, %s', async (call, where, some, errors) => {
    await forEachCall(
      { some, stride: strideOf(where) },
      `${errors.join('/')}, restore, ${call}, ${where}`,
      async (k) => {
        const errno = errors[(k - 1) % errors.length];
        const what = `${call} ${k} ${errno}`;
        const fault = { call, what: `error=${errno}`, when: String(k), paths: placesOf(where, 'restore') };
        const ended = await phdWithFault(restoreWords(), frozen.home.env, frozen.root, fault);
        expectHonest(ended, what);
        if (call === 'pwritev' && errno !== 'EIO') expect(ended.status, ended.stderr).toBe(6);
        if (ended.status === 0) expect(existsSync(path.join(frozen.out, 'd-flat.vmdk')), what).toBe(true);
        await expectRestorable(what);
        return ended;
      },
    );
  });
});

describe('two backups of one VM', () => {
  it('at once never disturb each other: one may be refused, with status 5', async () => {
    const words = backupWords('delta');
    const ended = await Promise.all([1, 2].map(() => phd(words, { env: frozen.home.env })));
    const good = ended.filter(({ status }) => status === 0);
    expect(good.length).toBeGreaterThan(0);
    for (const one of good) await expectBackup(one, 'one of two');
    for (const { status, stderr } of ended.filter((one) => one.status !== 0)) {
      expect(status, stderr).toBe(5);
      expect(stderr).toMatch(/another backup of vm to target 1 is running/);
    }
    await expectSound('delta', 'two at once');
  });

  it('from two hosts never take an unfinished archive from each other, unless it is a day old', async () => {
    const part = frozen.placesOfNext('full').find((name) => /\.gz-.*\.part$/.test(name)) as string;
    writeFileSync(part, 'of another host');
    const refused = await phd(backupWords('full'), { env: frozen.home.env });
    expect(refused.status, refused.stderr).toBe(1);
    expect(refused.stderr + refused.stdout).toMatch(/\.part is on target 1, another host may be writing it/);
    expect(readFileSync(part, 'utf8')).toBe('of another host');
    const twoDaysAgo = Date.now() / 1000 - 2 * 86_400;
    utimesSync(part, twoDaysAgo, twoDaysAgo);
    await expectSound('full', 'left two days ago');
  });
});
