/** Restore of one disk: nothing is written before both archives and the goal are proved fit for each other. */
import fs from 'node:fs/promises';
import { blockSizeBytes, type Geometry, geometryOf } from '../archive/geometry.ts';
import { BlockSet } from '../blocks/block-set.ts';
import { compareDisk, zeroBlocks } from '../blocks/check-disk.ts';
import { BlockPool } from '../blocks/pool.ts';
import type { OpenDisk } from '../blocks/scan-disk.ts';
import { decryptStream } from '../crypt/message.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { placeText, storedBytes } from './archive-place.ts';
import type { OperationHooks } from './backup.ts';
import type { EngineContext } from './context.ts';
import { placeDescriptor, prepareDescriptor } from './descriptor-of-disk.ts';
import { expectedRegions, FROM_ZERO } from './expected-disk.ts';
import { isOpenFull } from './full-reader.ts';
import type { DiskMap } from './map-file.ts';
import { Progress } from './progress.ts';
import { type BringResult, bringBlocks, countSources } from './restore-blocks.ts';
import { finishGoal, inspectGoal, type OpenGoal, openGoal, requireRoom } from './restore-goal.ts';
import { type ArchiveRef, openRestoreSource, type RestoreSource } from './restore-source.ts';
import { restoreStream } from './restore-stream.ts';
import { openScratch } from './scratch.ts';

export interface RestoreRequest {
  archive: ArchiveRef;
  /** The FULL to use instead of the one that is found. */
  full?: ArchiveRef;
  /** Folder to restore into; made if missing. */
  to: string;
  /** Name of the disk; default: its own. */
  name?: string;
  /** Write only differing blocks over the disk that is there. */
  inPlace?: boolean;
  /** Read the finished disk again and compare. */
  verify?: boolean;
  assumeOff?: boolean;
  /** Zero-fill blocks that are good nowhere, into NAME.damaged. */
  salvage?: boolean;
  acceptUnproved?: boolean;
}

export interface RestoreResult {
  /** The pair that was restored, as `N:folder/file`. */
  archive: string;
  full: string;
  disk: string;
  flatPath: string;
  descriptorPath: string | null;
  diskBytes: number;
  totalBlocks: number;
  fromFull: number;
  fromDelta: number;
  zero: number;
  /** Blocks that were right already (resumed, in place). */
  kept: number;
  /** Bytes written to the disk. */
  writtenBytes: number;
  retried: number;
  seconds: number;
  /** False: every block was proved. True: a stream without digests, only asked for. */
  unproved: boolean;
  verified: boolean;
}

/**
 * Restores one disk. Returns only if the disk bears its name and every block was proved. Throws PhdError: the archive's
 * (WRONG_FULL, ARCHIVE_DAMAGED, DIGEST_MISMATCH, PASSPHRASE_*), the goal's (EXISTS, VM_RUNNING, NO_SPACE), TARGET_*,
 * CANCELLED. A `.part` stays for the next attempt, which proves it and goes on.
 */
export async function restore(
  ctx: EngineContext,
  request: RestoreRequest,
  hooks: OperationHooks = {},
): Promise<RestoreResult> {
  const scratch = await openScratch(ctx.places.stateDir);
  try {
    const source = await openRestoreSource(ctx, request.archive, scratch, hooks, request.full);
    const { fullMap } = source;
    if (!fullMap) return await restoreStream(source, request, hooks);
    return await restoreProved(source, fullMap, request, hooks);
  } finally {
    await scratch.remove();
  }
}

async function restoreProved(
  source: RestoreSource,
  fullMap: DiskMap,
  request: RestoreRequest,
  hooks: OperationHooks,
): Promise<RestoreResult> {
  const startedMs = performance.now();
  const onWarning = hooks.onWarning ?? (() => undefined);
  const geometry = geometryOf(source.diskBytes, fullMap.end.geometry.blockBytes);
  const diskName = request.name ?? source.diskName;
  const plan = await planBlocks(source, geometry);
  const goal = await inspectGoal(
    {
      folder: request.to,
      diskName,
      diskBytes: geometry.diskBytes,
      inPlace: request.inPlace ?? false,
      assumeOff: request.assumeOff ?? false,
    },
    onWarning,
  );
  if (!source.delta && isOpenFull(source.full)) await authenticateFull(source, hooks);
  if (!request.inPlace && !goal.hasPart) requireRoom(goal, plan.dataBytes);
  const pool = new BlockPool(geometry.blockBytes, geometry.blockCount);
  const open = await openGoal(goal, geometry, request.inPlace ?? false).catch(async (error) => {
    await pool.close();
    throw error;
  });
  try {
    const work: Work = {
      source,
      fullMap,
      request,
      hooks,
      pool,
      open,
      disk: { fd: open.handle.fd, geometry },
      geometry,
      wanted: plan.data,
      zero: plan.zero,
    };
    const filled = await fillDisk(work);
    if (request.salvage && filled.bad.size > 0) return await salvage(work, filled);
    if (request.verify) await verifyFinished(work);
    const descriptor = await prepareDescriptor(source.delta, goal, geometry.diskBytes, diskName, onWarning);
    await finishGoal(open);
    const descriptorPath = await placeDescriptor(descriptor, onWarning);
    return {
      ...figures(work, filled),
      descriptorPath,
      disk: diskName,
      seconds: (performance.now() - startedMs) / 1000,
      verified: request.verify ?? false,
    };
  } finally {
    await pool.close();
    await open.handle.close();
  }
}

interface BlockPlan {
  /** Blocks that hold data, to be brought. */
  data: BlockSet;
  zero: BlockSet;
  dataBytes: number;
}

