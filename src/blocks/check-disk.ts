/** Compares a disk with digests, writes zeros, and writes plain streams: the work on a disk that needs no archive. */
import { DIGEST_BYTES, type Geometry } from '../archive/geometry.ts';
import type { MapRegion } from '../archive/map.ts';
import { PhdError, throwIfAborted } from '../errors.ts';
import type { BlockPool } from './pool.ts';
import type { OpenDisk } from './scan-disk.ts';
import { BATCH_BLOCKS, type BlockFailure, type TaskResult } from './tasks.ts';

type DigestRegion = Pick<MapRegion, 'firstBlock' | 'count' | 'digests'>;

/** Cuts regions into batches with their digests. */
async function* batchesOf(
  regions: AsyncIterable<DigestRegion>,
): AsyncGenerator<{ blocks: number[]; digests: Buffer }> {
  for await (const region of regions) {
    for (let from = 0; from < region.count; from += BATCH_BLOCKS) {
      const count = Math.min(BATCH_BLOCKS, region.count - from);
      const blocks = Array.from({ length: count }, (_, index) => region.firstBlock + from + index);
      yield { blocks, digests: region.digests.subarray(from * DIGEST_BYTES, (from + count) * DIGEST_BYTES) };
    }
  }
}

/** Runs work on slots ahead of its consumer, as far as there are slots, and reports in any order. */
class Tracker {
  readonly #pending = new Set<Promise<void>>();
  #failure: unknown;

  /** Throws what an earlier piece of work threw. */
  add(work: Promise<TaskResult>, report: (result: TaskResult) => void, release: () => void): void {
    if (this.#failure) {
      void work.catch(() => undefined).finally(release);
      throw this.#failure;
    }
    const done = work
      .then(report)
      .catch((error) => {
        this.#failure ??= error;
      })
      .finally(() => {
        release();
        this.#pending.delete(done);
      });
    this.#pending.add(done);
  }

