/** Starts a pass in a process of its own, which outlives who started it; what it says goes to a log of its own. */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import path from 'node:path';
import { ExclusiveLock } from '../../db/exclusive-lock.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { Queue } from '../queue/queue.ts';
import { MAIN_FILE } from '../queue/worker.ts';
import { passLockFile } from './pass.ts';

export interface StartedPass {
  /** What it says, line by line. */
  logFile: string;
  /** Its exit status, once it has ended while this process lives. */
  ended(): number | undefined;
  end: Promise<number>;
}

/** `words` as `phd replicate run` takes them; the signal ends it. Throws LOCKED, IO. */
export async function startPass(
  queue: Queue,
  env: NodeJS.ProcessEnv,
  words: readonly string[],
  signal?: AbortSignal,
): Promise<StartedPass> {
  const isDry = words.includes('--dry-run');
  // The log of the pass that runs must not be begun anew.
  if (!isDry && ExclusiveLock.isHeld(passLockFile(queue)))
    throw new PhdError('LOCKED', 'a replication pass runs already: see phd jobs list');
  const name = isDry ? 'replication-dry-run.log' : 'replication-pass.log';
  const logFile = path.join(queue.places.logDir, name);
  let log: number;
  try {
    log = openSync(logFile, 'w', 0o600);
  } catch (error) {
    throw fromErrno(error, `cannot write ${logFile}`);
  }
  const child = spawn(process.execPath, [MAIN_FILE, 'replicate', 'run', ...words], {
    detached: true,
    cwd: '/',
    env,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  signal?.addEventListener('abort', () => child.kill('SIGTERM'), { once: true });
  let status: number | undefined;
  const end = new Promise<number>((resolve, reject) => {
    child.once('error', (error) => reject(fromErrno(error, 'a pass cannot be started')));
    child.once('exit', (code) => {
      status = code ?? 1;
      resolve(status);
    });
  });
  // Who only watches the log does not wait for the end.
  end.catch(() => undefined);
  child.unref();
  return { logFile, ended: () => status, end };
}
