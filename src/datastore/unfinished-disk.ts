/**
 * A disk into which the blocks of an in-place restore are being put: what lies beside it, and the mark at its begin that
 * tells a mix from a whole disk.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { fromErrno } from '../errors.ts';

/** What is written over the begin of the disk while it is a mix: no boot sector, no partition table, no file system. */
export const HEAD_BYTES = 4096;
/** Disks write sectors whole: a mark that was cut by a power loss is one in some of its sectors. */
const SECTOR_BYTES = 512;

/** Holds the new blocks where they belong on the disk, holes elsewhere; or a clone of the disk. */
export function besidePathOf(flatPath: string): string {
  return `${flatPath}.inplace.part`;
}

/** The record: which blocks are to be put into the disk. It is there only while they are. */
export function recordPathOf(flatPath: string): string {
  return `${flatPath}.unfinished`;
}

/** A clone in the making. */
export function clonePathOf(flatPath: string): string {
  return flatPath + LONGEST_ENDING;
}

/** The longest ending of a name beside a disk. */
export const LONGEST_ENDING = '.inplace.part.clone';

/** Filled up with blanks and a line end, it is one sector of the mark. */
export const MARK_TEXT =
  'phd: an in-place restore of this disk was broken off. Beside it lies NAME.unfinished: run phd again, or sh that file.';

/** The mark, of a disk of so many bytes. */
export function headMark(diskBytes: number): Buffer {
  const sector = Buffer.from(`${MARK_TEXT.padEnd(SECTOR_BYTES - 1)}\n`);
  return Buffer.alloc(Math.min(HEAD_BYTES, diskBytes), sector);
}

/** Whether any sector of what a disk begins with is the mark's. */
export function bearsMark(head: Buffer): boolean {
  const mark = headMark(head.length);
  for (let at = 0; at < head.length; at += SECTOR_BYTES)
    if (head.subarray(at, at + SECTOR_BYTES).equals(mark.subarray(at, at + SECTOR_BYTES))) return true;
  return false;
}

/** Whether this flat is a mix of two states. Throws NOT_FOUND, IO. */
export async function isHalfWritten(flatPath: string): Promise<boolean> {
  try {
    const handle = await open(flatPath, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const head = Buffer.alloc(HEAD_BYTES);
      const { bytesRead } = await handle.read(head, 0, HEAD_BYTES, 0);
      return bearsMark(head.subarray(0, bytesRead));
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fromErrno(error, `cannot look at ${flatPath}`);
  }
}
