/** A list over any number of rows: only those on the screen exist. The marker keeps to its row by id. */
import { type Binding, LIST_KEYS, MARK_KEYS } from '../../menus/keys.ts';
import {
  type Line,
  type ListAnswer,
  type ListColumn,
  type ListHead,
  type ListSpec,
  ToMainMenu,
} from '../dialogue.ts';
import { type Frame, fitted, type Mark, type Row, type Size, showable, span } from '../frame.ts';
import type { Look } from '../look.ts';
import type { KeyEvent } from '../terminal/key-decoder.ts';
import { LineEditor } from './line-editor.ts';
import { footerOf, type Outcome, ruleRow, titleRow, type View } from './view.ts';

/** Digits wait this long for more before the marker goes there. */
const NUMBER_MS = 700;
/** Counting goes on in slices so short that no key waits for one. */
const COUNT_BUDGET_MS = 15;

/** Where the marker stands: a head, a row by its number, or one of the entries at the bottom. */
type Place = { part: 'head' | 'row' | 'foot'; at: number };

const FEET: readonly { key: string; id: 'back' | 'quit'; label: string }[] = [
  { key: 'B', id: 'back', label: 'Back' },
  { key: 'Q', id: 'quit', label: 'Quit to last menu' },
];

/** Said in place of rows where a search finds none. */
export function noHit(found: string): string {
  return `Nothing holds "${found}".`;
}

export class ListView<T> implements View {
  readonly title: string;
  readonly tickMs: number | undefined;
  readonly #spec: ListSpec<T>;
  readonly #outcome: Outcome<ListAnswer<T> | undefined>;
  readonly #wantPaint: () => void;
  readonly #heads: readonly ListHead[];
  #place: Place;
  #id: string | undefined;
  #top = 0;
  #pageRows = 1;
  #listTop = 3;
  /** Rows, their number or their figures are still being read. */
  #isReading = true;
  #digits = '';
  #numberTimer: NodeJS.Timeout | undefined;
  #finder: LineEditor | undefined;
  #found = '';

