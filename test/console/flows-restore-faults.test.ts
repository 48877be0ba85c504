import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, readFileSync, renameSync, rmSync, truncateSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { closeAll, open } from '../support/console-pty.ts';
import { makePatternImage } from '../support/disk-images.ts';
import { flipByte, fullBlock, HOOK_TIMEOUT_MS, MIB, namesIn, only, Tale } from '../tales/tale.ts';
import { atMainMenu, go, type Move, toArchives } from './flows-restore-stage.ts';

const TALE_MS = 180_000;

let tale: Tale;
/** Archives of each VM, `N:folder/file`. */
const fulls: Record<string, string> = {};
const deltas: Record<string, string> = {};

async function backedUp(vmName: string, disks: number, words: string[] = []): Promise<void> {
  const names = Array.from({ length: disks }, (_, at) => `${vmName}${at === 0 ? '' : `_${at}`}.vmdk`);
  const vm = await tale.makeVm(
    vmName,
    names.map((name) => ({ name, sizeBytes: 2 * MIB })),
  );
  const { disks: made } = await tale.backup(vm.folder, ['--target', '1', ...words]);
  const [first] = made;
  fulls[vmName] = first?.full ?? '';
  deltas[vmName] = first?.archive ?? '';
}

beforeAll(async () => {
  tale = new Tale({
    targets: ['one'],
    config: 'encryption: { systemPassphraseFile: secret }\n',
  });
  tale.home.write('secret', 'a passphrase\n');
  await backedUp('plain', 1);
  await backedUp('wrong', 1);
  await backedUp('gone', 1);
  await backedUp('pair', 2);
  await backedUp('sealed', 1, ['--encrypt']);
  await backedUp('spoilt', 1);
  await backedUp('busy', 1);
}, HOOK_TIMEOUT_MS);

afterEach(closeAll);
afterAll(() => tale.remove());

/** From the list of archives, row `at`, to the place. */
const toPlace: Move[] = [
  [['enter'], 'Is this the archive?'],
  [['y'], 'Location to restore to'],
];

/** Another folder of the datastore, made anew. */
const intoNewFolder = (name: string): Move[] => [
  [['o'], /^ +volume +free/m],
  [['enter'], 'Make new folder'],
  [['n'], 'Name of the new folder'],
  [['ctrl-u'], /^>$/m],
  [`${name}\r`, 'Make this folder?'],
  [['y'], new RegExp(`> +\\d+ ${name}`)],
  [['enter'], new RegExp(`> S {2}Restore into .*${name}`)],
  [['enter'], 'Restore to this name:'],
  [['enter'], 'is all of this right?'],
];

/** Onto row `number` of a list. */
const row = (number: number): Move => [`${number}\r`, new RegExp(`> +${number} `)];

it(
  'an archive that vanished while it was shown is told, and the list stays',
  async () => {
    const one = await atMainMenu(tale);
    await go(one, [...toArchives('gone'), row(1)]);
    rmSync(tale.file(deltas.gone ?? ''));
    rmSync(tale.file(fulls.gone ?? ''));
    await go(one, [
      [['enter'], 'Is this the archive?'],
      [['y'], 'there is no archive'],
    ]);
    expect(one.text).toContain('Re-index shows what is there now');
    await go(one, [[['enter'], /^Enter choose/m]]);
  },
  TALE_MS,
);

it(
  'a FULL that is another one is found out by what it holds, whatever its name',
  async () => {
    const [full = '', other = ''] = [fulls.wrong, fulls.plain].map((one) => tale.file(one ?? ''));
    const kept = `${full}.kept`;
    renameSync(full, kept);
    copyFileSync(other, full);
    try {
      const one = await atMainMenu(tale);
      await go(one, [
        ...toArchives('wrong'),
        row(2),
        [['enter'], /DELTA of/],
        [['y'], /! 1 one +vmfs .* it is of another VM/],
        [['enter'], 'is not the FULL of'],
      ]);
    } finally {
      rmSync(full);
      renameSync(kept, full);
    }
  },
  TALE_MS,
);

