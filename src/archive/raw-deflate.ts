/**
 * Deflate and inflate (RFC 1951) of one block after the other into memory of the caller's. One state of zlib serves
 * all blocks of a thread: one for each block, as the documented calls of Node make it, costs 5 % of deflating and 13 %
 * of inflating, and the collections of its garbage come on top.
 */
import zlib from 'node:zlib';

export interface RawDeflate {
  /**
   * Deflates `block` (at least one byte) to the beginning of `target`, which has room for the block; bytes written, or
   * null if they would not be fewer than those of the block.
   */
  deflateInto(target: Buffer, block: Uint8Array, level: number): number | null;
  /**
   * Inflates `payload`, which must end where its deflate data ends, to the beginning of `target`; bytes written.
   * `target` has room for one byte more than are expected, so that data that is too long shows. Throws what zlib says.
   */
  inflateInto(target: Buffer, payload: Uint8Array): number;
}

const DEFLATE_OPTIONS = { memLevel: 9 };

/** By documented calls alone. */
export const documentedRawDeflate: RawDeflate = {
  deflateInto(target, block, level) {
    const deflated = zlib.deflateRawSync(block, { ...DEFLATE_OPTIONS, level });
    if (deflated.length >= block.length) return null;
    target.set(deflated);
    return deflated.length;
  },
  inflateInto(target, payload) {
    // `info` is documented by Node but missing in its types.
    const { buffer, engine } = zlib.inflateRawSync(payload, {
      info: true,
      chunkSize: Math.max(64, target.length),
      maxOutputLength: target.length,
    } as zlib.ZlibOptions) as unknown as { buffer: Buffer; engine: { bytesWritten: number } };
    if (engine.bytesWritten !== payload.length) throw new Error('bytes left over');
    target.set(buffer);
    return buffer.length;
  },
};

/** What Node's own synchronous calls use of a stream of zlib: not documented, so looked for and not assumed. */
interface ZlibState {
  /** Runs a whole block; the bytes written and the input left over. Throws what zlib says of damaged data. */
  run(input: Uint8Array, output: Uint8Array): { writtenBytes: number; leftBytes: number };
}

function stateOf(stream: zlib.DeflateRaw | zlib.InflateRaw): ZlibState | null {
  const { _handle: handle, _writeState: figures } = stream as unknown as {
    _handle?: {
      reset(): void;
      writeSync(
        flush: number,
        input: Uint8Array,
        inputAt: number,
        inputBytes: number,
        ...output: unknown[]
      ): void;
      onerror: (message: string) => void;
    };
    _writeState?: Uint32Array;
  };
  const isKnown =
    typeof handle?.writeSync === 'function' &&
    typeof handle.reset === 'function' &&
    figures instanceof Uint32Array &&
    figures.length === 2;
  if (!isKnown) return null;
  let failure: string | null = null;
  handle.onerror = (message) => {
    failure = message;
  };
  return {
    run(input, output) {
      failure = null;
      handle.reset();
      handle.writeSync(zlib.constants.Z_FINISH, input, 0, input.length, output, 0, output.length);
      if (failure !== null) throw new Error(failure);
      const [roomLeft = 0, leftBytes = 0] = figures;
      return { writtenBytes: output.length - roomLeft, leftBytes };
    },
  };
}

/** Keeps its states of zlib; null where this Node does not let it. */
export function reusingRawDeflate(): RawDeflate | null {
  const inflater = stateOf(zlib.createInflateRaw());
  const deflaters = new Map<number, ZlibState | null>();
  const deflaterOf = (level: number): ZlibState | null => {
    let state = deflaters.get(level);
    if (state === undefined) {
      state = stateOf(zlib.createDeflateRaw({ ...DEFLATE_OPTIONS, level }));
      deflaters.set(level, state);
    }
    return state;
  };
  if (!inflater) return null;
  return {
    deflateInto(target, block, level) {
      const deflater = deflaterOf(level);
      if (!deflater) return documentedRawDeflate.deflateInto(target, block, level);
      // An output that is full may be cut.
      const { writtenBytes } = deflater.run(block, target.subarray(0, block.length));
      return writtenBytes < block.length ? writtenBytes : null;
    },
    inflateInto(target, payload) {
      const { writtenBytes, leftBytes } = inflater.run(payload, target);
      if (leftBytes > 0) throw new Error('bytes left over');
      return writtenBytes;
    },
  };
}

export const rawDeflate: RawDeflate = reusingRawDeflate() ?? documentedRawDeflate;
