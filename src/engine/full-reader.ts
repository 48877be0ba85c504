/** Opens a FULL: its end and head are read and proved against each other, its blocks can then be read anywhere. */
import { createHash } from 'node:crypto';
import { emptyMemberBytes, readEmptyMember, readMemberHeader } from '../archive/gzip-member.ts';
import { type FullHead, MAX_HEAD_BYTES, parseFullHead } from '../archive/manifest.ts';
import { decodeEndRecord, END_RECORD_BYTES, type EndRecord } from '../archive/map.ts';
import {
  readSeekTableFooter,
  readSkippableFrame,
  seekTableBytes,
  skippableFrameBytes,
  TABLE_FOOTER_BYTES,
} from '../archive/zstd-frame.ts';
import { openRandomMessage } from '../crypt/random-read.ts';
import { PhdError } from '../errors.ts';
import type { ArchiveName, Codec } from '../model/archive.ts';
import { type ByteSource, readRange } from '../model/byte-source.ts';
import { type ArchivePlace, placeText, storedBytes } from './archive-place.ts';

const PADDING_BYTES = 262_144;

/** A FULL with a map of its own: gzip or zstd of this program. */
export interface OpenFull {
  place: ArchivePlace;
  codec: Exclude<Codec, 'lzop'>;
  head: FullHead;
  end: EndRecord;
  /** The gzip or zstd stream, decrypted where it is encrypted. */
  plain: ByteSource;
  /** Data of its pages; decodeMap proves them. */
  pages(): AsyncGenerator<Buffer>;
}

/** A FULL that can only be unpacked from its beginning: lzop, or made by another program. */
export interface StreamFull {
  place: ArchivePlace;
  codec: Codec;
  plain: ByteSource;
}

export function isOpenFull(full: OpenFull | StreamFull): full is OpenFull {
  return 'end' in full;
}

/**
 * Opens the FULL at `place`, whose name says `name`. Throws PASSPHRASE_*, ARCHIVE_DAMAGED (cut, flipped),
 * FORMAT_UNSUPPORTED, TARGET_*.
 */
export async function openFull(
  place: ArchivePlace,
  name: ArchiveName,
  passphrases: readonly string[],
  signal?: AbortSignal,
): Promise<OpenFull | StreamFull> {
  const stored = storedBytes(place, signal);
  const what = placeText(place);
  const plain = name.encrypted ? await openRandomMessage(stored, passphrases, what) : stored;
  const codec = name.codec ?? 'gzip';
  if (codec === 'lzop') return { place, codec, plain };
  try {
    if (codec === 'zstd') return await openZstd(place, plain);
    const head = await readGzipHead(plain);
    return head ? await openGzip(place, plain, head) : { place, codec, plain };
  } catch (error) {
    throw error instanceof PhdError
      ? new PhdError(error.code, `${what}: ${error.message}`, { cause: error })
      : error;
  }
}

/**
 * For salvage alone: a FULL that lost its end, by the end record and the pages that its empty DELTA carries. Its head is
 * proved against them; what is missing reads as zeros, which no digest agrees with. Throws ARCHIVE_DAMAGED, TARGET_*.
 */
export async function openCutFull(
  place: ArchivePlace,
  codec: OpenFull['codec'],
  end: EndRecord,
  pages: OpenFull['pages'],
  signal?: AbortSignal,
): Promise<OpenFull> {
  const stored = storedBytes(place, signal);
  const head = codec === 'gzip' ? await readGzipHead(stored) : (await readZstdHead(stored))?.data;
  if (!head) throw new PhdError('ARCHIVE_DAMAGED', 'the head of the FULL is cut');
  return { place, codec, head: provedHead(Buffer.from(head), end), end, plain: paddedSource(stored), pages };
}

function paddedSource(stored: ByteSource): ByteSource {
  return {
    sizeBytes: Number.MAX_SAFE_INTEGER,
    read: async function* (offsetBytes, lengthBytes) {
      const there = Math.max(0, Math.min(lengthBytes, stored.sizeBytes - offsetBytes));
      if (there > 0) yield* stored.read(offsetBytes, there);
      for (let left = lengthBytes - there; left > 0; left -= PADDING_BYTES)
        yield Buffer.alloc(Math.min(left, PADDING_BYTES));
    },
  };
}

/** Data of the head member; undefined if the file is a gzip file of another program. Throws if it is none at all. */
async function readGzipHead(plain: ByteSource): Promise<Buffer | undefined> {
  const start = await readRange(plain, 0, Math.min(plain.sizeBytes, emptyMemberBytes(MAX_HEAD_BYTES)));
  if (start.length < 18 || start[0] !== 0x1f || start[1] !== 0x8b || start[2] !== 8) {
    throw new PhdError('ARCHIVE_DAMAGED', 'this is not a gzip file');
  }
  const isOurs = start[3] === 4 && start[12] === 0x50 && start[13] === 0x48;
  if (!isOurs) return undefined;
  const header = readMemberHeader(start);
  if (!header) throw new PhdError('ARCHIVE_DAMAGED', 'the head of the FULL is cut');
  return readEmptyMember(start.subarray(0, emptyMemberBytes(header.data.length)), 'H');
}

