/**
 * The disk a restore writes: a `.part` or a clone of the disk that gets its name at the end, or (device) the disk itself
 * with its first block kept back until everything else is proved and synced.
 */
import { constants } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import fs from 'node:fs/promises';
import path from 'node:path';
import type { Geometry } from '../archive/geometry.ts';
import {
  type GoalDisk,
  OPEN_DEVICE_FLAGS,
  OPEN_EXISTING_FLAGS,
  planGoal,
  renameDurably,
  syncFolder,
} from '../datastore/goal-disk.ts';
import { checkInUse } from '../datastore/in-use.ts';
import { isPlainName } from '../datastore/plain-name.ts';
import { snapshotsOf } from '../datastore/snapshots.ts';
import { besidePathOf, recordPathOf } from '../datastore/unfinished-disk.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { makeFolder } from '../make-folder.ts';
import { formatBytes } from './display-text.ts';

export interface GoalRequest {
  folder: string;
  diskName: string;
  diskBytes: number;
  inPlace: boolean;
  assumeOff: boolean;
  /** Written beside a disk that is there, which stays. */
  isBeside?: boolean;
}

export interface OpenGoal {
  goal: GoalDisk;
  handle: FileHandle;
  /** What is written while the work lasts. */
  workPath: string;
  /** The disk holds something that must be compared, and zeros must be written where it holds other bytes. */
  hasContent: boolean;
  /**
   * `part`, `clone`: written beside the disk, and gets its name at the end. `device`: written over where it lies, block 0
   * comes last. `redo`: the disk itself, which is written when all its new blocks lie beside it (restore-in-place.ts).
   */
  kind: 'part' | 'clone' | 'device' | 'redo';
}

/** A disk without `.vmdk` is a raw image: it keeps its name and has no descriptor. */
export function isRawImage(diskName: string): boolean {
  return !/\.vmdk$/i.test(diskName);
}

/** Looks at the goal, without changing anything. Throws EXISTS, NOT_FOUND, VM_RUNNING, LOCKED, USAGE, IO. */
export async function inspectGoal(
  request: GoalRequest,
  onWarning: (message: string) => void,
): Promise<GoalDisk> {
  const { folder, diskName, diskBytes, inPlace } = request;
  const goal = await planGoal({ folder, diskName, diskBytes, isRawImage: isRawImage(diskName) });
  const { existing } = goal;
  if (inPlace && !existing)
    throw new PhdError(
      'NOT_FOUND',
      `${goal.flatPath} does not exist: --in-place restores over a disk that is there`,
    );
  if (existing && existing.sizeBytes !== diskBytes) {
    throw new PhdError(
      'EXISTS',
      `${goal.flatPath} has ${existing.sizeBytes} bytes, the backup has ${diskBytes}: remove it or choose another name`,
    );
  }
  const snapshots =
    goal.folderExists && !isRawImage(diskName) ? await snapshotsOf(goal.folder, diskName) : [];
  if (snapshots.length > 0) {
    throw new PhdError(
      'LOCKED',
      `${snapshots[0]} is a snapshot of ${diskName}: restoring under it would break it; remove the snapshots first`,
    );
  }
  if (goal.folderExists) await requireOff(goal, request, onWarning);
  return goal;
}

/** Nothing may have the disk, its descriptor, its VM or our own work file open. */
async function requireOff(
  goal: GoalDisk,
  request: GoalRequest,
  onWarning: (message: string) => void,
): Promise<void> {
  const there = goal.existing !== null;
  const paths = [
    goal.flatPath,
    ...(goal.descriptorPath ? [goal.descriptorPath] : []),
    ...(goal.partPath ? [goal.partPath, besidePathOf(goal.flatPath)] : []),
  ];
  if (there) paths.push(...(await vmxFilesOf(goal.folder)));
  const { inUse, unknown } = await checkInUse(paths);
  const [first] = inUse;
  if (first) {
    const isOwnWork = first.path === goal.partPath || first.path === besidePathOf(goal.flatPath);
    const what = isOwnWork ? 'another restore is writing it' : 'stop the VM first';
    throw new PhdError(
      isOwnWork ? 'LOCKED' : 'VM_RUNNING',
      `${first.path} is in use (${first.how}, ${first.by}): ${what}`,
    );
  }
  if (!there || request.isBeside || unknown.length === 0) return;
  if (request.assumeOff) {
    for (const line of unknown) onWarning(`taken as off: ${line}`);
    return;
  }
  throw new PhdError(
    'VM_RUNNING',
    `it cannot be known that ${goal.flatPath} is not in use (${unknown[0]}): say so with --assume-off`,
  );
}

