/** Notices a source that changes while it is read: size and times, who has it open, blocks read a second time. */
import { randomInt } from 'node:crypto';
import { DIGEST_BYTES } from '../archive/geometry.ts';
import type { BlockPool } from '../blocks/pool.ts';
import { type OpenDisk, scanDisk } from '../blocks/scan-disk.ts';
import { BATCH_BLOCKS } from '../blocks/tasks.ts';
import { fingerprintChange, type SourceFingerprint, sourceFingerprint } from '../datastore/fingerprint.ts';
import { checkInUse } from '../datastore/in-use.ts';
import { PhdError } from '../errors.ts';
import type { DiskMap } from './map-file.ts';

/** Share of the blocks read again at the end, and the least number. */
const REREAD_SHARE = 0.01;
const REREAD_LEAST = 16;
/** What a backup can say of users it cannot see. */
const WHAT_FOLLOWS =
  ': if it writes to a disk while that is read, only the times of the disk and a sample read twice would show it; ' +
  '--assume-off takes the VM as off';
/** How often it is looked who has the disk open. */
const LOOK_EVERY_MS = 5000;

export class SourceWatch {
  readonly #disk: string;
  readonly #flatPath: string;
  readonly #paths: string[];
  readonly #before: SourceFingerprint;
  readonly #assumeOff: boolean;
  #timer: NodeJS.Timeout | undefined;
  #inUse: PhdError | undefined;

  private constructor(
    disk: string,
    flatPath: string,
    paths: string[],
    before: SourceFingerprint,
    assumeOff: boolean,
  ) {
    this.#disk = disk;
    this.#flatPath = flatPath;
    this.#paths = paths;
    this.#before = before;
    this.#assumeOff = assumeOff;
  }

  /** Throws VM_RUNNING if something has the disk open. `onUnknown` gets what cannot be known. */
  static async begin(
    source: { disk: string; flatPath: string; paths: string[]; assumeOff: boolean },
    onUnknown: (what: string) => void,
  ): Promise<SourceWatch> {
    const before = await sourceFingerprint(source.flatPath);
    const watch = new SourceWatch(source.disk, source.flatPath, source.paths, before, source.assumeOff);
    const unknown = await watch.#look();
    if (!source.assumeOff) for (const line of unknown) onUnknown(`${line}${WHAT_FOLLOWS}`);
    if (watch.#inUse) throw watch.#inUse;
    watch.#timer = setInterval(() => void watch.#look(), LOOK_EVERY_MS);
    watch.#timer.unref();
    return watch;
  }

  async #look(): Promise<string[]> {
    try {
      const { inUse, unknown } = await checkInUse(this.#paths);
      const first = inUse.find((use) => !use.isReadOnly);
      if (first && !this.#assumeOff) {
        this.#inUse ??= new PhdError(
          'VM_RUNNING',
          `disk ${this.#disk} is in use: ${first.path} is ${first.how} by ${first.by}; stop the VM, or back up a snapshot of it`,
        );
      }
      return unknown;
    } catch (error) {
      return [`cannot see who has disk ${this.#disk} open: ${(error as Error).message}`];
    }
  }

  /** Compares the source with what it was. Throws SOURCE_CHANGED, VM_RUNNING. */
  async requireUnchanged(): Promise<void> {
    await this.#look();
    if (this.#inUse) throw this.#inUse;
    const now = await sourceFingerprint(this.#flatPath);
    const change = fingerprintChange(this.#before, now);
    if (change !== null) throw sourceChanged(this.#disk, change);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

export function sourceChanged(disk: string, how: string): PhdError {
  return new PhdError(
    'SOURCE_CHANGED',
    `disk ${disk} changed while it was read (${how}): stop the VM, or back up a snapshot of it`,
  );
}

/**
 * Reads 1 % of the blocks, and at least 16, a second time and compares them with the map. Throws SOURCE_CHANGED.
 */
export async function rereadSample(
  pool: BlockPool,
  disk: OpenDisk,
  map: DiskMap,
  name: string,
  signal?: AbortSignal,
): Promise<number> {
  const { blockCount } = disk.geometry;
  const wanted = Math.min(blockCount, Math.max(REREAD_LEAST, Math.ceil(blockCount * REREAD_SHARE)));
  const chosen = new Set<number>();
  while (chosen.size < wanted) chosen.add(randomInt(blockCount));
  const expected = new Map<number, Buffer>();
  for await (const region of map.regions()) {
    for (let at = 0; at < region.count; at += 1) {
      const block = region.firstBlock + at;
      if (chosen.has(block))
        expected.set(block, Buffer.from(region.digests.subarray(at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES)));
    }
  }
  const sorted = [...chosen].sort((a, b) => a - b);
  const batches: number[][] = [];
  for (let at = 0; at < sorted.length; at += BATCH_BLOCKS) batches.push(sorted.slice(at, at + BATCH_BLOCKS));
  for await (const batch of scanDisk(pool, disk, batches, { packing: null, withRegions: false, signal })) {
    batch.blocks.forEach((block, index) => {
      const digest = batch.digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
      if (!expected.get(block)?.equals(digest))
        throw sourceChanged(name, `block ${block} reads differently now`);
    });
  }
  return wanted;
}
