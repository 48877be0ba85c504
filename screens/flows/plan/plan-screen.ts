/** One plan: its VMs in their order, what each needs and where it goes, and what can be done with it. */
import { VMX_MENU } from '../../../menus/restore-menus.ts';
import { formatBytes } from '../../../src/engine/display-text.ts';
import type { RestorePlan } from '../../../src/engine/restore-plan.ts';
import type { Desk } from '../../desk.ts';
import type { Line, ListAction, ListAnswer } from '../../dialogue.ts';
import { mayBeRetried } from '../job-figures.ts';
import { pickFolder, pickVolume } from '../restore/place.ts';
import { rowSource } from '../restore/sources.ts';
import { tellFailure } from '../tell-failure.ts';
import { faultOf, lookAgain, neededBytes, type PlanDraft, type PlanEntry, planText } from './plan-draft.ts';
import { retryLastRun, startPlan } from './plan-start.ts';

const ACTIONS: readonly ListAction[] = [
  { key: 'w', id: 'save', footer: 'save', help: 'save the plan under a name' },
  { key: 'u', id: 'up', footer: 'up', help: 'the VM is restored earlier' },
  { key: 'd', id: 'down', footer: 'down', help: 'the VM is restored later' },
  { key: 'v', id: 'volume', footer: 'volume', help: 'another volume and folder for this VM' },
  { key: 't', id: 'date', footer: 'date', help: 'the newest runs up to a date' },
  { key: 'x', id: 'vmx', footer: 'VMX', help: 'whether the VMX is restored, and fitted to its place' },
  { key: 'f', id: 'verify', footer: 'verify', help: 'read the finished disks again: on or off' },
  { key: 'o', id: 'out', footer: 'take out', help: 'take the VM out of the plan' },
];
const RETRY: ListAction = {
  key: 'y',
  id: 'retry',
  footer: 'retry',
  help: 'try again what failed in the last run of this plan; restores go on where they were',
};

/** Shows a plan until the person leaves it. */
export async function openPlan(desk: Desk, plan: RestorePlan, name: string | undefined): Promise<void> {
  const draft: PlanDraft = {
    desk,
    context: await desk.context(),
    plan: { ...plan, vms: [...plan.vms] },
    name,
    savedText: name === undefined ? '' : planText(plan),
    planned: new Map(),
    goals: new Map(),
    rooms: [],
  };
  let at: PlanEntry | 'now' = 'now';
  for (;;) {
    if (!(await lookAgain(draft))) return;
    const failed = await failedJobs(draft);
    const answer: ListAnswer<PlanEntry> | undefined = await desk.dialogue.list({
      title: `Plan${draft.name === undefined ? '' : ` ${draft.name}`}`,
      filter: optionsText(draft),
      source: rowSource(draft.plan.vms, (entry) => idOf(draft, entry)),
      idOf: (entry) => idOf(draft, entry),
      columns: [
        { title: 'VM', columns: 16, text: ({ vm }) => vm },
        { title: 'run', columns: 16, text: (entry) => stampOf(draft, entry) },
        {
          title: 'room',
          columns: 7,
          align: 'right',
          text: (entry) => formatBytes(neededBytes(draft, entry)),
        },
        { title: 'goes to', columns: 0, text: (entry) => faultOf(draft, entry) ?? entry.to },
      ],
      markOf: (entry) => (faultOf(draft, entry) === null ? 'plain' : 'bad'),
      heads: [
        { key: 'r', id: 'now', label: 'Restore now, and watch it' },
        { key: 's', id: 'background', label: 'Submit to the background' },
      ],
      actions: failed.length > 0 ? [RETRY, ...ACTIONS] : ACTIONS,
      note: () => roomLine(draft, failed.length),
      empty: 'No VM is left in the plan.',
      at: at === 'now' ? 'now' : idOf(draft, at),
    });
    if (answer === undefined || answer.kind === 'quit') {
      if (await mayLeave(draft)) return;
      continue;
    }
    if (answer.kind === 'row') {
      at = answer.row;
      await showEntry(draft, answer.row);
      continue;
    }
    const row: PlanEntry | undefined = answer.row;
    if (answer.id === 'now' || answer.id === 'background') {
      at = 'now';
      await startPlan(draft, answer.id === 'now');
    } else if (answer.id === 'retry') await retryLastRun(draft, failed);
    else {
      await change(draft, answer.id, row);
      if (row !== undefined && draft.plan.vms.includes(row)) at = row;
      else if (row !== undefined) at = draft.plan.vms.at(-1) ?? 'now';
    }
  }
}

