/**
 * The queue's part of jobs.db: jobs and their attempts. A job is claimed in one transaction, which counts its attempt;
 * every later write names that attempt, so an owner that lost its job changes nothing. Locks and the daemon's record:
 * queue-gate.ts.
 */
import type {
  Job,
  JobAttempt,
  JobKind,
  JobOutcome,
  JobProgress,
  JobState,
  LockKind,
  ProcessIdentity,
  QueueLock,
  Submitter,
} from '../src/model/job.ts';
import { QueueGate, type Row, type Value } from './queue-gate.ts';

/** Restores go first: someone waits for them. */
const PRIORITY: Record<JobKind, number> = { restore: 0, backup: 1, verify: 2 };

/** A verify run reads targets and may be put off, so either lock holds it back. */
const LOCKED_KINDS: Record<LockKind, JobKind[]> = {
  restore: ['restore', 'verify'],
  backup: ['backup', 'verify'],
};

/** Locks that hold a kind of job back. */
export function locksOver(kind: JobKind): LockKind[] {
  return (Object.keys(LOCKED_KINDS) as LockKind[]).filter((lock) => LOCKED_KINDS[lock].includes(kind));
}

export interface NewJob {
  kind: JobKind;
  title: string;
  /** JSON. */
  request: string;
  submitter: Submitter;
  createdAt: string;
}

export interface JobFilter {
  states?: readonly JobState[];
  kinds?: readonly JobKind[];
  groupId?: number;
}

/** What a claim found: the job, now running and ours, or why not. */
export type Claim =
  | { job: Job }
  | { refused: 'gone' | 'not waiting' }
  | { refused: 'locked'; lock: QueueLock };

export class QueueDb extends QueueGate {
  /** Queues jobs in one transaction; several become a group under the number of the first. */
  add(jobs: readonly NewJob[]): Job[] {
    return this.exclusively(() => {
      const ids = jobs.map(({ kind, title, request, submitter, createdAt }) => {
        const values = {
          kind,
          title,
          request,
          createdAt,
          priority: PRIORITY[kind],
          submitter: JSON.stringify(submitter),
        };
        return this.change(
          `INSERT INTO jobs (kind, priority, title, request, state, submitter, created_at)
             VALUES (@kind, @priority, @title, @request, 'waiting', @submitter, @createdAt)`,
          values,
        ).id;
      });
      const [groupId = 0] = ids;
      if (ids.length > 1)
        for (const id of ids)
          this.change('UPDATE jobs SET group_id = @groupId WHERE id = @id', { groupId, id });
      return ids.map((id) => this.job(id) as Job);
    });
  }

  job(id: number): Job | undefined {
    const [row] = this.all('SELECT * FROM jobs WHERE id = @id', { id });
    return row && jobOfRow(row);
  }

  /** Newest first. */
  jobs(filter: JobFilter = {}, page: { limit?: number; beforeId?: number } = {}): Job[] {
    return this.all(
      `SELECT * FROM jobs
         WHERE (@states IS NULL OR state IN (SELECT value FROM json_each(@states)))
           AND (@kinds IS NULL OR kind IN (SELECT value FROM json_each(@kinds)))
           AND (@groupId IS NULL OR group_id = @groupId) AND (@beforeId IS NULL OR id < @beforeId)
         ORDER BY id DESC LIMIT @limit`,
      {
        states: filter.states ? JSON.stringify(filter.states) : null,
        kinds: filter.kinds ? JSON.stringify(filter.kinds) : null,
        groupId: filter.groupId ?? null,
        beforeId: page.beforeId ?? null,
        limit: page.limit ?? -1,
      },
    ).map(jobOfRow);
  }

  /** Numbers of all jobs whose line holds this text: what runs, what waits in its order, then the newest first. */
  listed(part = ''): number[] {
    return this.all(
      `SELECT id FROM jobs WHERE @part = ''
           OR instr(lower(kind || ' ' || state || ' ' || title || ' ' || submitter), lower(@part)) > 0
         ORDER BY state = 'running' DESC, state = 'waiting' DESC, iif(state = 'waiting', priority, 0),
           iif(state = 'waiting', id, -id)`,
      { part },
    ).map(({ id }) => Number(id));
  }

