/**
 * The verify plan: every archive is read again at least every so many days, those verified longest ago first, in a window
 * of the day and at a rate that leaves the line to others. It stands back for jobs, and ends for a restore.
 */
import type { OperationHooks } from '../engine/backup.ts';
import { archiveRef } from '../engine/choose-run.ts';
import type { EngineContext } from '../engine/context.ts';
import { verifyArchive } from '../engine/verify.ts';
import { byVerifiedAt, type DueArchive, dueArchives } from '../engine/verify-choice.ts';
import { type ErrorCode, fromErrno, type PhdError, throwIfAborted } from '../errors.ts';
import type { JobSettings, VerifyPlanSettings } from '../model/config.ts';
import type { JobKind, Submitter } from '../model/job.ts';
import { foregroundWork } from '../queue/foreground.ts';
import { locksHolding, requireUnlocked } from '../queue/gate.ts';
import type { Queue } from '../queue/queue.ts';
import { type PlanState, readPlanState, writePlanState } from './verify-plan-state.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** With nothing due, targets are looked at again so often. */
const LOOK_EVERY_MS = HOUR_MS;
/** What was tried in vain is tried again after so long. */
const TRY_AGAIN_MS = DAY_MS;
/** Whether a restore has begun is looked at so often. */
const RESTORE_LOOK_MS = 1_000;

/** Failures of the target, not of the archive: the rest of that target waits. */
const OF_TARGET: readonly ErrorCode[] = ['TARGET_UNREACHABLE', 'TARGET_REFUSED', 'HOST_KEY_REFUSED'];

export interface PlanEnd {
  goodCount: number;
  failures: { archive: string; error: PhdError }[];
  leftCount: number;
  /** Why it ended before all was done; null: all was done. */
  why: string | null;
}

export interface PlanHooks extends OperationHooks {
  onGood?: (archive: string) => void;
  onFailure?: (archive: string, error: PhdError) => void;
}

/** Whether a run of the plan should begin now. Cheap; throws IO. */
export async function isPlanDue(
  queue: Queue,
  { verifyPlan: settings, jobs }: { verifyPlan: VerifyPlanSettings; jobs: JobSettings },
  now: Date,
): Promise<boolean> {
  if (!settings.enabled || !isWithin(settings.window, now)) return false;
  if (locksHolding(queue.db, 'verify').length > 0 || busyText(queue, jobs) !== null) return false;
  const { nextLookAt } = await readPlanState(queue.places);
  const inMs = nextLookAt === null ? 0 : Date.parse(nextLookAt) - now.getTime();
  // A clock that was set back must not put the plan off for longer than it would wait anyway.
  return !(inMs > 0 && inMs <= LOOK_EVERY_MS);
}

/** Local time within the window; the first minute counts, the last does not. */
export function isWithin(window: VerifyPlanSettings['window'], now: Date): boolean {
  if (window === null) return true;
  const minute = now.getHours() * 60 + now.getMinutes();
  const { fromMinute, toMinute } = window;
  return fromMinute < toMinute
    ? minute >= fromMinute && minute < toMinute
    : minute >= fromMinute || minute < toMinute;
}

/**
 * What is due on all targets, longest ago first, without what was tried in vain within a day. A target that cannot be
 * listed is a warning.
 */
export async function planDue(
  context: EngineContext,
  { tried }: PlanState,
  hooks: Pick<OperationHooks, 'onWarning' | 'signal'> = {},
): Promise<DueArchive[]> {
  const nowMs = context.clock.now().getTime();
  const due: DueArchive[] = [];
  for (const { number } of context.config.targets) {
    throwIfAborted(hooks.signal);
    try {
      const olderThanDays = context.config.verifyPlan.everyDays;
      due.push(...(await dueArchives(context, { target: number, newest: false, olderThanDays })));
    } catch (error) {
      const failure = fromErrno(error, `target ${number}`);
      if (failure.code === 'CANCELLED') throw failure;
      hooks.onWarning?.(failure.message);
    }
  }
  const isTriedLately = (archive: string): boolean => {
    const agoMs = nowMs - Date.parse(tried[archive] ?? '');
    return agoMs >= 0 && agoMs < TRY_AGAIN_MS;
  };
  return due.filter(({ archive }) => !isTriedLately(archive)).sort(byVerifiedAt);
}

/**
 * Verifies what is due until all is done, the window is over, or jobs want the machine. An archive that is found damaged
 * is queued as a verify job, a second look that shows in lists of jobs. Throws LOCKED, CANCELLED, IO.
 */
export async function runVerifyPlan(
  context: EngineContext,
  queue: Queue,
  submitter: Submitter,
  hooks: PlanHooks = {},
): Promise<PlanEnd> {
  requireUnlocked(queue.db, 'verify');
  const state = await readPlanState(context.places);
  state.startedAt = context.clock.now().toISOString();
  state.endedAt = null;
  forgetOldTries(state, context.clock.now().getTime());
  const due = await planDue(context, state, hooks);
  const run = new PlanRun(context, queue, submitter, state, hooks);
  try {
    return await run.through(due);
  } finally {
    await run.keep(due.length);
  }
}

