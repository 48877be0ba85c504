/** Why jobs wait, and what starts them. */
import { locksHolding, lockText } from '../../src/queue/gate.ts';
import type { JobWatch } from './job-watch.ts';

/** `isStuck`: they have waited longer than a start takes. */
export function whyWaiting({ queue, waiting, fault }: JobWatch, isStuck: boolean): string {
  const [first] = waiting;
  if (first === undefined || fault !== undefined) return '';
  try {
    const [lock] = locksHolding(queue.db, first.kind);
    if (lock) return lockText(lock);
    if (!isStuck) return 'starting';
    return queue.isDaemonRunning() ? 'waits for other jobs' : 'waits: no daemon runs, S starts it now';
  } catch {
    // The queue itself is at fault, which the next look tells.
    return '';
  }
}
