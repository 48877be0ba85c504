import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fingerprintChange, sourceFingerprint } from '../../src/datastore/fingerprint.ts';
import { checkInUse, type InUse, type InUseOptions } from '../../src/datastore/in-use.ts';
import { parseVmfsLock } from '../../src/datastore/in-use-vmfs.ts';
import { snapshotsOf } from '../../src/datastore/snapshots.ts';
import { makeExt4Image, makeVmFolder } from '../support/disk-images.ts';
import { needs } from '../support/needs.ts';
import { requirePeer } from '../support/peers.ts';

const isRoot = process.getuid?.() === 0;
const hasLoopDevices = isRoot && existsSync('/dev/loop-control');

let folder: string;
let flat: string;
const children: ChildProcess[] = [];
const cleanups: (() => void)[] = [];

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'phd-in-use-')));
  flat = join(folder, 'a "b"\n-flat.vmdk');
  writeFileSync(flat, '');
  truncateSync(flat, 1024 * 1024);
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }
  rmSync(folder, { recursive: true, force: true });
});

/** Starts a program that prints `ready` once it holds what it shall hold; it lives until the end of the test. */
async function hold(command: string, args: string[]): Promise<ChildProcess> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`${command} ended with ${code}`)));
    child.stdout!.once('data', () => resolve());
  });
  return child;
}

/** A lock by fcntl: command 6 = F_SETLK (POSIX), 37 = F_OFD_SETLK; type 0 = read, 1 = write. */
function holdFcntlLock(command: number, type: number): Promise<ChildProcess> {
  const program = `
    open(my $f, $ARGV[2] ? '+<' : '<', $ARGV[0]) or die;
    fcntl($f, $ARGV[1], pack('ssx4qqlx4', $ARGV[2], 0, 0, 0, 0)) or die "lock: $!";
    $| = 1; print "ready\\n"; <STDIN>;`;
  return hold('perl', ['-e', program, flat, String(command), String(type)]);
}

/** What could not be looked at, but for processes that hide from everybody here (another namespace, no CAP_SYS_PTRACE). */
async function look(paths: string[], options: InUseOptions = {}): Promise<InUse> {
  const { inUse, unknown } = await checkInUse(paths, options);
  return { inUse, unknown: unknown.filter((line) => !line.startsWith('open files of')) };
}

