/**
 * The gzip members a FULL and the payload of a DELTA are made of (FORMAT.md section 3, RFC 1952).
 * Each has exactly one extra subfield 'P' + kind, so a reader finds its way without inflating.
 */
import zlib from 'node:zlib';
import { PhdError } from '../errors.ts';
import { DIGEST_BYTES } from './geometry.ts';
import { rawDeflate } from './raw-deflate.ts';

export type MemberKind = 'H' | 'B' | 'M' | 'E';

/** No extra field may be larger: busybox gunzip calls members with 17,004 or more corrupted. */
export const MAX_EXTRA_BYTES = 8192;
const FIXED_HEADER = Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff]);
/** Fixed header, XLEN, subfield id and length. */
const HEADER_BYTES = 16;
const TRAILER_BYTES = 8;
const EMPTY_PAYLOAD = Buffer.from([3, 0]);
/** Header of a block member up to its deflate data: 16 + 4 + 32. */
export const BLOCK_HEADER_BYTES: number = HEADER_BYTES + 4 + DIGEST_BYTES;
const BLOCK_FRAME_BYTES: number = BLOCK_HEADER_BYTES + TRAILER_BYTES;

/** Most bytes a member of a block of `blockBytes` can have (stored, not deflated). */
export function maxBlockMemberBytes(blockBytes: number): number {
  return BLOCK_FRAME_BYTES + blockBytes + 5 * (Math.ceil(blockBytes / 16_383) + 1);
}

/** A member without payload that carries `data` in its extra field. */
export function emptyMember(kind: MemberKind, data: Uint8Array): Buffer {
  if (data.length + 4 > MAX_EXTRA_BYTES) throw new RangeError(`extra field of ${data.length} bytes`);
  const member = Buffer.alloc(emptyMemberBytes(data.length));
  writeHeader(member, 0, kind, data.length);
  member.set(data, HEADER_BYTES);
  member.set(EMPTY_PAYLOAD, HEADER_BYTES + data.length);
  return member;
}

/** Size of an empty member with `dataBytes` in its subfield. */
export function emptyMemberBytes(dataBytes: number): number {
  return HEADER_BYTES + dataBytes + EMPTY_PAYLOAD.length + TRAILER_BYTES;
}

function writeHeader(target: Buffer, at: number, kind: MemberKind, dataBytes: number): void {
  FIXED_HEADER.copy(target, at);
  target.writeUInt16LE(dataBytes + 4, at + 10);
  target[at + 12] = 0x50;
  target[at + 13] = kind.charCodeAt(0);
  target.writeUInt16LE(dataBytes, at + 14);
}

/**
 * Deflates `block` into a block member at `target[at..]` and returns its size in bytes.
 * What does not shrink is stored, so the member never exceeds `maxBlockMemberBytes`.
 */
export function writeBlockMember(
  target: Buffer,
  at: number,
  block: Uint8Array,
  digest: Uint8Array,
  level: number,
): number {
  const payload = target.subarray(at + BLOCK_HEADER_BYTES);
  const payloadBytes = rawDeflate.deflateInto(payload, block, level) ?? store(payload, block);
  const memberBytes = BLOCK_FRAME_BYTES + payloadBytes;
  writeHeader(target, at, 'B', 4 + DIGEST_BYTES);
  target.writeUInt32LE(memberBytes, at + HEADER_BYTES);
  target.set(digest, at + HEADER_BYTES + 4);
  target.writeUInt32LE(zlib.crc32(block), at + memberBytes - 8);
  target.writeUInt32LE(block.length, at + memberBytes - 4);
  return memberBytes;
}

function store(payload: Buffer, block: Uint8Array): number {
  const stored = zlib.deflateRawSync(block, { level: 0 });
  payload.set(stored);
  return stored.length;
}

