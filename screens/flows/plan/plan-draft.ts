/** A plan on the screen: what it says, and what the archives and volumes say to it now. */
import type { EngineContext } from '../../../src/engine/context.ts';
import type { PlannedGoal, PlannedVm, VolumeRoom } from '../../../src/engine/planned-restore.ts';
import type { RestorePlan } from '../../../src/engine/restore-plan.ts';
import type { Desk } from '../../desk.ts';

export type PlanEntry = RestorePlan['vms'][number];

export interface PlanDraft {
  desk: Desk;
  context: EngineContext;
  plan: RestorePlan;
  /** Name it is saved under; undefined if it is not. */
  name: string | undefined;
  /** What stands in its file, to know whether something has changed. */
  savedText: string;
  /** By entry; asked again when the date changes. */
  planned: Map<PlanEntry, PlannedVm>;
  /** By entry; asked again when the goal changes. */
  goals: Map<PlanEntry, PlannedGoal[]>;
  rooms: VolumeRoom[];
}

/** Asks archives and volumes for all that is not known yet; false if the person stopped it. */
export async function lookAgain(draft: PlanDraft): Promise<boolean> {
  const { desk, context, plan, planned, goals } = draft;
  const { planGoals, planVm, roomOf } = await import('../../../src/engine/planned-restore.ts');
  const countRoom = async (): Promise<void> => {
    const { listVolumes } = await import('../../../src/engine/volumes.ts');
    const volumes = await listVolumes(context.config.datastores);
    draft.rooms = await roomOf(
      plan.vms.flatMap((entry) => goals.get(entry) ?? []),
      volumes,
    );
  };
  if (plan.vms.every((entry) => planned.has(entry) && goals.has(entry))) {
    await countRoom();
    return true;
  }
  const done = await desk.dialogue.busy('Looking at archives and volumes', async (signal, say) => {
    for (const entry of plan.vms) {
      const wanted = plan.onOrBefore === undefined ? entry : { ...entry, onOrBefore: plan.onOrBefore };
      const known = planned.get(entry) ?? (await planVm(context, wanted, signal, say));
      planned.set(entry, known);
      if (!goals.has(entry)) goals.set(entry, await planGoals(known, entry.to));
    }
    await countRoom();
    return true;
  });
  return done ?? false;
}

/** Why a VM of the plan cannot be restored; null if it can. */
export function faultOf({ planned, goals }: PlanDraft, entry: PlanEntry): string | null {
  const fault = planned.get(entry)?.fault ?? goals.get(entry)?.find((one) => one.fault !== null)?.fault;
  return fault?.message ?? null;
}

/** Bytes that a VM needs at its goal. */
export function neededBytes({ goals }: PlanDraft, entry: PlanEntry): number {
  return (goals.get(entry) ?? []).reduce((sum, { preview }) => sum + (preview?.neededBytes ?? 0), 0);
}

/** The plan as its file would tell it, without what a run leaves in it. */
export function planText({ lastGroup: _, ...plan }: RestorePlan): string {
  return JSON.stringify(plan);
}
