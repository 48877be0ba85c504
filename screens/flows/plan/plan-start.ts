/** A plan becomes jobs: one for each disk, in its order, as one group. */
import { formatBytes } from '../../../src/engine/display-text.ts';
import type { PlannedVm } from '../../../src/engine/planned-restore.ts';
import type { PlannedEntry } from '../../../src/queue/planned-jobs.ts';
import type { DiskRestore } from '../../../src/queue/request.ts';
import type { Desk } from '../../desk.ts';
import type { Line } from '../../dialogue.ts';
import { tellFailure } from '../tell-failure.ts';
import { faultOf, type PlanDraft, type PlanEntry } from './plan-draft.ts';

export async function startPlan(draft: PlanDraft, isNow: boolean): Promise<void> {
  const { desk, plan } = draft;
  const entries = await restorable(draft);
  if (entries.length === 0) return;
  const assumeOff = await mayWrite(draft, entries);
  if (assumeOff === undefined) return;
  const { chooseVmx, planRequests } = await import('../../../src/queue/planned-jobs.ts');
  const chosen = entries.map(({ vm, to }, at): PlannedEntry => {
    return { vm, to, planned: draft.planned.get(entries[at] as PlanEntry) as PlannedVm };
  });
  const staying = chooseVmx(chosen, plan.vmx);
  if (staying.length > 0) {
    await desk.dialogue.tell('VMX files that are there already stay as they are', staying);
  }
  if (!(await areVmxRight(draft, chosen))) return;
  const requests = await tellFailure(desk, 'This plan cannot be run', async () =>
    planRequests(chosen, { verify: plan.verify, assumeOff }),
  );
  if (requests === undefined || (await areOthersBusy(desk, requests))) return;
  const queue = await desk.queue();
  const { submitterOf } = await import('../../../src/queue/submitter.ts');
  const jobs = await tellFailure(desk, 'Nothing is queued', async () =>
    queue.submit('restore', requests, submitterOf(desk.env)),
  );
  if (jobs === undefined) return;
  const ids = jobs.map(({ id }) => id);
  plan.lastGroup = ids[0];
  await keepLastGroup(draft);
  void desk.refreshState();
  if (isNow) await watchNow(desk, ids);
  else await leaveQueued(desk, ids);
  // What lies at the goals is another thing now.
  draft.goals.clear();
}

/** Failed, cancelled and interrupted jobs of the last run, once more. */
export async function retryLastRun({ desk, goals }: PlanDraft, ids: readonly number[]): Promise<void> {
  const queue = await desk.queue();
  for (const id of ids) queue.retry(id);
  await watchNow(desk, ids);
  goals.clear();
}

async function watchNow(desk: Desk, ids: readonly number[]): Promise<void> {
  const { startNow } = await import('../../../src/queue/start-now.ts');
  await startNow(await desk.queue(), ids, desk.env);
  const { followJobs } = await import('../job-progress.ts');
  await followJobs(desk, ids);
}

async function leaveQueued(desk: Desk, ids: readonly number[]): Promise<void> {
  const queue = await desk.queue();
  const lines = [`Queued: jobs ${ids[0]} to ${ids.at(-1)}.`];
  if (!queue.isDaemonRunning()) {
    const isWanted = await desk.dialogue.confirm({
      title: 'No daemon runs',
      lines: [...lines, 'Queued jobs wait for the daemon.'],
      question: 'Start the daemon now?',
    });
    const { startDaemon } = await import('../../../src/queue/daemon-control.ts');
    const isStarted =
      isWanted &&
      (await tellFailure(desk, 'The daemon does not start', async () => {
        await desk.dialogue.busy('Starting the daemon', () => startDaemon(queue, desk.env));
        return true;
      }));
    lines.push(
      isStarted
        ? 'The daemon was started.'
        : 'No daemon runs, so they wait: 2 Daemon in the main menu starts one.',
    );
  }
  await desk.dialogue.tell('In the background', [...lines, 'B Background status shows how they get on.']);
}

/** VMs without a fault; where there are others, the person decides whether the rest goes on without them. */
async function restorable(draft: PlanDraft): Promise<PlanEntry[]> {
  const { dialogue } = draft.desk;
  const { vms } = draft.plan;
  const faults = vms.flatMap((entry): Line[] => {
    const fault = faultOf(draft, entry);
    return fault === null ? [] : [{ text: `${entry.vm}: ${fault}`, mark: 'bad' }];
  });
  if (faults.length === 0) return vms;
  const good = vms.filter((entry) => faultOf(draft, entry) === null);
  if (good.length === 0) {
    await dialogue.tell('No VM of this plan can be restored', faults);
    return [];
  }
  const isWanted = await dialogue.confirm({
    title: 'Not all VMs can be restored',
    lines: faults,
    question: `Restore the other ${good.length} without ${faults.length === 1 ? 'it' : 'them'}?`,
    isDestructive: true,
  });
  return isWanted ? good : [];
}

