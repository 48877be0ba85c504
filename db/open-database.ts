/**
 * Opens a SQLite file: write-ahead log, every commit synced unless the caller can lose some, migrations by `user_version`. Nothing else of the
 * program may open or copy these files while they are in use (closing any descriptor drops SQLite's locks).
 */
import { closeSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import { PhdError } from '../src/errors.ts';

/** How long a statement waits for the lock of another process before it fails. */
const BUSY_TIMEOUT_MS = 10_000;

/**
 * Opens or makes `file` (0600) and runs the migrations it lacks, each in a transaction of its own.
 * `migrations[i]` leads from version i to i + 1 and never changes once released.
 * Throws IO (damaged or unreadable), FORMAT_UNSUPPORTED (written by a newer program).
 */
export function openDatabase(
  file: string,
  migrations: readonly string[],
  synchronous: 'FULL' | 'NORMAL' = 'FULL',
): Database.Database {
  let database: Database.Database | undefined;
  try {
    makeClosedFile(file);
    database = new Database(file, { timeout: BUSY_TIMEOUT_MS });
    database.pragma('journal_mode = WAL');
    database.pragma(`synchronous = ${synchronous}`);
    database.pragma('foreign_keys = ON');
    migrate(database, file, migrations);
    return database;
  } catch (error) {
    database?.close();
    throw fromSqlite(error, `cannot open database ${file}`);
  }
}

/**
 * Makes an empty file (0600) where there is none. One that is there is not opened: closing that descriptor would drop
 * the locks of every other connection of this process to it (fcntl(2)).
 */
export function makeClosedFile(file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

function migrate(database: Database.Database, file: string, migrations: readonly string[]): void {
  const step = database.transaction(() => {
    const version = database.pragma('user_version', { simple: true }) as number;
    if (version > migrations.length) {
      throw new PhdError('FORMAT_UNSUPPORTED', `${file} was written by a newer version of this program`);
    }
    const migration = migrations[version];
    if (migration === undefined) return false;
    database.exec(migration);
    database.pragma(`user_version = ${version + 1}`);
    return true;
  });
  while (step.immediate());
}

/** True if SQLite says, directly or as the cause, that the file is no database or is damaged. */
export function isDamaged(error: unknown): boolean {
  const sqlite = (error instanceof PhdError ? error.cause : error) as { code?: string } | undefined;
  const code = sqlite?.code;
  return code !== undefined && /^SQLITE_(CORRUPT|NOTADB)/.test(code);
}

/** Translates an error of SQLite at the door of this room; a PhdError passes unchanged. */
export function fromSqlite(error: unknown, doing: string): PhdError {
  if (error instanceof PhdError) return error;
  const code = (error as { code?: string }).code ?? '';
  const words = (error as Error).message;
  // A full disk also shows as a log or its shared memory that cannot grow.
  if (code === 'SQLITE_FULL' || code === 'ENOSPC' || code === 'SQLITE_IOERR_SHMSIZE') {
    return new PhdError('NO_SPACE', `${doing}: no space left on its volume`, { cause: error });
  }
  if (/^(SQLITE_(CANTOPEN|READONLY)|EROFS|EACCES)/.test(code)) {
    return new PhdError('IO', `${doing}: its folder is missing or cannot be written to`, { cause: error });
  }
  if (code.startsWith('SQLITE_BUSY')) {
    return new PhdError('LOCKED', `${doing}: another process holds it for too long`, {
      cause: error,
      retryable: true,
    });
  }
  return new PhdError('IO', `${doing}: ${words}`, { cause: error });
}