async function openGzip(place: ArchivePlace, plain: ByteSource, headBytes: Buffer): Promise<OpenFull> {
  const endBytes = emptyMemberBytes(END_RECORD_BYTES);
  if (plain.sizeBytes < endBytes) throw cut();
  const tail = await readRange(plain, plain.sizeBytes - endBytes, endBytes);
  if (tail[0] !== 0x1f || tail[12] !== 0x50 || tail[13] !== 0x45) throw cut();
  const end = decodeEndRecord(readEmptyMember(tail, 'E'));
  const pagesEnd = plain.sizeBytes - endBytes;
  checkPlaces(end, emptyMemberBytes(headBytes.length), pagesEnd);
  return {
    place,
    codec: 'gzip',
    head: provedHead(headBytes, end),
    end,
    plain,
    pages: () => gzipPages(plain, end.tableOffset, pagesEnd),
  };
}

async function readZstdHead(plain: ByteSource): Promise<ReturnType<typeof readSkippableFrame>> {
  const start = await readRange(plain, 0, Math.min(plain.sizeBytes, skippableFrameBytes(MAX_HEAD_BYTES)));
  return readSkippableFrame(start, 'H');
}

async function openZstd(place: ArchivePlace, plain: ByteSource): Promise<OpenFull> {
  if (plain.sizeBytes < TABLE_FOOTER_BYTES) throw cut();
  const footer = await readRange(plain, plain.sizeBytes - TABLE_FOOTER_BYTES, TABLE_FOOTER_BYTES);
  const frameCount = readSeekTableFooter(footer);
  const endBytes = skippableFrameBytes(END_RECORD_BYTES);
  const pagesEnd = plain.sizeBytes - seekTableBytes(frameCount) - endBytes;
  if (pagesEnd < 0) throw cut();
  const frame = readSkippableFrame(await readRange(plain, pagesEnd, endBytes), 'E');
  if (frame?.frameBytes !== endBytes) throw cut();
  const end = decodeEndRecord(frame.data);
  if (frameCount !== 2 + end.geometry.blockCount + end.pageCount) {
    throw new PhdError('ARCHIVE_DAMAGED', 'the seekable table has the wrong number of frames');
  }
  const head = await readZstdHead(plain);
  if (!head) throw new PhdError('ARCHIVE_DAMAGED', 'the head of the FULL is cut');
  checkPlaces(end, head.frameBytes, pagesEnd);
  return {
    place,
    codec: 'zstd',
    head: provedHead(Buffer.from(head.data), end),
    end,
    plain,
    pages: () => zstdPages(plain, end.tableOffset, pagesEnd),
  };
}

function provedHead(bytes: Buffer, end: EndRecord): FullHead {
  if (!createHash('sha256').update(bytes).digest().equals(end.headDigest)) {
    throw new PhdError('ARCHIVE_DAMAGED', 'the head of the FULL does not match its digest');
  }
  const head = parseFullHead(bytes);
  if (head.diskBytes !== end.geometry.diskBytes || head.blockBytes !== end.geometry.blockBytes) {
    throw new PhdError('ARCHIVE_DAMAGED', 'head and end of the FULL contradict each other');
  }
  return head;
}

function checkPlaces(end: EndRecord, headBytes: number, pagesEnd: number): void {
  if (end.dataOffset === headBytes && end.tableOffset >= end.dataOffset && end.tableOffset <= pagesEnd)
    return;
  throw new PhdError('ARCHIVE_DAMAGED', 'the end of the FULL names places that cannot be');
}

function cut(): PhdError {
  return new PhdError(
    'ARCHIVE_DAMAGED',
    'the FULL has no end: it is arriving or cut (--salvage, or sh DELTA autorun restore ignore, saves what it holds)',
  );
}

/** Data of the page members between two offsets. */
async function* gzipPages(plain: ByteSource, from: number, to: number): AsyncGenerator<Buffer> {
  yield* unwrap(plain, from, to, (rest) => {
    const header = readMemberHeader(rest);
    if (!header) return undefined;
    const size = emptyMemberBytes(header.data.length);
    return rest.length < size ? undefined : { size, data: readEmptyMember(rest.subarray(0, size), 'M') };
  });
}

async function* zstdPages(plain: ByteSource, from: number, to: number): AsyncGenerator<Buffer> {
  yield* unwrap(plain, from, to, (rest) => {
    const frame = readSkippableFrame(rest, 'M');
    return frame && { size: frame.frameBytes, data: frame.data };
  });
}

/** Cuts a range into pieces by `next`, which gives undefined while it needs more bytes. */
async function* unwrap(
  plain: ByteSource,
  from: number,
  to: number,
  next: (rest: Buffer) => { size: number; data: Buffer } | undefined,
): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  if (to === from) return;
  for await (const chunk of plain.read(from, to - from)) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (let piece = next(rest); piece && rest.length > 0; piece = rest.length > 0 ? next(rest) : undefined) {
      yield piece.data;
      rest = rest.subarray(piece.size);
    }
  }
  if (rest.length > 0) throw new PhdError('ARCHIVE_DAMAGED', 'the index map of the FULL is cut');
}
