/**
 * A terminal as the console sees it: frames go out, keys come in, and it is given back whatever happens. Writing never
 * blocks: while the line has not taken the last frame no other is made, so one frame at most is ever under way.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Frame, Mark, Size } from '../frame.ts';
import { cellsOf } from '../frame.ts';
import type { Look } from '../look.ts';
import { type CellGrid, openCellGrid } from './blessed.ts';
import { clean, isPasteWithoutBrackets, KeyDecoder, type KeyEvent } from './key-decoder.ts';
import { FAREWELL_MS, restoreSequence, writeAtOnce } from './restore-terminal.ts';
import type { TerminalGuard } from './terminal-guard.ts';

/** After a lone ESC the rest of a sequence is waited for so long: ESCDELAY, else by the kind of line. */
const LOCAL_ESCAPE_MS = 50;
const REMOTE_ESCAPE_MS = 180;
/** What has begun as a sequence can be nothing else: slow lines get their time. */
const REST_MS = 1_000;
/** A paste may come in through a line that stalls. */
const PASTE_MS = 5_000;
/** Terminals that do not tell a paste from typing. */
const WITHOUT_BRACKETS = /^(linux|screen|vt|cons)/;
/** A stopped process runs on at once if nobody can continue it: then it was not stopped. */
const STOPPED_MS = 200;
const MOUSE_ON = '\x1b[?1000h\x1b[?1006h';
const MOUSE_OFF = '\x1b[?1006l\x1b[?1000l';
/** Descriptor of standard output. */
const STDOUT = 1;
const PASTE_ON = '\x1b[?2004h';

export interface TerminalEvents {
  onKeys: (keys: KeyEvent[]) => void;
  /** The size changed or the line is free again: paint. */
  onPaintWanted: () => void;
  /** The line is gone. */
  onGone: () => void;
}

export interface TerminalStreams {
  stdin: NodeJS.ReadStream;
  stdout: NodeJS.WriteStream;
}

export class Terminal {
  readonly #streams: TerminalStreams;
  readonly #events: TerminalEvents;
  readonly #grid: CellGrid;
  readonly #decoder = new KeyDecoder();
  readonly #escapeMs: number;
  readonly #restore: string;
  readonly #guessesPaste: boolean;
  #timer: NodeJS.Timeout | undefined;
  #shown: Frame | undefined;
  /** Frames are shown and keys are read. */
  #isOpen = true;
  #isLent = false;
  #isClosed = false;
  #stopped: NodeJS.Timeout | undefined;
  #guard: TerminalGuard | undefined;
  /** Writes that the line has not taken yet. */
  #unsent = 0;
  #isPaintOwed = false;
  /** Called when the line has taken all. */
  readonly #waitingForLine: (() => void)[] = [];
  #isMouseOn: boolean;