describe('a disk is in use', () => {
  it('by nobody: nothing is reported, and a disk that does not exist leaves nothing unknown', async () => {
    expect(await look([flat])).toEqual({ inUse: [], unknown: [] });
    expect(await checkInUse([join(folder, 'none-flat.vmdk')])).toEqual({ inUse: [], unknown: [] });
  });

  it('not by this process itself, nor by those named as own', async () => {
    const file = await open(flat, 'r+');
    const child = await hold('sh', ['-c', 'exec 3<"$1"; echo ready; read line', 'sh', flat]);
    try {
      expect((await look([flat], { ownPids: [child.pid!] })).inUse).toEqual([]);
    } finally {
      await file.close();
    }
  });

  it.each([
    ['3<"$1"', 'open for reading', true],
    ['3>>"$1"', 'open for writing', false],
    ['3<>"$1"', 'open for writing', false],
  ])('while a process has it open: %s', async (redirection, how, isReadOnly) => {
    const child = await hold('sh', ['-c', `exec ${redirection}; echo ready; read line`, 'sh', flat]);
    const by = `process ${child.pid} (sh)`;
    expect(await look([flat])).toEqual({ inUse: [{ path: flat, how, by, isReadOnly }], unknown: [] });
  });

  it('under another name too', async () => {
    const other = join(folder, 'hard link');
    execFileSync('ln', ['--', flat, other]);
    await hold('sh', ['-c', 'exec 3<"$1"; echo ready; read line', 'sh', other]);
    expect((await look([flat])).inUse).toHaveLength(1);
  });

  it.each([
    ['POSIX', 6, 1, 'locked for writing (POSIX)'],
    ['POSIX read', 6, 0, 'locked for reading (POSIX)'],
    ['OFD', 37, 1, 'locked for writing (OFD)'],
    ['OFD read', 37, 0, 'locked for reading (OFD)'],
  ])('while it is locked: %s', async (_kind, command, type, how) => {
    const child = await holdFcntlLock(command, type);
    const { inUse, unknown } = await look([flat]);
    expect(unknown).toEqual([]);
    const lock = inUse.find((use) => use.how.includes('locked'));
    const by = command === 6 ? `process ${child.pid} (perl)` : 'a process that is not named';
    expect(lock).toEqual({ path: flat, how, by, isReadOnly: type === 0 });
    expect(inUse.map((use) => use.how)).toContain(type === 0 ? 'open for reading' : 'open for writing');
  });

  it('while it is locked: flock', async () => {
    await hold('flock', ['--no-fork', '--exclusive', flat, 'sh', '-c', 'echo ready; read line']);
    expect((await look([flat])).inUse.map((use) => use.how)).toContain('locked for writing (flock)');
  });

  it('but a lock on another file does not count', async () => {
    await holdFcntlLock(6, 1);
    const other = join(folder, 'other-flat.vmdk');
    writeFileSync(other, 'x');
    expect((await checkInUse([other])).inUse).toEqual([]);
  });

  it('while lock or swap files of a hypervisor lie beside it', async () => {
    mkdirSync(`${flat}.lck`);
    writeFileSync(join(folder, '.lck-3404640000000000'), `\0\0\x01esx7.example.org\0\0`);
    writeFileSync(join(folder, 'CRM-1a2b.vswp'), '');
    const { inUse } = await look([flat]);
    expect(inUse.map(({ path }) => path.slice(folder.length + 1)).sort()).toEqual([
      '.lck-3404640000000000',
      'CRM-1a2b.vswp',
      'a "b"\n-flat.vmdk.lck',
    ]);
    expect(inUse.find(({ how }) => how.includes('NFS'))!.by).toBe('host esx7.example.org');
  });

  it('but the lock of another disk beside it does not count', async () => {
    mkdirSync(join(folder, 'other.vmdk.lck'));
    expect((await look([flat])).inUse).toEqual([]);
  });

  it('says what an ordinary user cannot see', async () => {
    if (isRoot) {
      execFileSync('chmod', ['0755', folder]);
      process.seteuid!(65534);
      cleanups.push(() => process.seteuid!(0));
    }
    const { unknown } = await checkInUse([flat]);
    expect(unknown).toEqual([
      expect.stringMatching(/^open files of (process \d+.*|\d+ processes) cannot be seen by this user$/),
    ]);
  });
});

describe.runIf(needs(hasLoopDevices, 'root and loop devices'))(
  'a disk is in use by the kernel (root and loop devices needed)',
  () => {
    function attach(...options: string[]): string {
      const device = execFileSync('losetup', ['--find', '--show', ...options, flat], {
        encoding: 'utf8',
      }).trim();
      cleanups.push(() => execFileSync('losetup', ['--detach', device]));
      return device;
    }

    it.each([
      [[], false],
      [['--read-only'], true],
    ])('attached to a loop device %j', async (options, isReadOnly) => {
      const device = attach(...options);
      expect((await look([flat])).inUse).toEqual([
        { path: flat, how: 'attached as a loop device', by: device, isReadOnly },
      ]);
    });

    it('mounted, whether asked for the image or for its device', async () => {
      await makeExt4Image(flat, 8 * 1024 * 1024, 'mounted');
      const device = attach();
      const mountPoint = join(folder, 'mount point');
      mkdirSync(mountPoint);
      execFileSync('mount', ['-t', 'ext4', device, mountPoint]);
      cleanups.push(() => execFileSync('umount', [mountPoint]));
      const mounted = { how: 'mounted', by: mountPoint, isReadOnly: false };
      expect((await look([flat])).inUse).toContainEqual({ path: flat, ...mounted });
      expect((await checkInUse([device])).inUse).toContainEqual({ path: device, ...mounted });
    });

    it('opened as a device by a process', async () => {
      const device = attach();
      const child = await hold('sh', ['-c', 'exec 3<"$1"; echo ready; read line', 'sh', device]);
      expect((await checkInUse([device])).inUse).toEqual([
        { path: device, how: 'open for reading', by: `process ${child.pid} (sh)`, isReadOnly: true },
      ]);
    });
  },
);

