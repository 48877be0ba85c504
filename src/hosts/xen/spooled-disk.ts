/**
 * A frozen disk of a pool as a reader of blocks. XenAPI gives a disk from its beginning to its end and promises no more, so it goes
 * through a sparse file here: read once over the line, in any order from there.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { BLOCK_BYTES } from '../../archive/geometry.ts';
import { type ErrorCode, fromErrno, PhdError } from '../../errors.ts';
import type { DiskReader } from '../../model/disk-reader.ts';
import { MAX_VHD_BYTES, VHD_BLOCK_BYTES } from './vhd.ts';
import { VhdStream } from './vhd-stream.ts';
import type { XenTransfers } from './xen-transfer.ts';

/** Before a disk whose line died is read again, from its beginning. */
export const RETRY_PAUSES_MS: readonly number[] = [2_000, 10_000, 30_000];
/** What a host says, or gives, that has no VHD for a disk. */
const NO_VHD: readonly ErrorCode[] = [
  'SOURCE_UNSUPPORTED',
  'FORMAT_UNSUPPORTED',
  'TARGET_REFUSED',
  'ARCHIVE_DAMAGED',
];
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
  readonly #log: (text: string) => void;
  readonly #pausesMs: readonly number[];
  readonly #stop = new AbortController();
  readonly #waiters = new Set<Waiter>();
  #spool: FileHandle | null = null;
  #running: Promise<void> | null = null;
  /** Bytes that are in the spool; the last ones count only when the host has said that all were sent. */
  #atBytes = 0;
  #isWhole = false;
  #failure: PhdError | null = null;
  #isRaw = false;
  /** Of the VHD: blocks that hold data, and those that are in the spool. */
  #blocks: readonly number[] | null = null;
  readonly #received = new Set<number>();

  constructor(
    facts: SpooledFacts,
    transfers: XenTransfers,
    log: (text: string) => void,
    pausesMs: readonly number[] = RETRY_PAUSES_MS,
  ) {
    this.#facts = facts;
    this.#transfers = transfers;
    this.#log = log;
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

  /** As a VHD only what holds data crosses the line; hosts that give none, and larger disks, are read raw. */
  async #downloadOnce(): Promise<void> {
    const { sizeBytes, what } = this.#facts;
    if (!this.#isRaw && sizeBytes <= MAX_VHD_BYTES) {
      try {
        await this.#downloadVhd();
        return;
      } catch (error) {
        const failure = fromErrno(error, what);
        if (!NO_VHD.includes(failure.code)) throw failure;
        this.#log(`${failure.message}: it is read raw`);
      }
      // Blocks behind the last one that counts may be there already.
      await this.#spool!.truncate(this.#atBytes);
      await this.#spool!.truncate(sizeBytes);
    }
    this.#isRaw = true;
    await this.#downloadRaw();
  }

  async #downloadVhd(): Promise<void> {
    const { sizeBytes, what } = this.#facts;
    const received = this.#received;
    let order: readonly number[] = [];
    let next = 0;
    /** A block goes into the spool, or is compared with it, once all of it has come: zeros where nothing did. */
    const current = Buffer.alloc(VHD_BLOCK_BYTES);
    const advance = (): void => {
      while (next < order.length && received.has(order[next]!)) next++;
      const upTo = next < order.length ? order[next]! * VHD_BLOCK_BYTES : sizeBytes;
      this.#atBytes = Math.max(this.#atBytes, Math.min(upTo, sizeBytes));
      this.#wake();
    };
    const stream = new VhdStream(what, {
      begin: ({ diskBytes, blocks }) => {
        if (diskBytes < sizeBytes) throw this.#lied(`a VHD of ${diskBytes} bytes for ${sizeBytes}`);
        this.#blocks ??= blocks;
        if (String(this.#blocks) !== String(blocks)) throw this.#changed(0);
        order = blocks;
        advance();
      },
      data: (offset, bytes) => {
        const inside = bytes.subarray(0, Math.max(0, sizeBytes - offset));
        if (bytes.subarray(inside.length).some((byte) => byte !== 0))
          throw this.#lied(`data behind its ${sizeBytes} bytes`);
        inside.copy(current, offset % VHD_BLOCK_BYTES);
      },
      blockEnd: async (block) => {
        const start = block * VHD_BLOCK_BYTES;
        const inside = current.subarray(0, sizeBytes - start);
        if (received.has(block)) await this.#compare(inside, start);
        else await this.#write(inside, start);
        current.fill(0);
        received.add(block);
        advance();
      },
    });
    await this.#export('vhd', (part) => stream.push(part));
    stream.finish();
  }

  async #downloadRaw(): Promise<void> {
    const { sizeBytes } = this.#facts;
    let at = 0;
    await this.#export('raw', async (part) => {
      if (at + part.length > sizeBytes) throw this.#lied(`more than its ${sizeBytes} bytes`);
      const known = Math.min(part.length, Math.max(0, this.#atBytes - at));
      if (known > 0) await this.#compare(part.subarray(0, known), at);
      await this.#write(part.subarray(known), at + known);
      at += part.length;
      this.#atBytes = Math.max(this.#atBytes, at);
      this.#wake();
    });
    if (at !== sizeBytes) throw this.#lied(`${at} bytes of ${sizeBytes}`);
  }

  async #export(format: string, onPart: (part: Buffer) => Promise<void>): Promise<void> {
    const { vdiUuid, what, path } = this.#facts;
    const options = { doing: `cannot read ${what}`, signal: this.#stop.signal };
    const keep = async (part: Buffer): Promise<void> => {
      try {
        await onPart(part);
      } catch (error) {
        throw fromErrno(error, `cannot keep ${what} in ${path}`);
      }
    };
    await this.#transfers.download('/export_raw_vdi', { vdi: vdiUuid, format }, keep, options);
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
    if (bytesRead !== before.length || !before.equals(part)) throw this.#changed(at);
  }

  #changed(at: number): PhdError {
    const { what } = this.#facts;
    return new PhdError(
      'SOURCE_CHANGED',
      `${what} was read twice, since the line died, and is not the same: near byte ${at}`,
    );
  }

  #lied(words: string): PhdError {
    return new PhdError('TARGET_LIED', `${this.#facts.what}: the host gave ${words}`);
  }
}
