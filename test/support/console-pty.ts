/**
 * The built console in a pseudo-terminal of its own: keys go in, a cell emulator shows what a person would see. Every
 * wait ends by an event (bytes that came, a process that ended) or by its time-out, never by sleeping.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import headless from '@xterm/headless';
import { type IPty, spawn } from 'node-pty';

/** Entry of the built program; this file may be part of what is built itself. */
export const MAIN = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../../dist/src/main.js' : '../../src/main.js', import.meta.url),
);
/** Generous: machines that run tests are busy. */
const PATIENCE_MS = 30_000;
/** A repaint that differs so long is different. */
const REPAINT_MS = 5_000;

export interface ConsolePtyOptions {
  /** Words after `phd`. */
  args?: readonly string[];
  /** Added to the environment; give at least PHD_HOME. undefined takes a name away. */
  env?: NodeJS.ProcessEnv;
  columns?: number;
  rows?: number;
  term?: string;
  /** Runs this instead of the program. */
  command?: readonly [string, ...string[]];
}

/** What a terminal sends for each key; a single character stands for itself, `ctrl-x` for its control code. */
const KEYS: Record<string, string> = {
  up: '\x1b[A',
  down: '\x1b[B',
  right: '\x1b[C',
  left: '\x1b[D',
  home: '\x1b[H',
  end: '\x1b[F',
  insert: '\x1b[2~',
  delete: '\x1b[3~',
  pageup: '\x1b[5~',
  pagedown: '\x1b[6~',
  backtab: '\x1b[Z',
  enter: '\r',
  tab: '\t',
  space: ' ',
  backspace: '\x7f',
  esc: '\x1b',
  escape: '\x1b',
  f1: '\x1bOP',
  f2: '\x1bOQ',
  f3: '\x1bOR',
  f4: '\x1bOS',
  f5: '\x1b[15~',
  f6: '\x1b[17~',
  f7: '\x1b[18~',
  f8: '\x1b[19~',
  f9: '\x1b[20~',
  f10: '\x1b[21~',
  f11: '\x1b[23~',
  f12: '\x1b[24~',
};

/** Bytes of one key as xterm sends it. */
export function keyBytes(key: string): string {
  const known = KEYS[key];
  if (known !== undefined) return known;
  const control = /^ctrl-([a-z\\])$/.exec(key)?.[1];
  if (control !== undefined) return String.fromCharCode(control.charCodeAt(0) & 0x1f);
  if ([...key].length === 1) return key;
  throw new Error(`no key is called ${JSON.stringify(key)}: type() takes text`);
}

export interface ScreenCell {
  /** '' is the second half of a wide character. */
  text: string;
  isBold: boolean;
  isInverse: boolean;
  isUnderlined: boolean;
  /** Number of the palette; -1 is the terminal's own. */
  foreground: number;
  background: number;
}

export interface ExitStatus {
  /** Exit status, if it ended by itself. */
  code: number;
  /** Number of the signal that ended it, 0 if none did. */
  signal: number;
}

type Wanted = string | RegExp | ((screen: string[]) => boolean);

interface Waiter {
  isMet: () => boolean;
  resolve: () => void;
}

const open_ = new Set<ConsolePty>();

/** Starts the program; it is on its way, nothing has been painted yet. */
export function open(options: ConsolePtyOptions = {}): ConsolePty {
  const one = new ConsolePty(options);
  open_.add(one);
  return one;
}

/** Ends all that a test has left open, for `afterEach`. */
export async function closeAll(): Promise<void> {
  await Promise.all([...open_].map((one) => one.close()));
}

export class ConsolePty {
  readonly #pty: IPty;
  readonly #emulator: InstanceType<typeof headless.Terminal>;
  readonly #waiters = new Set<Waiter>();
  readonly #exited: Promise<ExitStatus>;
  #status: ExitStatus | undefined;
  #bytes: Buffer[] = [];
  #received = 0;
  /** Chunks that the emulator has not parsed yet. */
  #unparsed = 0;
  /** While a full repaint is awaited: what stood there before the cursor went home, and then before the clearing. */
  #noted: { beforeHome?: string; beforeClear?: string } | undefined;

