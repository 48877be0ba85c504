/**
 * The one file that knows blessed: terminal descriptions, the alternate screen and the comparison of cells, so that
 * only what changed is sent. Its keys, widgets and handlers of the process are not used (keys: key-decoder.ts).
 */
import { EventEmitter } from 'node:events';
import { createRequire } from 'node:module';
import { PassThrough } from 'node:stream';
import type { Mark, Size, Widget } from '../frame.ts';
import type { Look } from '../look.ts';
import { hasAlternateScreen } from './restore-terminal.ts';
import { squeeze } from './squeeze.ts';

const require = createRequire(import.meta.url);

/** A cell as blessed keeps it: flags, colours; and the character. */
type Cell = [attribute: number, character: string];
interface Line extends Array<Cell> {
  dirty: boolean;
}

/** What is used of a blessed screen; the types of the package leave these out. */
interface BlessedScreen {
  lines: Line[];
  olines: Line[];
  cols: number;
  rows: number;
  height: number;
  dattr: number;
  tput: { unicode: boolean; brokenACS: boolean; colors: number; strings: Record<string, string> };
  program: {
    cols: number;
    rows: number;
    cursorHidden: boolean;
    flush(): void;
  };
  alloc(): void;
  realloc(): void;
  draw(from: number, to: number): void;
  insertLine(count: number, at: number, top: number, bottom: number): void;
  deleteLine(count: number, at: number, top: number, bottom: number): void;
  append(element: unknown): void;
  remove(element: unknown): void;
}

/** Stands in for the terminal: blessed writes here, and the owner sends it when the line is free. */
class Capture extends EventEmitter {
  readonly isTTY = true;
  readonly writable = true;
  columns: number;
  rows: number;
  #text = '';

  constructor(size: Size) {
    super();
    this.columns = size.columns;
    this.rows = size.rows;
  }

  write(text: string): boolean {
    this.#text += text;
    return true;
  }

  take(): string {
    const text = this.#text;
    this.#text = '';
    return text;
  }
}

const DEFAULT_COLOUR = 0x1ff;
const BOLD = 1;
const UNDERLINE = 2;
const INVERSE = 8;

function attribute(flags: number, foreground = DEFAULT_COLOUR): number {
  return (flags << 18) | (foreground << 9) | DEFAULT_COLOUR;
}

/** Thin lines pay for every change of attribute: only what must be seen has one. */
function attributesOf(look: Look): Record<Mark, number> {
  const isThin = look.kind === 'thin';
  const coloured = (colour: number, flags: number): number =>
    attribute(flags, look.isMono ? DEFAULT_COLOUR : colour);
  return {
    plain: attribute(0),
    title: isThin ? attribute(0) : attribute(BOLD),
    selected: isThin ? attribute(0) : attribute(INVERSE),
    faint: attribute(0),
    key: isThin ? attribute(0) : attribute(BOLD),
    good: isThin ? attribute(0) : coloured(2, 0),
    warning: coloured(3, look.isMono ? BOLD : 0),
    bad: coloured(1, look.isMono ? BOLD | UNDERLINE : BOLD),
  };
}

const ALTERNATE_SCREEN = '\x1b[?1049h';
const CLEAR = '\x1b[H\x1b[J';

export interface CellGrid {
  size: Size;
  /** One row of cells; the comparison with what the terminal shows happens in `flush`. */
  setRow(row: number, cells: readonly string[], marks: readonly Mark[]): void;
  /** Moves the rows between `top` and `bottom` (both included) up (1) or down (-1) by one. */
  scroll(by: 1 | -1, top: number, bottom: number): void;
  /** Takes away the figures that are not wanted any more; before the rows are set, since it blanks what was there. */
  keepWidgets(widgets: readonly Widget[]): void;
  drawWidgets(widgets: readonly Widget[]): void;
  /** Bytes that bring the terminal from what it shows to what was set. */
  flush(cursor: { row: number; column: number; isVisible: boolean }): string;
  /** Bytes that begin: alternate screen, hidden cursor, cleared. */
  readonly beginSequence: string;
  /** Marks and characters appear as this look says; all is painted anew. */
  restyle(look: Look): void;
  /** From now on the terminal is taken to show nothing. */
  forget(): void;
  resize(size: Size): void;
}

