/** VMs of which a job removes nothing, since what it does not keep another may: those that two jobs put on one target, and copies. */
import type { EngineContext } from '../engine/context.ts';
import { defaultTarget } from '../engine/default-target.ts';
import { openedJob } from './due-jobs.ts';
import type { BackupJob } from './job.ts';
import { findJobVms, type JobVm, uuidOfVm } from './job-vms.ts';
import { selectVms } from './select-vms.ts';

interface Taken {
  vm: JobVm;
  job: string;
  /** What its archives go by: the UUID; where that is not known, its source. */
  key: string;
}

/** Of the VMs that a job takes, those that are shared, each with the reason. Throws CANCELLED. */
export async function sharedVms(
  context: EngineContext,
  { config: own }: BackupJob,
  selected: readonly JobVm[],
  signal?: AbortSignal,
): Promise<Map<JobVm, string>> {
  const { config } = context;
  const targetsOf = (targets: readonly number[] | null): readonly (number | null)[] =>
    targets ?? [defaultTarget(config)];
  const mine = targetsOf(own.targets);
  const taken: Taken[] = [];
  const take = async (vms: readonly JobVm[], job: string): Promise<void> => {
    for (const vm of vms) taken.push({ vm, job, key: await keyOf(context, vm) });
  };
  await take(selected, own.name);
  const listed = new Map<string, readonly JobVm[]>();
  for (const one of config.backupJobs) {
    if (one.name === own.name || !targetsOf(one.targets).some((target) => mine.includes(target))) continue;
    const other = openedJob(one, []);
    if (other === null) continue;
    const from = JSON.stringify(one.from);
    const vms = listed.get(from) ?? (await findJobVms(context, one.from, signal)).vms;
    listed.set(from, vms);
    await take(
      selectVms(vms, other.vms, other.exclude).selected.map(({ vm }) => vm),
      one.name,
    );
  }
  const shared = new Map<JobVm, string>();
  for (const { vm, key } of taken.slice(0, selected.length)) {
    const twin = taken.find((other) => other.key === key && other.vm !== vm);
    if (twin === undefined) continue;
    const isItself = JSON.stringify(twin.vm.source) === JSON.stringify(vm.source);
    shared.set(
      vm,
      isItself
        ? `job ${twin.job} takes it to the same target`
        : `${twin.vm.name} of ${twin.vm.from} bears the same UUID`,
    );
  }
  return shared;
}

async function keyOf(context: EngineContext, vm: JobVm): Promise<string> {
  const uuid = await uuidOfVm(context, vm).catch(() => null);
  return uuid ?? JSON.stringify(vm.source);
}
