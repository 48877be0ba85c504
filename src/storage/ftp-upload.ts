/** Uploads to an FTP server, over lost lines as well where the server allows it. */
import { FTPError } from 'basic-ftp';
import { PhdError, throwIfAborted } from '../errors.ts';
import type { FtpLine } from './ftp-line.ts';
import type { LinePool } from './line-pool.ts';
import { RecentBytes } from './recent-bytes.ts';

/** Lost lines that one upload survives. */
const MAX_UPLOAD_RESUMES = 5;

/** Where an upload goes, and how to look at what arrived of it. */
export interface UploadPlace {
  pool: LinePool<FtpLine>;
  /** For messages: `cannot write X`. */
  doing: string;
  signal: AbortSignal | undefined;
  remote(line: FtpLine): string;
  /** undefined: the server holds no such file; null: it does not tell sizes. */
  heldBytes(): Promise<number | undefined | null>;
  read(offsetBytes: number, lengthBytes: number): AsyncIterable<Buffer>;
}

/** Uploads, and goes on after a lost line where the server allows it and the bytes are still at hand. Throws PhdError. */
export async function uploadResuming(source: AsyncGenerator<Uint8Array>, place: UploadPlace): Promise<void> {
  const { pool, doing, signal, remote } = place;
  const recent = new RecentBytes(source);
  let offset = 0;
  let command: 'STOR' | 'APPE' = 'STOR';
  for (let attempt = 0; ; attempt += 1) {
    const { line } = await pool.acquire(signal);
    try {
      const restart = command === 'APPE' ? 0 : offset;
      await line.store(command, remote(line), restart, recent.from(offset), signal);
      return;
    } catch (error) {
      throwIfAborted(signal);
      if (recent.sourceError !== undefined) throw recent.sourceError;
      const failure = line.translated(error, doing);
      line.close();
      if (failure.retryable && attempt < MAX_UPLOAD_RESUMES) {
        offset = await offsetToResume(recent, failure, place);
      } else if (offset > 0 && command === 'STOR' && error instanceof FTPError) {
        // Some servers refuse REST before STOR but append.
        command = 'APPE';
      } else if (offset > 0) throw thrownAway(failure, 'the server refuses it');
      else throw failure;
    } finally {
      pool.release(line);
    }
  }
}

/** Where an upload can go on, after comparing what lies before that point. Throws if it cannot. */
async function offsetToResume(recent: RecentBytes, failure: PhdError, place: UploadPlace): Promise<number> {
  const give = (why: string): never => {
    throw thrownAway(failure, why);
  };
  const size = await place.heldBytes();
  if (size === undefined) return recent.has(0) ? 0 : give('the target kept nothing of it');
  if (size === null) return give('the server does not tell sizes');
  if (!recent.has(size)) return give(`the target kept ${size} bytes, more was already forgotten here`);
  const before = recent.before(size);
  if (before.length > 0) {
    const parts: Buffer[] = [];
    const range = [size - before.length, before.length] as const;
    for await (const chunk of place.read(...range)) parts.push(chunk);
    if (!Buffer.concat(parts).subarray(0, before.length).equals(before)) return give('other bytes came back');
  }
  return size;
}

function thrownAway(failure: PhdError, why: string): PhdError {
  const words = `${failure.message}; the upload could not go on (${why}) and was thrown away, begin it anew`;
  return new PhdError(failure.code, words, { cause: failure });
}
