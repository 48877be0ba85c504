/** One restore to a place of a host at a time: a second would take what the first has begun for left over. */
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { ExclusiveLock } from '../../db/exclusive-lock.ts';
import { fromErrno, PhdError } from '../errors.ts';

/** The kernel frees it with this process. Throws LOCKED if another process of this home has the place, IO. */
export function claimHostPlace(stateDir: string, place: string): ExclusiveLock {
  const folder = path.join(stateDir, 'runs');
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw fromErrno(error, `cannot make ${folder}`);
  }
  // Names of hosts and VMs may be no names of files.
  const digest = createHash('sha256').update(place).digest('hex').slice(0, 32);
  const lock = ExclusiveLock.tryTake(path.join(folder, `host-${digest}.lock`));
  if (lock !== undefined) return lock;
  throw new PhdError('LOCKED', `another restore to ${place} is running: wait for its end`);
}
