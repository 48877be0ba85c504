/** A target in a local or mounted folder (VMFS, ext4, NFS, USB disk). */
import { constants } from 'node:fs';
import {
  type FileHandle,
  link,
  lstat,
  open,
  readdir,
  realpath,
  rename,
  rmdir,
  statfs,
  unlink,
} from 'node:fs/promises';
import path from 'node:path';
import { fromErrno, PhdError, throwIfAborted } from '../errors.ts';
import { makeFolder } from '../make-folder.ts';
import type { TargetSettings } from '../model/target.ts';
import { checkPath, isEntryName, joinPath, lastPart, parentPath, shownPath } from './remote-path.ts';
import type { Listing, ReadRange, Storage, StorageEntry, WriteOptions, WriteResult } from './storage.ts';
import { SyncAhead } from './sync-ahead.ts';
import { Throttle } from './throttle.ts';
import { UploadProof, withCleanUpOwed } from './upload-proof.ts';

const READ_BYTES = 1024 * 1024;
/** lstat calls of a listing under way at once. */
const STAT_BATCH = 64;

export class VmfsStorage implements Storage {
  readonly number: number;
  readonly name: string;
  readonly transport = 'vmfs' as const;
  readonly place: string;
  readonly readOnly: boolean;
  readonly #root: string;
  readonly #readBack: 'tail' | 'all';
  readonly #throttle: Throttle;

  constructor(settings: TargetSettings) {
    this.number = settings.number;
    this.name = settings.name;
    this.place = settings.path;
    this.readOnly = settings.readOnly;
    this.#root = settings.path;
    this.#readBack = settings.readBack;
    this.#throttle = new Throttle(settings.bandwidthLimitBytesPerSecond);
  }

  async list(folder: string, signal?: AbortSignal): Promise<Listing> {
    const local = joinPath(this.#root, folder);
    const doing = `cannot list ${shownPath(local)}`;
    try {
      await this.#refuseLinks(folder);
      const names = (await readdir(local)).filter(isEntryName);
      const entries: StorageEntry[] = [];
      let complete = true;
      for (let at = 0; at < names.length; at += STAT_BATCH) {
        throwIfAborted(signal);
        const batch = names.slice(at, at + STAT_BATCH).map(async (name) => {
          const entry = await entryOf(path.join(local, name), name).catch((error: NodeJS.ErrnoException) => {
            // Gone since it was listed is no fault; any other reason leaves its state unknown.
            if (error.code !== 'ENOENT') complete = false;
            return undefined;
          });
          if (entry !== undefined) entries.push(entry);
        });
        await Promise.all(batch);
      }
      return { entries, complete };
    } catch (error) {
      if (folder === '' && (error as NodeJS.ErrnoException).code === 'ENOENT') {
        const words = `target ${this.number}: ${shownPath(local)} does not exist: make the folder, or mount what belongs there`;
        throw new PhdError('TARGET_UNREACHABLE', words, { cause: error });
      }
      throw fromErrno(error, doing);
    }
  }

  async stat(name: string): Promise<StorageEntry | undefined> {
    const local = joinPath(this.#root, name);
    try {
      await this.#refuseLinks(parentPath(name));
      return await entryOf(local, lastPart(name));
    } catch (error) {
      const failure = fromErrno(error, `cannot look at ${shownPath(local)}`);
      if (failure.code === 'NOT_FOUND') return undefined;
      throw failure;
    }
  }

  async *read(name: string, range: ReadRange, signal?: AbortSignal): AsyncGenerator<Buffer> {
    const local = joinPath(this.#root, name);
    const doing = `cannot read ${shownPath(local)}`;
    let handle: FileHandle | undefined;
    try {
      await this.#refuseLinks(parentPath(name));
      handle = await open(local, constants.O_RDONLY | constants.O_NOFOLLOW);
      const stats = await handle.stat();
      if (!stats.isFile()) throw new PhdError('TARGET_REFUSED', `${doing}: it is not a regular file`);
      let offset = range.offsetBytes;
      let left = range.lengthBytes ?? Math.max(0, stats.size - offset);
      while (left > 0) {
        throwIfAborted(signal);
        const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, left));
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, offset);
        if (bytesRead === 0) {
          throw new PhdError('IO', `${doing}: it ends at byte ${offset}, ${left} bytes too early`);
        }
        offset += bytesRead;
        left -= bytesRead;
        await this.#throttle.take(bytesRead, signal);
        yield buffer.subarray(0, bytesRead);
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ELOOP') {
        throw new PhdError('TARGET_REFUSED', `${doing}: it is a symbolic link`, { cause: error });
      }
      throw fromErrno(error, doing);
    } finally {
      await handle?.close();
    }
  }

