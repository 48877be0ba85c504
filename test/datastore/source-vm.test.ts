import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSourceVm, type SourceVm } from '../../src/datastore/source-vm.ts';
import { makePatternImage, makeVmFolder, type TestVm } from '../support/disk-images.ts';
import { requirePeer } from '../support/peers.ts';

let datastore: string;
let vm: TestVm;

beforeEach(async () => {
  datastore = realpathSync(mkdtempSync(join(tmpdir(), 'phd-source-')));
  vm = await makeVmFolder(datastore, {
    vmName: 'CRM "new" $(x)',
    displayName: 'CRM of ü',
    uuidBios: '56 4d 12 2a 0e d7 3b 92-2f 46 ae e9 45 6b 20 74',
    disks: [
      { name: 'CRM.vmdk', sizeBytes: 300 * 512 },
      { name: 'data.vmdk', sizeBytes: 2 * 512, slot: 'scsi0:12' },
    ],
  });
});
afterEach(() => rmSync(datastore, { recursive: true, force: true }));

const open = (folder = vm.folder, images: string[] = []) => openSourceVm(folder, 'esx1', images);
const diskNames = (source: SourceVm) => source.disks.map(({ scsiId, name }) => `${scsiId}-${name}`);
const refusals = (source: SourceVm) =>
  source.refused.map(({ disk, error }) => `${disk} ${error.code} ${error.message}`);

function edit(file: string, from: string | RegExp, to: string): void {
  const text = readFileSync(file, 'utf8');
  const changed = text.replace(from, to);
  expect(changed).not.toBe(text);
  writeFileSync(file, changed);
}

