/** Why jobs wait, and what starts them. */
import { locksHolding, lockText, QUEUE_OFF } from '../../src/queue/gate.ts';
import type { JobWatch } from './job-watch.ts';

/** `isStuck`: they have waited longer than a start takes. `restoreQueue`: as jobs.restoreQueue says. */
export function whyWaiting(
  { queue, waiting, fault }: JobWatch,
  isStuck: boolean,
  restoreQueue: boolean,
): string {
  const [first] = waiting;
  if (first === undefined || fault !== undefined) return '';
  try {
    const [lock] = locksHolding(queue.db, first.kind);
    if (lock) return lockText(lock);
    if (!isStuck) return 'starting';
    if (first.kind === 'restore' && !restoreQueue) return `waits: ${QUEUE_OFF}, S starts it now`;
    return queue.isDaemonRunning() ? 'waits for other jobs' : 'waits: no daemon runs, S starts it now';
  } catch {
    // The queue itself is at fault, which the next look tells.
    return '';
  }
}
