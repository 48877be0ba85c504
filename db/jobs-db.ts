/**
 * jobs.db: what cannot be read again from the targets - FULLs made here and their maps, digests of archives at
 * the time they were written, results of verify runs, and the queue (queue-db.ts). Every commit is synced; the file
 * must not be deleted.
 */
import type Database from 'better-sqlite3';
import type { Codec, Stamp } from '../src/model/archive.ts';
import { fromSqlite, openDatabase } from './open-database.ts';

/** Exported for the queue (queue-db.ts), which lives in the same file. */
export const JOBS_MIGRATIONS = [
  `CREATE TABLE fulls (
     vm_uuid TEXT NOT NULL, scsi_id TEXT NOT NULL, disk TEXT NOT NULL,
     target_number INTEGER NOT NULL, folder TEXT NOT NULL, file TEXT NOT NULL,
     stamp TEXT NOT NULL, full_id TEXT NOT NULL, map_digest TEXT NOT NULL, map_file TEXT NOT NULL,
     full_bytes INTEGER NOT NULL, codec TEXT NOT NULL, encrypted INTEGER NOT NULL, disk_bytes INTEGER NOT NULL,
     PRIMARY KEY (target_number, folder, file)
   ) STRICT;
   CREATE INDEX fulls_of_disk ON fulls (vm_uuid, scsi_id, disk, stamp);
   CREATE TABLE written (
     target_number INTEGER NOT NULL, folder TEXT NOT NULL, file TEXT NOT NULL,
     size_bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, run_id TEXT NOT NULL, written_at TEXT NOT NULL,
     PRIMARY KEY (target_number, folder, file)
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE verified (
     target_number INTEGER NOT NULL, folder TEXT NOT NULL, file TEXT NOT NULL, size_bytes INTEGER NOT NULL,
     verified_at TEXT NOT NULL, result TEXT NOT NULL CHECK (result IN ('good', 'damaged', 'unreadable')),
     detail TEXT NOT NULL,
     PRIMARY KEY (target_number, folder, file, size_bytes)
   ) STRICT, WITHOUT ROWID;`,
  `CREATE TABLE jobs (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     group_id INTEGER,
     kind TEXT NOT NULL CHECK (kind IN ('restore', 'backup', 'verify')),
     priority INTEGER NOT NULL,
     title TEXT NOT NULL,
     request TEXT NOT NULL,
     state TEXT NOT NULL CHECK (state IN
       ('waiting', 'running', 'done', 'done with warnings', 'failed', 'cancelled', 'interrupted')),
     submitter TEXT NOT NULL,
     created_at TEXT NOT NULL, started_at TEXT, ended_at TEXT,
     attempt INTEGER NOT NULL DEFAULT 0,
     owner TEXT,
     progress TEXT,
     exit_status INTEGER, error_code TEXT, error_message TEXT,
     warning_count INTEGER NOT NULL DEFAULT 0,
     result TEXT,
     is_seen INTEGER NOT NULL DEFAULT 0
   ) STRICT;
   CREATE INDEX jobs_in_order ON jobs (state, priority, id);
   CREATE TABLE job_attempts (
     job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
     attempt INTEGER NOT NULL,
     owner TEXT NOT NULL,
     started_at TEXT NOT NULL, ended_at TEXT,
     state TEXT NOT NULL, exit_status INTEGER,
     PRIMARY KEY (job_id, attempt)
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE queue_locks (
     kind TEXT PRIMARY KEY CHECK (kind IN ('backup', 'restore')), set_by TEXT NOT NULL, set_at TEXT NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE daemon (
     one INTEGER PRIMARY KEY CHECK (one = 1), process TEXT NOT NULL, started_at TEXT NOT NULL,
     version TEXT NOT NULL, stop_request TEXT CHECK (stop_request IN ('after-jobs', 'now'))
   ) STRICT;`,
];

export interface DiskKey {
  vmUuid: string;
  scsiId: string;
  /** True name of the disk. */
  disk: string;
}

/** A FULL that was written here, and where its map lies. */
export interface FullRecord extends DiskKey {
  targetNumber: number;
  folder: string;
  file: string;
  stamp: Stamp;
  fullId: string;
  /** Hex. */
  mapDigest: string;
  /** Local map stream (FORMAT.md section 4). */
  mapFile: string;
  fullBytes: number;
  codec: Codec;
  encrypted: boolean;
  diskBytes: number;
}

/** One archive as it was when it was written. */
export interface WrittenRecord {
  targetNumber: number;
  folder: string;
  file: string;
  sizeBytes: number;
  /** Hex. */
  sha256: string;
  runId: string;
  /** UTC, ISO 8601. */
  writtenAt: string;
}

export type VerifyOutcome = 'good' | 'damaged' | 'unreadable';

/** Newest result of verifying one archive on one target; counts only for a file of this size. */
export interface VerifyRecord {
  targetNumber: number;
  folder: string;
  file: string;
  sizeBytes: number;
  /** UTC, ISO 8601. */
  verifiedAt: string;
  result: VerifyOutcome;
  detail: string;
}

type Row = Record<string, string | number>;

export class JobsDb {
  readonly file: string;
  readonly #database: Database.Database;
  readonly #statements = new Map<string, Database.Statement>();

