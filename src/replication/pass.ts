/**
 * One pass of replication: the targets are listed, each line of `vmdks.auto` is matched, what it asks for is queued and
 * waited for. `restored.log` is written when a restore has ended and was proved, one line after the other; a pass that is
 * broken off leaves its jobs to the queue, and the next one takes them up.
 */
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ExclusiveLock } from '../../db/exclusive-lock.ts';
import type { EngineContext } from '../engine/context.ts';
import { settleDisk } from '../engine/settle-disk.ts';
import type { ErrorCode } from '../errors.ts';
import { exitStatusOf, fromErrno, PhdError, throwIfAborted } from '../errors.ts';
import type { Job } from '../model/job.ts';
import { locksHolding, lockText } from '../queue/gate.ts';
import type { Queue } from '../queue/queue.ts';
import { type DiskRestore, goalOf, printRequest } from '../queue/request.ts';
import { runInTurn } from '../queue/start-now.ts';
import { submitterOf } from '../queue/submitter.ts';
import type { Decision } from './match.ts';
import { archiveText } from './match.ts';
import {
  type FailedGoal,
  type PassState,
  type PendingJob,
  readPassState,
  writePassState,
} from './pass-state.ts';
import { type PassPlan, planPass } from './plan.ts';
import { appendRestored, type RestoredEntry } from './restored-log.ts';
import { vmdksFile } from './vmdks-file.ts';

const LOOK_EVERY_MS = 200;
/** What lies beside a mix is damaged or gone. */
const CANNOT_FINISH: ReadonlySet<ErrorCode> = new Set(['ARCHIVE_DAMAGED', 'DIGEST_MISMATCH', 'NOT_FOUND']);

export interface PassOptions {
  env: NodeJS.ProcessEnv;
  /** Only lines whose goal failed in the last pass. */
  retryFailed: boolean;
  assumeOff: boolean;
  /** The clock is right although archives say otherwise. */
  confirmClock: boolean;
  signal: AbortSignal;
  onPlan: (plan: PassPlan) => void;
  /** A job of this pass, or one taken up again, has ended. */
  onEnd: (end: PassEnd) => void;
  onWarning: (message: string) => void;
}

export interface PassEnd {
  job: number;
  archive: string;
  goal: string;
  /** Null if it failed. */
  entry: RestoredEntry | null;
  code: ErrorCode | null;
  message: string | null;
}

export interface PassResult {
  plan: PassPlan;
  restored: number;
  failed: FailedGoal[];
  /** Jobs that a lock keeps waiting. */
  heldCount: number;
  exitStatus: number;
}

export function passLockFile(queue: Queue): string {
  return path.join(queue.places.stateDir, 'replicate.lock');
}

/** Runs one pass. Throws LOCKED if one runs or restores are stopped, CONFIG_INVALID, CANCELLED (its jobs go on), IO. */
export async function runPass(
  context: EngineContext,
  queue: Queue,
  options: PassOptions,
): Promise<PassResult> {
  const lock = ExclusiveLock.tryTake(passLockFile(queue));
  if (lock === undefined) throw new PhdError('LOCKED', 'a replication pass runs already: see phd jobs list');
  try {
    return await new Pass(context, queue, options).run();
  } finally {
    lock.release();
  }
}

/** Jobs that wait or run for these disks, by goal. */
export function writersOf(queue: Queue, goals: ReadonlySet<string>): Map<string, Job> {
  queue.settleInterrupted();
  const writers = new Map<string, Job>();
  for (const job of queue.db.jobs({ states: ['waiting', 'running'], kinds: ['restore'] })) {
    const goal = goalOf(job)?.replace(/^disk /, '');
    if (goal !== undefined && goals.has(goal)) writers.set(goal, job);
  }
  return writers;
}

class Pass {
  readonly #context: EngineContext;
  readonly #queue: Queue;
  readonly #options: PassOptions;
  #state!: PassState;
  #failed: FailedGoal[] = [];
  #restored = 0;

  constructor(context: EngineContext, queue: Queue, options: PassOptions) {
    this.#context = context;
    this.#queue = queue;
    this.#options = options;
  }

  /** What stops the whole pass is kept for `status`; a pass that was broken off has no end. */
  async run(): Promise<PassResult> {
    this.#state = await readPassState(this.#queue.places);
    // Written before anything else, so that a pass that cannot begin is not tried anew all the time.
    await this.#save({ startedAt: this.#queue.now(), endedAt: null, restored: 0, fault: null });
    try {
      return await this.#work();
    } catch (error) {
      const { code, message } = fromErrno(error, 'replication');
      const endedAt = code === 'CANCELLED' ? null : this.#queue.now();
      await this.#save({ endedAt, fault: message, restored: this.#restored });
      throw error;
    }
  }

