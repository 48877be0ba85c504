/** The descriptor beside a restored flat: the disk's own with only its extent line changed, else a stub. */
import fs from 'node:fs/promises';
import { parseDescriptor, SECTOR_BYTES, withExtent } from '../datastore/descriptor.ts';
import { type GoalDisk, renameDurably, writeNewFile } from '../datastore/goal-disk.ts';
import { makeStub } from '../datastore/stub.ts';
import { type ErrorCode, fromErrno, PhdError } from '../errors.ts';
import type { OpenDelta } from './delta-reader.ts';
import { readArchiveFiles } from './vm-files.ts';

export interface PreparedDescriptor {
  /** Null for a disk that gets none. */
  path: string | null;
  /** Null: the one that is there stays. */
  text: Buffer | null;
  replaces: boolean;
}

/**
 * Reads the descriptor out of the archive while the disk is not finished yet, so that a line that dies here leaves
 * a `.part` to go on with. One that is damaged costs a warning and a stub: it must not cost a disk that is proved.
 */
export async function prepareDescriptor(
  delta: OpenDelta | null,
  goal: GoalDisk,
  diskBytes: number,
  diskName: string,
  onWarning: (message: string) => void,
): Promise<PreparedDescriptor> {
  const { descriptorPath } = goal;
  const none = { path: null, text: null, replaces: false };
  if (!descriptorPath) return none;
  if (diskBytes % SECTOR_BYTES !== 0) {
    onWarning(`no descriptor is written for ${diskName}: ${diskBytes} bytes are no whole number of sectors`);
    return none;
  }
  if (goal.hasDescriptor && (await fits(descriptorPath, goal.flatName, diskBytes)))
    return { path: descriptorPath, text: null, replaces: false };
  const text = (await ownDescriptor(delta, goal, diskBytes, onWarning)) ?? stubFor(delta, goal, diskBytes);
  return { path: descriptorPath, text, replaces: goal.hasDescriptor };
}

/** Writes it; the flat bears its name already. Returns its path, null for a disk that gets none. */
export async function placeDescriptor(
  { path, text, replaces }: PreparedDescriptor,
  onWarning: (message: string) => void,
): Promise<string | null> {
  if (path === null || text === null) return path;
  if (replaces) {
    await renameDurably(path, `${path}.before-restore`, { replace: true });
    onWarning(`the descriptor that was there does not fit the disk; it is kept as ${path}.before-restore`);
  }
  await writeNewFile(path, text);
  return path;
}

/** An existing descriptor stays if it names this flat with this size. */
async function fits(path: string, flatName: string, diskBytes: number): Promise<boolean> {
  try {
    const { extents } = parseDescriptor(await fs.readFile(path), path);
    const [extent] = extents;
    return (
      extents.length === 1 && extent?.fileName === flatName && extent.sectors === diskBytes / SECTOR_BYTES
    );
  } catch (error) {
    const reason = fromErrno(error, path);
    if (reason.code === 'CANCELLED') throw reason;
    return false;
  }
}

/** What says that the file itself is no good, now or later. */
const UNUSABLE: readonly ErrorCode[] = [
  'ARCHIVE_DAMAGED',
  'DIGEST_MISMATCH',
  'FORMAT_UNSUPPORTED',
  'SOURCE_UNSUPPORTED',
  'USAGE',
];

async function ownDescriptor(
  delta: OpenDelta | null,
  goal: GoalDisk,
  diskBytes: number,
  onWarning: (message: string) => void,
): Promise<Buffer | null> {
  if (!delta?.manifest.files.some((file) => file.kind === 'descriptor')) return null;
  try {
    for await (const file of readArchiveFiles(delta)) {
      if (file.kind === 'descriptor') return withExtent(file.bytes, goal.flatName, diskBytes / SECTOR_BYTES);
    }
  } catch (error) {
    if (!(error instanceof PhdError) || !UNUSABLE.includes(error.code)) throw error;
    onWarning(`the descriptor in the archive cannot be used (${error.message}): a stub is written`);
  }
  return null;
}

function stubFor(delta: OpenDelta | null, goal: GoalDisk, diskBytes: number): Buffer {
  const adapterType = delta?.manifest.adapterType || 'lsilogic';
  return Buffer.from(makeStub({ type: 'vmfs', flatName: goal.flatName, diskBytes, adapterType }));
}
