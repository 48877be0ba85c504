/** A run of a backup job in a process of its own, which goes on without whoever asked for it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { ExclusiveLock } from '../../db/exclusive-lock.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { requireUnlocked } from '../queue/gate.ts';
import type { Queue } from '../queue/queue.ts';
import { MAIN_FILE } from '../queue/worker.ts';
import { jobLockFile } from './run-record.ts';

/**
 * Returns once the process lives; what it does shows in the queue and the log. Throws LOCKED (it runs already, or backups are
 * locked), IO.
 */
export async function startBackupJob(
  queue: Queue,
  name: string,
  mode: 'full' | 'delta',
  env: NodeJS.ProcessEnv,
): Promise<void> {
  requireUnlocked(queue.db, 'backup');
  if (ExclusiveLock.isHeld(jobLockFile(queue.places, name)))
    throw new PhdError('LOCKED', `backup job ${name} runs already: wait for its end`);
  const words = ['backup', '--job', name, ...(mode === 'full' ? ['--full'] : [])];
  const child = spawn(process.execPath, [MAIN_FILE, ...words], {
    detached: true,
    cwd: '/',
    env,
    stdio: 'ignore',
  });
  try {
    await once(child, 'spawn');
  } catch (error) {
    throw fromErrno(error, `cannot start backup job ${name}`);
  }
  child.unref();
}
