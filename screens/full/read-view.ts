/** Text to read: a log that may grow, help, a list of keys. */
import { type Binding, READ_KEYS } from '../../menus/keys.ts';
import { type ReadSpec, ToMainMenu } from '../dialogue.ts';
import { type Frame, type Row, type Size, showable, span, wrap } from '../frame.ts';
import type { Look } from '../look.ts';
import type { KeyEvent } from '../terminal/key-decoder.ts';
import { LineEditor } from './line-editor.ts';
import { footerOf, type Outcome, ruleRow, titleRow, type View } from './view.ts';

export class ReadView implements View {
  readonly title: string;
  readonly tickMs: number | undefined;
  readonly #spec: ReadSpec;
  readonly #outcome: Outcome<void>;
  #lines: readonly string[];
  /** The lines as they are broken for a width. */
  #broken: { columns: number; lines: string[]; from: readonly string[] } | undefined;
  #top = 0;
  #pageRows = 1;
  #isFollowing: boolean;
  #finder: LineEditor | undefined;
  #wanted = '';

  constructor(spec: ReadSpec, outcome: Outcome<void>) {
    this.title = spec.title;
    this.tickMs = spec.refreshMs;
    this.#spec = spec;
    this.#outcome = outcome;
    this.#lines = spec.lines();
    this.#isFollowing = spec.isFollowing ?? false;
  }

  get isTyping(): boolean {
    return this.#finder !== undefined;
  }

  bindings(): readonly Binding[] {
    return this.#spec.refreshMs === undefined
      ? READ_KEYS.filter(({ action }) => action !== 'follow')
      : READ_KEYS;
  }

  onTick(): boolean {
    const now = this.#spec.lines();
    const isNew = now.length !== this.#lines.length || now.at(-1) !== this.#lines.at(-1);
    this.#lines = now;
    return isNew;
  }

  onAction(action: string): void {
    const last = Math.max(0, (this.#broken?.lines.length ?? 0) - this.#pageRows);
    const steps: Record<string, number> = {
      up: -1,
      down: 1,
      'page-up': -this.#pageRows,
      'page-down': this.#pageRows,
      home: -Number.MAX_SAFE_INTEGER,
      end: Number.MAX_SAFE_INTEGER,
    };
    const step = steps[action];
    if (step !== undefined) {
      this.#top = Math.min(last, Math.max(0, this.#top + step));
      this.#isFollowing = this.#isFollowing && this.#top === last;
      return;
    }
    if (action === 'back') this.#outcome.done();
    if (action === 'abort') this.#outcome.fail(new ToMainMenu());
    if (action === 'follow') this.#isFollowing = !this.#isFollowing;
    if (action === 'find') this.#finder = new LineEditor(this.#wanted);
    if (action === 'next') this.#jump(1);
    if (action === 'previous') this.#jump(-1);
  }

  onOther(key: KeyEvent): void {
    if (this.#finder === undefined) {
      if (key.kind === 'mouse' && key.action !== 'press') {
        for (let step = 0; step < 3; step++) this.onAction(key.action === 'wheel-up' ? 'up' : 'down');
      }
      return;
    }
    const end = this.#finder.type(key);
    if (end === undefined) return;
    if (end === 'accept') {
      this.#wanted = this.#finder.text;
      this.#jump(1);
    }
    this.#finder = undefined;
  }

  frame(size: Size, look: Look, notice: Row | undefined): Frame {
    this.#pageRows = Math.max(1, size.rows - 3);
    const lines = this.#breakLines(size.columns, look);
    const last = Math.max(0, lines.length - this.#pageRows);
    this.#top = this.#isFollowing ? last : Math.min(this.#top, last);
    const shown = lines.slice(this.#top, this.#top + this.#pageRows);
    const following = this.#isFollowing ? 'following  ' : '';
    const figures = `${following}${Math.min(lines.length, this.#top + shown.length)}/${lines.length}`;
    const rows: Row[] = [titleRow(this.title, figures, size, look), ruleRow(size, look)];
    for (const text of shown) rows.push([span(text)]);
    while (rows.length < size.rows - 1) rows.push([]);
    const finder = this.#finder?.shown(size.columns - 2, look);
    if (finder) rows.push([span(`/${finder.text}`)]);
    else rows.push(notice ?? [span(footerOf(this, size.columns))]);
    return {
      rows,
      scrollArea: { top: 2, bottom: 1 + this.#pageRows },
      cursor: finder
        ? { row: size.rows - 1, column: 1 + finder.column, isVisible: true }
        : { row: 2, column: 0, isVisible: false },
    };
  }

  #breakLines(columns: number, look: Look): string[] {
    if (this.#broken?.columns !== columns || this.#broken.from !== this.#lines) {
      const lines = this.#lines.flatMap((line) => wrapHanging(line, columns, look));
      this.#broken = { columns, lines, from: this.#lines };
    }
    return this.#broken.lines;
  }

  #jump(by: 1 | -1): void {
    const lines = this.#broken?.lines ?? [];
    const wanted = this.#wanted.toLowerCase();
    if (wanted === '') return;
    for (let at = this.#top + by; at >= 0 && at < lines.length; at += by) {
      if (!lines[at]?.toLowerCase().includes(wanted)) continue;
      this.#isFollowing = false;
      this.#top = at;
      return;
    }
  }
}

/** What is broken off goes on under the second column of a line that has columns. */
function wrapHanging(line: string, columns: number, look: Look): string[] {
  const indent = /^.*?\S {2,}(?=\S)/.exec(line)?.[0].length ?? 0;
  if (line.length <= columns || indent === 0 || indent > columns / 2) return wrap(line, columns, look);
  const [first = '', ...others] = wrap(line.slice(indent), columns - indent, look);
  return [showable(line.slice(0, indent), look) + first, ...others.map((text) => ' '.repeat(indent) + text)];
}
