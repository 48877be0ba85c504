/** Reads a disk once, in order: digests of blocks and regions, and members or frames if asked for. */
import { DIGEST_BYTES, type Geometry, isZeroMark, REGION_BLOCKS, ZERO_MARK } from '../archive/geometry.ts';
import type { MapRegion } from '../archive/map.ts';
import { throwIfAborted } from '../errors.ts';
import type { BlockPool } from './pool.ts';
import { BATCH_BLOCKS, type Packing, type Slot, type TaskResult } from './tasks.ts';

export interface OpenDisk {
  fd: number;
  geometry: Geometry;
}

export interface ScannedBatch {
  blocks: number[];
  /** 32 bytes a block, zero marks included. */
  digests: Buffer;
  /** Bytes of each member; zeros without packing. */
  memberBytes: Uint32Array;
  /** The members one after the other; empty without packing. */
  packed: Buffer;
  /** The plain blocks, if `keepRaw` was asked for; else empty. */
  raw: Buffer;
  /** Digest of the region that ends with this batch, if one does and it was asked for. */
  regionDigest: Buffer | null;
}

export interface ScanOptions {
  packing: Packing | null;
  /** Also hash whole regions; needs `blocks` to be all blocks in order. */
  withRegions: boolean;
  /** Also hand out the plain blocks (for a packer of another program, lzop). */
  keepRaw?: boolean;
  signal?: AbortSignal;
}

interface Started {
  blocks: number[];
  slot: Slot;
  result: Promise<TaskResult>;
}

/** All blocks of a disk in batches that never cross a region. */
export function* allBlocks(geometry: Geometry): Generator<number[]> {
  for (let first = 0; first < geometry.blockCount; first += BATCH_BLOCKS) {
    const count = Math.min(BATCH_BLOCKS, geometry.blockCount - first);
    yield Array.from({ length: count }, (_, index) => first + index);
  }
}

/**
 * Batches in the order of `blocks` (each at most BATCH_BLOCKS, ascending). Work runs ahead on all workers as far as
 * there are slots. Throws SOURCE_CHANGED if the disk got shorter, IO, CANCELLED.
 */
export async function* scanDisk(
  pool: BlockPool,
  disk: OpenDisk,
  blocks: Iterable<number[]> | AsyncIterable<number[]>,
  options: ScanOptions,
): AsyncGenerator<ScannedBatch> {
  const source = Symbol.asyncIterator in blocks ? blocks[Symbol.asyncIterator]() : blocks[Symbol.iterator]();
  const started: Started[] = [];
  const releases = new Set<Promise<unknown>>();
  const region: RunningRegion = { zeroBytes: 0, hasData: false };
  const start = async (): Promise<boolean> => {
    const next = await source.next();
    if (next.done) return false;
    const slot = await pool.acquire();
    const task = {
      kind: 'pack',
      slot: slot.index,
      fd: disk.fd,
      diskBytes: disk.geometry.diskBytes,
      blocks: next.value,
      packing: options.packing,
    } as const;
    const result = pool.run(task);
    result.catch(() => undefined);
    started.push({ blocks: next.value, slot, result });
    return true;
  };
  try {
    let more = true;
    for (;;) {
      throwIfAborted(options.signal);
      while (more && started.length < pool.slotCount - 1) more = await start();
      const head = started.shift();
      if (!head) break;
      const result = await head.result.catch((error) => {
        pool.release(head.slot);
        throw error;
      });
      yield await finish(pool, disk, head, result, options, region, releases);
    }
  } finally {
    await Promise.allSettled(started.map((batch) => batch.result));
    for (const batch of started) pool.release(batch.slot);
    await Promise.allSettled(releases);
  }
}

/** The region under way, whose digest the pool keeps: zeros not yet told to it, and whether it holds anything else. */
interface RunningRegion {
  zeroBytes: number;
  hasData: boolean;
}

