/** What the list of jobs does to many of them at once. */
import { formatCount } from '../../src/engine/display-text.ts';
import { PhdError } from '../../src/errors.ts';
import type { Job } from '../../src/model/job.ts';
import type { Queue } from '../../src/queue/queue.ts';
import type { Desk } from '../desk.ts';
import { hasFailed, mayBeRetried } from './job-figures.ts';

export async function deleteEnded(desk: Desk, queue: Queue): Promise<void> {
  const { waiting = 0, running = 0, ...others } = queue.db.counts();
  const ended = Object.values(others).reduce((sum, count) => sum + count, 0);
  if (ended === 0) return desk.dialogue.notice('No job has ended.');
  const isSure = await desk.dialogue.confirm({
    title: 'Delete',
    lines: [`${formatCount(ended, 'job')} that ended, with their logs. Disks and archives stay.`],
    question: 'Delete them?',
    isDestructive: true,
  });
  if (isSure) desk.dialogue.notice(`${formatCount(queue.purge().length, 'job')} deleted.`);
}

export async function removePending(desk: Desk, queue: Queue): Promise<void> {
  const { waiting = 0 } = queue.db.counts();
  if (waiting === 0) return desk.dialogue.notice('No job waits.');
  const isSure = await desk.dialogue.confirm({
    title: 'Remove pending',
    lines: [`${formatCount(waiting, 'job')} that wait${waiting === 1 ? 's' : ''}. What runs goes on.`],
    question: 'Remove them?',
    isDestructive: true,
  });
  if (isSure) desk.dialogue.notice(`${formatCount(queue.removePending().length, 'job')} removed.`);
}

/** Of the jobs queued together with this one, those that failed; of a job queued alone, itself. */
export async function retryGroup(desk: Desk, queue: Queue, row: Job): Promise<void> {
  const group = row.groupId === null ? [row] : queue.db.jobs({ groupId: row.groupId });
  const failed = group.filter(row.groupId === null ? mayBeRetried : hasFailed);
  if (failed.length === 0) return desk.dialogue.notice('None of them failed.');
  const isSure = await desk.dialogue.confirm({
    title: 'Retry',
    lines: [`${formatCount(failed.length, 'job')} will be tried again; a restore goes on where it was.`],
    question: 'Retry?',
  });
  if (!isSure) return;
  for (const { id } of failed.reverse()) queue.retry(id);
  await startUnlessDaemon(desk, queue, failed);
}

/** The daemon takes what waits; without one these jobs start by themselves. */
export async function startUnlessDaemon(desk: Desk, queue: Queue, jobs: readonly Job[]): Promise<void> {
  if (queue.isDaemonRunning()) return desk.dialogue.notice('The daemon starts it in its turn.');
  const { startNow } = await import('../../src/queue/start-now.ts');
  const ids = jobs.map(({ id }) => id);
  await startNow(queue, ids, desk.env);
  desk.dialogue.notice(`${formatCount(ids.length, 'job')} started.`);
}

export async function startWaiting(desk: Desk, queue: Queue, { id }: Job): Promise<void> {
  if (queue.job(id).state !== 'waiting') return desk.dialogue.notice(`Job ${id} does not wait.`);
  const { lockText, locksHolding } = await import('../../src/queue/gate.ts');
  const [lock] = locksHolding(queue.db, queue.job(id).kind);
  if (lock) throw new PhdError('LOCKED', `${lockText(lock)}: L Locks clears it.`);
  const { startNow } = await import('../../src/queue/start-now.ts');
  await startNow(queue, [id], desk.env);
  desk.dialogue.notice(`Job ${id} starts now.`);
}