  constructor(spec: ListSpec<T>, outcome: Outcome<ListAnswer<T> | undefined>, wantPaint: () => void) {
    this.title = spec.title;
    this.tickMs = spec.refreshMs;
    this.#spec = spec;
    this.#outcome = outcome;
    this.#wantPaint = wantPaint;
    this.#heads = spec.heads ?? [];
    const at = spec.at === undefined ? -1 : spec.source.indexOf(spec.at);
    const headAt = this.#heads.findIndex(({ id }) => id === spec.at);
    if (at >= 0) this.#place = { part: 'row', at };
    else if (headAt >= 0 || this.#heads.length > 0) this.#place = { part: 'head', at: Math.max(0, headAt) };
    else this.#place = this.#length > 0 ? { part: 'row', at: 0 } : { part: 'foot', at: 0 };
    this.#keepId();
  }

  get isTyping(): boolean {
    return this.#finder !== undefined;
  }

  bindings(): readonly Binding[] {
    const { actions = [], marked, source } = this.#spec;
    const own = actions.map(({ key, id, footer, help }) => ({
      action: `action ${id}`,
      keys: [key],
      footer,
      help,
    }));
    const heads = this.#heads.map(({ key, id, label }) => ({
      action: `head ${id}`,
      keys: [key],
      help: label,
    }));
    const base =
      source.find === undefined ? LIST_KEYS.filter(({ action }) => action !== 'filter') : LIST_KEYS;
    const [choose, ...others] = base as [Binding, ...Binding[]];
    return [choose, ...own, ...heads, ...(marked === undefined ? [] : MARK_KEYS), ...others];
  }

  onTick(): boolean {
    if (!(this.#spec.source.refresh?.() ?? false)) return this.#spec.note !== undefined;
    this.#isReading = true;
    this.#followId();
    return true;
  }

  onIdle(): boolean {
    const { source } = this.#spec;
    if (!this.#isReading || source.advance === undefined) return false;
    this.#isReading = source.advance(COUNT_BUDGET_MS);
    if (!this.#isReading) this.#wantPaint();
    return this.#isReading;
  }

  onAction(action: string, key: KeyEvent): void {
    const digits = this.#digits;
    if (action !== 'row-number') this.#dropDigits();
    if (action.startsWith('action ')) {
      return void this.#outcome.done({ kind: 'action', id: action.slice(7), row: this.#rowHere() });
    }
    if (action.startsWith('head '))
      return void this.#outcome.done({ kind: 'action', id: action.slice(5), row: undefined });
    switch (action) {
      case 'choose':
        if (digits === '') this.#choose();
        else this.#goTo(Number(digits));
        return;
      case 'filter':
        this.#finder = new LineEditor(this.#found);
        return;
      case 'row-number':
        return void this.#addDigit(key.kind === 'text' ? key.text : '');
      case 'to-back':
        return void this.#moveTo({ part: 'foot', at: 0 });
      case 'to-quit':
        return void this.#moveTo({ part: 'foot', at: 1 });
      case 'back':
        if (this.#found !== '') return void this.#find('');
        return void this.#outcome.done(undefined);
      case 'abort':
        return void this.#outcome.fail(new ToMainMenu());
      case 'mark':
        return void this.#mark();
      default:
        this.#moveTo(this.#movedBy(action));
    }
  }

  onOther(key: KeyEvent): void {
    if (this.#finder) return void this.#typeToFind(this.#finder, key);
    if (key.kind !== 'mouse') return;
    if (key.action !== 'press') {
      for (let step = 0; step < 3; step++) this.onAction(key.action === 'wheel-up' ? 'up' : 'down', key);
      return;
    }
    const wanted = this.#placeAtRow(key.row);
    if (wanted === undefined) return;
    if (wanted.part === this.#place.part && wanted.at === this.#place.at) this.#choose();
    else this.#moveTo(wanted);
  }

  frame(size: Size, look: Look, notice: Row | undefined): Frame {
    const { source, filter, columns, note } = this.#spec;
    const { known, isExact } = source.length();
    const number = this.#place.part === 'row' ? `${this.#place.at + 1}/` : '';
    const marked = this.#spec.marked?.size ? `${this.#spec.marked.size} marked  ` : '';
    const figures = `${marked}${number}${known.toLocaleString('en-US')}${isExact ? '' : '+'}`;
    const found = this.#found === '' ? '' : `  [/${this.#found}]`;
    const rows: Row[] = [
      titleRow(`${this.title}${filter ? `  [${filter}]` : ''}${found}`, figures, size, look),
    ];
    const said = note?.();
    rows.push(said === undefined ? ruleRow(size, look) : noteRow(said, size, look));
    const numberColumns = Math.max(3, String(known).length);
    const layout = layOut(columns, size.columns - 2 - numberColumns - 1);
    rows.push([span(`  ${' '.repeat(numberColumns)} ${headLine(layout, look)}`.trimEnd(), 'faint')]);
    this.#listTop = rows.length;
    this.#pageRows = Math.max(1, size.rows - this.#listTop - this.#heads.length - FEET.length - 1);
    this.#scrollToPlace();
    for (const [at, head] of this.#heads.entries()) {
      rows.push(
        this.#entryRow(this.#isAt('head', at), ` ${head.key.toUpperCase()}  ${head.label}`, size, look),
      );
    }
    const bodyTop = rows.length;
    this.#bodyRows(size, look, layout, numberColumns, rows);
    for (const [at, foot] of FEET.entries()) {
      rows.push(this.#entryRow(this.#isAt('foot', at), ` ${foot.key}  ${foot.label}`, size, look));
    }
    const finder = this.#finder?.shown(size.columns - 2, look);
    if (finder) rows.push([span(`/${finder.text}`)]);
    else rows.push(notice ?? [span(this.#bottomLine(size))]);
    return {
      rows,
      scrollArea: { top: bodyTop, bottom: bodyTop + this.#pageRows - 1 },
      cursor: finder
        ? { row: size.rows - 1, column: 1 + finder.column, isVisible: true }
        : { row: this.#screenRow(bodyTop), column: 0, isVisible: false },
    };
  }

  #bodyRows(
    size: Size,
    look: Look,
    layout: readonly ListColumn<T>[],
    numberColumns: number,
    rows: Row[],
  ): void {
    const page = this.#spec.source.rows(this.#top, this.#pageRows);
    for (let at = 0; at < this.#pageRows; at++) {
      const row = page[at];
      if (row === undefined) {
        rows.push(
          at === 0 && this.#length === 0
            ? [span(`  ${fitted(this.#emptyText(), size.columns - 2, look).trimEnd()}`)]
            : [],
        );
        continue;
      }
      const index = this.#top + at;
      const isHere = this.#isAt('row', index);
      const isMarked = this.#spec.marked?.has(this.#spec.idOf(row)) ?? false;
      const text = `${isMarked ? '*' : ' '}${String(index + 1).padStart(numberColumns)} ${bodyLine(layout, row, look)}`;
      rows.push(this.#rowOf(isHere, text, this.#spec.markOf?.(row) ?? 'plain', size, look));
    }
  }

  #entryRow(isHere: boolean, text: string, size: Size, look: Look): Row {
    return this.#rowOf(isHere, text, 'plain', size, look);
  }

  #rowOf(isHere: boolean, text: string, mark: Mark, size: Size, look: Look): Row {
    const isBar = isHere && look.kind === 'rich';
    const shown = isBar ? fitted(text, size.columns - 1, look) : text.trimEnd();
    return [span(isHere ? '>' : ' ', isBar ? 'selected' : 'plain'), span(shown, isBar ? 'selected' : mark)];
  }

  #bottomLine(size: Size): string {
    if (this.#digits !== '') return `row ${this.#digits}`;
    return footerOf(this, size.columns);
  }

  get #length(): number {
    return this.#spec.source.length().known;
  }

  #isAt(part: Place['part'], at: number): boolean {
    return this.#place.part === part && this.#place.at === at;
  }

  #rowHere(): T | undefined {
    return this.#place.part === 'row' ? this.#spec.source.rows(this.#place.at, 1)[0] : undefined;
  }

  #choose(): void {
    const { part, at } = this.#place;
    if (part === 'head') {
      return void this.#outcome.done({
        kind: 'action',
        id: (this.#heads[at] as ListHead).id,
        row: undefined,
      });
    }
    if (part === 'foot')
      return void this.#outcome.done(FEET[at]?.id === 'quit' ? { kind: 'quit' } : undefined);
    const row = this.#rowHere();
    if (row !== undefined) this.#outcome.done({ kind: 'row', row });
  }

  #mark(): void {
    const row = this.#rowHere();
    const { marked, idOf } = this.#spec;
    if (row === undefined || marked === undefined) return;
    if (!marked.delete(idOf(row))) marked.add(idOf(row));
    this.#moveTo(this.#movedBy('down'));
  }

  /** Heads, rows and feet as one column of places. */
  #movedBy(action: string): Place {
    const heads = this.#heads.length;
    const rows = this.#length;
    const position = { head: 0, row: heads, foot: heads + rows }[this.#place.part] + this.#place.at;
    const steps: Record<string, number> = {
      up: -1,
      down: 1,
      'page-up': -this.#pageRows,
      'page-down': this.#pageRows,
    };
    if (action === 'home') return placeOf(0, heads, rows);
    if (action === 'end') return rows > 0 ? { part: 'row', at: rows - 1 } : { part: 'foot', at: 0 };
    const step = steps[action] ?? 0;
    // A page never jumps over the last row to the entries below it.
    const isPage = Math.abs(step) > 1;
    const last =
      isPage && this.#place.part !== 'foot' && rows > 0 ? heads + rows - 1 : heads + rows + FEET.length - 1;
    return placeOf(Math.min(last, Math.max(0, position + step)), heads, rows);
  }

  #moveTo(place: Place): void {
    this.#place = place;
    this.#keepId();
  }

  #keepId(): void {
    const row = this.#rowHere();
    this.#id = row === undefined ? undefined : this.#spec.idOf(row);
  }

  /** After a refresh the marker stands at the same row again, wherever it now is. */
  #followId(): void {
    if (this.#place.part !== 'row') return;
    const at = this.#id === undefined ? -1 : this.#spec.source.indexOf(this.#id);
    const last = this.#length - 1;
    if (at >= 0) {
      this.#top = Math.max(0, this.#top + at - this.#place.at);
      this.#place = { part: 'row', at };
    } else if (last < 0) this.#place = { part: 'foot', at: 0 };
    else this.#moveTo({ part: 'row', at: Math.min(this.#place.at, last) });
  }

  #goTo(number: number): void {
    if (number >= 1 && this.#length > 0)
      this.#moveTo({ part: 'row', at: Math.min(number, this.#length) - 1 });
  }

  #addDigit(digit: string): void {
    clearTimeout(this.#numberTimer);
    this.#digits = (this.#digits + digit).slice(0, 9);
    this.#numberTimer = setTimeout(() => {
      const wanted = Number(this.#digits);
      this.#dropDigits();
      this.#goTo(wanted);
      this.#wantPaint();
    }, NUMBER_MS);
  }

  #dropDigits(): void {
    clearTimeout(this.#numberTimer);
    this.#digits = '';
  }

  #typeToFind(finder: LineEditor, key: KeyEvent): void {
    const end = finder.type(key);
    if (end === 'cancel') {
      this.#finder = undefined;
      return void this.#find('');
    }
    if (end === 'accept') this.#finder = undefined;
    if (finder.text !== this.#found) this.#find(finder.text);
  }

  #emptyText(): string {
    return this.#found === '' ? this.#spec.empty : noHit(this.#found);
  }

  #find(text: string): void {
    this.#found = text;
    this.#spec.source.find?.(text);
    this.#isReading = true;
    const at = this.#id === undefined ? -1 : this.#spec.source.indexOf(this.#id);
    this.#top = 0;
    if (at >= 0) this.#place = { part: 'row', at };
    else if (this.#length > 0) this.#place = { part: 'row', at: 0 };
    else this.#place = { part: 'foot', at: 0 };
    // The row that was left is come back to when the text is taken away again.
    if (text === '' || this.#id === undefined) this.#keepId();
  }

  #scrollToPlace(): void {
    if (this.#place.part === 'head') this.#top = 0;
    if (this.#place.part === 'foot') this.#top = Math.max(this.#top, this.#length - this.#pageRows, 0);
    if (this.#place.part === 'row') {
      const { at } = this.#place;
      if (at < this.#top) this.#top = at;
      if (at >= this.#top + this.#pageRows) this.#top = at - this.#pageRows + 1;
    }
    this.#top = Math.max(0, Math.min(this.#top, this.#length - this.#pageRows));
  }

  #screenRow(bodyTop: number): number {
    const { part, at } = this.#place;
    if (part === 'head') return bodyTop - this.#heads.length + at;
    return part === 'row' ? bodyTop + at - this.#top : bodyTop + this.#pageRows + at;
  }

  #placeAtRow(row: number): Place | undefined {
    const heads = this.#heads.length;
    const at = row - this.#listTop;
    if (at < 0) return undefined;
    if (at < heads) return { part: 'head', at };
    const inBody = at - heads;
    if (inBody < this.#pageRows) {
      return this.#top + inBody < this.#length ? { part: 'row', at: this.#top + inBody } : undefined;
    }
    const foot = inBody - this.#pageRows;
    return foot < FEET.length ? { part: 'foot', at: foot } : undefined;
  }
}

/** A note has one row: what is too long for it is cut where that is seen. */
function noteRow(note: Line, { columns }: Size, look: Look): Row {
  const { text, mark } = typeof note === 'string' ? { text: note, mark: 'plain' as const } : note;
  return [span(fitted(text, columns, look).trimEnd(), mark)];
}

function placeOf(position: number, heads: number, rows: number): Place {
  if (position < heads) return { part: 'head', at: position };
  if (position < heads + rows) return { part: 'row', at: position - heads };
  return { part: 'foot', at: position - heads - rows };
}

/** Columns that fit, the elastic one with its share. */
export function layOut<T>(columns: readonly ListColumn<T>[], room: number): ListColumn<T>[] {
  const shown = columns.filter(({ from }) => from === undefined || room >= from);
  const fixed = shown.reduce((sum, { columns: wide }) => sum + (wide === 0 ? 0 : wide), 0);
  const left = Math.max(8, room - fixed - (shown.length - 1));
  return shown.map((column) => (column.columns === 0 ? { ...column, columns: left } : column));
}

export function headLine<T>(layout: readonly ListColumn<T>[], look: Look): string {
  return layout.map(({ title, columns, align }) => fitted(title, columns, look, align)).join(' ');
}

export function bodyLine<T>(layout: readonly ListColumn<T>[], row: T, look: Look): string {
  return layout
    .map(({ text, columns, align }) => fitted(showable(text(row), look), columns, look, align))
    .join(' ');
}
