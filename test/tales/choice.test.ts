/** FULL or DELTA: how the program chooses by itself, day after day, for one disk of 64 blocks. */
import {
  closeSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomLooking, type TestVm } from '../support/disk-images.ts';
import { type BackedUp, BLOCK, fileDigest, flipByte, MIB, only, type Run, Tale } from './tale.ts';

let tale: Tale;
let vm: TestVm;
let flat: string;
let full: BackedUp;

beforeAll(async () => {
  tale = new Tale();
  vm = await tale.makeVm('Daily', [{ name: 'Daily.vmdk', sizeBytes: 16 * MIB }]);
  flat = vm.disks[0]?.flatPath ?? '';
});
afterAll(() => tale.remove());

function changeBlocks(count: number, seed: string): void {
  const image = openSync(flat, 'r+');
  for (let block = 0; block < count; block++)
    writeSync(image, randomLooking(`${seed} ${block}`, 512), 0, 512, block * BLOCK + 1024);
  closeSync(image);
}

async function today(words: string[] = []): Promise<BackedUp & { run: Run }> {
  const { run, disks } = await tale.backup(vm.folder, words);
  return { ...only(disks), run };
}

const emptyDeltaOf = (archive: BackedUp): string => {
  const folder = path.dirname(tale.file(archive.full));
  const stamp = /-(\d{6}-\d{4})\.phd$/.exec(archive.full)?.[1] ?? '';
  const name = readdirSync(folder).find((one) => one.includes('.delta-') && one.endsWith(`${stamp}.phd`));
  return path.join(folder, name ?? 'no empty DELTA');
};

describe('Without --full and --delta', () => {
  it('the first backup of a disk is a FULL', async () => {
    full = await today();
    expect(full).toMatchObject({ mode: 'full', message: 'it is the first backup of this disk there' });
  });

  it('a disk of which 2 % changed gets a DELTA that holds just that', async () => {
    changeBlocks(1, 'a little');
    expect(await today()).toMatchObject({
      mode: 'delta',
      full: full.full,
      changedBlocks: 1,
      message: '1.6 % of its blocks changed',
    });
  });

  it('a run is in the index at once, so that a restore by name takes it and not the one before', async () => {
    await tale.phd(['index']);
    changeBlocks(1, 'a little more');
    const delta = await today();
    const to = tale.newFolder();
    const { disks } = await tale.restore(['--vm', 'Daily', '--to', to]);
    expect(only(disks).archive).toBe(delta.archive);
    expect(fileDigest(path.join(to, 'Daily-flat.vmdk'))).toBe(fileDigest(flat));
  });

  it('a disk of which more than half changed gets a FULL, decided after the scan', async () => {
    changeBlocks(33, 'a lot');
    const other = await today();
    expect(other).toMatchObject({ mode: 'full', message: '52 % of its blocks changed since its FULL' });
    expect(other.full).not.toBe(full.full);
    full = other;
  });

  it('an empty DELTA that was deleted is made again at the next run, and restores', async () => {
    const empty = emptyDeltaOf(full);
    const digest = fileDigest(flat);
    rmSync(empty);
    changeBlocks(1, 'the day after');
    const next = await today();
    expect(next).toMatchObject({ mode: 'delta', full: full.full });
    expect(next.run.stderr).toContain('had no DELTA; its empty DELTA was made from its map');
    const to = tale.newFolder();
    const { disks } = await tale.restore([empty, '--to', to]);
    expect(only(disks)).toMatchObject({ fromDelta: 0, unproved: false });
    expect(fileDigest(path.join(to, 'Daily-flat.vmdk'))).toBe(digest);
  });

  it('with jobs.db and all kept maps deleted it still is a DELTA: its map is fetched from the target', async () => {
    tale.loseState();
    changeBlocks(2, 'jobs.db is gone');
    const next = await today();
    expect(next).toMatchObject({ mode: 'delta', full: full.full });
    const to = tale.newFolder();
    await tale.restore([next.archive, '--to', to]);
    expect(fileDigest(path.join(to, 'Daily-flat.vmdk'))).toBe(fileDigest(flat));
  });

  it('a FULL purged to tape still is the base of DELTAs where that is allowed, with a warning', async () => {
    const kept = readFileSync(tale.file(full.full));
    rmSync(tale.file(full.full));
    tale.configure({ config: 'backup: { fullOffline: allowed }\n' });
    const next = await today();
    expect(next).toMatchObject({ mode: 'delta', full: full.full });
    expect(next.run.stderr).toMatch(/is not on target 1; the DELTA is made all the same, as configured/);
    writeFileSync(tale.file(full.full), kept);
    const to = tale.newFolder();
    await tale.restore([next.archive, '--to', to]);
    expect(fileDigest(path.join(to, 'Daily-flat.vmdk'))).toBe(fileDigest(flat));
  });

  it('a FULL deleted from the target makes the next backup a FULL, with a warning', async () => {
    for (const name of tale.filesOn('one')) if (/\.gz-/.test(name)) rmSync(tale.path('one', name));
    tale.configure({});
    const next = await today();
    expect(next.mode).toBe('full');
    expect(next.run.stderr).toMatch(/a FULL is made, since its FULL .* is not on target 1/);
    full = next;
  });

  it('a FULL that was found damaged is no base any more: the next backup is a FULL, with a warning', async () => {
    flipByte(tale.file(full.full), Math.floor(statSync(tale.file(full.full)).size / 2));
    expect((await tale.phd(['verify', full.full])).status).toBe(3);
    const next = await today();
    expect(next.mode).toBe('full');
    expect(next.run.stderr).toMatch(/a FULL is made, since its FULL .* was found damaged on \d{4}-\d\d-\d\d/);
    expect((await tale.phd(['verify', next.full])).status).toBe(0);
    full = next;
  });

  it('encryption switched on makes a FULL', async () => {
    tale.home.write('system', 'a passphrase\n');
    tale.configure({ config: 'encryption: { systemPassphraseFile: system }\n' });
    expect(await today(['--encrypt'])).toMatchObject({
      mode: 'full',
      message: 'encryption was switched since its FULL',
    });
  });

  it('a disk that was grown gets a FULL', async () => {
    const image = openSync(flat, 'r+');
    ftruncateSync(image, 17 * MIB);
    closeSync(image);
    const descriptor = vm.disks[0]?.descriptorPath ?? '';
    const text = readFileSync(descriptor, 'utf8');
    writeFileSync(descriptor, text.replace(`RW ${(16 * MIB) / 512} `, `RW ${(17 * MIB) / 512} `));
    expect(await today(['--encrypt'])).toMatchObject({
      mode: 'full',
      message: 'the disk has another size than its FULL',
    });
  });
});
