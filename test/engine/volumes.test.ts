import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  findVm,
  flatsIn,
  listVolumes,
  makeFolder,
  subFolders,
  vmLockState,
} from '../../src/engine/volumes.ts';
import { makeVmFolder } from '../support/disk-images.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

let home: TempHome;
beforeEach(() => {
  home = makeTempHome();
});
afterEach(() => home.remove());

const vmIn = (folder: string, vmName: string, uuidBios?: string | null) =>
  makeVmFolder(folder, {
    vmName,
    disks: [{ name: `${vmName}.vmdk`, sizeBytes: 65_536 }],
    ...(uuidBios !== undefined && { uuidBios }),
  });

describe('volumes', () => {
  it('a datastore with folders of VMs is a volume; one with volumes shows them, each once', async () => {
    const flat = home.folder('flat');
    await vmIn(flat, 'a');
    await vmIn(home.folder('esx/volumes/one'), 'b');
    await vmIn(home.folder('esx/volumes/two'), 'c');
    symlinkSync('one', home.folder('esx/volumes').concat('/alias'));
    const volumes = await listVolumes([flat, path.join(home.root, 'esx/volumes')]);
    expect(volumes.map((one) => path.relative(home.root, one.path))).toEqual([
      'flat',
      'esx/volumes/alias',
      'esx/volumes/two',
    ]);
    for (const { freeBytes, totalBytes, fault } of volumes) {
      expect(fault).toBeNull();
      expect(freeBytes).toBeGreaterThan(0);
      expect(totalBytes).toBeGreaterThanOrEqual(freeBytes ?? 0);
    }
  });

  it('an empty datastore is a volume, one that is not there says so', async () => {
    const [empty, missing] = await listVolumes([home.folder('empty'), path.join(home.root, 'none')]);
    expect(empty?.fault).toBeNull();
    expect(missing?.fault).toContain('none');
    expect(missing?.freeBytes).toBeNull();
  });

  it('finds a VM by the UUID of its VMX, or by host and folder where it has none', async () => {
    const store = home.folder('store');
    await vmIn(store, 'named', '56 4d 1e 34 43 64 18 08-23 fd e5 65 65 ad d9 01');
    await vmIn(store, 'nameless', null);
    const volumes = await listVolumes([store]);
    const named = '564d1e34-4364-1808-23fd-e56565add901';
    expect(await findVm(volumes, named, 'esx1')).toBe(path.join(store, 'named'));
    const { openSourceVm } = await import('../../src/datastore/source-vm.ts');
    const { uuid } = await openSourceVm(path.join(store, 'nameless'), 'esx1');
    expect(await findVm(volumes, uuid, 'esx1')).toBe(path.join(store, 'nameless'));
    expect(await findVm(volumes, uuid, 'esx2')).toBeNull();
    writeFileSync(path.join(store, 'named', 'named.vmx'), Buffer.from([0, 255, 0, 254]));
    expect(await findVm(volumes, named, 'esx1')).toBeNull();
  });
});

describe('folders', () => {
  it('lists folders by name with what they hold, leaves hidden ones out', async () => {
    const store = home.folder('store');
    await vmIn(store, 'vm');
    mkdirSync(path.join(store, '.hidden'));
    mkdirSync(path.join(store, 'empty'));
    writeFileSync(path.join(store, 'file'), '');
    const found = await subFolders(store);
    expect(found.map(({ name, holdsVm }) => `${name} ${holdsVm}`)).toEqual(['empty false', 'vm true']);
    expect(
      (await flatsIn(path.join(store, 'vm'))).map(({ name, sizeBytes }) => `${name} ${sizeBytes}`),
    ).toEqual(['vm-flat.vmdk 65536']);
    await expect(subFolders(path.join(store, 'file'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('makes one folder of a plain name and no other', async () => {
    const store = home.folder('store');
    expect(await makeFolder(store, 'new VM')).toBe(path.join(store, 'new VM'));
    await expect(makeFolder(store, 'new VM')).rejects.toMatchObject({ code: 'EXISTS' });
    for (const name of ['', ' ', '..', 'a/b', '.hidden', 'x\u001b[2J', 'n'.repeat(256)]) {
      await expect(makeFolder(store, name)).rejects.toMatchObject({ code: 'USAGE' });
    }
    expect(readdirSync(store)).toEqual(['new VM']);
  });
});

it('a VM with a lock beside its disk is in use, in words that name the file', async () => {
  const vm = await vmIn(home.folder('store'), 'vm');
  const lock = path.join(vm.folder, 'vm.vmdk.lck');
  mkdirSync(lock);
  const { state, words } = await vmLockState(vm.folder);
  expect(state).toBe('in use');
  expect(words).toMatch(/^vm\.vmdk\S* is /);
});
