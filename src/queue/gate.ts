/** Locks over the queue: nothing new of a locked kind starts, whether a worker or a person wants it. */
import { locksOver, type QueueDb } from '../../db/queue-db.ts';
import { PhdError } from '../errors.ts';
import type { Places } from '../model/config.ts';
import type { JobKind, QueueLock } from '../model/job.ts';
import { inForeground } from './foreground.ts';
import { Queue } from './queue.ts';
import { submitterText } from './submitter.ts';

/** `restores are stopped by root on backup1 (pts/3) since 2026-11-20T09:12:00.000Z` */
export function lockText({ kind, by, at }: QueueLock): string {
  return `${kind}s are stopped by ${submitterText(by)} since ${at}`;
}

/** Why restores wait although a daemon runs and no lock is set. */
export const QUEUE_OFF = 'the restore queue is off (jobs.restoreQueue)';

/** Locks that hold this kind of work back; without a kind, all that are set. */
export function locksHolding(db: QueueDb, kind?: JobKind): QueueLock[] {
  return db.locks().filter((one) => kind === undefined || locksOver(kind).includes(one.kind));
}

/** Throws LOCKED, naming who, from where and since when, if a lock holds this kind of work back. */
export function requireUnlocked(db: QueueDb, kind: JobKind): void {
  const [lock] = locksHolding(db, kind);
  if (lock) throw new PhdError('LOCKED', `${lockText(lock)}: phd locks clear --${lock.kind} lifts it`);
}

/**
 * Runs `work` with a check that throws LOCKED once a lock holds this kind of work back; checks first of all, and can be
 * ended by a lock meanwhile (foreground.ts).
 */
export async function withGate<T>(
  places: Places,
  kind: JobKind,
  work: (check: () => void) => Promise<T>,
): Promise<T> {
  const queue = new Queue(places);
  try {
    requireUnlocked(queue.db, kind);
    return await inForeground(places, kind, () => work(() => requireUnlocked(queue.db, kind)));
  } finally {
    queue.close();
  }
}
