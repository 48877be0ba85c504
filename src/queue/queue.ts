/** What people and programs do with jobs: queue, look at, kill, retry, remove. The daemon starts them (daemon.ts). */
import { readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { ExclusiveLock } from '../../db/exclusive-lock.ts';
import { QueueDb } from '../../db/queue-db.ts';
import { type Clock, systemClock } from '../clock.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { makeFolderSync } from '../make-folder.ts';
import type { JobSettings, Places } from '../model/config.ts';
import type { Job, JobKind, JobState, Submitter } from '../model/job.ts';
import { isAlive, signalProcess, waitUntilGone } from './process-identity.ts';
import { printRequest, type Requests, titleOf } from './request.ts';

const DAY_MS = 86_400_000;
/** A worker gets so long to give up its work in order before it is killed. */
const GRACE_MS = 10_000;
/** The kernel gets so long to end a process after SIGKILL. */
const DEATH_MS = 5_000;
const ENDED: readonly Exclude<JobState, 'waiting' | 'running'>[] = [
  'done',
  'done with warnings',
  'failed',
  'cancelled',
  'interrupted',
];

export class Queue {
  readonly db: QueueDb;
  readonly places: Places;
  readonly clock: Clock;
  readonly #inode: bigint | undefined;

  /** Opens the queue of these places. Throws IO, NO_SPACE, FORMAT_UNSUPPORTED. */
  constructor(places: Places, clock: Clock = systemClock) {
    this.places = places;
    this.clock = clock;
    try {
      makeFolderSync(this.#logFolder);
    } catch {
      // Jobs go on without their logs: what would write or read one says so.
    }
    this.db = new QueueDb(path.join(places.stateDir, 'jobs.db'));
    this.#inode = inodeOf(this.db.file);
  }

  /** Queues one job for each request; several become a group. Throws USAGE, NO_SPACE, IO. */
  submit<Kind extends JobKind>(kind: Kind, requests: readonly Requests[Kind][], submitter: Submitter): Job[] {
    const createdAt = this.now();
    return this.db.add(
      requests.map((request) => ({
        kind,
        title: titleOf(kind, request),
        request: printRequest(kind, request),
        submitter,
        createdAt,
      })),
    );
  }

  /** Throws NOT_FOUND. */
  job(id: number): Job {
    const job = this.db.job(id);
    if (job === undefined) throw new PhdError('NOT_FOUND', `there is no job ${id}: see phd jobs list`);
    return job;
  }

  /** Where the output of a job lies, that of its last attempt at the end. */
  logFileOf(id: number): string {
    return path.join(this.#logFolder, `${id}.log`);
  }

  /** UTC, ISO 8601. */
  now(): string {
    return this.clock.now().toISOString();
  }

  /** Throws IO if jobs.db is no longer the file that was opened: what is read from it would be the past. */
  requirePresent(): void {
    if (inodeOf(this.db.file) === this.#inode) return;
    throw new PhdError('IO', `${this.db.file} was removed or replaced: start phd again`);
  }

  /** Running jobs whose process is gone become interrupted; returns them. Safe at any time, by anyone. */
  settleInterrupted(): Job[] {
    const settled: Job[] = [];
    for (const job of this.db.jobs({ states: ['running'] })) {
      if (job.owner !== null && isAlive(job.owner)) continue;
      const outcome = {
        state: 'interrupted',
        exitStatus: 1,
        errorCode: 'IO',
        errorMessage: 'its process ended without a result: retry it, a restore goes on where it proved to be',
        warningCount: job.warningCount,
        result: null,
      } as const;
      if (this.db.finish(job.id, job.attempt, outcome, this.now())) settled.push(this.job(job.id));
    }
    return settled;
  }

  /**
   * Ends a job: one that waits is cancelled, one that runs gets SIGTERM and, if that does not help, SIGKILL. Returns it
   * as it then is: it may have been done at the last moment. Throws NOT_FOUND, USAGE (ended already), IO.
   */
  async kill(id: number, graceMs: number = GRACE_MS): Promise<Job> {
    if (this.db.cancelWaiting(id, this.now())) return this.job(id);
    const job = this.job(id);
    if (job.state !== 'running' || job.owner === null) {
      throw new PhdError('USAGE', `job ${id} is ${job.state}: there is nothing to kill`);
    }
    signalProcess(job.owner, 'SIGTERM');
    if (!(await waitUntilGone(job.owner, graceMs))) {
      signalProcess(job.owner, 'SIGKILL', 'group');
      if (!(await waitUntilGone(job.owner, DEATH_MS))) {
        throw new PhdError('IO', `process ${job.owner.pid} of job ${id} does not end: the kernel holds it`);
      }
    }
    const outcome = {
      state: 'cancelled',
      exitStatus: 130,
      errorCode: 'CANCELLED',
      errorMessage: 'killed',
      warningCount: job.warningCount,
      result: null,
    } as const;
    this.db.finish(id, job.attempt, outcome, this.now());
    return this.job(id);
  }

  /** Lets a job wait for another attempt. Throws NOT_FOUND, USAGE (in a state that needs none). */
  retry(id: number): Job {
    const { state } = this.job(id);
    if (!this.db.retry(id)) {
      throw new PhdError(
        'USAGE',
        `job ${id} is ${state}: only one that failed, was cancelled or interrupted can be retried`,
      );
    }
    return this.job(id);
  }

  /** Removes all jobs that wait; returns their numbers. */
  removePending(): number[] {
    return this.#remove({ states: ['waiting'] });
  }

  /** Removes all ended jobs with their logs; returns their numbers. */
  purge(): number[] {
    return this.#remove({ states: ENDED });
  }

  /** Removes what has had its time, and logs without a job; returns the numbers of the jobs. */
  expire({ keepDays, keepCount }: JobSettings): number[] {
    const before = new Date(this.clock.now().getTime() - keepDays * DAY_MS).toISOString();
    const removed = this.#remove({ ids: this.db.expired(before, keepCount) });
    for (const name of readdirSync(this.#logFolder)) {
      const [, id] = /^(\d{1,15})\.log$/.exec(name) ?? [];
      if (id !== undefined && this.db.job(Number(id)) === undefined) this.#removeLog(Number(id));
    }
    return removed;
  }

  get daemonLockFile(): string {
    return path.join(this.places.stateDir, 'daemon.lock');
  }

  /** Whether a daemon lives for this home. Not to be asked by the daemon itself (exclusive-lock.ts). */
  isDaemonRunning(): boolean {
    return ExclusiveLock.isHeld(this.daemonLockFile);
  }

  /** It was asked to stop after its jobs or now, and has not yet. */
  isDaemonStopping(): boolean {
    return (this.db.daemon()?.stopRequest ?? null) !== null && this.isDaemonRunning();
  }

  close(): void {
    this.db.close();
  }

  get #logFolder(): string {
    return path.join(this.places.logDir, 'jobs');
  }

  #remove(which: Parameters<QueueDb['remove']>[0]): number[] {
    const removed = this.db.remove(which);
    for (const id of removed) this.#removeLog(id);
    return removed;
  }

  #removeLog(id: number): void {
    try {
      rmSync(this.logFileOf(id), { force: true });
    } catch (error) {
      throw fromErrno(error, `cannot remove ${this.logFileOf(id)}`);
    }
  }
}

function inodeOf(file: string): bigint | undefined {
  return statSync(file, { bigint: true, throwIfNoEntry: false })?.ino;
}
