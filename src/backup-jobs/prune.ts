/** Removes runs of a VM from a target that retention does not keep; the DELTA goes before its FULL. */
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { dateOfStamp } from '../clock.ts';
import type { EngineContext } from '../engine/context.ts';
import { clockFault, indexTargets } from '../engine/index-targets.ts';
import type { ListedRow } from '../engine/list-archives.ts';
import { listedRows } from '../engine/list-archives.ts';
import { archivesBeingRead } from '../engine/scratch.ts';
import { walkArchives } from '../engine/walk-archives.ts';
import { fromErrno, PhdError, throwIfAborted } from '../errors.ts';
import type { Stamp } from '../model/archive.ts';
import { Queue } from '../queue/queue.ts';
import { archivesOfRestore } from '../queue/request.ts';
import type { Storage } from '../storage/storage.ts';
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
  const isRead = await readNow(context);
  const runs = [...byStamp].map(([stamp, ofRun]) => ({
    ...runOf(context, stamp, ofRun, byStamp),
    isForeign: ofRun.some((row) => isForeign(context, row)),
    isRead: ofRun.some(isRead),
  }));
  const heldIn = new Map<string, Set<Stamp>>();
  for (;;) {
    throwIfAborted(signal);
    const lines = retain(runs, rules);
    let isNew = false;
    for (const { run } of lines.filter(({ keep }) => !keep)) {
      if (!(await isHeldIn(storage, run.stamp, byStamp.get(run.stamp) ?? [], signal, heldIn))) continue;
      run.isHeld = true;
      isNew = true;
    }
    if (!isNew) return { targetNumber, lines, rows: byStamp };
  }
}

/** `seen`: what was listed before counts; runs of a day share a folder. */
async function isHeldIn(
  storage: Storage,
  stamp: Stamp,
  rows: readonly ListedRow[],
  signal?: AbortSignal,
  seen = new Map<string, Set<Stamp>>(),
): Promise<boolean> {
  for (const folder of new Set(rows.map(({ folder: one }) => one))) {
    const held = seen.get(folder) ?? (await holdsIn(storage, folder, signal));
    seen.set(folder, held);
    if (held.has(stamp)) return true;
  }
  return false;
}

/** Whether a restore of this home reads an archive, or is queued to. */
async function readNow({ places, config }: EngineContext): Promise<(row: ListedRow) => boolean> {
  const read = await archivesBeingRead(places.stateDir);
  const queue = new Queue(places);
  try {
    for (const job of queue.db.jobs({ states: ['waiting', 'running'], kinds: ['restore'] }))
      for (const archive of archivesOfRestore(job)) read.add(archive);
  } finally {
    queue.close();
  }
  // A restore may name an archive by its path, also by another one that leads there.
  const real = await Promise.all(
    [...read].filter((archive) => path.isAbsolute(archive)).map((file) => realpath(file).catch(() => file)),
  );
  const roots = new Map<number, string>();
  for (const { number, transport, path: root } of config.targets)
    if (transport === 'vmfs') roots.set(number, await realpath(root).catch(() => root));
  const byPath = new Set(real);
  return ({ targetNumber, folder, file }) =>
    read.has(`${targetNumber}:${folder}/${file}`) ||
    (roots.has(targetNumber) && byPath.has(path.join(roots.get(targetNumber) as string, folder, file)));
}

