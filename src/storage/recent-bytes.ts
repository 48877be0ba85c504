/** The bytes of an upload that were handed out last, so that it can go on after a lost line. */

/** Bytes kept; more than a server and the sockets between usually hold unconfirmed. */
const WINDOW_BYTES = 16 * 1024 * 1024;
/** Bytes compared before the point where an upload goes on. */
const JOINT_BYTES = 1024 * 1024;

export class RecentBytes {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #kept: Buffer[] = [];
  #begin = 0;
  #end = 0;
  #isAtEnd = false;
  /** Set if the source itself failed: no new line would help then. */
  sourceError: unknown;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** True if everything from `offset` on is at hand (or still to come). */
  has(offset: number): boolean {
    return offset >= this.#begin && offset <= this.#end;
  }

  /** Up to 1 MiB directly before `offset`. */
  before(offset: number): Buffer {
    const from = Math.max(this.#begin, offset - JOINT_BYTES);
    return this.#slice(from, offset);
  }

  /** What was kept from `offset` on, then the rest of the source. */
  async *from(offset: number): AsyncGenerator<Uint8Array> {
    if (!this.has(offset)) throw new RangeError(`byte ${offset} is no longer kept`);
    if (offset < this.#end) yield this.#slice(offset, this.#end);
    while (!this.#isAtEnd) {
      const next = await this.#source.next().catch((error: unknown) => {
        this.sourceError = error;
        throw error;
      });
      if (next.done) {
        this.#isAtEnd = true;
        return;
      }
      // The source may use its memory again while the socket still holds ours.
      yield this.#keep(next.value);
    }
  }

  #keep(chunk: Uint8Array): Buffer {
    const kept = Buffer.from(chunk);
    this.#kept.push(kept);
    this.#end += chunk.length;
    while (this.#end - this.#begin - (this.#kept[0]?.length ?? 0) >= WINDOW_BYTES) {
      this.#begin += this.#kept.shift()?.length ?? 0;
    }
    return kept;
  }

  #slice(from: number, to: number): Buffer {
    const parts: Buffer[] = [];
    let at = this.#begin;
    for (const chunk of this.#kept) {
      const begin = Math.max(0, from - at);
      const end = Math.min(chunk.length, to - at);
      if (begin < end) parts.push(chunk.subarray(begin, end));
      at += chunk.length;
    }
    return Buffer.concat(parts);
  }
}
