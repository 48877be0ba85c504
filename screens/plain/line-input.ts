/** Lines that a person types or a pipe brings. The terminal's own line editing is used; only secrets are read raw. */
import { StringDecoder } from 'node:string_decoder';

export interface InputLine {
  text: string;
  /** False if it holds keys that are no text, as the arrows send them. */
  isText: boolean;
}

/** Lines that nobody has asked for yet; a pipe that brings more waits. */
const WAITING_LIMIT = 1_000;
/** Longer lines are no answer to anything. */
const LINE_LIMIT = 8_192;
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/;

export class LineInput {
  readonly #stdin: NodeJS.ReadStream;
  readonly #decoder = new StringDecoder('utf8');
  readonly #lines: InputLine[] = [];
  #rest = '';
  #hasEnded = false;
  #isListening = false;
  /** Takes characters instead of lines while a secret is typed. */
  #onRaw: ((text: string) => void) | undefined;
  #wake: (() => void) | undefined;

  constructor(stdin: NodeJS.ReadStream) {
    this.#stdin = stdin;
  }

  get isTerminal(): boolean {
    return this.#stdin.isTTY === true;
  }

  get hasEnded(): boolean {
    return this.#hasEnded && this.#lines.length === 0;
  }

  /** The next line; `end` when there will be none, `late` if none comes in time or `wake` was called. */
  async next(withinMs?: number): Promise<InputLine | 'end' | 'late'> {
    this.#listen();
    const line = this.#take();
    if (line !== undefined) return line;
    if (this.#hasEnded) return 'end';
    await this.#something(withinMs);
    return this.#take() ?? (this.#hasEnded ? 'end' : 'late');
  }

  /** Lets a waiting `next` look again. */
  wake(): void {
    this.#wake?.();
  }

  /** On a terminal: forgets what was typed before the question could be read. A pipe has it all in advance. */
  async dropTypedAhead(): Promise<void> {
    if (!this.isTerminal) return;
    this.#listen();
    // What the terminal holds already is read within a turn.
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    this.#lines.length = 0;
    this.#rest = '';
  }

  /** A line that is not shown; undefined for Esc or ^C. `ask` is called once nothing typed would be shown any more. */
  async secret(ask: () => void): Promise<string | 'end' | undefined> {
    if (!this.isTerminal) {
      ask();
      const line = await this.next();
      return typeof line === 'string' ? 'end' : line.text;
    }
    await this.dropTypedAhead();
    this.#stdin.setRawMode(true);
    try {
      ask();
      return await this.#typeSecret();
    } finally {
      this.#onRaw = undefined;
      this.#stdin.setRawMode(false);
    }
  }

  /** Leaves standard input to others until the next question. */
  stop(): void {
    if (!this.#isListening) return;
    this.#isListening = false;
    this.#stdin.off('data', this.#onData);
    this.#stdin.off('end', this.#onEnd);
    this.#stdin.off('error', this.#onEnd);
    this.#stdin.pause();
  }

  /** Ends it for good; the terminal shows again what is typed. */
  close(): void {
    if (this.#onRaw !== undefined && this.isTerminal) this.#stdin.setRawMode(false);
    this.stop();
    this.#hasEnded = true;
    this.#wake?.();
  }

  #typeSecret(): Promise<string | 'end' | undefined> {
    let typed: string[] = [];
    return new Promise((resolve) => {
      this.#wake = () => {
        if (this.#hasEnded) resolve('end');
      };
      this.#onRaw = (text) => {
        for (const character of text) {
          if (character === '\r' || character === '\n') return resolve(typed.join(''));
          if (character === '\u0003' || character === '\u001b') return resolve(undefined);
          if (character === '\u0004' && typed.length === 0) return resolve(undefined);
          if (character === '\u007f' || character === '\b') typed.pop();
          else if (character === '\u0015') typed = [];
          else if (!CONTROLS.test(character) && typed.length < LINE_LIMIT) typed.push(character);
        }
      };
    });
  }

  #take(): InputLine | undefined {
    const line = this.#lines.shift();
    if (this.#lines.length < WAITING_LIMIT && this.#isListening) this.#stdin.resume();
    return line;
  }

  #something(withinMs: number | undefined): Promise<void> {
    return new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined;
      const done = (): void => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
      this.#wake = done;
      if (withinMs !== undefined) timer = setTimeout(done, withinMs);
    });
  }

  #listen(): void {
    if (this.#isListening || this.#hasEnded) return;
    this.#isListening = true;
    this.#stdin.on('data', this.#onData);
    this.#stdin.on('end', this.#onEnd);
    this.#stdin.on('error', this.#onEnd);
    this.#stdin.resume();
  }

  readonly #onData = (bytes: Buffer | string): void => {
    const text = typeof bytes === 'string' ? bytes : this.#decoder.write(bytes);
    if (this.#onRaw) {
      this.#onRaw(text);
      return;
    }
    const parts = (this.#rest + text).split('\n');
    this.#rest = (parts.pop() ?? '').slice(0, LINE_LIMIT);
    for (const part of parts) this.#add(part);
    if (this.#lines.length >= WAITING_LIMIT) this.#stdin.pause();
    if (parts.length > 0) this.#wake?.();
  };

  readonly #onEnd = (): void => {
    if (this.#hasEnded) return;
    // A last line without its end counts.
    const rest = this.#rest + this.#decoder.end();
    if (rest !== '') this.#add(rest);
    this.#rest = '';
    this.#hasEnded = true;
    this.#wake?.();
  };

  #add(line: string): void {
    const text = line.replace(/\r$/, '').slice(0, LINE_LIMIT);
    this.#lines.push({ text, isText: !CONTROLS.test(text) });
  }
}
