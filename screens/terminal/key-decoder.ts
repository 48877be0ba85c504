/**
 * Bytes of a terminal as keys. One character after the other goes through a small machine, so that it does not matter
 * how they were cut into reads; what is not known is dropped whole, so that no part of a sequence counts as a letter.
 * Sequences: ECMA-48, xterm's ctlseqs, PuTTY, the Linux console.
 */
import { StringDecoder } from 'node:string_decoder';

export type KeyEvent =
  | { kind: 'key'; name: string }
  /** One printable character. */
  | { kind: 'text'; text: string }
  | { kind: 'paste'; text: string }
  | { kind: 'mouse'; action: 'press' | 'wheel-up' | 'wheel-down'; row: number; column: number };

/**
 * What the decoder waits for. `escape`: an ESC that may be the key or the begin of a sequence. `rest`: a sequence that
 * has begun, or one whose ESC came so late before it that it was taken for the key. `paste`: the end of a paste.
 */
export type Awaited = 'nothing' | 'escape' | 'rest' | 'paste';

type State =
  | 'ground'
  | 'escape'
  | 'csi'
  /** `ESC [ [`: a function key of the Linux console. */
  | 'linux'
  | 'ss3'
  /** OSC, DCS and their like, up to BEL or ST: answers to questions that someone else has asked. */
  | 'string'
  | 'string-escape'
  /** Three characters of a mouse event in the old form. */
  | 'old-mouse'
  | 'paste'
  /** A lone ESC was given out as the key; what now looks like the rest of a sequence is dropped. */
  | 'late'
  | 'late-o';

const PASTE_END = '\x1b[201~';
/** A longer paste is given out in pieces. */
const PASTE_LIMIT = 65_536;
/** More of a sequence is not kept: none that is known is as long. */
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

/** The numeric keypad in application mode: `ESC O` and one of these. */
const KEYPAD: Record<string, string> = { j: '*', k: '+', l: ',', m: '-', n: '.', o: '/', X: '=' };

const CONTROLS: Record<string, string> = {
  '\r': 'enter',
  '\n': 'enter',
  '\t': 'tab',
  '\b': 'backspace',
  '\x7f': 'backspace',
  ' ': 'space',
};

const NONE: readonly KeyEvent[] = [];

export class KeyDecoder {
  readonly #utf8 = new StringDecoder('utf8');
  #state: State = 'ground';
  /** What came of the sequence or the paste so far. */
  #begun = '';
  /** The sequence belongs to an ESC that was given out already. */
  #isLate = false;

  get awaited(): Awaited {
    switch (this.#state) {
      case 'ground':
        return 'nothing';
      case 'escape':
      case 'late-o':
        return 'escape';
      case 'paste':
        return 'paste';
      default:
        return 'rest';
    }
  }

  push(bytes: Buffer): KeyEvent[] {
    const events: KeyEvent[] = [];
    for (const character of this.#utf8.write(bytes)) events.push(...this.#take(character));
    return events;
  }

  /** Nothing followed in time: a lone ESC is the key of that name, a torn sequence is dropped. */
  timeOut(): KeyEvent[] {
    const state = this.#state;
    const begun = this.#begun;
    this.#begin('ground');
    if (state === 'escape') {
      this.#begin('late');
      return [{ kind: 'key', name: 'escape' }];
    }
    if (state === 'late-o') return [{ kind: 'text', text: 'O' }];
    return state === 'paste' && begun !== '' ? [{ kind: 'paste', text: clean(begun) }] : [];
  }

  #begin(state: State, isLate = false): void {
    this.#state = state;
    this.#begun = '';
    this.#isLate = isLate;
  }

