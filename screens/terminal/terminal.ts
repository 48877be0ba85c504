/**
 * A terminal as the console sees it: frames go out, keys come in, and it is given back whatever happens. Writing never
 * blocks: while the line has not taken the last frame no other is made, so one frame at most is ever under way.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Frame, Mark, Size } from '../frame.ts';
import { cellsOf } from '../frame.ts';
import type { Look } from '../look.ts';
import { type CellGrid, openCellGrid } from './blessed.ts';
import { KeyDecoder, type KeyEvent } from './key-decoder.ts';
import { RESTORE_SEQUENCE, writeRestoreSequence } from './restore-terminal.ts';

/** The rest of a torn sequence is waited for so long: ESCDELAY, else by the kind of line. */
const LOCAL_ESCAPE_MS = 50;
const REMOTE_ESCAPE_MS = 180;
/** A stalled line gets so long to take the last bytes at the end. */
const FAREWELL_MS = 2_000;
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
  #timer: NodeJS.Timeout | undefined;
  #shown: Frame | undefined;
  #isOpen = true;
  /** Writes that the line has not taken yet. */
  #unsent = 0;
  #isPaintOwed = false;
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
    this.#send(this.#grid.begin() + PASTE_ON + (this.#isMouseOn ? MOUSE_ON : ''));
  }

  get size(): Size {
    const { columns = 80, rows = 24 } = this.#streams.stdout;
    return { columns, rows };
  }

  /** Shows the frame; false if the line is not free: `onPaintWanted` follows. */
  paint(frame: Frame): boolean {
    if (!this.#isOpen) return true;
    if (this.#unsent > 0) {
      this.#isPaintOwed = true;
      return false;
    }
    this.#scroll(frame);
    for (let row = 0; row < this.size.rows; row++) {
      const { cells, marks } = cellsWithMarks(frame, row);
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

  turnMouse(): boolean {
    this.#isMouseOn = !this.#isMouseOn;
    this.#send(this.#isMouseOn ? MOUSE_ON : MOUSE_OFF);
    return this.#isMouseOn;
  }

  /** Leaves to the shell until it is continued (^Z, fg). */
  suspend(): void {
    this.#leave();
    // Without a timer of its own a process with nothing else to do would end when it is continued.
    const alive = setInterval(() => undefined, 3_600_000);
    process.once('SIGCONT', () => {
      clearInterval(alive);
      this.#enter();
    });
    process.kill(process.pid, 'SIGTSTP');
  }

  /** Runs `work` with the terminal given back (a pager, an editor), then takes it again. */
  async lend<T>(work: () => Promise<T>): Promise<T> {
    this.#leave();
    try {
      return await work();
    } finally {
      this.#enter();
    }
  }

  /** Gives the terminal back; waits a little for a slow line, never for one that is dead. */
  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    const { stdin, stdout } = this.#streams;
    clearTimeout(this.#timer);
    stdin.off('data', this.#onData);
    stdin.off('end', this.#onGone);
    stdout.off('resize', this.#onResize);
    this.#cook();
    const sent = new Promise<void>((resolve) => stdout.write(RESTORE_SEQUENCE, () => resolve()));
    await Promise.race([sent, delay(FAREWELL_MS, undefined, { ref: false })]);
    stdin.pause();
    stdin.unref?.();
  }

  /** The same at once, for the end of a process that cannot wait. */
  closeNow(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#cook();
    writeRestoreSequence(STDOUT);
  }

  /** Hands bytes to the line and notes when it has taken them. */
  #send(bytes: string): void {
    this.#unsent++;
    this.#streams.stdout.write(bytes, () => {
      this.#unsent--;
      if (this.#unsent > 0 || !this.#isPaintOwed) return;
      this.#isPaintOwed = false;
      if (this.#isOpen) this.#events.onPaintWanted();
    });
  }

  #leave(): void {
    this.#isOpen = false;
    this.#streams.stdin.pause();
    this.#cook();
    writeRestoreSequence(STDOUT);
  }

  #enter(): void {
    this.#isOpen = true;
    const { stdin } = this.#streams;
    stdin.setRawMode(true);
    stdin.resume();
    this.#send(`\x1b[?1049h\x1b[?1h\x1b=\x1b[?25l${PASTE_ON}${this.#isMouseOn ? MOUSE_ON : ''}`);
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
    const keys = this.#decoder.push(bytes);
    if (this.#decoder.isWaiting) {
      this.#timer = setTimeout(() => {
        const late = this.#decoder.timeOut();
        if (late.length > 0) this.#events.onKeys(late);
      }, this.#escapeMs);
    }
    if (keys.length > 0) this.#events.onKeys(keys);
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