  /** Another text after anything was changed, by whatever connection; the same as long as nothing was. */
  changeMark(): string {
    const [row] = this.all('SELECT total_changes() AS n', {});
    return `${this.dataVersion()} ${row?.n}`;
  }

  /** The starts of a job, oldest first. */
  attempts(id: number): JobAttempt[] {
    return this.all('SELECT * FROM job_attempts WHERE job_id = @id ORDER BY attempt', { id }).map((row) => ({
      attempt: Number(row.attempt),
      owner: JSON.parse(String(row.owner)) as ProcessIdentity,
      startedAt: String(row.started_at),
      endedAt: textOrNull(row.ended_at),
      state: row.state as JobState,
      exitStatus: numberOrNull(row.exit_status),
    }));
  }

  /** How many jobs are in each state; states without any are left out. */
  counts(): Partial<Record<JobState, number>> {
    const rows = this.all('SELECT state, count(*) AS n FROM jobs GROUP BY state', {});
    return Object.fromEntries(rows.map(({ state, n }) => [state, n]));
  }

  /** How many failed or were interrupted and no person has looked at yet. */
  unseenFailures(): number {
    const [row] = this.all(
      "SELECT count(*) AS n FROM jobs WHERE state IN ('failed', 'interrupted') AND is_seen = 0",
      {},
    );
    return Number(row?.n);
  }

  /** The waiting job that is next: restores, backups, verify runs, each in order of arrival; none under a lock. */
  nextWaiting(without: readonly number[] = [], heldKinds: readonly JobKind[] = []): Job | undefined {
    const held = [...heldKinds, ...this.locks().flatMap(({ kind }) => LOCKED_KINDS[kind])];
    const [row] = this.all(
      `SELECT * FROM jobs WHERE state = 'waiting' AND kind NOT IN (SELECT value FROM json_each(@held))
         AND id NOT IN (SELECT value FROM json_each(@without)) ORDER BY priority, id LIMIT 1`,
      { held: JSON.stringify(held), without: JSON.stringify(without) },
    );
    return row && jobOfRow(row);
  }

  /** Makes a waiting job the running job of `owner`, as its next attempt. Of several who try, one gets it. */
  claim(id: number, owner: ProcessIdentity, at: string): Claim {
    return this.exclusively((): Claim => {
      const job = this.job(id);
      if (job === undefined) return { refused: 'gone' };
      if (job.state !== 'waiting') return { refused: 'not waiting' };
      const lock = this.locks().find(({ kind }) => LOCKED_KINDS[kind].includes(job.kind));
      if (lock) return { refused: 'locked', lock };
      const values = { id, at, owner: JSON.stringify(owner), attempt: job.attempt + 1 };
      this.change(
        `UPDATE jobs SET state = 'running', attempt = @attempt, owner = @owner, started_at = @at, ended_at = NULL,
           progress = NULL, exit_status = NULL, error_code = NULL, error_message = NULL, warning_count = 0,
           result = NULL, is_seen = 0 WHERE id = @id`,
        values,
      );
      this.change(
        `INSERT INTO job_attempts (job_id, attempt, owner, started_at, state)
           VALUES (@id, @attempt, @owner, @at, 'running')`,
        values,
      );
      return { job: this.job(id) as Job };
    });
  }

  /** False if the attempt is no longer the job's: its writer must stop. */
  writeProgress(id: number, attempt: number, progress: JobProgress, warningCount: number): boolean {
    const { rows } = this.change(
      `UPDATE jobs SET progress = @progress, warning_count = @warningCount
         WHERE id = @id AND attempt = @attempt AND state = 'running'`,
      { id, attempt, warningCount, progress: JSON.stringify(progress) },
    );
    return rows === 1;
  }

