/** What cannot be backed up as it stands is refused by name, and the rest of the VM goes on. */
import { appendFileSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { randomLooking } from '../support/disk-images.ts';
import { BLOCK, fileDigest, linesOf, MIB, namesIn, only, Tale, tool, until } from './tale.ts';

let tale: Tale;
afterEach(() => tale.remove());

describe('A VM of which one disk is plain, the others not', () => {
  it('is backed up in part: each other disk is named with its reason, the run is never taken as whole', async () => {
    tale = new Tale();
    const vm = await tale.makeVm(
      'Mixed',
      ['Good', 'Split', 'Raw', 'Sparse', 'Snap'].map((name) => ({ name: `${name}.vmdk`, sizeBytes: MIB })),
    );
    const edit = (name: string, change: (text: string) => string): void => {
      const file = path.join(vm.folder, `${name}.vmdk`);
      writeFileSync(file, change(readFileSync(file, 'utf8')));
    };
    const extent = /^RW .*$/m;
    edit('Snap', (text) => text.replace('parentCID=ffffffff', 'parentCID=a1b2c3d4'));
    edit('Raw', (text) =>
      text
        .replace('createType="vmfs"', 'createType="vmfsRawDeviceMap"')
        .replace(extent, 'RW 2048 VMFSRDM "Raw-rdm.vmdk"'),
    );
    edit('Split', (text) =>
      text
        .replace('createType="vmfs"', 'createType="twoGbMaxExtentFlat"')
        .replace(extent, 'RW 1024 FLAT "Split-f001.vmdk" 0\nRW 1024 FLAT "Split-f002.vmdk" 0'),
    );
    await tool('qemu-img', ['create', '-q', '-f', 'vmdk', path.join(vm.folder, 'Sparse.vmdk'), '1M']);

    const { run, disks } = await tale.backup(vm.folder, [], 1);
    expect(disks.map(({ disk, mode }) => [disk, mode])).toEqual([['Good.vmdk', 'full']]);
    const errors = linesOf(run, 'error');
    expect(errors.map(({ disk, code }) => [disk, code])).toEqual(
      ['Split', 'Raw', 'Sparse', 'Snap'].map((name) => [`${name}.vmdk`, 'SOURCE_UNSUPPORTED']),
    );
    const reasons = errors.map(({ message }) => String(message)).join('\n');
    expect(reasons).toMatch(/Split.vmdk cannot be backed up: .*(split|extent)/);
    expect(reasons).toMatch(/Raw.vmdk cannot be backed up: .*raw/i);
    expect(reasons).toMatch(/Sparse.vmdk cannot be backed up: .*sparse/i);
    expect(reasons).toMatch(/Snap.vmdk cannot be backed up: .*snapshot/);

    const to = tale.newFolder();
    const whole = await tale.phd(['restore', '--vm', 'Mixed', '--to', to]);
    expect(whole.status).toBe(1);
    expect(whole.stderr).toMatch(/is not taken: disks missing: .*Split\.vmdk/);
    expect(namesIn(to)).toEqual([]);
    await tale.restore([only(disks).archive, '--to', to]);
    expect(fileDigest(path.join(to, 'Good-flat.vmdk'))).toBe(fileDigest(vm.disks[0]?.flatPath ?? ''));
  });

  it('without any disk at all it is said so', async () => {
    tale = new Tale();
    const run = await tale.phd(['backup', tale.home.folder('vmfs/Empty'), '--json']);
    expect(run.status).toBe(1);
    expect(run.stderr).toContain('holds no virtual disk');
  });
});

describe('A disk that changes while it is read', () => {
  it.each(['in its content', 'back and forth in its content, its times set back', 'in its size'])(
    '%s is noticed, and nothing bears a final name',
    async (how) => {
      tale = new Tale();
      const vm = await tale.makeVm('Busy', [{ name: 'Busy.vmdk', sizeBytes: 4 * MIB }]);
      const flat = vm.disks[0]?.flatPath ?? '';
      // All sixteen blocks are noise, so that the backup lasts, and all are read a second time at its end.
      writeFileSync(flat, randomLooking('busy', 4 * MIB));
      tale.home.writeConfig(`targets:
  - { number: 1, name: one, transport: vmfs, path: one, bandwidthLimitBytesPerSecond: 2000000 }
`);
      const before = new Date(Date.now() - 3_600_000);
      utimesSync(flat, before, before);
      const running = tale.phd(['backup', vm.folder, '--json']);
      await until(() => tale.filesOn('one').length > 0);
      if (how === 'in its size') appendFileSync(flat, 'x');
      else writeFileSync(flat, randomLooking('busy'.repeat(2), BLOCK), { flag: 'r+' });
      if (how.startsWith('back')) utimesSync(flat, before, before);
      const run = await running;
      expect(run.status).toBe(1);
      expect(linesOf(run, 'error')).toMatchObject([{ disk: 'Busy.vmdk', code: 'SOURCE_CHANGED' }]);
      expect(run.stderr).toContain('disk Busy.vmdk changed while it was read');
      expect(tale.filesOn('one')).toEqual([]);
    },
  );
});