  constructor(
    name: string,
    streams: TerminalStreams,
    env: NodeJS.ProcessEnv,
    look: Look,
    events: TerminalEvents,
  ) {
    this.#streams = streams;
    this.#events = events;
    this.#isMouseOn = look.hasMouse;
    const wanted = Number(env.ESCDELAY);
    this.#escapeMs = wanted > 0 ? wanted : look.isSlow ? REMOTE_ESCAPE_MS : LOCAL_ESCAPE_MS;
    this.#restore = restoreSequence(name);
    this.#guessesPaste = WITHOUT_BRACKETS.test(env.TERM ?? '');
    this.#grid = openCellGrid(name, this.size, look);
    const { stdin, stdout } = streams;
    // An internal of Node: without it a line that stalls would hold the whole program up.
    (stdout as unknown as { _handle?: { setBlocking?(on: boolean): void } })._handle?.setBlocking?.(false);
    stdin.setRawMode(true);
    stdin.on('data', this.#onData);
    stdin.on('error', this.#onGone);
    stdin.on('end', this.#onGone);
    stdout.on('error', this.#onGone);
    stdout.on('resize', this.#onResize);
    stdin.resume();
    process.on('SIGTSTP', this.#onStop);
    process.on('SIGCONT', this.#onContinue);
    this.#send(this.#begin());
  }

  /** Serial lines know no size: they tell 0. */
  get size(): Size {
    const { columns, rows } = this.#streams.stdout;
    return { columns: columns || 80, rows: rows || 24 };
  }

  /** Shows the frame; false if the line is not free: `onPaintWanted` follows. */
  paint(frame: Frame): boolean {
    if (!this.#isOpen) return true;
    if (this.#unsent > 0) {
      this.#isPaintOwed = true;
      return false;
    }
    this.#scroll(frame);
    this.#grid.keepWidgets(frame.widgets ?? []);
    for (let row = 0; row < this.size.rows; row++) {
      const { cells, marks } = cellsWithMarks(frame, row);
      // Half of a wide character cannot stand in the last column.
      if (cells[this.size.columns] === '') cells[this.size.columns - 1] = ' ';
      this.#grid.setRow(row, cells, marks);
    }
    this.#grid.drawWidgets(frame.widgets ?? []);
    this.#shown = frame;
    const bytes = this.#grid.flush(frame.cursor);
    if (bytes !== '') this.#send(bytes);
    return true;
  }

  /** The next frame is painted as if nothing were there. */
  forget(): void {
    this.#grid.forget();
    this.#shown = undefined;
  }

  /** The look has changed. */
  restyle(look: Look): void {
    if (look.hasMouse !== this.#isMouseOn) this.turnMouse();
    this.#grid.restyle(look);
    this.#shown = undefined;
    this.#events.onPaintWanted();
  }

  turnMouse(): boolean {
    this.#isMouseOn = !this.#isMouseOn;
    this.#send(this.#isMouseOn ? MOUSE_ON : MOUSE_OFF);
    return this.#isMouseOn;
  }

  /** From now on the terminal is put right even if the process is killed. */
  async guard(): Promise<void> {
    const { TerminalGuard } = await import('./terminal-guard.ts');
    if (this.#isClosed) return;
    this.#guard = new TerminalGuard(this.#restore, this.#isOpen ? 'held' : 'given');
  }

  /** Leaves to the shell until it is continued (^Z, fg); with it all that was started with it (npm, a wrapper). */
  async suspend(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    // From now on a stop is a stop.
    process.off('SIGTSTP', this.#onStop);
    await this.#drained();
    if (this.#isClosed) return;
    this.#leave();
    // Runs after the stop; at once where nobody could continue the process, which the kernel then does not stop.
    // Its being there also keeps a process with nothing else to do from ending.
    this.#stopped = setTimeout(this.#onContinue, STOPPED_MS);
    process.kill(0, 'SIGTSTP');
  }

  /** Another program has the terminal. */
  get isLent(): boolean {
    return this.#isLent;
  }

  /** Runs `work` with the terminal given back (a pager, an editor), then takes it again. */
  async lend<T>(work: () => Promise<T>): Promise<T> {
    this.#isLent = true;
    this.#isOpen = false;
    await this.#drained();
    if (!this.#isClosed) this.#leave();
    try {
      return await work();
    } finally {
      this.#isLent = false;
      if (!this.#isClosed) this.#enter();
    }
  }

  /** Gives the terminal back; waits a little for a slow line, never for one that is dead. False: it took nothing. */
  async close(): Promise<boolean> {
    if (this.#isClosed) return true;
    this.#isOpen = false;
    this.#isClosed = true;
    const { stdin, stdout } = this.#streams;
    stdin.off('data', this.#onData);
    stdin.off('end', this.#onGone);
    stdout.off('resize', this.#onResize);
    this.#forgetSignals();
    this.#guard?.end();
    this.#cook();
    const abort = new AbortController();
    const sent = new Promise<true>((resolve) => stdout.write(this.#restore, () => resolve(true)));
    const late = delay(FAREWELL_MS, false as const, { signal: abort.signal }).catch(() => false as const);
    const isSent = await Promise.race([sent, late]);
    abort.abort();
    stdin.pause();
    stdin.unref?.();
    return isSent;
  }

  /** The same at once, for the end of a process that cannot wait. */
  closeNow(): void {
    if (this.#isClosed) return;
    this.#isOpen = false;
    this.#isClosed = true;
    this.#forgetSignals();
    this.#guard?.end();
    this.#cook();
    writeAtOnce(STDOUT, this.#restore);
  }

  #begin(): string {
    return this.#grid.beginSequence + PASTE_ON + (this.#isMouseOn ? MOUSE_ON : '');
  }

  #forgetSignals(): void {
    process.off('SIGTSTP', this.#onStop);
    process.off('SIGCONT', this.#onContinue);
    clearTimeout(this.#stopped);
    clearTimeout(this.#timer);
  }

  /** Hands bytes to the line and notes when it has taken them. */
  #send(bytes: string): void {
    this.#unsent++;
    this.#streams.stdout.write(bytes, () => {
      this.#unsent--;
      if (this.#unsent > 0) return;
      for (const resolve of this.#waitingForLine.splice(0)) resolve();
      if (!this.#isPaintOwed) return;
      this.#isPaintOwed = false;
      if (this.#isOpen) this.#events.onPaintWanted();
    });
  }

  /** The line has taken what was sent, or does not within two seconds: what is written past it comes after it. */
  async #drained(): Promise<void> {
    if (this.#unsent === 0) return;
    const abort = new AbortController();
    const taken = new Promise<void>((resolve) => this.#waitingForLine.push(resolve));
    await Promise.race([
      taken,
      delay(FAREWELL_MS, undefined, { signal: abort.signal }).catch(() => undefined),
    ]);
    abort.abort();
  }

  #leave(): void {
    this.#isOpen = false;
    this.#guard?.say('given');
    process.off('SIGTSTP', this.#onStop);
    this.#streams.stdin.pause();
    this.#cook();
    writeAtOnce(STDOUT, this.#restore);
  }

  #enter(): void {
    this.#isOpen = true;
    this.#guard?.say('held');
    process.off('SIGTSTP', this.#onStop);
    process.on('SIGTSTP', this.#onStop);
    const { stdin } = this.#streams;
    stdin.setRawMode(true);
    stdin.resume();
    this.#send(this.#begin());
    this.#grid.resize(this.size);
    this.#shown = undefined;
    this.#events.onPaintWanted();
  }

  #cook(): void {
    try {
      this.#streams.stdin.setRawMode(false);
    } catch {
      // The line is gone, and its settings with it.
    }
  }

  /** A list that moved by one row is moved by the terminal itself. */
  #scroll(frame: Frame): void {
    const area = frame.scrollArea;
    const before = this.#shown;
    if (!area || !before?.scrollArea) return;
    if (before.scrollArea.top !== area.top || before.scrollArea.bottom !== area.bottom) return;
    const bodies = (one: Frame): string[] =>
      one.rows.slice(area.top, area.bottom + 1).map((row) => textOf(row).slice(1));
    const [old, now] = [bodies(before), bodies(frame)];
    const alike = (by: number): number =>
      now.filter((text, at) => text.trim() !== '' && old[at + by] === text).length;
    const staying = alike(0);
    for (const by of [1, -1] as const) {
      if (alike(by) > staying && alike(by) * 2 > now.length) {
        return void this.#grid.scroll(by, area.top, area.bottom);
      }
    }
  }

  readonly #onData = (bytes: Buffer): void => {
    clearTimeout(this.#timer);
    const isPaste =
      this.#guessesPaste && this.#decoder.awaited === 'nothing' && isPasteWithoutBrackets(bytes);
    const keys: KeyEvent[] = isPaste
      ? [{ kind: 'paste', text: clean(bytes.toString('utf8')) }]
      : this.#decoder.push(bytes);
    this.#awaitRest();
    if (keys.length > 0) this.#events.onKeys(keys);
  };

  #awaitRest(): void {
    const { awaited } = this.#decoder;
    if (awaited === 'nothing') return;
    const patienceMs = { escape: this.#escapeMs, rest: REST_MS, paste: PASTE_MS }[awaited];
    this.#timer = setTimeout(() => {
      const late = this.#decoder.timeOut();
      this.#awaitRest();
      if (late.length > 0) this.#events.onKeys(late);
    }, patienceMs);
  }

  /** Someone else stops the process (kill -TSTP). */
  readonly #onStop = (): void => void this.suspend();

  /** After any stop the terminal may have been used by others: all is taken again and painted anew. */
  readonly #onContinue = (): void => {
    clearTimeout(this.#stopped);
    if (!this.#isLent && !this.#isClosed) this.#enter();
  };

  readonly #onResize = (): void => {
    if (!this.#isOpen) return;
    this.#grid.resize(this.size);
    this.#shown = undefined;
    this.#events.onPaintWanted();
  };

  readonly #onGone = (): void => {
    if (this.#isOpen) this.#events.onGone();
  };
}

function textOf(row: Frame['rows'][number]): string {
  return row.map(({ text }) => text).join('');
}

function cellsWithMarks(frame: Frame, row: number): { cells: string[]; marks: Mark[] } {
  const cells: string[] = [];
  const marks: Mark[] = [];
  for (const { text, mark } of frame.rows[row] ?? []) {
    for (const cell of cellsOf(text)) {
      cells.push(cell);
      marks.push(mark);
    }
  }
  return { cells, marks };
}
