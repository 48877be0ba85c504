import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { closeAll } from '../support/console-pty.ts';
import { changeImage } from '../support/disk-images.ts';
import { fileDigest, HOOK_TIMEOUT_MS, MIB, namesIn, Tale } from '../tales/tale.ts';
import { atMainMenu, go, toArchives } from './flows-restore-stage.ts';

const TALE_MS = 180_000;
const DISKS = ['shop.vmdk', 'shop_1.vmdk'] as const;

let tale: Tale;
let digests: string[];

const flatOf = (folder: string, disk: string): string =>
  path.join(folder, disk.replace('.vmdk', '-flat.vmdk'));
const vmFolder = (): string => path.join(tale.datastore, 'shop');

beforeAll(async () => {
  tale = new Tale({ targets: ['one', 'two'] });
  const vm = await tale.makeVm('shop', [
    { name: DISKS[0], sizeBytes: 6 * MIB },
    { name: DISKS[1], sizeBytes: 3 * MIB },
  ]);
  await tale.backup(vm.folder, ['--target', '1', '--full']);
  for (const { flatPath } of vm.disks) await changeImage(flatPath, 3, 'a working day');
  await tale.backup(vm.folder, ['--target', '1', '--delta']);
  const other = await tale.makeVm('wiki', [{ name: 'wiki.vmdk', sizeBytes: 2 * MIB }]);
  await tale.backup(other.folder, ['--target', '2']);
  digests = vm.disks.map(({ flatPath }) => fileDigest(flatPath));
}, HOOK_TIMEOUT_MS);

afterEach(closeAll);
afterAll(() => tale.remove());

it(
  'a whole VM comes back byte for byte into a new folder, with a VMX fitted to it as a copy',
  async () => {
    const one = await atMainMenu(tale);
    await go(one, [
      ...toArchives('shop'),
      [['d'], 'Runs of VM shop'],
      [['enter'], 'Are these the 2 archives?'],
      [['y'], 'Location to restore to'],
      [['o'], /^ +volume +free/m],
      [['enter'], 'Make new folder'],
      [['n'], 'Name of the new folder'],
      [['ctrl-u'], /^>$/m],
      ['shop copy\r', 'Make this folder?'],
      [['y'], /> +\d shop copy/],
      [['enter'], /> S {2}Restore into .*shop copy/],
      [['enter'], 'is all of this right?'],
      [['v'], 'Options: verify'],
      [['r'], '2 of 2 jobs done'],
    ]);
    one.press('esc');
    await one.waitFor('VMX for this place');
    await go(one, [[['c'], 'Changes of the VMX']]);
    expect(one.text).toContain('+ ethernet0.startConnected = "FALSE"');
    one.press('esc');
    await one.waitFor('Write it so?');
    await go(one, [
      [['y'], 'shop.vmx restored'],
      [['enter'], 'no vim-cmd'],
      [['enter'], /^Search by$/m],
    ]);
    await one.assertRepaintIsEqual();
    const folder = path.join(tale.datastore, 'shop copy');
    expect(DISKS.map((disk) => fileDigest(flatOf(folder, disk)))).toEqual(digests);
    const vmx = readFileSync(path.join(folder, 'shop.vmx'), 'utf8');
    const old = readFileSync(path.join(vmFolder(), 'shop.vmx'), 'utf8');
    expect(readFileSync(path.join(folder, 'shop.vmx.original'), 'utf8')).toBe(old);
    const uuid = /^uuid\.bios = .*$/m;
    expect(uuid.exec(vmx)?.[0]).not.toBe(uuid.exec(old)?.[0]);
    expect(vmx).toContain('scsi0:1.fileName = "shop_1.vmdk"');
  },
  TALE_MS,
);

