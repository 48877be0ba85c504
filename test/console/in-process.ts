/** The full screen with streams that the test holds: every read is one that the test has cut. */
import { EventEmitter } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';
import headless from '@xterm/headless';
import { UNKNOWN_STATE } from '../../menus/state.ts';
import { FullFace } from '../../screens/full/full-face.ts';
import { chooseLook, type LookWords, terminalName } from '../../screens/look.ts';
import type { TerminalStreams } from '../../screens/terminal/terminal.ts';
import { Stage, type StageData } from '../bench/stage-views.ts';

/** Turns of the event loop in which keys reach their views and all is painted. */
const TURNS = 12;

export interface StageScreenOptions extends StageData {
  columns?: number;
  rows?: number;
  term?: string;
  words?: LookWords;
  env?: NodeJS.ProcessEnv;
}

export class StageScreen {
  readonly #emulator: InstanceType<typeof headless.Terminal>;
  readonly #stdin = Object.assign(new EventEmitter(), {
    isTTY: true,
    setRawMode: () => undefined,
    resume: () => undefined,
    pause: () => undefined,
  });
  readonly #stdout: EventEmitter & { columns: number; rows: number };
  readonly face: FullFace;
  readonly ended: Promise<void>;
  #parsing: Promise<void> = Promise.resolve();

  constructor(options: StageScreenOptions = {}) {
    const { columns = 80, rows = 24, term = 'xterm-256color', words, env } = options;
    this.#emulator = new headless.Terminal({ cols: columns, rows, allowProposedApi: true });
    this.#stdout = Object.assign(new EventEmitter(), {
      isTTY: true,
      columns,
      rows,
      write: (bytes: string, done?: () => void) => {
        this.#parsing = this.#parsing.then(
          () => new Promise((resolve) => this.#emulator.write(bytes, resolve)),
        );
        done?.();
        return true;
      },
    });
    const all = { TERM: term, LANG: 'C.UTF-8', ESCDELAY: '30000', ...env };
    const name = terminalName(all);
    this.face = new FullFace({
      terminalName: 'name' in name ? name.name : 'xterm',
      streams: { stdin: this.#stdin, stdout: this.#stdout } as unknown as TerminalStreams,
      env: all,
      look: chooseLook(all, null, { look: 'thin', ...words }),
      state: () => UNKNOWN_STATE,
      onGone: () => undefined,
    });
    this.ended = new Stage(this.face, options).run();
  }

  /** Each piece is one read; all that follows from it is done before the next comes. */
  async send(...pieces: (string | Buffer)[]): Promise<void> {
    for (const piece of pieces) {
      this.#stdin.emit('data', Buffer.from(piece as string));
      await this.settle();
    }
  }

  async settle(): Promise<void> {
    for (let turn = 0; turn < TURNS; turn++) await nextTurn();
    await this.#parsing;
  }

  resize(columns: number, rows: number): void {
    this.#emulator.resize(columns, rows);
    Object.assign(this.#stdout, { columns, rows });
    this.#stdout.emit('resize');
  }

  /** Rows of text without blanks at their ends. */
  screen(): string[] {
    return this.#rows((row) => row.map(({ text }) => text).join('')).map((row) => row.trimEnd());
  }

  get text(): string {
    return this.screen().join('\n');
  }

  /**
   * The screen as it is kept: the text of each row, under it the marks of its cells if there are any (i inverse, b bold,
   * u underlined, a digit for the colour), then the cursor.
   */
  picture(): string {
    const texts = this.screen();
    const marks = this.#rows((row) => row.map(({ mark }) => mark).join('')).map((row) => row.trimEnd());
    const rows = texts.flatMap((text, at) => (marks[at] === '' ? [text] : [text, `  marks: ${marks[at]}`]));
    const { cursorX, cursorY } = this.#emulator.buffer.active;
    return `${rows.join('\n').trimEnd()}\n\ncursor: row ${cursorY + 1}, column ${cursorX + 1}\n`;
  }

  #rows(make: (row: { text: string; mark: string }[]) => string): string[] {
    const { active } = this.#emulator.buffer;
    return Array.from({ length: this.#emulator.rows }, (_, at) => {
      const line = active.getLine(active.baseY + at);
      const row = Array.from({ length: this.#emulator.cols }, (_, column) => {
        const cell = line?.getCell(column);
        const isWideEnd = cell?.getWidth() === 0;
        const signs = [
          cell?.isInverse() ? 'i' : '',
          cell?.isBold() ? 'b' : '',
          cell?.isUnderline() ? 'u' : '',
          cell === undefined || cell.isFgDefault() ? '' : String(cell.getFgColor() % 10),
        ];
        return {
          text: isWideEnd ? '' : cell?.getChars() || ' ',
          mark: signs.find((one) => one !== '') ?? ' ',
        };
      });
      return make(row);
    });
  }

  async close(): Promise<void> {
    await this.face.close();
    this.#emulator.dispose();
  }
}
