/**
 * One run of a backup job: its VMs as ordinary jobs of the queue, so that locks, kills, retries and the console see
 * them; then what need not stay is removed; then it is written down.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { ExclusiveLock } from '../../db/exclusive-lock.ts';
import type { BackupResult } from '../engine/backup.ts';
import type { EngineContext } from '../engine/context.ts';
import { defaultTarget } from '../engine/default-target.ts';
import { fromErrno, PhdError, throwIfAborted } from '../errors.ts';
import { type HookRun, runHook } from '../hosts/hook-command.ts';
import type { Job, Submitter } from '../model/job.ts';
import { locksHolding, requireUnlocked } from '../queue/gate.ts';
import { isAlive, ownIdentity } from '../queue/process-identity.ts';
import type { Queue } from '../queue/queue.ts';
import type { Requests } from '../queue/request.ts';
import { startNow } from '../queue/start-now.ts';
import { reportBegin, reportEnd } from '../reports/report.ts';
import type { BackupJob } from './job.ts';
import { findJobVms, type JobVm, uuidOfVm } from './job-vms.ts';
import { planPrune, prune } from './prune.ts';
import type { KeepRules } from './retention.ts';
import {
  appendRecord,
  type JobState,
  jobLockFile,
  type RunRecord,
  readJobState,
  type VmResult,
  writeJobState,
} from './run-record.ts';
import { type Selected, selectVms } from './select-vms.ts';
import { SharedVms } from './shared-vms.ts';
import { backupResultOf, type Failure, failureOf, settleJobsOf, vmResultOf } from './vm-result.ts';

const LOOK_EVERY_MS = 300;

export interface JobRunOptions {
  mode: 'full' | 'delta';
  submitter: Submitter;
  /** Environment of workers. */
  env: NodeJS.ProcessEnv;
  signal?: AbortSignal;
  /** Nothing new is begun once the daemon is asked to stop. */
  stopsWithDaemon?: boolean;
  onLine: (line: string) => void;
}

/** A VM on one of the job's targets. */
interface Task {
  selected: Selected<JobVm>;
  targetNumber: number | undefined;
}

/**
 * Runs the job once. What fails is in the record and stops nothing else. Throws LOCKED (the job runs already, or backups
 * are locked), CANCELLED, IO.
 */
export async function runBackupJob(
  context: EngineContext,
  queue: Queue,
  job: BackupJob,
  options: JobRunOptions,
): Promise<RunRecord> {
  const { places } = context;
  const { name } = job.config;
  requireUnlocked(queue.db, 'backup');
  if (options.stopsWithDaemon && queue.isDaemonStopping())
    throw new PhdError('CANCELLED', `backup job ${name}: the daemon was stopped: it was not begun`);
  const lock = ExclusiveLock.tryTake(jobLockFile(places, name));
  if (lock === undefined) throw new PhdError('LOCKED', `backup job ${name} runs already`);
  try {
    const { before, killed } = settleKilled(context, queue, name, readJobState(places, name));
    const told = { env: options.env, onWarning: options.onLine };
    if (killed !== null) await reportEnd(context, killed, told);
    const run = new JobRun(context, queue, job, options);
    await writeJobState(places, name, {
      ...before,
      seenAt: before.seenAt ?? run.record.startedAt,
      lastRunAt: run.record.startedAt,
      ...(options.mode === 'full' ? { lastFullAt: run.record.startedAt } : {}),
      running: {
        runId: run.record.runId,
        startedAt: run.record.startedAt,
        mode: options.mode,
        process: ownIdentity(),
        tasks: [],
      },
    });
    await reportBegin(context, run.record, told);
    try {
      await run.through();
    } finally {
      run.record.endedAt = context.clock.now().toISOString();
      await settle(context, run.record, told);
    }
    return run.record;
  } finally {
    lock.release();
  }
}

/** Writes a run down and tells of it. A full state folder is an error of the run, and told with it. */
async function settle(
  context: EngineContext,
  record: RunRecord,
  told: Parameters<typeof reportEnd>[2],
): Promise<void> {
  const { places, log } = context;
  const attempt = async (work: () => Promise<void> | void): Promise<void> => {
    try {
      await work();
    } catch (error) {
      const { message } = fromErrno(error, `backup job ${record.job}`);
      record.errors.push(message);
      told.onWarning(message);
      log(message);
    }
  };
  await attempt(() => appendRecord(places, record));
  await attempt(async () =>
    writeJobState(places, record.job, { ...readJobState(places, record.job), running: null }),
  );
  await reportEnd(context, record, told);
}

