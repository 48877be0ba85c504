/** The state lines of the menus, read from the queue. */
import type { ConsoleState } from '../menus/state.ts';
import { lockText } from '../src/queue/gate.ts';
import type { Queue } from '../src/queue/queue.ts';

/** A few small queries; running jobs whose process is gone are settled on the way. */
export function readState(queue: Queue, before: ConsoleState): ConsoleState {
  queue.requirePresent();
  const isRunning = queue.isDaemonRunning();
  queue.settleInterrupted();
  const { waiting = 0, running = 0 } = queue.db.counts();
  return {
    ...before,
    daemon: !isRunning ? 'not running' : queue.db.daemon()?.stopRequest ? 'stopping' : 'running',
    jobs: { waiting, running, failedUnseen: queue.db.unseenFailures() },
    locks: queue.db.locks().map(lockText),
    fault: null,
  };
}
