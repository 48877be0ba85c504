/** Questions over what is on the screen: a line to type, yes or no, a word to type out, something to know. */
import { type Binding, CONFIRM_KEYS, EDIT_KEYS } from '../../menus/keys.ts';
import type { AskSpec, ConfirmSpec, Line, TypedSpec } from '../dialogue.ts';
import { cellsOf, type Frame, fitted, type Row, type Size, span } from '../frame.ts';
import type { Look } from '../look.ts';
import type { KeyEvent } from '../terminal/key-decoder.ts';
import { LineEditor } from './line-editor.ts';
import { rowsOf } from './menu-view.ts';
import { footerOf, type Outcome, type View } from './view.ts';

/** Lines in the lower part of the screen, over what stands there; frames only where they cost little. */
function panel(title: string, lines: readonly Row[], size: Size, look: Look): Row[] {
  const isRich = look.kind === 'rich';
  const [side, flat, corners] = look.charset === 'utf8' ? ['│', '─', '┌┐└┘'] : ['|', '-', '++++'];
  const inner = size.columns - 4;
  const head = `${flat} ${fitted(title, size.columns - 8, look).trimEnd()} `;
  const rule = (left: string, text: string, right: string): Row => [
    span(left + text + flat.repeat(Math.max(0, size.columns - 2 - cellsOf(text).length)) + right, 'title'),
  ];
  if (!isRich)
    return [
      [span(`-- ${fitted(title, Math.max(0, size.columns - 4), look).trimEnd()} --`, 'title')],
      ...lines,
    ];
  const boxed = lines.map((row): Row => {
    const text = row.map((one) => one.text).join('');
    const blank = ' '.repeat(Math.max(0, inner - cellsOf(text).length));
    return [span(`${side} `), ...row, span(`${blank} ${side}`)];
  });
  const [topLeft = '', topRight = '', bottomLeft = '', bottomRight = ''] = corners;
  return [rule(topLeft, head, topRight), ...boxed, rule(bottomLeft, '', bottomRight)];
}

abstract class Panel implements View {
  readonly isOverlay = true;
  abstract readonly title: string;
  abstract bindings(): readonly Binding[];
  abstract onAction(action: string, key: KeyEvent): void;
  /** Lines of the panel; the last is where answers are given. */
  protected abstract lines(columns: number, look: Look): Row[];
  protected abstract cursorColumn(): { column: number; isVisible: boolean };

  frame(size: Size, look: Look, notice: Row | undefined): Frame {
    const isRich = look.kind === 'rich';
    const all = this.lines(size.columns - (isRich ? 4 : 0), look);
    const room = size.rows - (isRich ? 4 : 3);
    // What is asked must be seen: of too many lines the last are kept.
    const rows = panel(this.title, all.slice(-room), size, look);
    const foot: Row = notice ?? [span(footerOf(this, size.columns))];
    const { column, isVisible } = this.cursorColumn();
    const asked = rows.length - (isRich ? 2 : 1);
    return {
      rows: [...rows, foot],
      cursor: { row: asked, column: Math.min(size.columns - 1, column + (isRich ? 2 : 0)), isVisible },
    };
  }
}

function plainRows(lines: readonly Line[], columns: number, look: Look): Row[] {
  return lines.flatMap((line) => rowsOf(line, columns, look));
}

/** One line of text with its default. */
export class AskView extends Panel {
  readonly title: string;
  readonly isTyping = true;
  readonly #spec: AskSpec;
  readonly #outcome: Outcome<string | undefined>;
  readonly #editor: LineEditor;
  #fault: string | undefined;
  #column = 0;

  constructor(spec: AskSpec, outcome: Outcome<string | undefined>) {
    super();
    this.title = spec.title;
    this.#spec = spec;
    this.#outcome = outcome;
    this.#editor = new LineEditor(spec.preset, true);
  }

  bindings(): readonly Binding[] {
    return EDIT_KEYS;
  }

  onAction(): void {}

