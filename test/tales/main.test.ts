/** The main tale: a VM is backed up, changed, backed up again, lost, and restored bit for bit. */
import { copyFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeExt4Image, makeVfatImage, randomLooking, type TestVm } from '../support/disk-images.ts';
import { requirePeer } from '../support/peers.ts';
import { type BackedUp, linesOf, MIB, type Restored, systemTool, Tale, tool } from './tale.ts';

let tale: Tale;
let vm: TestVm;
let fulls: BackedUp[];
let deltas: BackedUp[];
let restored: Restored[];
let back: string;
const kept = (name: string): string => tale.path('kept', name);

beforeAll(async () => {
  tale = new Tale();
  back = tale.newFolder();
  vm = await tale.makeVm('CRM', [
    { name: 'CRM.vmdk', sizeBytes: 24 * MIB, content: 'ext4' },
    { name: 'CRM_1.vmdk', sizeBytes: 16 * MIB, content: 'vfat' },
  ]);
});
afterAll(() => tale.remove());

async function changeDisks(): Promise<void> {
  const [first, second] = vm.disks;
  await makeExt4Image(first?.flatPath ?? '', 24 * MIB, 'the next day');
  await makeVfatImage(second?.flatPath ?? '', 16 * MIB, 'the next day');
  const flat = await open(second?.flatPath ?? '', 'r+');
  await flat.write(randomLooking('free clusters', 300_000), 0, 300_000, 9 * MIB);
  await flat.close();
}

function keepCopies(): void {
  mkdirSync(kept(''));
  for (const name of ['CRM.vmdk', 'CRM-flat.vmdk', 'CRM_1.vmdk', 'CRM_1-flat.vmdk', 'CRM.vmx', 'CRM.nvram'])
    copyFileSync(path.join(vm.folder, name), kept(name));
}

