/** What stands over all jobs: the locks of the queue and the record of its daemon; and the file they lie in. */
import type Database from 'better-sqlite3';
import type {
  DaemonRecord,
  LockKind,
  ProcessIdentity,
  QueueLock,
  StopRequest,
  Submitter,
} from '../src/model/job.ts';
import { JOBS_MIGRATIONS } from './jobs-db.ts';
import { fromSqlite, openDatabase } from './open-database.ts';

/** What SQLite binds and gives. */
export type Value = string | number | null;
export type Row = Record<string, Value>;

export class QueueGate {
  readonly file: string;
  readonly #database: Database.Database;

  /** Opens or makes jobs.db. Throws IO, FORMAT_UNSUPPORTED (made by a newer program). */
  constructor(file: string) {
    this.file = file;
    this.#database = openDatabase(file, JOBS_MIGRATIONS);
  }

  locks(): QueueLock[] {
    return this.all('SELECT * FROM queue_locks ORDER BY kind', {}).map((row) => ({
      kind: row.kind as LockKind,
      by: JSON.parse(String(row.set_by)) as Submitter,
      at: String(row.set_at),
    }));
  }

  /** False if it was set already; then it stays as it is, with the name of who set it. */
  setLock({ kind, by, at }: QueueLock): boolean {
    const { rows } = this.change('INSERT OR IGNORE INTO queue_locks VALUES (@kind, @by, @at)', {
      kind,
      at,
      by: JSON.stringify(by),
    });
    return rows === 1;
  }

  /** False if it was not set. */
  clearLock(kind: LockKind): boolean {
    return this.change('DELETE FROM queue_locks WHERE kind = @kind', { kind }).rows === 1;
  }

  /** What the last daemon wrote; whether it lives only its lock tells. */
  daemon(): DaemonRecord | undefined {
    const [row] = this.all('SELECT * FROM daemon', {});
    return (
      row && {
        process: JSON.parse(String(row.process)) as ProcessIdentity,
        startedAt: String(row.started_at),
        version: String(row.version),
        stopRequest: row.stop_request as StopRequest | null,
      }
    );
  }

  /** Called by the daemon that holds the lock. */
  recordDaemon({ process, startedAt, version }: Omit<DaemonRecord, 'stopRequest'>): void {
    this.change('INSERT OR REPLACE INTO daemon VALUES (1, @process, @startedAt, @version, NULL)', {
      startedAt,
      version,
      process: JSON.stringify(process),
    });
  }

  requestStop(request: StopRequest): void {
    this.change('UPDATE daemon SET stop_request = @request', { request });
  }

  forgetDaemon(): void {
    this.change('DELETE FROM daemon', {});
  }

  /** Another number after another connection has committed; the same as long as none has. */
  dataVersion(): number {
    return this.#guard('read', () => this.#database.pragma('data_version', { simple: true }) as number);
  }

  close(): void {
    this.#database.close();
  }

  /** One transaction that writes from its begin, so that what it reads stays so. */
  protected exclusively<T>(work: () => T): T {
    return this.#guard('write to', () => this.#database.transaction(work).immediate());
  }

  protected change(sql: string, values: Record<string, Value>): { rows: number; id: number } {
    return this.#guard('write to', () => {
      const { changes, lastInsertRowid } = this.#database.prepare(sql).run(values);
      return { rows: changes, id: Number(lastInsertRowid) };
    });
  }

  protected all(sql: string, values: Record<string, Value>): Row[] {
    return this.#guard('read', () => this.#database.prepare(sql).all(values) as Row[]);
  }

  #guard<T>(doing: string, work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw fromSqlite(error, `cannot ${doing} ${this.file}`);
    }
  }
}
