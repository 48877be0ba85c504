/** A target behind an FTP server, plain or with explicit TLS. */
import { FTPError } from 'basic-ftp';
import { PhdError, throwIfAborted } from '../errors.ts';
import type { TargetSettings } from '../model/target.ts';
import { FtpLine, type FtpLogin } from './ftp-line.ts';
import { uploadResuming } from './ftp-upload.ts';
import { LinePool } from './line-pool.ts';
import { checkPath, joinPath, lastPart, parentPath, shownPath } from './remote-path.ts';
import { resumingRead } from './resuming-read.ts';
import type { Listing, ReadRange, Storage, StorageEntry, WriteOptions, WriteResult } from './storage.ts';
import { Throttle } from './throttle.ts';
import { UploadProof, withCleanUpOwed } from './upload-proof.ts';

const DEFAULT_CONNECTIONS = 4;
/** Kinds remembered from listings, so that a read need not list again. */
const MAX_KNOWN_FILES = 100_000;

export class FtpStorage implements Storage {
  readonly number: number;
  readonly name: string;
  readonly transport = 'ftp' as const;
  readonly place: string;
  readonly readOnly: boolean;
  readonly #settings: TargetSettings;
  readonly #pool: LinePool<FtpLine>;
  readonly #throttle: Throttle;
  /** Paths seen as regular files. */
  readonly #knownFiles = new Set<string>();

