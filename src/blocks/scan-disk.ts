/** Reads a disk once, in order: digests of blocks and regions, and members or frames if asked for. */
import { DIGEST_BYTES, type Geometry, isZeroMark, REGION_BLOCKS, ZERO_MARK } from '../archive/geometry.ts';
import type { MapRegion } from '../archive/map.ts';
import { throwIfAborted } from '../errors.ts';
import type { DiskReader } from '../model/disk-reader.ts';
import type { BlockPool } from './pool.ts';
import { compareByBlocks, compareByDigests, fetchBlocks } from './scan-remote.ts';
import { BATCH_BLOCKS, type Packing, type Slot, type TaskResult } from './tasks.ts';

export interface OpenDisk {
  /** -1 with a reader. */
  fd: number;
  /** For a disk that lies in no local file. */
  reader?: DiskReader | null;
  geometry: Geometry;
}

export interface ScannedBatch {
  blocks: number[];
  /** 32 bytes a block, zero marks included. */
  digests: Buffer;
  /** Bytes of each member; zeros without packing. */
  memberBytes: Uint32Array;
  /** The members one after the other; empty without packing. With `lendPacked` only until the next batch is asked for. */
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
  /** `packed` is memory of the pool, not a copy: its garbage would cost more than the copy (a tenth of a zstd FULL). */
  lendPacked?: boolean;
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
 * there are slots. Throws SOURCE_CHANGED if the disk got shorter, IO, CANCELLED, what the disk's reader throws.
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
  /** Its slot is free once its region is hashed. */
  let held: { slot: Slot; hashed: Promise<Buffer | null> | null } | undefined;
  const giveBack = (): void => {
    if (!held) return;
    const { slot, hashed } = held;
    held = undefined;
    const release = (): void => pool.release(slot);
    const released = (hashed ?? Promise.resolve()).then(release, release);
    releases.add(released);
    void released.then(() => releases.delete(released));
  };
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
    const fetched =
      disk.reader && fetchBlocks(disk.reader, disk.geometry, next.value, slot.raw, options.signal);
    const result = fetched ? fetched.then(() => pool.run(task)) : pool.run(task);
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
      const hashed = options.withRegions ? hashRegion(pool, disk, head, result, region) : null;
      held = { slot: head.slot, hashed };
      const batch = scannedOf(disk, head, result, options);
      if (!options.lendPacked) giveBack();
      if (options.withRegions && endsRegion(disk, head)) batch.regionDigest = await hashed;
      yield batch;
      giveBack();
    }
  } finally {
    giveBack();
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

function scannedOf(disk: OpenDisk, batch: Started, result: TaskResult, options: ScanOptions): ScannedBatch {
  const memberBytes = result.memberBytes as Uint32Array;
  const packedBytes = memberBytes.reduce((sum, bytes) => sum + bytes, 0);
  const packed = batch.slot.packed.subarray(0, packedBytes);
  return {
    blocks: batch.blocks,
    digests: Buffer.from(result.digests as Uint8Array),
    memberBytes,
    packed: options.lendPacked ? packed : Buffer.from(packed),
    raw: options.keepRaw ? Buffer.from(batch.slot.raw.subarray(0, rawBytesOf(disk, batch))) : Buffer.alloc(0),
    regionDigest: null,
  };
}

function endsRegion({ geometry }: OpenDisk, { blocks }: Started): boolean {
  const next = (blocks.at(-1) as number) + 1;
  return next % REGION_BLOCKS === 0 || next === geometry.blockCount;
}

/** Has a batch hashed into the digest of its region; resolves with that digest if it ends there. Null: nothing to do. */
function hashRegion(
  pool: BlockPool,
  disk: OpenDisk,
  batch: Started,
  result: TaskResult,
  region: RunningRegion,
): Promise<Buffer | null> | null {
  const rawBytes = rawBytesOf(disk, batch);
  const isLast = endsRegion(disk, batch);
  const isZero = isAllZero(Buffer.from(result.digests as Uint8Array));
  const isFirst = !region.hasData;
  if (isZero) region.zeroBytes += rawBytes;
  else region.hasData = true;
  if (isZero && !(isLast && region.hasData)) {
    if (!isLast) return null;
    region.zeroBytes = 0;
    return Promise.resolve(Buffer.from(ZERO_MARK));
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
  return hashed.then(({ regionDigest }) => (regionDigest ? Buffer.from(regionDigest) : null));
}

function rawBytesOf({ geometry }: OpenDisk, { blocks }: Started): number {
  const firstByte = (blocks[0] as number) * geometry.blockBytes;
  return Math.min(blocks.length * geometry.blockBytes, geometry.diskBytes - firstByte);
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
 * workers; gives them in order. A disk behind a reader is compared by digests of its host's, if it makes any. Throws
 * SOURCE_CHANGED, IO, CANCELLED, TARGET_*, and what reading the map throws.
 */
export function scanRegions(
  pool: BlockPool,
  disk: OpenDisk,
  full: AsyncGenerator<MapRegion>,
  signal?: AbortSignal,
): AsyncGenerator<ScannedRegion> {
  if (!disk.reader) return scanLocalRegions(pool, disk, full, signal);
  if (disk.reader.digests) return compareByDigests(disk.reader.digests, full, signal);
  const options = { packing: null, withRegions: true, signal };
  return compareByBlocks(scanDisk(pool, disk, allBlocks(disk.geometry), options), full);
}

async function* scanLocalRegions(
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
