/** Rows for lists: those of the index, however many, and small ones that are at hand. */
import type { BrowsedList } from '../../../src/engine/browsed-list.ts';
import type { ListSource } from '../../dialogue.ts';

/** A row of the index; null in the moment between its going and the next look. */
export interface Shown<Row> {
  id: string;
  row: Row | null;
}

/** `open` gives the list for a text that is being typed, '' for all. */
export function browsedSource<Row extends { id: number }>(
  open: (text: string) => BrowsedList<Row>,
): ListSource<Shown<Row>> {
  const opened = (text: string): BrowsedList<Row> => {
    const made = open(text);
    // The marker is placed by how many rows are known when the list opens.
    if (made.length.known === 0) made.firstPage(1);
    return made;
  };
  let list = opened('');
  return {
    length: () => list.length,
    rows: (from, limit) =>
      list
        .rows(from, limit)
        .map((row, at) => ({ id: row === null ? `gone ${from + at}` : String(row.id), row })),
    indexOf: (id) => (/^\d+$/.test(id) ? list.indexOf(Number(id)) : -1),
    advance: (budgetMs) => list.advance(budgetMs),
    find: (text) => {
      list = opened(text);
    },
    refresh: () => list.refresh(),
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