describe('a VM folder', () => {
  it('gives names, UUID, disks and files', async () => {
    const source = await open();
    expect(source).toMatchObject({
      folder: vm.folder,
      vmName: 'CRM "new" $(x)',
      displayName: 'CRM of ü',
      uuid: '564d122a-0ed7-3b92-2f46-aee9456b2074',
      refused: [],
      notices: [],
    });
    expect(source.disks).toEqual([
      {
        scsiId: '00',
        name: 'CRM.vmdk',
        flatPath: join(vm.folder, 'CRM-flat.vmdk'),
        descriptorPath: join(vm.folder, 'CRM.vmdk'),
        descriptorText: readFileSync(join(vm.folder, 'CRM.vmdk'), 'utf8'),
        sizeBytes: 300 * 512,
        createType: 'vmfs',
        adapterType: 'lsilogic',
      },
      expect.objectContaining({ scsiId: '012', name: 'data.vmdk', sizeBytes: 1024 }),
    ]);
    expect(source.files.map(({ kind, name }) => `${kind} ${name}`)).toEqual([
      'vmx CRM "new" $(x).vmx',
      'vmxf CRM "new" $(x).vmxf',
      'vmsd CRM "new" $(x).vmsd',
      'nvram CRM "new" $(x).nvram',
      'log vmware-1.log',
      'log vmware.log',
      'descriptor CRM.vmdk',
      'descriptor data.vmdk',
    ]);
    expect(source.files.find(({ name }) => name === 'vmware.log')!.sizeBytes).toBe(60_000);
  });

  it('without a UUID gets the same one each time, from host and path', async () => {
    edit(vm.vmxPath, /uuid\.bios.*\n/, '');
    const { uuid } = await open();
    expect(uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-/);
    expect((await open()).uuid).toBe(uuid);
    expect((await openSourceVm(vm.folder, 'esx2')).uuid).not.toBe(uuid);
  });

  it('that is missing, or a file, is an error', async () => {
    await expect(open(join(datastore, 'none'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(open(vm.vmxPath)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('with several VMX files uses the one of its own name, else refuses with their names', async () => {
    writeFileSync(join(vm.folder, 'other.vmx'), 'displayName = "other"\n');
    expect((await open()).displayName).toBe('CRM of ü');
    renameSync(vm.vmxPath, join(vm.folder, 'third.vmx'));
    await expect(open()).rejects.toMatchObject({
      code: 'SOURCE_UNSUPPORTED',
      message: expect.stringContaining('other.vmx, third.vmx'),
    });
  });

  it('with an encrypted VMX, which names no disk, is refused for that', async () => {
    writeFileSync(
      vm.vmxPath,
      '.encoding = "UTF-8"\nencryption.keySafe = "vmware:key/x"\nencryption.data = "y"\n',
    );
    await expect(open()).rejects.toMatchObject({
      code: 'SOURCE_UNSUPPORTED',
      message: expect.stringContaining('is encrypted'),
    });
  });

  it('leaves out what is too large or leads elsewhere, and says so', async () => {
    truncateSync(join(vm.folder, 'vmware.log'), 16 * 1024 * 1024 + 1);
    symlinkSync('/etc/passwd', join(vm.folder, 'evil.log'));
    const source = await open();
    expect(source.files.map(({ name }) => name)).not.toContain('vmware.log');
    expect(source.notices).toEqual([
      expect.stringMatching(/^evil\.log is left out.*leaves its folder/),
      expect.stringMatching(/^vmware\.log is left out: 16777217 bytes/),
    ]);
  });

  it('names settings that stand twice', async () => {
    appendFileSync(vm.vmxPath, 'displayName = "two"\n');
    expect((await open()).notices[0]).toContain('displayname more than once');
  });
});

describe('a disk is refused by name, the others stay', () => {
  it.each<[string, () => void, RegExp]>([
    [
      'snapshot by parent CID',
      () => edit(crm(), 'parentCID=ffffffff', 'parentCID=12345678'),
      /snapshot \(parentCID/,
    ],
    ['vmfsSparse', () => edit(crm(), '"vmfs"', '"vmfsSparse"'), /vmfsSparse/],
    ['split', () => edit(crm(), /(RW .*\n)/, '$1$1'), /split \(2 extents\)/],
    ['raw-mapped', () => edit(crm(), '"vmfs"', '"vmfsRDMP"'), /raw-mapped/],
    ['size', () => truncateSync(join(vm.folder, 'CRM-flat.vmdk'), 512), /153600 bytes, its flat has 512/],
    ['missing flat', () => rmSync(join(vm.folder, 'CRM-flat.vmdk')), /its flat .*CRM-flat\.vmdk is missing/],
    ['missing descriptor', () => rmSync(crm()), /no such file/],
    ['hostile extent', () => edit(crm(), 'CRM-flat.vmdk', '../../etc/shadow'), /not a file beside it/],
    ['broken descriptor', () => edit(crm(), 'version=1', 'version=9'), /version/],
    ['folder for a flat', () => flatBecomesFolder(), /not a regular file/],
    ['a flat that is a link out', () => flatBecomesLink(), /symbolic link that leaves its folder/],
    [
      'a descriptor that is a link out',
      () => descriptorBecomesLink(),
      /symbolic link that leaves its folder/,
    ],
    [
      'a flat named by the VMX',
      () => edit(vm.vmxPath, '"CRM.vmdk"', '"CRM-flat.vmdk"'),
      /neither a descriptor/,
    ],
    [
      'a path of another system',
      () => edit(vm.vmxPath, '"CRM.vmdk"', '"C:\\vms\\CRM.vmdk"'),
      /another system/,
    ],
    [
      'an empty flat, whose extent has no sectors',
      () => {
        edit(crm(), 'RW 300 ', 'RW 0 ');
        truncateSync(join(vm.folder, 'CRM-flat.vmdk'), 0);
      },
      /it is empty/,
    ],
  ])('%s', async (_what, spoil, reason) => {
    spoil();
    const source = await open();
    expect(diskNames(source)).toEqual(['012-data.vmdk']);
    expect(source.refused).toHaveLength(1);
    expect(refusals(source)[0]).toMatch(/CRM.* SOURCE_UNSUPPORTED /);
    expect(refusals(source)[0]).toMatch(reason);
  });

  function crm(): string {
    return join(vm.folder, 'CRM.vmdk');
  }
  function flatBecomesFolder(): void {
    rmSync(join(vm.folder, 'CRM-flat.vmdk'));
    mkdirSync(join(vm.folder, 'CRM-flat.vmdk'));
  }
  function flatBecomesLink(): void {
    renameSync(join(vm.folder, 'CRM-flat.vmdk'), join(datastore, 'elsewhere'));
    symlinkSync('../elsewhere', join(vm.folder, 'CRM-flat.vmdk'));
  }
  function descriptorBecomesLink(): void {
    renameSync(crm(), join(datastore, 'descriptor'));
    symlinkSync('../descriptor', crm());
  }

  it.each(['monolithicSparse', 'streamOptimized'])('%s, as qemu-img makes it', async (subformat) => {
    const qemuImg = await requirePeer('qemu-img');
    const flat = join(vm.folder, 'CRM-flat.vmdk');
    const output = join(datastore, 'sparse.vmdk');
    const args = ['convert', '-f', 'raw', '-O', 'vmdk', '-o', `subformat=${subformat}`, flat, output];
    execFileSync(qemuImg.path, args, { env: qemuImg.env });
    renameSync(output, join(vm.folder, 'CRM.vmdk'));
    const source = await open();
    expect(diskNames(source)).toEqual(['012-data.vmdk']);
    expect(refusals(source)).toEqual([
      expect.stringContaining(`CRM.vmdk cannot be backed up: it is sparse (${subformat})`),
    ]);
  });

  it.each(['twoGbMaxExtentFlat', 'twoGbMaxExtentSparse'])('%s, as qemu-img makes it', async (subformat) => {
    const qemuImg = await requirePeer('qemu-img');
    rmSync(join(vm.folder, 'CRM.vmdk'));
    const flat = join(vm.folder, 'CRM-flat.vmdk');
    const args = [
      'convert',
      '-f',
      'raw',
      '-O',
      'vmdk',
      '-o',
      `subformat=${subformat}`,
      flat,
      join(vm.folder, 'CRM.vmdk'),
    ];
    execFileSync(qemuImg.path, args, { env: qemuImg.env });
    const source = await open();
    expect(diskNames(source)).toEqual(['012-data.vmdk']);
    expect(refusals(source)).toHaveLength(1);
    expect(refusals(source)[0]).toMatch(/CRM\.vmdk cannot be backed up: it is (split|sparse)/);
  });

  it('a snapshot that the VMX points at, as qemu-img makes it', async () => {
    const qemuImg = await requirePeer('qemu-img');
    const args = ['create', '-q', '-f', 'vmdk', '-b', 'CRM.vmdk', '-F', 'vmdk', 'CRM-000001.vmdk'];
    execFileSync(qemuImg.path, args, { env: qemuImg.env, cwd: vm.folder });
    edit(vm.vmxPath, '"CRM.vmdk"', '"CRM-000001.vmdk"');
    const source = await open();
    expect(diskNames(source)).toEqual(['012-data.vmdk']);
    expect(refusals(source)).toEqual([
      expect.stringMatching(/CRM-000001\.vmdk cannot be backed up: it is a snapshot/),
    ]);
  });
});

describe('disks elsewhere', () => {
  it('may lie in another folder if the VMX says so', async () => {
    const other = join(datastore, 'other');
    mkdirSync(other);
    for (const name of ['CRM.vmdk', 'CRM-flat.vmdk']) renameSync(join(vm.folder, name), join(other, name));
    edit(vm.vmxPath, '"CRM.vmdk"', `"${other}/CRM.vmdk"`);
    const source = await open();
    expect(source.refused).toEqual([]);
    expect(source.disks[0]!.flatPath).toBe(join(other, 'CRM-flat.vmdk'));
  });

  it('are backed up once if two slots name one flat', async () => {
    appendFileSync(vm.vmxPath, 'scsi0:1.fileName = "CRM.vmdk"\n');
    const source = await open();
    expect(diskNames(source)).toEqual(['00-CRM.vmdk', '012-data.vmdk']);
    expect(source.notices).toEqual([expect.stringContaining('same flat')]);
  });
});

describe('a folder without VMX', () => {
  beforeEach(() => rmSync(vm.vmxPath));

  it('gives every descriptor with a flat and every raw image, numbered in order', async () => {
    await makePatternImage(join(vm.folder, 'image.raw'), 100_001, 'raw');
    await makePatternImage(join(vm.folder, 'old.dsk'), 4_096, 'dsk');
    const source = await open();
    expect(diskNames(source)).toEqual(['00-CRM.vmdk', '01-data.vmdk', '02-image.raw', '03-old.dsk']);
    expect(source.disks[2]).toMatchObject({ descriptorPath: null, sizeBytes: 100_001, createType: null });
    expect(source.displayName).toBe('CRM "new" $(x)');
    expect(source.refused).toEqual([]);
  });

  it('takes any file that the operator names', async () => {
    const image = join(datastore, 'backup of disk');
    await makePatternImage(image, 5_000, 'named');
    expect(diskNames(await open(vm.folder, [image]))).toEqual([
      '00-CRM.vmdk',
      '01-data.vmdk',
      '02-backup of disk',
    ]);
  });

  it('refuses a flat that no descriptor names, and the disk under a snapshot', async () => {
    rmSync(join(vm.folder, 'data.vmdk'));
    const descriptor = readFileSync(join(vm.folder, 'CRM.vmdk'), 'utf8');
    const snapshot = descriptor
      .replace('parentCID=ffffffff', 'parentCID=12345678\nparentFileNameHint="CRM.vmdk"')
      .replace('VMFS "CRM-flat', 'VMFSSPARSE "CRM-000001-delta');
    writeFileSync(join(vm.folder, 'CRM-000001.vmdk'), snapshot);
    const source = await open();
    expect(source.disks).toEqual([]);
    expect(refusals(source).sort()).toEqual([
      expect.stringMatching(/^CRM-000001\.vmdk .*it is a snapshot/),
      expect.stringMatching(/^CRM\.vmdk .*the snapshot CRM-000001\.vmdk stands on it/),
      expect.stringMatching(/^data-flat\.vmdk .*no descriptor names it/),
    ]);
  });

  it('that holds no disk gives none', async () => {
    const empty = join(datastore, 'empty');
    mkdirSync(empty);
    expect(await open(empty)).toMatchObject({ disks: [], refused: [], files: [] });
  });
});
