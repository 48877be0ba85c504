/** What a pass would do now: each line with its decision. Reads the targets and the index; restores nothing. */
import type { EngineContext } from '../engine/context.ts';
import { FOREIGN_HEADER, readDeltaHeader } from '../engine/delta-header.ts';
import { indexState } from '../engine/index-state.ts';
import { indexTargets } from '../engine/index-targets.ts';
import { isUnfinished } from '../engine/settle-disk.ts';
import { fromErrno, PhdError, throwIfAborted } from '../errors.ts';
import type { Job } from '../model/job.ts';
import { readRequest } from '../queue/request.ts';
import { checkGoals, goalRefusal } from './goals.ts';
import { archiveText, type Decision, decide, type MatchContext, matchLine } from './match.ts';
import { readRestoredLog } from './restored-log.ts';
import type { LineNote, RestoreLine } from './vmdks-auto.ts';
import { readVmdksAuto, vmdksFile } from './vmdks-file.ts';

export interface PlanOptions {
  /** Only lines with these goals; null: all. */
  onlyGoals: readonly string[] | null;
  assumeOff: boolean;
  confirmClock: boolean;
  /** What was confirmed before (pass-state.ts). */
  confirmedStamp: string | null;
  /** Jobs that wait or run for some disks, by goal. */
  writersOf: (goals: ReadonlySet<string>) => Map<string, Job>;
  signal: AbortSignal;
  onWarning: (message: string) => void;
}

export interface PassPlan {
  /** By line number. */
  decisions: Decision[];
  /** Lines that cannot be read. */
  faults: LineNote[];
  file: string;
  verify: boolean;
  hasPassphrases: boolean;
  /** The newest stamp, if a person said just now that the clock is right; else null. */
  confirmedStamp: string | null;
}

/** So many cut or foreign archives of one line are opened before it gives up. */
const MAX_OPENED = 20;

/** Throws CONFIG_INVALID (no file, passphrases open to others, wrong clock), CANCELLED, IO. */
export async function planPass(context: EngineContext, options: PlanOptions): Promise<PassPlan> {
  const file = await readVmdksAuto(context.places);
  if (file === undefined) {
    const place = vmdksFile(context.places);
    throw new PhdError('CONFIG_INVALID', `there is no ${place}: phd replicate load makes it`);
  }
  if (file.hasPassphrases)
    options.onWarning(
      `${vmdksFile(context.places)} holds passphrases: phd passphrase set keeps them in files of their own`,
    );
  const deadTargets = await listTargets(context, options);
  const confirmedStamp = requireClock(context, options);
  const restored = await readRestoredLog(context.places);
  if (restored.damagedLines.length > 0)
    options.onWarning(
      `restored.log: no entry in line ${restored.damagedLines.join(', ')}; what it meant is restored again`,
    );
  const wanted = options.onlyGoals === null ? null : new Set(options.onlyGoals);
  const match: MatchContext = { index: context.index, now: context.clock.now(), file, restored, deadTargets };
  const goalFaults = await checkGoals(file.restores, context.config.datastores);
  const lines = file.restores.filter(({ goal }) => wanted?.has(goal) ?? true);
  const writers = options.writersOf(new Set(lines.map(({ goal }) => goal)));
  const states = await Promise.all(lines.map(diskState));
  const decisions: Decision[] = [];
  for (const [at, line] of lines.entries()) {
    throwIfAborted(options.signal);
    const state = states[at];
    const fault = goalFaults.get(line) ?? (state instanceof PhdError ? state : undefined);
    const decision =
      fault === undefined ? await decideLine(context, line, match, writers, options) : refuse(line, fault);
    decision.isUnfinished = decision.kind !== 'refused' && state === 'unfinished';
    if (decision.isUnfinished)
      decision.warnings.push('an in-place restore was broken off here: a pass settles it first');
    decisions.push(decision);
  }
  return {
    decisions,
    faults: file.faults,
    file: vmdksFile(context.places),
    verify: file.verify,
    hasPassphrases: file.hasPassphrases,
    confirmedStamp,
  };
}

/** Whether an in-place restore was broken off over the disk of this line, or why that cannot be seen. */
function diskState({ goal }: RestoreLine): Promise<'unfinished' | 'whole' | PhdError> {
  return isUnfinished(goal).then(
    (isOne) => (isOne ? 'unfinished' : 'whole'),
    (error) => fromErrno(error, `cannot look at ${goal}`),
  );
}

/** Lists all targets; numbers of those that failed. What the index knew of them still counts. */
async function listTargets(context: EngineContext, options: PlanOptions): Promise<Set<number>> {
  const dead = new Set<number>();
  for (const { targetNumber, outcome, error } of await indexTargets(context, { signal: options.signal })) {
    if (error !== null) options.onWarning(error.message);
    if (outcome === 'failed') dead.add(targetNumber);
  }
  return dead;
}

/** Throws CONFIG_INVALID if archives say that the clock is wrong and no person has said otherwise. */
function requireClock(context: EngineContext, options: PlanOptions): string | null {
  const { fault, newestStamp } = indexState({ ...context, config: context.config }).clock;
  if (fault === null) return null;
  const isConfirmed = options.confirmedStamp !== null && (newestStamp ?? '') <= options.confirmedStamp;
  if (options.confirmClock || isConfirmed) {
    options.onWarning(fault);
    return options.confirmClock ? newestStamp : null;
  }
  throw new PhdError(
    'CONFIG_INVALID',
    `${fault}; nothing is replicated until phd replicate run --confirm-clock`,
  );
}

function refuse(line: RestoreLine, fault: PhdError): Decision {
  return { ...decide(line, 'refused', fault.message), fault };
}

async function decideLine(
  context: EngineContext,
  line: RestoreLine,
  match: MatchContext,
  writers: ReadonlyMap<string, Job>,
  options: PlanOptions,
): Promise<Decision> {
  const decision = await matchProved(context, line, match, options.signal);
  if (decision.kind !== 'restore' || decision.row === null) return decision;
  const writer = writers.get(line.goal);
  if (writer !== undefined) {
    const request = readRequest('restore', writer);
    const what = 'host' in request ? writer.title : request.archive;
    const reason = `job ${writer.id} is ${writer.state} for this disk: ${what}`;
    return { ...decision, kind: 'queued', reason, job: writer.id };
  }
  const refusal = await goalRefusal(line.goal, decision.row.header?.diskBytes ?? null, options.assumeOff);
  return refusal === null
    ? decision
    : { ...decision, kind: 'refused', reason: refusal.message, fault: refusal };
}

/** Matches, and opens the archive that is to be restored: one that turns out cut or foreign gives way to the next. */
async function matchProved(
  context: EngineContext,
  line: RestoreLine,
  match: MatchContext,
  signal: AbortSignal,
): Promise<Decision> {
  for (let opened = 0; ; opened++) {
    const decision = matchLine(line, match);
    const { row } = decision;
    const isKnown = row === null || row.header !== null || match.deadTargets.has(row.targetNumber);
    if (decision.kind !== 'restore' || isKnown || opened === MAX_OPENED) return decision;
    try {
      context.index.recordHeader(row.id, await readDeltaHeader(context, row));
    } catch (error) {
      const failure = fromErrno(error, archiveText(row));
      throwIfAborted(signal);
      if (failure.exitStatus === 3) context.index.markIncomplete(row.id);
      else if (failure.code === 'FORMAT_UNSUPPORTED') context.index.recordHeader(row.id, FOREIGN_HEADER);
      else if (failure.exitStatus === 4) (match.deadTargets as Set<number>).add(row.targetNumber);
      else return { ...refuse(line, failure), row };
    }
  }
}
