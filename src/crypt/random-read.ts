/**
 * Random reads in an encrypted message of ours (FORMAT.md section 7; RFC 9580 sections 4.2.1, 5.3, 5.7, 5.9).
 *
 * The message is a chain of 1 MiB chunks around CFB ciphertext, whose plaintext is again a chain of 1 MiB chunks
 * around the data. Both layouts follow from sizes by arithmetic, and every chunk header passed over is checked.
 * Bytes read here carry no MDC: the caller counts them only by digests from an authenticated message.
 */
import { createDecipheriv } from 'node:crypto';
import { PhdError } from '../errors.ts';
import { type ByteSource, readRange } from '../model/byte-source.ts';
import { CHUNK_BYTES } from './message.ts';
import {
  AES_BLOCK_BYTES,
  HEAD_BYTES,
  PREFIX_BYTES,
  requirePassphrases,
  sessionKey,
  skipPassphrasePackets,
} from './session-key.ts';

/** Header octet of a partial length of 2^20 (RFC 9580 section 4.2.1.4). */
const CHUNK_HEADER = 0xf4;
const MDC_PACKET_BYTES = 22;

/** Where the body of a packet lies in the bytes around it: whole 1 MiB chunks, then a few shorter pieces. */
interface Chain {
  /** Offset of the first length header. */
  start: number;
  chunks: number;
  tail: { bodyOffset: number; offset: number; size: number }[];
  bodyBytes: number;
}

/**
 * Opens the plaintext of an encrypted FULL or part for random reads.
 * Throws PASSPHRASE_MISSING, PASSPHRASE_WRONG, ARCHIVE_DAMAGED, FORMAT_UNSUPPORTED.
 */
export async function openRandomMessage(
  source: ByteSource,
  passphrases: readonly string[],
  what: string,
): Promise<ByteSource> {
  requirePassphrases(passphrases, what);
  const head = await readRange(source, 0, Math.min(source.sizeBytes, HEAD_BYTES));
  const bodyAt = skipPassphrasePackets(head, what);
  const cipherChain = await readChain(source, bodyAt, source.sizeBytes, what);
  const key = await sessionKey(head, passphrases, what);
  const plain = new CfbSource(source, cipherChain, key, what);
  const literalTag = (await readRange(plain, PREFIX_BYTES, 1))[0];
  if (literalTag !== 0xcb) throw damaged(what, 'its content is no literal packet');
  const literalChain = await readChain(plain, PREFIX_BYTES + 1, plain.sizeBytes - MDC_PACKET_BYTES, what);
  const literalHead = await readRange(new ChainSource(plain, literalChain, what), 0, 2);
  const headBytes = 2 + (literalHead[1] as number) + 4;
  return new ShiftedSource(new ChainSource(plain, literalChain, what), headBytes);
}

/** Finds the chunks of a packet body that starts with a length header at `start` and ends exactly at `end`. */
async function readChain(source: ByteSource, start: number, end: number, what: string): Promise<Chain> {
  const most = Math.floor((end - start) / (CHUNK_BYTES + 1));
  for (const chunks of most > 0 ? [most, most - 1] : [0]) {
    const tailStart = start + chunks * (CHUNK_BYTES + 1);
    const tail = parseTail(
      await readRange(source, tailStart, end - tailStart),
      chunks * CHUNK_BYTES,
      tailStart,
    );
    if (!tail) continue;
    const last = tail.at(-1);
    const bodyBytes = last ? last.bodyOffset + last.size : chunks * CHUNK_BYTES;
    return { start, chunks, tail, bodyBytes };
  }
  throw damaged(what, 'its chunks do not end where the file ends');
}

/** Pieces of the last part of a chain; undefined if they do not fill `bytes` exactly. */
function parseTail(bytes: Buffer, bodyOffset: number, offset: number): Chain['tail'] | undefined {
  const tail: Chain['tail'] = [];
  let at = 0;
  let body = bodyOffset;
  for (;;) {
    const first = bytes[at];
    if (first === undefined) return undefined;
    let size = first;
    let headBytes = 1;
    const isPartial = first >= 224 && first < 255;
    if (isPartial) size = 2 ** (first & 31);
    else if (first >= 192 && first < 224) {
      size = ((first - 192) << 8) + (bytes[at + 1] ?? 0) + 192;
      headBytes = 2;
    } else if (first === 255) {
      if (bytes.length < at + 5) return undefined;
      size = bytes.readUInt32BE(at + 1);
      headBytes = 5;
    }
    tail.push({ bodyOffset: body, offset: offset + at + headBytes, size });
    at += headBytes + size;
    body += size;
    if (!isPartial) return at === bytes.length ? tail : undefined;
    if (at > bytes.length) return undefined;
  }
}

/** The body of a chained packet, its headers taken out and checked. */
class ChainSource implements ByteSource {
  readonly sizeBytes: number;
  readonly #around: ByteSource;
  readonly #chain: Chain;
  readonly #what: string;

  constructor(around: ByteSource, chain: Chain, what: string) {
    this.sizeBytes = chain.bodyBytes;
    this.#around = around;
    this.#chain = chain;
    this.#what = what;
  }