  async settle(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
    if (this.#failure) throw this.#failure;
  }
}

/**
 * Reads every block of a disk and compares it with its digest; `onBatch` gets the blocks looked at and those that
 * differ, in no particular order. Throws SOURCE_CHANGED if the disk is shorter than its geometry.
 */
export async function compareDisk(
  pool: BlockPool,
  disk: OpenDisk,
  regions: AsyncIterable<DigestRegion>,
  onBatch: (blocks: number[], failures: BlockFailure[]) => void,
  signal?: AbortSignal,
): Promise<void> {
  const tracker = new Tracker();
  for await (const { blocks, digests } of batchesOf(regions)) {
    throwIfAborted(signal);
    const slot = await pool.acquire();
    const task = {
      kind: 'prove',
      slot: slot.index,
      fd: disk.fd,
      diskBytes: disk.geometry.diskBytes,
      blocks,
      digests,
    } as const;
    tracker.add(
      pool.run(task),
      (result) => onBatch(blocks, result.failures ?? []),
      () => pool.release(slot),
    );
  }
  await tracker.settle();
}

/** Writes zeros over blocks that hold anything else. Returns how many had to be written. */
export async function zeroBlocks(
  pool: BlockPool,
  disk: OpenDisk,
  blocks: Iterable<number>,
  signal?: AbortSignal,
): Promise<number> {
  const tracker = new Tracker();
  let written = 0;
  const send = async (batch: number[]): Promise<void> => {
    throwIfAborted(signal);
    const slot = await pool.acquire();
    const task = {
      kind: 'zero',
      slot: slot.index,
      fd: disk.fd,
      diskBytes: disk.geometry.diskBytes,
      blocks: batch,
    } as const;
    tracker.add(
      pool.run(task),
      (result) => {
        written += result.writtenBlocks ?? 0;
      },
      () => pool.release(slot),
    );
  };
  let batch: number[] = [];
  for (const block of blocks) {
    batch.push(block);
    if (batch.length < BATCH_BLOCKS) continue;
    await send(batch);
    batch = [];
  }
  if (batch.length > 0) await send(batch);
  await tracker.settle();
  return written;
}

/**
 * Takes a plain stream of a whole disk, compares each block with its digest and writes the good ones that `isWanted`.
 * Throws ARCHIVE_DAMAGED if the stream is shorter or longer than the disk.
 */
export async function placeStream(
  pool: BlockPool,
  disk: OpenDisk,
  stream: AsyncIterable<Uint8Array>,
  regions: AsyncIterable<DigestRegion>,
  options: {
    isWanted: (block: number) => boolean;
    onBatch: (good: number[], failures: BlockFailure[]) => void;
    /** Only compare, write nothing. */
    check: boolean;
    signal?: AbortSignal;
  },
): Promise<void> {
  const { blockBytes, diskBytes } = disk.geometry;
  const tracker = new Tracker();
  const bytes = new StreamCursor(stream);
  try {
    for await (const { blocks, digests } of batchesOf(regions)) {
      throwIfAborted(options.signal);
      const slot = await pool.acquire();
      const batchBytes = Math.min(blocks.length * blockBytes, diskBytes - blocks[0]! * blockBytes);
      try {
        await bytes.fill(slot.raw.subarray(0, batchBytes));
      } catch (error) {
        pool.release(slot);
        throw error;
      }
      const wanted = compact(slot.raw, disk.geometry, blocks, digests, options.isWanted);
      const task = {
        kind: 'place',
        slot: slot.index,
        fd: disk.fd,
        diskBytes,
        ...wanted,
        check: options.check,
      } as const;
      const report = (result: TaskResult): void => {
        const failures = result.failures ?? [];
        const bad = new Set(failures.map((failure) => failure.block));
        options.onBatch(
          wanted.blocks.filter((block) => !bad.has(block)),
          failures,
        );
      };
      tracker.add(pool.run(task), report, () => pool.release(slot));
    }
    await bytes.requireEnd();
  } finally {
    await bytes.close();
    await tracker.settle();
  }
}

/** Moves the wanted blocks to the front of the slot. */
function compact(
  raw: Buffer,
  geometry: Geometry,
  blocks: number[],
  digests: Buffer,
  isWanted: (block: number) => boolean,
): { blocks: number[]; digests: Buffer } {
  const { blockBytes } = geometry;
  const wanted: number[] = [];
  const wantedDigests: Buffer[] = [];
  blocks.forEach((block, index) => {
    if (!isWanted(block)) return;
    if (wanted.length !== index)
      raw.copyWithin(wanted.length * blockBytes, index * blockBytes, (index + 1) * blockBytes);
    wanted.push(block);
    wantedDigests.push(digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES));
  });
  return { blocks: wanted, digests: Buffer.concat(wantedDigests) };
}

class StreamCursor {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array(0);

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.#iterator = stream[Symbol.asyncIterator]();
  }

  async fill(target: Buffer): Promise<void> {
    for (let filled = 0; filled < target.length; ) {
      if (this.#chunk.length === 0) {
        const next = await this.#iterator.next();
        if (next.done)
          throw new PhdError('ARCHIVE_DAMAGED', 'the stream of the FULL ends before the disk does');
        this.#chunk = next.value;
      }
      const count = Math.min(this.#chunk.length, target.length - filled);
      target.set(this.#chunk.subarray(0, count), filled);
      this.#chunk = this.#chunk.subarray(count);
      filled += count;
    }
  }

  async requireEnd(): Promise<void> {
    while (this.#chunk.length === 0) {
      const next = await this.#iterator.next();
      if (next.done) return;
      this.#chunk = next.value;
    }
    throw new PhdError('ARCHIVE_DAMAGED', 'the stream of the FULL is longer than the disk');
  }

  async close(): Promise<void> {
    await this.#iterator.return?.();
  }
}
