/** A view of the full screen: a pure frame for its state, and what keys do to it. */
import { type Binding, keyText } from '../../menus/keys.ts';
import { type Frame, fitted, type Row, type Size, span, wrap } from '../frame.ts';
import type { Look } from '../look.ts';
import type { KeyEvent } from '../terminal/key-decoder.ts';

export interface View {
  readonly title: string;
  /** Keys of this view, the most used first; those of all views are added. */
  bindings(): readonly Binding[];
  /** What the help says above the keys. */
  readonly help?: readonly string[];
  frame(size: Size, look: Look, notice: Row | undefined): Frame;
  /** An action of `bindings`, and the key itself. */
  onAction(action: string, key: KeyEvent): void;
  /** What no binding knows: typed text, pastes, the mouse. */
  onOther?(key: KeyEvent): void;
  /** True while letters are text and no keys. */
  readonly isTyping?: boolean;
  /** The view lies over the one before. */
  readonly isOverlay?: boolean;
  /** Keys typed before the view was painted are thrown away. */
  readonly ignoresTypeAhead?: boolean;
  /** Asked to look again so often; true from onTick: paint. */
  readonly tickMs?: number;
  onTick?(): boolean;
  /** Called while nothing else is to do; true while there is more. */
  onIdle?(): boolean;
}

/** What every view needs to end with an answer. */
export interface Outcome<R> {
  done(answer: R): void;
  fail(error: Error): void;
}

/** `Enter choose  / find  Esc back  ? help`, cut at whole words to the screen. */
export function footerOf(bindings: readonly Binding[], columns: number): string {
  const words = bindings
    .filter(({ footer }) => footer !== undefined)
    .map(({ keys, footer }) => `${keyText(keys[0] as string)} ${footer}`);
  const [last = ''] = words.splice(-1);
  let line = '';
  for (const word of words) {
    if (line.length + word.length + last.length + 4 > columns) break;
    line += `${word}  `;
  }
  return line + last;
}

/** Title line: name of the view left, its figures right. */
export function titleRow(title: string, figures: string, size: Size, look: Look): Row {
  const right = figures === '' ? '' : ` ${figures}`;
  const room = Math.max(0, size.columns - right.length);
  return [span(fitted(title, room, look), 'title'), span(right, 'title')];
}

/** A line across the screen in the rich look; the thin look leaves the row blank. */
export function ruleRow(size: Size, look: Look): Row {
  if (look.kind === 'thin') return [];
  return [span((look.charset === 'utf8' ? '─' : '-').repeat(size.columns), 'faint')];
}

/** The smallest screen that the views are laid out for. */
export const LEAST: Size = { columns: 60, rows: 15 };

export function isTooSmall(size: Size): boolean {
  return size.columns < LEAST.columns || size.rows < LEAST.rows;
}

export function tooSmallFrame(size: Size, look: Look): Frame {
  const text = `too small: ${size.columns}x${size.rows}, needs ${LEAST.columns}x${LEAST.rows}`;
  const rows = wrap(text, Math.max(1, size.columns), look).map((line): Row => [span(line)]);
  return { rows: rows.slice(0, size.rows), cursor: { row: 0, column: 0, isVisible: false } };
}
