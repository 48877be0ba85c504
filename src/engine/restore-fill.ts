/** Fills the disk of a restore: compares what is there, brings the rest, keeps the first block back where it must. */
import { blockSizeBytes, type Geometry } from '../archive/geometry.ts';
import type { BlockSet } from '../blocks/block-set.ts';
import { compareDisk, zeroBlocks } from '../blocks/check-disk.ts';
import type { BlockPool } from '../blocks/pool.ts';
import type { OpenDisk } from '../blocks/scan-disk.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { SyncAhead } from '../storage/sync-ahead.ts';
import { placeText } from './archive-place.ts';
import type { OperationHooks } from './backup.ts';
import { formatCount } from './display-text.ts';
import { expectedRegions, FROM_ZERO } from './expected-disk.ts';
import type { DiskMap } from './map-file.ts';
import { Progress } from './progress.ts';
import type { RestoreRequest } from './restore.ts';
import { type BringResult, bringBlocks } from './restore-blocks.ts';
import { type OpenGoal, requireRoom } from './restore-goal.ts';
import type { RestoreSource } from './restore-source.ts';

/** One restore under way: what is wanted, where it goes. */
export interface Work {
  source: RestoreSource;
  fullMap: DiskMap;
  request: RestoreRequest;
  hooks: OperationHooks;
  pool: BlockPool;
  open: OpenGoal;
  disk: OpenDisk;
  geometry: Geometry;
  wanted: BlockSet;
  zero: BlockSet;
  /** Those of the disk that come from the DELTA. */
  fromDelta: BlockSet;
}

/** What it took to fill the disk. */
export interface Filled extends BringResult {
  kept: number;
  writtenBytes: number;
  /** Written beside the disk before the disk itself. */
  besideBytes: number;
}

/**
 * Brings every block that is not there yet. Returns with all of them written and proved, or (salvage) with the bad ones
 * named. Throws DIGEST_MISMATCH, and what reading archives and writing the disk throw.
 */
export async function fillDisk(work: Work): Promise<Filled> {
  const { hooks, pool, disk, geometry, open, wanted, zero, source } = work;
  const before = wanted.size + zero.size;
  let zeroWritten = 0;
  let withheld: 'data' | 'zero' | null = null;
  if (open.hasContent) {
    await dropWhatIsRight(work);
    // A block of a clone takes room when it is written.
    if (open.kind === 'clone') requireRoom(open.goal, bytesOf(wanted, geometry) + bytesOf(zero, geometry));
    if (open.kind === 'device' && wanted.size + zero.size > 0) withheld = await keepBackFirstBlock(work);
    zeroWritten = await zeroBlocks(pool, disk, zero, hooks.signal);
  }
  const kept = open.hasContent ? before - wanted.size - zero.size - (withheld ? 1 : 0) : 0;
  const totalBytes = bytesOf(wanted, geometry) + (withheld === 'data' ? blockSizeBytes(geometry, 0) : 0);
  const about = {
    label: source.diskName,
    phase: 'restore',
    totalBytes,
    fullBytes: fullBytesOf(work, withheld),
  };
  const progress = new Progress(hooks.onProgress, about);
  const ahead = new SyncAhead(open.handle, open.workPath);
  const onWritten = (bytes: number): void => ahead.wrote(bytes);
  const bring = { pool, disk, source, wanted, progress, hooks, onWritten };
  const filled = await bringBlocks(bring).finally(() => ahead.settle());
  requireGood(work, filled);
  if (withheld) {
    await syncWork(open);
    if (withheld === 'data') {
      wanted.add(0);
      const first = await bringBlocks(bring);
      requireGood(work, first);
      filled.fromFull += first.fromFull;
      filled.fromDelta += first.fromDelta;
    }
  }
  progress.finish();
  const writtenBytes =
    progress.bytes + zeroWritten * geometry.blockBytes + (withheld ? blockSizeBytes(geometry, 0) : 0);
  return { ...filled, kept, writtenBytes, besideBytes: 0 };
}

