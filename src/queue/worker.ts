/** Worker processes: each runs one attempt of one job and outlives whoever started it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Job } from '../model/job.ts';
import { ownIdentity } from './process-identity.ts';
import type { Queue } from './queue.ts';
import { NOT_STARTED_STATUS } from './run-job.ts';

/** The built entry of the program; workers and the daemon run from the build. */
export const MAIN_FILE = fileURLToPath(new URL('../main.js', import.meta.url));
const LOG_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW;

/** For what a process says: where that cannot be written (a volume that is full, or read-only) it is lost, and the process is not. */
export function openOutput(file: string, flags: string | number): number {
  try {
    return openSync(file, flags, 0o600);
  } catch {
    return openSync('/dev/null', 'w');
  }
}

/**
 * `phd job WORDS` in a session of its own: no terminal, no signal to anyone else's group reaches it; its output is the
 * log of job `id`.
 */
export function spawnDetached(
  queue: Queue,
  id: number,
  words: readonly string[],
  env: NodeJS.ProcessEnv,
): ChildProcess {
  const log = openOutput(queue.logFileOf(id), LOG_FLAGS);
  try {
    return spawn(process.execPath, [MAIN_FILE, 'job', ...words], {
      detached: true,
      cwd: '/',
      env,
      stdio: ['ignore', log, log],
    });
  } finally {
    closeSync(log);
  }
}

/**
 * Starts the worker of a waiting job, which claims it itself: nothing is lost if this process dies in between. `onGone`
 * is told how it went wrong, or null if another has the job or a lock holds it back.
 */
export function startWorker(
  queue: Queue,
  id: number,
  env: NodeJS.ProcessEnv,
  onGone: (how: string | null) => void,
): ChildProcess {
  const worker = spawnDetached(queue, id, ['run', String(id)], env);
  worker.once('error', (error) => onGone(`cannot be started: ${error.message}`));
  worker.once('exit', (status, signal) => {
    onGone(status === NOT_STARTED_STATUS ? null : `ended with ${signal ?? `status ${status}`}`);
  });
  return worker;
}

/**
 * Fails a job whose worker could not even claim it, so that it is not started again for ever. Returns the message, or
 * undefined if the worker had begun. `attempt` is the one before.
 */
export function failIfNeverBegun(
  queue: Queue,
  { id, attempt }: Pick<Job, 'id' | 'attempt'>,
  how: string,
): string | undefined {
  const { db } = queue;
  const now = db.job(id);
  if (now?.state !== 'waiting' || now.attempt !== attempt) return undefined;
  const claim = db.claim(id, ownIdentity(), queue.now());
  if ('refused' in claim) return undefined;
  const outcome = {
    state: 'failed',
    exitStatus: 1,
    errorCode: 'IO',
    errorMessage: `its process ${how} before it began: see ${queue.logFileOf(id)}`,
    warningCount: 0,
    result: null,
  } as const;
  db.finish(id, claim.job.attempt, outcome, queue.now());
  return outcome.errorMessage;
}
