/**
 * Whether a disk or VM is in use. Nothing here proves that it is not: what cannot be looked at is said.
 * Read only; Linux (/proc, /sys), and VMware's `vmfsfilelockinfo` where it exists.
 */
import type { BigIntStats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { fromErrno } from '../errors.ts';
import { deviceNumber } from './block-device.ts';
import { findHolders } from './in-use-kernel.ts';
import { findLockFiles } from './in-use-lock-files.ts';
import { findLocks, findOpeners } from './in-use-processes.ts';
import { findVmfsLocks } from './in-use-vmfs.ts';

export interface Use {
  /** The file, device or lock file that shows it. */
  path: string;
  /** Fits "PATH is HOW by BY": `open for writing`, `locked for writing (POSIX)`, `mounted`, `attached as a loop device`, ... */
  how: string;
  /** Who, as far as the system tells: `process 4711 (vmx)`, a mount point, a host; `unknown` if it does not. */
  by: string;
  /** True if this user cannot change the disk: a backup may go on, a restore over it may not. */
  isReadOnly: boolean;
}

export interface InUse {
  inUse: Use[];
  /** What could not be looked at, a line each; empty means everything was. */
  unknown: string[];
}

export interface InUseOptions {
  /** Processes that do not count, beside our own. */
  ownPids?: readonly number[];
  /** Where `vmfsfilelockinfo` is looked for. Default: PATH of this process. */
  programPath?: string;
}

/** A path with what identifies its content to the kernel. */
export interface Watched {
  path: string;
  /** `device:inode` as stat gives them. */
  inode: string;
  /** major:minor of a block device, else null. */
  device: string | null;
  stat: BigIntStats;
}

async function watch(path: string): Promise<Watched | null> {
  try {
    const found = await stat(path, { bigint: true });
    const device = found.isBlockDevice() ? deviceNumber(found.rdev) : null;
    return { path, inode: `${found.dev}:${found.ino}`, device, stat: found };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw fromErrno(error, `cannot look at ${path}`);
  }
}

/**
 * Looks for users of flats, descriptors, VMX files, raw images or devices: open files, locks (POSIX, OFD, flock),
 * `.lck` folders, `.lck-*` files, `.vswp`, mounts, swap, loop devices, device-mapper and other holders, VMFS locks.
 * @param paths may hold names that do not exist; their lock files count all the same
 * @throws PhdError IO only if a path itself cannot be looked at
 */
export async function checkInUse(paths: readonly string[], options: InUseOptions = {}): Promise<InUse> {
  const watched: Watched[] = [];
  for (const path of paths) {
    const found = await watch(path);
    if (found) watched.push(found);
  }
  const ownPids = new Set([process.pid, ...(options.ownPids ?? [])]);
  const parts = await Promise.all([
    findOpeners(watched, ownPids),
    findLocks(watched, ownPids),
    findLockFiles(paths),
    findHolders(watched),
    findVmfsLocks(watched, options.programPath ?? process.env.PATH ?? ''),
  ]);
  return { inUse: parts.flatMap((part) => part.inUse), unknown: parts.flatMap((part) => part.unknown) };
}
