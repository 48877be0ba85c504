/** One SSH connection (ssh2) with its SFTP session, as promises with time limits. */
import type { Readable } from 'node:stream';
import type { Client, FileEntryWithStats, SFTPWrapper, Stats } from 'ssh2';
import { PhdError } from '../errors.ts';
import type { Line } from './line-pool.ts';
import { connect, type SshLogin, translatedConnect, whatOf } from './ssh-connect.ts';

/** Largest READ and WRITE OpenSSH takes: 256 KiB less the frame. */
export const LARGE_REQUEST_BYTES = 255 * 1024;
/** What every server must take (SFTP draft 02, section 3). */
export const SMALL_REQUEST_BYTES = 32 * 1024;
const MAX_OPEN_HANDLES = 8;

interface OpenFile {
  handle: Buffer;
  sizeBytes: number;
}

const STATUS = { EOF: 1, NO_SUCH_FILE: 2, PERMISSION_DENIED: 3, FAILURE: 4, OP_UNSUPPORTED: 8 };

export class SshLine implements Line {
  readonly #client: Client;
  readonly #sftp: SFTPWrapper;
  readonly #login: SshLogin;
  readonly #what: string;
  #isAlive = true;
  #death: Error | undefined;
  /** Fails of requests under way, for the moment the line dies. */
  readonly #underWay = new Set<() => void>();
  /** Files open for reading, oldest first. */
  readonly #files = new Map<string, Promise<OpenFile>>();
  /** Grows smaller for servers that cap requests. */
  requestBytes = LARGE_REQUEST_BYTES;

