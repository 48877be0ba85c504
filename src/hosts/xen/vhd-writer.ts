/** A sparse disk as a dynamic VHD, so that only what holds data crosses the line. */
import type { FileHandle } from 'node:fs/promises';
import { PhdError, throwIfAborted } from '../../errors.ts';
import {
  BITMAP_BYTES,
  checksumOf,
  DYNAMIC,
  FOOTER_BYTES,
  FOOTER_CHECKSUM_AT,
  HEADER_BYTES,
  HEADER_CHECKSUM_AT,
  SECTOR_BYTES,
  VHD_BLOCK_BYTES,
} from './vhd.ts';

/** Seconds between 1970 and the format's own beginning, 2000. */
const EPOCH_SECONDS = 946_684_800;

/** Blocks of a file that hold data, ascending; found by reading it. Throws CANCELLED, SOURCE_CHANGED. */
export async function dataBlocks(
  file: FileHandle,
  sizeBytes: number,
  signal?: AbortSignal,
): Promise<number[]> {
  const zeros = Buffer.alloc(VHD_BLOCK_BYTES);
  const blocks: number[] = [];
  for (let block = 0; block * VHD_BLOCK_BYTES < sizeBytes; block++) {
    throwIfAborted(signal);
    const bytes = await readBlock(file, block, sizeBytes);
    if (!bytes.equals(zeros)) blocks.push(block);
  }
  return blocks;
}

/** Bytes of the VHD that `vhdOf` makes of so many blocks. */
export function vhdBytes(sizeBytes: number, blockCount: number): number {
  return (
    2 * FOOTER_BYTES + HEADER_BYTES + tableBytes(sizeBytes) + blockCount * (BITMAP_BYTES + VHD_BLOCK_BYTES)
  );
}

/** A disk as a dynamic VHD of these blocks. `sizeBytes`: a multiple of 512, at most MAX_VHD_BYTES. */
export async function* vhdOf(
  file: FileHandle,
  { sizeBytes, blocks, uuid, now }: { sizeBytes: number; blocks: readonly number[]; uuid: string; now: Date },
): AsyncGenerator<Buffer> {
  const footer = footerOf(sizeBytes, uuid, now);
  const table = Buffer.alloc(tableBytes(sizeBytes), 0xff);
  const firstAt = FOOTER_BYTES + HEADER_BYTES + table.length;
  for (const [index, block] of blocks.entries())
    table.writeUInt32BE((firstAt + index * (BITMAP_BYTES + VHD_BLOCK_BYTES)) / SECTOR_BYTES, 4 * block);
  yield Buffer.concat([footer, headerOf(sizeBytes), table]);
  const bitmap = Buffer.alloc(BITMAP_BYTES, 0xff);
  for (const block of blocks) {
    yield bitmap;
    yield await readBlock(file, block, sizeBytes);
  }
  yield footer;
}

function tableBytes(sizeBytes: number): number {
  const entries = Math.ceil(sizeBytes / VHD_BLOCK_BYTES);
  return Math.ceil((4 * entries) / SECTOR_BYTES) * SECTOR_BYTES;
}

/** The last block is filled up with zeros. */
async function readBlock(file: FileHandle, block: number, sizeBytes: number): Promise<Buffer> {
  const bytes = Buffer.alloc(VHD_BLOCK_BYTES);
  const start = block * VHD_BLOCK_BYTES;
  const wanted = Math.min(VHD_BLOCK_BYTES, sizeBytes - start);
  for (let at = 0; at < wanted; ) {
    const { bytesRead } = await file.read(bytes, at, wanted - at, start + at);
    if (bytesRead === 0) throw new PhdError('SOURCE_CHANGED', 'the disk that is sent became shorter');
    at += bytesRead;
  }
  return bytes;
}

function footerOf(sizeBytes: number, uuid: string, now: Date): Buffer {
  const bytes = Buffer.alloc(FOOTER_BYTES);
  bytes.write('conectix', 0, 'latin1');
  bytes.writeUInt32BE(2, 8);
  bytes.writeUInt32BE(0x0001_0000, 12);
  bytes.writeBigUInt64BE(BigInt(FOOTER_BYTES), 16);
  bytes.writeUInt32BE(Math.max(0, Math.floor(now.getTime() / 1000) - EPOCH_SECONDS), 24);
  bytes.write('phd ', 28, 'latin1');
  bytes.writeUInt32BE(0x0001_0000, 32);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 40);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 48);
  const [cylinders, heads, sectors] = geometryOf(sizeBytes / SECTOR_BYTES);
  bytes.writeUInt16BE(cylinders, 56);
  bytes.writeUInt8(heads, 58);
  bytes.writeUInt8(sectors, 59);
  bytes.writeUInt32BE(DYNAMIC, 60);
  Buffer.from(uuid.replaceAll('-', ''), 'hex').copy(bytes, 68, 0, 16);
  bytes.writeUInt32BE(checksumOf(bytes, FOOTER_CHECKSUM_AT), FOOTER_CHECKSUM_AT);
  return bytes;
}

function headerOf(sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.write('cxsparse', 0, 'latin1');
  bytes.writeBigUInt64BE(0xffff_ffff_ffff_ffffn, 8);
  bytes.writeBigUInt64BE(BigInt(FOOTER_BYTES + HEADER_BYTES), 16);
  bytes.writeUInt32BE(0x0001_0000, 24);
  bytes.writeUInt32BE(Math.ceil(sizeBytes / VHD_BLOCK_BYTES), 28);
  bytes.writeUInt32BE(VHD_BLOCK_BYTES, 32);
  bytes.writeUInt32BE(checksumOf(bytes, HEADER_CHECKSUM_AT), HEADER_CHECKSUM_AT);
  return bytes;
}

/** Cylinders, heads, sectors a track, as the appendix of the specification computes them. */
function geometryOf(totalSectors: number): [number, number, number] {
  const total = Math.min(totalSectors, 65_535 * 16 * 255);
  if (total >= 65_535 * 16 * 63) return [Math.floor(Math.floor(total / 255) / 16), 16, 255];
  let sectors = 17;
  let byTrack = Math.floor(total / sectors);
  let heads = Math.max(4, Math.ceil(byTrack / 1024));
  if (byTrack >= heads * 1024 || heads > 16) {
    sectors = 31;
    heads = 16;
    byTrack = Math.floor(total / sectors);
  }
  if (byTrack >= heads * 1024) {
    sectors = 63;
    heads = 16;
    byTrack = Math.floor(total / sectors);
  }
  return [Math.floor(byTrack / heads), heads, sectors];
}
