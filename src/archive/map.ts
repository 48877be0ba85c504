/**
 * The index map of a disk: pages and end record (FORMAT.md section 4), streamed region by region so that
 * a disk of 2 TiB (8.4 million blocks) never lies in memory.
 */
import { createHash } from 'node:crypto';
import { PhdError } from '../errors.ts';
import {
  DIGEST_BYTES,
  type Geometry,
  geometryOf,
  isZeroMark,
  PAGE_BLOCKS,
  REGION_BLOCKS,
} from './geometry.ts';

export const END_RECORD_BYTES = 192;
const PAGE_HEAD_BYTES = 64;
const ENTRY_BYTES = 4 + DIGEST_BYTES;
const MAX_PAGE_BYTES = PAGE_HEAD_BYTES + PAGE_BLOCKS * ENTRY_BYTES;

/** One region of a disk's map. Arrays are indexed by block - firstBlock. */
export interface MapRegion {
  index: number;
  firstBlock: number;
  count: number;
  /** Zero mark if the region is all zero. */
  digest: Buffer;
  /** 32 bytes for each block; zero marks included. */
  digests: Buffer;
  /** Bytes of each member; 0 for lzop. */
  memberBytes: Uint32Array;
}

export interface EndRecord {
  geometry: Geometry;
  dataBlocks: number;
  dataOffset: number;
  tableOffset: number;
  pageCount: number;
  zeroMemberBytes: number;
  headDigest: Buffer;
  tableDigest: Buffer;
  mapDigest: Buffer;
}

export function encodeEndRecord(end: EndRecord): Buffer {
  const bytes = Buffer.alloc(END_RECORD_BYTES);
  bytes.writeUInt16LE(1, 0);
  bytes.writeUInt32LE(end.geometry.blockBytes, 4);
  const numbers = [
    end.geometry.diskBytes,
    end.geometry.blockCount,
    end.dataBlocks,
    end.dataOffset,
    end.tableOffset,
    end.pageCount,
  ];
  numbers.forEach((number, index) => {
    bytes.writeBigUInt64LE(BigInt(number), 8 + 8 * index);
  });
  bytes.writeUInt32LE(end.zeroMemberBytes, 56);
  end.headDigest.copy(bytes, 64);
  end.tableDigest.copy(bytes, 96);
  end.mapDigest.copy(bytes, 128);
  createHash('sha256').update(bytes.subarray(0, 160)).digest().copy(bytes, 160);
  return bytes;
}

/** Throws ARCHIVE_DAMAGED, or FORMAT_UNSUPPORTED for a later version. */
export function decodeEndRecord(bytes: Buffer): EndRecord {
  if (bytes.length !== END_RECORD_BYTES) throw damaged('end record cut');
  const digest = createHash('sha256').update(bytes.subarray(0, 160)).digest();
  if (!digest.equals(bytes.subarray(160))) throw damaged('end record does not match its digest');
  if (bytes.readUInt16LE(0) !== 1) {
    throw new PhdError(
      'FORMAT_UNSUPPORTED',
      `archive version ${bytes.readUInt16LE(0)} is newer than this program`,
    );
  }
  const number = (at: number): number => {
    const value = bytes.readBigUInt64LE(at);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw damaged('a number of the end record is out of range');
    return Number(value);
  };
  const geometry = geometryOf(number(8), bytes.readUInt32LE(4));
  const end: EndRecord = {
    geometry,
    dataBlocks: number(24),
    dataOffset: number(32),
    tableOffset: number(40),
    pageCount: number(48),
    zeroMemberBytes: bytes.readUInt32LE(56),
    headDigest: Buffer.from(bytes.subarray(64, 96)),
    tableDigest: Buffer.from(bytes.subarray(96, 128)),
    mapDigest: Buffer.from(bytes.subarray(128, 160)),
  };
  const isSound =
    number(16) === geometry.blockCount &&
    end.dataBlocks <= geometry.blockCount &&
    end.pageCount === Math.ceil(geometry.blockCount / PAGE_BLOCKS) &&
    bytes.readUInt16LE(2) === 0 &&
    bytes.readUInt32LE(60) === 0;
  if (!isSound) throw damaged('the end record contradicts itself');
  return end;
}

/**
 * Takes the regions of a disk in order and gives their pages; at the end, the figures of the end record.
 * One encoder for one map.
 */
export class MapEncoder {
  readonly #geometry: Geometry;
  readonly #zeroMemberBytes: number;
  readonly #table = createHash('sha256');
  readonly #map = createHash('sha256');
  #pageCount = 0;
  #dataBlocks = 0;

  constructor(geometry: Geometry, zeroMemberBytes: number) {
    this.#geometry = geometry;
    this.#zeroMemberBytes = zeroMemberBytes;
  }

