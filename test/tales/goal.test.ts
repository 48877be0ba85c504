/** Where a restore writes: what is refused, what is kept, and what a kill in its midst leaves. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomLooking, type TestVm } from '../support/disk-images.ts';
import {
  type BackedUp,
  BLOCK,
  fileDigest,
  HOOK_TIMEOUT_MS,
  linesOf,
  MIB,
  namesIn,
  only,
  systemTool,
  Tale,
  until,
} from './tale.ts';

const DISK_BYTES = 16 * MIB;
const FLAT = 'Web-flat.vmdk';

let tale: Tale;
let vm: TestVm;
let full: BackedUp;
let disk: Buffer;
let original: string;

beforeAll(async () => {
  tale = new Tale();
  vm = await tale.makeVm('Web', [{ name: 'Web.vmdk', sizeBytes: DISK_BYTES }]);
  original = vm.disks[0]?.flatPath ?? '';
  const flat = await open(original, 'r+');
  await flat.write(randomLooking('a boot sector', 4096), 0, 4096, 0);
  await flat.write(randomLooking('much that does not pack', 4 * MIB), 0, 4 * MIB, 8 * MIB);
  await flat.close();
  disk = readFileSync(original);
  full = only((await tale.backup(vm.folder)).disks);
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());

/** A folder with the disk as it is after some of its blocks were spoiled; block 0 is none of them. */
async function spoiled(blocks: number): Promise<{ to: string; flat: string }> {
  const to = tale.newFolder();
  mkdirSync(to);
  const flat = path.join(to, FLAT);
  copyFileSync(original, flat);
  const image = await open(flat, 'r+');
  for (let block = 1; block <= blocks; block++)
    await image.write(randomLooking(`spoil ${block}`, 700), 0, 700, block * BLOCK + 100);
  await image.close();
  return { to, flat };
}

const restore = (to: string, ...words: string[]) =>
  tale.phd(['restore', full.archive, '--to', to, '--json', ...words]);

/** The target becomes so slow that a restore lasts for seconds. */
function slowTarget(): void {
  tale.home.writeConfig(`targets:
  - { number: 1, name: one, transport: vmfs, path: one, bandwidthLimitBytesPerSecond: 1000000 }
`);
}

/** Starts a restore and kills it, without warning, once `isAtIt`. */
async function killedRestore(to: string, words: string[], isAtIt: () => boolean): Promise<void> {
  slowTarget();
  try {
    let child: ChildProcess | undefined;
    const running = tale.phd(['restore', full.archive, '--to', to, ...words], {
      onStart: (started) => {
        child = started;
      },
    });
    await Promise.race([
      until(isAtIt),
      running.then(({ stderr }) => Promise.reject(new Error(`it ended: ${stderr}`))),
    ]);
    child?.kill('SIGKILL');
    expect((await running).signal).toBe('SIGKILL');
  } finally {
    tale.configure({});
  }
}

