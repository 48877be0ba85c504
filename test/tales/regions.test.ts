/** Region digests, by which a DELTA proves a disk as a program: of zeros, of data, changed and unchanged. */
import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomLooking, type TestVm } from '../support/disk-images.ts';
import { type BackedUp, BLOCK, HOOK_TIMEOUT_MS, MIB, only, sha256, Tale } from './tale.ts';

const REGION = 64 * MIB;
const REGION_BLOCKS = REGION / BLOCK;
const DISK_BYTES = 6 * REGION + 3 * BLOCK + 512;

let tale: Tale;
let vm: TestVm;
let flat: string;

beforeAll(async () => {
  tale = new Tale();
  vm = await tale.makeVm('Regions', [{ name: 'Regions.vmdk', sizeBytes: DISK_BYTES, content: 'zero' }]);
  flat = vm.disks[0]?.flatPath ?? '';
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());

/** Writes a block; without a seed zeros. */
function put(region: number, block: number, seed?: string): void {
  const at = region * REGION + block * BLOCK;
  const bytes = Math.min(BLOCK, DISK_BYTES - at);
  const image = openSync(flat, 'r+');
  writeSync(image, seed === undefined ? Buffer.alloc(bytes) : randomLooking(seed, bytes), 0, bytes, at);
  closeSync(image);
}

/** Digest of each region of the disk as it is now, zero mark as `0`. */
function regionsOfDisk(): string[] {
  const image = openSync(flat, 'r');
  const zeros = Buffer.alloc(REGION);
  const digests: string[] = [];
  for (let at = 0; at < DISK_BYTES; at += REGION) {
    const bytes = Buffer.alloc(Math.min(REGION, DISK_BYTES - at));
    readSync(image, bytes, 0, bytes.length, at);
    digests.push(bytes.equals(zeros.subarray(0, bytes.length)) ? '0' : sha256(bytes));
  }
  closeSync(image);
  return digests;
}

/** Fields of the `r` lines of a DELTA: region, digest of the disk, digest of the FULL. */
function regionLines(delta: BackedUp): string[][] {
  const file = readFileSync(tale.file(delta.archive));
  const [, , manifestOffset, manifestBytes] = file
    .toString('latin1', file.length - 512)
    .split(' ')
    .map(Number);
  const manifest = file.toString('latin1', manifestOffset, (manifestOffset ?? 0) + (manifestBytes ?? 0));
  const [, offset, bytes] = /^part maps (\d+) (\d+) /m.exec(manifest) ?? [];
  const maps = gunzipSync(file.subarray(Number(offset), Number(offset) + Number(bytes))).toString();
  const lines = maps.split('\n').filter((line) => line.startsWith('r '));
  return lines.map((line) => line.split(' ').slice(1));
}

async function backUp(): Promise<BackedUp> {
  return only((await tale.backup(vm.folder)).disks);
}

describe('of a FULL and its DELTAs', () => {
  let before: string[];

  it('are those of the bytes, with zeros before, between and after the data', {
    timeout: HOOK_TIMEOUT_MS,
  }, async () => {
    put(0, 0, 'first');
    put(1, REGION_BLOCKS - 1, 'last');
    put(3, 100, 'middle');
    put(3, 103, 'near');
    put(4, 20, 'early');
    put(4, 200, 'late');
    put(5, 7, 'kept');
    put(6, 3, 'short');
    before = regionsOfDisk();
    expect(before[2]).toBe('0');
    const full = only((await tale.backup(vm.folder, ['--full'])).disks);
    expect(regionLines(full)).toEqual(before.map((digest, region) => [`${region}`, digest, '=']));
  });

  it('are those of the bytes after changes early, late, to zeros and from zeros', {
    timeout: HOOK_TIMEOUT_MS,
  }, async () => {
    put(1, REGION_BLOCKS - 1);
    put(2, 77, 'new');
    put(3, 250, 'new');
    put(4, 20, 'new');
    put(6, 3, 'new');
    const now = regionsOfDisk();
    const delta = await backUp();
    expect(delta).toMatchObject({ mode: 'delta', changedBlocks: 5 });
    const fullDigest = (region: number): string =>
      now[region] === before[region] ? '=' : String(before[region]);
    expect(regionLines(delta)).toEqual(
      now.map((digest, region) => [`${region}`, digest, fullDigest(region)]),
    );
    expect(now.map((digest, region) => digest === before[region])).toEqual([
      true,
      false,
      false,
      false,
      false,
      true,
      false,
    ]);
    put(2, 77);
    put(3, 250);
  });

  it('are those of the FULL where nothing changed', { timeout: HOOK_TIMEOUT_MS }, async () => {
    put(1, REGION_BLOCKS - 1, 'last');
    put(4, 20, 'early');
    put(6, 3, 'short');
    const delta = await backUp();
    expect(delta).toMatchObject({ mode: 'delta', changedBlocks: 0 });
    expect(regionLines(delta)).toEqual(before.map((digest, region) => [`${region}`, digest, '=']));
  });
});
