/** Progress of one long operation: figures as events, a few a second, remaining time only when there is one. */

export interface ProgressEvent {
  event: 'progress';
  /** What is being worked on: a disk, an archive, a target. */
  label: string;
  phase: string;
  bytes: number;
  /** 0 while there are bytes: how many there will be is not known. */
  totalBytes: number;
  /** 0 .. 100; 0 while the total is not known. */
  percent: number;
  /** Over the last seconds. */
  bytesPerSecond: number;
  meanBytesPerSecond: number;
  elapsedSeconds: number;
  /** Null until it can be told. */
  remainingSeconds: number | null;
  /** 0 .. 100 of what comes from the FULL and from the DELTA; null if nothing does, left out where both are not read. */
  fullPercent?: number | null;
  deltaPercent?: number | null;
}

/** Which of the two archives of a restore bytes came from. */
export type BytesFrom = 'full' | 'delta';

export type OnProgress = (event: ProgressEvent) => void;

const EMIT_EVERY_MS = 250;
/** Span over which the present rate is taken, */
const WINDOW_MS = 5000;
/** longer on slow lines, where bytes are counted in lumps: until it holds so many, */
const WINDOW_BYTES = 16 * 1024 * 1024;
/** and never longer than this. */
const LONGEST_WINDOW_MS = 30_000;
/** No estimate before this: the first figures are far off. */
const SETTLE_MS = 1500;

export class Progress {
  readonly #onProgress: OnProgress | undefined;
  readonly #label: string;
  readonly #phase: string;
  readonly #totalBytes: number;
  readonly #nowMs: () => number;
  readonly #startMs: number;
  readonly #parts: Record<BytesFrom, { bytes: number; totalBytes: number }> | undefined;
  #samples: { atMs: number; bytes: number }[];
  #bytes = 0;
  #emittedMs: number;

  constructor(
    onProgress: OnProgress | undefined,
    about: { label: string; phase: string; totalBytes: number; fullBytes?: number },
    nowMs: () => number = () => performance.now(),
  ) {
    this.#onProgress = onProgress;
    this.#label = about.label;
    this.#phase = about.phase;
    this.#totalBytes = about.totalBytes;
    const { fullBytes } = about;
    if (fullBytes !== undefined) {
      const delta = { bytes: 0, totalBytes: about.totalBytes - fullBytes };
      this.#parts = { full: { bytes: 0, totalBytes: fullBytes }, delta };
    }
    this.#nowMs = nowMs;
    this.#startMs = nowMs();
    this.#emittedMs = this.#startMs;
    this.#samples = [{ atMs: this.#startMs, bytes: 0 }];
  }

  /** Counts bytes that are through. */
  add(bytes: number, from: BytesFrom = 'full'): void {
    this.#bytes += bytes;
    if (this.#parts) this.#parts[from].bytes += bytes;
    const nowMs = this.#nowMs();
    if (nowMs - this.#emittedMs < EMIT_EVERY_MS) return;
    this.#emittedMs = nowMs;
    this.#samples.push({ atMs: nowMs, bytes: this.#bytes });
    while (this.#samples.length > 2 && this.#isOld(nowMs)) this.#samples.shift();
    this.#emit(nowMs, false);
  }

  /** The last figures; always sent. */
  finish(): void {
    this.#emit(this.#nowMs(), true);
  }

  get bytes(): number {
    return this.#bytes;
  }

  get elapsedSeconds(): number {
    return (this.#nowMs() - this.#startMs) / 1000;
  }

  /** Whether the window is wide enough without its first sample. */
  #isOld(nowMs: number): boolean {
    const [first, second] = this.#samples as [{ atMs: number }, { atMs: number; bytes: number }];
    const isWide = this.#bytes - second.bytes >= WINDOW_BYTES || nowMs - second.atMs > LONGEST_WINDOW_MS;
    return nowMs - first.atMs > WINDOW_MS && isWide;
  }

  #emit(nowMs: number, isEnd: boolean): void {
    if (!this.#onProgress) return;
    const elapsedMs = nowMs - this.#startMs;
    const first = this.#samples[0]!;
    const windowMs = nowMs - first.atMs;
    const rate = windowMs > 0 ? ((this.#bytes - first.bytes) * 1000) / windowMs : 0;
    const left = Math.max(0, this.#totalBytes - this.#bytes);
    const hasTotal = this.#totalBytes > 0 || this.#bytes === 0;
    const isKnown = elapsedMs > SETTLE_MS && rate > 0;
    this.#onProgress({
      event: 'progress',
      label: this.#label,
      phase: this.#phase,
      bytes: this.#bytes,
      totalBytes: this.#totalBytes,
      percent: this.#percent(isEnd),
      bytesPerSecond: rate,
      meanBytesPerSecond: elapsedMs > 0 ? (this.#bytes * 1000) / elapsedMs : 0,
      elapsedSeconds: elapsedMs / 1000,
      remainingSeconds: left === 0 && (hasTotal || isEnd) ? 0 : isKnown && hasTotal ? left / rate : null,
      ...(this.#parts && {
        fullPercent: percentOf(this.#parts.full),
        deltaPercent: percentOf(this.#parts.delta),
      }),
    });
  }

  #percent(isEnd: boolean): number {
    if (this.#totalBytes > 0) return Math.min(100, (100 * this.#bytes) / this.#totalBytes);
    return this.#bytes > 0 && !isEnd ? 0 : 100;
  }
}

function percentOf({ bytes, totalBytes }: { bytes: number; totalBytes: number }): number | null {
  return totalBytes === 0 ? null : Math.min(100, (100 * bytes) / totalBytes);
}
