/**
 * A lock that the kernel frees when its holder dies, however it dies: an exclusive SQLite lock on a file of its own.
 * Nothing else may open that file, since closing any descriptor of it would drop the lock (fcntl(2)).
 */
import Database from 'better-sqlite3';
import { fromSqlite, makeClosedFile } from './open-database.ts';

/** Those who only look hold it for a moment: so long one who takes it waits for them. */
const LOOKERS_MS = 1000;

export class ExclusiveLock {
  readonly #database: Database.Database;

  private constructor(database: Database.Database) {
    this.#database = database;
  }

  /** Takes the lock; undefined if another process holds it. Throws IO. */
  static tryTake(file: string): ExclusiveLock | undefined {
    let database: Database.Database | undefined;
    try {
      makeClosedFile(file);
      database = new Database(file, { timeout: LOOKERS_MS });
      database.exec('BEGIN EXCLUSIVE');
      return new ExclusiveLock(database);
    } catch (error) {
      database?.close();
      if (isBusy(error)) return undefined;
      throw fromSqlite(error, `cannot lock ${file}`);
    }
  }

  /** Whether another process holds it. Not to be asked by the holder itself. Throws IO. */
  static isHeld(file: string): boolean {
    let database: Database.Database | undefined;
    try {
      makeClosedFile(file);
      database = new Database(file, { timeout: 0 });
      database.prepare('SELECT count(*) FROM sqlite_schema').get();
      return false;
    } catch (error) {
      if (isBusy(error)) return true;
      throw fromSqlite(error, `cannot look at the lock ${file}`);
    } finally {
      database?.close();
    }
  }

  release(): void {
    this.#database.close();
  }
}

function isBusy(error: unknown): boolean {
  return /^SQLITE_BUSY/.test((error as { code?: string }).code ?? '');
}
