/** The descriptor beside a restored flat: the disk's own with only its extent line changed, else a stub. */
import fs from 'node:fs/promises';
import { parseDescriptor, SECTOR_BYTES, withExtent } from '../datastore/descriptor.ts';
import { type GoalDisk, renameDurably, writeNewFile } from '../datastore/goal-disk.ts';
import { makeStub } from '../datastore/stub.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { OpenDelta } from './delta-reader.ts';
import { readArchiveFiles } from './vm-files.ts';

/** Returns the path of the descriptor, null for a raw image. The flat bears its name already. */
export async function ensureDescriptor(
  delta: OpenDelta | null,
  goal: GoalDisk,
  diskBytes: number,
  diskName: string,
  onWarning: (message: string) => void,
): Promise<string | null> {
  const { descriptorPath } = goal;
  if (!descriptorPath) return null;
  if (diskBytes % SECTOR_BYTES !== 0) {
    onWarning(`no descriptor is written for ${diskName}: ${diskBytes} bytes are no whole number of sectors`);
    return null;
  }
  if (goal.hasDescriptor && (await fits(descriptorPath, goal.flatName, diskBytes))) return descriptorPath;
  const text = (await ownDescriptor(delta, goal, diskBytes, onWarning)) ?? stubFor(delta, goal, diskBytes);
  if (goal.hasDescriptor) {
    await renameDurably(descriptorPath, `${descriptorPath}.before-restore`, { replace: true });
    onWarning(
      `the descriptor that was there does not fit the disk; it is kept as ${descriptorPath}.before-restore`,
    );
  }
  await writeNewFile(descriptorPath, text);
  return descriptorPath;
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

async function ownDescriptor(
  delta: OpenDelta | null,
  goal: GoalDisk,
  diskBytes: number,
  onWarning: (message: string) => void,
): Promise<Buffer | null> {
  if (!delta?.manifest.files.some((file) => file.kind === 'descriptor')) return null;
  for await (const file of readArchiveFiles(delta)) {
    if (file.kind !== 'descriptor') continue;
    try {
      return withExtent(file.bytes, goal.flatName, diskBytes / SECTOR_BYTES);
    } catch (error) {
      if (!(error instanceof PhdError)) throw error;
      onWarning(`the descriptor in the archive cannot be used (${error.message}): a stub is written`);
    }
  }
  return null;
}

function stubFor(delta: OpenDelta | null, goal: GoalDisk, diskBytes: number): Buffer {
  const adapterType = delta?.manifest.adapterType || 'lsilogic';
  return Buffer.from(makeStub({ type: 'vmfs', flatName: goal.flatName, diskBytes, adapterType }));
}
