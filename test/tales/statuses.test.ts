/** Exit statuses and JSON lines that scripts rely on. */
import { copyFileSync, mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type ErrorCode, exitStatusOf } from '../../src/errors.ts';
import { randomLooking, type TestVm } from '../support/disk-images.ts';
import {
  type BackedUp,
  fileDigest,
  flipByte,
  fullBlock,
  HOOK_TIMEOUT_MS,
  linesOf,
  MIB,
  namesIn,
  type Run,
  Tale,
  until,
} from './tale.ts';

const RESULT_KEYS =
  'event archive disk bytes totalBytes percent bytesPerSecond remainingSeconds code message'.split(' ');
const LIST_KEYS =
  'target targetName transport path vm displayName uuid host disk scsiId mode codec encrypted runId time fullTime archiveBytes diskBytes complete held foreign verifiedAt verifyResult state gpgMasterOffset'.split(
    ' ',
  );

let tale: Tale;
let vm: TestVm;
let backedUp: { run: Run; disks: BackedUp[] };

beforeAll(async () => {
  tale = new Tale();
  vm = await tale.makeVm(
    'Trio',
    ['A', 'B', 'C'].map((name) => ({ name: `${name}.vmdk`, sizeBytes: 2 * MIB })),
  );
  writeFileSync(vm.disks[0]?.flatPath ?? '', randomLooking('a disk of noise', 2 * MIB));
  backedUp = await tale.backup(vm.folder);
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());

describe('JSON lines', () => {
  const checkLines = (run: Run): void => {
    const lines = linesOf(run);
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) expect(Object.keys(line)).toEqual(expect.arrayContaining(RESULT_KEYS));
  };

  it('of backup have the keys of the manual, for progress, done and error alike', async () => {
    checkLines(backedUp.run);
    expect(new Set(linesOf(backedUp.run).map(({ event }) => event))).toEqual(new Set(['progress', 'done']));
    expect(linesOf(backedUp.run, 'done')).toHaveLength(3);
    const failed = await tale.phd(['backup', tale.path('nowhere'), '--json']);
    expect(failed.status).toBe(1);
    checkLines(failed);
    expect(linesOf(failed, 'error')).toMatchObject([{ code: 'NOT_FOUND' }]);
  });

  it('of restore have them, and name archive and disk', async () => {
    const { run, disks } = await tale.restore(['--vm', 'Trio', '--disk', 'B.vmdk', '--to', tale.newFolder()]);
    checkLines(run);
    expect(disks).toMatchObject([
      { archive: backedUp.disks[1]?.archive, disk: 'B.vmdk', percent: 100, code: null },
    ]);
    for (const line of linesOf(run, 'progress'))
      expect(line).toMatchObject({ archive: backedUp.disks[1]?.archive, disk: 'B.vmdk', code: null });
  });

  it('of verify have them, and name the archive', async () => {
    const [first] = backedUp.disks;
    const run = await tale.phd(['verify', '--json', first?.full ?? '', first?.archive ?? '']);
    expect(run.status).toBe(0);
    checkLines(run);
    expect(linesOf(run, 'done').map(({ archive }) => archive)).toEqual([first?.full, first?.archive]);
  });

  it('of list have exactly the keys of the manual, filled once a header was read', async () => {
    await tale.phd(['index']);
    const rows = linesOf(await tale.phd(['list', '--json']));
    expect(rows).toHaveLength(6);
    for (const row of rows) expect(Object.keys(row)).toEqual(LIST_KEYS);
    const read = rows.filter(({ runId }) => runId !== null);
    expect(read.map(({ runId, diskBytes }) => ({ runId, diskBytes }))).toContainEqual({
      runId: backedUp.disks[0]?.runId,
      diskBytes: 2 * MIB,
    });
  });
});

describe('Status 2, with one line that says what is wrong,', () => {
  const usage: [string, string[], RegExp][] = [
    ['an unknown command', ['restor'], /there is no command "restor"/],
    ['an unknown option', ['list', '--colour'], /unknown option '--colour'/],
    ['a restore of nothing', ['restore', '--to', '/tmp/x'], /either an ARCHIVE or a VM/],
    ['a restore to nowhere', ['restore', '1:a/b'], /--to/],
    [
      '--name with several disks',
      ['restore', '--vm', 'Trio', '--to', '/nowhere/x', '--name', 'X.vmdk'],
      /--name needs a single disk; this run has 3/,
    ],
    ['--full with --delta', ['backup', '/nowhere', '--full', '--delta'], /exclude each other/],
    ['an unknown codec', ['backup', '/nowhere', '--codec', 'bzip2'], /expected gzip, zstd, lzop/],
    ['a date that is none', ['list', '--date', '2008-02-30'], /"2008-02-30" is no date/],
    [
      'a name that leads elsewhere',
      ['restore', '--vm', 'Trio', '--disk', 'A.vmdk', '--to', '/tmp/x', '--name', '../X.vmdk'],
      /cannot be the name of a restored disk/,
    ],
  ];
  it.each(usage)('ends %s', async (_name, words, line) => {
    const run = await tale.phd(words);
    expect(run.status).toBe(2);
    expect(run.stdout).toBe('');
    expect(run.stderr).toMatch(line);
    expect(run.stderr.trim().split('\n')).toHaveLength(1);
  });

  it('ends every command under a broken phd.yaml, naming file, line and key', async () => {
    tale.home.writeConfig(
      'targets:\n  - number: 1\n    name: one\n    transport: vmfs\n    path: one\n    readBack: some\n',
    );
    try {
      for (const words of [
        ['list'],
        ['backup', vm.folder],
        ['restore', '--vm', 'Trio', '--to', tale.newFolder()],
      ]) {
        const run = await tale.phd(words);
        expect(run.status).toBe(2);
        expect(run.stderr).toContain(`${tale.path('phd.yaml')}:6: targets[0].readBack: expected`);
      }
    } finally {
      tale.configure({});
    }
  });
});