/** Does it; returns how many runs are gone. A run that cannot be removed is a warning and stops no other. */
export async function prune(
  context: EngineContext,
  { targetNumber, lines, rows }: PlannedPrune,
  onWarning: (message: string) => void,
  signal?: AbortSignal,
): Promise<number> {
  const storage = await context.storage(targetNumber);
  const going = lines.flatMap(({ keep, run }) => (keep ? [] : [run]));
  const rowsOf = (stamp: Stamp, kind: ListedRow['kind']): ListedRow[] =>
    (rows.get(stamp) ?? []).filter((row) => row.kind === kind);
  const onFailure = (error: unknown, stamp: Stamp): void => {
    const failure = fromErrno(error, `the run of ${stamp} on target ${targetNumber}`);
    if (failure.code === 'CANCELLED') throw failure;
    onWarning(`not removed: ${failure.message}`);
  };
  // The DELTAs of all runs before the first FULL: whenever it is ended, no DELTA is left without its FULL.
  const needed = new Set<Stamp>();
  const need = (stamp: Stamp): void => {
    if (needed.has(stamp)) return;
    needed.add(stamp);
    for (const { fullStamp } of rows.get(stamp) ?? []) need(fullStamp);
  };
  for (const { stamp } of going) {
    if (needed.has(stamp)) continue;
    throwIfAborted(signal);
    try {
      // Somebody may have come to need it since the plan was made, or since the run before went.
      const why = await whyNeeded(context, storage, stamp, rows.get(stamp) ?? [], signal);
      if (why !== null) {
        onWarning(`not removed: the run of ${stamp} on target ${targetNumber}: ${why}`);
        need(stamp);
        continue;
      }
      for (const { folder, file } of rowsOf(stamp, 'delta')) await storage.remove(`${folder}/${file}`);
    } catch (error) {
      onFailure(error, stamp);
      need(stamp);
    }
  }
  let removed = 0;
  const folders = new Set<string>();
  for (const { stamp } of going.filter((run) => !needed.has(run.stamp))) {
    throwIfAborted(signal);
    const ofRun = rows.get(stamp) ?? [];
    try {
      const why = await whyNeeded(context, storage, stamp, ofRun, signal);
      if (why !== null) {
        onWarning(
          `the FULLs of the run of ${stamp} on target ${targetNumber} stay, its DELTAs are gone: ${why}`,
        );
        need(stamp);
      }
      if (needed.has(stamp)) continue;
      for (const { folder, file } of rowsOf(stamp, 'full')) {
        await storage.remove(`${folder}/${file}`);
        context.jobs.forgetFull(targetNumber, folder, file);
      }
      for (const { folder } of ofRun) folders.add(folder);
      removed++;
      context.log(`retention: removed the run of ${stamp} of ${ofRun[0]?.vm} from target ${targetNumber}`);
    } catch (error) {
      onFailure(error, stamp);
    }
  }
  for (const folder of folders) {
    try {
      await removeIfEmpty(storage, folder);
    } catch (error) {
      onWarning(fromErrno(error, `folder ${folder} on target ${targetNumber}`).message);
    }
  }
  if (removed > 0) await indexTargets(context, { targets: [targetNumber], scope: 'changed' });
  return removed;
}

async function whyNeeded(
  context: EngineContext,
  storage: Storage,
  stamp: Stamp,
  rows: readonly ListedRow[],
  signal?: AbortSignal,
): Promise<string | null> {
  if (rows.some(await readNow(context))) return 'a restore has begun to read it';
  return (await isHeldIn(storage, stamp, rows, signal)) ? 'it is held now' : null;
}

/** Runs of one day share a folder, so it is looked at once all are gone. */
async function removeIfEmpty(storage: Storage, folder: string): Promise<void> {
  const { entries, complete } = await storage.list(folder);
  if (complete && entries.length === 0) await storage.removeFolder(folder);
}

/** A FULL that this home has not made, without a DELTA that says who has, is taken for another program's. */
function isForeign(
  { jobs }: EngineContext,
  { foreign, state, targetNumber, folder, file }: ListedRow,
): boolean {
  return foreign || (state === 'without DELTA' && jobs.written(targetNumber, folder, file) === undefined);
}

function isCutFull({ kind, state }: ListedRow): boolean {
  return kind === 'full' && state === 'arriving or cut';
}

function runOf(
  { clock, config }: EngineContext,
  stamp: Stamp,
  rows: readonly ListedRow[],
  all: ReadonlyMap<Stamp, ListedRow[]>,
): RetainedRun {
  const needs = [...new Set(rows.map(({ fullStamp }) => fullStamp))];
  const fulls = needs.flatMap((one) => all.get(one) ?? []);
  // A FULL that is allowed to be away, on tape, is no lack.
  const isWhole = ({ state }: ListedRow): boolean =>
    state === null || (state === 'without FULL' && config.backup.fullOffline === 'allowed');
  const isYoung = clock.now().getTime() - dateOfStamp(stamp).getTime() < ARRIVING_MS;
  return {
    stamp,
    vm: rows[0]?.vm ?? '',
    folder: rows[0]?.folder ?? '',
    needs,
    isComplete: rows.every(isWhole) && !fulls.some(isCutFull),
    isDamaged: [...rows, ...fulls].some(({ verifyResult }) => verifyResult === 'damaged'),
    isHeld: false,
    isRead: false,
    isForeign: false,
    isArriving: isYoung && rows.some(({ state }) => state === 'arriving or cut'),
  };
}
