/** Bandwidth limit of one target, shared by all its lines. */
import { setTimeout as delay } from 'node:timers/promises';

export interface ThrottleTime {
  nowMs(): number;
  waitMs(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

const realTime: ThrottleTime = {
  nowMs: () => performance.now(),
  waitMs: async (milliseconds, signal) => {
    await delay(milliseconds, undefined, signal ? { signal } : {});
  },
};

/** Unused time is kept as credit for at most this long, so that a pause does not end in a burst. */
const CREDIT_MS = 100;

export class Throttle {
  readonly #bytesPerSecond: number | null;
  readonly #time: ThrottleTime;
  /** Moment up to which the bytes taken so far fill the line. */
  #paidUntilMs = 0;

  constructor(bytesPerSecond: number | null, time: ThrottleTime = realTime) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#time = time;
  }

  /** Waits until `bytes` more may pass. Rejects with AbortError if the signal fires. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    if (this.#bytesPerSecond === null) return;
    const now = this.#time.nowMs();
    const from = Math.max(this.#paidUntilMs, now - CREDIT_MS);
    this.#paidUntilMs = from + (bytes * 1000) / this.#bytesPerSecond;
    const waitMs = this.#paidUntilMs - now;
    if (waitMs > 1) await this.#time.waitMs(waitMs, signal);
  }
}