  /** The sequence is whole. */
  #end(event: KeyEvent | null = null): readonly KeyEvent[] {
    const isGiven = event !== null && !this.#isLate;
    this.#begin('ground');
    return isGiven ? [event] : NONE;
  }

  #take(character: string): readonly KeyEvent[] {
    switch (this.#state) {
      case 'ground':
        return this.#takePlain(character);
      case 'escape':
        return this.#takeAfterEscape(character);
      case 'late':
      case 'late-o':
        return this.#takeLate(character);
      case 'csi':
      case 'ss3':
        return this.#takeOfSequence(character);
      case 'linux':
        return /[A-E]/.test(character)
          ? this.#end({ kind: 'key', name: `f${character.charCodeAt(0) - 64}` })
          : this.#startAgain(character);
      case 'old-mouse':
        this.#begun += '.';
        if (character === '\x1b') return this.#startAgain(character);
        return this.#begun.length === 3 ? this.#end() : NONE;
      case 'paste':
        return this.#takePasted(character);
      default:
        return this.#takeOfString(character);
    }
  }

  #takePlain(character: string): readonly KeyEvent[] {
    if (character !== '\x1b') return this.#end(plainKey(character));
    this.#begin('escape');
    return NONE;
  }

  #takeAfterEscape(character: string): readonly KeyEvent[] {
    // ESC ESC: the first was the key.
    if (character === '\x1b') return [{ kind: 'key', name: 'escape' }];
    // Else Alt and a key: nothing has such a key.
    const state =
      character === '['
        ? 'csi'
        : character === 'O'
          ? 'ss3'
          : /[\]PX^_]/.test(character)
            ? 'string'
            : 'ground';
    this.#begin(state);
    return NONE;
  }

  #takeLate(character: string): readonly KeyEvent[] {
    if (this.#state === 'late-o') {
      this.#begin('ground');
      // A letter right after it: a function key whose ESC came long before.
      return /[A-Za-z]/.test(character) ? NONE : [{ kind: 'text', text: 'O' }, ...this.#take(character)];
    }
    this.#begin(character === '[' ? 'csi' : character === 'O' ? 'late-o' : 'ground', character === '[');
    return /[[O]/.test(character) ? NONE : this.#take(character);
  }

  /** The sequence was torn and a new one, or a key, has begun. No part of it counts as a letter. */
  #startAgain(character: string): readonly KeyEvent[] {
    this.#begin('ground');
    return /[\x20-\x7e\x80-\uffff]/.test(character) ? NONE : this.#take(character);
  }

  /** A character of `ESC [ ...` or `ESC O ...`. */
  #takeOfSequence(character: string): readonly KeyEvent[] {
    const isCsi = this.#state === 'csi';
    if (isCsi && this.#begun === '' && /[[M]/.test(character)) {
      this.#begin(character === '[' ? 'linux' : 'old-mouse', this.#isLate);
      return NONE;
    }
    if (isCsi ? /[ -?]/.test(character) : /[0-9;]/.test(character)) {
      if (this.#begun.length < SEQUENCE_LIMIT) this.#begun += character;
      return NONE;
    }
    if (!/[@-~]/.test(character)) return this.#startAgain(character);
    if (isCsi && this.#begun === '200' && character === '~') {
      this.#begin('paste');
      return NONE;
    }
    return this.#end(isCsi ? csiKey(this.#begun, character) : ss3Key(character));
  }

  /** BEL or ST ends it; any other control says that it was torn. */
  #takeOfString(character: string): readonly KeyEvent[] {
    if (this.#state === 'string-escape') {
      if (character === '\\') return this.#end();
      this.#begin('escape');
      return this.#take(character);
    }
    if (character === '\x07') return this.#end();
    if (character === '\x1b') this.#begin('string-escape');
    else if (character < ' ') return this.#startAgain(character);
    return NONE;
  }

  #takePasted(character: string): readonly KeyEvent[] {
    this.#begun += character;
    if (character === '~' && this.#begun.endsWith(PASTE_END)) {
      return this.#end({ kind: 'paste', text: clean(this.#begun.slice(0, -PASTE_END.length)) });
    }
    if (this.#begun.length <= PASTE_LIMIT) return NONE;
    // What may be the begin of the end is kept.
    const text = clean(this.#begun.slice(0, -PASTE_END.length));
    this.#begun = this.#begun.slice(-PASTE_END.length);
    return [{ kind: 'paste', text }];
  }
}

function plainKey(character: string): KeyEvent | null {
  const name = CONTROLS[character];
  if (name !== undefined) return { kind: 'key', name };
  if (character < ' ')
    return { kind: 'key', name: `ctrl-${String.fromCharCode(character.charCodeAt(0) + 96)}` };
  return /[\p{Cc}\ufffd]/u.test(character) ? null : { kind: 'text', text: character };
}

function named(name: string | undefined): KeyEvent | null {
  return name === undefined ? null : { kind: 'key', name };
}

function ss3Key(final: string): KeyEvent | null {
  if (final === 'M') return { kind: 'key', name: 'enter' };
  if (/[p-y]/.test(final)) return { kind: 'text', text: String(final.charCodeAt(0) - 0x70) };
  const sign = KEYPAD[final];
  return sign === undefined ? named(FINALS[final]) : { kind: 'text', text: sign };
}

/** `begun` is what stands between `ESC [` and the final character. */
function csiKey(begun: string, final: string): KeyEvent | null {
  const mouse = /^<(\d+);(\d+);(\d+)$/.exec(begun);
  if (mouse && /[Mm]/.test(final)) return mouseEvent(mouse as unknown as string[], final);
  if (final === '~') return named(TILDES[/^(\d+)(;\d+)?$/.exec(begun)?.[1] ?? '']);
  return /^[\d;]*$/.test(begun) ? named(FINALS[final]) : null;
}

/** SGR mouse (1006): button, column, row; M pressed, m released. */
function mouseEvent([, button = '', column = '', row = '']: string[], end: string): KeyEvent | null {
  const at = { row: Number(row) - 1, column: Number(column) - 1 };
  if (button === '64') return { kind: 'mouse', action: 'wheel-up', ...at };
  if (button === '65') return { kind: 'mouse', action: 'wheel-down', ...at };
  return button === '0' && end === 'M' ? { kind: 'mouse', action: 'press', ...at } : null;
}

/** Fewer characters in one read may have been typed, or have waited for a line that stalled. */
const PASTE_LENGTH = 12;
const PASTE_VARIETY = 6;

/**
 * Terminals without bracketed paste: so much different text in one read was not typed. A key held down repeats itself,
 * and keys that move hold an ESC.
 */
export function isPasteWithoutBrackets(bytes: Buffer): boolean {
  const text = bytes.toString('utf8');
  return text.length >= PASTE_LENGTH && !text.includes('\x1b') && new Set(text).size >= PASTE_VARIETY;
}

/** What was pasted as one line of text. */
export function clean(text: string): string {
  return text.replace(/[\r\n]+$/, '').replace(/\p{Cc}+/gu, ' ');
}