async function change(draft: PlanDraft, id: string, row: PlanEntry | undefined): Promise<void> {
  const { plan, desk } = draft;
  if (id === 'save') return await save(draft);
  if (id === 'date') return await askDate(draft);
  if (id === 'vmx') {
    const chosen = await desk.dialogue.menu(VMX_MENU, { at: plan.vmx });
    if (chosen !== undefined) plan.vmx = chosen as RestorePlan['vmx'];
    return;
  }
  if (id === 'verify') {
    plan.verify = !plan.verify;
    return;
  }
  if (row === undefined) {
    desk.dialogue.notice('move to a VM first');
    return;
  }
  const at = plan.vms.indexOf(row);
  if (id === 'out') plan.vms.splice(at, 1);
  if (id === 'up') move(plan.vms, at, at - 1);
  if (id === 'down') move(plan.vms, at, at + 1);
  if (id === 'volume') await askGoal(draft, row);
}

function move(vms: PlanEntry[], from: number, to: number): void {
  if (to < 0 || to >= vms.length) return;
  const [moved] = vms.splice(from, 1);
  vms.splice(to, 0, moved as PlanEntry);
}

async function askDate(draft: PlanDraft): Promise<void> {
  const { planDateFault } = await import('../../../src/engine/restore-plan.ts');
  const text = await draft.desk.dialogue.ask({
    title: 'As of',
    question: 'Newest complete run on or before (empty: the newest of all)',
    lines: ['2026-11-20, or 2026-11-20T06:30'],
    preset: draft.plan.onOrBefore ?? '',
    fault: (one) => (one === '' ? undefined : planDateFault(one)),
  });
  if (text === undefined) return;
  draft.plan.onOrBefore = text === '' ? undefined : text;
  draft.planned.clear();
  draft.goals.clear();
}

async function askGoal({ desk, context, goals }: PlanDraft, entry: PlanEntry): Promise<void> {
  const { listVolumes } = await import('../../../src/engine/volumes.ts');
  const volume = await pickVolume(desk, await listVolumes(context.config.datastores));
  if (volume === undefined || volume === 'quit') return;
  const folder = await pickFolder(desk, volume, { proposed: entry.vm, verb: 'Restore into' });
  if (folder === undefined || folder === 'quit') return;
  entry.to = folder;
  goals.delete(entry);
}

async function save(draft: PlanDraft): Promise<void> {
  const { desk, plan } = draft;
  const { listPlans, planNameFault, savePlan } = await import('../../../src/engine/restore-plan.ts');
  const { places } = await desk.queue();
  const name = await desk.dialogue.ask({
    title: 'Save the plan',
    question: 'Under which name?',
    preset: draft.name ?? '',
    fault: planNameFault,
  });
  if (name === undefined) return;
  const isThere = name !== draft.name && (await listPlans(places)).some((one) => one.name === name);
  const mayReplace = {
    title: 'Save the plan',
    lines: [`There is a plan ${name} already.`],
    question: 'Replace it?',
    isDestructive: true,
  };
  if (isThere && !(await desk.dialogue.confirm(mayReplace))) return;
  const file = await tellFailure(desk, 'It is not saved', () => savePlan(places, name, plan));
  if (file === undefined) return;
  draft.name = name;
  draft.savedText = planText(plan);
  desk.dialogue.notice(`saved as ${file}`, 'good');
}