/** `name` is a terminal description that blessed brings along (look.ts). */
export function openCellGrid(name: string, size: Size, look: Look): CellGrid {
  const before = processListeners();
  const capture = new Capture(size);
  const screen = createScreen(name, capture, look);
  // The process belongs to the program: blessed's own handlers would end it with the wrong status.
  removeNewListeners(before);
  let attributes = attributesOf(look);
  // What blessed begins with is more than is needed: a charset for line drawing, the keypad, a title kept.
  capture.take();
  let shownCursor = '';
  let isForgotten = false;
  const widgets = new Widgets(screen);

  const takeAll = (): string => {
    screen.program.flush();
    return capture.take();
  };
  return {
    size,
    beginSequence: `${hasAlternateScreen(name) ? ALTERNATE_SCREEN : ''}\x1b[?25l\x1b[m${CLEAR}`,
    setRow(row, cells, marks) {
      const line = screen.lines[row];
      if (line === undefined) return;
      for (let column = 0; column < line.length; column++) {
        const cell = line[column] as Cell;
        const wanted = attributes[marks[column] ?? 'plain'];
        const character = cells[column] ?? ' ';
        if (cell[0] === wanted && cell[1] === character) continue;
        cell[0] = wanted;
        cell[1] = character;
        line.dirty = true;
      }
    },
    scroll(by, top, bottom) {
      if (by === 1) screen.deleteLine(1, top, top, bottom);
      else screen.insertLine(1, top, top, bottom);
    },
    keepWidgets(wanted) {
      widgets.keep(wanted);
    },
    drawWidgets(wanted) {
      widgets.draw(wanted);
    },
    flush({ row, column, isVisible }) {
      for (const [at, line] of screen.lines.entries()) fillGaps(line, screen.olines[at] ?? line);
      screen.draw(0, screen.lines.length - 1);
      // Saving and restoring the cursor around each paint is of no use: its place is told below.
      const cells = takeAll().replaceAll('\x1b7', '').replaceAll('\x1b8', '');
      const painted = isForgotten ? CLEAR + squeeze(cells, screen.cols) : squeeze(cells, screen.cols);
      isForgotten = false;
      const cursor = `\x1b[${row + 1};${column + 1}H${isVisible ? '\x1b[?25h' : ''}`;
      if (painted === '' && cursor === shownCursor) return '';
      const hide = shownCursor.endsWith('\x1b[?25h') ? '\x1b[?25l' : '';
      shownCursor = cursor;
      return hide + painted + cursor;
    },
    restyle(next) {
      attributes = attributesOf(next);
      screen.tput.unicode = next.charset === 'utf8';
      this.forget();
    },
    forget() {
      screen.realloc();
      takeAll();
      shownCursor = '';
      isForgotten = true;
    },
    resize(next) {
      capture.columns = next.columns;
      capture.rows = next.rows;
      screen.program.cols = next.columns;
      screen.program.rows = next.rows;
      this.size = next;
      screen.alloc();
      this.forget();
    },
  };
}

/** What a jump over cells costs: `ESC [ 2 C`. */
const JUMP_BYTES = 4;

/** Cells between two changes that cost no more than a jump over them count as changed. */
function fillGaps(line: Line, shown: Line): void {
  if (!line.dirty) return;
  let last = -1;
  for (let at = 0; at < line.length; at++) {
    const cell = line[at] as Cell;
    if (cell[0] === shown[at]?.[0] && cell[1] === shown[at]?.[1]) continue;
    const gap = line.slice(last + 1, at);
    const isCheap = last >= 0 && gap.length > 0 && gap.every(([attribute]) => attribute === cell[0]);
    const bytes = Buffer.byteLength(gap.map(([, character]) => character).join(''));
    if (isCheap && line[last]?.[0] === cell[0] && bytes <= JUMP_BYTES) {
      // A character that no cell holds: it differs from all.
      for (let one = last + 1; one < at; one++) (shown[one] as Cell)[1] = '\0';
    }
    last = at;
  }
}