  /** Opens or makes the file. Throws IO, FORMAT_UNSUPPORTED (made by a newer program). */
  constructor(file: string) {
    this.file = file;
    this.#database = openDatabase(file, JOBS_MIGRATIONS);
  }

  /** Safe to repeat: a second record of the same file replaces the first. */
  recordFull(full: FullRecord): void {
    this.#run(
      `INSERT OR REPLACE INTO fulls VALUES (@vmUuid, @scsiId, @disk, @targetNumber, @folder, @file, @stamp,
         @fullId, @mapDigest, @mapFile, @fullBytes, @codec, @encrypted, @diskBytes)`,
      { ...full, encrypted: full.encrypted ? 1 : 0 },
    );
  }

  /** Drops the record of a FULL that is gone from its target; fine if there is none. */
  forgetFull(targetNumber: number, folder: string, file: string): void {
    this.#run('DELETE FROM fulls WHERE target_number = @targetNumber AND folder = @folder AND file = @file', {
      targetNumber,
      folder,
      file,
    });
  }

  /** Newest FULL of the disk by its stamp, on one target or on any. */
  newestFull(key: DiskKey & { targetNumber?: number }): FullRecord | undefined {
    return this.fullsOfDisk(key)[0];
  }

  /** All FULLs of the disk made here, newest first. */
  fullsOfDisk(key: DiskKey & { targetNumber?: number }): FullRecord[] {
    return this.#all(
      `SELECT * FROM fulls WHERE vm_uuid = @vmUuid AND scsi_id = @scsiId AND disk = @disk
         AND (@targetNumber IS NULL OR target_number = @targetNumber) ORDER BY stamp DESC, rowid DESC`,
      { vmUuid: key.vmUuid, scsiId: key.scsiId, disk: key.disk, targetNumber: key.targetNumber ?? null },
    ).map(fullOfRow);
  }

  /** Safe to repeat: a second record of the same file replaces the first. */
  recordWritten(written: WrittenRecord): void {
    this.#run(
      `INSERT OR REPLACE INTO written
         VALUES (@targetNumber, @folder, @file, @sizeBytes, @sha256, @runId, @writtenAt)`,
      { ...written },
    );
  }

  written(targetNumber: number, folder: string, file: string): WrittenRecord | undefined {
    const [row] = this.#all(
      'SELECT * FROM written WHERE target_number = @targetNumber AND folder = @folder AND file = @file',
      { targetNumber, folder, file },
    );
    if (row === undefined) return undefined;
    return {
      targetNumber,
      folder,
      file,
      sizeBytes: Number(row.size_bytes),
      sha256: String(row.sha256),
      runId: String(row.run_id),
      writtenAt: String(row.written_at),
    };
  }

  /** Keeps the newest result for each archive on each target. */
  recordVerify(verified: VerifyRecord): void {
    this.#run(
      `INSERT OR REPLACE INTO verified
         VALUES (@targetNumber, @folder, @file, @sizeBytes, @verifiedAt, @result, @detail)`,
      { ...verified },
    );
  }

  /** Result for exactly this file and size; undefined if it was never verified. */
  verifyResult(
    targetNumber: number,
    folder: string,
    file: string,
    sizeBytes: number,
  ): VerifyRecord | undefined {
    const [row] = this.#all(
      `SELECT * FROM verified WHERE target_number = @targetNumber AND folder = @folder AND file = @file
         AND size_bytes = @sizeBytes`,
      { targetNumber, folder, file, sizeBytes },
    );
    return row === undefined ? undefined : verifyOfRow(row);
  }

  /** All results of one target, oldest first. */
  verifyResults(targetNumber: number): VerifyRecord[] {
    return this.#all('SELECT * FROM verified WHERE target_number = @targetNumber ORDER BY verified_at', {
      targetNumber,
    }).map(verifyOfRow);
  }

  close(): void {
    this.#database.close();
  }

  #run(sql: string, values: Record<string, string | number | null>): void {
    try {
      this.#database.prepare(sql).run(values);
    } catch (error) {
      throw fromSqlite(error, `cannot write to ${this.file}`);
    }
  }

  #all(sql: string, values: Record<string, string | number | null>): Row[] {
    try {
      let statement = this.#statements.get(sql);
      if (statement === undefined) {
        statement = this.#database.prepare(sql);
        this.#statements.set(sql, statement);
      }
      return statement.all(values) as Row[];
    } catch (error) {
      throw fromSqlite(error, `cannot read ${this.file}`);
    }
  }
}

function fullOfRow(row: Row): FullRecord {
  return {
    vmUuid: String(row.vm_uuid),
    scsiId: String(row.scsi_id),
    disk: String(row.disk),
    targetNumber: Number(row.target_number),
    folder: String(row.folder),
    file: String(row.file),
    stamp: String(row.stamp),
    fullId: String(row.full_id),
    mapDigest: String(row.map_digest),
    mapFile: String(row.map_file),
    fullBytes: Number(row.full_bytes),
    codec: row.codec as Codec,
    encrypted: row.encrypted === 1,
    diskBytes: Number(row.disk_bytes),
  };
}

function verifyOfRow(row: Row): VerifyRecord {
  return {
    targetNumber: Number(row.target_number),
    folder: String(row.folder),
    file: String(row.file),
    sizeBytes: Number(row.size_bytes),
    verifiedAt: String(row.verified_at),
    result: row.result as VerifyOutcome,
    detail: String(row.detail),
  };
}
