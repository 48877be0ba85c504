/** A disk of a pool that is read twice, since the line died. What sends it is a stand-in here: no host can be made to lie so. */
import { writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { BLOCK_BYTES } from '../../src/archive/geometry.ts';
import { PhdError } from '../../src/errors.ts';
import { SpooledDisk } from '../../src/hosts/xen/spooled-disk.ts';
import { dataBlocks, vhdOf } from '../../src/hosts/xen/vhd-writer.ts';
import type { XenTransfers } from '../../src/hosts/xen/xen-transfer.ts';
import { randomLooking } from '../support/disk-images.ts';
import { makeTempHome } from '../support/temp-home.ts';

const SIZE = 8 * 1024 * 1024;
const BITMAP_AT = 2048;
const home = makeTempHome();
afterAll(() => home.remove());

async function vhdOfDisk(disk: Buffer): Promise<Buffer> {
  writeFileSync(path.join(home.root, 'disk'), disk);
  const file = await open(path.join(home.root, 'disk'), 'r');
  const parts: Buffer[] = [];
  try {
    const blocks = await dataBlocks(file, SIZE);
    const uuid = '12345678-1234-4234-8234-123456789abc';
    for await (const part of vhdOf(file, { sizeBytes: SIZE, blocks, uuid, now: new Date(0) }))
      parts.push(Buffer.from(part));
  } finally {
    await file.close();
  }
  return Buffer.concat(parts);
}

/** Each reading is of one file; all but the last die within their last footer. */
function sending(files: Buffer[]): XenTransfers {
  const left = [...files];
  const download: XenTransfers['download'] = async (_handler, _query, onPart) => {
    const file = left.shift()!;
    const end = left.length === 0 ? file.length : file.length - 400;
    for (let at = 0; at < end; at += 65_536) await onPart(file.subarray(at, Math.min(at + 65_536, end)));
    if (left.length > 0) throw new PhdError('TARGET_UNREACHABLE', 'the line died');
  };
  return { download } as XenTransfers;
}

it.each([
  ['the same', 0xff, null],
  ['a sector left out that held data', 0x7f, 'SOURCE_CHANGED'],
])('the second reading of a disk: %s', async (name, firstSectors, code) => {
  const content = Buffer.alloc(SIZE);
  randomLooking('spooled', 3 * BLOCK_BYTES).copy(content);
  const first = await vhdOfDisk(content);
  const second = Buffer.from(first);
  expect(second[BITMAP_AT]).toBe(0xff);
  second[BITMAP_AT] = firstSectors;
  const facts = { what: 'xvda of web', vdiUuid: 'x', sizeBytes: SIZE, path: path.join(home.root, name) };
  const disk = new SpooledDisk(facts, sending([first, second]), () => undefined, [0]);
  const end = Buffer.alloc(BLOCK_BYTES);
  const ended = await disk.read(SIZE / BLOCK_BYTES - 1, end).then(
    () => null,
    (error: PhdError) => error.code,
  );
  const start = Buffer.alloc(BLOCK_BYTES);
  if (code === null) await disk.read(0, start);
  await disk.close();
  expect(ended).toBe(code);
  if (code === null) expect(start.equals(content.subarray(0, BLOCK_BYTES))).toBe(true);
});