describe('A restore into a folder', () => {
  it('makes the folder and its parents, and a disk with holes where it is zero', async () => {
    const to = path.join(tale.newFolder(), 'a b', 'c');
    const { disks } = await tale.restore([full.archive, '--to', to]);
    expect(only(disks)).toMatchObject({ flatPath: path.join(to, FLAT), kept: 0 });
    expect(readFileSync(path.join(to, FLAT)).equals(disk)).toBe(true);
    expect(namesIn(to)).toEqual([FLAT, 'Web.vmdk']);
    const { mode, blocks } = statSync(path.join(to, FLAT));
    expect(mode & 0o077).toBe(0);
    expect(only(disks).zero).toBeGreaterThan(0);
    const metadataBytes = 65_536;
    expect(blocks * 512).toBeLessThanOrEqual(DISK_BYTES - only(disks).zero * BLOCK + metadataBytes);
  });

  it('replaces a disk of the same size only when all is proved', async () => {
    const { to, flat } = await spoiled(3);
    const before = statSync(flat).ino;
    await tale.restore([full.archive, '--to', to, '--assume-off']);
    expect(readFileSync(flat).equals(disk)).toBe(true);
    expect(statSync(flat).ino).not.toBe(before);
  });

  it('refuses a disk of another size with both figures, and leaves it as it is', async () => {
    const { to, flat } = await spoiled(1);
    truncateSync(flat, DISK_BYTES - 512);
    const digest = fileDigest(flat);
    const run = await restore(to, '--assume-off');
    expect(run.status).toBe(1);
    expect(run.stderr).toContain(`${DISK_BYTES - 512} bytes`);
    expect(run.stderr).toContain(`${DISK_BYTES}`);
    expect(namesIn(to)).toEqual([FLAT]);
    expect(fileDigest(flat)).toBe(digest);
  });

  it('writes rightly over a .part that holds garbage of another size', async () => {
    const to = tale.newFolder();
    mkdirSync(to);
    writeFileSync(path.join(to, `${FLAT}.part`), randomLooking('garbage', DISK_BYTES + 12_345));
    await tale.restore([full.archive, '--to', to]);
    expect(readFileSync(path.join(to, FLAT)).equals(disk)).toBe(true);
    expect(namesIn(to)).toEqual([FLAT, 'Web.vmdk']);
  });

  it('that was killed goes on with the blocks it proves to have', async () => {
    const to = tale.newFolder();
    const part = path.join(to, `${FLAT}.part`);
    await killedRestore(to, [], () => namesIn(to).length > 0 && statSync(part).blocks * 512 > 2 * MIB);
    expect(namesIn(to)).toEqual([`${FLAT}.part`]);
    const whole = only((await tale.restore([full.archive, '--to', tale.newFolder()])).disks);
    const again = only((await tale.restore([full.archive, '--to', to])).disks);
    expect(again.kept).toBeGreaterThan(0);
    expect(again.fromFull).toBeLessThan(whole.fromFull);
    expect(readFileSync(path.join(to, FLAT)).equals(disk)).toBe(true);
  });
});

describe('A restore in place', () => {
  it('needs a disk that is there', async () => {
    const to = tale.newFolder();
    const run = await restore(to, '--in-place');
    expect(run.status).toBe(1);
    expect(run.stderr).toContain(`${path.join(to, FLAT)} does not exist`);
  });

  it('writes only the blocks that differ, and the disk stays the file it is', async () => {
    const { to, flat } = await spoiled(20);
    const inode = statSync(flat).ino;
    const one = only(
      (await tale.restore([full.archive, '--to', to, '--in-place', '--assume-off', '--verify'])).disks,
    );
    expect(one.writtenBytes).toBeLessThanOrEqual(1.1 * 20 * BLOCK);
    expect(one.kept).toBe(64 - 20);
    expect(readFileSync(flat).equals(disk)).toBe(true);
    expect(statSync(flat).ino).toBe(inode);
    expect(namesIn(to)).toEqual([FLAT, 'Web.vmdk']);
  });

  it('that is killed while blocks are fetched leaves the disk as it was, and the next run goes on', async () => {
    const { to, flat } = await spoiled(60);
    const before = fileDigest(flat);
    const beside = path.join(to, `${FLAT}.inplace.part`);
    const hasFetched = (): boolean =>
      namesIn(to).includes(`${FLAT}.inplace.part`) && statSync(beside).blocks * 512 > 2 * MIB;
    await killedRestore(to, ['--in-place', '--assume-off'], hasFetched);
    expect(fileDigest(flat)).toBe(before);
    const whole = only((await tale.restore([full.archive, '--to', tale.newFolder()])).disks);
    const again = only((await tale.restore([full.archive, '--to', to, '--in-place', '--assume-off'])).disks);
    expect(again.kept).toBe(64 - 60);
    expect(again.fromFull).toBeLessThanOrEqual(whole.fromFull - 4);
    expect(readFileSync(flat).equals(disk)).toBe(true);
    expect(namesIn(to)).toEqual([FLAT, 'Web.vmdk']);
  });

  it('goes over a device of the same size, and refuses one of another', async () => {
    const backing = tale.path('device');
    writeFileSync(backing, randomLooking('an old disk', DISK_BYTES));
    const device = (await systemTool('losetup', ['--find', '--show', backing])).toString().trim();
    try {
      const words = [
        full.archive,
        '--to',
        path.dirname(device),
        '--name',
        path.basename(device),
        '--assume-off',
      ];
      const one = only((await tale.restore([...words, '--verify'])).disks);
      expect(one).toMatchObject({ flatPath: device, descriptorPath: null, verified: true });
      await systemTool('cmp', [original, device]);
      writeFileSync(device, randomLooking('spoilt', 4096));
      const again = only((await tale.restore([...words, '--in-place'])).disks);
      expect(again).toMatchObject({ besideBytes: 0, kept: 63 });
      await systemTool('cmp', [original, device]);
      truncateSync(backing, DISK_BYTES + 4096);
      await systemTool('losetup', ['--set-capacity', device]);
      const refused = await tale.phd(['restore', ...words]);
      expect(refused.status).toBe(1);
      expect(refused.stderr).toContain(
        `${device} has ${DISK_BYTES + 4096} bytes, the disk has ${DISK_BYTES}`,
      );
    } finally {
      await systemTool('losetup', ['--detach', device]);
    }
  });
});

