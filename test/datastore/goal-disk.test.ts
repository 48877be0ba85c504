import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { deviceSizeBytes } from '../../src/datastore/block-device.ts';
import {
  createNewFile,
  OPEN_DEVICE_FLAGS,
  OPEN_EXISTING_FLAGS,
  planGoal,
  renameDurably,
  syncFolder,
  writeNewFile,
} from '../../src/datastore/goal-disk.ts';
import { makeExt4Image, makeVfatImage } from '../support/disk-images.ts';
import { needs } from '../support/needs.ts';
import { requirePeer } from '../support/peers.ts';

const hasLoopDevices = process.getuid?.() === 0 && existsSync('/dev/loop-control');

let folder: string;
const cleanups: (() => void)[] = [];
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'phd-goal-')));
});
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
  rmSync(folder, { recursive: true, force: true });
});

const goal = (change: Partial<Parameters<typeof planGoal>[0]> = {}) =>
  planGoal({ folder, diskName: 'CRM.vmdk', diskBytes: 1024, isRawImage: false, ...change });

describe('the goal of a restore', () => {
  it('names flat, descriptor and work file, and changes nothing', async () => {
    expect(await goal()).toMatchObject({
      folder,
      folderExists: true,
      flatName: 'CRM-flat.vmdk',
      flatPath: join(folder, 'CRM-flat.vmdk'),
      descriptorName: 'CRM.vmdk',
      descriptorPath: join(folder, 'CRM.vmdk'),
      partPath: join(folder, 'CRM-flat.vmdk.part'),
      existing: null,
      hasDescriptor: false,
      hasPart: false,
    });
    expect(readdirSync(folder)).toEqual([]);
  });

  it('for a raw image keeps its name and has no descriptor', async () => {
    expect(await goal({ diskName: 'disk one.img', isRawImage: true })).toMatchObject({
      flatName: 'disk one.img',
      descriptorName: null,
      descriptorPath: null,
      partPath: join(folder, 'disk one.img.part'),
    });
  });

  it('may be a folder that does not exist yet: the room is that of its parent', async () => {
    const plan = await goal({ folder: join(folder, 'new', 'deeper') });
    const { bavail, bsize } = statfsSync(folder);
    expect(plan.folderExists).toBe(false);
    expect(Math.abs(plan.freeBytes - bavail * bsize)).toBeLessThan(4 * 1024 ** 3);
    expect(plan.freeBytes).toBeGreaterThan(0);
  });

  it('shows what is there: disk with its size, descriptor, work file', async () => {
    for (const name of ['CRM-flat.vmdk', 'CRM.vmdk', 'CRM-flat.vmdk.part'])
      writeFileSync(join(folder, name), 'x');
    truncateSync(join(folder, 'CRM-flat.vmdk'), 4_096);
    expect(await goal()).toMatchObject({
      existing: { kind: 'file', sizeBytes: 4_096, isHeld: false },
      hasDescriptor: true,
      hasPart: true,
    });
  });

  it.each([
    ['../x.vmdk', 'USAGE'],
    ['a/b.vmdk', 'USAGE'],
    ['..', 'USAGE'],
    ['', 'USAGE'],
    ['a\u001b[2J.vmdk', 'USAGE'],
    ['CRM.dsk', 'USAGE'],
    [`${'x'.repeat(250)}.vmdk`, 'USAGE'],
  ])('refuses the name %j', async (diskName, code) => {
    await expect(goal({ diskName })).rejects.toMatchObject({ code });
  });

  it('refuses a link under the name of the flat, and a folder that is none', async () => {
    symlinkSync('/etc/passwd', join(folder, 'CRM-flat.vmdk'));
    await expect(goal()).rejects.toMatchObject({
      code: 'EXISTS',
      message: expect.stringContaining('symbolic link'),
    });
    writeFileSync(join(folder, 'file'), '');
    await expect(goal({ folder: join(folder, 'file') })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe.runIf(needs(hasLoopDevices, 'root and loop devices'))(
  'a device as goal (root and loop devices needed)',
  () => {
    const sizeBytes = 8 * 1024 * 1024;
    let device: string;

    beforeEach(async () => {
      const image = join(folder, 'image');
      await makeExt4Image(image, sizeBytes, 'device');
      device = execFileSync('losetup', ['--find', '--show', image], { encoding: 'utf8' }).trim();
      cleanups.push(() => execFileSync('losetup', ['--detach', device]));
    });

    const deviceGoal = (diskBytes: number) =>
      planGoal({ folder: dirname(device), diskName: basename(device), diskBytes, isRawImage: true });

    it('is written in place, if its size is that of the disk', async () => {
      expect(await deviceSizeBytes(device)).toBe(sizeBytes);
      expect(await deviceGoal(sizeBytes)).toMatchObject({
        partPath: null,
        existing: { kind: 'device', sizeBytes, isHeld: false },
      });
      const opened = await open(device, OPEN_DEVICE_FLAGS);
      await opened.close();
    });

    it('of another size is refused with both figures', async () => {
      await expect(deviceGoal(sizeBytes + 512)).rejects.toMatchObject({
        code: 'EXISTS',
        message: expect.stringMatching(/8388608 bytes.*8389120/),
      });
    });

    it('that is mounted is refused', async () => {
      const mountPoint = join(folder, 'mount');
      mkdirSync(mountPoint);
      execFileSync('mount', ['-t', 'ext4', device, mountPoint]);
      cleanups.push(() => execFileSync('umount', [mountPoint]));
      await expect(deviceGoal(sizeBytes)).rejects.toMatchObject({ code: 'LOCKED' });
      await expect(open(device, OPEN_DEVICE_FLAGS)).rejects.toMatchObject({ code: 'EBUSY' });
    });
  },
);

describe('durable files', () => {
  it('are created only where nothing was, for their owner alone', async () => {
    const path = join(folder, 'a');
    await (await createNewFile(path)).close();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await expect(createNewFile(path)).rejects.toMatchObject({ code: 'EXISTS' });
    symlinkSync('target', join(folder, 'link'));
    await expect(createNewFile(join(folder, 'link'))).rejects.toMatchObject({ code: 'EXISTS' });
    expect(existsSync(join(folder, 'target'))).toBe(false);
    await expect(createNewFile(join(folder, 'none', 'a'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('are not opened through a link', async () => {
    writeFileSync(join(folder, 'a'), 'x');
    symlinkSync('a', join(folder, 'link'));
    await expect(open(join(folder, 'link'), OPEN_EXISTING_FLAGS)).rejects.toMatchObject({ code: 'ELOOP' });
  });

  it('replace another file only if asked to', async () => {
    const [from, to] = [join(folder, 'from'), join(folder, 'to')];
    writeFileSync(from, 'new');
    writeFileSync(to, 'old');
    await expect(renameDurably(from, to, { replace: false })).rejects.toMatchObject({ code: 'EXISTS' });
    expect([readFileSync(from, 'utf8'), readFileSync(to, 'utf8')]).toEqual(['new', 'old']);
    await renameDurably(from, to, { replace: true });
    expect([existsSync(from), readFileSync(to, 'utf8')]).toEqual([false, 'new']);
    await renameDurably(to, from, { replace: false });
    expect([existsSync(to), readFileSync(from, 'utf8')]).toEqual([false, 'new']);
  });

  it('are written whole under their name, or not at all', async () => {
    await writeNewFile(join(folder, 'a'), Buffer.from('content'));
    expect(readFileSync(join(folder, 'a'), 'utf8')).toBe('content');
    await expect(writeNewFile(join(folder, 'a'), Buffer.from('x'))).rejects.toMatchObject({ code: 'EXISTS' });
    expect(readdirSync(folder)).toEqual(['a']);
    await expect(syncFolder(join(folder, 'none'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('images for tests', () => {
  it('hold file systems that are clean', async () => {
    const image = join(folder, 'image');
    await makeExt4Image(image, 8 * 1024 * 1024, 'seed');
    const ext4 = await requirePeer('mkfs.ext4');
    execFileSync(join(dirname(ext4.path), 'e2fsck'), ['-fn', image], { env: ext4.env, stdio: 'pipe' });
    await makeVfatImage(image, 4 * 1024 * 1024, 'seed');
    const vfat = await requirePeer('fsck.vfat');
    execFileSync(vfat.path, ['-n', image], { env: vfat.env, stdio: 'pipe' });
  });
});
