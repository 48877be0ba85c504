/** Rows for lists: those of the index, however many, and small ones that are at hand. */
import type { BrowsedList } from '../../../src/engine/browsed-list.ts';
import { PhdError } from '../../../src/errors.ts';
import type { ListSource } from '../../dialogue.ts';

/** A row of the index; null in the moment between its going and the next look. */
export interface Shown<Row> {
  id: string;
  row: Row | null;
}

/**
 * `open` gives the list for a text that is being typed, '' for all. An index that cannot be read any more while it is
 * shown leaves an empty list, and `onFault` is told why, once.
 */
export function browsedSource<Row extends { id: number }>(
  open: (text: string) => BrowsedList<Row>,
  onFault: (message: string) => void,
): ListSource<Shown<Row>> {
  const opened = (text: string): BrowsedList<Row> => {
    const made = open(text);
    // The marker is placed by how many rows are known when the list opens.
    if (made.length.known === 0) made.firstPage(1);
    return made;
  };
  let list: BrowsedList<Row> | undefined = opened('');
  const guarded = <T>(look: (from: BrowsedList<Row>) => T, otherwise: T): T => {
    if (list === undefined) return otherwise;
    try {
      return look(list);
    } catch (error) {
      if (!(error instanceof PhdError)) throw error;
      list = undefined;
      onFault(error.message);
      return otherwise;
    }
  };
  return {
    length: () => list?.length ?? { known: 0, isExact: true },
    rows: (from, limit) =>
      guarded((now) => now.rows(from, limit), []).map((row, at) => ({
        id: row === null ? `gone ${from + at}` : String(row.id),
        row,
      })),
    indexOf: (id) => (/^\d+$/.test(id) ? guarded((now) => now.indexOf(Number(id)), -1) : -1),
    advance: (budgetMs) => guarded((now) => now.advance(budgetMs), false),
    find: (text) => {
      list = guarded(() => opened(text), undefined);
    },
    refresh: () => guarded((now) => now.refresh(), false),
  };
}

/** Rows of an array; `textOf` is what typing looks in. */
export function rowSource<Row>(
  rows: readonly Row[],
  idOf: (row: Row) => string,
  textOf?: (row: Row) => string,
): ListSource<Row> {
  let shown = rows;
  return {
    length: () => ({ known: shown.length, isExact: true }),
    rows: (from, limit) => shown.slice(from, from + limit),
    indexOf: (id) => shown.findIndex((row) => idOf(row) === id),
    ...(textOf && {
      find: (text: string) => {
        const wanted = text.normalize('NFC').toLowerCase();
        shown = rows.filter((row) => textOf(row).normalize('NFC').toLowerCase().includes(wanted));
      },
    }),
  };
}