  constructor(options: ConsolePtyOptions) {
    const { args = [], env = {}, columns = 80, rows = 24, term = 'xterm-256color', command } = options;
    if (command === undefined && !existsSync(MAIN)) throw new Error(`${MAIN} is not built: npm run build`);
    const [file, ...words] = command ?? [process.execPath, MAIN, ...args];
    this.#emulator = new headless.Terminal({ cols: columns, rows, allowProposedApi: true, scrollback: 200 });
    const { parser } = this.#emulator;
    parser.registerCsiHandler({ final: 'H' }, () => this.#note('beforeHome'));
    parser.registerCsiHandler({ final: 'J' }, () => this.#note('beforeClear'));
    this.#pty = spawn(file, words, {
      name: term,
      cols: columns,
      rows,
      env: environment(env, term) as Record<string, string>,
      // Chunks of bytes, as they come.
      encoding: null,
    });
    this.#pty.onData((data) => this.#take(data as unknown as Buffer));
    this.#exited = new Promise((resolve) => {
      this.#pty.onExit(({ exitCode, signal }) => {
        this.#status = { code: exitCode, signal: signal ?? 0 };
        this.#look();
        resolve(this.#status);
      });
    });
  }

  get pid(): number {
    return this.#pty.pid;
  }

  get columns(): number {
    return this.#emulator.cols;
  }

  get rows(): number {
    return this.#emulator.rows;
  }

  /** Sends keys by their names. Escape must be the last: a byte at its heels makes it the begin of a sequence. */
  press(...keys: string[]): void {
    if (keys.slice(0, -1).some((key) => /^esc(ape)?$/.test(key))) {
      throw new Error('wait for what Escape does before the next key');
    }
    this.write(keys.map(keyBytes).join(''));
  }

  /** Sends text as if it were typed. */
  type(text: string): void {
    this.write(text);
  }

  /** Sends text as terminals with bracketed paste do. */
  paste(text: string): void {
    this.write(`\x1b[200~${text}\x1b[201~`);
  }

  /** A left click; row and column begin at 0. */
  click(row: number, column: number): void {
    const at = `${column + 1};${row + 1}`;
    this.write(`\x1b[<0;${at}M\x1b[<0;${at}m`);
  }

  /** Sends bytes as they are. */
  write(bytes: string | Buffer): void {
    // node-pty takes bytes as well as text.
    this.#pty.write(bytes as string);
  }

  /** Rows of text without blanks at their ends. */
  screen(): string[] {
    const { active } = this.#emulator.buffer;
    return Array.from({ length: this.rows }, (_, at) => {
      return active.getLine(active.baseY + at)?.translateToString(true) ?? '';
    });
  }

  get text(): string {
    return this.screen().join('\n');
  }

  /** Cells of one row. */
  cells(row: number): ScreenCell[] {
    const { active } = this.#emulator.buffer;
    const line = active.getLine(active.baseY + row);
    return Array.from({ length: this.columns }, (_, column) => {
      const cell = line?.getCell(column);
      return {
        text: cell?.getChars() || (cell?.getWidth() === 0 ? '' : ' '),
        isBold: Boolean(cell?.isBold()),
        isInverse: Boolean(cell?.isInverse()),
        isUnderlined: Boolean(cell?.isUnderline()),
        foreground: cell === undefined || cell.isFgDefault() ? -1 : cell.getFgColor(),
        background: cell === undefined || cell.isBgDefault() ? -1 : cell.getBgColor(),
      };
    });
  }

  get cursor(): { row: number; column: number; isVisible: boolean } {
    const { active } = this.#emulator.buffer;
    const core = (this.#emulator as unknown as { _core: { coreService: { isCursorHidden: boolean } } })._core;
    return { row: active.cursorY, column: active.cursorX, isVisible: !core.coreService.isCursorHidden };
  }

  get isAlternateScreen(): boolean {
    return this.#emulator.buffer.active.type === 'alternate';
  }

  /** Modes that a program must switch off again. */
  get modes(): { isMouseOn: boolean; isPasteBracketed: boolean; hasApplicationCursor: boolean } {
    const { mouseTrackingMode, bracketedPasteMode, applicationCursorKeysMode } = this.#emulator.modes;
    return {
      isMouseOn: mouseTrackingMode !== 'none',
      isPasteBracketed: bracketedPasteMode,
      hasApplicationCursor: applicationCursorKeysMode,
    };
  }

  /** Bytes that came since the start or the last `forgetBytes`. */
  get bytes(): Buffer {
    return Buffer.concat(this.#bytes);
  }

  forgetBytes(): void {
    this.#bytes = [];
  }

  /** Throws with the screen when it does not come in time, or when the program ends before. */
  async waitFor(wanted: Wanted, timeoutMs = PATIENCE_MS): Promise<void> {
    const isMet = (): boolean => {
      const screen = this.screen();
      if (typeof wanted === 'string') return screen.some((row) => row.includes(wanted));
      return wanted instanceof RegExp ? wanted.test(screen.join('\n')) : wanted(screen);
    };
    await this.#until(isMet, String(wanted), timeoutMs);
  }

  /** A whole frame has come since `forgetBytes`: every frame ends by placing the cursor. */
  async waitForFrame(timeoutMs = PATIENCE_MS): Promise<void> {
    const isWhole = (): boolean => /\x1b\[\d+;\d+H(\x1b\[\?25h)?$/.test(this.bytes.toString('latin1'));
    await this.#until(isWhole, 'a whole frame', timeoutMs);
  }

  /** Nothing has come for so long: for programs whose frames have no end that can be told, in benches. */
  async waitForQuiet(quietMs: number): Promise<void> {
    for (let seen = -1; seen !== this.#received; ) {
      seen = this.#received;
      await new Promise((resolve) => setTimeout(resolve, quietMs));
    }
  }

  /** Waits until the bytes that came since `forgetBytes` hold this text. */
  async waitForBytes(text: string, timeoutMs = PATIENCE_MS): Promise<void> {
    const wanted = Buffer.from(text);
    await this.#until(() => this.bytes.includes(wanted), JSON.stringify(text), timeoutMs);
  }

  /** Status of the program when it has ended. */
  async exit(timeoutMs = PATIENCE_MS): Promise<ExitStatus> {
    await this.#until(() => this.#status !== undefined, 'the end of the program', timeoutMs);
    return this.#exited;
  }

  get isRunning(): boolean {
    return this.#status === undefined;
  }

  resize(columns: number, rows: number): void {
    this.#emulator.resize(columns, rows);
    this.#pty.resize(columns, rows);
  }

  /** Sends a signal to the program, or to `pid`. */
  signal(name: NodeJS.Signals, pid = this.pid): void {
    process.kill(pid, name);
  }

  /** Stops reading, as a line that has stalled. */
  stall(): void {
    this.#pty.pause();
  }

  goOn(): void {
    this.#pty.resume();
  }

  /** The terminal goes away: its master end is closed. */
  hangUp(): void {
    (this.#pty as unknown as { destroy(): void }).destroy();
  }

  /**
   * Asks for a full repaint (^L) and compares cells, attributes and cursor with what stood there. Not for screens that
   * change by themselves. Once only: a second repaint would find what the first has put right.
   */
  async assertRepaintIsEqual(): Promise<void> {
    const noted: { beforeHome?: string; beforeClear?: string } = {};
    this.#noted = noted;
    this.press('ctrl-l');
    const isEqual = (): boolean => noted.beforeClear !== undefined && noted.beforeClear === this.#picture();
    try {
      await this.#until(isEqual, 'the same screen after a repaint', REPAINT_MS);
    } catch (error) {
      const difference = `--- before\n${noted.beforeClear}\n--- after\n${this.#picture()}`;
      throw new Error(
        `the screen was not what a full repaint shows: ${(error as Error).message}\n${difference}`,
      );
    } finally {
      this.#noted = undefined;
    }
  }

  /** Ends the program if it runs; before that compares with a full repaint if asked. */
  async close({ comparing = false } = {}): Promise<void> {
    if (comparing) await this.assertRepaintIsEqual();
    open_.delete(this);
    if (this.isRunning) {
      this.goOn();
      this.signal('SIGKILL');
      await this.#exited;
    }
    this.#emulator.dispose();
  }

  /** A clearing counts with what stood there before the cursor went home for it; only the first one counts. */
  #note(what: 'beforeHome' | 'beforeClear'): false {
    if (this.#noted === undefined || this.#noted.beforeClear !== undefined) return false;
    if (what === 'beforeHome') this.#noted.beforeHome = this.#picture();
    else this.#noted.beforeClear = this.#noted.beforeHome ?? this.#picture();
    return false;
  }

  #take(data: Buffer): void {
    this.#bytes.push(data);
    this.#received += data.length;
    this.#unparsed++;
    this.#emulator.write(data, () => {
      this.#unparsed--;
      this.#look();
    });
  }

  #look(): void {
    if (this.#unparsed > 0) return;
    for (const waiter of [...this.#waiters]) {
      if (!waiter.isMet()) continue;
      this.#waiters.delete(waiter);
      waiter.resolve();
    }
  }

  async #until(isMet: () => boolean, what: string, timeoutMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    let waiter: Waiter | undefined;
    const isOver = (): boolean => isMet() || this.#status !== undefined;
    const met = new Promise<boolean>((resolve) => {
      waiter = { isMet: isOver, resolve: () => resolve(true) };
      this.#waiters.add(waiter);
      timer = setTimeout(() => resolve(false), timeoutMs);
      this.#look();
    });
    const isInTime = await met;
    clearTimeout(timer);
    this.#waiters.delete(waiter as Waiter);
    if (isMet()) return;
    const why = isInTime
      ? `the program ended (${JSON.stringify(this.#status)}) before`
      : `${timeoutMs} ms were not enough for`;
    throw new Error(`${why}: ${what}\n${this.text}`);
  }

  /** All that can be seen, as text: characters, then attributes where there are any, then the cursor. */
  #picture(): string {
    const rows = Array.from({ length: this.rows }, (_, row) => {
      const cells = this.cells(row);
      const text = cells.map((cell) => cell.text).join('');
      const marks = cells.map((cell) =>
        [
          cell.isBold ? 'b' : '',
          cell.isInverse ? 'i' : '',
          cell.isUnderlined ? 'u' : '',
          cell.foreground,
          cell.background,
        ].join(' '),
      );
      const runs = marks.map((mark, at) => (mark === marks[at - 1] ? '' : ` ${at}:${mark}`)).join('');
      return `${text.trimEnd()} |${runs}`;
    });
    const { row, column, isVisible } = this.cursor;
    return `${rows.join('\n')}\ncursor ${row} ${column} ${isVisible}`;
  }
}

/** Nothing of the terminal that runs the tests reaches the one that is tested. */
function environment(env: NodeJS.ProcessEnv, term: string): NodeJS.ProcessEnv {
  const own = { ...process.env };
  for (const name of Object.keys(own)) {
    if (/^(SSH_|TMUX|LC_|NO_COLOR|COLORTERM|ESCDELAY|PHD_|VITEST|NODE_)/.test(name)) delete own[name];
  }
  const all: NodeJS.ProcessEnv = { ...own, LANG: 'C.UTF-8', TERM: term, ...env };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

/** Processes that one has started, from the kernel's list. */
export function childrenOf(pid: number): number[] {
  const list = readFileSync(path.join('/proc', String(pid), 'task', String(pid), 'children'), 'utf8');
  return list.split(' ').filter(Boolean).map(Number);
}
