/** The place a disk is restored to: its names, what is there already, and how much room there is. */
import { type BigIntStats, constants } from 'node:fs';
import { lstat, stat, statfs } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { fromErrno, PhdError } from '../errors.ts';
import { deviceSizeBytes, isDeviceHeld } from './block-device.ts';
import { isPlainName, shownName } from './plain-name.ts';
import { besidePathOf, recordPathOf } from './unfinished-disk.ts';

export { createNewFile, renameDurably, syncFolder, writeNewFile } from './durable-file.ts';

export interface GoalRequest {
  /** Chosen by the operator; need not exist yet. */
  folder: string;
  /** `NAME.vmdk`, or the name of a raw image or device. */
  diskName: string;
  diskBytes: number;
  /** A raw image keeps its name and has no descriptor. */
  isRawImage: boolean;
}

/** What bears the flat's final name already. */
export interface ExistingDisk {
  kind: 'file' | 'device';
  sizeBytes: number;
  /** Device only: mounted, part of a volume group, or opened exclusively. */
  isHeld: boolean;
}

export interface GoalDisk {
  /** Absolute. */
  folder: string;
  folderExists: boolean;
  flatName: string;
  flatPath: string;
  /** Null for a raw image. */
  descriptorName: string | null;
  descriptorPath: string | null;
  /** Work file until everything is proved; a device is written in place and has none. */
  partPath: string | null;
  existing: ExistingDisk | null;
  /** Something bears the descriptor's name. */
  hasDescriptor: boolean;
  /** A `.part` of an earlier attempt is there. */
  hasPart: boolean;
  /** An in-place restore over this file was broken off while its blocks were put into it (unfinished-disk.ts). */
  hasRecord: boolean;
  /** Blocks that an in-place restore fetched before it was broken off are there. */
  hasBeside: boolean;
  /** Room for this user on the volume of the folder (or of its nearest parent that exists). */
  freeBytes: number;
}

async function lstatIfThere(path: string): Promise<BigIntStats | null> {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw fromErrno(error, `cannot look at ${path}`);
  }
}

function refuseName(diskName: string, reason: string): PhdError {
  return new PhdError('USAGE', `${shownName(diskName)} cannot be the name of a restored disk: ${reason}`);
}

/** Name of the flat of a disk: NAME.vmdk -> NAME-flat.vmdk, a raw image is its own flat. USAGE if the name is no plain one. */
export function flatNameOf(diskName: string, isRawImage: boolean): string {
  if (!isPlainName(diskName)) throw refuseName(diskName, 'it must be a plain file name');
  if (isRawImage) {
    if (!isPlainName(`${diskName}.part`)) throw refuseName(diskName, 'it is too long');
    return diskName;
  }
  const stem = /^(.+)\.vmdk$/i.exec(diskName)?.[1];
  if (stem === undefined) throw refuseName(diskName, 'it must end in .vmdk');
  if (!isPlainName(`${stem}-flat.vmdk.part`)) throw refuseName(diskName, 'it is too long');
  return `${stem}-flat.vmdk`;
}

/** Free bytes for this user on the volume that holds a path or, if that does not exist, its nearest parent. */
async function freeBytesAt(path: string): Promise<number> {
  let place = path;
  for (;;) {
    try {
      const { bavail, bsize } = await statfs(place);
      return bavail * bsize;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(place) === place) {
        throw fromErrno(error, `cannot tell the room at ${place}`);
      }
      place = dirname(place);
    }
  }
}

/** What stands under the flat's final name; refuses what is neither a regular file nor a block device. */
async function existingDisk(flatPath: string): Promise<ExistingDisk | null> {
  const own = await lstatIfThere(flatPath);
  if (own === null) return null;
  if (own.isFile()) return { kind: 'file', sizeBytes: Number(own.size), isHeld: false };
  if (own.isBlockDevice()) {
    return {
      kind: 'device',
      sizeBytes: await deviceSizeBytes(flatPath),
      isHeld: await isDeviceHeld(flatPath),
    };
  }
  const what = own.isSymbolicLink() ? 'a symbolic link' : 'neither a file nor a disk device';
  throw new PhdError('EXISTS', `${flatPath} is ${what}: remove it or choose another name`);
}

/** Whether the goal folder is there; NOT_FOUND if its name belongs to something else. */
async function isFolder(folder: string): Promise<boolean> {
  try {
    const found = await stat(folder);
    if (!found.isDirectory()) throw new PhdError('NOT_FOUND', `${folder} is not a folder`);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw fromErrno(error, `cannot look at ${folder}`);
  }
}

/** A pre-created disk or device must have exactly the size of the disk. */
function checkSize(flatPath: string, existing: ExistingDisk | null, diskBytes: number): void {
  if (existing?.kind !== 'device' || existing.sizeBytes === diskBytes) return;
  throw new PhdError(
    'EXISTS',
    `${flatPath} has ${existing.sizeBytes} bytes, the disk has ${diskBytes}: choose a device of the same size`,
  );
}

/**
 * Looks at the goal of a restore; changes nothing.
 * @throws PhdError USAGE (name), NOT_FOUND (folder is none), EXISTS (link or device of another size in the way),
 *   LOCKED (device in use), IO
 */
export async function planGoal({ folder, diskName, diskBytes, isRawImage }: GoalRequest): Promise<GoalDisk> {
  const root = resolve(folder);
  const flatName = flatNameOf(diskName, isRawImage);
  const flatPath = join(root, flatName);
  const folderExists = await isFolder(root);
  const existing = folderExists ? await existingDisk(flatPath) : null;
  checkSize(flatPath, existing, diskBytes);
  if (existing?.isHeld) {
    throw new PhdError(
      'LOCKED',
      `${flatPath} is in use by this system (mounted, or part of a volume): free it first`,
    );
  }
  const descriptorPath = isRawImage ? null : join(root, diskName);
  const partPath = existing?.kind === 'device' ? null : `${flatPath}.part`;
  const isThere = async (path: string | null): Promise<boolean> =>
    path !== null && folderExists && isPlainName(basename(path)) && (await lstatIfThere(path)) !== null;
  return {
    folder: root,
    folderExists,
    flatName,
    flatPath,
    descriptorName: isRawImage ? null : diskName,
    descriptorPath,
    partPath,
    existing,
    hasDescriptor: await isThere(descriptorPath),
    hasPart: await isThere(partPath),
    hasRecord: await isThere(partPath && recordPathOf(flatPath)),
    hasBeside: await isThere(partPath && besidePathOf(flatPath)),
    freeBytes: await freeBytesAt(root),
  };
}

/** Flags to open an existing work file or pre-created flat for reading and writing, never through a link. */
export const OPEN_EXISTING_FLAGS = constants.O_RDWR | constants.O_NOFOLLOW;
/** The same for a device: EBUSY if the system holds it. */
export const OPEN_DEVICE_FLAGS = constants.O_RDWR | constants.O_EXCL | constants.O_NOFOLLOW;
