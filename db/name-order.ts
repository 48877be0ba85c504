/** All VMs, or all disk names, in the order of lists, with their folded names in memory for filters as one types. */
import type { NameCursor } from './archive-rows.ts';
import { fold } from './fold.ts';

/** Names of one page: some three milliseconds. */
const PAGE_NAMES = 1500;

export interface NamePage {
  ids: number[];
  folded: string[];
}

export interface NameSource {
  namePage(table: 'vm' | 'disk', after: NameCursor | undefined, limit: number): NamePage;
}

export class NameOrder {
  isComplete = false;
  readonly ids: number[] = [];
  /** Above every id. */
  idLimit = 1;
  readonly #folded: string[] = [];
  readonly #source: NameSource;
  readonly #table: 'vm' | 'disk';

  constructor(source: NameSource, table: 'vm' | 'disk') {
    this.#source = source;
    this.#table = table;
  }

  /** Reads on until `deadlineMs` (performance.now); at least one page. True once all is read. */
  advance(deadlineMs: number): boolean {
    while (!this.isComplete) {
      const folded = this.#folded.at(-1);
      const after = folded === undefined ? undefined : { folded, id: this.ids.at(-1) ?? 0 };
      const page = this.#source.namePage(this.#table, after, PAGE_NAMES);
      for (const id of page.ids) {
        this.ids.push(id);
        this.idLimit = Math.max(this.idLimit, id + 1);
      }
      for (const name of page.folded) this.#folded.push(name);
      this.isComplete = page.ids.length < PAGE_NAMES;
      if (performance.now() >= deadlineMs) break;
    }
    return this.isComplete;
  }

  /** Table with 1 at the id of each name that holds `part`; undefined if every name passes. */
  holding(part: string | undefined): Uint8Array | undefined {
    const wanted = fold(part ?? '');
    if (wanted === '') return undefined;
    const table = new Uint8Array(this.idLimit);
    for (let at = 0; at < this.ids.length; at++) {
      if ((this.#folded[at] as string).includes(wanted)) table[this.ids[at] as number] = 1;
    }
    return table;
  }

  /** Ids in order of the names that the table holds and whose count is not 0. */
  passing(table: Uint8Array | undefined, counts?: Uint32Array): Uint32Array {
    const found = new Uint32Array(this.ids.length);
    let count = 0;
    for (const id of this.ids) {
      if (counts?.[id] !== 0 && (table === undefined || table[id] === 1)) found[count++] = id;
    }
    return found.slice(0, count);
  }
}