  async *read(offsetBytes: number, lengthBytes: number): AsyncGenerator<Buffer> {
    if (lengthBytes === 0) return;
    const end = offsetBytes + lengthBytes;
    if (end > this.sizeBytes) throw damaged(this.#what, 'a range lies beyond its end');
    let body = offsetBytes;
    const from = this.#place(offsetBytes);
    let at = from;
    const stream = this.#around.read(from, this.#place(end - 1) + 1 - from);
    for await (const chunk of stream) {
      let used = 0;
      while (used < chunk.length) {
        const skip = this.#place(body) - at;
        if (skip > 0) {
          const count = Math.min(skip, chunk.length - used);
          this.#checkHeaders(chunk.subarray(used, used + count), body);
          used += count;
          at += count;
          continue;
        }
        const count = Math.min(chunk.length - used, this.#runBytes(body), end - body);
        yield chunk.subarray(used, used + count);
        used += count;
        at += count;
        body += count;
      }
    }
  }

  /** Where body byte `body` lies in the bytes around. */
  #place(body: number): number {
    const chunk = Math.floor(body / CHUNK_BYTES);
    if (chunk < this.#chain.chunks) return this.#chain.start + body + chunk + 1;
    const piece = this.#piece(body);
    return piece.offset + body - piece.bodyOffset;
  }

  /** Bytes from `body` to the end of its chunk. */
  #runBytes(body: number): number {
    const chunk = Math.floor(body / CHUNK_BYTES);
    if (chunk < this.#chain.chunks) return (chunk + 1) * CHUNK_BYTES - body;
    const piece = this.#piece(body);
    return piece.bodyOffset + piece.size - body;
  }

  #piece(body: number): Chain['tail'][number] {
    const piece = this.#chain.tail.find(
      (part) => body >= part.bodyOffset && body < part.bodyOffset + part.size,
    );
    if (!piece) throw damaged(this.#what, 'a range lies beyond its end');
    return piece;
  }

  /** A header between whole chunks must say 1 MiB; those of the tail were parsed at opening. */
  #checkHeaders(headers: Buffer, nextBody: number): void {
    const isBetweenChunks = Math.floor(nextBody / CHUNK_BYTES) < this.#chain.chunks;
    if (isBetweenChunks && headers.some((byte) => byte !== CHUNK_HEADER)) {
      throw damaged(this.#what, 'a chunk header is not as this program writes it');
    }
  }
}

/** Plaintext of the data packet: its body without the version octet, decrypted from any boundary. */
class CfbSource implements ByteSource {
  readonly sizeBytes: number;
  readonly #cipher: ChainSource;
  readonly #key: Buffer;

  constructor(source: ByteSource, chain: Chain, key: Buffer, what: string) {
    this.#cipher = new ChainSource(source, chain, what);
    this.sizeBytes = chain.bodyBytes - 1;
    this.#key = key;
    if (this.sizeBytes < PREFIX_BYTES + 2 + MDC_PACKET_BYTES) throw damaged(what, 'it is too short');
  }

  async *read(offsetBytes: number, lengthBytes: number): AsyncGenerator<Buffer> {
    const block = Math.floor(offsetBytes / AES_BLOCK_BYTES) * AES_BLOCK_BYTES;
    const vectorAt = block - AES_BLOCK_BYTES;
    const from = Math.max(0, vectorAt);
    let vector: Buffer | undefined = vectorAt < 0 ? Buffer.alloc(AES_BLOCK_BYTES) : undefined;
    let pending: Buffer = Buffer.alloc(0);
    let decipher: ReturnType<typeof createDecipheriv> | undefined;
    let skip = offsetBytes - block;
    for await (const piece of this.#cipher.read(1 + from, offsetBytes + lengthBytes - from)) {
      let chunk: Buffer = piece;
      if (!decipher) {
        pending = Buffer.concat([pending, chunk]);
        if (!vector && pending.length >= AES_BLOCK_BYTES) {
          vector = pending.subarray(0, AES_BLOCK_BYTES);
          pending = pending.subarray(AES_BLOCK_BYTES);
        }
        if (!vector) continue;
        decipher = createDecipheriv('aes-256-cfb', this.#key, vector);
        chunk = pending;
      }
      const plain = decipher.update(chunk);
      const used = Math.min(skip, plain.length);
      skip -= used;
      if (used < plain.length) yield plain.subarray(used);
    }
  }
}

class ShiftedSource implements ByteSource {
  readonly sizeBytes: number;
  readonly #source: ByteSource;
  readonly #shiftBytes: number;

  constructor(source: ByteSource, shiftBytes: number) {
    this.sizeBytes = source.sizeBytes - shiftBytes;
    this.#source = source;
    this.#shiftBytes = shiftBytes;
  }

  read(offsetBytes: number, lengthBytes: number): AsyncIterable<Buffer> {
    return this.#source.read(offsetBytes + this.#shiftBytes, lengthBytes);
  }
}

function damaged(what: string, why: string): PhdError {
  return new PhdError('ARCHIVE_DAMAGED', `${what}: the encrypted message is damaged: ${why}`);
}