describe('A restore is refused, and nothing is written,', () => {
  it('under a snapshot of the disk', async () => {
    const { to, flat } = await spoiled(1);
    const digest = fileDigest(flat);
    const snapshot = readFileSync(path.join(vm.folder, 'Web.vmdk'), 'utf8')
      .replace('parentCID=ffffffff', 'parentCID=12345678\nparentFileNameHint="Web.vmdk"')
      .replace('"vmfs"', '"vmfsSparse"');
    writeFileSync(path.join(to, 'Web-000001.vmdk'), snapshot);
    const run = await restore(to, '--assume-off');
    expect(run.status).toBe(5);
    expect(run.stderr).toContain('Web-000001.vmdk is a snapshot of Web.vmdk');
    expect(fileDigest(flat)).toBe(digest);
    expect(namesIn(to)).toEqual(['Web-000001.vmdk', FLAT]);
  });

  const users: [string, (flat: string) => string, RegExp][] = [
    ['has the disk open', (flat) => `exec 3<>'${flat}'; echo ready; read _`, /open for writing/],
    [
      'holds a lock on it',
      (flat) => `exec 3<'${flat}'; flock 3; echo ready; read _`,
      /locked for writing|open for/,
    ],
  ];
  it.each(users)('while a process %s', async (_name, script, how) => {
    const { to, flat } = await spoiled(1);
    const digest = fileDigest(flat);
    const holder = spawn('sh', ['-c', script(flat)], { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = once(holder, 'close');
    try {
      await once(holder.stdout, 'data');
      const run = await restore(to, '--assume-off');
      expect(run.status).toBe(5);
      expect(run.stderr).toMatch(how);
      expect(run.stderr).toContain('stop the VM first');
    } finally {
      holder.stdin.end('\n');
      await ended;
    }
    expect(fileDigest(flat)).toBe(digest);
    expect(namesIn(to)).toEqual([FLAT]);
  });

  it('while a hypervisor has its lock beside the disk', async () => {
    const { to, flat } = await spoiled(1);
    mkdirSync(`${flat}.lck`);
    const run = await restore(to, '--assume-off');
    expect(run.status).toBe(5);
    expect(run.stderr).toContain(`${FLAT}.lck`);
    rmSync(`${flat}.lck`, { recursive: true });
    expect(namesIn(to)).toEqual([FLAT]);
  });

  it('where there is no room for it, with both figures', async () => {
    const to = tale.newFolder();
    mkdirSync(to);
    await systemTool('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', to]);
    try {
      const run = await restore(to);
      expect(run.status).toBe(6);
      expect(linesOf(run, 'error')).toMatchObject([{ code: 'NO_SPACE', archive: full.archive }]);
      expect(run.stderr).toMatch(/has [\d.]+ MB free, the restore needs [\d.]+ MB/);
      expect(namesIn(to)).toEqual([]);
    } finally {
      await systemTool('umount', [to]);
    }
  });

  it('by an archive that is not there, or is no archive', async () => {
    const to = tale.newFolder();
    const gone = await tale.phd(['restore', full.archive.replace('00-Web', '09-Web'), '--to', to]);
    expect(gone.status).toBe(1);
    tale.home.write('one/x', '');
    const stray = await tale.phd(['restore', tale.path('one', 'x'), '--to', to]);
    expect(stray.status).toBe(2);
    expect(stray.stderr).toContain('x is not the name of an archive');
    expect(namesIn(to)).toEqual([]);
  });
});