class PlanRun {
  readonly #context: EngineContext;
  readonly #queue: Queue;
  readonly #submitter: Submitter;
  readonly #state: PlanState;
  readonly #hooks: PlanHooks;
  readonly #deadTargets = new Set<string>();
  readonly #failures: PlanEnd['failures'] = [];
  #goodCount = 0;
  #doneCount = 0;
  #why: string | null = null;

  constructor(
    context: EngineContext,
    queue: Queue,
    submitter: Submitter,
    state: PlanState,
    hooks: PlanHooks,
  ) {
    this.#context = context;
    this.#queue = queue;
    this.#submitter = submitter;
    this.#state = state;
    this.#hooks = hooks;
  }

  async through(due: readonly DueArchive[]): Promise<PlanEnd> {
    for (const { archive } of due) {
      throwIfAborted(this.#hooks.signal);
      this.#why = this.#reasonToEnd();
      if (this.#why !== null) break;
      if (!this.#deadTargets.has(targetOf(archive))) await this.#verify(archive);
      if (this.#why !== null) break;
      this.#doneCount++;
    }
    return {
      goodCount: this.#goodCount,
      failures: this.#failures,
      leftCount: due.length - this.#doneCount,
      why: this.#why,
    };
  }

  async keep(dueCount: number): Promise<void> {
    const now = this.#context.clock.now();
    const leftCount = dueCount - this.#doneCount;
    await writePlanState(this.#context.places, {
      ...this.#state,
      endedAt: now.toISOString(),
      nextLookAt: leftCount === 0 ? new Date(now.getTime() + LOOK_EVERY_MS).toISOString() : null,
      goodCount: this.#goodCount,
      failedCount: this.#failures.length,
      leftCount,
    });
  }

  #reasonToEnd(): string | null {
    requireUnlocked(this.#queue.db, 'verify');
    const { window } = this.#context.config.verifyPlan;
    if (!isWithin(window, this.#context.clock.now())) return 'the time window is over';
    return busyText(this.#queue, this.#context.config.jobs);
  }

  async #verify(archive: string): Promise<void> {
    const giveWay = new AbortController();
    const timer = setInterval(() => {
      if (restoreText(this.#queue, this.#context.config.jobs) !== null) giveWay.abort();
    }, RESTORE_LOOK_MS);
    const { signal } = this.#hooks;
    try {
      const ref = await archiveRef(this.#context, archive);
      const both = signal ? AbortSignal.any([signal, giveWay.signal]) : giveWay.signal;
      await verifyArchive(this.#context, ref, { ...this.#hooks, signal: both });
      this.#goodCount++;
      this.#context.log(`verify plan: ${archive} is good`);
      this.#hooks.onGood?.(archive);
    } catch (error) {
      const failure = fromErrno(error, archive);
      if (failure.code === 'CANCELLED' && !giveWay.signal.aborted) throw failure;
      if (failure.code === 'CANCELLED')
        this.#why = restoreText(this.#queue, this.#context.config.jobs) ?? 'a restore began';
      else this.#failed(archive, failure);
    } finally {
      clearInterval(timer);
    }
  }

  #failed(archive: string, error: PhdError): void {
    this.#failures.push({ archive, error });
    this.#context.log(`verify plan: ${archive}: ${error.message}`);
    this.#hooks.onFailure?.(archive, error);
    const isDamaged = error.code === 'ARCHIVE_DAMAGED' || error.code === 'DIGEST_MISMATCH';
    if (isDamaged) this.#queue.submit('verify', [{ archives: [archive] }], this.#submitter);
    else this.#state.tried[archive] = this.#context.clock.now().toISOString();
    if (OF_TARGET.includes(error.code)) this.#deadTargets.add(targetOf(archive));
  }
}

function targetOf(archive: string): string {
  return archive.slice(0, archive.indexOf(':'));
}

function forgetOldTries(state: PlanState, nowMs: number): void {
  for (const [archive, at] of Object.entries(state.tried))
    if (!(nowMs - Date.parse(at) < TRY_AGAIN_MS)) delete state.tried[archive];
}

/** What the plan stands back for; null: nothing. Verify jobs are no more urgent than the plan. */
function busyText(queue: Queue, jobs: JobSettings): string | null {
  return jobText(queue, ['restore', 'backup'], jobs);
}

function restoreText(queue: Queue, jobs: JobSettings): string | null {
  return jobText(queue, ['restore'], jobs);
}

/** Restores that wait for a queue which is off wait for a person: they hold nothing up. */
function jobText(queue: Queue, kinds: JobKind[], { restoreQueue }: JobSettings): string | null {
  const awaited = restoreQueue ? kinds : kinds.filter((kind) => kind !== 'restore');
  const [job] = [
    ...queue.db.jobs({ states: ['running'], kinds }, { limit: 1 }),
    ...queue.db.jobs({ states: ['waiting'], kinds: awaited }, { limit: 1 }),
  ];
  if (job !== undefined) return `job ${job.id} (${job.kind}) is ${job.state}`;
  const work = foregroundWork(queue.places).find(({ kind }) => kinds.includes(kind));
  return work === undefined ? null : `a ${work.kind} runs, process ${work.process.pid}`;
}