/** Asks for what only a person can answer for; undefined: not started, else whether all disks are taken as off. */
async function mayWrite(draft: PlanDraft, entries: readonly PlanEntry[]): Promise<boolean | undefined> {
  const { dialogue } = draft.desk;
  const previews = entries
    .flatMap((entry) => draft.goals.get(entry) ?? [])
    .flatMap(({ preview }) => (preview === null ? [] : [preview]));
  const short = draft.rooms.filter(({ neededBytes, freeBytes }) => neededBytes > freeBytes);
  const shortLines = short.map(
    ({ path, neededBytes, freeBytes }) =>
      `${path}: up to ${formatBytes(neededBytes)} needed, ${formatBytes(freeBytes)} free`,
  );
  const mayTry = {
    title: 'It may not fit',
    lines: [...shortLines, 'Each restore counts exactly before it writes, and stops if there is no room.'],
    question: 'Try it?',
    isDestructive: true,
  };
  if (short.length > 0 && !(await dialogue.confirm(mayTry))) return undefined;
  const replaced = previews.filter(({ goal }) => goal.existing !== null);
  const mayReplace = {
    title: 'Replaced',
    lines: replaced.map(({ goal }): Line => ({ text: goal.flatPath, mark: 'warning' })),
    question: replaced.length === 1 ? 'Replace this disk?' : `Replace these ${replaced.length} disks?`,
    isDestructive: true,
  };
  if (replaced.length > 0 && !(await dialogue.confirm(mayReplace))) return undefined;
  const doubts = [...new Set(previews.flatMap((preview) => preview.doubts))];
  if (doubts.length === 0) return false;
  const isOff = await dialogue.typed({
    title: 'Are these VMs off?',
    lines: [
      ...doubts.map((text): Line => ({ text: `Cannot be known: ${text}.`, mark: 'warning' })),
      'A disk that is written while its VM runs is destroyed. Make sure that they are off.',
    ],
    word: 'yes',
  });
  return isOff ? true : undefined;
}

/** Every changed line of every VMX is shown before a job is made. */
async function areVmxRight({ desk, context }: PlanDraft, entries: readonly PlannedEntry[]): Promise<boolean> {
  if (!entries.some(({ vmx }) => vmx)) return true;
  const { vmxChanges } = await import('../../../src/queue/planned-jobs.ts');
  const lines = await tellFailure(desk, 'A VMX cannot be read', () =>
    desk.dialogue.busy('Reading the VMX of each VM', (signal, say) =>
      vmxChanges(context, entries, signal, say),
    ),
  );
  if (lines === undefined) return false;
  await desk.dialogue.read({
    title: 'Changes of the VMX files',
    lines: () => ['Lines with - go, lines with + come; the question follows.', ...lines],
  });
  return await desk.dialogue.confirm({
    title: 'VMX',
    lines: ['Each VMX as it was backed up is kept beside it as NAME.vmx.original.'],
    question: 'Write them so?',
  });
}

/** Jobs that wait or run and write one of these disks. */
async function areOthersBusy(desk: Desk, requests: readonly DiskRestore[]): Promise<boolean> {
  const queue = await desk.queue();
  const { goalOf, goalOfRestore } = await import('../../../src/queue/request.ts');
  queue.settleInterrupted();
  const goals = new Set(requests.map(goalOfRestore));
  const inTheWay = queue.db
    .jobs({ states: ['waiting', 'running'] })
    .filter((job) => goals.has(goalOf(job) ?? ''))
    .map(({ id, state, title }) => `job ${id} is ${state}: ${title}`);
  if (inTheWay.length === 0) return false;
  await desk.dialogue.tell('Another job has one of these disks', inTheWay);
  return true;
}

/** A saved plan remembers its last run, so that what failed can be tried again another day. */
async function keepLastGroup({ desk, name, plan }: PlanDraft): Promise<void> {
  if (name === undefined) return;
  const { readPlan, savePlan } = await import('../../../src/engine/restore-plan.ts');
  const { places } = await desk.queue();
  await tellFailure(desk, 'The plan does not remember this run', async () => {
    const saved = await readPlan(places, name);
    await savePlan(places, name, { ...saved, lastGroup: plan.lastGroup });
  });
}
