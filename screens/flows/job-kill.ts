/** Ends jobs for good; what does not end is told. */
import { fromErrno } from '../../src/errors.ts';
import type { Desk } from '../desk.ts';

export async function killJobs(desk: Desk, ids: readonly number[]): Promise<void> {
  const queue = await desk.queue();
  const faults: string[] = [];
  // Those that wait first, so that none starts while another is ended.
  const order = [...ids].sort(
    (a, b) => Number(queue.db.job(a)?.state === 'running') - Number(queue.db.job(b)?.state === 'running'),
  );
  await desk.dialogue.busy('Ending jobs', async (signal, say) => {
    for (const id of order) {
      if (signal.aborted) return;
      say(`job ${id} is given time to stop in order`);
      const job = queue.db.job(id);
      if (job === undefined || !['waiting', 'running'].includes(job.state)) continue;
      try {
        await queue.kill(id);
      } catch (error) {
        faults.push(fromErrno(error, `cannot end job ${id}`).message);
      }
    }
  });
  if (faults.length > 0) await desk.dialogue.tell('Not ended', faults);
}
