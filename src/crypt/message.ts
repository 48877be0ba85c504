/**
 * OpenPGP messages as archives use them (FORMAT.md section 7): written and read as streams by OpenPGP.js,
 * in the one shape that gpg 2.2 opens (SEIPDv1, AES-256, no compression).
 */
import { ReadableStream } from 'node:stream/web';
import type * as Openpgp from 'openpgp';
import { PhdError } from '../errors.ts';
import { fromOpenpgp, HEAD_BYTES, loadOpenpgp, requirePassphrases, sessionKey } from './session-key.ts';

/** Every passphrase packet is this long, so `tail -c +49` reaches the second one. */
export const PASSPHRASE_PACKET_BYTES = 48;
/** Pieces fed to OpenPGP.js; it frames what it is fed, so the chunks of a message are known by arithmetic. */
export const CHUNK_BYTES = 1_048_576;
/** S2K count of 65,011,712: what gpg itself uses. */
const S2K_COUNT_BYTE = 255;

function configOf(openpgp: typeof Openpgp) {
  return {
    aeadProtect: false,
    preferredSymmetricAlgorithm: openpgp.enums.symmetric.aes256,
    preferredCompressionAlgorithm: openpgp.enums.compression.uncompressed,
    s2kIterationCountByte: S2K_COUNT_BYTE,
  };
}

/** Encrypts a stream for each passphrase in order (system first). Constant memory. */
export async function* encryptStream(
  source: AsyncIterable<Uint8Array>,
  passphrases: readonly string[],
): AsyncGenerator<Buffer> {
  if (passphrases.length === 0) {
    throw new PhdError('PASSPHRASE_MISSING', 'encryption is asked for, but no passphrase is configured');
  }
  const openpgp = await loadOpenpgp();
  const message = await openpgp.createMessage({ binary: streamOf(piecesOf(source)), date: new Date(0) });
  const encrypted = await openpgp.encrypt({
    message,
    passwords: [...passphrases],
    format: 'binary',
    date: new Date(0),
    config: configOf(openpgp),
  });
  for await (const chunk of encrypted as unknown as AsyncIterable<Uint8Array>) {
    yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  }
}

/**
 * Decrypts a message as a stream. Bytes are provisional: only a normal end proves them (MDC), so a caller keeps
 * them in a place of its own until then. Throws PASSPHRASE_WRONG, ARCHIVE_DAMAGED, FORMAT_UNSUPPORTED.
 */
export async function* decryptStream(
  source: AsyncIterable<Uint8Array>,
  passphrases: readonly string[],
  what: string,
): AsyncGenerator<Buffer> {
  requirePassphrases(passphrases, what);
  const openpgp = await loadOpenpgp();
  let sourceError: unknown;
  const guarded = async function* (): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of source) yield Uint8Array.from(chunk);
    } catch (error) {
      sourceError = error;
      throw error;
    }
  };
  try {
    const { head, rest } = await headOf(guarded());
    const key = await sessionKey(head, passphrases, what);
    const message = await openpgp.readMessage({ binaryMessage: streamOf(rest) });
    const decrypted = await openpgp.decrypt({
      message,
      sessionKeys: [{ data: Uint8Array.from(key), algorithm: 'aes256' }],
      format: 'binary',
      config: { allowUnauthenticatedStream: true, ...configOf(openpgp) },
    });
    for await (const chunk of decrypted.data as unknown as AsyncIterable<Uint8Array>) {
      yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    }
  } catch (error) {
    if (sourceError instanceof PhdError) throw sourceError;
    throw fromOpenpgp(error, what);
  }
}

/** The first bytes of a stream, and the whole of it again. */
async function headOf(
  source: AsyncGenerator<Uint8Array>,
): Promise<{ head: Buffer; rest: AsyncGenerator<Uint8Array> }> {
  const first: Uint8Array[] = [];
  let bytes = 0;
  while (bytes < HEAD_BYTES) {
    const next = await source.next();
    if (next.done) break;
    first.push(next.value);
    bytes += next.value.length;
  }
  const rest = async function* (): AsyncGenerator<Uint8Array> {
    yield* first;
    yield* source;
  };
  return { head: Buffer.concat(first).subarray(0, HEAD_BYTES), rest: rest() };
}

/** Cuts a stream into pieces of exactly CHUNK_BYTES; the last may be shorter. */
async function* piecesOf(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let piece = new Uint8Array(CHUNK_BYTES);
  let filled = 0;
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length; ) {
      const count = Math.min(chunk.length - at, CHUNK_BYTES - filled);
      piece.set(chunk.subarray(at, at + count), filled);
      filled += count;
      at += count;
      if (filled < CHUNK_BYTES) continue;
      yield piece;
      piece = new Uint8Array(CHUNK_BYTES);
      filled = 0;
    }
  }
  if (filled > 0) yield piece.subarray(0, filled);
}

/** A web stream that pulls from an iterable, closing it when cancelled. */
function streamOf(source: AsyncIterable<Uint8Array>): Openpgp.WebStream<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const next = await iterator.next();
        if (next.done) controller.close();
        else controller.enqueue(next.value);
      },
      async cancel() {
        await iterator.return?.();
      },
    },
    { highWaterMark: 1 },
  ) as unknown as Openpgp.WebStream<Uint8Array>;
}
