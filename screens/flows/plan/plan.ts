/** Restore plans: several VMs with their goals, saved under a name and run again. */
import type { SavedPlan } from '../../../src/engine/restore-plan.ts';
import type { Desk } from '../../desk.ts';
import type { ListAction } from '../../dialogue.ts';
import { pickVolume } from '../restore/place.ts';
import { rowSource } from '../restore/sources.ts';
import { tellFailure } from '../tell-failure.ts';
import { openPlan } from './plan-screen.ts';

const LIST_ACTIONS: readonly ListAction[] = [
  { key: 'd', id: 'delete', footer: 'delete', help: 'delete the plan; archives and VMs stay as they are' },
];

/** A new plan of these VMs: a volume for all of them first, then the plan itself. */
export async function planOf(desk: Desk, vms: readonly { vm: string; uuid: string }[]): Promise<void> {
  if (vms.length === 0) {
    desk.dialogue.notice('mark VMs with Space first');
    return;
  }
  const context = await desk.context();
  const { folderNameFault, listVolumes } = await import('../../../src/engine/volumes.ts');
  const volume = await pickVolume(desk, await listVolumes(context.config.datastores));
  if (volume === undefined || volume === 'quit') return;
  const used = new Set<string>();
  const entries = vms.map(({ vm, uuid }) => {
    // Names come from targets: one that cannot be a folder, or is there twice, goes by its UUID.
    const isFit = folderNameFault(vm) === undefined && !used.has(vm);
    const folder = isFit ? vm : uuid || `vm-${used.size + 1}`;
    used.add(folder);
    return { vm, uuid, to: `${volume}/${folder}` };
  });
  await openPlan(desk, { vms: entries, vmx: 'none', verify: false }, undefined);
}

/** The plans that were saved. */
export async function plans(desk: Desk): Promise<void> {
  const { listPlans, removePlan } = await import('../../../src/engine/restore-plan.ts');
  const { places } = await desk.queue();
  let at: string | undefined;
  for (;;) {
    const saved = await listPlans(places);
    const answer = await desk.dialogue.list<SavedPlan>({
      title: 'Restore plans',
      source: rowSource(
        saved,
        ({ name }) => name,
        ({ name }) => name,
      ),
      idOf: ({ name }) => name,
      columns: [
        { title: 'plan', columns: 24, text: ({ name }) => name },
        { title: 'VMs', columns: 4, align: 'right', text: ({ plan }) => String(plan?.vms.length ?? '') },
        { title: 'as of', columns: 16, text: ({ plan }) => plan?.onOrBefore?.replace('T', ' ') ?? 'newest' },
        {
          title: '',
          columns: 0,
          text: ({ plan, fault }) => fault ?? plan?.vms.map(({ vm }) => vm).join(', ') ?? '',
        },
      ],
      markOf: ({ fault }) => (fault === null ? 'plain' : 'bad'),
      actions: LIST_ACTIONS,
      empty: 'No plan is saved: mark VMs with Space in the list of VMs, then P.',
      ...(at !== undefined && { at }),
    });
    if (answer === undefined || answer.kind === 'quit') return;
    if (!answer.row) continue;
    const { name, plan, fault } = answer.row;
    at = name;
    if (answer.kind === 'action') {
      const isWanted = await desk.dialogue.confirm({
        title: 'Delete a plan',
        lines: [name],
        question: 'Delete this plan?',
        isDestructive: true,
      });
      if (isWanted) await tellFailure(desk, 'It is not deleted', () => removePlan(places, name));
    } else if (plan === null) {
      await desk.dialogue.tell('This plan cannot be used', [{ text: fault ?? '', mark: 'bad' }]);
    } else await openPlan(desk, plan, name);
  }
}
