/** A target behind an SSH server: SFTP with many requests under way; long reads by `cat` where there is a shell. */
import type { FileEntryWithStats, Stats } from 'ssh2';
import { PhdError, throwIfAborted } from '../errors.ts';
import type { TargetSettings } from '../model/target.ts';
import { LinePool } from './line-pool.ts';
import { checkPath, isEntryName, joinPath, lastPart, parentPath, shownPath } from './remote-path.ts';
import { resumingRead } from './resuming-read.ts';
import { SftpUpload } from './sftp-upload.ts';
import type { SshLogin } from './ssh-connect.ts';
import { SshLine, statusOf } from './ssh-line.ts';
import { type ReadLimits, readByShell, readPipelined, seesSameFolder } from './ssh-read.ts';
import type { Listing, ReadRange, Storage, StorageEntry, WriteOptions, WriteResult } from './storage.ts';
import { Throttle } from './throttle.ts';
import { UploadProof, withCleanUpOwed } from './upload-proof.ts';

const DEFAULT_CONNECTIONS = 2;
/** Below this a shell costs more than it brings. */
const MIN_EXEC_BYTES = 8 * 1024 * 1024;
const MAX_ENTRIES = 5_000_000;
/** Free space below which a bare FAILURE in a write means: full. */
const FULL_BELOW_BYTES = 1024 * 1024;

export class SshStorage implements Storage {
  readonly number: number;
  readonly name: string;
  readonly transport = 'ssh' as const;
  readonly place: string;
  readonly readOnly: boolean;
  readonly #settings: TargetSettings;
  readonly #root: string;
  readonly #pool: LinePool<SshLine>;
  readonly #throttle: Throttle;
  /** Found out once: may long reads go through a shell? */
  #hasShell: Promise<boolean> | undefined;