it(
  'a partial run is named, and taken only by a yes',
  async () => {
    const [folder = '', file = ''] = (deltas.pair ?? '').slice(2).split('/');
    const other = namesIn(tale.path('one', folder)).filter((name) => name.startsWith('01-'));
    mkdirSync(tale.path('aside'), { recursive: true });
    for (const name of other) renameSync(tale.path('one', folder, name), tale.path('aside', name));
    expect(file).toMatch(/^00-/);
    await tale.phd(['index', '--force']);
    const one = await atMainMenu(tale);
    await go(one, [
      ...toArchives('pair'),
      [['d'], /partial: lacks 0:1 pair_1\.vmdk/],
      [['enter'], 'Take it all the same?'],
      [['enter'], /^Enter choose/m],
      [['enter'], 'Take it all the same?'],
      [['y'], 'Is this the archive?'],
    ]);
    expect(one.text).toContain('Its run is partial');
  },
  TALE_MS,
);

it(
  'an encrypted archive without its passphrase says where to put it',
  async () => {
    const secret = readFileSync(tale.path('secret'));
    tale.home.write('secret', 'another passphrase\n');
    const one = await atMainMenu(tale);
    await go(one, [
      ...toArchives('sealed'),
      row(1),
      [['enter'], 'Is this the archive?'],
      [['y'], 'The archive cannot be restored'],
    ]);
    expect(one.text).toContain('encryption.formerPassphraseFiles');
    expect(one.text).not.toContain('another passphrase');
    tale.home.write('secret', secret);
    await go(one, [
      [['enter'], /^Enter choose/m],
      [['enter'], 'Is this the archive?'],
      [['y'], 'Location to restore to'],
      ...intoNewFolder('unsealed'),
      [['r'], 'RESTORED: ALL BLOCKS PROVED'],
    ]);
    const [restored, source] = ['unsealed', 'sealed'].map((name) =>
      readFileSync(path.join(tale.datastore, name, 'sealed-flat.vmdk')),
    );
    expect(restored?.equals(source as Buffer)).toBe(true);
  },
  TALE_MS,
);

it(
  'a FULL without its DELTA restores through its own map and says so',
  async () => {
    const [folder = ''] = (fulls.plain ?? '').slice(2).split('/');
    const delta = namesIn(tale.path('one', folder)).find((name) => name.includes('.delta-')) ?? '';
    renameSync(tale.path('one', folder, delta), tale.path('aside-delta'));
    await tale.phd(['index', '--force']);
    const one = await atMainMenu(tale);
    await go(one, [
      ...toArchives('plain'),
      row(1),
      [['enter'], 'its own map'],
      [['y'], 'has no empty DELTA'],
      [['enter'], 'Location to restore to'],
      ...intoNewFolder('from map'),
      [['r'], 'RESTORED'],
    ]);
    const [restored, source] = ['from map', 'plain'].map((name) =>
      readFileSync(path.join(tale.datastore, name, 'plain-flat.vmdk')),
    );
    expect(restored?.equals(source as Buffer)).toBe(true);
  },
  TALE_MS,
);

it(
  'an archive of another program is refused with the reason',
  async () => {
    const [folder = ''] = (deltas.wrong ?? '').slice(2).split('/');
    const name = '00-wrong.vmdk.delta-2020.01.01-1111-200101-1010.phd';
    tale.home.write(`one/${folder}/${name}`, `#!/bin/sh\n${'# another program\n'.repeat(200)}`);
    await tale.phd(['index', '--force']);
    const one = await atMainMenu(tale);
    await go(one, [...toArchives('wrong')]);
    const at = one.screen().findIndex((line) => line.includes('2020-01-01'));
    const number = Number(/^ +(\d+) /.exec(one.screen()[at] ?? '')?.[1]);
    await go(one, [row(number), [['enter'], 'made by another program']]);
    rmSync(tale.path('one', folder, name));
  },
  TALE_MS,
);

it(
  'a disk of another size in the way is refused before anything is queued',
  async () => {
    await makePatternImage(tale.home.write('vmfs/in the way/wrong-flat.vmdk', ''), MIB, 'smaller');
    const one = await atMainMenu(tale);
    await go(one, [
      ...toArchives('wrong'),
      row(1),
      ...toPlace,
      [['o'], /^ +volume +free/m],
      [['enter'], 'Make new folder'],
      ['/in the way\r', /> +1 in the way/],
      [['enter'], /> S {2}Restore into .*in the way/],
      [['enter'], 'Restore to this name:'],
      [['enter'], /REFUSED[\s\S]* 1048576 bytes, the backup has 2097152/],
      [['r'], 'This restore is refused'],
      [['enter'], 'is all of this right?'],
    ]);
  },
  TALE_MS,
);