async function finish(
  pool: BlockPool,
  disk: OpenDisk,
  batch: Started,
  result: TaskResult,
  options: ScanOptions,
  region: RunningRegion,
  releases: Set<Promise<unknown>>,
): Promise<ScannedBatch> {
  const digests = Buffer.from(result.digests as Uint8Array);
  const memberBytes = result.memberBytes as Uint32Array;
  const packedBytes = memberBytes.reduce((sum, bytes) => sum + bytes, 0);
  const { blockBytes, diskBytes } = disk.geometry;
  const firstByte = batch.blocks[0]! * blockBytes;
  const rawBytes = Math.min(batch.blocks.length * blockBytes, diskBytes - firstByte);
  const scanned: ScannedBatch = {
    blocks: batch.blocks,
    digests,
    memberBytes,
    packed: Buffer.from(batch.slot.packed.subarray(0, packedBytes)),
    raw: options.keepRaw ? Buffer.from(batch.slot.raw.subarray(0, rawBytes)) : Buffer.alloc(0),
    regionDigest: null,
  };
  if (!options.withRegions) {
    pool.release(batch.slot);
    return scanned;
  }
  const last = batch.blocks.at(-1) as number;
  const isLast = (last + 1) % REGION_BLOCKS === 0 || last + 1 === disk.geometry.blockCount;
  const isZero = isAllZero(digests);
  const isFirst = !region.hasData;
  if (isZero) region.zeroBytes += rawBytes;
  else region.hasData = true;
  if (isZero && !(isLast && region.hasData)) {
    pool.release(batch.slot);
    if (isLast) {
      scanned.regionDigest = Buffer.from(ZERO_MARK);
      region.zeroBytes = 0;
    }
    return scanned;
  }
  const hashed = pool.runInOrder({
    kind: 'region',
    slot: batch.slot.index,
    zeroBytesBefore: region.zeroBytes,
    bytes: isZero ? 0 : rawBytes,
    isFirst,
    isLast,
  });
  region.zeroBytes = 0;
  if (isLast) region.hasData = false;
  const released = hashed.then(
    () => pool.release(batch.slot),
    () => pool.release(batch.slot),
  );
  releases.add(released);
  void released.then(() => releases.delete(released));
  if (isLast) scanned.regionDigest = Buffer.from((await hashed).regionDigest as Uint8Array);
  return scanned;
}

/** What the scan of one region found; nothing was packed. */
export interface ScannedRegion {
  blocks: number[];
  digests: Buffer;
  /** All 0: there are no members. */
  memberBytes: Uint32Array;
  regionDigest: Buffer;
  /** Blocks that are not as in the FULL. */
  changedBlocks: number;
}

/**
 * Reads a disk for its digests alone and compares it with the map of its FULL, whole regions side by side on all
 * workers; gives them in order. Throws SOURCE_CHANGED, IO, CANCELLED, and what reading the map throws.
 */
export async function* scanRegions(
  pool: BlockPool,
  disk: OpenDisk,
  full: AsyncGenerator<MapRegion>,
  signal?: AbortSignal,
): AsyncGenerator<ScannedRegion> {
  const { geometry, fd } = disk;
  const started: { blocks: number[]; result: Promise<TaskResult> }[] = [];
  const start = async (): Promise<boolean> => {
    const { value: region, done } = await full.next();
    if (done) return false;
    const { firstBlock, count } = region;
    const slot = await pool.acquire();
    const task = {
      kind: 'scan',
      slot: slot.index,
      fd,
      diskBytes: geometry.diskBytes,
      firstBlock,
      count,
      fullDigests: region.digests,
      fullRegionDigest: region.digest,
    } as const;
    const result = pool.run(task).finally(() => pool.release(slot));
    result.catch(() => undefined);
    started.push({ blocks: Array.from({ length: count }, (_, index) => firstBlock + index), result });
    return true;
  };
  try {
    let more = true;
    for (;;) {
      throwIfAborted(signal);
      while (more && started.length < pool.slotCount) more = await start();
      const head = started.shift();
      if (!head) return;
      const { digests, regionDigest, changedBlocks } = await head.result;
      yield {
        blocks: head.blocks,
        digests: Buffer.from(digests as Uint8Array),
        memberBytes: new Uint32Array(head.blocks.length),
        regionDigest: Buffer.from(regionDigest as Uint8Array),
        changedBlocks: changedBlocks as number,
      };
    }
  } finally {
    await Promise.allSettled(started.map((region) => region.result));
    await full.return(undefined);
  }
}

function isAllZero(digests: Buffer): boolean {
  for (let at = 0; at < digests.length; at += DIGEST_BYTES) {
    if (!isZeroMark(digests.subarray(at, at + DIGEST_BYTES))) return false;
  }
  return true;
}
