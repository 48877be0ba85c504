/** Files that come to stay: made under a name nobody else has, synced, read back, renamed, folder synced. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, lstat, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fromErrno, PhdError } from '../errors.ts';

/** Errors of file systems without hard links (FAT, VMFS, some NFS and FUSE). */
const NO_HARD_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

/**
 * Opens a file that was not there before, for reading and writing, mode 0600; never follows a symbolic link.
 * @throws PhdError EXISTS, NOT_FOUND (no such folder), NO_SPACE, IO
 */
export async function createNewFile(path: string): Promise<FileHandle> {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  try {
    return await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  } catch (error) {
    throw fromErrno(error, `cannot create ${path}`);
  }
}

/** Makes the names in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  try {
    const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (error) {
    throw fromErrno(error, `cannot sync the folder ${path}`);
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/** Gives `from` the name `to`, which must be free: by hard link, which cannot replace, where the file system has them. */
async function renameToFreeName(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (!NO_HARD_LINKS.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
    if (await isThere(to)) throw new PhdError('EXISTS', `${to} exists and is not overwritten`);
    await rename(from, to);
    return;
  }
  await rm(from);
}

/**
 * Renames within one file system and syncs the folders. The caller has synced the file.
 * @param options.replace an existing `to` is replaced in one step; else it is EXISTS and nothing changes
 */
export async function renameDurably(from: string, to: string, options: { replace: boolean }): Promise<void> {
  try {
    if (options.replace) await rename(from, to);
    else await renameToFreeName(from, to);
  } catch (error) {
    throw fromErrno(error, `cannot rename ${from} to ${to}`);
  }
  await syncFolder(dirname(to));
  if (dirname(from) !== dirname(to)) await syncFolder(dirname(from));
}

/** A name beside a file for what is not finished of it, which nobody else has. */
export function partOf(path: string): string {
  return `${path}.${randomBytes(4).toString('hex')}.part`;
}

/**
 * What writers of this file left when they were killed. A writer that lives has its file taken away and fails: two
 * never want the same name but by mistake. Throws NOT_FOUND, IO.
 */
export async function removeParts(path: string): Promise<void> {
  const folder = dirname(path);
  try {
    for (const name of await readdir(folder)) {
      const [, stem] = /^(.*)\.[0-9a-f]{8}\.part$/s.exec(name) ?? [];
      if (stem === basename(path)) await rm(join(folder, name));
    }
  } catch (error) {
    throw fromErrno(error, `cannot write ${path}`);
  }
}

/**
 * Writes a small file that must not exist yet: temporary name, sync, read back, rename, folder sync.
 * Nothing stays behind on failure.
 * @throws PhdError EXISTS, NOT_FOUND, NO_SPACE, DIGEST_MISMATCH (read back otherwise than written), IO
 */
export async function writeNewFile(path: string, bytes: Uint8Array): Promise<void> {
  if (await isThere(path).catch((error) => Promise.reject(fromErrno(error, `cannot write ${path}`)))) {
    throw new PhdError(
      'EXISTS',
      `${path} exists and is not overwritten: move it away or choose another name`,
    );
  }
  await removeParts(path);
  const temporary = partOf(path);
  const file = await createNewFile(temporary);
  try {
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    if (!(await readFile(temporary)).equals(bytes)) {
      throw new PhdError('DIGEST_MISMATCH', `${path}: what was read back is not what was written`);
    }
    await renameDurably(temporary, path, { replace: false });
  } catch (error) {
    await rm(temporary, { force: true });
    throw fromErrno(error, `cannot write ${path}`);
  }
}