/** A run whose process is gone without an end was killed: the next start says so. */
function settleKilled(
  { places, clock, log }: EngineContext,
  queue: Queue,
  job: string,
  state: JobState,
): { before: JobState; killed: RunRecord | null } {
  if (state.running === null || isAlive(state.running.process)) return { before: state, killed: null };
  const { runId, startedAt, mode } = state.running;
  const endedAt = clock.now().toISOString();
  const words = `the run of backup job ${job} that began at ${startedAt} was killed before its end`;
  log(words);
  const killed: RunRecord = {
    runId,
    job,
    mode,
    startedAt,
    endedAt,
    vms: settleJobsOf(queue, state.running),
    removedRuns: 0,
    errors: [words],
    warnings: [],
    isKilled: true,
  };
  appendRecord(places, killed);
  return { before: { ...state, running: null }, killed };
}

class JobRun {
  readonly record: RunRecord;
  readonly #context: EngineContext;
  readonly #queue: Queue;
  readonly #job: BackupJob;
  readonly #options: JobRunOptions;
  /** Not submitted yet. */
  #left: Task[] = [];
  /** Submitted and not ended. */
  readonly #going = new Map<number, Task>();
  /** Started here, for there was no daemon. */
  readonly #started = new Set<number>();
  /** VMs of which nothing is removed, and why. */
  #shared: ReadonlyMap<JobVm, string> = new Map();

  constructor(context: EngineContext, queue: Queue, job: BackupJob, options: JobRunOptions) {
    this.#context = context;
    this.#queue = queue;
    this.#job = job;
    this.#options = options;
    const startedAt = context.clock.now().toISOString();
    this.record = {
      runId: randomUUID(),
      job: job.config.name,
      mode: options.mode,
      startedAt,
      endedAt: startedAt,
      vms: [],
      removedRuns: 0,
      errors: [],
      warnings: [],
      isKilled: false,
    };
  }

