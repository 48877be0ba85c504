/** What is remembered of an upload to prove it afterwards: size, SHA-256 and the last bytes. */
import { createHash } from 'node:crypto';
import { PhdError } from '../errors.ts';
import { shownPath } from './remote-path.ts';
import type { ReadRange, WriteResult } from './storage.ts';

/** Bytes read back after an upload with `readBack: tail`. */
export const TAIL_BYTES = 1024 * 1024;

export class UploadProof {
  readonly #hash = createHash('sha256');
  /** Ring of the last bytes: one allocation, however long the upload. */
  readonly #tail = Buffer.alloc(TAIL_BYTES);
  sizeBytes = 0;

  /** Takes the bytes in order; they are copied, so the caller may use its memory again. */
  add(chunk: Uint8Array): void {
    this.#hash.update(chunk);
    const kept = chunk.subarray(Math.max(0, chunk.length - TAIL_BYTES));
    const at = (this.sizeBytes + chunk.length - kept.length) % TAIL_BYTES;
    const first = kept.subarray(0, TAIL_BYTES - at);
    this.#tail.set(first, at);
    this.#tail.set(kept.subarray(first.length), 0);
    this.sizeBytes += chunk.length;
  }

  #lastBytes(): Buffer {
    if (this.sizeBytes <= TAIL_BYTES) return this.#tail.subarray(0, this.sizeBytes);
    const at = this.sizeBytes % TAIL_BYTES;
    return Buffer.concat([this.#tail.subarray(at), this.#tail.subarray(0, at)]);
  }

  /**
   * Compares what the target holds with what was handed over. `heldBytes` is the size it has now, `read`
   * must not come from memory of the upload. Throws TARGET_LIED.
   */
  async compare(
    path: string,
    mode: 'tail' | 'all',
    heldBytes: number,
    read: (range: ReadRange) => AsyncIterable<Buffer>,
  ): Promise<WriteResult> {
    const shown = shownPath(path);
    if (heldBytes !== this.sizeBytes) {
      const figures = `${heldBytes} of ${this.sizeBytes} bytes`;
      throw new PhdError('TARGET_LIED', `${shown}: the target reported success but holds ${figures}`);
    }
    const sha256 = this.#hash.digest('hex');
    const tail = this.#lastBytes();
    let same = true;
    if (mode === 'all') {
      const hash = createHash('sha256');
      for await (const chunk of read({ offsetBytes: 0, lengthBytes: this.sizeBytes })) hash.update(chunk);
      same = hash.digest('hex') === sha256;
    } else if (tail.length > 0) {
      const parts: Buffer[] = [];
      const range = { offsetBytes: this.sizeBytes - tail.length, lengthBytes: tail.length };
      for await (const chunk of read(range)) parts.push(chunk);
      same = Buffer.concat(parts).equals(tail);
    }
    if (!same) {
      throw new PhdError('TARGET_LIED', `${shown}: the target reported success but other bytes came back`);
    }
    return { sizeBytes: this.sizeBytes, sha256 };
  }
}

/** Adds to a failure what is left on the target because it could not be removed. */
export function withCleanUpOwed(error: PhdError, path: string, why: unknown): PhdError {
  const reason = (why as Error | undefined)?.message ?? String(why);
  return new PhdError(
    error.code,
    `${error.message}; clean-up owed: ${shownPath(path)} could not be removed (${reason})`,
    { cause: error, retryable: error.retryable },
  );
}
