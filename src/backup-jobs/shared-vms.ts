/** VMs of which a job removes nothing, since what it does not keep another may: those that two jobs put on one target, and copies. */
import type { EngineContext } from '../engine/context.ts';
import { defaultTarget } from '../engine/default-target.ts';
import { throwIfAborted } from '../errors.ts';
import { openedJob } from './due-jobs.ts';
import type { BackupJob } from './job.ts';
import { type FoundVms, findJobVms, type JobVm, uuidOfVm } from './job-vms.ts';
import { selectVms } from './select-vms.ts';

interface Taken {
  vm: JobVm;
  job: string;
}

/** What several jobs ask for, looked up once. */
export class SharedVms {
  readonly #context: EngineContext;
  readonly #signal: AbortSignal | undefined;
  readonly #listed = new Map<string, Promise<FoundVms>>();
  readonly #keys = new Map<string, Promise<string>>();

  constructor(context: EngineContext, signal?: AbortSignal) {
    this.#context = context;
    this.#signal = signal;
  }

  /** Of the VMs that a job takes, those that are shared, each with the reason. Throws CANCELLED. */
  async of({ config: own }: BackupJob, selected: readonly JobVm[]): Promise<Map<JobVm, string>> {
    const { config } = this.#context;
    const targetsOf = (targets: readonly number[] | null): readonly (number | null)[] =>
      targets ?? [defaultTarget(config)];
    const mine = targetsOf(own.targets);
    const taken = new Map<string, Taken[]>();
    await this.#take(taken, selected, own.name);
    const unseen: string[] = [];
    for (const one of config.backupJobs) {
      if (one.name === own.name || !targetsOf(one.targets).some((target) => mine.includes(target))) continue;
      const other = openedJob(one, []);
      if (other === null) continue;
      const { vms, faults } = await this.#list(one.from);
      // What cannot be seen may be anything.
      if (faults.length > 0) unseen.push(`what job ${one.name} takes cannot be seen`);
      await this.#take(
        taken,
        selectVms(vms, other.vms, other.exclude).selected.map(({ vm }) => vm),
        one.name,
      );
    }
    const shared = new Map<JobVm, string>();
    for (const vm of selected) {
      const twin = taken.get(await this.#keyOf(vm))?.find((other) => other.vm !== vm);
      const reason = twin === undefined ? unseen[0] : reasonOf(vm, twin);
      if (reason !== undefined) shared.set(vm, reason);
    }
    return shared;
  }

  async #take(taken: Map<string, Taken[]>, vms: readonly JobVm[], job: string): Promise<void> {
    for (const vm of vms) {
      throwIfAborted(this.#signal);
      const key = await this.#keyOf(vm);
      const there = taken.get(key);
      if (there === undefined) taken.set(key, [{ vm, job }]);
      else there.push({ vm, job });
    }
  }

  #list(from: readonly string[] | null): Promise<FoundVms> {
    const key = JSON.stringify(from);
    const listed = this.#listed.get(key) ?? findJobVms(this.#context, from, this.#signal);
    this.#listed.set(key, listed);
    return listed;
  }

  /** The UUID that its archives go by; where that cannot be told, its source: then its own backup fails as well. */
  #keyOf(vm: JobVm): Promise<string> {
    const source = JSON.stringify(vm.source);
    const key =
      this.#keys.get(source) ??
      uuidOfVm(this.#context, vm).then(
        (uuid) => uuid ?? source,
        () => source,
      );
    this.#keys.set(source, key);
    return key;
  }
}

function reasonOf(vm: JobVm, { vm: twin, job }: Taken): string {
  const isItself = JSON.stringify(twin.source) === JSON.stringify(vm.source);
  return isItself
    ? `job ${job} takes it to the same target`
    : `${twin.name} of ${twin.from} bears the same UUID`;
}
