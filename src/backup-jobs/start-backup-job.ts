/** A run of a backup job in a process of its own, which goes on without whoever asked for it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fromErrno } from '../errors.ts';
import { MAIN_FILE } from '../queue/worker.ts';

/** Returns once the process lives; what it does shows in the queue and the log. Throws IO. */
export async function startBackupJob(
  name: string,
  mode: 'full' | 'delta',
  env: NodeJS.ProcessEnv,
): Promise<void> {
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