  /** Pages of the next region, one or two. */
  addRegion(region: MapRegion): Buffer[] {
    this.#map.update(region.digests);
    const pages: Buffer[] = [];
    for (let from = 0; from < region.count; from += PAGE_BLOCKS) pages.push(this.#page(region, from));
    for (const page of pages) this.#table.update(page);
    this.#pageCount += pages.length;
    return pages;
  }

  #page(region: MapRegion, from: number): Buffer {
    const count = Math.min(PAGE_BLOCKS, region.count - from);
    const page = Buffer.alloc(PAGE_HEAD_BYTES + count * ENTRY_BYTES);
    let explicit = 0;
    for (let i = 0; i < count; i += 1) {
      const digest = region.digests.subarray((from + i) * DIGEST_BYTES, (from + i + 1) * DIGEST_BYTES);
      const isZero = isZeroMark(digest);
      if (!isZero) this.#dataBlocks += 1;
      if (isZero && this.#isFullSize(region.firstBlock + from + i)) continue;
      page[48 + (i >> 3)]! |= 1 << (i & 7);
      const at = PAGE_HEAD_BYTES + explicit * ENTRY_BYTES;
      page.writeUInt32LE(region.memberBytes[from + i]!, at);
      digest.copy(page, at + 4);
      explicit += 1;
    }
    page.writeBigUInt64LE(BigInt(region.firstBlock + from), 0);
    page.writeUInt16LE(count, 8);
    page.writeUInt16LE(explicit, 10);
    region.digest.copy(page, 16);
    return page.subarray(0, PAGE_HEAD_BYTES + explicit * ENTRY_BYTES);
  }

  #isFullSize(block: number): boolean {
    return (block + 1) * this.#geometry.blockBytes <= this.#geometry.diskBytes;
  }

  finish(places: { dataOffset: number; tableOffset: number; headDigest: Buffer }): EndRecord {
    return {
      geometry: this.#geometry,
      dataBlocks: this.#dataBlocks,
      dataOffset: places.dataOffset,
      tableOffset: places.tableOffset,
      pageCount: this.#pageCount,
      zeroMemberBytes: this.#zeroMemberBytes,
      headDigest: places.headDigest,
      tableDigest: this.#table.digest(),
      mapDigest: this.#map.digest(),
    };
  }
}

/**
 * Reads regions from the data of pages in order (a map stream without its end record, or the pages of a FULL).
 * Checks every number, tableDigest and mapDigest; the last `next` only returns after both agreed, so a caller that
 * runs to the end has a proved map. Throws ARCHIVE_DAMAGED.
 */
export async function* decodeMap(
  end: EndRecord,
  pageData: AsyncIterable<Uint8Array>,
): AsyncGenerator<MapRegion> {
  const table = createHash('sha256');
  const map = createHash('sha256');
  const pages = splitPages(pageData);
  let dataBlocks = 0;
  try {
    for (let index = 0; index < end.geometry.regionCount; index += 1) {
      const firstBlock = index * REGION_BLOCKS;
      const count = Math.min(REGION_BLOCKS, end.geometry.blockCount - firstBlock);
      const region: MapRegion = {
        index,
        firstBlock,
        count,
        digest: Buffer.alloc(0),
        digests: Buffer.alloc(count * DIGEST_BYTES),
        memberBytes: new Uint32Array(count).fill(end.zeroMemberBytes),
      };
      for (let from = 0; from < count; from += PAGE_BLOCKS) {
        const next = await pages.next();
        if (next.done) throw damaged('the index map is cut');
        table.update(next.value);
        dataBlocks += decodePage(region, from, next.value);
      }
      map.update(region.digests);
      yield region;
    }
    if (!(await pages.next()).done) throw damaged('the index map is longer than announced');
  } finally {
    await pages.return(undefined);
  }
  const isProved =
    table.digest().equals(end.tableDigest) &&
    map.digest().equals(end.mapDigest) &&
    dataBlocks === end.dataBlocks;
  if (!isProved) throw damaged('the index map does not match its digest');
}

/** Fills `region` from one page and returns how many of its blocks hold data. */
function decodePage(region: MapRegion, from: number, page: Buffer): number {
  const count = Math.min(PAGE_BLOCKS, region.count - from);
  const digest = page.subarray(16, 48);
  if (from === 0) region.digest = Buffer.from(digest);
  const isSound =
    page.readBigUInt64LE(0) === BigInt(region.firstBlock + from) &&
    page.readUInt16LE(8) === count &&
    page.readUInt32LE(12) === 0 &&
    digest.equals(region.digest);
  if (!isSound) throw damaged('a page of the index map is out of place');
  let at = PAGE_HEAD_BYTES;
  let dataBlocks = 0;
  for (let i = 0; i < PAGE_BLOCKS; i += 1) {
    if (!((page[48 + (i >> 3)]! >> (i & 7)) & 1)) continue;
    if (i >= count || at + ENTRY_BYTES > page.length) throw damaged('a page of the index map is malformed');
    region.memberBytes[from + i] = page.readUInt32LE(at);
    page.copy(region.digests, (from + i) * DIGEST_BYTES, at + 4, at + ENTRY_BYTES);
    if (!isZeroMark(page.subarray(at + 4, at + ENTRY_BYTES))) dataBlocks += 1;
    at += ENTRY_BYTES;
  }
  if (at !== page.length) throw damaged('a page of the index map is malformed');
  return dataBlocks;
}

/** Cuts a byte stream of page data into pages; each tells its own length. */
async function* splitPages(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of source) {
    rest = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk]);
    let at = 0;
    while (rest.length - at >= PAGE_HEAD_BYTES) {
      const pageBytes = PAGE_HEAD_BYTES + rest.readUInt16LE(at + 10) * ENTRY_BYTES;
      if (pageBytes > MAX_PAGE_BYTES) throw damaged('a page of the index map is too large');
      if (rest.length - at < pageBytes) break;
      yield rest.subarray(at, at + pageBytes);
      at += pageBytes;
    }
    rest = rest.subarray(at);
  }
  if (rest.length > 0) throw damaged('the index map is cut within a page');
}

function damaged(what: string): PhdError {
  return new PhdError('ARCHIVE_DAMAGED', what);
}