function createScreen(name: string, output: Capture, look: Look): BlessedScreen {
  // Read by blessed when it is loaded or makes a program: no line drawing by charset switch, no questions to tmux.
  process.env.NCURSES_NO_UTF8_ACS = '1';
  delete process.env.TMUX;
  // By its file: the package as a whole loads thirty widgets more.
  const createBlessed = require('blessed/lib/widgets/screen.js') as (options: object) => BlessedScreen;
  const input = new PassThrough() as PassThrough & { isTTY: boolean; setRawMode(mode: boolean): void };
  input.isTTY = true;
  input.setRawMode = () => undefined;
  const screen = createBlessed({
    input,
    output,
    terminal: name,
    smartCSR: true,
    useBCE: true,
    fullUnicode: false,
    dockBorders: false,
    resizeTimeout: 150,
    forceUnicode: look.charset === 'utf8',
  });
  screen.tput.brokenACS = true;
  screen.tput.unicode = look.charset === 'utf8';
  screen.program.cursorHidden = true;
  screen.program.flush();
  return screen;
}

/** Gauge and sparkline of blessed-contrib, each loaded when it is first wanted. */
class Widgets {
  readonly #screen: BlessedScreen;
  readonly #elements: { place: string; element: ContribElement }[] = [];

  constructor(screen: BlessedScreen) {
    this.#screen = screen;
  }

  keep(wanted: readonly Widget[]): void {
    const places = new Set(wanted.map(placeOf));
    for (let at = this.#elements.length - 1; at >= 0; at--) {
      if (!places.has(this.#elements[at]?.place ?? '')) this.#drop(at);
    }
  }

  draw(wanted: readonly Widget[]): void {
    for (const widget of wanted) {
      const place = placeOf(widget);
      let shown = this.#elements.find((one) => one.place === place);
      if (shown === undefined) {
        shown = { place, element: this.#create(widget) };
        this.#elements.push(shown);
      }
      const { element } = shown;
      // Up to 1 the gauge takes figures for shares of one.
      if (widget.kind === 'gauge') element.setPercent?.(Math.max(LEAST_PERCENT, widget.values[0] ?? 0));
      else element.setData(['rate'], [widget.values.slice(-(widget.columns - 2))]);
      element.render();
    }
  }

  #drop(at: number): void {
    const [gone] = this.#elements.splice(at, 1);
    if (gone) this.#screen.remove(gone.element);
  }

  #create({ kind, row, column, columns }: Widget): ContribElement {
    const make = require(`blessed-contrib/lib/widget/${kind}.js`) as (options: object) => ContribElement;
    const element = make({
      top: row,
      left: column,
      width: columns,
      height: WIDGET_ROWS,
      parent: this.#screen,
      tags: true,
      showLabel: false,
      stroke: 'green',
      fill: 'white',
      style: { fg: 'green' },
    });
    this.#screen.append(element);
    return element;
  }
}

/** The sparkline: a blank row, its title, the line. */
const WIDGET_ROWS = 3;
const LEAST_PERCENT = 1.01;

function placeOf({ kind, row, column, columns }: Widget): string {
  return `${kind} ${row} ${column} ${columns}`;
}

interface ContribElement {
  setPercent?(percent: number): void;
  setData(titles: string[], values: number[][]): void;
  render(): void;
}

type Listener = (...words: never[]) => void;
const EVENTS = ['exit', 'uncaughtException', 'SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGWINCH'] as const;

function processListeners(): Map<string, readonly Listener[]> {
  return new Map(EVENTS.map((event) => [event, process.listeners(event as 'exit') as readonly Listener[]]));
}

function removeNewListeners(before: Map<string, readonly Listener[]>): void {
  for (const event of EVENTS) {
    for (const listener of process.listeners(event as 'exit')) {
      if (!before.get(event)?.includes(listener as Listener)) process.removeListener(event, listener);
    }
  }
}
