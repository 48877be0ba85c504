/** What became of a VM in a run, as its job of the queue tells. */
import path from 'node:path';
import type { BackupResult } from '../engine/backup.ts';
import type { Job } from '../model/job.ts';
import type { Queue } from '../queue/queue.ts';
import { readRequest } from '../queue/request.ts';
import type { PlannedTask, VmResult } from './run-record.ts';

export interface Failure {
  code: string;
  message: string;
}

/** `job`: null where none was begun. */
export function vmResultOf(
  about: { vm: string; from: string; target: number | null },
  job: Job | null,
  failure: Failure | null,
): VmResult {
  const backup = backupResultOf(job);
  return {
    ...about,
    target: backup?.targetNumber ?? about.target,
    job: job?.id ?? null,
    result: failure !== null ? 'failed' : (job?.warningCount ?? 0) > 0 ? 'warnings' : 'done',
    code: failure?.code ?? null,
    message: failure?.message ?? null,
    disks: backup?.disks.length ?? 0,
    diskBytes: backup?.disks.reduce((sum, disk) => sum + disk.diskBytes, 0) ?? 0,
    archiveBytes: backup?.disks.reduce((sum, disk) => sum + disk.archiveBytes, 0) ?? 0,
    seconds: secondsOf(job),
    startedAt: job?.startedAt ?? null,
    endedAt: job?.endedAt ?? null,
  };
}

/** Null: the job was done. */
export function failureOf(job: Job | undefined): Failure | null {
  if (job === undefined) return { code: 'NOT_FOUND', message: 'its job was removed before it was done' };
  if (job.state === 'done' || job.state === 'done with warnings') return null;
  if (job.state === 'waiting') return { code: 'LOCKED', message: 'backups are locked: it was not begun' };
  return { code: job.errorCode ?? 'IO', message: job.errorMessage ?? `its job is ${job.state}` };
}

/** What the backup of an ended job said; null where it got no further. */
export function backupResultOf(job: Job | null | undefined): BackupResult | null {
  if (job?.result == null) return null;
  try {
    return JSON.parse(job.result) as BackupResult;
  } catch {
    return null;
  }
}

/**
 * VMs of a run whose process is gone: what its jobs came to. Those that wait are taken out of the queue, for nobody waits for them, and
 * the next run takes their VMs anew.
 */
export function settleJobsOf(
  queue: Queue,
  { runId, tasks }: { runId: string; tasks: readonly PlannedTask[] },
): VmResult[] {
  queue.settleInterrupted();
  const begun = queue.db
    .jobs({ kinds: ['backup'] })
    .filter((job) => runOf(job) === runId)
    .reverse()
    .map(({ id, request: text }) => {
      queue.db.cancelWaiting(id, queue.now());
      const job = queue.db.job(id);
      const request = JSON.parse(text) as { host?: string; vm?: string; folder?: string; target?: number };
      const { host, vm, folder = '', target = null } = request;
      const about = { vm: vm ?? path.basename(folder), from: host ?? path.dirname(folder), target };
      if (job?.state === 'running')
        return vmResultOf(about, job, { code: 'LOCKED', message: 'its backup still runs' });
      return vmResultOf(about, job ?? null, failureOf(job));
    });
  const left = [...begun];
  const never = tasks.filter(({ vm, from, target }) => {
    // The source of a job is told by its request, that of a task by the list: host or volume.
    const at = left.findIndex(
      (one) =>
        one.vm === vm &&
        (target === null || one.target === target) &&
        (one.from === from || one.from.startsWith(from)),
    );
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
  const failure = { code: 'CANCELLED', message: 'the run was killed before it was begun' };
  return [...begun, ...never.map((task) => vmResultOf(task, null, failure))];
}

function runOf(job: Job): string | undefined {
  try {
    return readRequest('backup', job).run;
  } catch {
    // A job of another version.
    return undefined;
  }
}

function secondsOf(job: Job | null): number {
  const ms = Date.parse(job?.endedAt ?? '') - Date.parse(job?.startedAt ?? '');
  return ms > 0 ? ms / 1000 : 0;
}
