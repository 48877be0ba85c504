/** Restores run as jobs in processes of their own; the console only watches them. */
import { VMX_MENU } from '../../../menus/restore-menus.ts';
import type { DiskRestore, HostRestore } from '../../../src/queue/request.ts';
import { afterRestore } from './after.ts';
import type { Draft, DraftDisk, OntoHost } from './draft.ts';

/** Starts at once and shows the progress, then asks for the VMX. */
export async function runNow(draft: Draft): Promise<true> {
  const { desk } = draft;
  const queue = await desk.queue();
  const ids = await submit(draft, {});
  const { startNow } = await import('../../../src/queue/start-now.ts');
  await startNow(queue, ids, desk.env);
  const { followJobs } = await import('../job-progress.ts');
  await followJobs(desk, ids);
  const jobs = ids.map((id) => queue.db.job(id));
  const areDone = jobs.every((job) => job?.state === 'done' || job?.state === 'done with warnings');
  if (areDone && draft.onHost === undefined) await afterRestore(draft);
  return true;
}

/** Queues the jobs, one for each disk so that one that fails can be retried alone. False: nothing was queued. */
export async function runInBackground(draft: Draft): Promise<boolean> {
  const { desk } = draft;
  const queue = await desk.queue();
  const vmx = await vmxForJob(draft);
  if (vmx === 'back') return false;
  const ids = await submit(draft, vmx);
  const lines = [`Queued: job ${ids.join(', ')}.`];
  if (!(await desk.context()).config.jobs.restoreQueue) {
    const { QUEUE_OFF } = await import('../../../src/queue/gate.ts');
    lines.push(`It waits: ${QUEUE_OFF}. Background status can start it.`);
    await desk.dialogue.tell('In the background', lines);
    return true;
  }
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
    } else lines.push('No daemon runs, so it waits: 2 Daemon in the main menu starts one.');
  }
  await desk.dialogue.tell('In the background', [...lines, 'B Background status shows how they get on.']);
  return true;
}

type VmxPart = Pick<DiskRestore, 'vmx' | 'vmxRewrite'>;

/** Asked before, since nobody will be there when the disks are done; only where a VM was looked for. */
async function vmxForJob({ desk, by, disks, folder, onHost }: Draft): Promise<VmxPart | 'back'> {
  if (onHost !== undefined || by !== 'vm' || disks[0]?.checked.carriesVmx !== true) return {};
  const lines = () => [`VMX, NVRAM and logs go to ${folder}; files that are there already stay.`];
  const chosen = await desk.dialogue.menu(VMX_MENU, { lines, at: 'moved' });
  if (chosen === undefined) return 'back';
  if (chosen === 'none') return {};
  if (chosen === 'unchanged') return { vmx: true };
  const restored = disks.map(({ checked, name }) => ({ scsiId: checked.scsiId, name }));
  const isCopy = chosen === 'copy';
  return {
    vmx: true,
    vmxRewrite: { identity: isCopy ? 'new' : 'keep', disconnectNetwork: isCopy, restored },
  };
}

async function submit(draft: Draft, vmx: VmxPart): Promise<number[]> {
  const { desk } = draft;
  const queue = await desk.queue();
  const { submitterOf } = await import('../../../src/queue/submitter.ts');
  const { onHost, disks } = draft;
  const requests = onHost
    ? [hostRequest(disks, onHost)]
    : disks.map((disk, at) => ({ ...requestOf(draft, disk), ...(at === 0 ? vmx : {}) }));
  const ids = queue.submit('restore', requests, submitterOf(desk.env)).map(({ id }) => id);
  void desk.refreshState();
  return ids;
}

/** One job for the whole VM: it is registered once all its disks are there. */
function hostRequest(disks: readonly DraftDisk[], { host, volume, name, macs }: OntoHost): HostRestore {
  return {
    host,
    datastore: volume,
    disks: disks.map(archivesOf),
    name,
    ...(macs !== null && { macs }),
  };
}

/** A FULL is restored from the copy that was chosen, a DELTA with it. */
function archivesOf({ checked, full }: DraftDisk): { archive: string; full?: string } {
  const isFull = checked.kind === 'full';
  return {
    archive: isFull && full ? full.archive : checked.archive,
    ...(!isFull && full && { full: full.archive }),
  };
}

function requestOf(draft: Draft, disk: DraftDisk): DiskRestore {
  const { folder = '', isInPlace, isVerified, assumeOff, salvage } = draft;
  const { checked, name } = disk;
  return {
    ...archivesOf(disk),
    to: folder,
    ...(name === checked.disk ? {} : { name, ...(draft.disks.length > 1 && { isNameNew: true }) }),
    ...(isInPlace && { inPlace: true }),
    ...(isVerified && { verify: true }),
    ...(assumeOff && { assumeOff: true }),
    ...(salvage && { salvage: true }),
    ...(!checked.isProvable && { acceptUnproved: true }),
  };
}
