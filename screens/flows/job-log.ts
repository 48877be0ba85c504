/** The log of one job: read here as it grows, or in the person's own pager. */
import type { Desk } from '../desk.ts';
import { FileTail } from '../file-tail.ts';
import { runOverFile } from './lent-program.ts';

const LOOK_EVERY_MS = 1_000;

/** Follows while the job is not over. */
export async function jobLog(desk: Desk, id: number): Promise<void> {
  const queue = await desk.queue();
  const tail = new FileTail(queue.logFileOf(id));
  await desk.dialogue.read({
    title: `Log of job ${id}`,
    lines: () => tail.lines(),
    refreshMs: LOOK_EVERY_MS,
    isFollowing: true,
  });
}

/** The same in $PAGER, which gets the terminal until it ends. */
export async function jobLogInPager(desk: Desk, id: number): Promise<void> {
  const file = (await desk.queue()).logFileOf(id);
  const pager = desk.env.PAGER || 'less';
  const failure = await runOverFile(desk, pager, file);
  if (failure !== undefined) await desk.dialogue.tell('Pager', [`${failure}: set PAGER`]);
}
