/** Lines out and lines in: what every question of the numbered dialogue is made of. No escape codes, ever. */
import { type PlainWord, plainWordLine } from '../../menus/plain-keys.ts';
import { EndOfInput, type Line } from '../dialogue.ts';
import { showable, wrap } from '../frame.ts';
import type { Look } from '../look.ts';
import { type InputLine, LineInput } from './line-input.ts';

export interface TalkStreams {
  stdin: NodeJS.ReadStream;
  stdout: NodeJS.WriteStream;
}

/** Where the output is no terminal. */
const COLUMNS = 80;
const PAGE_ROWS = 20;
/** Rows that the title, the hints and the prompt take beside a page. */
const OTHER_ROWS = 5;
const LEAST_ROWS = 5;

export class PlainTalk {
  readonly input: LineInput;
  readonly #stdout: NodeJS.WriteStream;
  readonly #look: Look;
  /** The question that stands open, printed again after a notice. */
  #prompt: string | undefined;
  #onInterrupt: (() => void) | undefined;
  #title = '';

  constructor({ stdin, stdout }: TalkStreams, look: Look) {
    this.input = new LineInput(stdin);
    this.#stdout = stdout;
    this.#look = look;
  }

  get look(): Look {
    return this.#look;
  }

  get columns(): number {
    return this.#stdout.isTTY && this.#stdout.columns > 0 ? this.#stdout.columns : COLUMNS;
  }

  /** Rows of one page. */
  get pageRows(): number {
    const rows = this.#stdout.isTTY ? this.#stdout.rows : 0;
    return rows > 0 ? Math.max(LEAST_ROWS, rows - OTHER_ROWS) : PAGE_ROWS;
  }

  /** A line of any length; a terminal gets it broken at blanks. What is good or bad is said, not coloured. */
  print(line: Line): void {
    for (const text of this.broken(line)) this.#stdout.write(`${text.trimEnd()}\n`);
  }

  broken(line: Line): string[] {
    const text = typeof line === 'string' ? line : line.text;
    const isFault = typeof line !== 'string' && (line.mark === 'bad' || line.mark === 'warning');
    const said = isFault ? `! ${text}` : text;
    if (said === '') return [''];
    return this.#stdout.isTTY ? wrap(said, this.columns, this.#look) : [showable(said, this.#look)];
  }

  /** A blank line and the title: what begins a question. */
  head(title: string): void {
    this.print('');
    this.print(title);
    this.#title = title;
  }

  /** The same for questions that follow one another under one title: it is printed once. */
  headOnce(title: string): void {
    if (title !== this.#title) this.head(title);
  }

  /** Something said between question and answer. */
  note(line: Line): void {
    if (this.#prompt !== undefined) this.#stdout.write('\n');
    this.print(line);
    if (this.#prompt !== undefined) this.#stdout.write(this.#prompt);
  }

  /** The words that can be typed, one a line. */
  help(title: string, lines: readonly string[], ...tables: (readonly PlainWord[])[]): void {
    this.head(`Help: ${title}`);
    for (const line of lines) this.print(line);
    for (const word of tables.flat()) this.print(plainWordLine(word));
  }

  /** One line in answer to `prompt`. Throws EndOfInput. */
  async question(prompt: string): Promise<string> {
    for (;;) {
      const line = await this.within(prompt);
      if (line.isText) return line.text.trim();
      this.print('Those keys do nothing here: type a number, a letter or a word, then Enter.');
    }
  }

  /** The same; `late` if no line comes within `withinMs`. The prompt is left out if it is empty. */
  async within(prompt: string): Promise<InputLine>;
  async within(prompt: string, withinMs: number): Promise<InputLine | 'late'>;
  async within(prompt: string, withinMs?: number): Promise<InputLine | 'late'> {
    const shown = showable(prompt, this.#look);
    this.#prompt = shown;
    this.#stdout.write(shown);
    try {
      for (;;) {
        const line = await this.input.next(withinMs);
        if (line === 'late' && withinMs === undefined) continue;
        if (line === 'late') return line;
        if (line === 'end') throw new EndOfInput();
        // What a pipe brings shows nowhere else.
        if (!this.input.isTerminal) this.print(line.text);
        return line;
      }
    } finally {
      if (this.input.hasEnded && this.#prompt) this.#stdout.write('\n');
      this.#prompt = undefined;
    }
  }

  /** A line that is not shown; undefined for back. Throws EndOfInput. */
  async secret(prompt: string): Promise<string | undefined> {
    const line = await this.input.secret(() => this.#stdout.write(showable(prompt, this.#look)));
    this.#stdout.write('\n');
    if (line === 'end') throw new EndOfInput();
    return line;
  }

  /** While `work` runs, ^C calls `onInterrupt` instead of ending the console. */
  async interruptible<T>(onInterrupt: (() => void) | undefined, work: () => Promise<T>): Promise<T> {
    const before = this.#onInterrupt;
    this.#onInterrupt = onInterrupt;
    try {
      return await work();
    } finally {
      this.#onInterrupt = before;
    }
  }

  /** ^C was typed; false if nobody wants it. */
  interrupt(): boolean {
    const wanted = this.#onInterrupt;
    if (wanted === undefined) return false;
    this.#stdout.write('\n');
    wanted();
    return true;
  }

  /** A question that stays open ends its line, so that what comes next begins one. */
  close(): void {
    if (this.#prompt) this.#stdout.write('\n');
    this.#prompt = undefined;
    this.input.close();
  }
}
