/**
 * Bytes of a terminal as keys. A sequence may arrive in pieces and several may arrive at once; what is not known is
 * dropped whole, so that its bytes never count as letters. Sequences: ECMA-48, xterm's ctlseqs, PuTTY, the Linux console.
 */
import { StringDecoder } from 'node:string_decoder';

export type KeyEvent =
  | { kind: 'key'; name: string }
  /** One printable character. */
  | { kind: 'text'; text: string }
  | { kind: 'paste'; text: string }
  | { kind: 'mouse'; action: 'press' | 'wheel-up' | 'wheel-down'; row: number; column: number };

const PASTE_END = '\x1b[201~';
/** More than this is no paste that anyone meant. */
const PASTE_LIMIT = 65_536;
/** Longest sequence that is waited for. */
const SEQUENCE_LIMIT = 64;

const FINALS: Record<string, string> = {
  A: 'up',
  B: 'down',
  C: 'right',
  D: 'left',
  H: 'home',
  F: 'end',
  Z: 'backtab',
  P: 'f1',
  Q: 'f2',
  R: 'f3',
  S: 'f4',
};

const TILDES: Record<string, string> = {
  1: 'home',
  2: 'insert',
  3: 'delete',
  4: 'end',
  5: 'pageup',
  6: 'pagedown',
  7: 'home',
  8: 'end',
  11: 'f1',
  12: 'f2',
  13: 'f3',
  14: 'f4',
  15: 'f5',
  17: 'f6',
  18: 'f7',
  19: 'f8',
  20: 'f9',
  21: 'f10',
  23: 'f11',
  24: 'f12',
};

const CONTROLS: Record<string, string> = {
  '\r': 'enter',
  '\n': 'enter',
  '\t': 'tab',
  '\b': 'backspace',
  '\x7f': 'backspace',
  ' ': 'space',
};

export class KeyDecoder {
  readonly #utf8 = new StringDecoder('utf8');
  #rest = '';
  #paste: string | undefined;

  /** True while a begun sequence waits for its end: call `timeOut` if nothing comes. */
  get isWaiting(): boolean {
    return this.#rest !== '';
  }

  push(bytes: Buffer): KeyEvent[] {
    const text = this.#utf8.write(bytes);
    // Terminals without bracketed paste: a line end in the midst of one read of plain text was not typed.
    if (
      this.#rest === '' &&
      this.#paste === undefined &&
      /^[^\x1b]*[^\x1b\r\n]{2,}[\r\n][^\x1b]+$/.test(text)
    ) {
      return [{ kind: 'paste', text: clean(text) }];
    }
    this.#rest += text;
    return this.#take(false);
  }

  /** Nothing followed in time: a lone ESC is the key of that name, a torn sequence is dropped. */
  timeOut(): KeyEvent[] {
    return this.#take(true);
  }

  #take(isOver: boolean): KeyEvent[] {
    const events: KeyEvent[] = [];
    while (this.#rest !== '') {
      const event = this.#paste === undefined ? this.#next(isOver) : this.#pasted(isOver);
      if (event === 'wait') break;
      if (event !== null) events.push(event);
    }
    return events;
  }

  #pasted(isOver: boolean): KeyEvent | null | 'wait' {
    const at = this.#rest.indexOf(PASTE_END);
    if (at < 0 && !isOver && this.#rest.length <= PASTE_LIMIT) return 'wait';
    const text = at < 0 ? this.#rest : this.#rest.slice(0, at);
    this.#rest = at < 0 ? '' : this.#rest.slice(at + PASTE_END.length);
    if (at >= 0 || isOver) this.#paste = undefined;
    return { kind: 'paste', text: clean(text) };
  }

  #next(isOver: boolean): KeyEvent | null | 'wait' {
    if (this.#rest[0] === '\x1b') return this.#sequence(isOver);
    const [character = ''] = this.#rest;
    this.#rest = this.#rest.slice(character.length);
    const name = CONTROLS[character];
    if (name !== undefined) return { kind: 'key', name };
    if (character < ' ')
      return { kind: 'key', name: `ctrl-${String.fromCharCode(character.charCodeAt(0) + 96)}` };
    return /[\p{Cc}\ufffd]/u.test(character) ? null : { kind: 'text', text: character };
  }

  #sequence(isOver: boolean): KeyEvent | null | 'wait' {
    const begun = this.#rest;
    const whole =
      // CSI of the Linux console's function keys, CSI in general, SS3, then ESC with one character.
      /^\x1b\[\[[A-E]/.exec(begun) ??
      /^\x1b\[(?!\[)[0-?]*[ -/]*[@-~]/.exec(begun) ??
      /^\x1bO[0-9;]*[A-Za-z]/.exec(begun) ??
      /^\x1b[^\x1b[O]/.exec(begun);
    if (whole) {
      this.#rest = begun.slice(whole[0].length);
      return this.#keyOf(whole[0]);
    }
    // ESC ESC: the first was the key.
    if (begun[1] === '\x1b') {
      this.#rest = begun.slice(1);
      return { kind: 'key', name: 'escape' };
    }
    const isTorn = /^\x1b(\[[^\x40-\x7e\x1b]*|\[\[|O[0-9;]*)?$/.test(begun) && begun.length < SEQUENCE_LIMIT;
    if (isTorn && !isOver) return 'wait';
    const wasKey = begun === '\x1b';
    this.#rest =
      isTorn || wasKey
        ? ''
        : begun.slice(begun.indexOf('\x1b', 1) > 0 ? begun.indexOf('\x1b', 1) : begun.length);
    return wasKey ? { kind: 'key', name: 'escape' } : null;
  }

  #keyOf(sequence: string): KeyEvent | null {
    if (sequence === '\x1b[200~') {
      this.#paste = '';
      return null;
    }
    const mouse = /^\x1b\[<(\d+);(\d+);(\d+)([Mm])$/.exec(sequence);
    if (mouse) return mouseEvent(mouse as unknown as string[]);
    const linux = /^\x1b\[\[([A-E])$/.exec(sequence);
    if (linux) return { kind: 'key', name: `f${(linux[1] as string).charCodeAt(0) - 64}` };
    const tilde = /^\x1b\[(\d+)(;\d+)?~$/.exec(sequence);
    if (tilde) return named(TILDES[tilde[1] as string]);
    const final = /^\x1b[[O][\d;]*([A-Z])$/.exec(sequence);
    return final ? named(FINALS[final[1] as string]) : null;
  }
}

function named(name: string | undefined): KeyEvent | null {
  return name === undefined ? null : { kind: 'key', name };
}

/** SGR mouse (1006): button, column, row; M pressed, m released. */
function mouseEvent([, button = '', column = '', row = '', end = '']: string[]): KeyEvent | null {
  const at = { row: Number(row) - 1, column: Number(column) - 1 };
  if (button === '64') return { kind: 'mouse', action: 'wheel-up', ...at };
  if (button === '65') return { kind: 'mouse', action: 'wheel-down', ...at };
  return button === '0' && end === 'M' ? { kind: 'mouse', action: 'press', ...at } : null;
}

/** What was pasted as one line of text. */
function clean(text: string): string {
  return text.replace(/[\r\n]+$/, '').replace(/\p{Cc}+/gu, ' ');
}