/** Runs through what the disk must be, which proves maps and plan as a whole before anything is written. */
async function planBlocks(source: RestoreSource, geometry: Geometry): Promise<BlockPlan> {
  const plan: BlockPlan = {
    data: new BlockSet(geometry.blockCount),
    zero: new BlockSet(geometry.blockCount),
    dataBytes: 0,
  };
  await countSources(source, geometry, (region) => {
    region.sources.forEach((from, at) => {
      const block = region.firstBlock + at;
      if (from === FROM_ZERO) plan.zero.add(block);
      else {
        plan.data.add(block);
        plan.dataBytes += blockSizeBytes(geometry, block);
      }
    });
  });
  return plan;
}

/** An encrypted FULL without its DELTA: no other message vouches for its map, so its own MDC must. */
async function authenticateFull(source: RestoreSource, hooks: OperationHooks): Promise<void> {
  const { place } = source.full;
  if (!place.file.includes('.gpg-')) return;
  const stored = storedBytes(place, hooks.signal);
  const progress = new Progress(hooks.onProgress, {
    label: place.file,
    phase: 'authenticate',
    totalBytes: stored.sizeBytes,
  });
  for await (const chunk of decryptStream(
    stored.read(0, stored.sizeBytes),
    source.passphrases,
    placeText(place),
  ))
    progress.add(chunk.length);
  progress.finish();
}

interface Work {
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
}

interface Filled extends BringResult {
  kept: number;
  writtenBytes: number;
}

async function fillDisk(work: Work): Promise<Filled> {
  const { hooks, pool, disk, geometry, open, wanted, zero, source } = work;
  const before = wanted.size + zero.size;
  let zeroWritten = 0;
  let withheld: 'data' | 'zero' | null = null;
  if (open.hasContent) {
    await dropWhatIsRight(work);
    if (open.isDirect && wanted.size + zero.size > 0) withheld = await keepBackFirstBlock(work);
    zeroWritten = await zeroBlocks(pool, disk, zero, hooks.signal);
  }
  const kept = open.hasContent ? before - wanted.size - zero.size - (withheld ? 1 : 0) : 0;
  const totalBytes = bytesOf(wanted, geometry) + (withheld === 'data' ? blockSizeBytes(geometry, 0) : 0);
  const progress = new Progress(hooks.onProgress, { label: source.diskName, phase: 'restore', totalBytes });
  const bring = { pool, disk, source, wanted, progress, hooks };
  const filled = await bringBlocks(bring);
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
  return { ...filled, kept, writtenBytes };
}

/** Compares what the disk holds; only what differs stays wanted. */
async function dropWhatIsRight(work: Work): Promise<void> {
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
    await open.handle.write(Buffer.alloc(blockSizeBytes(geometry, 0)), 0, blockSizeBytes(geometry, 0), 0);
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

async function syncWork(open: OpenGoal): Promise<void> {
  try {
    await open.handle.sync();
  } catch (error) {
    throw fromErrno(error, `cannot sync ${open.workPath}`);
  }
}

function bytesOf(blocks: BlockSet, geometry: Geometry): number {
  let bytes = 0;
  for (const block of blocks) bytes += blockSizeBytes(geometry, block);
  return bytes;
}

function requireGood(work: Work, result: BringResult): void {
  const [first] = result.bad;
  if (!first || work.request.salvage) return;
  const [block, reason] = first;
  const others = result.bad.size > 1 ? ` and ${result.bad.size - 1} more` : '';
  throw new PhdError(
    'DIGEST_MISMATCH',
    `disk ${work.source.diskName}: block ${block} (byte ${block * work.geometry.blockBytes})${others} is good in no copy of ${placeText(work.source.full.place)} or its DELTA: ${reason}; verify the archive, restore another date, or use --salvage`,
  );
}

async function verifyFinished(work: Work): Promise<void> {
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
      `${work.open.workPath}: ${bad.length} blocks read back otherwise than written, the first is block ${Math.min(...bad)}`,
    );
}

function figures(work: Work, filled: Filled) {
  const { source, geometry, open } = work;
  return {
    archive: placeText((source.delta ?? source.full).place),
    full: placeText(source.full.place),
    flatPath: open.goal.flatPath,
    diskBytes: geometry.diskBytes,
    totalBlocks: geometry.blockCount,
    fromFull: filled.fromFull,
    fromDelta: filled.fromDelta,
    zero: geometry.blockCount - filled.fromFull - filled.fromDelta - filled.kept,
    kept: filled.kept,
    writtenBytes: filled.writtenBytes,
    retried: filled.retried,
    unproved: false,
  };
}

/** What could be had, under a name that says so; never "restored". */
async function salvage(work: Work, filled: Filled): Promise<never> {
  const { open, geometry } = work;
  if (open.isDirect)
    throw new PhdError(
      'USAGE',
      '--salvage writes a file of its own: it cannot be used on a device or in place',
    );
  await zeroBlocks(work.pool, work.disk, filled.bad.keys(), work.hooks.signal);
  await syncWork(open);
  const damagedPath = `${open.goal.flatPath}.damaged`;
  const ranges = [...filled.bad.keys()]
    .sort((a, b) => a - b)
    .map((block) => `${block * geometry.blockBytes} ${blockSizeBytes(geometry, block)}\n`);
  await fs.writeFile(`${damagedPath}.ranges`, `# offset bytes, filled with zeros\n${ranges.join('')}`, {
    mode: 0o600,
  });
  await fs.rename(open.workPath, damagedPath);
  throw new PhdError(
    'DIGEST_MISMATCH',
    `${filled.bad.size} blocks are good in no copy: what could be had is ${damagedPath}, the byte ranges filled with zeros are in ${damagedPath}.ranges`,
  );
}
