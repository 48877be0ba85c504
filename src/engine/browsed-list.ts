/**
 * One list on the screen over up to a million rows. Until the order of all rows is in memory it holds the first
 * ones, fetched page by page behind a key; then all of them, and any row, the end and the count are at hand.
 */

/** Rows fetched at once before the order is there. */
const PAGE_ROWS = 100;
/** A list that is not known whole is fetched page by page up to here. */
const PAGED_ROWS = 2000;

export interface ListLength {
  known: number;
  /** False: there may be more rows, or some fewer; `advance` has more to do. */
  isExact: boolean;
}

/** All rows of a list, by id. */
export interface WholeList {
  ids: Uint32Array;
  /** False while the order of archives is still missing. */
  isExact: boolean;
}

/** One row as a walk over the index finds it. */
export interface PagedRow<Key> {
  id: number;
  key: Key;
  /** Rows of one identity are one row: copies of an archive. */
  identity: string;
}

/** What one kind of list knows. `Key` is a place in its order. */
export interface ListSource<Row, Key> {
  /** Another one after the index has changed. */
  version(): string;
  /** Changes whenever `whole` may give something else. */
  revision(): number;
  /** All ids that pass, or null while they cannot be told. Some 30 ms for a million. */
  whole(): WholeList | null;
  /** `limit` rows behind a key, fewer at the end. */
  page(after: Key | undefined, limit: number, backward: boolean): PagedRow<Key>[];
  /** True if few rows can pass, so that they are fetched page by page and nothing else is read. */
  isNarrow: boolean;
  /** Rows by id; ids that are gone are left out. */
  rowsOf(ids: readonly number[]): Map<number, Row>;
  /** Other ids under which the same thing may stand in the list. */
  aliases(id: number): number[];
  /** Reads on until the deadline; true while there is more. */
  advance(deadlineMs: number): boolean;
  refresh(): boolean;
}

export class BrowsedList<Row, Key = unknown> {
  /** Goes up when rows or their places changed: look the selection up again by `indexOf`. */
  revision = 0;
  readonly #source: ListSource<Row, Key>;
  #whole: WholeList | null = null;
  #sourceRevision = -1;
  /** First rows, while `#whole` is null; by identity, in order. */
  #paged = new Map<string, number>();
  #lastKey: Key | undefined;
  #isPagedToEnd = false;
  /** The index has changed since what is shown was read. */
  #isOutdated = false;
  #version: string;

  constructor(source: ListSource<Row, Key>) {
    this.#source = source;
    this.#version = source.version();
    this.#evaluate();
  }

  get length(): ListLength {
    if (this.#whole !== null) {
      return { known: this.#whole.ids.length, isExact: this.#whole.isExact && !this.#isOutdated };
    }
    return { known: this.#paged.size, isExact: this.#isPagedToEnd };
  }

  /** The first rows, also where nothing is known yet. */
  firstPage(limit: number): (Row | null)[] {
    return this.rows(0, limit);
  }

  /**
   * Rows `from` .. `from + limit - 1`, fewer at the end of what is known. null: gone from the index since (see
   * `refresh`).
   */
  rows(from: number, limit: number): (Row | null)[] {
    if (this.#whole === null) this.#fetchPages(Math.min(from + limit, PAGED_ROWS));
    const ids =
      this.#whole === null
        ? [...this.#paged.values()].slice(from, from + limit)
        : [...this.#whole.ids.subarray(from, from + limit)];
    const rows = this.#source.rowsOf(ids);
    return ids.map((id) => rows.get(id) ?? null);
  }

  /** undefined: not known (yet), or behind the end. */
  rowAt(index: number): Row | null | undefined {
    return index < 0 ? undefined : this.rows(index, 1)[0];
  }

  /** The last rows, in order; also where their numbers are not known yet. */
  lastPage(limit: number): (Row | null)[] {
    if (this.length.isExact || this.#whole !== null) {
      const { known } = this.length;
      const from = Math.max(0, known - limit);
      return this.rows(from, known - from);
    }
    const page = this.#source.page(undefined, 2 * limit, true);
    const ids = [...new Map(page.map(({ identity, id }) => [identity, id])).values()].slice(-limit);
    const rows = this.#source.rowsOf(ids);
    return ids.map((id) => rows.get(id) ?? null);
  }

  /** Place of a row by its id, or of another copy of the same archive; -1 if it is not among the known rows. */
  indexOf(id: number): number {
    const places = (one: number): number =>
      this.#whole === null ? [...this.#paged.values()].indexOf(one) : this.#whole.ids.indexOf(one);
    const place = places(id);
    if (place >= 0) return place;
    for (const alias of this.#source.aliases(id)) {
      const other = places(alias);
      if (other >= 0) return other;
    }
    return -1;
  }

  /** Goes on for about `budgetMs` (a filter over a million rows is one step of up to 30). True while there is more. */
  advance(budgetMs: number): boolean {
    const deadlineMs = performance.now() + budgetMs;
    if (this.#whole === null && this.#source.isNarrow && this.#paged.size < PAGED_ROWS) {
      while (!this.#isPagedToEnd && performance.now() < deadlineMs) this.#fetchPages(this.#paged.size + 1);
      return !this.#isPagedToEnd;
    }
    if (this.#sourceRevision !== this.#source.revision()) this.#evaluate();
    else if (!this.#source.advance(deadlineMs) && this.#sourceRevision === this.#source.revision()) {
      this.#isOutdated = false;
      return false;
    }
    return true;
  }

  /** Looks whether the index has changed; true if so: then `advance` brings the new rows. */
  refresh(): boolean {
    const mustRead = this.#source.refresh();
    const version = this.#source.version();
    const isChanged = version !== this.#version;
    this.#version = version;
    this.#isOutdated ||= mustRead && this.#whole !== null;
    if (isChanged && this.#whole === null) {
      const { size } = this.#paged;
      this.#paged = new Map();
      this.#lastKey = undefined;
      this.#isPagedToEnd = false;
      this.#fetchPages(size);
      this.revision++;
    }
    return mustRead || isChanged;
  }

  #evaluate(): void {
    this.#sourceRevision = this.#source.revision();
    const whole = this.#source.whole();
    if (whole === null) return;
    this.#whole = whole;
    this.#paged.clear();
    this.revision++;
  }

  #fetchPages(wanted: number): void {
    while (!this.#isPagedToEnd && this.#paged.size < wanted) {
      const limit = Math.max(PAGE_ROWS, wanted - this.#paged.size);
      const page = this.#source.page(this.#lastKey, limit, false);
      for (const { identity, id } of page) if (!this.#paged.has(identity)) this.#paged.set(identity, id);
      this.#lastKey = page.at(-1)?.key;
      this.#isPagedToEnd = page.length < limit;
    }
  }
}
