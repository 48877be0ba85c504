/** The dialogue as numbered lines: for dumb terminals, readers of the screen, and pipes. */
import { labelOf, type Menu, type MenuEntry, reasonAgainst } from '../../menus/menu.ts';
import { PLAIN_ASK, PLAIN_CONFIRM, PLAIN_EVERYWHERE, plainAction } from '../../menus/plain-keys.ts';
import type { ConsoleState } from '../../menus/state.ts';
import { PhdError } from '../../src/errors.ts';
import {
  type AskSpec,
  type ConfirmSpec,
  type Dialogue,
  EndOfInput,
  type Line,
  type ListAnswer,
  type ListSpec,
  type MenuOptions,
  type ReadSpec,
  ToMainMenu,
  type TypedSpec,
  type WatchSpec,
} from '../dialogue.ts';
import type { Mark } from '../frame.ts';
import type { Look } from '../look.ts';
import { PlainList } from './plain-list.ts';
import { PlainRead } from './plain-read.ts';
import { PlainWatch } from './plain-watch.ts';
import { PlainTalk, type TalkStreams } from './talk.ts';

export interface PlainOptions {
  streams: TalkStreams;
  look: Look;
  /** What the menus show, brought up to date first: a printed line cannot change. */
  state: () => Promise<ConsoleState>;
  /** Why there is no full screen; empty if lines were asked for. */
  why: string;
}

/** Work that says something new is printed no sooner than this. */
const SAY_EVERY_MS = 3_000;

export class PlainFace implements Dialogue {
  readonly #talk: PlainTalk;
  readonly #state: () => Promise<ConsoleState>;

  constructor({ streams, look, state, why }: PlainOptions) {
    this.#talk = new PlainTalk(streams, look);
    this.#state = state;
    if (why !== '') this.#talk.print(`No full screen (${why}): the console asks line by line.`);
    this.#talk.print('Answer with a number, a letter or a word, then Enter; ? tells what can be typed.');
  }

  get columns(): number {
    return this.#talk.columns;
  }

  async menu(menu: Menu, options: MenuOptions = {}): Promise<string | undefined> {
    this.#printMenu(menu, options, await this.#state());
    for (;;) {
      const line = await this.#talk.question('Number, letter or word, ? help> ');
      const state = await this.#state();
      if (line === '') {
        this.#printMenu(menu, options, state);
        continue;
      }
      const exact = entryOf(menu, state, line);
      const said = exact === undefined ? plainAction([PLAIN_EVERYWHERE], line)?.action : undefined;
      if (said === 'back') return undefined;
      if (said === 'abort') throw new ToMainMenu();
      if (said === 'help') {
        this.#menuHelp(menu, state);
        continue;
      }
      const entries = exact === undefined ? entriesLike(menu, state, line) : [exact];
      const [entry, ...others] = entries;
      if (entry === undefined) {
        this.#talk.print(`Not understood: ${line}. Type the number or the letter of an entry.`);
        continue;
      }
      if (others.length > 0) {
        this.#talk.print(`${line} may be: ${entries.map((one) => nameOf(one, state)).join(', ')}`);
        continue;
      }
      const reason = reasonAgainst(entry, state);
      if (reason === null) return entry.id;
      this.#talk.print(`Not now: ${reason}`);
    }
  }