async function vmxFilesOf(folder: string): Promise<string[]> {
  const names = await fs.readdir(folder).catch((error) => {
    throw fromErrno(error, `cannot list ${folder}`);
  });
  return names.filter((name) => /\.vmx$/i.test(name)).map((name) => path.join(folder, name));
}

/** NO_SPACE if the blocks that are to be written (and 5 % more) do not fit. Holes stay holes. */
export function requireRoom(goal: GoalDisk, neededBytes: number): void {
  const wanted = Math.ceil(neededBytes * 1.05);
  if (goal.existing?.kind === 'device' || wanted <= goal.freeBytes) return;
  throw new PhdError(
    'NO_SPACE',
    `${goal.folder} has ${formatBytes(goal.freeBytes)} free, the restore needs ${formatBytes(wanted)}: make room or choose another volume`,
  );
}

/**
 * Opens a device, or the `.part` of a restore that is not in place. A `.part` of an earlier attempt is taken up again: its
 * blocks are proved, not believed.
 */
export async function openGoal(goal: GoalDisk, geometry: Geometry): Promise<OpenGoal> {
  const isDevice = goal.existing?.kind === 'device';
  const workPath = goal.partPath ?? goal.flatPath;
  try {
    await makeFolderDurably(goal);
    if (isDevice) {
      const handle = await fs.open(workPath, OPEN_DEVICE_FLAGS);
      return { goal, handle, workPath, hasContent: true, kind: 'device' };
    }
    const handle = await openWorkFile(workPath, geometry, goal.hasPart);
    return await soleOf({ goal, handle, workPath, hasContent: goal.hasPart, kind: 'part' });
  } catch (error) {
    throw fromErrno(error, `cannot open ${workPath} to restore into it`);
  }
}

/** A new file of the disk's size, all holes, or the one that is there. */
export async function openWorkFile(file: string, geometry: Geometry, isThere: boolean): Promise<FileHandle> {
  const handle = await fs.open(file, isThere ? OPEN_EXISTING_FLAGS : NEW_FILE_FLAGS, 0o600);
  try {
    await handle.truncate(geometry.diskBytes);
  } catch (error) {
    await handle.close();
    if (!isThere) await fs.rm(file, { force: true });
    throw error;
  }
  return handle;
}

/** Two that take up one work file at the same moment both see the other here, and both stop. */
export async function soleOf(open: OpenGoal): Promise<OpenGoal> {
  try {
    if (open.hasContent) await requireSole(open);
  } catch (error) {
    await open.handle.close();
    throw error;
  }
  return open;
}

const NEW_FILE_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

async function makeFolderDurably(goal: GoalDisk): Promise<void> {
  if (goal.folderExists) return;
  await makeFolder(goal.folder);
  await syncFolder(path.dirname(goal.folder));
}

/**
 * The work file must still be the one that was opened, and no one else may have it, or the disk it replaces, open.
 * Throws LOCKED, VM_RUNNING.
 */
export async function requireSole(open: OpenGoal): Promise<void> {
  const own = await open.handle.stat({ bigint: true });
  const there = await fs.lstat(open.workPath, { bigint: true }).catch(() => undefined);
  if (there?.ino !== own.ino || there.dev !== own.dev) {
    throw new PhdError(
      'LOCKED',
      `${open.workPath} was replaced while it was written: another restore is at work there`,
    );
  }
  const { inUse } = await checkInUse([open.workPath, open.goal.flatPath]);
  const [first] = inUse;
  if (!first) return;
  const isWork = first.path === open.workPath && open.kind !== 'redo';
  const what = isWork ? 'another process has the work file open' : 'stop the VM first, then restore again';
  throw new PhdError(
    isWork ? 'LOCKED' : 'VM_RUNNING',
    `${first.path} is in use (${first.how}, ${first.by}): ${what}`,
  );
}

/** Syncs everything, then gives the disk its name; what other attempts left beside it goes. */
export async function finishGoal(open: OpenGoal): Promise<void> {
  const { goal, handle, kind, workPath } = open;
  if (kind === 'part' || kind === 'clone') await requireSole(open);
  try {
    await handle.sync();
  } catch (error) {
    throw fromErrno(error, `cannot sync ${workPath}`);
  }
  if (kind === 'device') return;
  if (kind !== 'redo') await renameDurably(workPath, goal.flatPath, { replace: true });
  for (const file of [recordPathOf(goal.flatPath), besidePathOf(goal.flatPath), goal.partPath])
    if (file !== null && file !== workPath && isPlainName(path.basename(file))) await removeLeft(file);
}

async function removeLeft(file: string): Promise<void> {
  await fs.rm(file, { force: true }).catch((error) => {
    throw fromErrno(error, `cannot remove ${file}`);
  });
}
