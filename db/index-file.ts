/**
 * The file of the index and how every statement on it is run: compiled once, its errors translated, a damaged file made
 * anew. The layers above add what is kept and asked: targets, archives, names, the order of lists, listings.
 */
import { rmSync } from 'node:fs';
import type Database from 'better-sqlite3';
import { PhdError } from '../src/errors.ts';
import type { SqlRow } from './archive-rows.ts';
import { INDEX_MIGRATIONS } from './index-schema.ts';
import { fromSqlite, isDamaged, openDatabase } from './open-database.ts';

export class IndexFile {
  readonly file: string;
  readonly #onNotice: (message: string) => void;
  readonly #statements = new Map<string, Database.Statement>();
  protected database: Database.Database;

  /** Opens or makes the file; a damaged one is removed and made anew, and `onNotice` says so. Throws IO. */
  constructor(file: string, onNotice: (message: string) => void = () => {}) {
    this.file = file;
    this.#onNotice = onNotice;
    try {
      this.database = openDatabase(file, INDEX_MIGRATIONS, 'NORMAL');
    } catch (error) {
      const isFromNewer = error instanceof PhdError && error.code === 'FORMAT_UNSUPPORTED';
      if (!isDamaged(error) && !isFromNewer) throw error;
      this.database = makeAnew(file, onNotice);
    }
  }

  /** Lets SQLite keep less of the file in memory (16 MB by default): the pages lie in the cache of the system as well. */
  limitCache(bytes: number): void {
    this.guard(() => this.database.pragma(`cache_size = -${Math.ceil(bytes / 1024)}`));
  }

  /** Another text after the index was changed by this connection or another; the same as long as it was not. */
  version(): string {
    return this.guard(() => {
      const byOthers = this.database.pragma('data_version', { simple: true });
      return `${byOthers} ${this.statement('SELECT total_changes()').pluck().get()}`;
    });
  }

  close(): void {
    this.database.close();
  }

  /** A statement that is compiled once. */
  protected statement(sql: string): Database.Statement {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  protected rows(sql: string, values: Record<string, string | number | null> = {}): SqlRow[] {
    return this.guard(() => this.statement(sql).all(values) as SqlRow[]);
  }

  protected run(sql: string, values: Record<string, string | number | null>): void {
    this.guard(() => this.database.prepare(sql).run(values));
  }

  protected transaction<T>(work: () => T): T {
    return this.guard(() => this.database.transaction(work).immediate());
  }

  /** Translates errors of SQLite; a file found damaged in mid-use is made anew before the error goes on. */
  protected guard<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (isDamaged(error) && !this.database.inTransaction) {
        this.database.close();
        this.#statements.clear();
        this.database = makeAnew(this.file, this.#onNotice);
        throw new PhdError('IO', `the index ${this.file} was damaged and is empty now: run phd index`, {
          cause: error,
        });
      }
      throw fromSqlite(error, `index ${this.file}`);
    }
  }
}

function makeAnew(file: string, onNotice: (message: string) => void): Database.Database {
  for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true });
  onNotice(`the index ${file} could not be used and is made anew: run phd index`);
  return openDatabase(file, INDEX_MIGRATIONS, 'NORMAL');
}
