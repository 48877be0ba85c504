/** Jobs as they are now, for a screen that shows them: reading never throws, a queue that went away is a line. */
import { fromErrno } from '../../src/errors.ts';
import type { Job } from '../../src/model/job.ts';
import type { Queue } from '../../src/queue/queue.ts';

/** Rates that are remembered for the sparkline. */
const RATES = 72;

export class JobWatch {
  readonly queue: Queue;
  /** In the order they were asked for; those that were removed are left out. */
  jobs: readonly Job[] = [];
  /** Why the figures are old; undefined while they are not. */
  fault: string | undefined;
  /** Bytes a second of the job under way, one for each look, the newest last. */
  rates: readonly number[] = [];
  readonly #ids: readonly number[];

  constructor(queue: Queue, ids: readonly number[]) {
    this.queue = queue;
    this.#ids = ids;
    this.look();
  }

  look(): void {
    try {
      this.queue.requirePresent();
      this.queue.settleInterrupted();
      this.jobs = this.#ids.flatMap((id) => this.queue.db.job(id) ?? []);
      this.fault = undefined;
    } catch (error) {
      this.fault = fromErrno(error, 'the queue cannot be read').message;
      return;
    }
    const rate = this.running?.progress?.bytesPerSecond;
    if (rate !== undefined) this.rates = [...this.rates, rate].slice(-RATES);
  }

  get running(): Job | undefined {
    return this.jobs.find(({ state }) => state === 'running');
  }

  get waiting(): readonly Job[] {
    return this.jobs.filter(({ state }) => state === 'waiting');
  }
}
