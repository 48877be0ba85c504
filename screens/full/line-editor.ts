/** One line of text being typed: a string and a cursor, counted in characters. */
import { actionFor, EDIT_KEYS } from '../../menus/keys.ts';
import { cellsOf, showable } from '../frame.ts';
import type { Look } from '../look.ts';
import type { KeyEvent } from '../terminal/key-decoder.ts';

/** Names of files and folders are shorter by far. */
const LIMIT = 4096;

export class LineEditor {
  #characters: string[];
  #at: number;
  #isPreset: boolean;

  /** With `replacesPreset` what is typed or pasted first takes the place of the preset; any other key keeps it. */
  constructor(preset = '', replacesPreset = false) {
    this.#characters = [...preset];
    this.#at = this.#characters.length;
    this.#isPreset = replacesPreset;
  }

  get text(): string {
    return this.#characters.join('');
  }

  /** What `columns` columns show of the line, the cursor always among it; `column` is where that stands. */
  shown(columns: number, look: Pick<Look, 'charset'>, isSecret = false): { text: string; column: number } {
    const cells = (characters: readonly string[]): string[] =>
      isSecret ? characters.map(() => '*') : cellsOf(showable(characters.join(''), look));
    const before = cells(this.#characters.slice(0, this.#at)).length;
    const start = Math.max(0, before - columns + 1);
    const part = cells(this.#characters).slice(start, start + columns);
    // Halves of wide characters cannot be shown.
    if (part[0] === '') part[0] = ' ';
    return { text: part.join(''), column: before - start };
  }

  /** Takes one key; says when the line is accepted or given up. */
  type(key: KeyEvent): 'accept' | 'cancel' | undefined {
    const isPreset = this.#isPreset;
    if (key.kind !== 'mouse') this.#isPreset = false;
    if (isPreset && (key.kind === 'text' || key.kind === 'paste')) this.#clear();
    if (key.kind === 'text' || key.kind === 'paste') return void this.#insert(key.text);
    if (key.kind !== 'key') return undefined;
    if (key.name === 'space') return void this.#insert(' ');
    switch (actionFor(EDIT_KEYS, key.name)) {
      case 'accept':
        return 'accept';
      case 'cancel':
        return 'cancel';
      case 'left':
        this.#at = Math.max(0, this.#at - 1);
        break;
      case 'right':
        this.#at = Math.min(this.#characters.length, this.#at + 1);
        break;
      case 'home':
        this.#at = 0;
        break;
      case 'end':
        this.#at = this.#characters.length;
        break;
      case 'erase':
        if (this.#at > 0) this.#cut(this.#at - 1);
        break;
      case 'delete':
        this.#characters.splice(this.#at, 1);
        break;
      case 'clear':
        this.#clear();
        break;
      case 'erase-word':
        this.#cut(this.#wordStart());
        break;
    }
    return undefined;
  }

  #clear(): void {
    this.#characters = [];
    this.#at = 0;
  }

  #insert(text: string): void {
    const added = [...text].slice(0, LIMIT - this.#characters.length);
    this.#characters.splice(this.#at, 0, ...added);
    this.#at += added.length;
  }

  #wordStart(): number {
    let at = this.#at;
    while (at > 0 && this.#characters[at - 1] === ' ') at--;
    while (at > 0 && this.#characters[at - 1] !== ' ') at--;
    return at;
  }

  /** Takes away what lies between `from` and the cursor. */
  #cut(from: number): void {
    this.#characters.splice(from, this.#at - from);
    this.#at = from;
  }
}
