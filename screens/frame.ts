/** What a view shows: rows of marked text. Views make frames, the terminal paints them; neither knows the other. */
import { escapeText, textWidth } from '../src/engine/display-text.ts';
import type { Look } from './look.ts';

/** What a text means; the look decides how that appears, and never by colour alone. */
export type Mark = 'plain' | 'title' | 'selected' | 'faint' | 'good' | 'warning' | 'bad' | 'key';

export interface Span {
  text: string;
  mark: Mark;
}

export type Row = readonly Span[];

/** Figures that the rich look draws as a gauge or a sparkline over the cells of a row. */
export interface Widget {
  kind: 'gauge' | 'sparkline';
  row: number;
  column: number;
  columns: number;
  /** gauge: one value 0 .. 100; sparkline: the newest last. */
  values: readonly number[];
}

export interface Size {
  columns: number;
  rows: number;
}

export interface Frame {
  /** From the top; rows that are missing are blank. Text wider than the screen is cut. */
  rows: Row[];
  /** Rows (both included) that move as one when a list scrolls. */
  scrollArea?: { top: number; bottom: number };
  /** Where the terminal's own cursor rests: readers of the screen follow it. It is visible only while typing. */
  cursor: { row: number; column: number; isVisible: boolean };
  widgets?: readonly Widget[];
}

export function span(text: string, mark: Mark = 'plain'): Span {
  return { text, mark };
}

const MARKS = /\p{M}|\p{Emoji_Presentation}|\u200d|[\ufe00-\ufe0f]/gu;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/gu;
const BEYOND_ASCII = /[^\x20-\x7e]/gu;

function asCode(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}

/**
 * Text that takes exactly the columns it seems to: controls, marks, what runs from right to left and, in ASCII, all
 * other characters are written as `\u{X}`.
 */
export function showable(text: string, look: Pick<Look, 'charset'>): string {
  if (/^[\x20-\x7e]*$/.test(text)) return text;
  const escaped = escapeText(text.normalize('NFC')).replace(MARKS, asCode).replace(RIGHT_TO_LEFT, asCode);
  return look.charset === 'ascii' ? escaped.replace(BEYOND_ASCII, asCode) : escaped;
}

/** One string for each column: a wide character is followed by an empty one. Expects showable text. */
export function cellsOf(text: string): string[] {
  const cells: string[] = [];
  for (const character of text) {
    cells.push(character);
    if (character > '~' && textWidth(character) === 2) cells.push('');
  }
  return cells;
}

/** Showable text in exactly `columns` columns; a cut shows as `~`. */
export function fitted(
  text: string,
  columns: number,
  look: Pick<Look, 'charset'>,
  align: 'left' | 'right' = 'left',
): string {
  const shown = showable(text, look);
  const cells = cellsOf(shown);
  if (cells.length <= columns) {
    const blank = ' '.repeat(columns - cells.length);
    return align === 'left' ? shown + blank : blank + shown;
  }
  if (columns <= 0) return '';
  const kept = cells.slice(0, columns - 1);
  // Half of a wide character cannot be shown.
  if (cells[columns - 1] === '') kept[kept.length - 1] = ' ';
  return `${kept.join('')}~`;
}

/** As much of a text as these columns hold, one character at least: half of a wide one cannot be shown. */
function firstColumns(text: string, columns: number): string {
  const cells = cellsOf(text);
  const end = cells[columns] === '' ? columns - 1 : columns;
  return cells.slice(0, Math.max(1, end)).join('');
}

/** Narrower texts have no room for an indent. */
const MIN_INDENTED_COLUMNS = 20;

/** Text broken into lines of at most `columns`, at blanks where there are any; all are indented as the first is. */
export function wrap(text: string, columns: number, look: Pick<Look, 'charset'>): string[] {
  const shown = showable(text, look);
  const [blanks = ''] = columns < MIN_INDENTED_COLUMNS ? [] : (/^ */.exec(shown) ?? []);
  const indent = blanks.slice(0, columns / 2);
  const lines = wrapWords(shown.slice(indent.length), columns - indent.length);
  return indent === '' ? lines : lines.map((line) => `${indent}${line}`);
}

function wrapWords(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    let rest = word;
    if (line !== '' && textWidth(line) + 1 + textWidth(rest) > columns) {
      lines.push(line);
      line = '';
    }
    while (textWidth(rest) > columns) {
      const cut = firstColumns(rest, columns);
      lines.push(cut);
      rest = rest.slice(cut.length);
    }
    line = line === '' ? rest : `${line} ${rest}`;
  }
  return [...lines, line];
}
