/** An XVA proved as it comes: its members, and every piece by the checksum that follows it. */
import { createHash } from 'node:crypto';
import { PassThrough, Transform, type Writable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import tar from 'tar-stream';
import xxhash from 'xxhash-wasm';
import { DecompressStream } from 'zstd-napi';
import { shownName } from '../../datastore/plain-name.ts';
import { fromErrno, PhdError } from '../../errors.ts';
import { disksOfOva } from './ova-disks.ts';

/** XenServer cuts disks into pieces of this size. */
const PIECE_BYTES = 1024 * 1024;
const MAX_PIECE_BYTES = 16 * 1024 * 1024;
const MAX_METADATA_BYTES = 64 * 1024 * 1024;
const MAX_CHECKSUM_BYTES = 256;
const MAX_DISKS = 1024;
const TAR_BLOCK_BYTES = 512;

export interface XvaFacts {
  /** `Ref:12`, in the order of the file. */
  disks: {
    ref: string;
    pieces: number;
    dataBytes: number;
    /** To the end of its last piece. */
    sizeBytes: number;
  }[];
  /** Pieces without a checksum: those of very old releases. */
  unprovedPieces: number;
}

/** `emptyPieces`: xapi writes pieces without a byte where it has none to send in time; they count as numbers, not as places. */
type CountedDisk = XvaFacts['disks'][number] & { lastNumber: number; emptyPieces: number };

interface Piece {
  ref: string;
  number: number;
  sha1: string;
  xxh64: string;
  bytes: number;
}

/** True if a file begins as an XVA does: a tar, or one in gzip or zstd. */
export function looksLikeXva(head: Buffer): boolean {
  return isGzip(head) || isZstd(head) || head.toString('latin1', 0, 7) === 'ova.xml';
}

/** Fed part by part; `finish` tells what it was. Both throw ARCHIVE_DAMAGED, DIGEST_MISMATCH. */
export class XvaCheck {
  readonly #what: string;
  readonly #input: Writable;
  readonly #done: Promise<XvaFacts>;
  #failure: PhdError | null = null;

  private constructor(what: string, input: Writable, done: Promise<XvaFacts>) {
    this.#what = what;
    this.#input = input;
    this.#done = done;
    done.catch((error) => {
      this.#failure = fromErrno(error, what);
    });
  }

  /** `head`: its first bytes, which tell how it is packed; they are to be pushed as well. */
  static async begin(what: string, head: Buffer): Promise<XvaCheck> {
    const { h64Raw } = await xxhash();
    const xxh64 = (bytes: Buffer): string => h64Raw(bytes).toString(16).padStart(16, '0');
    const input = isGzip(head) ? createGunzip() : isZstd(head) ? new DecompressStream() : new PassThrough();
    const extract = tar.extract();
    const failed = new Promise<never>((_, reject) => {
      input.once('error', (error) => {
        reject(damaged(what, `it cannot be unpacked (${error.message})`));
        extract.destroy();
      });
    });
    failed.catch(() => undefined);
    const end = new EndWatch();
    input.pipe(end).pipe(extract);
    const read = readMembers(what, extract, xxh64).then((facts) => {
      if (!end.isWhole()) throw damaged(what, 'its end is missing');
      return facts;
    });
    const done = Promise.race([read, failed]);
    return new XvaCheck(what, input, done);
  }

  async push(part: Buffer): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    if (!this.#input.write(part)) await this.#drained();
  }

  async finish(): Promise<XvaFacts> {
    if (this.#failure !== null) throw this.#failure;
    this.#input.end();
    return await this.#done;
  }

  /** Lets go of what was begun and is not to be finished. */
  stop(): void {
    this.#input.destroy();
  }

  async #drained(): Promise<void> {
    const waits = new AbortController();
    const drain = new Promise<void>((resolve) => {
      this.#input.once('drain', resolve);
      waits.signal.addEventListener('abort', () => this.#input.off('drain', resolve), { once: true });
    });
    try {
      await Promise.race([drain, this.#done]);
    } catch (error) {
      throw fromErrno(error, this.#what);
    } finally {
      waits.abort();
    }
  }
}

/** A tar that was cut between two members looks whole: only its end, two blocks of zeros, tells. */
class EndWatch extends Transform {
  #bytes = 0;
  #zeroBytes = 0;

  override _transform(part: Buffer, _encoding: string, done: (error: null, part: Buffer) => void): void {
    const most = Math.min(part.length, 2 * TAR_BLOCK_BYTES);
    let zeros = 0;
    while (zeros < most && part[part.length - 1 - zeros] === 0) zeros++;
    this.#zeroBytes = zeros === part.length ? this.#zeroBytes + zeros : zeros;
    this.#bytes += part.length;
    done(null, part);
  }

  isWhole(): boolean {
    return this.#bytes % TAR_BLOCK_BYTES === 0 && this.#zeroBytes >= 2 * TAR_BLOCK_BYTES;
  }
}

async function readMembers(
  what: string,
  extract: tar.Extract,
  xxh64: (bytes: Buffer) => string,
): Promise<XvaFacts> {
  const disks = new Map<string, CountedDisk>();
  let unprovedPieces = 0;
  let last: Piece | null = null;
  let isFirst = true;
  let named: Map<string, number> | null = null;
  try {
    for await (const entry of extract) {
      const { name, size = 0 } = entry.header;
      const bytes = await contentOf(entry, limitOf(name), size, what);
      if (isFirst && name !== 'ova.xml')
        throw damaged(what, `it begins with ${shownName(name)}, not with ova.xml`);
      const [, ref = '', number = '', kind] =
        /^(Ref:[A-Za-z0-9:-]{1,80})\/(\d{8,12})(\.checksum|\.xxhash)?$/.exec(name) ?? [];
      if (isFirst) {
        isFirst = false;
        named = disksOfOva(bytes.toString('utf8'));
      } else if (ref === '') throw damaged(what, `it holds ${shownName(name)}`);
      else if (kind === undefined) {
        if (last !== null) unprovedPieces++;
        last = pieceOf(ref, Number(number), bytes, xxh64);
        count(disks, last, what);
      } else {
        provePiece(last, { ref, number: Number(number), kind, text: bytes.toString('latin1').trim() }, what);
        last = null;
      }
    }
  } catch (error) {
    if (error instanceof PhdError) throw error;
    throw damaged(what, (error as Error).message);
  }
  if (isFirst) throw damaged(what, 'it holds nothing');
  requireWhole(what, disks, named);
  return {
    disks: [...disks.values()].map(({ lastNumber: _, emptyPieces: __, ...disk }) => disk),
    unprovedPieces: unprovedPieces + (last === null ? 0 : 1),
  };
}

/** First and last piece of a disk are always there, whatever they hold; an XVA of metadata alone has none. */
function requireWhole(
  what: string,
  disks: ReadonlyMap<string, CountedDisk>,
  named: ReadonlyMap<string, number> | null,
): void {
  if (named === null || disks.size === 0) return;
  for (const [ref, sizeBytes] of named) {
    const disk = disks.get(ref);
    if (disk === undefined) throw damaged(what, `it names disk ${shownName(ref)} and holds nothing of it`);
    if (disk.sizeBytes !== sizeBytes)
      throw damaged(
        what,
        `its pieces of ${shownName(ref)} end at ${disk.sizeBytes} bytes, the disk has ${sizeBytes}`,
      );
  }
}

function limitOf(name: string): number {
  if (name === 'ova.xml') return MAX_METADATA_BYTES;
  return /\.(checksum|xxhash)$/.test(name) ? MAX_CHECKSUM_BYTES : MAX_PIECE_BYTES;
}

async function contentOf(
  entry: AsyncIterable<unknown>,
  limitBytes: number,
  sizeBytes: number,
  what: string,
): Promise<Buffer> {
  if (sizeBytes > limitBytes) throw damaged(what, `a member has ${sizeBytes} bytes`);
  const parts: Buffer[] = [];
  for await (const part of entry) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

function pieceOf(ref: string, number: number, bytes: Buffer, xxh64: (bytes: Buffer) => string): Piece {
  const sha1 = createHash('sha1').update(bytes).digest('hex');
  return { ref, number, sha1, xxh64: xxh64(bytes), bytes: bytes.length };
}

/** Pieces of zeros are left out, so numbers grow but may leap; the first is always there. */
function count(disks: Map<string, CountedDisk>, { ref, number, bytes }: Piece, what: string): void {
  const begun = { ref, pieces: 0, dataBytes: 0, sizeBytes: 0, lastNumber: -1, emptyPieces: 0 };
  const disk = disks.get(ref) ?? begun;
  if (disk.pieces === 0 ? number !== 0 : number <= disk.lastNumber)
    throw damaged(what, `piece ${number} of ${ref} is out of order`);
  disk.lastNumber = number;
  disk.pieces++;
  disk.dataBytes += bytes;
  if (bytes === 0) disk.emptyPieces++;
  else disk.sizeBytes = (number - disk.emptyPieces) * PIECE_BYTES + bytes;
  disks.set(ref, disk);
  if (disks.size > MAX_DISKS) throw damaged(what, `it holds more than ${MAX_DISKS} disks`);
}

function provePiece(
  piece: Piece | null,
  { ref, number, kind, text }: { ref: string; number: number; kind: string; text: string },
  what: string,
): void {
  if (piece === null || piece.ref !== ref || piece.number !== number)
    throw damaged(what, `a checksum of ${ref}/${number} stands where none is due`);
  const wanted = kind === '.checksum' ? piece.sha1 : piece.xxh64;
  if (text.toLowerCase().padStart(wanted.length, '0') === wanted) return;
  throw new PhdError('DIGEST_MISMATCH', `${what}: piece ${number} of ${ref} does not match its checksum`);
}

function damaged(what: string, why: string): PhdError {
  return new PhdError('ARCHIVE_DAMAGED', `${what} is no whole XVA: ${why}`);
}

function isGzip(head: Buffer): boolean {
  return head[0] === 0x1f && head[1] === 0x8b;
}

function isZstd(head: Buffer): boolean {
  return head.readUInt32LE(0) === 0xfd2fb528;
}
