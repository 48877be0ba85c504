/** Removes runs of a VM from a target that retention does not keep; the DELTA goes before its FULL. */

import { dateOfStamp } from '../clock.ts';
import type { EngineContext } from '../engine/context.ts';
import { clockFault, indexTargets } from '../engine/index-targets.ts';
import type { ListedRow } from '../engine/list-archives.ts';
import { listedRows } from '../engine/list-archives.ts';
import { walkArchives } from '../engine/walk-archives.ts';
import { fromErrno, PhdError, throwIfAborted } from '../errors.ts';
import type { Stamp } from '../model/archive.ts';
import { holdsIn } from './holds.ts';
import { type KeepRules, type RetainedRun, type RetentionLine, retain } from './retention.ts';

/** What has not arrived whole after so long is no upload under way. */
const ARRIVING_MS = 2 * 86_400_000;

export interface PlannedPrune {
  targetNumber: number;
  lines: RetentionLine[];
  /** Rows of each run. */
  rows: ReadonlyMap<Stamp, ListedRow[]>;
}

/**
 * What retention says of a VM's runs on a target, by a listing made now; nothing is changed. Throws TARGET_* where the
 * target cannot be listed whole, LOCKED where the clock is wrong: then nothing may be judged by its age.
 */
export async function planPrune(
  context: EngineContext,
  { targetNumber, uuid }: { targetNumber: number; uuid: string },
  rules: KeepRules,
  signal?: AbortSignal,
): Promise<PlannedPrune> {
  const [listed] = await indexTargets(context, {
    targets: [targetNumber],
    scope: 'changed',
    ...(signal ? { signal } : {}),
  });
  if (listed?.error) throw listed.error;
  const wrongClock = clockFault(context);
  if (wrongClock !== null) throw new PhdError('LOCKED', `nothing is removed: ${wrongClock}`);
  const rows = [...walkArchives(context, { uuid, targets: [targetNumber] })].flat();
  const byStamp = new Map<Stamp, ListedRow[]>();
  for (const row of listedRows(context, rows))
    byStamp.set(row.stamp, [...(byStamp.get(row.stamp) ?? []), row]);
  const storage = await context.storage(targetNumber);
  const runs = [...byStamp].map(([stamp, ofRun]) => runOf(stamp, ofRun, byStamp, context.clock.now()));
  for (;;) {
    throwIfAborted(signal);
    const lines = retain(runs, rules);
    let isNew = false;
    for (const { run } of lines.filter(({ keep }) => !keep)) {
      const folders = new Set((byStamp.get(run.stamp) ?? []).map(({ folder }) => folder));
      for (const folder of folders) {
        if (!(await holdsIn(storage, folder, signal)).has(run.stamp)) continue;
        run.isHeld = true;
        isNew = true;
      }
    }
    if (!isNew) return { targetNumber, lines, rows: byStamp };
  }
}

/** Does it; returns how many runs are gone. A run that cannot be removed is a warning and stops no other. */
export async function prune(
  context: EngineContext,
  { targetNumber, lines, rows }: PlannedPrune,
  onWarning: (message: string) => void,
  signal?: AbortSignal,
): Promise<number> {
  const storage = await context.storage(targetNumber);
  const going = lines.filter(({ keep }) => !keep).map(({ run }) => run);
  const rowsOf = (stamp: Stamp, kind: ListedRow['kind']): ListedRow[] =>
    (rows.get(stamp) ?? []).filter((row) => row.kind === kind);
  const onFailure = (error: unknown, stamp: Stamp): void => {
    const failure = fromErrno(error, `the run of ${stamp} on target ${targetNumber}`);
    if (failure.code === 'CANCELLED') throw failure;
    onWarning(`not removed: ${failure.message}`);
  };
  // The DELTAs of all runs before the first FULL: whenever it is ended, no DELTA is left without its FULL.
  const needed = new Set<Stamp>();
  for (const { stamp } of going) {
    if (needed.has(stamp)) continue;
    for (const { folder, file, fullStamp } of rowsOf(stamp, 'delta')) {
      throwIfAborted(signal);
      try {
        await storage.remove(`${folder}/${file}`);
      } catch (error) {
        onFailure(error, stamp);
        needed.add(stamp).add(fullStamp);
      }
    }
  }
  let removed = 0;
  for (const { stamp } of going.filter((run) => !needed.has(run.stamp))) {
    throwIfAborted(signal);
    const ofRun = rows.get(stamp) ?? [];
    try {
      for (const { folder, file } of rowsOf(stamp, 'full')) {
        await storage.remove(`${folder}/${file}`);
        context.jobs.forgetFull(targetNumber, folder, file);
      }
      for (const folder of new Set(ofRun.map(({ folder: one }) => one)))
        await removeIfEmpty(context, targetNumber, folder);
      removed++;
      context.log(`retention: removed the run of ${stamp} of ${ofRun[0]?.vm} from target ${targetNumber}`);
    } catch (error) {
      onFailure(error, stamp);
    }
  }
  if (removed > 0) await indexTargets(context, { targets: [targetNumber], scope: 'changed' });
  return removed;
}

async function removeIfEmpty(context: EngineContext, targetNumber: number, folder: string): Promise<void> {
  const storage = await context.storage(targetNumber);
  const { entries, complete } = await storage.list(folder);
  if (complete && entries.length === 0) await storage.removeFolder(folder);
}

function runOf(
  stamp: Stamp,
  rows: readonly ListedRow[],
  all: ReadonlyMap<Stamp, ListedRow[]>,
  now: Date,
): RetainedRun {
  const needs = [...new Set(rows.map(({ fullStamp }) => fullStamp))];
  const fulls = needs.flatMap((one) => all.get(one) ?? []);
  const isYoung = now.getTime() - dateOfStamp(stamp).getTime() < ARRIVING_MS;
  return {
    stamp,
    folder: rows[0]?.folder ?? '',
    needs,
    isComplete: rows.every(({ state }) => state === null),
    isDamaged: [...rows, ...fulls].some(({ verifyResult }) => verifyResult === 'damaged'),
    isHeld: false,
    isArriving: isYoung && rows.some(({ state }) => state === 'arriving or cut'),
  };
}
