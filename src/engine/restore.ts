/** Restore of one disk: nothing is written before both archives and the goal are proved fit for each other. */
import { blockSizeBytes, type Geometry, geometryOf } from '../archive/geometry.ts';
import { parseArchiveName } from '../archive/names.ts';
import { BlockSet } from '../blocks/block-set.ts';
import { BlockPool } from '../blocks/pool.ts';
import { decryptStream } from '../crypt/message.ts';
import { PhdError } from '../errors.ts';
import { placeText, storedBytes } from './archive-place.ts';
import type { OperationHooks } from './backup.ts';
import type { EngineContext } from './context.ts';
import { placeDescriptor, prepareDescriptor } from './descriptor-of-disk.ts';
import { nameTaken } from './disk-names.ts';
import { expectedRegions, FROM_DELTA, FROM_ZERO } from './expected-disk.ts';
import { isOpenFull } from './full-reader.ts';
import { warnIncomplete } from './incomplete-archive.ts';
import type { DiskMap } from './map-file.ts';
import { Progress } from './progress.ts';
import { countSources } from './restore-blocks.ts';
import { type Filled, fillDisk, verifyFinished, type Work } from './restore-fill.ts';
import { finishGoal, inspectGoal, isRawImage, openGoal, requireRoom } from './restore-goal.ts';
import { openInPlace, refreshDisk, settleGoal } from './restore-in-place.ts';
import { salvage } from './restore-salvage.ts';
import { type ArchiveRef, openRestoreSource, type RestoreSource } from './restore-source.ts';
import { restoreStream } from './restore-stream.ts';
import { openScratch } from './scratch.ts';
import { compareFlat } from './verify-disk.ts';

export interface RestoreRequest {
  archive: ArchiveRef;
  /** The FULL to use instead of the one that is found. */
  full?: ArchiveRef;
  /** Folder to restore into; made if missing. */
  to: string;
  /** Name of the disk; default: its own. */
  name?: string;
  /** Nobody chose that name (disk-names.ts): a disk that bears it already is not replaced. */
  isNameNew?: boolean;
  /** Write only differing blocks over the disk that is there; `if there`: over none it is an ordinary restore. */
  inPlace?: boolean | 'if there';
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
  /** Bytes written beside the disk first: in place, where the file system cannot clone files. */
  besideBytes: number;
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
    const source = await openRestoreSource(ctx, request.archive, scratch, hooks, {
      chosenFull: request.full,
      isSalvage: request.salvage ?? false,
    });
    const { fullMap, delta } = source;
    if (delta) warnIncomplete(delta.manifest, placeText(delta.place), hooks.onWarning);
    if (!fullMap) return await restoreStream(source, request, hooks);
    return await restoreProved(source, fullMap, request, hooks);
  } finally {
    await scratch.remove();
  }
}

/** A disk of a name that nobody chose stays if it is what is to be restored (the same command was run before), else it is not touched. */
async function keptAsItIs(
  source: RestoreSource,
  fullMap: DiskMap,
  request: RestoreRequest,
  { flatPath, descriptorPath }: { flatPath: string; descriptorPath: string | null },
  hooks: OperationHooks,
): Promise<RestoreResult> {
  const startedMs = performance.now();
  const geometry = geometryOf(source.diskBytes, fullMap.end.geometry.blockBytes);
  const failures = await compareFlat(flatPath, geometry, expectedRegions(fullMap, source.maps), hooks);
  if (failures.length > 0) throw nameTaken(flatPath, source.diskName);
  return {
    archive: placeText((source.delta ?? source.full).place),
    full: placeText(source.full.place),
    disk: request.name ?? source.diskName,
    flatPath,
    descriptorPath,
    diskBytes: geometry.diskBytes,
    totalBlocks: geometry.blockCount,
    fromFull: 0,
    fromDelta: 0,
    zero: 0,
    kept: geometry.blockCount,
    writtenBytes: 0,
    besideBytes: 0,
    retried: 0,
    seconds: (performance.now() - startedMs) / 1000,
    unproved: false,
    verified: true,
  };
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
  const inspected = await inspectGoal(
    {
      folder: request.to,
      diskName,
      diskBytes: geometry.diskBytes,
      inPlace: request.inPlace === true,
      assumeOff: request.assumeOff ?? false,
      isBeside: request.salvage ?? false,
    },
    onWarning,
  );
  if (request.isNameNew && inspected.existing)
    return await keptAsItIs(source, fullMap, request, inspected, hooks);
  const { goal, isInPlace } = await settleGoal(inspected, wayOf(request), onWarning);
  if (goal.existing === null && isRawImage(diskName) && !isRawImage(source.diskName)) {
    onWarning(`${diskName} becomes a raw image: --name ${diskName}.vmdk gives a flat with its descriptor`);
  }
  if (request.salvage && (isInPlace || goal.existing?.kind === 'device')) {
    const words = '--salvage writes a file of its own: it cannot be used on a device or in place';
    throw new PhdError('USAGE', words);
  }
  if (!source.delta && isOpenFull(source.full)) await authenticateFull(source, hooks);
  if (!isInPlace && !goal.hasPart) requireRoom(goal, plan.dataBytes);
  const pool = new BlockPool(geometry.blockBytes, geometry.blockCount);
  const opening = isInPlace ? openInPlace(goal, geometry) : openGoal(goal, geometry);
  const open = await opening.catch(async (error) => {
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
      fromDelta: plan.fromDelta,
    };
    const filled = open.kind === 'redo' ? await refreshDisk(work) : await fillDisk(work);
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

/** What is salvaged is a file of its own. */
function wayOf({ inPlace = false, salvage: isSalvage }: RestoreRequest): boolean | 'if there' {
  return isSalvage && inPlace === 'if there' ? false : inPlace;
}

interface BlockPlan {
  /** Blocks that hold data, to be brought. */
  data: BlockSet;
  zero: BlockSet;
  fromDelta: BlockSet;
  dataBytes: number;
}

/** Runs through what the disk must be, which proves maps and plan as a whole before anything is written. */
async function planBlocks(source: RestoreSource, geometry: Geometry): Promise<BlockPlan> {
  const plan: BlockPlan = {
    data: new BlockSet(geometry.blockCount),
    zero: new BlockSet(geometry.blockCount),
    fromDelta: new BlockSet(geometry.blockCount),
    dataBytes: 0,
  };
  await countSources(source, geometry, (region) => {
    region.sources.forEach((from, at) => {
      const block = region.firstBlock + at;
      if (from === FROM_ZERO) plan.zero.add(block);
      else {
        plan.data.add(block);
        if (from === FROM_DELTA) plan.fromDelta.add(block);
        plan.dataBytes += blockSizeBytes(geometry, block);
      }
    });
  });
  return plan;
}

/** An encrypted FULL without its DELTA: no other message vouches for its map, so its own MDC must. */
async function authenticateFull(source: RestoreSource, hooks: OperationHooks): Promise<void> {
  const { place } = source.full;
  if (!parseArchiveName(place.file)?.encrypted) return;
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
    besideBytes: filled.besideBytes,
    retried: filled.retried,
    unproved: false,
  };
}