  async write(
    name: string,
    source: AsyncIterable<Uint8Array>,
    options: WriteOptions = {},
  ): Promise<WriteResult> {
    const local = joinPath(this.#root, name);
    const doing = `cannot write ${shownPath(local)}`;
    let handle: FileHandle | undefined;
    let isOurs = false;
    try {
      await this.#refuseLinks(parentPath(name));
      handle = await open(local, 'wx', 0o600);
      isOurs = true;
      const proof = new UploadProof();
      const ahead = new SyncAhead(handle, shownPath(local));
      try {
        for await (const chunk of source) {
          throwIfAborted(options.signal);
          proof.add(chunk);
          await writeAll(handle, chunk);
          ahead.wrote(chunk.length);
          options.onBytes?.(proof.sizeBytes);
          await this.#throttle.take(chunk.length, options.signal);
        }
      } finally {
        await ahead.settle();
      }
      throwIfAborted(options.signal);
      await handle.sync();
      await handle.close();
      handle = undefined;
      await syncFolder(path.dirname(local));
      const held = await this.stat(name);
      const mode = options.readBack ?? this.#readBack;
      return await proof.compare(name, mode, held?.sizeBytes ?? 0, (range) => this.read(name, range));
    } catch (error) {
      const failure = fromErrno(error, doing);
      await handle?.close().catch(() => undefined);
      if (!isOurs) throw failure;
      throw await unlink(local).then(
        () => failure,
        (why: unknown) => withCleanUpOwed(failure, local, why),
      );
    }
  }

  async rename(from: string, to: string): Promise<void> {
    const source = joinPath(this.#root, from);
    const goal = joinPath(this.#root, to);
    const doing = `cannot rename ${shownPath(source)} to ${shownPath(lastPart(to))}`;
    try {
      await this.#refuseLinks(parentPath(from));
      await this.#refuseLinks(parentPath(to));
      if ((await this.stat(to)) !== undefined) {
        throw new PhdError('EXISTS', `${doing}: the name is taken`);
      }
      await renameWithoutReplacing(source, goal);
      await syncFolder(path.dirname(goal));
      if (path.dirname(goal) !== path.dirname(source)) await syncFolder(path.dirname(source));
    } catch (error) {
      throw fromErrno(error, doing);
    }
  }

  async remove(name: string): Promise<void> {
    const local = joinPath(this.#root, name);
    await this.#change(`cannot remove ${shownPath(local)}`, parentPath(name), () => unlink(local));
  }

  async removeFolder(name: string): Promise<void> {
    const local = joinPath(this.#root, name);
    await this.#change(`cannot remove folder ${shownPath(local)}`, parentPath(name), () => rmdir(local));
  }

  async makeFolder(name: string): Promise<void> {
    const local = joinPath(this.#root, name);
    try {
      await this.#refuseLinks(name);
      await makeFolder(local);
      await this.#refuseLinks(name);
      await syncFolder(path.dirname(local));
    } catch (error) {
      throw fromErrno(error, `cannot make folder ${shownPath(local)}`);
    }
  }

  async freeSpaceBytes(): Promise<number | null> {
    try {
      const { bavail, bsize } = await statfs(this.#root);
      const bytes = bavail * bsize;
      return Number.isSafeInteger(bytes) ? bytes : null;
    } catch (error) {
      const failure = fromErrno(error, `cannot look at ${shownPath(this.#root)}`);
      if (failure.code === 'NOT_FOUND') throw failure;
      return null;
    }
  }

  async close(): Promise<void> {}

  async #change(doing: string, folder: string, work: () => Promise<void>): Promise<void> {
    try {
      await this.#refuseLinks(folder);
      await work();
      await syncFolder(joinPath(this.#root, folder));
    } catch (error) {
      throw fromErrno(error, doing);
    }
  }

  /** Refuses a folder below the root that is reached through a symbolic link. Absent parts are fine. */
  async #refuseLinks(folder: string): Promise<void> {
    checkPath(folder);
    if (folder === '') return;
    const root = await realpath(this.#root);
    let local = root;
    for (const part of folder.split('/')) {
      local = path.join(local, part);
      const stats = await lstat(local).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return undefined;
        throw error;
      });
      if (stats === undefined) return;
      if (stats.isSymbolicLink()) {
        throw new PhdError(
          'TARGET_REFUSED',
          `${shownPath(local)} is a symbolic link, which is never followed`,
        );
      }
    }
  }
}

async function entryOf(local: string, name: string): Promise<StorageEntry> {
  const stats = await lstat(local);
  const kind = stats.isFile() ? 'file' : stats.isDirectory() ? 'folder' : 'other';
  return { name, kind, sizeBytes: kind === 'file' ? stats.size : 0, modifiedMs: Math.floor(stats.mtimeMs) };
}

async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  let at = 0;
  while (at < chunk.length) at += (await handle.write(chunk, at, chunk.length - at)).bytesWritten;
}

/** By a hard link where the file system has them, since that alone never replaces; else by a rename. */
async function renameWithoutReplacing(source: string, goal: string): Promise<void> {
  const stats = await lstat(source);
  if (stats.isFile()) {
    try {
      await link(source, goal);
      await unlink(source);
      return;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? '';
      if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EACCES'].includes(code)) throw error;
    }
  }
  await rename(source, goal);
}

/** Makes names in a folder durable; some file systems do not know fsync of folders. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } catch (error) {
    if (!['EINVAL', 'ENOTSUP', 'EISDIR', 'EBADF'].includes((error as NodeJS.ErrnoException).code ?? ''))
      throw error;
  } finally {
    await handle.close();
  }
}
