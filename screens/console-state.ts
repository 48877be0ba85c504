/** The state lines of the menus, read from the queue. */
import type { ConsoleState } from '../menus/state.ts';
import { lockText } from '../src/queue/gate.ts';
import type { Queue } from '../src/queue/queue.ts';

/** `isChanged` false: jobs.db is as it was, so only the daemon, which may die without a word, is asked after. */
export function readState(queue: Queue, before: ConsoleState, isChanged: boolean): ConsoleState {
  queue.requirePresent();
  const isRunning = queue.isDaemonRunning();
  const daemon = !isRunning ? 'not running' : queue.db.daemon()?.stopRequest ? 'stopping' : 'running';
  if (!isChanged && before.jobs !== null && before.jobs.running === 0) return { ...before, daemon };
  queue.settleInterrupted();
  const { waiting = 0, running = 0 } = queue.db.counts();
  const failed = queue.db.jobs({ states: ['failed', 'interrupted'] });
  return {
    ...before,
    daemon,
    jobs: { waiting, running, failedUnseen: failed.filter(({ isSeen }) => !isSeen).length },
    locks: queue.db.locks().map(lockText),
  };
}