  list<T>(spec: ListSpec<T>): Promise<ListAnswer<T> | undefined> {
    return new PlainList(this.#talk, spec).run();
  }

  async ask({
    title,
    question,
    lines = [],
    preset = '',
    isSecret,
    fault,
  }: AskSpec): Promise<string | undefined> {
    this.#printQuestion(title, lines);
    const shown = preset === '' || isSecret ? '' : ` [${preset}]`;
    const asked = `${question.replace(/:\s*$/, '')}${shown}: `;
    for (;;) {
      const line = isSecret ? await this.#talk.secret(asked) : await this.#talk.question(asked);
      if (line === undefined) return undefined;
      const said = isSecret ? undefined : plainAction([PLAIN_ASK], line)?.action;
      if (said === 'back') return undefined;
      if (said === 'help') {
        this.#talk.help(title, preset === '' ? [] : [`Enter takes ${preset}`], PLAIN_ASK);
        continue;
      }
      const text = said === 'empty' ? '' : line === '' ? preset : line;
      const reason = fault?.(text);
      if (reason === undefined) return text;
      this.#talk.print({ text: reason, mark: 'bad' });
    }
  }

  async confirm({ title, lines, question, isDestructive, preset }: ConfirmSpec): Promise<boolean> {
    const isYes = isDestructive ? false : (preset ?? true);
    if (isDestructive) await this.#talk.input.dropTypedAhead();
    this.#printQuestion(title, lines);
    for (;;) {
      const line = await this.#talk.question(`${question} (yes/no) [${isYes ? 'yes' : 'no'}]: `);
      const said = plainAction([PLAIN_CONFIRM], line)?.action;
      if (line === '') return isYes;
      if (said === 'yes') return true;
      if (said === 'no') return false;
      if (said === 'help') this.#talk.help(title, [], PLAIN_CONFIRM);
      else this.#talk.print('Type yes or no.');
    }
  }

  async typed({ title, lines, word }: TypedSpec): Promise<boolean> {
    await this.#talk.input.dropTypedAhead();
    this.#printHead(title, lines);
    for (;;) {
      const line = await this.#talk.question(`Type ${word} to go on, Enter alone leaves it: `);
      if (line === word) return true;
      if (line === '' || plainAction([PLAIN_EVERYWHERE], line)?.action === 'back') return false;
      this.#talk.print('That is not the word.');
    }
  }

  read(spec: ReadSpec): Promise<void> {
    return new PlainRead(this.#talk, spec).run();
  }

  watch(spec: WatchSpec): Promise<string | undefined> {
    return new PlainWatch(this.#talk, spec).run();
  }

  /** What is printed stays to be read: nothing has to be answered. */
  async tell(title: string, lines: readonly Line[]): Promise<void> {
    this.#printHead(title, lines);
  }

  async busy<T>(
    title: string,
    work: (signal: AbortSignal, say: (text: string) => void) => Promise<T>,
  ): Promise<T | undefined> {
    const abort = new AbortController();
    this.#talk.print(`${title} ...${this.#talk.input.isTerminal ? ' (^C stops it)' : ''}`);
    let saidMs = performance.now();
    const say = (text: string): void => {
      if (performance.now() - saidMs < SAY_EVERY_MS) return;
      saidMs = performance.now();
      this.#talk.print(`  ${text}`);
    };
    const stop = (): void => {
      this.#talk.print('stopping ...');
      abort.abort();
    };
    try {
      return await this.#talk.interruptible(stop, () => work(abort.signal, say));
    } catch (error) {
      if (abort.signal.aborted || (error instanceof PhdError && error.code === 'CANCELLED')) return undefined;
      throw error;
    }
  }

  notice(text: string, mark: Mark = 'plain'): void {
    this.#talk.note({ text, mark });
  }

  async lend<T>(work: () => Promise<T>): Promise<T> {
    if (this.#talk.input.hasEnded) throw new EndOfInput();
    this.#talk.input.stop();
    // ^C is for the program that has the terminal.
    return await this.#talk.interruptible(() => undefined, work);
  }

  /** Lines that stand already stay as they are; the next ones follow the look. */
  restyle(): void {}

  /** ^C: true if what is going on takes it, false if it ends the console. */
  interrupt(): boolean {
    return this.#talk.interrupt();
  }

  async close(): Promise<boolean> {
    this.closeNow();
    return true;
  }

  closeNow(): void {
    this.#talk.close();
  }

  #printQuestion(title: string, lines: readonly Line[]): void {
    this.#talk.headOnce(title);
    for (const line of lines) this.#talk.print(line);
  }

  #printHead(title: string, lines: readonly Line[]): void {
    this.#talk.head(title);
    for (const line of lines) this.#talk.print(line);
  }

  #printMenu(menu: Menu, { lines }: MenuOptions, state: ConsoleState): void {
    this.#printHead(menu.title, lines?.() ?? []);
    for (const [at, entry] of menu.entries.entries()) {
      const number = String(at + 1);
      const key = entry.key === number ? ' ' : entry.key.toUpperCase();
      const reason = reasonAgainst(entry, state);
      this.#talk.print(
        `${number.padStart(2)} ${key} ${labelOf(entry, state)}${reason === null ? '' : ` (not now: ${reason})`}`,
      );
    }
  }

  #menuHelp(menu: Menu, state: ConsoleState): void {
    const lines = menu.entries.map((entry) =>
      `${entry.key.toUpperCase().padEnd(2)} ${nameOf(entry, state).padEnd(26)} ${entry.help}`.trimEnd(),
    );
    this.#talk.help(menu.title, lines, PLAIN_EVERYWHERE);
  }
}

/** The label without its figures. */
function nameOf(entry: MenuEntry, state: ConsoleState): string {
  return labelOf(entry, state).split(':')[0] as string;
}

/** The entry of a letter, of a number or of a whole label. */
function entryOf({ entries }: Menu, state: ConsoleState, line: string): MenuEntry | undefined {
  const wanted = line.toLowerCase();
  return (
    entries.find(({ key }) => key === line) ??
    entries.find(({ key }) => key.toLowerCase() === wanted) ??
    (/^\d{1,3}$/.test(line) ? entries[Number(line) - 1] : undefined) ??
    entries.find((entry) => nameOf(entry, state).toLowerCase() === wanted)
  );
}

/** Entries whose label begins so. */
function entriesLike({ entries }: Menu, state: ConsoleState, line: string): MenuEntry[] {
  if (line.length < 2) return [];
  return entries.filter((entry) => nameOf(entry, state).toLowerCase().startsWith(line.toLowerCase()));
}