  /** Ends a running attempt. False, and nothing changes, if it is no longer the job's. */
  finish(id: number, attempt: number, outcome: JobOutcome, at: string): boolean {
    return this.exclusively(() => {
      const { rows } = this.change(
        `UPDATE jobs SET state = @state, ended_at = @at, exit_status = @exitStatus, error_code = @errorCode,
           error_message = @errorMessage, warning_count = max(warning_count, @warningCount), result = @result
           WHERE id = @id AND attempt = @attempt AND state = 'running'`,
        { id, attempt, at, ...outcome },
      );
      if (rows === 0) return false;
      this.change(
        `UPDATE job_attempts SET state = @state, ended_at = @at, exit_status = @exitStatus
           WHERE job_id = @id AND attempt = @attempt`,
        { id, attempt, at, state: outcome.state, exitStatus: outcome.exitStatus },
      );
      return true;
    });
  }

  /** Cancels a job that has not begun. False if it has. */
  cancelWaiting(id: number, at: string): boolean {
    const { rows } = this.change(
      `UPDATE jobs SET state = 'cancelled', ended_at = @at, exit_status = 130, error_code = 'CANCELLED',
         error_message = 'cancelled before it began' WHERE id = @id AND state = 'waiting'`,
      { id, at },
    );
    return rows === 1;
  }

  /** Lets an attempt that failed, was cancelled or interrupted wait again. False in any other state. */
  retry(id: number): boolean {
    const { rows } = this.change(
      `UPDATE jobs SET state = 'waiting', progress = NULL
         WHERE id = @id AND state IN ('failed', 'cancelled', 'interrupted')`,
      { id },
    );
    return rows === 1;
  }

  markSeen(id: number): void {
    this.change(`UPDATE jobs SET is_seen = 1 WHERE id = @id AND state NOT IN ('waiting', 'running')`, {
      id,
    });
  }

  /** Removes jobs that are not running; returns the numbers of those removed. */
  remove(filter: { states: readonly Exclude<JobState, 'running'>[] } | { ids: readonly number[] }): number[] {
    const rows = this.all(
      `DELETE FROM jobs WHERE state <> 'running' AND (state IN (SELECT value FROM json_each(@states))
         OR id IN (SELECT value FROM json_each(@ids))) RETURNING id`,
      {
        states: JSON.stringify('states' in filter ? filter.states : []),
        ids: JSON.stringify('ids' in filter ? filter.ids : []),
      },
    );
    return rows.map(({ id }) => Number(id)).sort((a, b) => a - b);
  }

  /**
   * Ended jobs that have had their time: older than `endedBefore`, or beyond the newest `keepCount`. Failed and
   * interrupted ones stay until someone has seen them.
   */
  expired(endedBefore: string, keepCount: number): number[] {
    const rows = this.all(
      `SELECT id FROM (
         SELECT id, ended_at, row_number() OVER (ORDER BY ended_at DESC, id DESC) AS place FROM jobs
           WHERE state IN ('done', 'done with warnings', 'cancelled')
             OR (state IN ('failed', 'interrupted') AND is_seen = 1))
         WHERE ended_at < @endedBefore OR place > @keepCount ORDER BY id`,
      { endedBefore, keepCount },
    );
    return rows.map(({ id }) => Number(id));
  }
}

function jobOfRow(row: Row): Job {
  return {
    id: Number(row.id),
    groupId: numberOrNull(row.group_id),
    kind: row.kind as JobKind,
    title: String(row.title),
    request: String(row.request),
    state: row.state as JobState,
    submitter: JSON.parse(String(row.submitter)) as Submitter,
    createdAt: String(row.created_at),
    startedAt: textOrNull(row.started_at),
    endedAt: textOrNull(row.ended_at),
    attempt: Number(row.attempt),
    owner: row.owner ? (JSON.parse(String(row.owner)) as ProcessIdentity) : null,
    progress: row.progress ? (JSON.parse(String(row.progress)) as JobProgress) : null,
    exitStatus: numberOrNull(row.exit_status),
    errorCode: textOrNull(row.error_code),
    errorMessage: textOrNull(row.error_message),
    warningCount: Number(row.warning_count),
    result: textOrNull(row.result),
    isSeen: row.is_seen === 1,
  };
}

function textOrNull(value: Value | undefined): string | null {
  return typeof value === 'string' ? value : null;
}

function numberOrNull(value: Value | undefined): number | null {
  return typeof value === 'number' ? value : null;
}
