/** index.db: the catalogue of what lies on the targets. It may be deleted at any time. */
import { rmSync } from 'node:fs';
import type Database from 'better-sqlite3';
import { isDamaged, openDatabase } from './open-database.ts';

const MIGRATIONS: string[] = [];

export class IndexDb {
  readonly file: string;
  readonly #database: Database.Database;

  /** Opens or makes the file; a damaged one is removed and made anew, and `onNotice` says so. */
  static open(file: string, onNotice: (message: string) => void = () => {}): IndexDb {
    try {
      return new IndexDb(file, openDatabase(file, MIGRATIONS));
    } catch (error) {
      if (!isDamaged(error)) throw error;
      for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true });
      onNotice(`the index ${file} was damaged and is made anew: run phd index`);
      return new IndexDb(file, openDatabase(file, MIGRATIONS));
    }
  }

  private constructor(file: string, database: Database.Database) {
    this.file = file;
    this.#database = database;
  }

  close(): void {
    this.#database.close();
  }
}
