/** Text tables: columns as wide as their widest cell, hostile text made visible, no trailing blanks. */
import { escapeText, textWidth } from '../engine/display-text.ts';

export interface Column {
  title: string;
  align?: 'left' | 'right';
}

/** Lines of the table, the titles first. Cells are escaped here. */
export function printTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string[] {
  const cells = [columns.map((column) => column.title), ...rows].map((row) => row.map(escapeText));
  const widths = columns.map((_, at) =>
    cells.reduce((width, row) => Math.max(width, textWidth(row[at] ?? '')), 0),
  );
  return cells.map((row) =>
    columns
      .map((column, at) => {
        const cell = row[at] ?? '';
        const blanks = ' '.repeat((widths[at] ?? 0) - textWidth(cell));
        return column.align === 'right' ? blanks + cell : cell + blanks;
      })
      .join('  ')
      .trimEnd(),
  );
}
