/** A set of block numbers, one bit each: 1 MiB for a disk of 2 TiB. */
export class BlockSet {
  readonly #bits: Uint8Array;
  #size = 0;

  constructor(blockCount: number) {
    this.#bits = new Uint8Array(Math.ceil(blockCount / 8));
  }

  get size(): number {
    return this.#size;
  }

  has(block: number): boolean {
    return ((this.#bits[block >> 3]! >> (block & 7)) & 1) === 1;
  }

  add(block: number): void {
    if (this.has(block)) return;
    this.#bits[block >> 3]! |= 1 << (block & 7);
    this.#size += 1;
  }

  delete(block: number): void {
    if (!this.has(block)) return;
    this.#bits[block >> 3]! &= ~(1 << (block & 7));
    this.#size -= 1;
  }

  /** Block numbers in ascending order. */
  *[Symbol.iterator](): Generator<number> {
    for (let byte = 0; byte < this.#bits.length; byte += 1) {
      const bits = this.#bits[byte]!;
      if (bits === 0) continue;
      for (let bit = 0; bit < 8; bit += 1) if ((bits >> bit) & 1) yield byte * 8 + bit;
    }
  }
}
