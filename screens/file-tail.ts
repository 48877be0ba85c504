/** The end of a log file that may grow while it is read; never more of it than a person would scroll through. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { fromErrno } from '../src/errors.ts';

/** Older lines of a long log are left out. */
const LIMIT_BYTES = 1024 * 1024;

export class FileTail {
  readonly #file: string;
  #seen = -1;
  #lines: readonly string[] = [];

  constructor(file: string) {
    this.#file = file;
  }

  /** The lines there are now; the same array while the file is as it was. A file that is not there has none. */
  lines(): readonly string[] {
    let file: number;
    try {
      file = openSync(this.#file, 'r');
    } catch (error) {
      const failure = fromErrno(error, `cannot read ${this.#file}`);
      return failure.code === 'NOT_FOUND' ? this.#lines : [failure.message];
    }
    try {
      const { size } = fstatSync(file);
      if (size === this.#seen) return this.#lines;
      const bytes = Buffer.alloc(Math.min(size, LIMIT_BYTES));
      const length = readSync(file, bytes, 0, bytes.length, size - bytes.length);
      const lines = bytes.toString('utf8', 0, length).split('\n');
      if (lines.at(-1) === '') lines.pop();
      // The first may be cut in its middle.
      this.#lines = size > LIMIT_BYTES ? lines.slice(1) : lines;
      this.#seen = size;
      return this.#lines;
    } finally {
      closeSync(file);
    }
  }
}
