/**
 * The replica of the day before is refreshed in place: what is fetched and written, and what a kill, a full volume or a
 * damaged archive leave. `PHD_CAMPAIGN=20` kills a hundred times at random, and before each call there is.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { bearsMark } from '../../src/datastore/unfinished-disk.ts';
import { changeImage, type TestVm } from '../support/disk-images.ts';
import { requirePeer } from '../support/peers.ts';
import {
  BLOCK,
  flipByte,
  fullBlock,
  HOOK_TIMEOUT_MS,
  linesOf,
  namesIn,
  only,
  type Restored,
  Tale,
} from '../tales/tale.ts';
import { CAMPAIGN, randomOf, seedOf } from './farm.ts';
import { phdWithFault } from './injection.ts';
import { type Ended, phd } from './processes.ts';

const IS_CAMPAIGN = CAMPAIGN >= 10;
vi.setConfig({ testTimeout: IS_CAMPAIGN ? 7_200_000 : 180_000 });

const BLOCKS = 128;
const FLAT = 'Web-flat.vmdk';
const seed = seedOf('in place');

let tale: Tale;
let vm: TestVm;
let yesterday: Buffer;
let today: Buffer;
/** Of yesterday and of today. */
let archives: [string, string];
let fullFile: string;
/** Holds yesterday's replica; tests work on copies. */
let kept: string;
let differing: number[];