  private constructor(login: SshLogin, client: Client, sftp: SFTPWrapper) {
    this.#login = login;
    this.#client = client;
    this.#sftp = sftp;
    this.#what = whatOf(login.settings);
    const onDeath = (error?: Error): void => {
      this.#isAlive = false;
      this.#death ??= error;
      for (const fail of [...this.#underWay]) fail();
    };
    client
      .on('error', onDeath)
      .on('close', () => onDeath())
      .on('end', () => onDeath());
    sftp.on('error', onDeath);
    sftp.on('close', () => onDeath());
  }

  static async open(login: SshLogin): Promise<SshLine> {
    const client = await connect(login);
    try {
      const sftp = await new Promise<SFTPWrapper>((resolve, reject) => {
        const timer = setTimeout(
          () => reject(new Error('SFTP did not start in time')),
          login.settings.timeoutMs,
        );
        client.sftp((error, session) => {
          clearTimeout(timer);
          if (error) reject(error);
          else resolve(session);
        });
      });
      return new SshLine(login, client, sftp);
    } catch (error) {
      client.on('error', () => undefined);
      client.destroy();
      throw translatedConnect(error, login, 'the account has no SFTP');
    }
  }

  get usable(): boolean {
    return this.#isAlive;
  }

  close(): void {
    this.#isAlive = false;
    this.#client.end();
    this.#client.destroy();
    for (const fail of [...this.#underWay]) fail();
  }

  /** Runs one SFTP request; an answer later than the time limit counts as a dead line. */
  call<T>(
    request: (sftp: SFTPWrapper, done: (error: Error | undefined | null, value?: T) => void) => void,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (!this.#isAlive) {
        reject(this.#dead());
        return;
      }
      const onDeath = (): void => finish(() => reject(this.#dead()));
      const timer = setTimeout(() => {
        this.#death ??= new Error(`no answer within ${this.#login.settings.timeoutMs} ms`);
        this.close();
      }, this.#login.settings.timeoutMs);
      const finish = (settle: () => void): void => {
        clearTimeout(timer);
        this.#underWay.delete(onDeath);
        settle();
      };
      this.#underWay.add(onDeath);
      try {
        request(this.#sftp, (error, value) => finish(() => (error ? reject(error) : resolve(value as T))));
      } catch (error) {
        finish(() => reject(error));
      }
    });
  }

  #dead(why = this.#death?.message ?? 'the connection was lost'): PhdError {
    return new PhdError('TARGET_UNREACHABLE', `${this.#what}: ${why}`);
  }

  lstat(path: string): Promise<Stats> {
    return this.call((sftp, done) => sftp.lstat(path, done));
  }

  async readFolder(path: string, onBatch: (entries: FileEntryWithStats[]) => void): Promise<void> {
    const handle = await this.call<Buffer>((sftp, done) => sftp.opendir(path, done));
    try {
      for (;;) {
        onBatch(await this.call<FileEntryWithStats[]>((sftp, done) => sftp.readdir(handle, done)));
      }
    } catch (error) {
      if (statusOf(error) !== STATUS.EOF) throw error;
    } finally {
      await this.closeHandle(handle);
    }
  }

  /** Closing matters only for the server's memory; a failure shows in what is proved afterwards. */
  async closeHandle(handle: Buffer): Promise<void> {
    await this.call((sftp, done) => sftp.close(handle, done)).catch((error: Error) => {
      this.#login.log(`${this.#what}: a handle could not be closed: ${error.message}`);
    });
  }

  /** A regular file open for reading, kept open for the next range. Links and other kinds: TARGET_REFUSED. */
  async file(path: string, shown: string): Promise<OpenFile> {
    let file = this.#files.get(path);
    if (file === undefined) {
      file = this.#openFile(path, shown);
      this.#files.set(path, file);
      file.catch(() => this.#files.delete(path));
      for (const [oldest] of this.#files) {
        if (this.#files.size <= MAX_OPEN_HANDLES) break;
        await this.forgetFile(oldest);
      }
    } else {
      this.#files.delete(path);
      this.#files.set(path, file);
    }
    return file;
  }

  async #openFile(path: string, shown: string): Promise<OpenFile> {
    const stats = await this.lstat(path);
    if (!stats.isFile()) throw new PhdError('TARGET_REFUSED', `${shown} is not a regular file`);
    const handle = await this.call<Buffer>((sftp, done) => sftp.open(path, 'r', done));
    const opened = await this.call<Stats>((sftp, done) => sftp.fstat(handle, done));
    return { handle, sizeBytes: opened.size };
  }

  /** Closes a file kept open, if it is. */
  async forgetFile(path: string): Promise<void> {
    const file = this.#files.get(path);
    this.#files.delete(path);
    if (file === undefined || !this.#isAlive) return;
    await file.then(
      ({ handle }) => this.closeHandle(handle),
      () => undefined,
    );
  }

  /** One READ: up to `length` bytes, none at the end of the file. */
  read(handle: Buffer, offset: number, length: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(length);
    return this.call<Buffer>((sftp, done) =>
      sftp.read(handle, buffer, 0, length, offset, (error, bytes) => {
        if (error && statusOf(error) !== STATUS.EOF) done(error);
        else done(undefined, buffer.subarray(0, error ? 0 : bytes));
      }),
    );
  }

  write(handle: Buffer, data: Buffer, offset: number): Promise<void> {
    return this.call((sftp, done) =>
      sftp.write(handle, data, 0, data.length, offset, (error) => done(error)),
    );
  }

  /** fsync@openssh.com; false if the server does not offer it. */
  async sync(handle: Buffer): Promise<boolean> {
    return this.#extension((sftp, done) => sftp.ext_openssh_fsync(handle, done));
  }

  /** posix-rename@openssh.com; false if the server does not offer it. */
  async posixRename(from: string, to: string): Promise<boolean> {
    return this.#extension((sftp, done) => sftp.ext_openssh_rename(from, to, done));
  }

  /** statvfs@openssh.com: free bytes, or null if the server does not offer it. */
  async freeSpaceBytes(path: string): Promise<number | null> {
    let bytes: number | null = null;
    await this.#extension((sftp, done) =>
      sftp.ext_openssh_statvfs(path, (error: Error | undefined, info: unknown) => {
        const { f_bavail, f_frsize } = (info ?? {}) as { f_bavail?: number; f_frsize?: number };
        const free = Number(f_bavail) * Number(f_frsize);
        bytes = Number.isSafeInteger(free) ? free : null;
        done(error);
      }),
    );
    return bytes;
  }

  async #extension(request: Parameters<SshLine['call']>[0]): Promise<boolean> {
    try {
      await this.call(request);
      return true;
    } catch (error) {
      const isMissing = /does not support|not supported/i.test((error as Error).message);
      if (isMissing || statusOf(error) === STATUS.OP_UNSUPPORTED) return false;
      throw error;
    }
  }

  /** Runs a shell command; its output as a stream, and its status once it ends (null: killed). */
  exec(command: string): Promise<{ output: Readable; status: Promise<number | null>; stop(): void }> {
    return this.call((_, done) => {
      this.#client.exec(command, (error, channel) => {
        if (error) {
          done(error);
          return;
        }
        channel.stderr.resume();
        const status = new Promise<number | null>((resolve) => {
          channel.on('exit', (code: number | null) => resolve(code));
          channel.on('close', () => resolve(null));
        });
        done(undefined, { output: channel, status, stop: () => channel.close() });
      });
    });
  }

  /** Foreign errors as PhdError. `shown` names path and deed. */
  translated(error: unknown, doing: string): PhdError {
    if (error instanceof PhdError) return error;
    const message = (error as Error).message;
    const words = `${doing}: ${message}`;
    switch (statusOf(error)) {
      case STATUS.NO_SUCH_FILE:
        return new PhdError('NOT_FOUND', `${doing}: nothing there by that name`, { cause: error });
      case STATUS.PERMISSION_DENIED:
      case STATUS.OP_UNSUPPORTED:
        return new PhdError('TARGET_REFUSED', words, { cause: error });
      case STATUS.FAILURE:
        return new PhdError('IO', words, { cause: error });
      default:
        return new PhdError('TARGET_UNREACHABLE', words, { cause: error });
    }
  }
}

/** SFTP status code of an ssh2 error, undefined if it has none. */
export function statusOf(error: unknown): number | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'number' ? code : undefined;
}
