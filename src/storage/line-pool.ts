/** Lines (connections) of one target: opened when needed, kept for a while, never more than allowed. */
import { setTimeout as delay } from 'node:timers/promises';
import { PhdError, throwIfAborted } from '../errors.ts';

export interface Line {
  /** False once it is dead or its state is unknown. */
  readonly usable: boolean;
  close(): void;
}

/** Thrown by `open` when the server has no room for one more line now (FTP 421). */
export class NoMoreLines extends Error {}

export interface LinePoolOptions<L extends Line> {
  open(): Promise<L>;
  maxLines: number;
  /** How long to wait for a server without room while no line of ours is open. */
  waitMs: number;
  /** Idle lines are closed after this time. */
  idleMs?: number;
}

export class LinePool<L extends Line> {
  readonly #options: LinePoolOptions<L>;
  readonly #idle: { line: L; timer: NodeJS.Timeout }[] = [];
  readonly #waiting: (() => void)[] = [];
  readonly #lines = new Set<L>();
  #opening = 0;
  #maxLines: number;
  #isClosed = false;

  constructor(options: LinePoolOptions<L>) {
    this.#options = options;
    this.#maxLines = options.maxLines;
  }

  /** All lines that are open, in use or not. */
  get lines(): Iterable<L> {
    return this.#lines;
  }

  /** Runs `work` on a line. A line that `work` leaves unusable is dropped. */
  async use<T>(work: (line: L, isReused: boolean) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const { line, isReused } = await this.acquire(signal);
    try {
      return await work(line, isReused);
    } finally {
      this.release(line);
    }
  }

  /** `fresh` opens a new line even if an idle one is there. */
  async acquire(signal?: AbortSignal, fresh = false): Promise<{ line: L; isReused: boolean }> {
    const begin = performance.now();
    let pauseMs = 100;
    for (;;) {
      throwIfAborted(signal);
      if (this.#isClosed) throw new PhdError('CANCELLED', 'the target was closed');
      const idle = this.#takeIdle();
      if (idle !== undefined && !fresh) return { line: idle, isReused: true };
      if (idle !== undefined) this.#drop(idle);
      if (this.#lines.size + this.#opening >= this.#maxLines) {
        await this.#untilReleased(signal);
        continue;
      }
      try {
        return { line: await this.#open(), isReused: false };
      } catch (error) {
        if (!(error instanceof NoMoreLines)) throw error;
        if (this.#lines.size > 0) {
          this.#maxLines = this.#lines.size;
          continue;
        }
        if (performance.now() - begin > this.#options.waitMs) {
          throw new PhdError('TARGET_UNREACHABLE', error.message, { cause: error });
        }
        await delay(pauseMs, undefined, signal ? { signal } : {}).catch(() => throwIfAborted(signal));
        pauseMs = Math.min(pauseMs * 2, 2000);
      }
    }
  }

  release(line: L): void {
    if (!this.#lines.has(line)) return;
    if (!line.usable || this.#isClosed) {
      this.#drop(line);
    } else {
      const timer = setTimeout(() => {
        const at = this.#idle.findIndex((one) => one.line === line);
        if (at >= 0) this.#idle.splice(at, 1);
        this.#drop(line);
      }, this.#options.idleMs ?? 30_000);
      timer.unref();
      this.#idle.push({ line, timer });
    }
    this.#waiting.shift()?.();
  }

  close(): void {
    this.#isClosed = true;
    for (const { timer } of this.#idle) clearTimeout(timer);
    this.#idle.length = 0;
    for (const line of [...this.#lines]) this.#drop(line);
    for (const wake of this.#waiting.splice(0)) wake();
  }

  async #open(): Promise<L> {
    this.#opening += 1;
    try {
      const line = await this.#options.open();
      this.#lines.add(line);
      return line;
    } finally {
      this.#opening -= 1;
      this.#waiting.shift()?.();
    }
  }

  #takeIdle(): L | undefined {
    for (;;) {
      const last = this.#idle.pop();
      if (last === undefined) return undefined;
      clearTimeout(last.timer);
      if (last.line.usable) return last.line;
      this.#drop(last.line);
    }
  }

  #drop(line: L): void {
    this.#lines.delete(line);
    line.close();
  }

  async #untilReleased(signal?: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = (): void => {
        const at = this.#waiting.indexOf(wake);
        if (at >= 0) this.#waiting.splice(at, 1);
        resolve();
      };
      this.#waiting.push(wake);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}
