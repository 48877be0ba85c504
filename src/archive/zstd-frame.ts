/** The frames a zstd FULL is made of (FORMAT.md section 5, RFC 8878 and the published seekable format). */
import binding from 'zstd-napi/binding.js';
import { PhdError } from '../errors.ts';
import type { MemberKind } from './gzip-member.ts';

const SKIPPABLE_MAGIC = 0x184d2a57;
const TABLE_MAGIC = 0x184d2a5e;
const TABLE_FOOTER_MAGIC = 0x8f92eab1;
const DATA_MAGIC = 0xfd2fb528;
export const TABLE_FOOTER_BYTES = 9;
/** Magic, size, tag. */
const SKIPPABLE_HEAD_BYTES = 12;

/** Most bytes a data frame of a block can have. */
export function maxFrameBytes(blockBytes: number): number {
  return blockBytes + (blockBytes >> 7) + 512;
}

const { CCtx, CParameter, DCtx } = binding;
const compressors = new Map<number, InstanceType<typeof CCtx>>();

/**
 * Writes `block` as one data frame with content size and checksum, so that `zstd -dc` proves it too, to
 * `target[at..]`, which has room for `maxFrameBytes`; bytes of the frame.
 */
export function writeZstdFrame(target: Buffer, at: number, block: Uint8Array, level: number): number {
  let compressor = compressors.get(level);
  if (!compressor) {
    compressor = new CCtx();
    compressor.setParameter(CParameter.compressionLevel, level);
    compressor.setParameter(CParameter.checksumFlag, 1);
    compressor.setParameter(CParameter.contentSizeFlag, 1);
    compressors.set(level, compressor);
  }
  return compressor.compress2(target.subarray(at), block);
}

/** The same in memory of its own. */
export function zstdFrame(block: Uint8Array, level: number): Buffer {
  const frame = Buffer.alloc(maxFrameBytes(block.length));
  return frame.subarray(0, writeZstdFrame(frame, 0, block, level));
}

const decompressor = new DCtx();

/**
 * The block in one data frame that fills `frame` exactly, in the first bytes of `target`. Throws ARCHIVE_DAMAGED.
 */
export function readZstdFrame(
  frame: Buffer,
  blockBytes: number,
  target: Buffer = Buffer.allocUnsafe(blockBytes),
): Buffer {
  const isBounded =
    frame.length >= 9 && frame.readUInt32LE(0) === DATA_MAGIC && frameContentBytes(frame) === blockBytes;
  if (!isBounded) throw new PhdError('ARCHIVE_DAMAGED', 'a zstd frame has a damaged header');
  const block = target.subarray(0, blockBytes);
  let writtenBytes: number;
  try {
    writtenBytes = decompressor.decompress(block, frame);
  } catch (cause) {
    throw new PhdError('ARCHIVE_DAMAGED', 'a zstd frame is damaged', { cause });
  }
  if (writtenBytes !== blockBytes) throw new PhdError('ARCHIVE_DAMAGED', 'a zstd frame has the wrong length');
  return block;
}

/** Content size that a frame header announces (RFC 8878 section 3.1.1.1), or undefined. Guards the inflater against bombs. */
function frameContentBytes(frame: Buffer): number | undefined {
  const descriptor = frame[4] as number;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeCode = descriptor >> 6;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] as number;
  const at = 5 + (isSingleSegment ? 0 : 1) + dictionaryBytes;
  const sizeBytes = sizeCode === 0 ? (isSingleSegment ? 1 : 0) : 1 << sizeCode;
  if (sizeBytes === 0 || frame.length < at + sizeBytes) return undefined;
  if (sizeBytes === 1) return frame[at];
  if (sizeBytes === 2) return frame.readUInt16LE(at) + 256;
  if (sizeBytes === 4) return frame.readUInt32LE(at);
  return Number(frame.readBigUInt64LE(at));
}

/** A skippable frame `PHD` + kind + data. */
export function skippableFrame(kind: MemberKind, data: Uint8Array): Buffer {
  const frame = Buffer.alloc(SKIPPABLE_HEAD_BYTES + data.length);
  frame.writeUInt32LE(SKIPPABLE_MAGIC, 0);
  frame.writeUInt32LE(4 + data.length, 4);
  frame.write('PHD' + kind, 8, 'latin1');
  frame.set(data, SKIPPABLE_HEAD_BYTES);
  return frame;
}

export function skippableFrameBytes(dataBytes: number): number {
  return SKIPPABLE_HEAD_BYTES + dataBytes;
}

/** Size and content of the skippable frame at the start of `bytes`; undefined if more bytes are needed. */
export function readSkippableFrame(
  bytes: Buffer,
  kind: MemberKind,
): { data: Buffer; frameBytes: number } | undefined {
  if (bytes.length < SKIPPABLE_HEAD_BYTES) return undefined;
  const frameBytes = 8 + bytes.readUInt32LE(4);
  const isOurs =
    bytes.readUInt32LE(0) === SKIPPABLE_MAGIC &&
    frameBytes >= SKIPPABLE_HEAD_BYTES &&
    frameBytes <= 65_536 &&
    bytes.toString('latin1', 8, 12) === 'PHD' + kind;
  if (!isOurs) throw new PhdError('ARCHIVE_DAMAGED', `the zstd frame '${kind}' is damaged`);
  if (bytes.length < frameBytes) return undefined;
  return { data: bytes.subarray(SKIPPABLE_HEAD_BYTES, frameBytes), frameBytes };
}

/** Bytes of the seekable table for `frameCount` frames. */
export function seekTableBytes(frameCount: number): number {
  return 8 + 8 * frameCount + TABLE_FOOTER_BYTES;
}

export function seekTableHead(frameCount: number): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(TABLE_MAGIC, 0);
  head.writeUInt32LE(seekTableBytes(frameCount) - 8, 4);
  return head;
}

export function seekTableEntry(target: Buffer, at: number, frameBytes: number, contentBytes: number): void {
  target.writeUInt32LE(frameBytes, at);
  target.writeUInt32LE(contentBytes, at + 4);
}

export function seekTableFooter(frameCount: number): Buffer {
  const footer = Buffer.alloc(TABLE_FOOTER_BYTES);
  footer.writeUInt32LE(frameCount, 0);
  footer.writeUInt32LE(TABLE_FOOTER_MAGIC, 5);
  return footer;
}

/** Frame count from the last 9 bytes of a FULL. Throws ARCHIVE_DAMAGED if there is no seekable table. */
export function readSeekTableFooter(footer: Buffer): number {
  const isTable =
    footer.length === TABLE_FOOTER_BYTES && footer.readUInt32LE(5) === TABLE_FOOTER_MAGIC && footer[4] === 0;
  if (!isTable)
    throw new PhdError(
      'ARCHIVE_DAMAGED',
      'the zstd FULL has no end: it is cut, or was not made by this program',
    );
  return footer.readUInt32LE(0);
}
