/** Restores run as jobs in processes of their own; the console only watches them. */
import type { Requests } from '../../../src/queue/request.ts';
import { afterRestore } from './after.ts';
import type { Draft, DraftDisk } from './draft.ts';
import type { StepEnd } from './steps.ts';

/** Starts at once and shows the progress, then asks for the VMX. */
export async function runNow(draft: Draft): Promise<StepEnd> {
  const { desk } = draft;
  const queue = await desk.queue();
  const ids = await submit(draft, false);
  const { startNow } = await import('../../../src/queue/start-now.ts');
  await startNow(queue, ids, desk.env);
  const { followJobs } = await import('../job-progress.ts');
  await followJobs(desk, ids);
  const jobs = ids.map((id) => queue.db.job(id));
  const areDone = jobs.every((job) => job?.state === 'done' || job?.state === 'done with warnings');
  if (areDone) await afterRestore(draft);
  return 'next';
}

/** Queues the jobs, one for each disk so that one that fails can be retried alone. */
export async function runInBackground(draft: Draft): Promise<StepEnd> {
  const { desk } = draft;
  const queue = await desk.queue();
  const withVmx =
    draft.by === 'vm' &&
    draft.disks[0]?.checked.carriesVmx === true &&
    (await desk.dialogue.confirm({
      title: 'VMX',
      lines: ['VMX, NVRAM and logs as they were backed up; files that are there already are never touched.'],
      question: 'Restore the VMX as well?',
      preset: false,
    }));
  const ids = await submit(draft, withVmx);
  const lines = [`Queued: job ${ids.join(', ')}.`];
  if (!queue.isDaemonRunning()) {
    const isWanted = await desk.dialogue.confirm({
      title: 'No daemon runs',
      lines: [...lines, 'Queued jobs wait for the daemon.'],
      question: 'Start the daemon now?',
    });
    if (isWanted) {
      const { startDaemon } = await import('../../../src/queue/daemon-control.ts');
      await desk.dialogue.busy('Starting the daemon', () => startDaemon(queue, desk.env));
      lines.push('The daemon was started.');
    } else lines.push('They wait until it is started.');
  }
  await desk.dialogue.tell('In the background', [...lines, 'B Background status shows how they get on.']);
  return 'next';
}

async function submit(draft: Draft, withVmx: boolean): Promise<number[]> {
  const { desk } = draft;
  const queue = await desk.queue();
  const { submitterOf } = await import('../../../src/queue/submitter.ts');
  const requests = draft.disks.map((disk, at) => requestOf(draft, disk, withVmx && at === 0));
  const ids = queue.submit('restore', requests, submitterOf(desk.env)).map(({ id }) => id);
  void desk.refreshState();
  return ids;
}

function requestOf(draft: Draft, { checked, full, name }: DraftDisk, vmx: boolean): Requests['restore'] {
  const { folder = '', isInPlace, isVerified, assumeOff, salvage } = draft;
  // A FULL is restored from the copy that was chosen, a DELTA with it.
  const isFull = checked.kind === 'full';
  return {
    archive: isFull && full ? full.archive : checked.archive,
    ...(!isFull && full && { full: full.archive }),
    to: folder,
    ...(name === checked.disk ? {} : { name }),
    ...(isInPlace && { inPlace: true }),
    ...(isVerified && { verify: true }),
    ...(assumeOff && { assumeOff: true }),
    ...(salvage && { salvage: true }),
    ...(!checked.isProvable && { acceptUnproved: true }),
    ...(vmx && { vmx: true }),
  };
}
