/** Which jobs are to be started now. What was due while nobody looked is made up for once. */
import { ExclusiveLock } from '../../db/exclusive-lock.ts';
import type { BackupJobConfig, Config, Places } from '../model/config.ts';
import { type BackupJob, openJob } from './job.ts';
import { type JobState, jobLockFile, readJobState, writeJobState } from './run-record.ts';

export interface DueJob {
  job: BackupJob;
  mode: 'full' | 'delta';
}

/** Jobs that are enabled and due, none that runs. A job seen for the first time is due from its next time on. Throws IO. */
export async function dueJobs(
  places: Places,
  config: Config,
  now: Date,
): Promise<{ due: DueJob[]; faults: string[] }> {
  const due: DueJob[] = [];
  const faults: string[] = [];
  for (const one of config.backupJobs) {
    if (!one.enabled || (one.full === null && one.delta === null)) continue;
    const job = openedJob(one, faults);
    if (job === null) continue;
    const state = readJobState(places, one.name);
    if (state.seenAt === null) {
      await writeJobState(places, one.name, { ...state, seenAt: now.toISOString() });
      continue;
    }
    const mode = dueMode(job, state, now);
    if (mode !== null && !ExclusiveLock.isHeld(jobLockFile(places, one.name))) due.push({ job, mode });
  }
  return { due, faults };
}

/** Names of jobs that run now. Throws IO. */
export function goingJobs(places: Places, { backupJobs }: Config): string[] {
  return backupJobs.map(({ name }) => name).filter((name) => ExclusiveLock.isHeld(jobLockFile(places, name)));
}

/** A job with a mistake stops no other. */
export function openedJob(config: BackupJobConfig, faults: string[]): BackupJob | null {
  try {
    return openJob(config);
  } catch (error) {
    faults.push((error as Error).message);
    return null;
  }
}

/** A FULL that is due takes the place of a DELTA. */
export function dueMode({ full, delta }: BackupJob, state: JobState, now: Date): DueJob['mode'] | null {
  const isDue = (schedule: BackupJob['full'], last: string | null): boolean => {
    const next = schedule?.next(earlier(new Date(last ?? state.seenAt ?? now), now));
    return next != null && next <= now;
  };
  if (isDue(full, state.lastFullAt)) return 'full';
  return isDue(delta, state.lastRunAt) ? 'delta' : null;
}

/** A clock that was set back must not put a job off until it has caught up. */
function earlier(one: Date, other: Date): Date {
  return one < other ? one : other;
}
