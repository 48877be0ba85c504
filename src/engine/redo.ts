/**
 * Puts the blocks that lie beside a disk, all proved, into it: the second half of an in-place restore, and what is done
 * first when one was broken off. Doing it again from the beginning gives the same disk.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { blockSizeBytes, type Geometry } from '../archive/geometry.ts';
import { type GoalDisk, syncFolder } from '../datastore/goal-disk.ts';
import {
  besidePathOf,
  HEAD_BYTES,
  headMark,
  isHalfWritten,
  recordPathOf,
} from '../datastore/unfinished-disk.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { OPEN_BESIDE_FLAGS, openRecord, type RedoRecord } from './redo-record.ts';

/** The disk, what lies beside it, and the record. */
interface Redo {
  flatPath: string;
  flat: FileHandle;
  beside: FileHandle;
  record: RedoRecord;
}

/**
 * Settles what an in-place restore left that was broken off: a mix is finished; of a disk that is whole, as it was or as
 * it was to be, only the record goes, and what was fetched stays for the next restore. True if there was anything.
 * @throws PhdError ARCHIVE_DAMAGED, DIGEST_MISMATCH, NOT_FOUND: what lies beside cannot finish it; NO_SPACE, IO
 */
export async function settleUnfinished(
  goal: GoalDisk,
  onWarning: (message: string) => void,
): Promise<boolean> {
  const { flatPath } = goal;
  if (goal.existing?.kind !== 'file' || !(await isHalfWritten(flatPath))) {
    if (!goal.hasRecord) return false;
    await removeDurably(recordPathOf(flatPath));
    const state = goal.existing === null ? 'the disk is gone' : 'the disk is whole';
    onWarning(`${flatPath}: an in-place restore was broken off; ${state}, its record is removed`);
    return true;
  }
  if (!goal.hasRecord) {
    throw new PhdError(
      'NOT_FOUND',
      `${flatPath} is a mix of two states and ${recordPathOf(flatPath)} is missing: restore it whole, not in place`,
    );
  }
  const archive = await applyRecord(flatPath, () => undefined);
  onWarning(
    `${flatPath}: an in-place restore was broken off while its blocks were put into the disk; it is finished now: ${archive}`,
  );
  return true;
}

/**
 * Checks all blocks beside the disk, then puts them into it, reads them back, removes record and blocks. The begin of
 * the disk bears the mark meanwhile, and gets its bytes last. Returns the archive they are of.
 */