it(
  'over the disk that is there: No is the default, the word yes must be typed, and the old state is back',
  async () => {
    const flat = flatOf(vmFolder(), DISKS[0]);
    const one = await atMainMenu(tale);
    await changeImage(flat, 2, 'an accident');
    const spoilt = fileDigest(flat);
    await go(one, [
      ...toArchives('shop'),
      ['/shop.vmdk\r', /> +1 1 +.*DELTA/],
      [['enter'], 'Is this the archive?'],
      [['y'], 'Current path:'],
      [['enter'], 'Restore to this name:'],
      [['enter'], 'REPLACES the disk that is there'],
      [['r'], 'Replace this disk?'],
      [['enter'], /^Enter choose/m],
      [['i'], 'Options: in place'],
      [['r'], 'Roll back this disk?'],
      [['y'], 'Type yes and Enter'],
      ['no\r', 'that is not the word'],
      [['ctrl-u'], /^>$/m],
    ]);
    expect(fileDigest(flat)).toBe(spoilt);
    await go(one, [
      ['yes\r', /RESTORED|done with warnings/],
      [['enter'], 'is there already and stays as it is'],
      [['enter'], /^Search by$/m],
    ]);
    await one.assertRepaintIsEqual();
    expect(fileDigest(flat)).toBe(digests[0]);
  },
  TALE_MS,
);

it(
  'in the background a job is queued with its VMX, and waits where no daemon is wanted',
  async () => {
    const one = await atMainMenu(tale);
    await go(one, [
      ...toArchives('wiki'),
      [['down', 'enter'], 'Is this the archive?'],
      [['y'], 'Location to restore to'],
      [['o'], /^ +volume +free/m],
      [['t'], 'Folder to begin in'],
      [['ctrl-u'], /^>$/m],
      [`${tale.datastore}\r`, 'Make new folder'],
      [['n'], 'Name of the new folder'],
      [['ctrl-u'], /^>$/m],
      ['later\r', 'Make this folder?'],
      [['y'], /> +\d later/],
      [['enter'], /> S {2}Restore into .*later/],
      [['enter'], 'Restore to this name:'],
      [['ctrl-u'], /^>$/m],
      ['other.vmdk\r', 'is all of this right?'],
      [['s'], 'VMX for this place'],
      [['m'], 'No daemon runs'],
      [['n'], 'No daemon runs, so it waits'],
      [['enter'], /^Search by$/m],
    ]);
    const jobs = await tale.phd(['jobs', 'list', '--json']);
    const job = jobs.stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { state: string; title: string })
      .find(({ state }) => state === 'waiting');
    expect(job?.title).toContain('later/other.vmdk');
    expect(namesIn(path.join(tale.datastore, 'later'))).toEqual([]);
    await tale.phd(['jobs', 'remove-pending']);
  },
  TALE_MS,
);

it(
  'only the VMX of a VM, unchanged',
  async () => {
    const one = await atMainMenu(tale);
    await go(one, [
      [['e'], /^Restore$/m],
      [['x'], /^ +VM +runs/m],
      ['/wiki\r', /> +1 wiki /],
      [['enter'], 'Dates of VM wiki'],
      [['enter'], /tgt +size +type/],
      [['enter'], 'Is this the archive?'],
      [['y'], 'Location to restore to'],
      [['o'], /^ +volume +free/m],
      [['enter'], 'Make new folder'],
      [['n'], 'Name of the new folder'],
      [['ctrl-u'], /^>$/m],
      ['vmx only\r', 'Make this folder?'],
      [['y'], /> +\d vmx only/],
      [['enter'], /> S {2}Restore into .*vmx only/],
      [['enter'], 'VMX for this place'],
      [['u'], 'wiki.vmx restored'],
      [['enter'], 'no vim-cmd'],
      [['enter'], /^Restore$/m],
    ]);
    const written = readFileSync(path.join(tale.datastore, 'vmx only', 'wiki.vmx'));
    expect(written).toEqual(readFileSync(path.join(tale.datastore, 'wiki', 'wiki.vmx')));
  },
  TALE_MS,
);

