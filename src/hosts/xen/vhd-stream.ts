/** A dynamic VHD read as it comes, its parts in any order. */
import { PhdError } from '../../errors.ts';
import {
  BITMAP_BYTES,
  checksumOf,
  DYNAMIC,
  FOOTER_BYTES,
  FOOTER_CHECKSUM_AT,
  HEADER_BYTES,
  HEADER_CHECKSUM_AT,
  MAX_VHD_BYTES,
  SECTOR_BYTES,
  VHD_BLOCK_BYTES,
} from './vhd.ts';

const UNUSED = 0xffff_ffff;
/** What may lie between the parts: parent locators, alignment of each block. */
const MAX_ROOM_BYTES = 16 * 1024 * 1024;
const MAX_BLOCK_ROOM_BYTES = 4096;

export interface VhdFacts {
  /** Of the disk in it. */
  diskBytes: number;
  /** Numbers of the 2 MiB blocks that the file holds, ascending. */
  blocks: readonly number[];
}

export interface VhdSink {
  /** Once, before any block. */
  begin(facts: VhdFacts): Promise<void> | void;
  /** Data of sectors from `offsetBytes` on, each sector once; what is not told is zeros. */
  data(offsetBytes: number, bytes: Buffer): Promise<void> | void;
  /** All of a block has been told. */
  blockEnd(block: number): Promise<void> | void;
}

/** Reads a dynamic VHD without a parent as it comes; holds its table and one block. Throws ARCHIVE_DAMAGED, FORMAT_UNSUPPORTED. */
export class VhdStream {
  readonly #what: string;
  readonly #sink: VhdSink;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  /** Of the file, where `#pending` begins. */
  #at = 0;
  #footer: Buffer | null = null;
  #diskBytes = 0;
  #tableAt = 0;
  #entries = 0;
  /** What may still be skipped. */
  #roomBytes = MAX_ROOM_BYTES;
  /** File offset -> block; null before the table was read. */
  #blockAt: Map<number, number> | null = null;
  #isEnded = false;

  constructor(what: string, sink: VhdSink) {
    this.#what = what;
    this.#sink = sink;
  }

