/**
 * A frozen disk of a pool as a reader of blocks. XenAPI gives a disk from its beginning to its end and promises no more, so it goes
 * through a sparse file here: read once over the line, in any order from there.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { BLOCK_BYTES } from '../../archive/geometry.ts';
import { fromErrno, PhdError } from '../../errors.ts';
import type { DiskReader } from '../../model/disk-reader.ts';
import type { XenTransfers } from './xen-transfer.ts';

/** Before a disk whose line died is read again, from its beginning. */
export const RETRY_PAUSES_MS: readonly number[] = [2_000, 10_000, 30_000];
const ZEROS = Buffer.alloc(1024 * 1024);

export interface SpooledFacts {
  /** `xvda of web`, for messages. */
  what: string;
  vdiUuid: string;
  sizeBytes: number;
  /** Of the spool; it is not there yet. */
  path: string;
}

interface Waiter {
  endBytes: number;
  resolve(): void;
  reject(error: PhdError): void;
}

export class SpooledDisk implements DiskReader {
  readonly digests = null;
  readonly #facts: SpooledFacts;
  readonly #transfers: XenTransfers;
  readonly #pausesMs: readonly number[];
  readonly #stop = new AbortController();
  readonly #waiters = new Set<Waiter>();
  #spool: FileHandle | null = null;
  #running: Promise<void> | null = null;
  /** Bytes that are in the spool; the last ones count only when the host has said that all were sent. */
  #atBytes = 0;
  #isWhole = false;
  #failure: PhdError | null = null;

  constructor(facts: SpooledFacts, transfers: XenTransfers, pausesMs: readonly number[] = RETRY_PAUSES_MS) {
    this.#facts = facts;
    this.#transfers = transfers;
    this.#pausesMs = pausesMs;
  }

  async read(firstBlock: number, target: Buffer, signal?: AbortSignal): Promise<void> {
    const start = firstBlock * BLOCK_BYTES;
    this.#running ??= this.#fill();
    await this.#reached(start + target.length, signal);
    const { what, path } = this.#facts;
    try {
      for (let at = 0; at < target.length; ) {
        const { bytesRead } = await this.#spool!.read(target, at, target.length - at, start + at);
        if (bytesRead === 0) throw new PhdError('IO', `${path}, the spool of ${what}, is too short`);
        at += bytesRead;
      }
    } catch (error) {
      throw fromErrno(error, `cannot read ${path}, the spool of ${what}`);
    }
  }

  /** Ends the reading; the spool is left to whoever named its place. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#spool?.close();
    this.#spool = null;
  }

  #reached(endBytes: number, signal?: AbortSignal): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    if (this.#isThere(endBytes)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const onAbort = (): void => waiter.reject(new PhdError('CANCELLED', 'cancelled'));
      const settle = (): void => {
        this.#waiters.delete(waiter);
        signal?.removeEventListener('abort', onAbort);
      };
      const waiter: Waiter = {
        endBytes,
        resolve: () => {
          settle();
          resolve();
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      };
      this.#waiters.add(waiter);
      signal?.addEventListener('abort', onAbort, { once: true });
      if (signal?.aborted) onAbort();
    });
  }

  #isThere(endBytes: number): boolean {
    return this.#isWhole || (endBytes <= this.#atBytes && endBytes < this.#facts.sizeBytes);
  }

  #wake(): void {
    for (const waiter of [...this.#waiters]) if (this.#isThere(waiter.endBytes)) waiter.resolve();
  }

  /** Never throws: who waits is told. */
  async #fill(): Promise<void> {
    const { sizeBytes, path, what } = this.#facts;
    try {
      this.#spool = await open(path, 'wx+', 0o600);
      await this.#spool.truncate(sizeBytes);
      await this.#download();
      this.#isWhole = true;
      this.#wake();
    } catch (error) {
      this.#failure = fromErrno(error, `cannot keep ${what} in ${path}`);
      for (const waiter of [...this.#waiters]) waiter.reject(this.#failure);
    }
  }

  /** A dead line begins anew, with what came before compared: the snapshot does not change, so neither may they. */
  async #download(): Promise<void> {
    for (const pauseMs of [...this.#pausesMs, null]) {
      try {
        await this.#downloadOnce();
        return;
      } catch (error) {
        const failure = fromErrno(error, this.#facts.what);
        if (pauseMs === null || failure.code !== 'TARGET_UNREACHABLE') throw failure;
        await pause(pauseMs, undefined, { signal: this.#stop.signal }).catch(() => {
          throw new PhdError('CANCELLED', 'cancelled');
        });
      }
    }
  }

  async #downloadOnce(): Promise<void> {
    const { vdiUuid, sizeBytes, what } = this.#facts;
    let at = 0;
    const options = { doing: `cannot read ${what}`, signal: this.#stop.signal };
    await this.#transfers.download(
      '/export_raw_vdi',
      { vdi: vdiUuid, format: 'raw' },
      async (part) => {
        if (at + part.length > sizeBytes) throw this.#lied(`more than its ${sizeBytes} bytes`);
        await this.#keep(part, at);
        at += part.length;
      },
      options,
    );
    if (at !== sizeBytes) throw this.#lied(`${at} bytes of ${sizeBytes}`);
  }

  async #keep(part: Buffer, at: number): Promise<void> {
    const known = Math.min(part.length, Math.max(0, this.#atBytes - at));
    try {
      if (known > 0) await this.#compare(part.subarray(0, known), at);
      await this.#write(part.subarray(known), at + known);
    } catch (error) {
      throw fromErrno(error, `cannot keep ${this.#facts.what} in ${this.#facts.path}`);
    }
    this.#atBytes = Math.max(this.#atBytes, at + part.length);
    this.#wake();
  }

  /** Zeros are left as the hole that is there. */
  async #write(part: Buffer, at: number): Promise<void> {
    for (let from = 0; from < part.length; ) {
      const piece = part.subarray(from, from + ZEROS.length);
      if (!piece.equals(ZEROS.subarray(0, piece.length)))
        for (let done = 0; done < piece.length; ) {
          const { bytesWritten } = await this.#spool!.write(
            piece,
            done,
            piece.length - done,
            at + from + done,
          );
          done += bytesWritten;
        }
      from += piece.length;
    }
  }

  async #compare(part: Buffer, at: number): Promise<void> {
    const before = Buffer.alloc(part.length);
    const { bytesRead } = await this.#spool!.read(before, 0, before.length, at);
    if (bytesRead === before.length && before.equals(part)) return;
    throw new PhdError(
      'SOURCE_CHANGED',
      `${this.#facts.what} was read twice, since the line died, and is not the same: near byte ${at}`,
    );
  }

  #lied(words: string): PhdError {
    return new PhdError('TARGET_LIED', `${this.#facts.what}: the host gave ${words}`);
  }
}