async function mayLeave({ desk, name, plan, savedText }: PlanDraft): Promise<boolean> {
  if (plan.vms.length === 0 || planText(plan) === savedText) return true;
  return await desk.dialogue.confirm({
    title: 'Leave the plan',
    lines: [name === undefined ? 'This plan is not saved.' : `Changes to plan ${name} are not saved.`],
    question: 'Leave it all the same?',
  });
}

/** Jobs of its last run that can be tried again. */
async function failedJobs({ desk, plan }: PlanDraft): Promise<number[]> {
  if (plan.lastGroup === undefined) return [];
  const { db } = await desk.queue();
  const first = db.job(plan.lastGroup);
  if (first === undefined) return [];
  const jobs =
    first.groupId === null ? [first] : db.jobs({}).filter(({ groupId }) => groupId === first.groupId);
  return jobs.filter(mayBeRetried).map(({ id }) => id);
}

function idOf({ plan }: PlanDraft, entry: PlanEntry): string {
  return `${entry.uuid} ${entry.vm} ${plan.vms.indexOf(entry)}`;
}

function stampOf({ planned }: PlanDraft, entry: PlanEntry): string {
  return planned.get(entry)?.stamp?.replace('T', ' ') ?? '-';
}

/** `as of 2026-11-20, VMX moved, verify` */
function optionsText({ plan }: PlanDraft): string {
  const words = [
    plan.onOrBefore === undefined ? '' : `as of ${plan.onOrBefore.replace('T', ' ')}`,
    plan.vmx === 'none' ? '' : `VMX ${plan.vmx}`,
    plan.verify ? 'verify' : '',
  ];
  return words.filter((word) => word !== '').join(', ');
}

/** `2.1 GB of 40 GB at /vmfs/volumes/a; ...`, what does not fit first. */
function roomLine({ rooms }: PlanDraft, failedCount: number): Line {
  const failed = failedCount === 0 ? '' : `last run: ${failedCount} not done (Y tries again); `;
  const text = rooms
    .map(({ path, neededBytes: needed, freeBytes }) => {
      const size = `${formatBytes(needed)} of ${formatBytes(freeBytes)} free at ${path}`;
      return needed > freeBytes ? `TOO SMALL: ${size}` : size;
    })
    .join('; ');
  const isShort = rooms.some(({ neededBytes: needed, freeBytes }) => needed > freeBytes);
  return { text: `${failed}${text}`, mark: isShort || failedCount > 0 ? 'warning' : 'plain' };
}

/** All that is known of one VM of the plan. */
async function showEntry(draft: PlanDraft, entry: PlanEntry): Promise<void> {
  const planned = draft.planned.get(entry);
  const lines = [
    `VM ${entry.vm}${entry.uuid === '' ? '' : `, UUID ${entry.uuid}`}`,
    `Run ${stampOf(draft, entry)}, goes to ${entry.to}`,
    ...(planned?.fault ? [`CANNOT BE RESTORED: ${planned.fault.message}`] : []),
    ...(planned?.warnings.map((text) => `Note: ${text}`) ?? []),
  ];
  for (const { disk, preview, fault } of draft.goals.get(entry) ?? []) {
    const { checked, full } = disk;
    lines.push(
      '',
      `Disk ${checked.disk}, ${checked.diskBytes === null ? '?' : formatBytes(checked.diskBytes)}`,
    );
    lines.push(`  archive ${checked.archive}`);
    if (full !== null && full.archive !== checked.archive) lines.push(`  FULL    ${full.archive}`);
    if (fault !== null) lines.push(`  REFUSED: ${fault.message}`);
    if (preview === null) continue;
    lines.push(
      `  needs ${formatBytes(preview.neededBytes ?? 0)}, ${formatBytes(preview.goal.freeBytes)} free`,
    );
    if (preview.goal.existing !== null) lines.push(`  REPLACES ${preview.goal.flatPath}`);
    else if (preview.goal.hasPart) lines.push('  goes on where an earlier attempt stopped');
    for (const doubt of preview.doubts) lines.push(`  whether it is off cannot be known: ${doubt}`);
  }
  await draft.desk.dialogue.read({ title: entry.vm, lines: () => lines });
}
