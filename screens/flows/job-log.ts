/** The log of one job: read here as it grows, or in the person's own pager. */
import type { Desk } from '../desk.ts';
import { FileTail } from '../file-tail.ts';

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
  const { spawn } = await import('node:child_process');
  const { PAGER = 'less' } = desk.env;
  const failure = await desk.dialogue.lend(
    () =>
      new Promise<string | undefined>((resolve) => {
        // PAGER may hold words; the shell splits them, the file is no part of the script.
        const pager = spawn('sh', ['-c', `${PAGER || 'less'} "$1"`, 'sh', file], {
          stdio: 'inherit',
          env: desk.env,
        });
        pager.once('error', (error) => resolve(error.message));
        pager.once('exit', (status) =>
          resolve(status === 126 || status === 127 ? `there is no program ${PAGER}: set PAGER` : undefined),
        );
      }),
  );
  if (failure !== undefined) await desk.dialogue.tell('Pager', [failure]);
}