describe('^C', () => {
  afterEach(() => tale.configure({}));
  const slowly = (): void =>
    tale.home.writeConfig(`targets:
  - { number: 1, name: one, transport: vmfs, path: one, bandwidthLimitBytesPerSecond: 500000 }
`);

  it.each(['SIGINT', 'SIGTERM'] as const)(
    '(%s) ends a backup with status 130 and leaves the target as it was',
    async (signal) => {
      slowly();
      const before = tale.filesOn('one');
      const run = await tale.phd(['backup', vm.folder, '--full'], {
        onStart: (child) =>
          void until(() => tale.filesOn('one').length > before.length).then(() => child.kill(signal)),
      });
      expect(run).toMatchObject({ status: 130, signal: null });
      expect(run.stderr).toContain('phd: cancelled');
      expect(tale.filesOn('one')).toEqual(before);
    },
  );

  it('ends a restore with status 130 and leaves no disk, but what the next run goes on with', async () => {
    slowly();
    const to = tale.newFolder();
    const run = await tale.phd(['restore', backedUp.disks[0]?.archive ?? '', '--to', to], {
      onStart: (child) => void until(() => namesIn(to).length > 0).then(() => child.kill('SIGINT')),
    });
    expect(run).toMatchObject({ status: 130, signal: null });
    expect(namesIn(to)).toEqual(['A-flat.vmdk.part']);
    tale.configure({});
    await tale.restore([backedUp.disks[0]?.archive ?? '', '--to', to]);
    expect(fileDigest(path.join(to, 'A-flat.vmdk'))).toBe(fileDigest(vm.disks[0]?.flatPath ?? ''));
  });
});

describe('With several disks', () => {
  it('each gets its result, and the worst decides: 3 before 5 before 1', async () => {
    const full = tale.file(backedUp.disks[0]?.full ?? '');
    const to = tale.newFolder();
    mkdirSync(to);
    const { middle } = fullBlock(full);
    flipByte(full, middle);
    copyFileSync(vm.disks[1]?.flatPath ?? '', path.join(to, 'B-flat.vmdk'));
    mkdirSync(path.join(to, 'B-flat.vmdk.lck'));
    copyFileSync(vm.disks[2]?.flatPath ?? '', path.join(to, 'C-flat.vmdk'));
    truncateSync(path.join(to, 'C-flat.vmdk'), 512);
    const attempt = async (): Promise<{ status: number | null; codes: unknown[] }> => {
      const run = await tale.phd(['restore', '--vm', 'Trio', '--to', to, '--assume-off', '--json']);
      return { status: run.status, codes: linesOf(run, 'error').map(({ code }) => code) };
    };
    expect(await attempt()).toEqual({ status: 3, codes: ['DIGEST_MISMATCH', 'VM_RUNNING', 'EXISTS'] });
    flipByte(full, middle);
    expect(await attempt()).toEqual({ status: 5, codes: ['VM_RUNNING', 'EXISTS'] });
    rmSync(path.join(to, 'B-flat.vmdk.lck'), { recursive: true });
    rmSync(path.join(to, 'A-flat.vmdk'));
    expect(await attempt()).toEqual({ status: 1, codes: ['EXISTS'] });
    rmSync(path.join(to, 'C-flat.vmdk'));
    expect(await attempt()).toEqual({ status: 0, codes: [] });
    for (const { name, flatPath } of vm.disks)
      expect(fileDigest(path.join(to, name.replace('.', '-flat.')))).toBe(fileDigest(flatPath));
  });

  it('the order is 3 6 5 7 4 1, whatever comes first', () => {
    const codes: ErrorCode[] = [
      'DIGEST_MISMATCH',
      'NO_SPACE',
      'VM_RUNNING',
      'PASSPHRASE_WRONG',
      'TARGET_UNREACHABLE',
      'IO',
    ];
    const statuses = [3, 6, 5, 7, 4, 1];
    for (const [at, status] of statuses.entries()) {
      expect(exitStatusOf(codes.slice(at))).toBe(status);
      expect(exitStatusOf(codes.slice(at).reverse())).toBe(status);
    }
    expect(exitStatusOf([])).toBe(0);
  });
});

describe('An lzop that does not run', () => {
  it.each([
    ['at once', "echo 'lzop: no library' >&2; exit 127", 127],
    ['in the middle', "head -c 200000 >/dev/null; echo 'lzop: no library' >&2; exit 0", 0],
  ])('ends the backup %s with what it said, and leaves no archive', async (_when, script, status) => {
    tale.home.write('bin/lzop', `#!/bin/sh\n${script}\n`, 0o755);
    const before = tale.filesOn('one');
    const run = await tale.phd(['backup', vm.folder, '--full', '--codec', 'lzop']);
    rmSync(tale.path('bin', 'lzop'));
    expect(run.status, run.stderr).toBe(exitStatusOf(['IO']));
    expect(run.stderr).toContain(
      `lzop ended with status ${status} before its work was done: lzop: no library`,
    );
    expect(run.stderr).not.toContain('fault in the program');
    expect(tale.filesOn('one')).toEqual(before);
  });
});
