/**
 * Jobs that a person waits for: they start at once, whether or not a daemon runs, one after the other, and they go on
 * without whoever asked for them. The runner between them is a process of its own for the same reason.
 */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fromErrno } from '../errors.ts';
import type { Job } from '../model/job.ts';
import type { Queue } from './queue.ts';
import { goalOf } from './request.ts';
import { failIfNeverBegun, spawnDetached, startWorker } from './worker.ts';

const LOOK_EVERY_MS = 500;

/**
 * Starts these waiting jobs now, in this order, one at a time; returns once their runner lives. What it has not begun
 * when it dies keeps waiting and can be started again, here or by a daemon. Throws IO.
 */
export async function startNow(queue: Queue, ids: readonly number[], env: NodeJS.ProcessEnv): Promise<void> {
  const [first] = ids;
  if (first === undefined) return;
  const runner = spawnDetached(queue, first, ['run-in-turn', ...ids.map(String)], env);
  try {
    await once(runner, 'spawn');
  } catch (error) {
    throw fromErrno(error, `cannot start job ${first}`);
  }
  runner.unref();
}

/**
 * The runner: starts a worker for each job as soon as the one before has ended. A daemon may be faster with one of
 * them; then its end is waited for. Ends early when a lock keeps the next one from starting, and by the signal, which
 * leaves the job under way alone.
 */
export async function runInTurn(
  queue: Queue,
  ids: readonly number[],
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
  print: (line: string) => void,
): Promise<void> {
  try {
    for (const id of ids) {
      const job = await whenItMayStart(queue, id, signal);
      if (job === undefined) continue;
      const how = await workerEnd(queue, id, env, signal);
      const fault = how === null ? undefined : failIfNeverBegun(queue, job, how);
      if (fault !== undefined) print(`${queue.now()} ${fault}`);
      queue.settleInterrupted();
      await whileRunning(queue, id, signal);
      const now = queue.db.job(id);
      if (now?.state === 'waiting' && now.attempt === job.attempt) return;
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** How the worker of this job ended (startWorker). Throws when the signal is given. */
function workerEnd(
  queue: Queue,
  id: number,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<string | null> {
  return new Promise((resolve, reject) => {
    const leave = (): void => {
      worker.unref();
      reject(signal.reason);
    };
    const worker = startWorker(queue, id, env, (how) => {
      signal.removeEventListener('abort', leave);
      resolve(how);
    });
    signal.addEventListener('abort', leave);
  });
}

/** The job once no other that runs writes what it writes; undefined if it waits no more. */
async function whenItMayStart(queue: Queue, id: number, signal: AbortSignal): Promise<Job | undefined> {
  signal.throwIfAborted();
  for (;;) {
    const job = queue.db.job(id);
    if (job?.state === 'running') await whileRunning(queue, id, signal);
    if (job?.state !== 'waiting') return undefined;
    const goal = goalOf(job);
    queue.settleInterrupted();
    const running = queue.db.jobs({ states: ['running'] });
    if (goal === null || running.every((other) => goalOf(other) !== goal)) return job;
    await delay(LOOK_EVERY_MS, undefined, { signal });
  }
}

async function whileRunning(queue: Queue, id: number, signal: AbortSignal): Promise<void> {
  while (queue.db.job(id)?.state === 'running') {
    await delay(LOOK_EVERY_MS, undefined, { signal });
    queue.settleInterrupted();
  }
}
