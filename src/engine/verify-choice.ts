/** Which archives of a target a verify run takes, and in which order: those verified longest ago first. */
import type { EngineContext } from './context.ts';
import { indexTargets } from './index-targets.ts';
import { withVerify } from './list-archives.ts';
import { walkArchives } from './walk-archives.ts';

const DAY_MS = 86_400_000;

export interface VerifyChoice {
  target: number;
  /** Only the newest archive of each disk (a FULL with its DELTA counts as one). */
  newest: boolean;
  /** Only what was not verified for so many days; null: all. */
  olderThanDays: number | null;
  /** Only what was not verified since this moment (UTC, ISO 8601); goes before the days. */
  verifiedBefore?: string | undefined;
}

/** `N:folder/file` of each. Re-indexes if the index is old; throws what listing the target throws. */
export async function archivesToVerify(context: EngineContext, choice: VerifyChoice): Promise<string[]> {
  return (await dueArchives(context, choice)).map(({ archive }) => archive);
}

export interface DueArchive {
  /** `N:folder/file` */
  archive: string;
  /** UTC, ISO 8601; empty: never. */
  verifiedAt: string;
}

/** The same with the dates they were last verified at, oldest first; those never verified come before all, newest first. */
export async function dueArchives(context: EngineContext, choice: VerifyChoice): Promise<DueArchive[]> {
  for (const { error } of await indexTargets(context, { targets: [choice.target], scope: 'old' }))
    if (error) throw error;
  const limitMs = limitOf(choice, context.clock.now());
  const seenDisks = new Map<string, string>();
  const chosen: DueArchive[] = [];
  for (const row of [...walkArchives(context, { targets: [choice.target] })].flat()) {
    if (!row.complete || row.generation === 2) continue;
    const disk = `${row.uuid} ${row.scsiId} ${row.disk}`;
    const newest = seenDisks.get(disk) ?? row.stamp;
    seenDisks.set(disk, newest);
    if (choice.newest && row.stamp !== newest) continue;
    const { verifiedAt } = withVerify(context, row);
    if (limitMs !== null && verifiedAt !== null && Date.parse(verifiedAt) > limitMs) continue;
    chosen.push({ archive: `${row.targetNumber}:${row.folder}/${row.file}`, verifiedAt: verifiedAt ?? '' });
  }
  return chosen.sort(byVerifiedAt);
}

/** Null: there is none. */
function limitOf({ olderThanDays, verifiedBefore }: VerifyChoice, now: Date): number | null {
  if (verifiedBefore !== undefined) return Date.parse(verifiedBefore);
  return olderThanDays === null ? null : now.getTime() - olderThanDays * DAY_MS;
}

/** Longest ago first. */
export function byVerifiedAt(one: DueArchive, other: DueArchive): number {
  return one.verifiedAt < other.verifiedAt ? -1 : one.verifiedAt > other.verifiedAt ? 1 : 0;
}
