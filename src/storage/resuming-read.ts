/** Reads of a range that go on where they were when the line is lost. */
import type { Readable } from 'node:stream';
import { PhdError, throwIfAborted } from '../errors.ts';
import { shownPath } from './remote-path.ts';
import type { Throttle } from './throttle.ts';

/** Lost lines in a row, without real progress in between, that end a read. */
const MAX_ATTEMPTS = 4;
/** Less than this between two lost lines is no progress: a server that drips would else be asked for ever. */
const PROGRESS_BYTES = 64 * 1024;

export interface ResumingReadOptions {
  path: string;
  offsetBytes: number;
  lengthBytes: number;
  throttle: Throttle;
  signal: AbortSignal | undefined;
  /** Opens the rest of the range on a line; may end early, then it is asked again for what is left. */
  open(offsetBytes: number, lengthBytes: number): AsyncIterable<Buffer>;
}

/** Exactly `lengthBytes` bytes from `offsetBytes`, or a failure: ARCHIVE_DAMAGED never, TARGET_LIED if cut. */
export async function* resumingRead(options: ResumingReadOptions): AsyncGenerator<Buffer> {
  let offset = options.offsetBytes;
  let left = options.lengthBytes;
  let fruitless = 0;
  while (left > 0) {
    throwIfAborted(options.signal);
    const before = left;
    let failure: unknown;
    try {
      for await (const chunk of options.open(offset, left)) {
        throwIfAborted(options.signal);
        const wanted = chunk.length > left ? chunk.subarray(0, left) : chunk;
        await options.throttle
          .take(wanted.length, options.signal)
          .catch(() => throwIfAborted(options.signal));
        offset += wanted.length;
        left -= wanted.length;
        yield wanted;
        if (left === 0) return;
      }
    } catch (error) {
      if (!(error instanceof PhdError && error.retryable)) throw error;
      failure = error;
    }
    fruitless = before - left >= PROGRESS_BYTES ? 0 : fruitless + 1;
    if (fruitless < MAX_ATTEMPTS) continue;
    if (failure !== undefined) throw failure;
    const end = `ended at byte ${offset}, ${left} bytes too early`;
    throw new PhdError('TARGET_LIED', `${shownPath(options.path)}: the target's answer ${end}`);
  }
}

/**
 * Chunks of a stream; only time spent waiting for the other side counts towards `timeoutMs`, so that a slow
 * caller never looks like a dead line. `lost` fires with an error when the line dies without the stream being
 * told. Fails with TARGET_UNREACHABLE.
 */
export async function* chunksWithin(
  stream: Readable,
  timeoutMs: number,
  what: string,
  lost?: AbortSignal,
): AsyncGenerator<Buffer> {
  const state: { error: Error | undefined; ended: boolean; wake: (() => void) | undefined } = {
    error: undefined,
    ended: false,
    wake: undefined,
  };
  const wake = (): void => state.wake?.();
  const onError = (error: Error): void => {
    state.error = error;
    wake();
  };
  const onEnd = (): void => {
    state.ended = true;
    wake();
  };
  const onLost = (): void => onError(lost?.reason as Error);
  lost?.addEventListener('abort', onLost, { once: true });
  stream.on('readable', wake).on('end', onEnd).on('close', onEnd).on('error', onError);
  try {
    for (;;) {
      const chunk = stream.read() as Buffer | null;
      if (chunk !== null) {
        yield chunk;
        continue;
      }
      if (state.error !== undefined) {
        const words = state.error.message;
        throw new PhdError('TARGET_UNREACHABLE', `${what}: ${words}`, { cause: state.error });
      }
      if (lost?.aborted) {
        const words = (lost.reason as Error).message;
        throw new PhdError('TARGET_UNREACHABLE', `${what}: ${words}`, { cause: lost.reason });
      }
      if (state.ended || stream.readableEnded || stream.destroyed) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(() => onError(new Error(`no byte within ${timeoutMs} ms`)), timeoutMs);
        state.wake = () => {
          clearTimeout(timer);
          state.wake = undefined;
          resolve();
        };
      });
    }
  } finally {
    lost?.removeEventListener('abort', onLost);
    stream.off('readable', wake).off('end', onEnd).off('close', onEnd).off('error', onError);
  }
}
