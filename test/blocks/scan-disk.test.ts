/** Scans of a disk through the built worker threads. */
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { afterAll, expect, it } from 'vitest';
import { geometryOf } from '../../src/archive/geometry.ts';
import type * as Pool from '../../src/blocks/pool.ts';
import type * as Scan from '../../src/blocks/scan-disk.ts';
import { randomLooking } from '../support/disk-images.ts';
import { makeTempHome } from '../support/temp-home.ts';
import { BLOCK, HOOK_TIMEOUT_MS, sha256 } from '../tales/tale.ts';

const BUILT = new URL('../../dist/src/blocks/', import.meta.url).href;
const { BlockPool } = (await import(`${BUILT}pool.js`)) as typeof Pool;
const { allBlocks, scanDisk } = (await import(`${BUILT}scan-disk.js`)) as typeof Scan;
const home = makeTempHome();
afterAll(() => home.remove());

it('a scan that was given up leaves nothing behind in the next one', {
  timeout: HOOK_TIMEOUT_MS,
}, async () => {
  const content = randomLooking('disk', 40 * BLOCK);
  const file = home.write('disk.img', '');
  writeFileSync(file, content);
  const disk = { fd: openSync(file, 'r'), geometry: geometryOf(content.length) };
  const pool = new BlockPool(BLOCK, disk.geometry.blockCount);
  const options = { packing: null, withRegions: true };
  try {
    for await (const batch of scanDisk(pool, disk, allBlocks(disk.geometry), options)) {
      expect(batch.regionDigest).toBe(null);
      break;
    }
    const digests: string[] = [];
    for await (const { regionDigest } of scanDisk(pool, disk, allBlocks(disk.geometry), options)) {
      if (regionDigest) digests.push(regionDigest.toString('hex'));
    }
    expect(digests).toEqual([sha256(content)]);
  } finally {
    await pool.close();
    closeSync(disk.fd);
  }
});
