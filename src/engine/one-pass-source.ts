/** Reads a file once from its beginning, hashing all of it, and hands out the ranges asked for on the way. */
import { createHash } from 'node:crypto';
import { PhdError } from '../errors.ts';
import type { ByteSource } from '../model/byte-source.ts';

export class OnePassSource implements ByteSource {
  readonly sizeBytes: number;
  readonly #source: ByteSource;
  readonly #stream: AsyncIterator<Buffer>;
  readonly #hash = createHash('sha256');
  #at = 0;
  #rest: Buffer = Buffer.alloc(0);

  constructor(source: ByteSource) {
    this.sizeBytes = source.sizeBytes;
    this.#source = source;
    this.#stream = source.read(0, source.sizeBytes)[Symbol.asyncIterator]();
  }

  /** Ranges in ascending order come from the one pass; one that lies behind is fetched by itself. */
  async *read(offsetBytes: number, lengthBytes: number): AsyncGenerator<Buffer> {
    if (offsetBytes < this.#at) {
      yield* this.#source.read(offsetBytes, lengthBytes);
      return;
    }
    while (this.#at < offsetBytes) await this.#take(offsetBytes - this.#at);
    for (let left = lengthBytes; left > 0; ) {
      const chunk = await this.#take(left);
      left -= chunk.length;
      yield chunk;
    }
  }

  async #take(most: number): Promise<Buffer> {
    while (this.#rest.length === 0) {
      const next = await this.#stream.next();
      if (next.done) throw new PhdError('TARGET_LIED', 'the target sent fewer bytes than it has');
      this.#hash.update(next.value);
      this.#rest = next.value;
    }
    const chunk = this.#rest.subarray(0, most);
    this.#rest = this.#rest.subarray(chunk.length);
    this.#at += chunk.length;
    return chunk;
  }

  /** Reads what is left and gives the SHA-256 (hex) of the whole file. */
  async finish(): Promise<string> {
    while (this.#at < this.sizeBytes) await this.#take(this.sizeBytes - this.#at);
    await this.close();
    return this.#hash.digest('hex');
  }

  async close(): Promise<void> {
    await this.#stream.return?.();
  }
}
