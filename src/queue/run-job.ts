/** One attempt of one job, in a process of its own: claims it, works, writes how far it is and how it ended. */
import type { OperationHooks } from '../engine/backup.ts';
import { escapeText, formatBytes } from '../engine/display-text.ts';
import type { ProgressEvent } from '../engine/progress.ts';
import { exitStatusOf, fromErrno, PhdError } from '../errors.ts';
import type { Job, JobOutcome } from '../model/job.ts';
import { lockText } from './gate.ts';
import { ownIdentity } from './process-identity.ts';
import type { Queue } from './queue.ts';

/** Progress is written no oftener. */
const WRITE_EVERY_MS = 500;
/** A line in the job's log that tells how far it is comes no oftener. */
const LOG_EVERY_MS = 30_000;
/** Status of a worker that was given no job: another has it, or a lock holds it back. */
export const NOT_STARTED_STATUS = 5;

export interface OperationEnd {
  /** Figures to keep; as JSON. */
  result: unknown;
  /** Parts that failed; none if all was done. */
  failures: PhdError[];
}

/** What a job asks for, done. */
export type Operation = (job: Job, hooks: OperationHooks) => Promise<OperationEnd>;

export interface WorkerOptions {
  /** Given when the job is to be cancelled. */
  signal: AbortSignal;
  /** One line of the job's log, time excluded. */
  print: (line: string) => void;
  nowMs?: () => number;
}

/** Runs one attempt of a waiting job; returns the exit status of its process. Throws what jobs.db throws. */
export async function runJob(
  queue: Queue,
  id: number,
  operation: Operation,
  options: WorkerOptions,
): Promise<number> {
  const print = (text: string): void => options.print(`${queue.now()} ${escapeText(text)}`);
  const claim = queue.db.claim(id, ownIdentity(), queue.now());
  if ('refused' in claim) {
    print(`job ${id} is not started: ${claim.refused === 'locked' ? lockText(claim.lock) : claim.refused}`);
    return NOT_STARTED_STATUS;
  }
  const { job } = claim;
  print(`job ${id}, attempt ${job.attempt}: ${job.kind} ${job.title}`);
  const record = new AttemptRecord(queue, job, print, options.nowMs ?? (() => performance.now()));
  const hooks = {
    signal: AbortSignal.any([options.signal, record.lost]),
    onProgress: (event: ProgressEvent) => record.progress(event),
    onWarning: (message: string) => record.warning(message),
  };
  let outcome: JobOutcome;
  try {
    outcome = outcomeOf(await operation(job, hooks), record.warningCount);
  } catch (error) {
    outcome = failureOf([toPhdError(error, options.signal)], record.warningCount, null);
  }
  record.flush();
  print(outcome.errorMessage === null ? outcome.state : `${outcome.state}: ${outcome.errorMessage}`);
  if (queue.db.finish(id, job.attempt, outcome, queue.now())) return outcome.exitStatus;
  print(`attempt ${job.attempt} is no longer the one of job ${id}: what it says does not count`);
  return NOT_STARTED_STATUS;
}

function outcomeOf({ result, failures }: OperationEnd, warningCount: number): JobOutcome {
  const text = JSON.stringify(result) ?? null;
  if (failures.length > 0) return failureOf(failures, warningCount, text);
  return {
    state: warningCount > 0 ? 'done with warnings' : 'done',
    exitStatus: 0,
    errorCode: null,
    errorMessage: null,
    warningCount,
    result: text,
  };
}

function failureOf(failures: readonly PhdError[], warningCount: number, result: string | null): JobOutcome {
  const exitStatus = exitStatusOf(failures.map(({ code }) => code));
  const worst = failures.find((one) => one.exitStatus === exitStatus) as PhdError;
  const others = failures.length > 1 ? ` (and ${failures.length - 1} more, see its log)` : '';
  return {
    state: worst.code === 'CANCELLED' ? 'cancelled' : 'failed',
    exitStatus,
    errorCode: worst.code,
    errorMessage: `${worst.message}${others}`,
    warningCount,
    result,
  };
}

function toPhdError(error: unknown, signal: AbortSignal): PhdError {
  if (signal.aborted) return new PhdError('CANCELLED', 'cancelled', { cause: error });
  return fromErrno(error, 'fault in the program');
}

/** Keeps jobs.db and the log up to date while an attempt runs. */
class AttemptRecord {
  warningCount = 0;
  readonly #queue: Queue;
  readonly #job: Job;
  readonly #print: (text: string) => void;
  readonly #nowMs: () => number;
  readonly #lost = new AbortController();
  #latest: ProgressEvent | undefined;
  #writtenMs = Number.NEGATIVE_INFINITY;
  #loggedMs = Number.NEGATIVE_INFINITY;
  #loggedWork = '';
  #lastFault = '';

  constructor(queue: Queue, job: Job, print: (text: string) => void, nowMs: () => number) {
    this.#queue = queue;
    this.#job = job;
    this.#print = print;
    this.#nowMs = nowMs;
  }

  /** Given when the attempt is no longer the job's: then nothing of it may go on. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  progress(event: ProgressEvent): void {
    this.#latest = event;
    const nowMs = this.#nowMs();
    if (nowMs - this.#writtenMs >= WRITE_EVERY_MS) this.#write(nowMs);
    const work = `${event.phase} ${event.label}`;
    if (work === this.#loggedWork && nowMs - this.#loggedMs < LOG_EVERY_MS) return;
    this.#loggedWork = work;
    this.#loggedMs = nowMs;
    this.#print(
      `${work}: ${event.percent.toFixed(0)} %, ${formatBytes(event.bytes)} of ${formatBytes(event.totalBytes)}, ${formatBytes(Math.round(event.bytesPerSecond))}/s`,
    );
  }

  warning(message: string): void {
    this.warningCount++;
    this.#print(`warning: ${message}`);
  }

  /** Writes the last figures, however fresh the ones before are. */
  flush(): void {
    this.#write(this.#nowMs());
  }

  /** Figures that cannot be written are no reason to give up a restore; an attempt that was lost is. */
  #write(nowMs: number): void {
    if (this.#latest === undefined) return;
    this.#writtenMs = nowMs;
    const { event: _, ...figures } = this.#latest;
    try {
      const isOurs = this.#queue.db.writeProgress(
        this.#job.id,
        this.#job.attempt,
        figures,
        this.warningCount,
      );
      if (!isOurs) this.#lost.abort();
    } catch (error) {
      const { message } = fromErrno(error, 'cannot write the progress');
      if (message !== this.#lastFault) this.#print(message);
      this.#lastFault = message;
    }
  }
}
