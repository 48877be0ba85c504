/** A disk over which an in-place restore was broken off: recognised by its path, and settled without another restore. */
import { lstat } from 'node:fs/promises';
import path from 'node:path';
import { planGoal } from '../datastore/goal-disk.ts';
import { isPlainName } from '../datastore/plain-name.ts';
import { recordPathOf } from '../datastore/unfinished-disk.ts';
import { fromErrno } from '../errors.ts';
import { settleUnfinished } from './redo.ts';
import { inspectGoal, isRawImage } from './restore-goal.ts';

/** Whether a record of an unfinished in-place restore lies beside this disk (`NAME.vmdk` or a raw image). Throws IO. */
export async function isUnfinished(diskPath: string): Promise<boolean> {
  const { folder, name } = partsOf(diskPath);
  const stem = isRawImage(name) ? name : name.replace(/\.vmdk$/i, '-flat.vmdk');
  const record = recordPathOf(stem);
  // Beside a name that is too long, or none of a disk, nothing was ever written.
  if (!isPlainName(record)) return false;
  try {
    await lstat(path.join(folder, record));
    return true;
  } catch (error) {
    const failure = fromErrno(error, `cannot look at ${record}`);
    if (failure.code === 'NOT_FOUND') return false;
    throw failure;
  }
}

/**
 * Finishes it, or takes it back where nothing was written yet. `onWarning` is told which. Throws VM_RUNNING, LOCKED if
 * the disk is in use, and what `settleUnfinished` throws.
 */
export async function settleDisk(
  diskPath: string,
  assumeOff: boolean,
  onWarning: (message: string) => void,
): Promise<void> {
  const { folder, name } = partsOf(diskPath);
  const named = { folder, diskName: name, diskBytes: -1 };
  const { existing } = await planGoal({ ...named, isRawImage: isRawImage(name) });
  const diskBytes = existing?.sizeBytes ?? -1;
  const goal = await inspectGoal({ ...named, diskBytes, inPlace: false, assumeOff }, onWarning);
  await settleUnfinished(goal, onWarning);
}

const partsOf = (diskPath: string): { folder: string; name: string } => ({
  folder: path.dirname(diskPath),
  name: path.basename(diskPath),
});