/** The ready-made member of an all-zero block: level 9, since one size serves all (271 + 40 bytes for 256 KiB). */
export function zeroBlockMember(blockBytes: number): Buffer {
  const member = Buffer.alloc(maxBlockMemberBytes(blockBytes));
  const bytes = writeBlockMember(member, 0, Buffer.alloc(blockBytes), Buffer.alloc(DIGEST_BYTES), 9);
  return member.subarray(0, bytes);
}

export interface MemberHeader {
  kind: MemberKind;
  /** Bytes of the subfield. */
  data: Buffer;
  /** Where the deflate data begins, from the member's start. */
  payloadOffset: number;
}

/**
 * Reads a member's header at the start of `bytes`; undefined if more bytes are needed.
 * Throws ARCHIVE_DAMAGED if it is not a member of ours, to the last bit.
 */
export function readMemberHeader(bytes: Buffer): MemberHeader | undefined {
  const known = Math.min(bytes.length, FIXED_HEADER.length);
  if (!bytes.subarray(0, known).equals(FIXED_HEADER.subarray(0, known))) {
    throw new PhdError('ARCHIVE_DAMAGED', 'not a gzip member of a FULL');
  }
  if (bytes.length < HEADER_BYTES) return undefined;
  const extraBytes = bytes.readUInt16LE(10);
  const dataBytes = bytes.readUInt16LE(14);
  const kind = String.fromCharCode(bytes[13] as number);
  const isOurs = bytes[12] === 0x50 && 'HBME'.includes(kind) && extraBytes === dataBytes + 4;
  if (!isOurs || extraBytes > MAX_EXTRA_BYTES)
    throw new PhdError('ARCHIVE_DAMAGED', 'a gzip extra field is damaged');
  if (bytes.length < HEADER_BYTES + dataBytes) return undefined;
  return {
    kind: kind as MemberKind,
    data: bytes.subarray(HEADER_BYTES, HEADER_BYTES + dataBytes),
    payloadOffset: HEADER_BYTES + dataBytes,
  };
}

/** Data of an empty member that fills `bytes` exactly; ARCHIVE_DAMAGED otherwise. */
export function readEmptyMember(bytes: Buffer, kind: MemberKind): Buffer {
  const header = readMemberHeader(bytes);
  if (!header || header.kind !== kind || !emptyMember(kind, header.data).equals(bytes)) {
    throw new PhdError('ARCHIVE_DAMAGED', `the gzip member '${kind}' is damaged`);
  }
  return header.data;
}

/**
 * Inflates a block member that fills `member` exactly, into the first bytes of `target`, which has room for one byte
 * more. Every bit of the frame is checked: header, size, stored digest, deflate data without a rest, CRC, length. The
 * caller checks the block's own digest. Throws ARCHIVE_DAMAGED.
 */
export function readBlockMember(
  member: Buffer,
  blockBytes: number,
  expectedDigest: Uint8Array,
  target: Buffer = Buffer.allocUnsafe(blockBytes + 1),
): Buffer {
  const header = readMemberHeader(member);
  if (header?.kind !== 'B' || header.data.length !== 4 + DIGEST_BYTES) throw badBlock('header');
  if (header.data.readUInt32LE(0) !== member.length) throw badBlock('size');
  if (!header.data.subarray(4).equals(expectedDigest)) throw badBlock('digest field');
  const payload = member.subarray(header.payloadOffset, member.length - TRAILER_BYTES);
  const block = target.subarray(0, blockBytes);
  try {
    if (rawDeflate.inflateInto(target.subarray(0, blockBytes + 1), payload) !== blockBytes)
      throw badBlock('length');
  } catch (cause) {
    if (cause instanceof PhdError) throw cause;
    throw new PhdError('ARCHIVE_DAMAGED', 'deflate data is damaged', { cause });
  }
  const isRight =
    member.readUInt32LE(member.length - 4) === blockBytes &&
    member.readUInt32LE(member.length - 8) === zlib.crc32(block);
  if (!isRight) throw badBlock('trailer');
  return block;
}

function badBlock(what: string): PhdError {
  return new PhdError('ARCHIVE_DAMAGED', `a block member is damaged: ${what}`);
}