export async function applyRecord(flatPath: string, onBytes: (bytes: number) => void): Promise<string> {
  const recordPath = recordPathOf(flatPath);
  const besidePath = besidePathOf(flatPath);
  const handles: FileHandle[] = [];
  const opened = async (file: string, flags: number): Promise<FileHandle> => {
    const handle = await fs.open(file, flags);
    handles.push(handle);
    if (!(await handle.stat()).isFile()) throw new PhdError('EXISTS', `${file} is no file`);
    return handle;
  };
  try {
    const record = await openRecord(await opened(recordPath, OPEN_BESIDE_FLAGS), recordPath);
    const beside = await opened(besidePath, OPEN_BESIDE_FLAGS);
    const flat = await opened(flatPath, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const redo: Redo = { flatPath, flat, beside, record };
    await requireSizes(redo);
    await compare(redo, beside, `${besidePath} is damaged: restore the disk whole, not in place`);
    await writeBlocks(redo, onBytes);
    await compare(redo, flat, `${flatPath} reads back otherwise than written: look at its storage`);
    await removeDurably(recordPath);
    await removeDurably(besidePath);
    return record.archive;
  } catch (error) {
    throw fromErrno(error, `cannot finish the in-place restore of ${flatPath}`);
  } finally {
    for (const handle of handles) await handle.close();
  }
}

async function requireSizes({ flat, beside, record, flatPath }: Redo): Promise<void> {
  const { diskBytes } = record.geometry;
  const sizes = [(await flat.stat()).size, (await beside.stat()).size];
  if (sizes.every((size) => size === diskBytes)) return;
  throw new PhdError(
    'DIGEST_MISMATCH',
    `${flatPath} has ${sizes[0]} bytes, what lies beside it ${sizes[1]}, its record says ${diskBytes}: restore it whole`,
  );
}

async function compare({ record }: Redo, file: FileHandle, fault: string): Promise<void> {
  for await (const { block, digest } of record.blocks()) {
    const bytes = await readBlock(file, record.geometry, block);
    if (createHash('sha256').update(bytes).digest('hex') !== digest)
      throw new PhdError('DIGEST_MISMATCH', `block ${block} of ${fault}`);
  }
}

async function writeBlocks(redo: Redo, onBytes: (bytes: number) => void): Promise<void> {
  const { record, flat, beside } = redo;
  const { geometry } = record;
  const mark = headMark(geometry.diskBytes);
  await writeAt(flat, mark, 0);
  await flat.sync();
  onBytes(mark.length);
  let head: Buffer | undefined;
  for await (const { block } of record.blocks()) {
    const bytes = await readBlock(beside, geometry, block);
    const old = await readBlock(flat, geometry, block);
    if (block === 0) {
      head = bytes.subarray(0, HEAD_BYTES);
      head.copy(old);
    }
    // Of a block that differs mostly a few pages do: the others are not written a second time.
    for (const { from, to } of pageRuns(bytes.length, (page) => !page(bytes).equals(page(old)))) {
      await writeAt(flat, bytes.subarray(from, to), block * geometry.blockBytes + from);
      onBytes(to - from);
    }
  }
  if (head === undefined) throw new PhdError('ARCHIVE_DAMAGED', 'the record lacks block 0');
  await flat.sync();
  await writeAt(flat, head, 0);
  await flat.sync();
  onBytes(head.length);
}

const PAGE_BYTES = 4096;

/** Runs of pages of a block that are chosen, as byte ranges of it. */
function* pageRuns(
  blockBytes: number,
  isChosen: (page: (block: Buffer) => Buffer) => boolean,
): Generator<{ from: number; to: number }> {
  let begin: number | undefined;
  for (let at = 0; at < blockBytes; at += PAGE_BYTES) {
    if (isChosen((block) => block.subarray(at, at + PAGE_BYTES))) begin ??= at;
    else if (begin !== undefined) {
      yield { from: begin, to: at };
      begin = undefined;
    }
  }
  if (begin !== undefined) yield { from: begin, to: blockBytes };
}

/**
 * Gives holes of the disk that are to hold data their room beforehand, so that a full volume stops the restore while
 * the disk is whole. Zeros stay zeros. Returns bytes written. Throws NO_SPACE, IO.
 */
export async function reserveRoom(
  flat: FileHandle,
  beside: FileHandle,
  geometry: Geometry,
  blocks: Iterable<number>,
): Promise<number> {
  const { size, blocks: sectors } = await flat.stat();
  if (sectors * 512 >= size) return 0;
  let writtenBytes = 0;
  const zeros = Buffer.alloc(PAGE_BYTES);
  const isZero = (page: Buffer): boolean => page.equals(zeros.subarray(0, page.length));
  for (const block of blocks) {
    const old = await readBlock(flat, geometry, block);
    const bytes = await readBlock(beside, geometry, block);
    for (const { from, to } of pageRuns(bytes.length, (page) => isZero(page(old)) && !isZero(page(bytes)))) {
      await writeAt(flat, old.subarray(from, to), block * geometry.blockBytes + from);
      writtenBytes += to - from;
    }
  }
  await flat.sync();
  return writtenBytes;
}

/** Copies block 0 of the disk beside it: the mark takes its place meanwhile. */
export async function copyFirstBlock(
  flat: FileHandle,
  beside: FileHandle,
  geometry: Geometry,
): Promise<number> {
  const bytes = await readBlock(flat, geometry, 0);
  await writeAt(beside, bytes, 0);
  return bytes.length;
}

async function readBlock(file: FileHandle, geometry: Geometry, block: number): Promise<Buffer> {
  const bytes = Buffer.alloc(blockSizeBytes(geometry, block));
  for (let filled = 0; filled < bytes.length; ) {
    const at = block * geometry.blockBytes + filled;
    const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, at);
    if (bytesRead === 0)
      throw new PhdError('SOURCE_CHANGED', `the file ends at byte ${at}, earlier than it did`);
    filled += bytesRead;
  }
  return bytes;
}

async function writeAt(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at, position + at);
    at += bytesWritten;
  }
}

/** Removes a file; its name stays away after a power loss. */
export async function removeDurably(file: string): Promise<void> {
  try {
    await fs.rm(file, { force: true });
  } catch (error) {
    throw fromErrno(error, `cannot remove ${file}`);
  }
  await syncFolder(path.dirname(file));
}