it(
  'a VM that runs is told in words and never written over',
  async () => {
    const flat = path.join(tale.datastore, 'busy', 'busy-flat.vmdk');
    const before = readFileSync(flat);
    const script =
      'const f=require("fs").openSync(process.argv[1],"r+");console.log("open");setInterval(()=>f,1e6)';
    const vm = spawn(process.execPath, ['-e', script, flat], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      await once(vm.stdout, 'data');
      const one = await atMainMenu(tale);
      await go(one, [...toArchives('busy'), row(1), ...toPlace]);
      expect(one.text.replaceAll('\n', ' ')).toMatch(
        /It runs or is in use: .*open for writing by process \d+/,
      );
      await go(one, [
        [['1'], 'Restore to this name:'],
        [['enter'], /REFUSED[\s\S]*stop the VM first/],
        [['r'], 'This restore is refused'],
        [['enter'], 'is all of this right?'],
      ]);
      expect(readFileSync(flat).equals(before)).toBe(true);
    } finally {
      vm.kill('SIGKILL');
    }
  },
  TALE_MS,
);

it(
  'bad blocks fail the job; with SALVAGE typed the result is called damaged',
  async () => {
    const full = tale.file(fulls.spoilt ?? '');
    flipByte(full, fullBlock(full).middle);
    const one = await atMainMenu(tale);
    await go(one, [
      ...toArchives('spoilt'),
      ['/spoilt\r', /> +1 1 /],
      ...toPlace,
      ...intoNewFolder('saved'),
      [['z'], 'Type SALVAGE'],
      ['SALVAGE\r', 'Options: SALVAGE'],
      [['r'], /damaged/],
    ]);
    expect(one.text).not.toMatch(/RESTORED:/);
    expect(namesIn(path.join(tale.datastore, 'saved'))).toEqual([
      'spoilt-flat.vmdk.damaged',
      'spoilt-flat.vmdk.damaged.ranges',
    ]);
  },
  TALE_MS,
);

it(
  'a target that cannot be reached costs a line: its rows stay, with their age',
  async () => {
    const two = new Tale({ targets: ['one', 'two'] });
    try {
      const vm = await two.makeVm('here', [{ name: 'here.vmdk', sizeBytes: MIB }]);
      await two.backup(vm.folder, ['--target', '1']);
      const there = await two.makeVm('there', [{ name: 'there.vmdk', sizeBytes: MIB }]);
      const { disks } = await two.backup(there.folder, ['--target', '2']);
      await two.phd(['index', '--force']);
      renameSync(two.path('two'), two.path('away'));
      two.configure({ targets: ['one'], config: 'index: { maxAgeMinutes: 0 }\n' });
      const config = readFileSync(two.path('phd.yaml'), 'utf8');
      two.home.writeConfig(
        config.replace('datastores', '  - { number: 2, name: two, transport: vmfs, path: two }\ndatastores'),
      );
      const one = await atMainMenu(two);
      await go(one, [
        [['e'], /^Restore$/m],
        [['c'], /^Search by$/m],
        [['v'], /2 two not reached[\s\S]*1 here[\s\S]*2 there/],
        ['2\r', '> +2 there'.replace(' +', '   ')],
        [['enter'], 'Dates of VM there'],
        [['enter'], /tgt +size +type/],
      ]);
      expect(one.text).toMatch(/DELTA .*there\.vmdk +\d+ min old/);
      await go(one, [row(1), [['enter'], 'Is this the archive?'], [['y'], 'The archive cannot be restored']]);
      expect(only(disks).disk).toBe('there.vmdk');
    } finally {
      await closeAll();
      two.remove();
    }
  },
  TALE_MS,
);

it(
  'a FULL that was cut is never shown as proved',
  async () => {
    const full = tale.file(fulls.busy ?? '');
    truncateSync(full, 4_000);
    await tale.phd(['index', '--force']);
    const one = await atMainMenu(tale);
    await go(one, [...toArchives('busy')]);
    await go(one, [row(1), [['enter'], 'This archive cannot be taken'], [['enter'], /FULL .* cut/]]);
    await go(one, [row(2), [['enter'], 'Is this the archive?'], [['y'], /names agree only|has no end/]]);
  },
  TALE_MS,
);