  async push(part: Buffer): Promise<void> {
    this.#pending.push(part);
    this.#pendingBytes += part.length;
    while (await this.#step());
  }

  /** When all was pushed. Throws ARCHIVE_DAMAGED if it is cut. */
  finish(): void {
    if (this.#isEnded && this.#pendingBytes === 0 && this.#blockAt?.size === 0) return;
    throw this.#damaged(`it ends at byte ${this.#at + this.#pendingBytes}, too early`);
  }

  /** One piece of the file, if all of it is there. */
  async #step(): Promise<boolean> {
    if (this.#isEnded) {
      if (this.#pendingBytes > 0) throw this.#damaged('more follows its end');
      return false;
    }
    if (this.#footer === null) return this.#take(FOOTER_BYTES, (bytes) => this.#readFooter(bytes));
    if (this.#entries === 0) return this.#take(HEADER_BYTES, (bytes) => this.#readHeader(bytes));
    if (this.#blockAt === null) {
      if (this.#at < this.#tableAt) return this.#skip(this.#tableAt - this.#at);
      const tableBytes = Math.ceil((this.#entries * 4) / SECTOR_BYTES) * SECTOR_BYTES;
      return await this.#take(tableBytes, (bytes) => this.#readTable(bytes));
    }
    const block = this.#blockAt.get(this.#at);
    if (block !== undefined)
      return await this.#take(BITMAP_BYTES + VHD_BLOCK_BYTES, (bytes) => this.#readBlock(block, bytes));
    if (this.#blockAt.size === 0) return await this.#take(FOOTER_BYTES, (bytes) => this.#readEnd(bytes));
    // Room between blocks: alignment, parent locators.
    return this.#skip(SECTOR_BYTES);
  }

  async #take(bytes: number, use: (bytes: Buffer) => Promise<void> | void): Promise<boolean> {
    if (this.#pendingBytes < bytes) return false;
    const all = this.#pending.length === 1 ? this.#pending[0]! : Buffer.concat(this.#pending);
    const rest = all.subarray(bytes);
    this.#pending = rest.length === 0 ? [] : [rest];
    this.#pendingBytes = rest.length;
    await use(all.subarray(0, bytes));
    this.#at += bytes;
    return true;
  }

  #skip(bytes: number): Promise<boolean> {
    return this.#take(Math.min(bytes, SECTOR_BYTES), (skipped) => this.#useRoom(skipped.length));
  }

  #useRoom(bytes: number): void {
    this.#roomBytes -= bytes;
    if (this.#roomBytes < 0) throw this.#damaged('it holds what no VHD holds');
  }

  #readFooter(bytes: Buffer): void {
    this.#checkFooter(bytes);
    this.#footer = Buffer.from(bytes);
    this.#diskBytes = Number(bytes.readBigUInt64BE(48));
    if (this.#diskBytes === 0 || this.#diskBytes > MAX_VHD_BYTES)
      throw this.#damaged(`it says that its disk has ${this.#diskBytes} bytes`);
    if (bytes.readBigUInt64BE(16) !== BigInt(FOOTER_BYTES))
      throw this.#damaged('its header is not where it should be');
  }

  #checkFooter(bytes: Buffer): void {
    if (bytes.toString('latin1', 0, 8) !== 'conectix') throw this.#damaged('it does not begin as a VHD does');
    if (checksumOf(bytes, FOOTER_CHECKSUM_AT) !== bytes.readUInt32BE(FOOTER_CHECKSUM_AT))
      throw this.#damaged('the checksum of its footer is wrong');
    const type = bytes.readUInt32BE(60);
    if (type !== DYNAMIC)
      throw new PhdError(
        'FORMAT_UNSUPPORTED',
        `${this.#what} is a VHD of type ${type}: only dynamic ones without a parent (type 3) are read`,
      );
  }

  #readHeader(bytes: Buffer): void {
    if (bytes.toString('latin1', 0, 8) !== 'cxsparse') throw this.#damaged('its header is missing');
    if (checksumOf(bytes, HEADER_CHECKSUM_AT) !== bytes.readUInt32BE(HEADER_CHECKSUM_AT))
      throw this.#damaged('the checksum of its header is wrong');
    if (bytes.readUInt32BE(32) !== VHD_BLOCK_BYTES)
      throw new PhdError('FORMAT_UNSUPPORTED', `${this.#what} has blocks of another size than 2 MiB`);
    const needed = Math.ceil(this.#diskBytes / VHD_BLOCK_BYTES);
    const entries = bytes.readUInt32BE(28);
    if (entries < needed || entries > MAX_VHD_BYTES / VHD_BLOCK_BYTES + 1)
      throw this.#damaged(`its table has ${entries} entries, its disk needs ${needed}`);
    const tableAt = bytes.readBigUInt64BE(16);
    if (tableAt < BigInt(FOOTER_BYTES + HEADER_BYTES) || tableAt > 1n << 30n || tableAt % 512n !== 0n)
      throw this.#damaged('its table is at an impossible place');
    this.#tableAt = Number(tableAt);
    this.#entries = entries;
  }

  async #readTable(bytes: Buffer): Promise<void> {
    const blockAt = new Map<number, number>();
    const blocks: number[] = [];
    const lastBlock = Math.ceil(this.#diskBytes / VHD_BLOCK_BYTES) - 1;
    for (let block = 0; block < this.#entries; block++) {
      const sector = bytes.readUInt32BE(4 * block);
      if (sector === UNUSED) continue;
      const at = sector * SECTOR_BYTES;
      if (block > lastBlock) throw this.#damaged(`its block ${block} lies behind the end of its disk`);
      if (at < this.#at + bytes.length || blockAt.has(at))
        throw this.#damaged(`its block ${block} lies where something else is`);
      blockAt.set(at, block);
      blocks.push(block);
    }
    const sorted = [...blockAt.keys()].sort((a, b) => a - b);
    for (const [index, at] of sorted.entries())
      if (index > 0 && at < sorted[index - 1]! + BITMAP_BYTES + VHD_BLOCK_BYTES)
        throw this.#damaged('its blocks overlap');
    this.#blockAt = blockAt;
    this.#roomBytes += blocks.length * MAX_BLOCK_ROOM_BYTES;
    await this.#sink.begin({ diskBytes: this.#diskBytes, blocks });
  }

  async #readBlock(block: number, bytes: Buffer): Promise<void> {
    const offset = block * VHD_BLOCK_BYTES;
    const sectors = VHD_BLOCK_BYTES / SECTOR_BYTES;
    const isSet = (sector: number): boolean => ((bytes[sector >> 3]! >> (7 - (sector & 7))) & 1) === 1;
    for (let from = 0; from < sectors; ) {
      if (!isSet(from)) {
        from++;
        continue;
      }
      let to = from + 1;
      while (to < sectors && isSet(to)) to++;
      await this.#sink.data(
        offset + from * SECTOR_BYTES,
        bytes.subarray(BITMAP_BYTES + from * SECTOR_BYTES, BITMAP_BYTES + to * SECTOR_BYTES),
      );
      from = to;
    }
    this.#blockAt!.delete(this.#at);
    await this.#sink.blockEnd(block);
  }

  /** The footer once more; some writers pad before it. */
  #readEnd(bytes: Buffer): void {
    if (bytes.equals(this.#footer!)) this.#isEnded = true;
    else if (bytes.some((byte) => byte !== 0)) throw this.#damaged('its footers differ');
    else this.#useRoom(bytes.length);
  }

  #damaged(why: string): PhdError {
    return new PhdError('ARCHIVE_DAMAGED', `${this.#what} is no whole VHD: ${why}`);
  }
}