describe('VMFS locks', () => {
  it.each([
    [
      'locked in exclusive mode',
      "is locked in Exclusive mode by host having mac address ['00:50:56:03:3E:f1']",
      false,
    ],
    ['locked read-only', 'is locked in read-only mode by host 00:50:56:03:3e:f1', true],
    ['multi-writer', 'Multi-Writer 00:50:56:03:3e:f1', false],
  ])('%s', (_what, answer, isReadOnly) => {
    expect(parseVmfsLock('x', answer)).toMatchObject({ by: 'host with MAC 00:50:56:03:3e:f1', isReadOnly });
  });

  it('not locked, or not understood', () => {
    expect(parseVmfsLock('x', 'File x is not locked by any ESX host')).toBeNull();
    expect(parseVmfsLock('x', 'something else')).toBeUndefined();
  });

  it.each([
    ['echo "$2 is locked in Exclusive mode by 00:50:56:03:3e:f1"', 1, 0],
    ['echo "not locked by any ESX host"', 0, 0],
    ['echo "what?"', 0, 1],
    ['exit 3', 0, 1],
  ])('are asked of the program where it exists: %s', async (body, inUseCount, unknownCount) => {
    writeFileSync(join(folder, 'vmfsfilelockinfo'), `#!/bin/sh\n[ "$1" = -p ] || exit 9\n${body}\n`, {
      mode: 0o755,
    });
    const { inUse, unknown } = await look([flat], { programPath: `/nonexistent:${folder}` });
    expect([inUse.length, unknown.length]).toEqual([inUseCount, unknownCount]);
  });
});

describe('snapshots of a disk', () => {
  it('are found by the parent they name, embedded or beside, and by name if unreadable', async () => {
    const vm = await makeVmFolder(folder, {
      vmName: 'CRM',
      disks: [
        { name: 'CRM.vmdk', sizeBytes: 65_536 },
        { name: 'CRM_1.vmdk', sizeBytes: 65_536 },
      ],
    });
    const qemuImg = await requirePeer('qemu-img');
    const args = ['create', '-q', '-f', 'vmdk', '-b', 'CRM.vmdk', '-F', 'vmdk', 'before update.vmdk'];
    execFileSync(qemuImg.path, args, { env: qemuImg.env, cwd: vm.folder });
    writeFileSync(join(vm.folder, 'CRM-000002.vmdk'), 'KDMV');
    expect(await snapshotsOf(vm.folder, 'CRM.vmdk')).toEqual(['CRM-000002.vmdk', 'before update.vmdk']);
    expect(await snapshotsOf(vm.folder, 'CRM_1.vmdk')).toEqual([]);
    expect(await snapshotsOf(join(folder, 'none'), 'CRM.vmdk')).toEqual([]);
  });
});

describe('a source that changes', () => {
  it('shows in size, times or inode', async () => {
    const before = await sourceFingerprint(flat);
    expect(fingerprintChange(before, await sourceFingerprint(flat))).toBeNull();
    truncateSync(flat, 512);
    expect(fingerprintChange(before, await sourceFingerprint(flat))).toBe(
      'its size changed from 1048576 to 512 bytes',
    );
    const smaller = await sourceFingerprint(flat);
    writeFileSync(flat, Buffer.alloc(512, 1), { flag: 'r+' });
    expect(fingerprintChange(smaller, await sourceFingerprint(flat))).toBe('it was written to');
    const other = join(folder, 'other');
    writeFileSync(other, Buffer.alloc(512, 1));
    execFileSync('mv', ['--', other, flat]);
    expect(fingerprintChange(smaller, await sourceFingerprint(flat))).toBe(
      'the file was replaced by another',
    );
    await expect(sourceFingerprint(join(folder, 'none'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
