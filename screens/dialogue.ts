/**
 * What a flow may ask of a person, whatever the face: full screen (full/) or numbered lines (plain/). Flows are written
 * against this alone. Undefined always means "back"; abort to the main menu is thrown.
 */
import type { Menu } from '../menus/menu.ts';
import type { Mark, Row } from './frame.ts';

/** Thrown out of any question when the person wants the main menu; only the main menu catches it. */
export class ToMainMenu extends Error {
  constructor() {
    super('abort to the main menu');
    this.name = 'ToMainMenu';
  }
}

/** Thrown out of any question when nobody can answer any more (the input of the numbered dialogue has ended). */
export class EndOfInput extends ToMainMenu {
  constructor() {
    super();
    this.name = 'EndOfInput';
  }
}

/** A question that is put before others are answered may be withdrawn by a signal. */
export interface Dialogue {
  readonly columns: number;
  /** The id of the entry that was chosen. */
  menu(menu: Menu, options?: MenuOptions): Promise<string | undefined>;
  list<T>(spec: ListSpec<T>): Promise<ListAnswer<T> | undefined>;
  /** One line of text. */
  ask(spec: AskSpec): Promise<string | undefined>;
  confirm(spec: ConfirmSpec): Promise<boolean>;
  /** A word that must be typed out (`yes`, `SALVAGE`); false if it was not. */
  typed(spec: TypedSpec): Promise<boolean>;
  read(spec: ReadSpec): Promise<void>;
  /** Shows what changes by itself; gives the action that a key asked for, or undefined for back. */
  watch(spec: WatchSpec): Promise<string | undefined>;
  /** Something to know; goes on after a key. */
  tell(title: string, lines: readonly Line[]): Promise<void>;
  /** Works while a line tells so; Esc aborts the signal and gives undefined. Throws what the work throws. */
  busy<T>(
    title: string,
    work: (signal: AbortSignal, say: (text: string) => void) => Promise<T>,
  ): Promise<T | undefined>;
  /** One line at the bottom until the next key. */
  notice(text: string, mark?: Mark): void;
  /** The look of the desk has changed: all is shown anew. */
  restyle(): void;
  /** Runs a program that needs the terminal for itself. */
  lend<T>(work: () => Promise<T>): Promise<T>;
}

/** Text with a mark of its own; a plain string is plain. Broken into lines where it is too long. */
export type Line = string | { text: string; mark: Mark };

export interface MenuOptions {
  /** Entry the marker stands at first. */
  at?: string;
  /** Lines above the entries. */
  lines?: () => readonly Line[];
}

/** Rows of a list that may be a million: only those on the screen are asked for. */
export interface ListSource<T> {
  /** How many rows are known; more may be found by `advance`. */
  length(): { known: number; isExact: boolean };
  /** Up to `limit` rows from number `from` (0 is the first). */
  rows(from: number, limit: number): T[];
  /** Number of the row with this id, -1 if it is not in the list. */
  indexOf(id: string): number;
  /** Goes on counting for at most `budgetMs`; true while there is more to do. */
  advance?(budgetMs: number): boolean;
  /** Narrows the list to rows whose name holds this text; '' shows all. */
  find?(text: string): void;
  /** Looks again; true if anything may have changed. */
  refresh?(): boolean;
  close?(): void;
}

export interface ListColumn<T> {
  title: string;
  /** Columns it takes; the first with 0 takes what is left. */
  columns: number;
  align?: 'left' | 'right';
  text: (row: T) => string;
  /** Left out when the screen has fewer columns than this. */
  from?: number;
}

export interface ListAction {
  key: string;
  id: string;
  /** One word for the footer. */
  footer: string;
  help: string;
}

/** An entry that stands before all rows (`S` all). */
export interface ListHead {
  key: string;
  id: string;
  label: string;
}

export interface ListSpec<T> {
  title: string;
  /** What rules the list just now, as the title tells it. */
  filter?: string;
  source: ListSource<T>;
  idOf: (row: T) => string;
  columns: readonly ListColumn<T>[];
  markOf?: (row: T) => Mark;
  heads?: readonly ListHead[];
  actions?: readonly ListAction[];
  /** Ids that are marked; given if rows may be marked. */
  marked?: Set<string>;
  /** Row the marker stands at first. */
  at?: string;
  /** What is said when there are no rows; where a search has no hit, that is said instead. */
  empty: string;
  /** The source is asked to refresh this often. */
  refreshMs?: number;
  /** A line under the title, made anew with each paint. */
  note?: () => Line | undefined;
}

export type ListAnswer<T> =
  | { kind: 'row'; row: T }
  /** A head or an action; `row` is where the marker stood, if on a row. */
  | { kind: 'action'; id: string; row: T | undefined }
  /** To the last menu rather than one step back. */
  | { kind: 'quit' };

export interface AskSpec {
  title: string;
  question: string;
  lines?: readonly Line[];
  preset?: string;
  isSecret?: boolean;
  /** Why this cannot be taken, or undefined if it can. */
  fault?: (text: string) => string | undefined;
}

export interface ConfirmSpec {
  title: string;
  lines: readonly Line[];
  question: string;
  /** Defaults to No and ignores what was typed before it was shown. */
  isDestructive?: boolean;
  /** Default answer where nothing is destroyed; default: yes. */
  preset?: boolean;
}

export interface TypedSpec {
  title: string;
  lines: readonly Line[];
  word: string;
}

export interface ReadSpec {
  title: string;
  /** The lines there are; asked again every `refreshMs`. */
  lines: () => readonly string[];
  refreshMs?: number;
  /** Begin at the end and stay there. */
  isFollowing?: boolean;
}

export interface WatchAction extends ListAction {
  /** Not offered while this is false. */
  isOffered?: () => boolean;
}

export interface WatchSpec {
  title: string;
  /** Made anew every `refreshMs`; only what differs is sent. */
  rows: (columns: number, rows: number) => WatchRows;
  refreshMs: number;
  actions?: readonly WatchAction[];
  /** Asked at each refresh: an id here ends the watching by itself. */
  isOver?: () => string | undefined;
  /** ^C gives this action instead of back. */
  interrupt?: string;
}

export interface WatchRows {
  rows: readonly Row[];
  /** Rates and percent that the rich look may draw: 0 .. 100, and figures with the newest last. */
  gauge?: number;
  rates?: readonly number[];
}