  async #work(): Promise<PassResult> {
    const taken = await this.#settle();
    const before = [...this.#state.failed, ...taken.flatMap(failureOf)];
    await this.#save({ failed: before });
    const [held] = locksHolding(this.#queue.db, 'restore');
    if (held) throw new PhdError('LOCKED', `${lockText(held)}: phd locks clear --restore lifts it`);
    const plan = await planPass(this.#context, {
      ...this.#options,
      onlyGoals: this.#options.retryFailed ? before.map(({ goal }) => goal) : null,
      confirmedStamp: this.#state.confirmedStamp,
      writersOf: (goals) => writersOf(this.#queue, goals),
    });
    if (plan.confirmedStamp !== null) await this.#save({ confirmedStamp: plan.confirmedStamp });
    this.#failed = [...plan.decisions.flatMap(refusalOf), ...(await this.#settleDisks(plan))];
    await this.#queueRestores(plan);
    this.#options.onPlan(plan);
    await this.#save({ failed: mergedFailures(before, this.#failed, plan) });
    const heldCount = await this.#wait();
    await this.#save({ endedAt: this.#queue.now(), restored: this.#restored, failed: this.#failed });
    const codes = this.#failed.map(({ code }) => code as ErrorCode);
    const faults: ErrorCode[] = plan.faults.length > 0 ? ['CONFIG_INVALID'] : [];
    const exitStatus = exitStatusOf([...codes, ...faults, ...(heldCount > 0 ? (['LOCKED'] as const) : [])]);
    return { plan, restored: this.#restored, failed: this.#failed, heldCount, exitStatus };
  }

  async #save(change: Partial<PassState>): Promise<void> {
    this.#state = { ...this.#state, ...change };
    await writePassState(this.#queue.places, this.#state);
  }

  /**
   * Disks that an in-place restore left as a mix and that no job of this pass writes. One that cannot be finished is
   * restored again, whole.
   */
  async #settleDisks({ decisions }: PassPlan): Promise<FailedGoal[]> {
    const failed: FailedGoal[] = [];
    for (const decision of decisions) {
      const { line, kind, row } = decision;
      if (!decision.isUnfinished || kind === 'restore' || kind === 'queued') continue;
      try {
        await settleDisk(line.goal, this.#options.assumeOff, this.#options.onWarning);
      } catch (error) {
        const { code, message } = fromErrno(error, `cannot settle ${line.goal}`);
        this.#options.onWarning(message);
        if (kind === 'already restored' && row !== null && CANNOT_FINISH.has(code)) decision.kind = 'restore';
        else failed.push({ goal: line.goal, archive: null, job: null, code, message });
      }
    }
    return failed;
  }

  /** One group of jobs; a job that failed with the very same request before is tried again instead. */
  async #queueRestores(plan: PassPlan): Promise<void> {
    const decisions = plan.decisions.filter(({ kind }) => kind === 'restore');
    await this.#adopt(plan);
    if (decisions.length === 0) return;
    const ended = new Map<string, number>();
    const states = ['failed', 'interrupted', 'cancelled'] as const;
    for (const { id, request } of this.#queue.db.jobs({ states, kinds: ['restore'] }))
      if (!ended.has(request)) ended.set(request, id);
    const fresh: { decision: Decision; request: DiskRestore }[] = [];
    const pending: PendingJob[] = [];
    const note = (decision: Decision, job: number): void => {
      decision.job = job;
      pending.push({ job, archive: archiveOf(decision), goal: decision.line.goal });
    };
    for (const decision of decisions) {
      const request = this.#requestOf(decision, plan);
      const old = ended.get(printRequest('restore', request));
      if (old !== undefined) note(decision, this.#queue.retry(old).id);
      else fresh.push({ decision, request });
    }
    const jobs = this.#queue.submit(
      'restore',
      fresh.map(({ request }) => request),
      submitterOf(this.#options.env),
    );
    fresh.forEach(({ decision }, at) => {
      note(decision, (jobs[at] as Job).id);
    });
    await this.#save({ pending: [...this.#state.pending, ...pending] });
  }

  /** A pass that was killed may have left jobs that it did not write down: they are waited for like its own. */
  async #adopt(plan: PassPlan): Promise<void> {
    const known = new Set(this.#state.pending.map(({ job }) => job));
    const found: PendingJob[] = [];
    for (const decision of plan.decisions.filter(({ kind }) => kind === 'queued')) {
      const job =
        decision.job === null || known.has(decision.job) ? undefined : this.#queue.db.job(decision.job);
      if (job?.request === printRequest('restore', this.#requestOf(decision, plan)))
        found.push({ job: job.id, archive: archiveOf(decision), goal: decision.line.goal });
    }
    if (found.length > 0) await this.#save({ pending: [...this.#state.pending, ...found] });
  }

  #requestOf(decision: Decision, { verify, hasPassphrases }: PassPlan): DiskRestore {
    const { goal } = decision.line;
    return {
      archive: archiveOf(decision),
      to: path.dirname(goal),
      name: path.basename(goal),
      ...(this.#context.config.replication.inPlace ? { inPlace: 'if there' as const } : {}),
      ...(verify ? { verify: true } : {}),
      ...(this.#options.assumeOff ? { assumeOff: true } : {}),
      ...(hasPassphrases ? { passphrasesIn: vmdksFile(this.#queue.places) } : {}),
    };
  }

  /** Until all jobs have ended; the number of those that a lock keeps waiting. Throws CANCELLED. */
  async #wait(): Promise<number> {
    const { db } = this.#queue;
    const { signal, env, onWarning } = this.#options;
    for (;;) {
      this.#failed.push(...(await this.#settle()).flatMap(failureOf));
      throwIfAborted(signal);
      const jobs = this.#state.pending.map(({ job }) => db.job(job)).filter((job) => job !== undefined);
      if (jobs.length === 0) return 0;
      const waiting = jobs.filter(({ state }) => state === 'waiting');
      const isHeld = locksHolding(db, 'restore').length > 0;
      if (isHeld && waiting.length === jobs.length) return waiting.length;
      const isForDaemon = this.#context.config.jobs.restoreQueue && this.#queue.isDaemonRunning();
      if (waiting.length > 0 && !isHeld && !isForDaemon) {
        const [first] = waiting.sort((a, b) => a.id - b.id);
        await runInTurn(this.#queue, [(first as Job).id], env, signal, onWarning);
      } else await delay(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Takes jobs that have ended out of the pending ones: proved ones into the log, failed ones by name. */
  async #settle(): Promise<PassEnd[]> {
    this.#queue.settleInterrupted();
    const open: PendingJob[] = [];
    const entries: RestoredEntry[] = [];
    const ends: PassEnd[] = [];
    for (const pending of this.#state.pending) {
      const job = this.#queue.db.job(pending.job);
      if (job?.state === 'waiting' || job?.state === 'running') {
        open.push(pending);
        continue;
      }
      const end = endOf(pending, job, this.#queue.now());
      ends.push(end);
      if (end.entry !== null) entries.push(end.entry);
    }
    if (ends.length === 0) return ends;
    await appendRestored(this.#queue.places, entries);
    await this.#save({ pending: open });
    for (const end of ends) {
      this.#options.onEnd(end);
      if (end.entry !== null) this.#restored++;
    }
    return ends;
  }
}

function archiveOf({ row }: Decision): string {
  if (row === null) throw new PhdError('IO', 'a line without an archive cannot be restored');
  return archiveText(row);
}

function refusalOf({ line, row, fault }: Decision): FailedGoal[] {
  if (fault === null) return [];
  const archive = row === null ? null : archiveText(row);
  return [{ goal: line.goal, archive, job: null, code: fault.code, message: fault.message }];
}

function failureOf({ job, archive, goal, entry, code, message }: PassEnd): FailedGoal[] {
  return entry !== null ? [] : [{ goal, archive, job, code: code ?? 'IO', message: message ?? 'failed' }];
}

/** Failures of goals that this pass has not looked at yet, or is at work on, and those it knows. */
function mergedFailures(
  before: readonly FailedGoal[],
  now: readonly FailedGoal[],
  plan: PassPlan,
): FailedGoal[] {
  const atWork = new Set(
    plan.decisions.filter(({ kind }) => kind === 'restore' || kind === 'queued').map(({ line }) => line.goal),
  );
  return [...now, ...before.filter(({ goal }) => atWork.has(goal))];
}

/** How a job ended. Only a result that says that every block was proved becomes an entry. */
function endOf({ job: id, archive, goal }: PendingJob, job: Job | undefined, now: string): PassEnd {
  const base = { job: id, archive, goal };
  if (job === undefined)
    return { ...base, entry: null, code: 'NOT_FOUND', message: `job ${id} was removed before it was done` };
  if (job.state !== 'done' && job.state !== 'done with warnings') {
    const code = (job.errorCode ?? 'IO') as ErrorCode;
    return { ...base, entry: null, code, message: job.errorMessage ?? `job ${id} is ${job.state}` };
  }
  const result = resultOf(job);
  if (result === undefined)
    return { ...base, entry: null, code: 'IO', message: `job ${id} does not say that the disk was proved` };
  const entry: RestoredEntry = {
    time: job.endedAt ?? now,
    archive,
    goal,
    bytes: result.diskBytes,
    result: result.verified ? 'restored and verified' : 'restored',
  };
  return { ...base, entry, code: null, message: null };
}

function resultOf(job: Job): { diskBytes: number; verified: boolean } | undefined {
  try {
    const { diskBytes, verified, unproved } = JSON.parse(job.result ?? '') as Record<string, unknown>;
    if (unproved !== false || !Number.isSafeInteger(diskBytes)) return undefined;
    return { diskBytes: diskBytes as number, verified: verified === true };
  } catch {
    return undefined;
  }
}
