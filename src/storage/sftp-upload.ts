/** One file going up over SFTP: WRITEs at explicit offsets, several under way, sent again after a lost line. */
import { PhdError, throwIfAborted } from '../errors.ts';
import type { LinePool } from './line-pool.ts';
import { LARGE_REQUEST_BYTES, SMALL_REQUEST_BYTES, type SshLine } from './ssh-line.ts';

const WRITES_UNDER_WAY = 16;
const MAX_RESUMES = 5;

interface Piece {
  offset: number;
  data: Buffer;
  /** Resolves with the error, never rejects. */
  done: Promise<unknown>;
}

export interface SftpUploadOptions {
  pool: LinePool<SshLine>;
  path: string;
  /** For messages: "cannot write ...". */
  doing: string;
  signal: AbortSignal | undefined;
}

export class SftpUpload {
  readonly #options: SftpUploadOptions;
  #line: SshLine | undefined;
  #handle: Buffer | undefined;
  #offset = 0;
  #pending: Buffer = Buffer.allocUnsafe(LARGE_REQUEST_BYTES);
  #pendingBytes = 0;
  /** Not yet confirmed, oldest first. */
  #underWay: Piece[] = [];
  #resumes = 0;

  constructor(options: SftpUploadOptions) {
    this.#options = options;
  }

  /** Makes the file, which must not be there. */
  async create(): Promise<void> {
    const { line } = await this.#options.pool.acquire(this.#options.signal);
    this.#line = line;
    try {
      this.#handle = await line.call<Buffer>((sftp, done) =>
        sftp.open(this.#options.path, 'wx', { mode: 0o600 }, done),
      );
    } catch (error) {
      throw line.translated(error, this.#options.doing);
    }
  }

  /** Takes bytes; returns when there is room for more. */
  async add(chunk: Uint8Array): Promise<void> {
    let at = 0;
    while (at < chunk.length) {
      const bytes = Math.min(chunk.length - at, this.#pending.length - this.#pendingBytes);
      this.#pending.set(chunk.subarray(at, at + bytes), this.#pendingBytes);
      this.#pendingBytes += bytes;
      at += bytes;
      if (this.#pendingBytes === this.#pending.length) await this.#flush();
    }
  }

  /** Waits until all is confirmed, then makes it durable and closes it. */
  async finish(): Promise<void> {
    if (this.#pendingBytes > 0) await this.#flush();
    for (;;) {
      while (this.#underWay.length > 0) await this.#confirmOldest();
      const line = this.#line as SshLine;
      const handle = this.#handle as Buffer;
      try {
        await line.sync(handle);
        await line.call((sftp, done) => sftp.close(handle, done));
        break;
      } catch (error) {
        // What was confirmed but not synced lies in the server's memory still; the proof after this decides.
        await this.#resume(error);
      }
    }
    this.#release();
  }

  /** Lets go of handle and line; the file is the caller's to remove. */
  async giveUp(): Promise<void> {
    if (this.#line?.usable && this.#handle !== undefined) await this.#line.closeHandle(this.#handle);
    this.#release();
  }

  #release(): void {
    if (this.#line !== undefined) this.#options.pool.release(this.#line);
    this.#line = undefined;
    this.#handle = undefined;
  }

  async #flush(): Promise<void> {
    const data = this.#pending.subarray(0, this.#pendingBytes);
    this.#underWay.push(this.#send({ offset: this.#offset, data }));
    this.#offset += data.length;
    this.#pending = Buffer.allocUnsafe(LARGE_REQUEST_BYTES);
    this.#pendingBytes = 0;
    if (this.#underWay.length >= WRITES_UNDER_WAY) await this.#confirmOldest();
  }

  #send(piece: { offset: number; data: Buffer }): Piece {
    const line = this.#line as SshLine;
    const handle = this.#handle as Buffer;
    const writes: Promise<void>[] = [];
    for (let at = 0; at < piece.data.length; at += line.requestBytes) {
      const part = piece.data.subarray(at, at + line.requestBytes);
      writes.push(line.write(handle, part, piece.offset + at));
    }
    const done = Promise.all(writes).then(
      () => undefined,
      (error: unknown) => error,
    );
    return { ...piece, done };
  }

  async #confirmOldest(): Promise<void> {
    throwIfAborted(this.#options.signal);
    const error = await this.#underWay[0]?.done;
    if (error === undefined) this.#underWay.shift();
    else await this.#resume(error);
  }

  /** Opens the file again on a new line and repeats what is not confirmed. Throws if that makes no sense. */
  async #resume(error: unknown): Promise<void> {
    const { doing, pool, path, signal } = this.#options;
    let line = this.#line as SshLine;
    let failure = line.translated(error, doing);
    await Promise.all(this.#underWay.map((piece) => piece.done));
    if (line.usable && line.requestBytes > SMALL_REQUEST_BYTES && failure.code === 'IO') {
      // A server that caps requests answers FAILURE, as does a full disk: small ones will tell.
      line.requestBytes = SMALL_REQUEST_BYTES;
      this.#underWay = this.#underWay.map((piece) => this.#send(piece));
      return;
    }
    if (!failure.retryable) throw failure;
    line.close();
    pool.release(line);
    this.#line = undefined;
    for (;;) {
      this.#resumes += 1;
      if (this.#resumes > MAX_RESUMES) {
        const words = `${failure.message}; the upload could not go on and was thrown away, begin it anew`;
        throw new PhdError(failure.code, words, { cause: failure });
      }
      throwIfAborted(signal);
      line = (await pool.acquire(signal)).line;
      this.#line = line;
      try {
        this.#handle = await line.call<Buffer>((sftp, done) => sftp.open(path, 'r+', done));
        this.#underWay = this.#underWay.map((piece) => this.#send(piece));
        return;
      } catch (again) {
        failure = line.translated(again, doing);
        if (!failure.retryable) throw failure;
        line.close();
        pool.release(line);
        this.#line = undefined;
      }
    }
  }
}
