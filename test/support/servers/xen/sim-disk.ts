/** Bytes of a simulated VDI: only what is not zeros takes memory. */
const BLOCK_BYTES = 2 * 1024 * 1024;
const SECTOR_BYTES = 512;

export class SimDisk {
  readonly sizeBytes: number;
  readonly #blocks = new Map<number, Buffer>();

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  static of(content: Buffer): SimDisk {
    const disk = new SimDisk(content.length);
    disk.write(0, content);
    return disk;
  }

  copy(): SimDisk {
    const disk = new SimDisk(this.sizeBytes);
    for (const [block, bytes] of this.#blocks) disk.#blocks.set(block, Buffer.from(bytes));
    return disk;
  }

  write(offset: number, bytes: Buffer): void {
    for (let from = 0; from < bytes.length; ) {
      const at = offset + from;
      const block = Math.floor(at / BLOCK_BYTES);
      const inside = at % BLOCK_BYTES;
      const piece = bytes.subarray(from, from + BLOCK_BYTES - inside);
      if (at + piece.length > this.sizeBytes)
        throw new Error(`byte ${at + piece.length} lies behind the disk`);
      if (this.#blocks.has(block) || piece.some((byte) => byte !== 0)) {
        const held = this.#blocks.get(block) ?? Buffer.alloc(BLOCK_BYTES);
        piece.copy(held, inside);
        this.#blocks.set(block, held);
      }
      from += piece.length;
    }
  }

  read(offset: number, bytes: number): Buffer {
    const result = Buffer.alloc(Math.max(0, Math.min(bytes, this.sizeBytes - offset)));
    for (let at = 0; at < result.length; ) {
      const block = Math.floor((offset + at) / BLOCK_BYTES);
      const inside = (offset + at) % BLOCK_BYTES;
      const count = Math.min(BLOCK_BYTES - inside, result.length - at);
      this.#blocks.get(block)?.copy(result, at, inside, inside + count);
      at += count;
    }
    return result;
  }

  *raw(): Generator<Buffer> {
    for (let at = 0; at < this.sizeBytes; at += 65_536) yield this.read(at, 65_536);
  }

  /** As vhd-tool streams it: footer, header, table, each block with a full bitmap on a page boundary, footer. */
  *vhd(): Generator<Buffer> {
    const used = [...this.#blocks.keys()].sort((a, b) => a - b);
    const entries = Math.ceil(this.sizeBytes / BLOCK_BYTES);
    const table = Buffer.alloc(Math.ceil((entries * 4) / SECTOR_BYTES) * SECTOR_BYTES, 0xff);
    const footer = sealed(512, 64, (bytes) => {
      bytes.write('conectix\0\0\0\x02\0\x01\0\0', 0, 'latin1');
      bytes.writeBigUInt64BE(512n, 16);
      bytes.write('tap\0', 28, 'latin1');
      bytes.writeBigUInt64BE(BigInt(this.sizeBytes), 40);
      bytes.writeBigUInt64BE(BigInt(this.sizeBytes), 48);
      bytes.writeUInt32BE(3, 60);
      bytes.fill(0x5a, 68, 84);
    });
    const header = sealed(1024, 36, (bytes) => {
      bytes.write('cxsparse', 0, 'latin1');
      bytes.fill(0xff, 8, 16);
      bytes.writeBigUInt64BE(1536n, 16);
      bytes.writeUInt32BE(0x1_0000, 24);
      bytes.writeUInt32BE(entries, 28);
      bytes.writeUInt32BE(BLOCK_BYTES, 32);
    });
    let at = 1536 + table.length;
    const parts: Buffer[] = [];
    for (const block of used) {
      const pad = (4096 - ((at + SECTOR_BYTES) % 4096)) % 4096;
      at += pad;
      table.writeUInt32BE(at / SECTOR_BYTES, 4 * block);
      parts.push(Buffer.alloc(pad), Buffer.alloc(SECTOR_BYTES, 0xff), this.#blocks.get(block)!);
      at += SECTOR_BYTES + BLOCK_BYTES;
    }
    yield Buffer.concat([footer, header, table]);
    for (const part of parts)
      for (let from = 0; from < part.length; from += 65_536) yield part.subarray(from, from + 65_536);
    yield footer;
  }

  /** Takes a whole dynamic VHD in. Throws what is wrong with it. */
  takeVhd(file: Buffer): void {
    if (file.toString('latin1', 0, 8) !== 'conectix' || !file.subarray(0, 512).equals(file.subarray(-512)))
      throw new Error('no VHD');
    const tableAt = Number(file.readBigUInt64BE(512 + 16));
    const entries = file.readUInt32BE(512 + 28);
    for (let block = 0; block < entries; block++) {
      const sector = file.readUInt32BE(tableAt + 4 * block);
      if (sector === 0xffff_ffff) continue;
      const bitmap = file.subarray(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
      for (let index = 0; index < BLOCK_BYTES / SECTOR_BYTES; index++) {
        const offset = block * BLOCK_BYTES + index * SECTOR_BYTES;
        if (((bitmap[index >> 3]! >> (7 - (index & 7))) & 1) === 0 || offset >= this.sizeBytes) continue;
        const from = (sector + 1 + index) * SECTOR_BYTES;
        this.write(offset, file.subarray(from, from + Math.min(SECTOR_BYTES, this.sizeBytes - offset)));
      }
    }
  }
}

function sealed(size: number, checksumAt: number, fill: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(size);
  fill(bytes);
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.writeUInt32BE(~sum >>> 0, checksumAt);
  return bytes;
}
