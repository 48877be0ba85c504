/**
 * A restore over a disk that is there, of which only differing blocks are written; what was there stays whole until the
 * new state is proved. Where the file system clones files, a clone is changed and takes the disk's name. Elsewhere the
 * new blocks lie beside the disk first, and are put into it when all of them are proved (redo.ts).
 */
import { createHash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import { blockSizeBytes, DIGEST_BYTES, type Geometry, isZeroMark } from '../archive/geometry.ts';
import { BlockSet } from '../blocks/block-set.ts';
import { compareDisk, zeroBlocks } from '../blocks/check-disk.ts';
import { type GoalDisk, OPEN_EXISTING_FLAGS } from '../datastore/goal-disk.ts';
import { isPlainName, shownName } from '../datastore/plain-name.ts';
import { besidePathOf, clonePathOf, LONGEST_ENDING, recordPathOf } from '../datastore/unfinished-disk.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { SyncAhead } from '../storage/sync-ahead.ts';
import { placeText } from './archive-place.ts';
import { type ExpectedRegion, expectedRegions } from './expected-disk.ts';
import { Progress } from './progress.ts';
import { applyRecord, copyFirstBlock, removeDurably, reserveRoom, settleUnfinished } from './redo.ts';
import { type RecordedBlock, writeRecord } from './redo-record.ts';
import { bringBlocks } from './restore-blocks.ts';
import { bytesOf, dropWhatIsRight, type Filled, requireGood, syncWork, type Work } from './restore-fill.ts';
import { type OpenGoal, openWorkFile, requireRoom, requireSole, soleOf } from './restore-goal.ts';

/**
 * Whether the restore is in place, and the goal once what an earlier one left is settled. A mix that cannot be finished
 * is a failure only where nothing but in place was asked for: a disk that is restored whole takes its place.
 * Throws USAGE (name too long), and what `settleUnfinished` throws.
 */
export async function settleGoal(
  goal: GoalDisk,
  asked: boolean | 'if there',
  onWarning: (message: string) => void,
): Promise<{ goal: GoalDisk; isInPlace: boolean }> {
  // A device is compared and written over in any case, its first block last.
  if (goal.partPath === null) return { goal, isInPlace: false };
  const settled = { ...goal, hasRecord: false };
  try {
    if (await settleUnfinished(goal, onWarning))
      settled.hasBeside = await fs.lstat(besidePathOf(goal.flatPath)).then(
        () => true,
        () => false,
      );
    if (asked === false || goal.existing === null) return { goal: settled, isInPlace: false };
    if (isPlainName(`${goal.flatName}${LONGEST_ENDING}`)) return { goal: settled, isInPlace: true };
    throw new PhdError('USAGE', `${shownName(goal.flatName)} is too long to be restored in place`);
  } catch (error) {
    if (asked === true) throw error;
    onWarning(`${fromErrno(error, goal.flatPath).message}; the whole disk is written beside it`);
    return { goal: settled, isInPlace: false };
  }
}

/** Opens a clone of the disk or, where there is none, the disk itself. Not for devices. */
export async function openInPlace(goal: GoalDisk, geometry: Geometry): Promise<OpenGoal> {
  const { flatPath } = goal;
  try {
    const clone = await openClone(goal, geometry);
    if (clone !== undefined) return clone;
    const handle = await fs.open(flatPath, OPEN_EXISTING_FLAGS);
    return { goal, handle, workPath: flatPath, hasContent: true, kind: 'redo' };
  } catch (error) {
    throw fromErrno(error, `cannot open ${flatPath} to restore over it`);
  }
}

/** What a file system says that cannot clone this file. */
const CANNOT_CLONE = new Set(['ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'ENOTTY', 'EINVAL', 'EXDEV', 'EPERM']);

/** A clone of the disk, made now or by an attempt that was broken off; undefined where files are not cloned. */
async function openClone(goal: GoalDisk, geometry: Geometry): Promise<OpenGoal | undefined> {
  const { flatPath } = goal;
  const workPath = besidePathOf(flatPath);
  const before = await fs.lstat(flatPath);
  // A disk of several names must stay the file it is.
  if (before.nlink > 1) return undefined;
  const probe = clonePathOf(flatPath);
  await fs.rm(probe, { force: true });
  try {
    await fs.copyFile(flatPath, probe, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
  } catch (error) {
    await fs.rm(probe, { force: true });
    if (CANNOT_CLONE.has((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
  // What an earlier attempt fetched is taken up again, and proved.
  if (goal.hasBeside) await fs.rm(probe);
  else await fs.rename(probe, workPath);
  const handle = await openWorkFile(workPath, geometry, true);
  try {
    await keepOwner(handle, before);
  } catch (error) {
    await handle.close();
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
    await fs.rm(workPath);
    return undefined;
  }
  return await soleOf({ goal, handle, workPath, hasContent: true, kind: 'clone' });
}

/** EPERM: only the disk itself can keep its owner. */
async function keepOwner(handle: FileHandle, { uid, gid, mode }: Stats): Promise<void> {
  const own = await handle.stat();
  if (own.uid !== uid || own.gid !== gid) await handle.chown(uid, gid);
  await handle.chmod(mode & 0o7777);
}

/** The file beside a disk that gets its new blocks. */
interface Beside {
  path: string;
  handle: FileHandle;
  hasContent: boolean;
}

/**
 * Brings the blocks that differ into a file beside the disk, proves them there, and puts them into the disk. Until then
 * the disk is not touched: whatever fails leaves it as it was. Throws what `fillDisk` throws, VM_RUNNING, LOCKED.
 */
export async function refreshDisk(work: Work): Promise<Filled> {
  const { geometry, open, wanted, zero } = work;
  const before = wanted.size + zero.size;
  await dropWhatIsRight(work);
  const kept = before - wanted.size - zero.size;
  if (kept === before)
    return { fromFull: 0, fromDelta: 0, retried: 0, bad: new Map(), kept, writtenBytes: 0, besideBytes: 0 };
  const changed = new BlockSet(geometry.blockCount);
  for (const block of wanted) changed.add(block);
  for (const block of zero) changed.add(block);
  const path = besidePathOf(open.goal.flatPath);
  const hasContent = open.goal.hasBeside;
  const handle = await openWorkFile(path, geometry, hasContent).catch((error) => {
    throw fromErrno(error, `cannot open ${path}`);
  });
  try {
    const brought = await bringBeside(work, { path, handle, hasContent }, changed).catch(async (error) => {
      // A full volume must not stay full of what could not be finished.
      if (error instanceof PhdError && error.code === 'NO_SPACE') await removeDurably(path);
      throw error;
    });
    const writtenBytes = await putInto(work, changed);
    return { ...brought, kept, writtenBytes: writtenBytes + brought.reservedBytes };
  } finally {
    await handle.close();
  }
}

/** After it all changed blocks lie beside the disk, synced, and block 0 with them. */
async function bringBeside(work: Work, beside: Beside, changed: BlockSet) {
  const { pool, geometry, source, hooks, wanted, zero, open } = work;
  const disk = { fd: beside.handle.fd, geometry };
  if (beside.hasContent) {
    await requireSole({ ...open, kind: 'part', handle: beside.handle, workPath: beside.path });
    const drop = (blocks: number[], failures: { block: number }[]): void => {
      const bad = new Set(failures.map(({ block }) => block));
      for (const block of blocks) if (!bad.has(block)) wanted.delete(block);
    };
    await compareDisk(pool, disk, onlyBlocks(regionsOf(work), wanted), drop, hooks.signal);
    await zeroBlocks(pool, disk, zero, hooks.signal);
  }
  const totalBytes = bytesOf(wanted, geometry);
  requireRoom(open.goal, totalBytes);
  const progress = new Progress(hooks.onProgress, {
    label: source.diskName,
    phase: 'restore',
    totalBytes,
    fullBytes: bytesOf(
      [...wanted].filter((block) => !work.fromDelta.has(block)),
      geometry,
    ),
  });
  const ahead = new SyncAhead(beside.handle, beside.path);
  const onWritten = (bytes: number): void => ahead.wrote(bytes);
  const brought = await bringBlocks({ pool, disk, source, wanted, progress, hooks, onWritten }).finally(() =>
    ahead.settle(),
  );
  requireGood(work, brought);
  progress.finish();
  let besideBytes = progress.bytes;
  try {
    if (!changed.has(0)) {
      besideBytes += await copyFirstBlock(open.handle, beside.handle, geometry);
      changed.add(0);
    }
    await beside.handle.sync();
    const filled = (function* (): Generator<number> {
      for (const block of changed) if (!zero.has(block)) yield block;
    })();
    const reservedBytes = await reserveRoom(open.handle, beside.handle, geometry, filled);
    return { ...brought, besideBytes, reservedBytes };
  } catch (error) {
    throw fromErrno(error, `cannot write beside ${open.workPath}`);
  }
}

/** The record, then the blocks themselves. Once the record is there a cancel comes too late: this is short, and must not stop. */
async function putInto(work: Work, changed: BlockSet): Promise<number> {
  const { open, geometry, source, hooks } = work;
  const { flatPath } = open.goal;
  await requireSole(open);
  const archive = placeText((source.delta ?? source.full).place);
  await writeRecord(recordPathOf(flatPath), { geometry, archive }, recorded(work, changed));
  const totalBytes = bytesOf(changed, geometry);
  const progress = new Progress(hooks.onProgress, { label: source.diskName, phase: 'apply', totalBytes });
  let writtenBytes = 0;
  await applyRecord(flatPath, (bytes) => {
    writtenBytes += bytes;
    progress.add(bytes);
  });
  progress.finish();
  await syncWork(open);
  return writtenBytes;
}

const regionsOf = ({ fullMap, source }: Work): AsyncGenerator<ExpectedRegion> =>
  expectedRegions(fullMap, source.maps);

/** Runs of blocks that are wanted when their region comes. */
async function* onlyBlocks(
  regions: AsyncIterable<ExpectedRegion>,
  wanted: BlockSet,
): AsyncGenerator<Pick<ExpectedRegion, 'firstBlock' | 'count' | 'digests'>> {
  for await (const { firstBlock, count, digests } of regions) {
    for (let from = 0; from < count; ) {
      let to = from;
      while (to < count && wanted.has(firstBlock + to)) to += 1;
      if (to > from)
        yield {
          firstBlock: firstBlock + from,
          count: to - from,
          digests: digests.subarray(from * DIGEST_BYTES, to * DIGEST_BYTES),
        };
      from = to + 1;
    }
  }
}

/** Each changed block with the digest that the archives name. */
async function* recorded(work: Work, changed: BlockSet): AsyncGenerator<RecordedBlock> {
  for await (const { firstBlock, count, digests } of onlyBlocks(regionsOf(work), changed)) {
    for (let at = 0; at < count; at += 1) {
      const digest = digests.subarray(at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES);
      const block = firstBlock + at;
      yield { block, digest: isZeroMark(digest) ? zeroDigest(work.geometry, block) : digest.toString('hex') };
    }
  }
}

function zeroDigest(geometry: Geometry, block: number): string {
  return createHash('sha256')
    .update(Buffer.alloc(blockSizeBytes(geometry, block)))
    .digest('hex');
}