it(
  'a host with vim-cmd is asked to register, with the path as one word',
  async () => {
    const said = tale.path('registered');
    const bin = path.dirname(
      tale.home.write('esx/vim-cmd', `#!/bin/sh\nprintf '%s|' "$@" > '${said}'\necho 42\n`, 0o755),
    );
    const one = await atMainMenu(tale, { env: { PATH: `${bin}:${process.env.PATH}` } });
    await go(one, [
      [['e'], /^Restore$/m],
      [['x'], /^ +VM +runs/m],
      ['/wiki\r', /> +1 wiki /],
      [['enter'], 'Dates of VM wiki'],
      [['enter'], /tgt +size +type/],
      [['enter'], 'Is this the archive?'],
      [['y'], 'Location to restore to'],
      [['o'], /^ +volume +free/m],
      [['enter'], 'Make new folder'],
      [['n'], 'Name of the new folder'],
      [['ctrl-u'], /^>$/m],
      ["it's here\r", 'Make this folder?'],
      [['y'], /> +\d it's here/],
      [['enter'], /> S {2}Restore into .*it's here/],
      [['enter'], 'VMX for this place'],
      [['u'], 'wiki.vmx restored'],
      [['enter'], 'Register wiki.vmx with this host?'],
    ]);
    expect(existsSync(said)).toBe(false);
    await go(one, [[['y'], 'is registered: 42']]);
    const vmx = path.join(tale.datastore, "it's here", 'wiki.vmx');
    expect(readFileSync(said, 'utf8')).toBe(`solo/registervm|${vmx}|`);
  },
  TALE_MS,
);

it(
  'a stub is made over a flat that is browsed to, never over a descriptor that is there',
  async () => {
    const folder = path.join(tale.datastore, 'lost');
    const flat = tale.home.write('vmfs/lost/lost-flat.vmdk', Buffer.alloc(MIB), 0o600);
    const one = await atMainMenu(tale);
    await go(one, [
      [['e'], /^Restore$/m],
      [['s'], /^ +volume +free/m],
      [['enter'], 'Flats in'],
      ['/lost\r', /> +1 lost/],
      [['enter'], /> S {2}Flats in .*lost/],
      [['enter'], /> +1 lost-flat.vmdk/],
      [['enter'], 'Stub for'],
      [['m'], 'lost.vmdk was made'],
      [['enter'], /> +1 lost-flat.vmdk/],
      [['enter'], 'Stub for'],
      [['v'], 'is not overwritten'],
    ]);
    expect(namesIn(folder)).toEqual(['lost-flat.vmdk', 'lost.vmdk']);
    const stub = readFileSync(path.join(folder, 'lost.vmdk'), 'utf8');
    expect(stub).toContain('createType="monolithicFlat"');
    expect(stub).toContain(`RW ${MIB / 512} FLAT "${path.basename(flat)}" 0`);
  },
  TALE_MS,
);

it(
  'the filter narrows every list, stands in the title, and stays until it is reset',
  async () => {
    const one = await atMainMenu(tale);
    await go(one, [
      [['e'], /^Restore$/m],
      [['c'], /^Search by$/m],
      [['v'], /1 shop[\s\S]*2 wiki/],
      [['f'], 'Now: no filter'],
      [['n'], 'Any part of the name'],
      ['ik\r', 'Now: VM *ik*'],
      [['b'], /VM +\[VM \*ik\*\][\s\S]*1 wiki/],
    ]);
    expect(one.text).not.toContain('shop');
    await go(one, [
      [['f'], 'Now: VM *ik*'],
      [['g'], 'Number of the target'],
      [['ctrl-u'], /^>$/m],
      ['9\r', 'there is no target of this number'],
      [['ctrl-u'], /^>$/m],
      ['1\r', 'Now: VM *ik*, target 1'],
      [['b'], 'Nothing passes the filter'],
      [['f'], 'Now: VM *ik*, target 1'],
      [['d'], 'Archives of:'],
      ['2020-13-01\r', 'is no date'],
      [['ctrl-u'], /^>$/m],
      ['2020-01-01..2020-02-01\r', '2020-01-01..2020-02-01'],
      [['t'], ', ssh'],
      [['t'], ', ftp'],
      [['v'], 'vmfs only'],
      [['m'], 'FULLs only'],
      [['r'], 'Now: no filter'],
      [['q'], /^Search by$/m],
      [['v'], /1 shop[\s\S]*2 wiki/],
    ]);
    await one.assertRepaintIsEqual();
  },
  TALE_MS,
);

it(
  'by disk name: the owner stands beside it, and nothing asks to register',
  async () => {
    const one = await atMainMenu(tale, { columns: 60, rows: 15 });
    await go(one, [
      [['e'], /^Restore$/m],
      [['c'], /^Search by$/m],
      [['f'], /1 shop\.vmdk[\s\S]*3 wiki\.vmdk/],
      ['/wiki', /\[\/wiki\][\s\S]*> +1 wiki\.vmdk/],
      [['enter'], /^Enter choose/m],
      [['enter'], 'Dates of Disk wiki.vmdk'],
      [['enter'], /> +1 2/],
      [['enter'], 'Is this the archive?'],
      [['y'], 'Location to restore to'],
      [['a'], 'Main menu'],
    ]);
  },
  TALE_MS,
);
