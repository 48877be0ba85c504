/** The orders of archives, VMs and disk names that lists share: read once, in slices, and anew after a change. */
import { ArchiveOrder, type NameFigures, type OrderTest } from '../../db/archive-order.ts';
import type { IndexDb } from '../../db/index-db.ts';
import { NameOrder } from '../../db/name-order.ts';

export type OrderKind = 'archives' | 'vm' | 'disk';

interface Part<Order> {
  /** The one that was read last. */
  whole: Order | null;
  reading: Order | null;
  /** Version of the index when `reading` began, else of `whole`. */
  version: string;
}

export class IndexOrders {
  /** Counts orders that became whole. */
  revision = 0;
  readonly #index: IndexDb;
  readonly #archives: Part<ArchiveOrder> = { whole: null, reading: null, version: '' };
  readonly #names: Record<'vm' | 'disk', Part<NameOrder>> = {
    vm: { whole: null, reading: null, version: '' },
    disk: { whole: null, reading: null, version: '' },
  };

  #figures: { key: string; figures: NameFigures } | null = null;

  constructor(index: IndexDb) {
    this.#index = index;
  }

  /** Null until it was read once. */
  get archives(): ArchiveOrder | null {
    return this.#archives.whole;
  }

  /** Null until it was read once. */
  names(table: 'vm' | 'disk'): NameOrder | null {
    return this.#names[table].whole;
  }

  /**
   * Figures of VMs or disk names, kept while the same test is asked for: a part of a name as one types it chooses
   * among names and changes no figures. Null while the archives or names are missing.
   */
  figures(table: 'vm' | 'disk', test: OrderTest, testKey: string): NameFigures | null {
    const names = this.names(table);
    if (names === null || this.archives === null) return null;
    const key = `${this.revision} ${table} ${testKey}`;
    if (this.#figures?.key !== key) {
      this.#figures = { key, figures: this.archives.figures(test, table, names.idLimit) };
    }
    return this.#figures.figures;
  }

  /** Reads what is wanted, in this order, until `deadlineMs` (performance.now). True while there is more to do. */
  advance(wanted: readonly OrderKind[], deadlineMs: number): boolean {
    for (const kind of wanted) {
      const part = this.#part(kind);
      if (part.whole !== null && part.reading === null) continue;
      if (performance.now() >= deadlineMs) return true;
      if (part.reading === null) this.#begin(kind);
      if (!part.reading?.advance(deadlineMs)) return true;
      part.whole = part.reading;
      part.reading = null;
      this.revision++;
    }
    return false;
  }

  /**
   * Begins to read anew what the index has changed since; what was read stays until then. A reading under way goes
   * on first, so that an index under constant change is shown at all. True if something is to be read.
   */
  refresh(): boolean {
    const version = this.#index.version();
    let mustRead = false;
    for (const kind of ['vm', 'disk', 'archives'] as const) {
      const part = this.#part(kind);
      if (part.whole === null && part.reading === null) continue;
      if (part.reading === null && part.version !== version) this.#begin(kind);
      mustRead ||= part.reading !== null;
    }
    return mustRead;
  }

  #part(kind: OrderKind): Part<ArchiveOrder | NameOrder> {
    return kind === 'archives' ? this.#archives : this.#names[kind];
  }

  #begin(kind: OrderKind): void {
    const part = this.#part(kind);
    part.version = this.#index.version();
    part.reading = kind === 'archives' ? new ArchiveOrder(this.#index) : new NameOrder(this.#index, kind);
  }
}