  constructor(settings: TargetSettings, login: FtpLogin) {
    this.number = settings.number;
    this.name = settings.name;
    this.place = `${settings.host}:${settings.port ?? 21}${settings.path.startsWith('/') ? '' : '/'}${settings.path}`;
    this.readOnly = settings.readOnly;
    this.#settings = settings;
    this.#throttle = new Throttle(settings.bandwidthLimitBytesPerSecond);
    this.#pool = new LinePool({
      open: () => FtpLine.open(login),
      maxLines: settings.maxConnections ?? DEFAULT_CONNECTIONS,
      waitMs: settings.timeoutMs,
    });
  }

  /** What the server says of itself: greeting and system. */
  async banner(): Promise<string> {
    return this.#pool.use(async (line) => line.banner);
  }

  async list(folder: string, signal?: AbortSignal): Promise<Listing> {
    checkPath(folder);
    const listing = await this.#withLine(`cannot list ${this.#shown(folder)}`, true, signal, async (line) => {
      try {
        return await line.list(this.#remote(line, folder));
      } catch (error) {
        if (!(error instanceof FTPError) || error.code !== 550) throw error;
        if (await this.#isAbsent(line, folder)) {
          throw new PhdError('NOT_FOUND', `${this.#shown(folder)}: no such folder`);
        }
        throw error;
      }
    });
    if (this.#knownFiles.size + listing.entries.length > MAX_KNOWN_FILES) this.#knownFiles.clear();
    for (const entry of listing.entries.slice(0, MAX_KNOWN_FILES)) {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (entry.kind === 'file') this.#knownFiles.add(path);
      else this.#knownFiles.delete(path);
    }
    return listing;
  }

  async stat(path: string, signal?: AbortSignal): Promise<StorageEntry | undefined> {
    checkPath(path);
    return this.#withLine(`cannot look at ${this.#shown(path)}`, true, signal, (line) =>
      this.#statOn(line, path),
    );
  }

  async *read(path: string, range: ReadRange, signal?: AbortSignal): AsyncGenerator<Buffer> {
    checkPath(path);
    const doing = `cannot read ${this.#shown(path)}`;
    const length = range.lengthBytes ?? (await this.#lengthFrom(path, range.offsetBytes, doing, signal));
    if (!this.#knownFiles.has(path)) {
      const entry = await this.stat(path, signal);
      if (entry === undefined) throw new PhdError('NOT_FOUND', `${doing}: no such file`);
      if (entry.kind !== 'file') throw new PhdError('TARGET_REFUSED', `${doing}: it is not a regular file`);
      this.#knownFiles.add(path);
    }
    const open = (offset: number, left: number): AsyncIterable<Buffer> =>
      this.#readOnce(path, offset, left, doing, signal);
    yield* resumingRead({
      path,
      offsetBytes: range.offsetBytes,
      lengthBytes: length,
      throttle: this.#throttle,
      signal,
      open,
    });
  }

  async #lengthFrom(path: string, offset: number, doing: string, signal?: AbortSignal): Promise<number> {
    const size = await this.#withLine(doing, true, signal, async (line) => {
      const bytes = await line.size(this.#remote(line, path));
      return bytes ?? (await this.#statOn(line, path))?.sizeBytes;
    });
    if (size === undefined) throw new PhdError('NOT_FOUND', `${doing}: no such file`);
    return Math.max(0, size - offset);
  }

  async *#readOnce(
    path: string,
    offset: number,
    length: number,
    doing: string,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer> {
    const { line } = await this.#pool.acquire(signal);
    let left = length;
    try {
      for await (const chunk of line.retrieve(this.#remote(line, path), offset, signal)) {
        left -= chunk.length;
        yield chunk;
        if (left <= 0) return;
      }
    } catch (error) {
      throw line.translated(error, doing);
    } finally {
      this.#pool.release(line);
    }
  }

  async write(
    path: string,
    source: AsyncIterable<Uint8Array>,
    options: WriteOptions = {},
  ): Promise<WriteResult> {
    checkPath(path);
    const doing = `cannot write ${this.#shown(path)}`;
    const { signal } = options;
    const taken = await this.#withLine(doing, true, signal, (line) => this.#statOn(line, path));
    if (taken !== undefined) throw new PhdError('EXISTS', `${doing}: the name is taken`);
    const proof = new UploadProof();
    const counted = this.#counted(source, proof, options);
    try {
      await this.#upload(path, counted, doing, signal);
      throwIfAborted(signal);
      return await this.#prove(path, proof, options.readBack ?? this.#settings.readBack, doing);
    } catch (error) {
      const failure = error instanceof PhdError ? error : sourceFailure(error, doing);
      // Lets the caller's source free what it holds.
      await counted.return(undefined);
      throw await this.#afterFailedUpload(path, failure);
    }
  }

  async *#counted(
    source: AsyncIterable<Uint8Array>,
    proof: UploadProof,
    options: WriteOptions,
  ): AsyncGenerator<Uint8Array> {
    for await (const chunk of source) {
      throwIfAborted(options.signal);
      await this.#throttle.take(chunk.length, options.signal).catch(() => throwIfAborted(options.signal));
      proof.add(chunk);
      yield chunk;
      options.onBytes?.(proof.sizeBytes);
    }
  }

  #upload(
    path: string,
    source: AsyncGenerator<Uint8Array>,
    doing: string,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    return uploadResuming(source, {
      pool: this.#pool,
      doing,
      signal,
      remote: (line) => this.#remote(line, path),
      heldBytes: () => this.#withLine(doing, true, signal, (line) => line.size(this.#remote(line, path))),
      read: (offset, length) => this.#readOnce(path, offset, length, doing, signal),
    });
  }

  /** Size and content as a new connection sees them. */
  async #prove(path: string, proof: UploadProof, mode: 'tail' | 'all', doing: string): Promise<WriteResult> {
    const { line } = await this.#pool.acquire(undefined, true);
    let held: number | null | undefined;
    try {
      held = await line.size(this.#remote(line, path));
      if (held === null) held = (await this.#statOn(line, path))?.sizeBytes;
    } catch (error) {
      throw line.translated(error, doing);
    } finally {
      this.#pool.release(line);
    }
    if (held === undefined) {
      throw new PhdError(
        'TARGET_LIED',
        `${this.#shown(path)}: the target reported success but holds no such file`,
      );
    }
    const read = (range: ReadRange): AsyncIterable<Buffer> =>
      resumingRead({
        path,
        offsetBytes: range.offsetBytes,
        lengthBytes: range.lengthBytes ?? 0,
        throttle: this.#throttle,
        signal: undefined,
        open: (offset, left) => this.#readOnce(path, offset, left, doing, undefined),
      });
    return proof.compare(this.#shown(path), mode, held ?? 0, read);
  }

  async #afterFailedUpload(path: string, failure: PhdError): Promise<PhdError> {
    try {
      await this.#withLine('', true, undefined, async (line) => {
        const remote = this.#remote(line, path);
        if ((await line.size(remote)) === undefined && (await this.#statOn(line, path)) === undefined) return;
        await line.send(`DELE ${remote}`);
      });
      return failure;
    } catch (error) {
      return withCleanUpOwed(failure, this.#shown(path), error);
    }
  }

  async rename(from: string, to: string): Promise<void> {
    checkPath(from);
    checkPath(to);
    const doing = `cannot rename ${this.#shown(from)} to ${shownPath(lastPart(to))}`;
    await this.#withLine(doing, false, undefined, async (line) => {
      if ((await this.#statOn(line, to)) !== undefined)
        throw new PhdError('EXISTS', `${doing}: the name is taken`);
      const size = await line.size(this.#remote(line, from));
      try {
        await line.send(`RNFR ${this.#remote(line, from)}`);
      } catch (error) {
        throw await this.#absentOr(line, from, error, doing);
      }
      await line.send(`RNTO ${this.#remote(line, to)}`);
      const after = await line.size(this.#remote(line, to));
      if (after !== size)
        throw new PhdError('TARGET_LIED', `${doing}: reported as done, but it is not there`);
    });
    this.#knownFiles.delete(from);
  }

  async remove(path: string): Promise<void> {
    checkPath(path);
    const doing = `cannot remove ${this.#shown(path)}`;
    await this.#withLine(doing, false, undefined, async (line) => {
      await line.send(`DELE ${this.#remote(line, path)}`).catch(async (error: unknown) => {
        throw await this.#absentOr(line, path, error, doing);
      });
    });
    this.#knownFiles.delete(path);
  }

  async removeFolder(path: string): Promise<void> {
    checkPath(path);
    const doing = `cannot remove folder ${this.#shown(path)}`;
    await this.#withLine(doing, false, undefined, async (line) => {
      await line.send(`RMD ${this.#remote(line, path)}`).catch(async (error: unknown) => {
        const failure = await this.#absentOr(line, path, error, doing);
        const listing =
          failure instanceof FTPError
            ? await line.list(this.#remote(line, path)).catch(() => undefined)
            : undefined;
        if (listing !== undefined && listing.entries.length > 0) {
          throw new PhdError('EXISTS', `${doing}: it is not empty`);
        }
        throw failure;
      });
    });
  }

  async makeFolder(path: string): Promise<void> {
    checkPath(path);
    await this.#withLine(`cannot make folder ${this.#shown(path)}`, true, undefined, (line) =>
      makeFolders(line, this.#remote(line, path)),
    );
  }

  /** `AVBL`, which few servers know. */
  async freeSpaceBytes(): Promise<number | null> {
    return this.#withLine('cannot ask for free space', true, undefined, async (line) => {
      try {
        const reply = await line.send(`AVBL ${this.#remote(line, '')}`);
        const bytes = Number(/^213 (\d{1,16})/.exec(reply.message)?.[1]);
        return Number.isSafeInteger(bytes) ? bytes : null;
      } catch (error) {
        if (error instanceof FTPError && error.code !== 421) return null;
        throw error;
      }
    });
  }

  async close(): Promise<void> {
    this.#pool.close();
  }

  /** Entry by the listing of its folder: the only answer that tells a link from a file. */
  async #statOn(line: FtpLine, path: string): Promise<StorageEntry | undefined> {
    const remote = this.#remote(line, path);
    if (path === '') return (await isFolder(line, remote)) ? folderEntry('') : undefined;
    let listing: Listing | undefined;
    try {
      listing = await line.list(this.#remote(line, parentPath(path)));
    } catch (error) {
      if (!(error instanceof FTPError) || error.code === 421) throw error;
    }
    const name = lastPart(path);
    const found = listing?.entries.find((entry) => entry.name === name);
    if (found !== undefined || listing?.complete) return found;
    const size = await line.size(remote);
    if (typeof size === 'number') return { name, kind: 'file', sizeBytes: size, modifiedMs: null };
    return (await isFolder(line, remote)) ? folderEntry(name) : undefined;
  }

  async #isAbsent(line: FtpLine, path: string): Promise<boolean> {
    return (await this.#statOn(line, path)) === undefined;
  }

  async #absentOr(line: FtpLine, path: string, error: unknown, doing: string): Promise<unknown> {
    if (!(error instanceof FTPError) || error.code !== 550) return error;
    return (await this.#isAbsent(line, path))
      ? new PhdError('NOT_FOUND', `${doing}: nothing there by that name`)
      : error;
  }

  /** One piece of work on a line; `mayRepeat`: once more on a new line if a kept one proves dead. */
  async #withLine<T>(
    doing: string,
    mayRepeat: boolean,
    signal: AbortSignal | undefined,
    work: (line: FtpLine) => Promise<T>,
  ): Promise<T> {
    for (let attempt = 0; ; attempt += 1) {
      const { line, isReused } = await this.#pool.acquire(signal);
      try {
        return await work(line);
      } catch (error) {
        const failure = line.translated(error, doing);
        if (failure.code === 'TARGET_UNREACHABLE') line.close();
        if (!(failure.retryable && isReused && mayRepeat && attempt < this.#maxLines)) throw failure;
      } finally {
        this.#pool.release(line);
      }
    }
  }

  get #maxLines(): number {
    return this.#settings.maxConnections ?? DEFAULT_CONNECTIONS;
  }

  #remote(line: FtpLine, path: string): string {
    const { path: root } = this.#settings;
    return joinPath(root.startsWith('/') ? root : joinPath(line.homeFolder, root), path);
  }

  #shown(path: string): string {
    return shownPath(path === '' ? this.place : `${this.place}/${path}`);
  }
}

function folderEntry(name: string): StorageEntry {
  return { name, kind: 'folder', sizeBytes: 0, modifiedMs: null };
}

async function isFolder(line: FtpLine, remote: string): Promise<boolean> {
  try {
    await line.send(`CWD ${remote}`);
    return true;
  } catch (error) {
    if (error instanceof FTPError && error.code !== 421) return false;
    throw error;
  }
}

async function makeFolders(line: FtpLine, remote: string): Promise<void> {
  if (await isFolder(line, remote)) return;
  const parent = remote.slice(0, Math.max(1, remote.lastIndexOf('/')));
  if (parent !== remote && parent !== '/') await makeFolders(line, parent);
  try {
    await line.send(`MKD ${remote}`);
  } catch (error) {
    // Another line may have made it meanwhile.
    if (!(await isFolder(line, remote))) throw error;
  }
}

/** An error of the caller's own source. */
function sourceFailure(error: unknown, doing: string): PhdError {
  return new PhdError('IO', `${doing}: ${(error as Error)?.message ?? String(error)}`, { cause: error });
}
