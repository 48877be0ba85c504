/** Of which VMs, on which targets, by which rules old runs are removed. */
import type { EngineContext } from '../engine/context.ts';
import { defaultTarget } from '../engine/default-target.ts';
import { fromErrno } from '../errors.ts';
import type { BackupJob } from './job.ts';
import { findJobVms, type JobVm, uuidOfVm } from './job-vms.ts';
import type { KeepRules } from './retention.ts';
import { rulesOf } from './run-backup-job.ts';
import { selectVms } from './select-vms.ts';

export interface PruneTask {
  /** Whose rules they are. */
  job: string;
  vm: string;
  uuid: string;
  targetNumber: number;
  rules: KeepRules;
}

/**
 * A VM of several jobs that share a target is pruned by none: what one job keeps another would remove. VMs that are gone
 * from their source are left alone: their last copies are all there is. `jobs` are all there are, whichever is to be pruned.
 */
export async function pruneTasks(
  context: EngineContext,
  jobs: readonly BackupJob[],
  onlyTarget: number | null,
  signal?: AbortSignal,
): Promise<{ tasks: PruneTask[]; errors: string[] }> {
  const { config } = context;
  const errors: string[] = [];
  const found = new Map<string, PruneTask[]>();
  for (const job of jobs) {
    const { vms, faults } = await findJobVms(context, job.config.from, signal);
    errors.push(...faults);
    for (const selected of selectVms(vms, job.vms, job.exclude).selected) {
      const rules = rulesOf(job, selected);
      const uuid = await uuidOf(context, selected.vm, errors);
      const targets = job.config.targets ?? [defaultTarget(config)].filter((one) => one !== null);
      if (uuid === null) continue;
      for (const targetNumber of targets) {
        if (onlyTarget !== null && targetNumber !== onlyTarget) continue;
        const key = `${uuid} ${targetNumber}`;
        const keepAll = { last: Number.MAX_SAFE_INTEGER, daily: 0, weekly: 0, monthly: 0 };
        const task = {
          job: job.config.name,
          vm: selected.vm.name,
          uuid,
          targetNumber,
          rules: rules ?? keepAll,
        };
        found.set(key, [...(found.get(key) ?? []), task]);
      }
    }
  }
  const tasks: PruneTask[] = [];
  for (const [first, ...others] of found.values()) {
    if (first === undefined) continue;
    const twin = others.find(({ vm }) => vm !== first.vm);
    if (twin !== undefined)
      errors.push(`${first.vm} and ${twin.vm} bear one UUID: nothing of them is removed`);
    else if (others.length > 0)
      errors.push(
        `${first.vm} is in several jobs with target ${first.targetNumber}: nothing of it is removed`,
      );
    else if (first.rules.last !== Number.MAX_SAFE_INTEGER) tasks.push(first);
  }
  return { tasks, errors };
}

async function uuidOf(context: EngineContext, vm: JobVm, errors: string[]): Promise<string | null> {
  try {
    const uuid = await uuidOfVm(context, vm);
    if (uuid === null) errors.push(`${vm.name}: its host tells no uuid: nothing of it is removed`);
    return uuid;
  } catch (error) {
    errors.push(fromErrno(error, vm.name).message);
    return null;
  }
}