describe('A VM with an ext4 and a FAT disk', () => {
  it('is backed up as FULLs, each with its empty DELTA, in one folder of one run', async () => {
    const result = await tale.backup(vm.folder);
    fulls = result.disks;
    // What cannot be looked at is said; everything else would be a fault.
    for (const line of result.run.stderr.trim().split('\n'))
      expect(line).toMatch(
        /^($|phd: .*cannot be seen by this user: if it writes .* --assume-off takes the VM as off$)/,
      );
    expect(fulls.map(({ disk, mode }) => [disk, mode])).toEqual([
      ['CRM.vmdk', 'full'],
      ['CRM_1.vmdk', 'full'],
    ]);
    expect(new Set(fulls.map(({ runId }) => runId)).size).toBe(1);
    const names = tale.filesOn('one');
    const folder = new RegExp(`^\\d{4}\\.\\d\\d\\.\\d\\d-CRM\\.${fulls[0]?.uuid}\\.FULL/`);
    expect(names).toHaveLength(4);
    for (const name of names) expect(name).toMatch(folder);
    expect(
      names.map((name) =>
        path
          .basename(name)
          .replace(/\d{4}\.\d\d\.\d\d-\d{4}/, 'D')
          .replaceAll(/\d{6}-\d{4}/g, 'T'),
      ),
    ).toEqual([
      '00-CRM.vmdk.delta-D-T.phd',
      '00-CRM.vmdk.gz-T.phd',
      '01-CRM_1.vmdk.delta-D-T.phd',
      '01-CRM_1.vmdk.gz-T.phd',
    ]);
  });

  it('is changed, and the next backup is a DELTA that grows with what changed', async () => {
    await changeDisks();
    keepCopies();
    deltas = (await tale.backup(vm.folder)).disks;
    expect(deltas.map(({ mode }) => mode)).toEqual(['delta', 'delta']);
    for (const [at, delta] of deltas.entries()) {
      expect(delta.full).toBe(fulls[at]?.full);
      expect(delta.changedBlocks).toBeGreaterThan(0);
      expect(delta.changedBlocks).toBeLessThan(20);
    }
  });

  it('is lost, and the index of the target lists all that is there', async () => {
    rmSync(vm.folder, { recursive: true });
    expect((await tale.phd(['index'])).status).toBe(0);
    const rows = linesOf(await tale.phd(['list', '--vm', 'crm', '--json']));
    expect(rows.map(({ disk, mode }) => `${disk} ${mode}`).sort()).toEqual([
      'CRM.vmdk delta',
      'CRM.vmdk delta',
      'CRM.vmdk full',
      'CRM_1.vmdk delta',
      'CRM_1.vmdk delta',
      'CRM_1.vmdk full',
    ]);
    expect(rows.map(({ target, path: place }) => `${target}:${place}`)).toEqual(
      expect.arrayContaining([...fulls.map((one) => one.full), ...deltas.map((one) => one.archive)]),
    );
  });

  it('is restored whole by its name, with VMX, read again and compared', async () => {
    const result = await tale.restore(['--vm', 'CRM', '--to', back, '--vmx', '--verify']);
    restored = result.disks;
    expect(restored.map(({ disk, verified, unproved }) => ({ disk, verified, unproved }))).toEqual([
      { disk: 'CRM.vmdk', verified: true, unproved: false },
      { disk: 'CRM_1.vmdk', verified: true, unproved: false },
    ]);
    for (const [at, one] of restored.entries()) {
      expect(one.archive).toBe(deltas[at]?.archive);
      expect(one.fromFull + one.fromDelta + one.zero).toBe(one.totalBlocks);
      expect(one.fromDelta).toBeGreaterThan(0);
    }
  });

  it('has, bit for bit, the disks of its last backup, as cmp and qemu-img compare see it', async () => {
    for (const name of ['CRM-flat.vmdk', 'CRM_1-flat.vmdk']) {
      await systemTool('cmp', [kept(name), path.join(back, name)]);
      const verdict = await tool('qemu-img', [
        'compare',
        '-f',
        'raw',
        '-F',
        'raw',
        kept(name),
        path.join(back, name),
      ]);
      expect(verdict.toString()).toContain('Images are identical');
    }
  });

  it('has file systems that fsck finds clean', async () => {
    const mkfs = await requirePeer('mkfs.ext4');
    const fsck = path.join(path.dirname(mkfs.path), 'fsck.ext4');
    await systemTool(fsck, ['-fn', path.join(back, 'CRM-flat.vmdk')], mkfs.env);
    await tool('fsck.vfat', ['-n', path.join(back, 'CRM_1-flat.vmdk')]);
  });

  it('has its own descriptors, VMX and NVRAM again', () => {
    for (const name of ['CRM.vmdk', 'CRM_1.vmdk', 'CRM.vmx', 'CRM.nvram'])
      expect(readFileSync(path.join(back, name)).equals(readFileSync(kept(name))), name).toBe(true);
  });

  it('gets only the extent line of a descriptor changed when a disk takes another name', async () => {
    const to = tale.newFolder();
    await tale.restore([deltas[0]?.archive ?? '', '--to', to, '--name', 'Copy of CRM.vmdk']);
    const before = readFileSync(kept('CRM.vmdk'), 'utf8').split('\n');
    const after = readFileSync(path.join(to, 'Copy of CRM.vmdk'), 'utf8').split('\n');
    const changed = after.filter((line, at) => line !== before[at]);
    expect(after).toHaveLength(before.length);
    expect(changed).toEqual([`RW ${(24 * MIB) / 512} VMFS "Copy of CRM-flat.vmdk"`]);
    expect(after).toContain('# A comment that must survive');
    await systemTool('cmp', [kept('CRM-flat.vmdk'), path.join(to, 'Copy of CRM-flat.vmdk')]);
  });

  it('verifies: its archives, and the restored disk against its archive', async () => {
    const words = [...fulls.flatMap((one) => [one.full, one.archive]), ...deltas.map((one) => one.archive)];
    expect((await tale.phd(['verify', ...words])).status).toBe(0);
    const rows = linesOf(await tale.phd(['list', '--json']));
    expect(rows.map((row) => row.verifyResult)).toEqual(Array(6).fill('good'));
    const flat = path.join(back, 'CRM-flat.vmdk');
    const against = ['--against', deltas[0]?.archive ?? ''];
    expect((await tale.phd(['verify', '--disk', flat, ...against])).status).toBe(0);
    const image = await open(flat, 'r+');
    await image.write('x', 5 * 262_144 + 17);
    await image.close();
    const bad = await tale.phd(['verify', '--disk', flat, ...against]);
    expect(bad.status).toBe(3);
    expect(bad.stderr).toContain('block 5 (byte 1310720)');
  });

  it('gives a stub that qemu-img reads together with its flat', async () => {
    const folder = tale.newFolder();
    mkdirSync(folder);
    const flat = path.join(folder, 'CRM-flat.vmdk');
    copyFileSync(kept('CRM-flat.vmdk'), flat);
    expect((await tale.phd(['stub', flat, '--type', 'monolithicFlat'])).status).toBe(0);
    const stub = path.join(folder, 'CRM.vmdk');
    const info = JSON.parse((await tool('qemu-img', ['info', '--output=json', stub])).toString());
    expect(info).toMatchObject({
      format: 'vmdk',
      'virtual-size': 24 * MIB,
      'format-specific': { data: { 'create-type': 'monolithicFlat' } },
    });
    const raw = path.join(folder, 'converted.raw');
    await tool('qemu-img', ['convert', '-f', 'vmdk', '-O', 'raw', stub, raw]);
    await systemTool('cmp', [kept('CRM-flat.vmdk'), raw]);
  });
});
