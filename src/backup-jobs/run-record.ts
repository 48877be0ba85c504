/** What runs of backup jobs leave behind: when each was last run, and what came of it, a JSON line each. */
import { appendFileSync, readFileSync, renameSync, statSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { writeClosedFile } from '../engine/configuration.ts';
import { fromErrno } from '../errors.ts';
import { makeFolderSync } from '../make-folder.ts';
import type { Places } from '../model/config.ts';
import type { ProcessIdentity } from '../model/job.ts';

const vmResult = z.object({
  vm: z.string(),
  /** Folder or host. */
  from: z.string(),
  target: z.number().int().nullable(),
  /** Of the queue; null: it was not come to. */
  job: z.number().int().nullable(),
  result: z.enum(['done', 'warnings', 'failed']),
  code: z.string().nullable(),
  message: z.string().nullable(),
  disks: z.number().int(),
  diskBytes: z.number(),
  archiveBytes: z.number(),
  seconds: z.number(),
  /** Of its job, UTC; null: none was begun, or the record is older than that. */
  startedAt: z.string().nullable().default(null),
  endedAt: z.string().nullable().default(null),
});
export type VmResult = z.output<typeof vmResult>;

const runRecord = z.object({
  runId: z.string(),
  job: z.string(),
  mode: z.enum(['full', 'delta']),
  /** UTC, ISO 8601. */
  startedAt: z.string(),
  endedAt: z.string(),
  vms: z.array(vmResult),
  /** Runs of VMs that were removed from targets. */
  removedRuns: z.number().int(),
  /** What went wrong beside single VMs: a hook, a source that cannot be listed, a name without a VM. */
  errors: z.array(z.string()),
  warnings: z.array(z.string()),
  /** It was killed before its end; the record is of the next start. */
  isKilled: z.boolean(),
});
export type RunRecord = z.output<typeof runRecord>;

const processIdentity = z.object({ pid: z.number(), startTicks: z.string(), bootId: z.string() });
const jobState = z.object({
  /** Since when the job is known: what was due before is not made up for. */
  seenAt: z.string().nullable().default(null),
  lastFullAt: z.string().nullable().default(null),
  /** FULL or DELTA. */
  lastRunAt: z.string().nullable().default(null),
  running: z
    .object({
      runId: z.string(),
      startedAt: z.string(),
      mode: z.enum(['full', 'delta']),
      process: processIdentity,
      /** What the run is to back up, known once it has looked at its sources. */
      tasks: z
        .array(z.object({ vm: z.string(), from: z.string(), target: z.number().int().nullable() }))
        .default([]),
    })
    .nullable()
    .default(null),
});
export type JobState = z.output<typeof jobState>;
export type PlannedTask = NonNullable<JobState['running']>['tasks'][number];
export type RunningJob = NonNullable<JobState['running']> & { process: ProcessIdentity };

/** The list is set aside when it is larger than this. */
const MAX_RECORDS_BYTES = 8 * 1024 * 1024;

function folderOf(places: Places): string {
  const folder = path.join(places.stateDir, 'backup-jobs');
  try {
    makeFolderSync(folder);
  } catch (error) {
    throw fromErrno(error, `cannot make ${folder}`);
  }
  return folder;
}

export function jobLockFile(places: Places, job: string): string {
  return path.join(folderOf(places), `${job}.lock`);
}

/** A state that is not there or cannot be read is that of a job that was never run. Throws IO. */
export function readJobState(places: Places, job: string): JobState {
  const file = path.join(folderOf(places), `${job}.json`);
  try {
    return jobState.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    if (isMissing || error instanceof SyntaxError || error instanceof z.ZodError) return jobState.parse({});
    throw fromErrno(error, `cannot read ${file}`);
  }
}

export async function writeJobState(places: Places, job: string, state: JobState): Promise<void> {
  await writeClosedFile(path.join(folderOf(places), `${job}.json`), `${JSON.stringify(state)}\n`);
}

/** Throws IO, NO_SPACE. */
export function appendRecord(places: Places, record: RunRecord): void {
  const file = path.join(folderOf(places), 'runs.jsonl');
  try {
    const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
    if (size > MAX_RECORDS_BYTES) renameSync(file, `${file}.1`);
    appendFileSync(file, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  } catch (error) {
    throw fromErrno(error, `cannot write ${file}`);
  }
}

/** Newest first; lines that a kill or a full disk cut are passed over. Throws IO. */
export function readRecords(places: Places): RunRecord[] {
  const file = path.join(folderOf(places), 'runs.jsonl');
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw fromErrno(error, `cannot read ${file}`);
  }
  return text
    .split('\n')
    .flatMap((line) => {
      try {
        const read = runRecord.safeParse(JSON.parse(line));
        return read.success ? [read.data] : [];
      } catch {
        return [];
      }
    })
    .reverse();
}
