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

/** One hint of the footer, and where it stands. */
interface FooterPart {
  text: string;
  column: number;
  /** The key it names. */
  key: string;
}

/** Help stands last in every footer, by a key that is no letter where letters are typed. */
function helpBinding(key: '?' | 'f1'): Binding {
  return { action: 'help', keys: [key], footer: 'help', help: '' };
}

/** Hints in the order of the bindings; the last always, of the others as many as there is room for. */
function footerParts(view: Pick<View, 'bindings' | 'isTyping' | 'isOverlay'>, columns: number): FooterPart[] {
  const help = helpBinding(view.isTyping || view.isOverlay ? 'f1' : '?');
  const hints = [...view.bindings(), help].flatMap(({ keys, footer }) =>
    footer === undefined ? [] : [{ text: `${keyText(keys[0] as string)} ${footer}`, key: keys[0] as string }],
  );
  const last = hints.pop() as { text: string; key: string };
  const parts: FooterPart[] = [];
  let column = 0;
  for (const { text, key } of hints) {
    if (column + text.length + last.text.length + 4 > columns) break;
    parts.push({ text, key, column });
    column += text.length + 2;
  }
  return [...parts, { ...last, column }];
}

/** `Enter choose  / find  Esc back  ? help`, cut at whole words to the screen. */
export function footerOf(view: Pick<View, 'bindings' | 'isTyping' | 'isOverlay'>, columns: number): string {
  return footerParts(view, columns)
    .map(({ text }) => text)
    .join('  ');
}

/** The key whose hint stands at this column of the footer. */
export function footerKeyAt(view: View, columns: number, column: number): string | undefined {
  return footerParts(view, columns).find((part) => {
    return column >= part.column && column < part.column + part.text.length;
  })?.key;
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