beforeAll(async () => {
  tale = new Tale();
  vm = await tale.makeVm('Web', [{ name: 'Web.vmdk', sizeBytes: BLOCKS * BLOCK }]);
  const flat = vm.disks[0]?.flatPath ?? '';
  const first = only((await tale.backup(vm.folder)).disks);
  fullFile = tale.file(first.full);
  await changeImage(flat, 30, 'yesterday');
  const before = only((await tale.backup(vm.folder)).disks);
  yesterday = readFileSync(flat);
  kept = tale.newFolder();
  await tale.restore([before.archive, '--to', kept]);
  await changeImage(flat, 12, 'today');
  today = readFileSync(flat);
  archives = [before.archive, only((await tale.backup(vm.folder)).disks).archive];
  differing = Array.from({ length: BLOCKS }, (_, block) => block).filter(
    (block) => !blockOf(yesterday, block).equals(blockOf(today, block)),
  );
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());

const blockOf = (disk: Buffer, block: number): Buffer => disk.subarray(block * BLOCK, (block + 1) * BLOCK);

/** A folder with yesterday's replica. */
function replica(to = tale.newFolder()): { to: string; flat: string; beside: string; record: string } {
  rmSync(to, { recursive: true, force: true });
  cpSync(kept, to, { recursive: true });
  const flat = path.join(to, FLAT);
  return { to, flat, beside: `${flat}.inplace.part`, record: `${flat}.unfinished` };
}

const refresh = (to: string): string[] => [
  'restore',
  archives[1],
  '--to',
  to,
  '--in-place',
  '--assume-off',
  '--json',
];

/** Bytes written to some files, as the system counts them, and the order of all calls on them. */
async function countedRefresh(
  to: string,
  files: string[],
): Promise<{ one: Restored; writtenBytes: number; calls: string[] }> {
  const strace = await requirePeer('strace');
  const log = tale.path('strace.log');
  const under = [
    strace.path,
    '-f',
    '-y',
    '-qq',
    '-o',
    log,
    '-e',
    'trace=write,pwrite64,writev,pwritev,fsync,link,unlink',
  ];
  under.push(...files.flatMap((file) => ['-P', file]));
  const ended = await phd(refresh(to), { env: tale.home.env, under });
  expect(ended.status, ended.stderr).toBe(0);
  const text = readFileSync(log, 'latin1');
  const bytes = text.matchAll(/^\d+ +(?:<\.\.\. )?p?write.* = (\d+)$/gm);
  const writtenBytes = [...bytes].reduce((sum, [, count]) => sum + Number(count), 0);
  const calls: string[] = [];
  for (const [, call = '', file = ''] of text.matchAll(/^\d+ +(\w+)\((?:\d+<|")([^>"]+)/gm)) {
    const name = file === to ? 'folder' : path.basename(file).replace(FLAT, 'flat');
    const one = `${call.replace(/^p?write.*/, 'write')} ${name}`;
    if (calls.at(-1) !== one) calls.push(one);
  }
  return { one: only(linesOf(ended, 'done') as unknown as Restored[]), writtenBytes, calls };
}

describe('A replica of the day before, refreshed in place,', () => {
  it('gets only blocks that differ, and of the FULL none is fetched', async () => {
    const { to, flat, beside, record } = replica();
    const { one, writtenBytes, calls } = await countedRefresh(to, [
      to,
      flat,
      beside,
      record,
      `${record}.part`,
    ]);
    expect(readFileSync(flat).equals(today)).toBe(true);
    const bytes = differing.length * BLOCK;
    expect(one).toMatchObject({ kept: BLOCKS - differing.length, fromFull: 0 });
    // Block 0 goes along; the record and the log of a few lines come on top.
    expect(one.besideBytes).toBeLessThanOrEqual(bytes + BLOCK);
    expect(one.writtenBytes).toBeLessThan(0.2 * bytes);
    expect(writtenBytes - one.besideBytes - one.writtenBytes).toBeLessThan(16_384);
    expect(writtenBytes - one.besideBytes - one.writtenBytes).toBeGreaterThanOrEqual(0);
    expect(namesIn(to)).toEqual([FLAT, 'Web.vmdk']);
    // What a power loss may keep: the blocks, then the record, then the mark, then the rest, the begin of the disk last.
    const order = [
      ...['write flat.inplace.part', 'fsync flat.inplace.part'],
      ...[
        'write flat.unfinished.part',
        'fsync flat.unfinished.part',
        'link flat.unfinished.part',
        'fsync folder',
      ],
      ...['write flat', 'fsync flat', 'write flat', 'fsync flat', 'write flat', 'fsync flat'],
      ...['unlink flat.unfinished', 'fsync folder', 'unlink flat.inplace.part', 'fsync folder'],
    ];
    const steps = calls.filter((call) => order.includes(call));
    const from = steps.lastIndexOf('fsync flat.inplace.part') - 1;
    expect(steps.slice(from, from + order.length)).toEqual(order);
  });

  it('is a changed clone where the file system has clones: nothing is written twice, owner and mode stay', async () => {
    const mkfs = await requirePeer('mkfs.xfs');
    const image = tale.home.write('xfs.img', '');
    execFileSync('truncate', ['-s', '320M', image]);
    execFileSync(mkfs.path, ['-q', image], { env: { ...process.env, ...mkfs.env } });
    const volume = tale.home.folder('xfs');
    execFileSync('mount', ['-o', 'loop', image, volume]);
    try {
      const { to, flat, beside } = replica(path.join(volume, 'rep'));
      execFileSync('chown', ['12:34', flat]);
      execFileSync('chmod', ['640', flat]);
      const { one, writtenBytes } = await countedRefresh(to, [flat, beside]);
      expect(readFileSync(flat).equals(today)).toBe(true);
      expect(one).toMatchObject({ besideBytes: 0, fromFull: 0, kept: BLOCKS - differing.length });
      expect(writtenBytes).toBeLessThanOrEqual(1.1 * differing.length * BLOCK);
      const { uid, gid, mode } = statSync(flat);
      expect([uid, gid, mode & 0o777]).toEqual([12, 34, 0o640]);
      expect(namesIn(to)).toEqual([FLAT, 'Web.vmdk']);
    } finally {
      execFileSync('umount', [volume]);
    }
  });

  it('stays as it was when the archive turns out damaged, when the volume is full, and when there is no room', async () => {
    const { to, flat } = replica();
    const { block, middle } = fullBlock(fullFile);
    const before = spoilt(yesterday, block);
    writeFileSync(flat, before);
    flipByte(fullFile, middle + 2_000);
    const damaged = await phd(['restore', archives[0], ...refresh(to).slice(2)], { env: tale.home.env });
    flipByte(fullFile, middle + 2_000);
    expect(damaged.status, damaged.stderr).toBe(3);
    expect(readFileSync(flat).equals(before)).toBe(true);

    const { to: second, flat: secondFlat, beside } = replica();
    const fault = { call: 'pwrite64,pwritev', what: 'error=ENOSPC', when: '1+', paths: [beside] };
    const full = await phdWithFault(refresh(second), tale.home.env, tale.path(), fault);
    expect([full.status, full.hits > 0]).toEqual([6, true]);
    expect(readFileSync(secondFlat).equals(yesterday)).toBe(true);
    expect(namesIn(second)).toEqual([FLAT, 'Web.vmdk']);

    const volume = tale.home.folder('small');
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', volume]);
    try {
      execFileSync('cp', ['--sparse=always', path.join(kept, FLAT), path.join(kept, 'Web.vmdk'), volume]);
      const { bavail, bsize } = statfsSync(volume);
      writeFileSync(path.join(volume, 'other'), Buffer.alloc(bavail * bsize - 2 * BLOCK, 1));
      const small = await phd(refresh(volume), { env: tale.home.env });
      expect([small.status, small.stderr]).toEqual([6, expect.stringContaining('free, the restore needs')]);
      expect(readFileSync(path.join(volume, FLAT)).equals(yesterday)).toBe(true);
      expect(namesIn(volume)).toEqual([FLAT, 'Web.vmdk', 'other']);
    } finally {
      execFileSync('umount', [volume]);
    }
  });
});

function spoilt(disk: Buffer, block: number): Buffer {
  const other = Buffer.from(disk);
  other.fill(0x55, block * BLOCK, block * BLOCK + 500);
  return other;
}

/** What a kill left is yesterday's or today's disk, or bears the mark; after the next restore it is today's. */
async function expectSettled(to: string, ended: Ended, what: string): Promise<'yesterday' | 'today' | 'mix'> {
  const { flat, record } = { flat: path.join(to, FLAT), record: path.join(to, `${FLAT}.unfinished`) };
  const disk = readFileSync(flat);
  const isMix = bearsMark(disk.subarray(0, 4096));
  const state = isMix ? 'mix' : disk.equals(yesterday) ? 'yesterday' : 'today';
  if (isMix) {
    expect(existsSync(record), what).toBe(true);
    // Without phd the record itself puts the disk right.
    const byHand = tale.newFolder();
    cpSync(to, byHand, { recursive: true });
    const ran = spawnSync('sh', [path.join(byHand, `${FLAT}.unfinished`)], { encoding: 'utf8' });
    expect([ran.status, ran.stderr], what).toEqual([0, '']);
    expect(readFileSync(path.join(byHand, FLAT)).equals(today), what).toBe(true);
    expect(namesIn(byHand), what).toEqual(namesIn(kept));
    rmSync(byHand, { recursive: true });
  } else if (existsSync(record)) {
    expect(spawnSync('sh', [record], { encoding: 'utf8' }).stderr, what).toContain('is whole');
    expect(readFileSync(flat).equals(disk), what).toBe(true);
  }
  if (!isMix) expect(disk.equals(yesterday) || disk.equals(today), `${what}: ${ended.stderr}`).toBe(true);
  const next = await phd(refresh(to), { env: tale.home.env });
  expect(next.status, `${what}: ${next.stderr}`).toBe(0);
  if (isMix) expect(next.stderr, what).toContain('it is finished now: 1:');
  expect(readFileSync(flat).equals(today), what).toBe(true);
  expect(namesIn(to), what).toEqual(namesIn(kept));
  return state;
}

describe('A refresh that is killed', () => {
  const CALLS: [call: string, some: number[], of: 'flat' | 'beside' | 'record' | 'part'][] = [
    ['pwrite64', [3], 'flat'],
    ['fsync', [2], 'flat'],
    ['link', [], 'part'],
    ['unlink', [1], 'record'],
    ['unlink', [], 'beside'],
  ];
  it.each(CALLS.filter(([, some]) => IS_CAMPAIGN || some.length > 0))(
    'before a %s (%j) of the %s leaves a disk that is put right by the next one, or by the record alone',
    async (call, some, of) => {
      const states = new Map<string, number>();
      for (let at = 0; IS_CAMPAIGN || at < some.length; at += 1) {
        const k = IS_CAMPAIGN ? at + 1 : (some[at] as number);
        const { to, flat, beside, record } = replica();
        const file = { flat, beside, record, part: `${record}.part` }[of];
        const fault = { call, what: 'signal=KILL', when: String(k), paths: [file] };
        const ended = await phdWithFault(refresh(to), tale.home.env, tale.path(), fault);
        if (ended.hits === 0 && IS_CAMPAIGN && k > 1) break;
        expect(ended.hits, `${call} ${k}`).toBeGreaterThan(0);
        const state = await expectSettled(to, ended, `${call} ${k} of the ${of}`);
        states.set(state, (states.get(state) ?? 0) + 1);
        rmSync(to, { recursive: true });
      }
      process.stdout.write(`${call} of the ${of}: ${JSON.stringify([...states])}\n`);
    },
  );

  it('at any moment leaves yesterday, today, or what is settled to today', async () => {
    const random = randomOf(seed);
    const states = new Map<string, number>();
    const { to: trial } = replica();
    let runMs = (await phd(refresh(trial), { env: tale.home.env })).ms;
    for (let round = 0; round < Math.round(5 * CAMPAIGN); round += 1) {
      const { to } = replica();
      const ended = await phd(refresh(to), {
        env: tale.home.env,
        killAfterMs: runMs * (0.5 + 0.6 * random()),
      });
      if (ended.signal === null) runMs = (runMs + ended.ms) / 2;
      const state = await expectSettled(to, ended, `round ${round}`);
      states.set(state, (states.get(state) ?? 0) + 1);
      rmSync(to, { recursive: true });
    }
    process.stdout.write(`killed at random: ${JSON.stringify([...states])}\n`);
  });

  it('and left a mix: a backup refuses it, a restore of another archive settles it first, a started VM is left alone', async () => {
    const { to, flat } = replica();
    const fault = { call: 'pwrite64', what: 'signal=KILL', when: '4', paths: [flat] };
    await phdWithFault(refresh(to), tale.home.env, tale.path(), fault);
    expect(bearsMark(readFileSync(flat).subarray(0, 4096))).toBe(true);
    const copy = tale.path('vmfs', 'mix');
    cpSync(to, copy, { recursive: true });
    const backup = await tale.phd(['backup', copy, '--json']);
    expect([backup.status, backup.stderr + backup.stdout]).toEqual([
      1,
      expect.stringContaining('an in-place restore over it was broken off'),
    ]);
    rmSync(copy, { recursive: true });
    mkdirSync(path.join(to, 'Web.vmdk.lck'));
    const running = await phd(refresh(to), { env: tale.home.env });
    expect([running.status, bearsMark(readFileSync(flat).subarray(0, 4096))]).toEqual([5, true]);
    rmSync(path.join(to, 'Web.vmdk.lck'), { recursive: true });
    const other = await phd(['restore', archives[0], ...refresh(to).slice(2)], { env: tale.home.env });
    expect(other.status, other.stderr).toBe(0);
    expect(other.stderr).toContain(`it is finished now: ${archives[1]}`);
    expect(readFileSync(flat).equals(yesterday)).toBe(true);
  });
});