  async through(): Promise<void> {
    const { hooks } = this.#job.config;
    try {
      await this.#hook('beforeRun', hooks.beforeRun, '');
      const tasks = await this.#tasks();
      await this.#writeDown(tasks);
      await this.#backUp(tasks);
    } catch (error) {
      const failure = fromErrno(error, `backup job ${this.record.job}`);
      this.#error(failure.message);
      await this.#giveUp(failure);
      if (failure.code === 'CANCELLED') throw failure;
    } finally {
      const isGood =
        this.record.errors.length === 0 && this.record.vms.every(({ result }) => result !== 'failed');
      await this.#hook('afterRun', hooks.afterRun, isGood ? 'done' : 'failed').catch((error: Error) =>
        this.#error(error.message),
      );
    }
  }

  /** So that a run that is killed can be told whole. */
  async #writeDown(tasks: readonly Task[]): Promise<void> {
    const { places } = this.#context;
    const state = readJobState(places, this.record.job);
    if (state.running === null) return;
    const planned = tasks.map(({ selected: { vm }, targetNumber }) => ({
      vm: vm.name,
      from: vm.from,
      target: targetNumber ?? null,
    }));
    await writeJobState(places, this.record.job, { ...state, running: { ...state.running, tasks: planned } });
  }

  async #tasks(): Promise<Task[]> {
    const { config, vms, exclude } = this.#job;
    const found = await findJobVms(this.#context, config.from, this.#options.signal);
    const { selected, errors, warnings } = selectVms(found.vms, vms, exclude);
    for (const fault of [...found.faults, ...errors]) this.#error(fault);
    for (const warning of [...found.warnings, ...warnings]) this.#warn(warning);
    this.#shared = await new SharedVms(this.#context, this.#options.signal).of(
      this.#job,
      selected.map(({ vm }) => vm),
    );
    return selected.flatMap((one) =>
      (config.targets ?? [undefined]).map((targetNumber) => ({ selected: one, targetNumber })),
    );
  }

  async #backUp(tasks: readonly Task[]): Promise<void> {
    const { atOnce } = this.#job.config;
    this.#left = [...tasks];
    const left = this.#left;
    for (;;) {
      throwIfAborted(this.#options.signal);
      const obstacle = this.#obstacle();
      while (obstacle === null && this.#going.size < atOnce) {
        const next = left.findIndex((task) => this.#mayBegin(task));
        if (next < 0) break;
        const task = left[next] as Task;
        await this.#submit(task);
        left.splice(left.indexOf(task), 1);
      }
      if (this.#going.size === 0 && left.length === 0) return;
      if (this.#going.size === 0 && obstacle !== null) {
        for (const task of left.splice(0)) this.#add(task, null, obstacle);
        return;
      }
      await delay(LOOK_EVERY_MS, undefined, this.#options).catch(() => undefined);
      await this.#settle(obstacle);
    }
  }

  /**
   * VMs that bear one UUID are one VM to their target: only one is backed up there at a time. A VM of a host is held still for one
   * target after the other.
   */
  #mayBegin({ selected: { vm } }: Task): boolean {
    const isShared = this.#shared.has(vm);
    return [...this.#going.values()].every(
      ({ selected: { vm: other } }) =>
        !(isShared && this.#shared.has(other)) && !('host' in vm.source && other === vm),
    );
  }

  /** Why nothing more may be begun. */
  #obstacle(): Failure | null {
    if (locksHolding(this.#queue.db, 'backup').length > 0)
      return { code: 'LOCKED', message: 'backups are locked: it was not begun' };
    if (this.#options.stopsWithDaemon && this.#queue.isDaemonStopping())
      return { code: 'CANCELLED', message: 'the daemon was stopped: it was not begun' };
    return null;
  }

  async #submit(task: Task): Promise<void> {
    if (this.#job.config.preClean) await this.#retain(task, null);
    let job: Job | undefined;
    try {
      [job] = this.#queue.submit('backup', [this.#request(task)], this.#options.submitter);
    } catch (error) {
      const { code, message } = fromErrno(error, task.selected.vm.name);
      if (code === 'CANCELLED') throw error;
      this.#add(task, null, { code, message });
    }
    if (job === undefined) return;
    this.#going.set(job.id, task);
    this.#options.onLine(`job ${job.id}: ${task.selected.vm.name}`);
    await this.#startWithoutDaemon(job.id, task);
  }

  /** A daemon may have gone since the job was queued. One that cannot be started is the fault of that VM alone. */
  async #startWithoutDaemon(id: number, task: Task): Promise<void> {
    if (this.#started.has(id) || this.#queue.isDaemonRunning()) return;
    this.#started.add(id);
    try {
      await startNow(this.#queue, [id], this.#options.env);
    } catch (error) {
      const failure = fromErrno(error, task.selected.vm.name);
      if (failure.code === 'CANCELLED') throw failure;
      this.#queue.db.cancelWaiting(id, this.#queue.now());
      this.#going.delete(id);
      this.#add(task, this.#queue.db.job(id) ?? null, failure);
    }
  }

  /** Takes those that have ended; with an obstacle, what waits will not begin. */
  async #settle(obstacle: Failure | null): Promise<void> {
    this.#queue.settleInterrupted();
    for (const [id, task] of [...this.#going]) {
      const { db } = this.#queue;
      if (db.job(id)?.state === 'waiting' && obstacle === null) await this.#startWithoutDaemon(id, task);
      if (!this.#going.has(id)) continue;
      // Nobody is to find it in the queue later and begin it.
      const isTakenOut = obstacle?.code === 'CANCELLED' && db.cancelWaiting(id, this.#queue.now());
      const job = db.job(id);
      if (job?.state === 'running' || (job?.state === 'waiting' && obstacle === null)) continue;
      this.#going.delete(id);
      const result = this.#add(task, job ?? null, isTakenOut ? obstacle : failureOf(job));
      if (result.result !== 'failed' && !this.#job.config.preClean)
        await this.#retain(task, backupResultOf(job));
    }
  }

  #add(task: Task, job: Job | null, failure: Failure | null): VmResult {
    const { name: vm, from } = task.selected.vm;
    const result = vmResultOf({ vm, from, target: task.targetNumber ?? null }, job, failure);
    this.record.vms.push(result);
    const words =
      result.result === 'warnings' ? `done with warnings: phd jobs log ${result.job}` : result.result;
    this.#options.onLine(`${result.vm}: ${result.message ?? words}`);
    return result;
  }

  #request({ selected, targetNumber }: Task): Requests['backup'] {
    const { config } = this.#job;
    const { hooks } = config;
    const given = <Key extends string, Value>(key: Key, value: Value | null | undefined) =>
      (value == null ? {} : { [key]: value }) as Partial<Record<Key, Value>>;
    const hasHooks = hooks.beforeVm !== null || hooks.afterVm !== null;
    const source = selected.vm.source;
    return {
      ...source,
      ...('host' in source
        ? {
            ...(config.quiesce ? { quiesce: true } : {}),
            ...given('preFreeze', hooks.preFreeze),
            ...given('postThaw', hooks.postThaw),
          }
        : {}),
      run: this.record.runId,
      mode: this.#options.mode === 'full' ? 'full' : 'auto',
      ...given('target', targetNumber),
      ...given('codec', config.codec),
      ...given('level', config.level),
      ...given('encrypt', config.encrypt),
      ...given('disks', config.disks),
      ...(config.excludeDisks.length > 0 ? { excludeDisks: config.excludeDisks } : {}),
      ...given('fullAboveChangedPercent', config.fullAboveChangedPercent),
      ...given('bandwidthLimitBytesPerSecond', config.bandwidthLimitBytesPerSecond),
      ...(hasHooks
        ? {
            hooks: {
              ...given('before', hooks.beforeVm),
              ...given('after', hooks.afterVm),
              timeoutMs: hooks.timeoutMs,
              job: config.name,
            },
          }
        : {}),
    };
  }

  /** Removes what need not stay. Never for a VM whose backup has just failed; what cannot be removed is a warning. */
  async #retain({ selected, targetNumber }: Task, result: BackupResult | null): Promise<void> {
    const rules = rulesOf(this.#job, selected);
    const uuid = result?.uuid ?? (await uuidOfVm(this.#context, selected.vm).catch(() => null));
    const target = result?.targetNumber ?? targetNumber ?? defaultTarget(this.#context.config);
    if (rules === null || uuid === null || target == null) return;
    const other = this.#shared.get(selected.vm);
    if (other !== undefined) {
      this.#warn(`${selected.vm.name}: ${other}: nothing of it is removed`);
      return;
    }
    try {
      const { signal } = this.#options;
      const plan = await planPrune(this.#context, { targetNumber: target, uuid }, rules, signal);
      this.record.removedRuns += await prune(this.#context, plan, (line) => this.#warn(line), signal);
    } catch (error) {
      const failure = fromErrno(error, selected.vm.name);
      if (failure.code === 'CANCELLED') throw failure;
      this.#warn(`${selected.vm.name}: ${failure.message}`);
    }
  }

  async #hook(name: 'beforeRun' | 'afterRun', command: string | null, result: string): Promise<void> {
    if (command === null) return;
    const { log } = this.#context;
    const hook: HookRun = {
      what: `${name} of ${this.record.job}`,
      command,
      env: { PHD_JOB: this.record.job, PHD_MODE: this.record.mode, PHD_RESULT: result },
      timeoutMs: this.#job.config.hooks.timeoutMs,
      onLine: log,
    };
    const { signal } = this.#options;
    await runHook(name === 'beforeRun' && signal ? { ...hook, signal } : hook);
  }

  /**
   * No VM is missing in the record. Of a run that is cancelled jobs that wait are taken out, those that run are killed: whoever
   * cancels it means its VMs. Of one that fails they go on, each for itself.
   */
  async #giveUp({ code, message }: PhdError): Promise<void> {
    for (const [id, task] of this.#going) {
      if (code === 'CANCELLED') await this.#queue.kill(id).catch((error: Error) => this.#warn(error.message));
      const words = code === 'CANCELLED' ? message : `the run ended before its job ${id}: ${message}`;
      this.#add(task, this.#queue.db.job(id) ?? null, { code, message: words });
    }
    for (const task of this.#left.splice(0).filter((one) => ![...this.#going.values()].includes(one)))
      this.#add(task, null, { code, message: `${message}: it was not begun` });
  }

  #error(line: string): void {
    this.record.errors.push(line);
    this.#options.onLine(line);
  }

  #warn(line: string): void {
    this.record.warnings.push(line);
    this.#options.onLine(line);
  }
}

export function rulesOf({ config }: BackupJob, { keep }: Pick<Selected<unknown>, 'keep'>): KeepRules | null {
  return keep === null ? config.keep : { last: keep, daily: 0, weekly: 0, monthly: 0 };
}