/** Compares what the disk holds; only what differs stays wanted. */
export async function dropWhatIsRight(work: Work): Promise<void> {
  const { pool, disk, source, geometry, wanted, zero, hooks } = work;
  const progress = new Progress(hooks.onProgress, {
    label: source.diskName,
    phase: 'compare',
    totalBytes: geometry.diskBytes,
  });
  const drop = (blocks: number[], failures: { block: number }[]): void => {
    const differs = new Set(failures.map((failure) => failure.block));
    for (const block of blocks) {
      if (differs.has(block)) continue;
      wanted.delete(block);
      zero.delete(block);
    }
    progress.add(blocks.reduce((sum, block) => sum + blockSizeBytes(geometry, block), 0));
  };
  await compareDisk(pool, disk, expectedRegions(work.fullMap, source.maps), drop, hooks.signal);
  progress.finish();
}

/** Zeroes block 0 and syncs, so that nothing takes a half-restored disk for a disk; its bytes are written last. */
async function keepBackFirstBlock(work: Work): Promise<'data' | 'zero'> {
  const { open, geometry, wanted, zero } = work;
  const isZero = zero.has(0) || !(await holdsData(work));
  wanted.delete(0);
  zero.delete(0);
  try {
    const zeros = Buffer.alloc(blockSizeBytes(geometry, 0));
    const { bytesWritten } = await open.handle.write(zeros, 0, zeros.length, 0);
    if (bytesWritten !== zeros.length)
      throw new PhdError('IO', `only ${bytesWritten} of ${zeros.length} bytes were taken`);
  } catch (error) {
    throw fromErrno(error, `cannot write ${open.workPath}`);
  }
  await syncWork(open);
  return isZero ? 'zero' : 'data';
}

/** Whether block 0 of the finished disk is anything but zero. */
async function holdsData(work: Work): Promise<boolean> {
  for await (const region of expectedRegions(work.fullMap, work.source.maps)) {
    return region.sources[0] !== FROM_ZERO;
  }
  return false;
}

export async function syncWork(open: OpenGoal): Promise<void> {
  try {
    await open.handle.sync();
  } catch (error) {
    throw fromErrno(error, `cannot sync ${open.workPath}`);
  }
}

export function bytesOf(blocks: Iterable<number>, geometry: Geometry): number {
  let bytes = 0;
  for (const block of blocks) bytes += blockSizeBytes(geometry, block);
  return bytes;
}

/** What of the wanted blocks, the one kept back included, comes from the FULL. */
function fullBytesOf({ wanted, fromDelta, geometry }: Work, withheld: 'data' | 'zero' | null): number {
  let bytes = withheld === 'data' && !fromDelta.has(0) ? blockSizeBytes(geometry, 0) : 0;
  for (const block of wanted) if (!fromDelta.has(block)) bytes += blockSizeBytes(geometry, block);
  return bytes;
}

export function requireGood(work: Work, result: BringResult): void {
  const [first] = result.bad;
  if (!first) {
    if (work.wanted.size === 0) return;
    throw new PhdError(
      'ARCHIVE_DAMAGED',
      `disk ${work.source.diskName}: ${formatCount(work.wanted.size, 'block')} found in neither archive`,
    );
  }
  if (work.request.salvage) return;
  const [block, reason] = first;
  const others = result.bad.size > 1 ? ` and ${result.bad.size - 1} more` : '';
  throw new PhdError(
    'DIGEST_MISMATCH',
    `disk ${work.source.diskName}: block ${block} (byte ${block * work.geometry.blockBytes})${others} is good in no copy of ${placeText(work.source.full.place)} or its DELTA: ${reason}; verify the archive, restore another date, or use --salvage`,
  );
}

/** Reads the finished disk again. Throws DIGEST_MISMATCH. */
export async function verifyFinished(work: Work): Promise<void> {
  const { pool, disk, source, geometry, hooks } = work;
  await syncWork(work.open);
  const progress = new Progress(hooks.onProgress, {
    label: source.diskName,
    phase: 'verify',
    totalBytes: geometry.diskBytes,
  });
  const bad: number[] = [];
  const note = (blocks: number[], failures: { block: number }[]): void => {
    bad.push(...failures.map((failure) => failure.block));
    progress.add(blocks.reduce((sum, block) => sum + blockSizeBytes(geometry, block), 0));
  };
  await compareDisk(pool, disk, expectedRegions(work.fullMap, source.maps), note, hooks.signal);
  progress.finish();
  if (bad.length > 0)
    throw new PhdError(
      'DIGEST_MISMATCH',
      `${work.open.workPath}: ${formatCount(bad.length, 'block')} read back otherwise than written, the first is block ${Math.min(...bad)}`,
    );
}