  constructor(settings: TargetSettings, login: SshLogin) {
    this.number = settings.number;
    this.name = settings.name;
    this.place = `${settings.host}:${settings.port ?? 22}${settings.path.startsWith('/') ? '' : '/'}${settings.path}`;
    this.readOnly = settings.readOnly;
    this.#settings = settings;
    this.#root = settings.path === '' ? '.' : settings.path;
    this.#throttle = new Throttle(settings.bandwidthLimitBytesPerSecond);
    this.#pool = new LinePool({
      open: () => SshLine.open(login),
      maxLines: settings.maxConnections ?? DEFAULT_CONNECTIONS,
      waitMs: settings.timeoutMs,
    });
  }

  get #limits(): ReadLimits {
    return { timeoutMs: this.#settings.timeoutMs, place: this.place };
  }

  async list(folder: string, signal?: AbortSignal): Promise<Listing> {
    const remote = this.#remote(folder);
    return this.#withLine(`cannot list ${this.#shown(folder)}`, true, signal, async (line) => {
      const entries: StorageEntry[] = [];
      let complete = true;
      await line.readFolder(remote, (batch) => {
        throwIfAborted(signal);
        for (const one of batch) {
          if (!isEntryName(one.filename)) continue;
          const entry = entryOf(one.filename, one.attrs, one);
          if (entry === undefined || entries.length >= MAX_ENTRIES) complete = false;
          else entries.push(entry);
        }
      });
      return { entries, complete };
    });
  }

  async stat(path: string, signal?: AbortSignal): Promise<StorageEntry | undefined> {
    checkPath(path);
    const doing = `cannot look at ${this.#shown(path)}`;
    return this.#withLine(doing, true, signal, (line) => this.#statOn(line, path));
  }

  async *read(path: string, range: ReadRange, signal?: AbortSignal): AsyncGenerator<Buffer> {
    const doing = `cannot read ${this.#shown(path)}`;
    const remote = this.#remote(path);
    let length = range.lengthBytes;
    if (length === undefined) {
      const size = await this.#withLine(
        doing,
        true,
        signal,
        async (line) => (await line.file(remote, this.#shown(path))).sizeBytes,
      );
      length = Math.max(0, size - range.offsetBytes);
    }
    const state = { mayExec: length >= MIN_EXEC_BYTES };
    const open = (offset: number, left: number): AsyncIterable<Buffer> =>
      this.#readOnce(path, offset, left, state, signal);
    yield* resumingRead({
      path,
      offsetBytes: range.offsetBytes,
      lengthBytes: length,
      throttle: this.#throttle,
      signal,
      open,
    });
  }

  async *#readOnce(
    path: string,
    offset: number,
    length: number,
    state: { mayExec: boolean },
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer> {
    const doing = `cannot read ${this.#shown(path)}`;
    const { line } = await this.#pool.acquire(signal);
    try {
      let file = await line.file(this.#remote(path), this.#shown(path));
      if (offset + length > file.sizeBytes) {
        // It may have grown since it was opened.
        await line.forgetFile(this.#remote(path));
        file = await line.file(this.#remote(path), this.#shown(path));
      }
      if (offset + length > file.sizeBytes) {
        const words = `${doing}: it has ${file.sizeBytes} bytes, asked for up to ${offset + length}`;
        throw new PhdError('IO', words);
      }
      if (state.mayExec && length >= MIN_EXEC_BYTES && (await this.#shellOn(line))) {
        // Whatever it does not bring, SFTP brings.
        state.mayExec = false;
        yield* readByShell(line, this.#remote(path), offset, length, this.#limits);
      } else {
        yield* readPipelined(line, file.handle, offset, length);
      }
    } catch (error) {
      throw line.translated(error, doing);
    } finally {
      this.#pool.release(line);
    }
  }

  /** A shell counts only if it sees the same folder as SFTP does (not so in a chroot). */
  async #shellOn(line: SshLine): Promise<boolean> {
    this.#hasShell ??= seesSameFolder(line, this.#root, this.#limits).catch(() => false);
    return this.#hasShell;
  }

  async write(
    path: string,
    source: AsyncIterable<Uint8Array>,
    options: WriteOptions = {},
  ): Promise<WriteResult> {
    const remote = this.#remote(path);
    const doing = `cannot write ${this.#shown(path)}`;
    const { signal } = options;
    const proof = new UploadProof();
    const upload = new SftpUpload({ pool: this.#pool, path: remote, doing, signal });
    let isOurs = false;
    try {
      await this.#withLine(doing, true, signal, async (line) => {
        if ((await this.#statOn(line, path)) !== undefined)
          throw new PhdError('EXISTS', `${doing}: the name is taken`);
      });
      await upload.create();
      isOurs = true;
      for await (const chunk of source) {
        throwIfAborted(signal);
        await this.#throttle.take(chunk.length, signal).catch(() => throwIfAborted(signal));
        proof.add(chunk);
        await upload.add(chunk);
        options.onBytes?.(proof.sizeBytes);
      }
      throwIfAborted(signal);
      await upload.finish();
      const held = await this.#withLine(doing, true, signal, (line) => this.#statOn(line, path));
      const mode = options.readBack ?? this.#settings.readBack;
      const read = (range: ReadRange): AsyncIterable<Buffer> => this.read(path, range, signal);
      return await proof.compare(this.#shown(path), mode, held?.sizeBytes ?? 0, read);
    } catch (error) {
      await upload.giveUp();
      let failure = error instanceof PhdError ? error : sourceFailure(error, doing);
      if (!isOurs) throw failure;
      failure = await this.#fullOr(failure);
      throw await this.#afterFailedUpload(path, failure);
    }
  }

  /** SFTP has no status for a full disk: a bare FAILURE and no space left is one. */
  async #fullOr(failure: PhdError): Promise<PhdError> {
    if (failure.code !== 'IO') return failure;
    const free = await this.freeSpaceBytes().catch(() => null);
    if (free === null || free >= FULL_BELOW_BYTES) return failure;
    return new PhdError('NO_SPACE', `${failure.message}; only ${free} bytes are free on ${this.place}`, {
      cause: failure,
    });
  }

  async #afterFailedUpload(path: string, failure: PhdError): Promise<PhdError> {
    try {
      await this.remove(path);
      return failure;
    } catch (error) {
      if (error instanceof PhdError && error.code === 'NOT_FOUND') return failure;
      return withCleanUpOwed(failure, this.#shown(path), error);
    }
  }

  async rename(from: string, to: string): Promise<void> {
    const source = this.#remote(from);
    const goal = this.#remote(to);
    const doing = `cannot rename ${this.#shown(from)} to ${shownPath(lastPart(to))}`;
    await this.#forget(from);
    await this.#withLine(doing, false, undefined, async (line) => {
      if ((await this.#statOn(line, to)) !== undefined)
        throw new PhdError('EXISTS', `${doing}: the name is taken`);
      const before = await line.lstat(source);
      try {
        // OpenSSH never replaces with this one.
        await line.call((sftp, done) => sftp.rename(source, goal, done));
      } catch (error) {
        if (![4, 8].includes(statusOf(error) ?? 0)) throw error;
        if ((await this.#statOn(line, to)) !== undefined)
          throw new PhdError('EXISTS', `${doing}: the name is taken`);
        if (!(await line.posixRename(source, goal))) throw error;
      }
      const after = await this.#statOn(line, to);
      if (after === undefined || (after.kind === 'file' && after.sizeBytes !== before.size)) {
        throw new PhdError('TARGET_LIED', `${doing}: reported as done, but it is not there`);
      }
    });
  }

  async remove(path: string): Promise<void> {
    const remote = this.#remote(path);
    await this.#forget(path);
    await this.#withLine(`cannot remove ${this.#shown(path)}`, false, undefined, (line) =>
      line.call((sftp, done) => sftp.unlink(remote, done)),
    );
  }

  async removeFolder(path: string): Promise<void> {
    const remote = this.#remote(path);
    const doing = `cannot remove folder ${this.#shown(path)}`;
    await this.#withLine(doing, false, undefined, async (line) => {
      try {
        await line.call((sftp, done) => sftp.rmdir(remote, done));
      } catch (error) {
        let isFull = false;
        if (statusOf(error) === 4) {
          await line.readFolder(remote, (batch) => {
            isFull ||= batch.some((one) => isEntryName(one.filename));
          });
        }
        throw isFull ? new PhdError('EXISTS', `${doing}: it is not empty`) : error;
      }
    });
  }

  async makeFolder(path: string): Promise<void> {
    const remote = this.#remote(path);
    await this.#withLine(`cannot make folder ${this.#shown(path)}`, true, undefined, (line) =>
      makeFolders(line, remote),
    );
  }

  async freeSpaceBytes(): Promise<number | null> {
    return this.#withLine(`cannot look at ${this.place}`, true, undefined, (line) =>
      line.freeSpaceBytes(this.#root),
    );
  }

  async close(): Promise<void> {
    this.#pool.close();
  }

  async #statOn(line: SshLine, path: string): Promise<StorageEntry | undefined> {
    try {
      return entryOf(lastPart(path), await line.lstat(this.#remote(path)), undefined);
    } catch (error) {
      if (statusOf(error) === 2) return undefined;
      throw error;
    }
  }

  async #forget(path: string): Promise<void> {
    const remote = this.#remote(path);
    for (const line of this.#pool.lines) await line.forgetFile(remote);
  }

  async #withLine<T>(
    doing: string,
    mayRepeat: boolean,
    signal: AbortSignal | undefined,
    work: (line: SshLine) => Promise<T>,
  ): Promise<T> {
    for (;;) {
      const { line, isReused } = await this.#pool.acquire(signal);
      try {
        return await work(line);
      } catch (error) {
        const failure = line.translated(error, doing);
        if (!(failure.retryable && isReused && mayRepeat && !line.usable)) throw failure;
      } finally {
        this.#pool.release(line);
      }
    }
  }

  #remote(path: string): string {
    return joinPath(this.#root, path);
  }

  #shown(path: string): string {
    return shownPath(path === '' ? this.place : `${this.place}/${path}`);
  }
}

function entryOf(
  name: string,
  attrs: Stats,
  listed: FileEntryWithStats | undefined,
): StorageEntry | undefined {
  const hasMode = typeof attrs.mode === 'number';
  // Servers that leave the mode out still draw it in the long name.
  const drawn = hasMode ? '' : (listed?.longname[0] ?? '');
  const isFile = hasMode ? attrs.isFile() : drawn === '-';
  const isFolder = hasMode ? attrs.isDirectory() : drawn === 'd';
  if (isFile && !(Number.isSafeInteger(attrs.size) && attrs.size >= 0)) return undefined;
  return {
    name,
    kind: isFile ? 'file' : isFolder ? 'folder' : 'other',
    sizeBytes: isFile ? attrs.size : 0,
    modifiedMs: typeof attrs.mtime === 'number' ? attrs.mtime * 1000 : null,
  };
}

async function makeFolders(line: SshLine, remote: string): Promise<void> {
  const stats = await line.lstat(remote).catch((error: unknown) => {
    if (statusOf(error) === 2) return undefined;
    throw error;
  });
  if (stats?.isDirectory()) return;
  if (stats !== undefined) throw new PhdError('EXISTS', `${shownPath(remote)} is there and is not a folder`);
  const parent = parentPath(remote);
  if (parent !== '') await makeFolders(line, parent);
  try {
    await line.call((sftp, done) => sftp.mkdir(remote, done));
  } catch (error) {
    // Another line may have made it meanwhile.
    const now = await line.lstat(remote).catch(() => undefined);
    if (!now?.isDirectory()) throw error;
  }
}

/** An error of the caller's own source. */
function sourceFailure(error: unknown, doing: string): PhdError {
  return new PhdError('IO', `${doing}: ${(error as Error)?.message ?? String(error)}`, { cause: error });
}