  onOther(key: KeyEvent): void {
    this.#fault = undefined;
    const end = this.#editor.type(key);
    if (end === 'cancel') return void this.#outcome.done(undefined);
    if (end !== 'accept') return;
    const text = this.#editor.text;
    this.#fault = this.#spec.fault?.(text);
    if (this.#fault === undefined) this.#outcome.done(text);
  }

  protected lines(columns: number, look: Look): Row[] {
    const { lines = [], question, isSecret } = this.#spec;
    const { text, column } = this.#editor.shown(columns - 3, look, isSecret);
    this.#column = 2 + column;
    return [
      ...plainRows(lines, columns, look),
      ...plainRows([question], columns, look),
      ...(this.#fault === undefined ? [] : plainRows([{ text: this.#fault, mark: 'bad' }], columns, look)),
      [span('> '), span(text)],
    ];
  }

  protected cursorColumn(): { column: number; isVisible: boolean } {
    return { column: this.#column, isVisible: true };
  }
}

/** Yes or no. */
export class ConfirmView extends Panel {
  readonly title: string;
  /** What was typed before the question was on the screen does not answer it. */
  readonly ignoresTypeAhead: boolean;
  readonly #spec: ConfirmSpec;
  readonly #outcome: Outcome<boolean>;
  #isYes: boolean;

  constructor(spec: ConfirmSpec, outcome: Outcome<boolean>) {
    super();
    this.title = spec.title;
    this.#spec = spec;
    this.#outcome = outcome;
    this.ignoresTypeAhead = spec.isDestructive ?? false;
    this.#isYes = spec.isDestructive ? false : (spec.preset ?? true);
  }

  bindings(): readonly Binding[] {
    return CONFIRM_KEYS;
  }

  onAction(action: string): void {
    if (action === 'yes') this.#outcome.done(true);
    if (action === 'no') this.#outcome.done(false);
    if (action === 'choose') this.#outcome.done(this.#isYes);
    if (action === 'turn') this.#isYes = !this.#isYes;
  }

  protected lines(columns: number, look: Look): Row[] {
    const answer = this.#isYes ? '[Yes]  No ' : ' Yes  [No]';
    return [...plainRows([...this.#spec.lines, this.#spec.question], columns, look), [span(`  ${answer}`)]];
  }

  protected cursorColumn(): { column: number; isVisible: boolean } {
    return { column: this.#isYes ? 3 : 9, isVisible: false };
  }
}

/** A word typed out in full. */
export class TypedView extends Panel {
  readonly title: string;
  readonly isTyping = true;
  readonly ignoresTypeAhead = true;
  readonly #spec: TypedSpec;
  readonly #outcome: Outcome<boolean>;
  readonly #editor = new LineEditor();
  #isWrong = false;
  #column = 2;

  constructor(spec: TypedSpec, outcome: Outcome<boolean>) {
    super();
    this.title = spec.title;
    this.#spec = spec;
    this.#outcome = outcome;
  }

  bindings(): readonly Binding[] {
    return EDIT_KEYS;
  }

  onAction(): void {}

  onOther(key: KeyEvent): void {
    // A pasted word was not typed.
    if (key.kind === 'paste') return;
    this.#isWrong = false;
    const end = this.#editor.type(key);
    if (end === 'cancel') return void this.#outcome.done(false);
    if (end !== 'accept') return;
    if (this.#editor.text === this.#spec.word) return void this.#outcome.done(true);
    if (this.#editor.text === '') return void this.#outcome.done(false);
    this.#isWrong = true;
  }

  protected lines(columns: number, look: Look): Row[] {
    const { lines, word } = this.#spec;
    const wrong: Line[] = this.#isWrong ? [{ text: 'that is not the word', mark: 'bad' }] : [];
    const ask = `Type ${word} and Enter to go on, Esc to leave it:`;
    const { text, column } = this.#editor.shown(columns - 3, look);
    this.#column = 2 + column;
    return [...plainRows([...lines, ask, ...wrong], columns, look), [span(`> ${text}`)]];
  }

  protected cursorColumn(): { column: number; isVisible: boolean } {
    return { column: this.#column, isVisible: true };
  }
}

const GO_ON: readonly Binding[] = [
  {
    action: 'go-on',
    keys: ['enter', 'escape', 'space', 'left', 'backspace', 'q', 'ctrl-c'],
    footer: 'go on',
    help: 'go on',
  },
];

/** Something to know. */
export class TellView extends Panel {
  readonly title: string;
  readonly #lines: readonly Line[];
  readonly #outcome: Outcome<void>;

  constructor(title: string, lines: readonly Line[], outcome: Outcome<void>) {
    super();
    this.title = title;
    this.#lines = lines;
    this.#outcome = outcome;
  }

  bindings(): readonly Binding[] {
    return GO_ON;
  }

  onAction(): void {
    this.#outcome.done();
  }

  protected lines(columns: number, look: Look): Row[] {
    return plainRows(this.#lines, columns, look);
  }

  protected cursorColumn(): { column: number; isVisible: boolean } {
    return { column: 0, isVisible: false };
  }
}

const STOP: readonly Binding[] = [
  {
    action: 'stop',
    keys: ['escape', 'left', 'ctrl-c', 'q'],
    footer: 'stop',
    help: 'give up what is being done',
  },
];

/** Work that takes a while. */
export class BusyView extends Panel {
  readonly title: string;
  readonly #onStop: () => void;
  #text = '';
  #isStopping = false;

  constructor(title: string, onStop: () => void) {
    super();
    this.title = title;
    this.#onStop = onStop;
  }

  say(text: string): void {
    this.#text = text;
  }

  bindings(): readonly Binding[] {
    return STOP;
  }

  onAction(): void {
    this.#isStopping = true;
    this.#onStop();
  }

  protected lines(columns: number, look: Look): Row[] {
    return [[span(fitted(this.#isStopping ? 'stopping ...' : `${this.#text} ...`, columns, look).trimEnd())]];
  }

  protected cursorColumn(): { column: number; isVisible: boolean } {
    return { column: 0, isVisible: false };
  }
}