it(
  'a FULL of another program restores only after UNPROVED was typed, and is called so',
  async () => {
    const content = readFileSync(path.join(tale.datastore, 'wrong', 'wrong-flat.vmdk'));
    const uuid = 'aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee';
    tale.home.write(`one/2019.05.05-old.${uuid}/00-old.vmdk.gz-190505-0505.phd`, gzipSync(content));
    await tale.phd(['index', '--force']);
    const one = await atMainMenu(tale);
    await go(one, [
      ...toArchives('old'),
      row(1),
      [['enter'], 'Is this the archive?'],
      [['y'], 'has no empty DELTA'],
      [['enter'], 'Type UNPROVED'],
      ['UNPROVED\r', 'Which FULL'],
      [['enter'], 'Location to restore to'],
      ...intoNewFolder('unproved'),
    ]);
    expect(one.text).toContain('how much is needed is not known');
    await go(one, [[['r'], 'UNPROVED']]);
    expect(readFileSync(path.join(tale.datastore, 'unproved', 'old-flat.vmdk')).equals(content)).toBe(true);
  },
  TALE_MS,
);

it(
  'a disk that another job writes, and a lock over restores, are told before anything is queued',
  async () => {
    const folder = path.join(tale.datastore, 'twice');
    mkdirSync(folder);
    await tale.phd(['restore', deltas.wrong ?? '', '--to', folder, '--background']);
    await tale.phd(['locks', 'stop', '--restore']);
    const one = open({ args: ['--thin'], env: tale.home.env });
    await one.waitFor('Main menu');
    await go(one, [
      ...toArchives('wrong'),
      row(2),
      ...toPlace,
      [['o'], /^ +volume +free/m],
      [['enter'], 'Make new folder'],
      ['/twice\r', /> +1 twice/],
      [['enter'], /> S {2}Restore into .*twice/],
      [['enter'], 'Restore to this name:'],
      [['enter'], /Lock +restores are stopped by/],
      [['r'], 'Another job has this disk'],
      [['enter'], 'is all of this right?'],
    ]);
    await tale.phd(['locks', 'clear']);
    await tale.phd(['jobs', 'remove-pending']);
  },
  TALE_MS,
);

it(
  'an index that is deleted while its list is shown is made anew when the restore menu is entered',
  async () => {
    const one = await atMainMenu(tale);
    await go(one, [
      [['e'], /^Restore$/m],
      [['c'], /^Search by$/m],
      [['v'], /1 busy/],
    ]);
    const file = tale.path('state', 'index.db');
    rmSync(file);
    rmSync(`${file}-wal`, { force: true });
    rmSync(`${file}-shm`, { force: true });
    one.press('esc');
    await one.waitFor(/^Search by$/m);
    one.press('esc');
    await one.waitFor(/^Restore$/m);
    one.press('esc');
    await one.waitFor('Main menu');
    await go(one, [
      [['e'], /^Restore$/m],
      [['c'], /^Search by$/m],
      [['v'], /1 busy/],
    ]);
  },
  TALE_MS,
);

it(
  'a volume that is too small is shown with its room, and refused with both figures',
  async () => {
    const small = path.join(tale.datastore, 'small');
    mkdirSync(small);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small]);
    try {
      const one = await atMainMenu(tale);
      await go(one, [
        ...toArchives('wrong'),
        row(1),
        ...toPlace,
        [['o'], /2 .*\/small +1\.0 MB +1\.0 MB/],
        ['2\r', /> {3}2 /],
        [['enter'], /> S {2}Restore into .*small/],
        [['enter'], 'Restore to this name:'],
        [['enter'], /REFUSED[\s\S]* 1\.0 MB free, the[\s\S]*restore[\s\S]*needs 2\.1 MB/],
        [['r'], 'make room or choose another volume'],
      ]);
      expect(namesIn(small)).toEqual([]);
    } finally {
      await closeAll();
      execFileSync('umount', [small]);
      rmSync(small, { recursive: true });
    }
  },
  TALE_MS,
);
