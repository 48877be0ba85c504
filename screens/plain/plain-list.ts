/** A list page by page: numbers take rows, words turn pages, letters act. */
import {
  PLAIN_EVERYWHERE,
  PLAIN_LIST,
  PLAIN_MARK,
  type PlainWord,
  plainAction,
} from '../../menus/plain-keys.ts';
import { type ListAnswer, type ListSpec, ToMainMenu } from '../dialogue.ts';
import { bodyLine, headLine, layOut, noHit } from '../full/list-view.ts';
import type { PlainTalk } from './talk.ts';

/** A page waits so long for the count and for figures that are read behind it: a printed line cannot change. */
const COUNT_BUDGET_MS = 50;
const COUNT_SLICES = 5;
/** Rows that may be marked by one word. */
const MARK_LIMIT = 100_000;

export class PlainList<T> {
  readonly #talk: PlainTalk;
  readonly #spec: ListSpec<T>;
  #top = 0;
  /** Row of the marker: letters without a number mean it. */
  #at = 0;
  #found = '';

  constructor(talk: PlainTalk, spec: ListSpec<T>) {
    this.#talk = talk;
    this.#spec = spec;
    const at = spec.at === undefined ? -1 : spec.source.indexOf(spec.at);
    if (at >= 0) this.#goTo(at);
  }

  async run(): Promise<ListAnswer<T> | undefined> {
    this.#printPage();
    for (;;) {
      const line = await this.#talk.question(`${this.#promptText()}> `);
      const answer = this.#take(line);
      if (answer === 'back') return undefined;
      if (answer !== undefined) return answer;
    }
  }

  /** An answer, `back`, or undefined where the list goes on. */
  #take(line: string): ListAnswer<T> | 'back' | undefined {
    const own = this.#ownAction(line);
    if (own !== undefined) return own;
    if (/^\d{1,9}$/.test(line)) return this.#choose(Number(line) - 1);
    const said = plainAction([this.#words(), PLAIN_EVERYWHERE], line === '' ? 'next' : line);
    switch (said?.action) {
      case 'back':
        return 'back';
      case 'quit':
        return { kind: 'quit' };
      case 'abort':
        throw new ToMainMenu();
      case 'help':
        this.#help();
        return undefined;
      case 'next':
        this.#turn(1);
        return undefined;
      case 'previous':
        this.#turn(-1);
        return undefined;
      case 'find':
        this.#find(said.rest);
        return undefined;
      case 'go':
        this.#go(said.rest);
        return undefined;
      case 'mark':
        this.#mark(said.rest);
        return undefined;
    }
    this.#talk.print(`Not understood: ${line}. A number takes a row, ? tells all words.`);
    return undefined;
  }

  /** A letter of the list itself, with the number of a row where one is meant: `t`, `t 3`, `t3`. */
  #ownAction(line: string): ListAnswer<T> | undefined {
    const { heads = [], actions = [] } = this.#spec;
    const typed = /^(\D+?)\s*(\d{1,9})?$/.exec(line);
    if (typed === null) return undefined;
    const [, word = '', number] = typed;
    const entries = [...heads, ...actions];
    const found =
      entries.find(({ key }) => key === word) ??
      entries.find(({ key }) => key.toLowerCase() === word.toLowerCase());
    if (found === undefined) return undefined;
    if (heads.some(({ id }) => id === found.id)) return { kind: 'action', id: found.id, row: undefined };
    if (number !== undefined) {
      const row = this.#rowAt(Number(number) - 1);
      if (row === undefined) {
        this.#talk.print(`There is no row ${number}.`);
        return undefined;
      }
      return { kind: 'action', id: found.id, row };
    }
    return { kind: 'action', id: found.id, row: this.#rowAt(this.#at) };
  }

  #choose(at: number): ListAnswer<T> | undefined {
    const row = this.#rowAt(at);
    if (row === undefined) {
      this.#talk.print(`There is no row ${at + 1}.`);
      return undefined;
    }
    return { kind: 'row', row };
  }

  #rowAt(at: number): T | undefined {
    return at < 0 ? undefined : this.#spec.source.rows(at, 1)[0];
  }

  #turn(by: 1 | -1): void {
    const rows = this.#talk.pageRows;
    const wanted = this.#top + by * rows;
    if (by > 0 && this.#rowAt(wanted) === undefined) {
      if (this.#spec.source.refresh?.()) this.#printPage();
      else this.#talk.print('That is the end of the list.');
      return;
    }
    if (by < 0 && this.#top === 0) {
      this.#talk.print('That is the beginning of the list.');
      return;
    }
    this.#goTo(Math.max(0, wanted));
    this.#printPage();
  }

  #go(text: string): void {
    const at = /^\d{1,9}$/.test(text) ? Number(text) - 1 : -1;
    if (this.#rowAt(at) === undefined) {
      this.#talk.print('Type g and the number of a row: g 120');
      return;
    }
    this.#goTo(at);
    this.#printPage();
  }

  #goTo(at: number): void {
    const rows = this.#talk.pageRows;
    this.#at = at;
    this.#top = Math.floor(at / rows) * rows;
  }

  #find(text: string): void {
    this.#found = text;
    this.#spec.source.find?.(text);
    this.#goTo(0);
    this.#printPage();
  }

  #mark(text: string): void {
    const { marked, idOf, source } = this.#spec;
    const parts = text.split(/[\s,]+/).filter((part) => part !== '');
    const ranges = parts.map((part) => /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(part));
    if (marked === undefined || ranges.length === 0 || ranges.includes(null)) {
      this.#talk.print('Type m and the numbers of rows: m 2 5-7');
      return;
    }
    for (const range of ranges) {
      const from = Number(range?.[1]);
      const to = Math.min(Number(range?.[2] ?? range?.[1]), from + MARK_LIMIT);
      for (const row of from < 1 ? [] : source.rows(from - 1, Math.max(0, to - from + 1))) {
        const id = idOf(row);
        if (!marked.delete(id)) marked.add(id);
      }
    }
    this.#printPage();
  }

  #printPage(): void {
    const { title, filter, source, heads = [], note, empty } = this.#spec;
    source.refresh?.();
    this.#count();
    const rows = source.rows(this.#top, this.#talk.pageRows);
    if (this.#at < this.#top || this.#at >= this.#top + rows.length) this.#at = this.#top;
    const found = this.#found === '' ? '' : ` [/${this.#found}]`;
    const shown = `${title}${filter ? ` [${filter}]` : ''}${found}`;
    this.#talk.head(`${shown}${shown.endsWith('?') ? '' : ':'} ${this.#figures(rows.length)}`);
    const said = note?.();
    if (said !== undefined) this.#talk.print(said);
    for (const { key, label } of heads) this.#talk.print(`  ${key.toUpperCase()}  ${label}`);
    if (rows.length === 0) this.#talk.print(this.#found === '' ? empty : noHit(this.#found));
    else this.#printRows(rows);
  }

  #printRows(rows: readonly T[]): void {
    const { columns, marked, idOf } = this.#spec;
    const { look } = this.#talk;
    const wide = String(this.#top + rows.length).length;
    const layout = layOut(columns, this.#talk.columns - wide - 3);
    const titles = headLine(layout, look);
    if (titles.trim() !== '') this.#talk.print(`${' '.repeat(wide + 3)}${titles}`);
    for (const [at, row] of rows.entries()) {
      const number = this.#top + at;
      const marker = number === this.#at ? '>' : ' ';
      const mark = marked?.has(idOf(row)) ? '*' : ' ';
      this.#talk.print(`${marker}${mark}${String(number + 1).padStart(wide)} ${bodyLine(layout, row, look)}`);
    }
  }

  /** `rows 21-40 of 1,234+, 2 marked` */
  #figures(shown: number): string {
    const { known, isExact } = this.#spec.source.length();
    const total = `${known.toLocaleString('en-US')}${isExact ? '' : '+'}`;
    const rows = shown === 0 ? total : `${this.#top + 1}-${this.#top + shown} of ${total}`;
    const marked = this.#spec.marked?.size ? `, ${this.#spec.marked.size} marked` : '';
    return `${rows}${marked}`;
  }

  #count(): void {
    const { source } = this.#spec;
    for (let slice = 0; slice < COUNT_SLICES; slice++) {
      if (!source.advance?.(COUNT_BUDGET_MS)) return;
    }
  }

  /** Letters of the list and what turns its pages, so that none has to ask for help. */
  #promptText(): string {
    const { heads = [], actions = [] } = this.#spec;
    const own = actions.map(({ key, footer }) => `${key.toUpperCase()} ${footer}`);
    const { known } = this.#spec.source.length();
    const pages = known > this.#talk.pageRows ? ['Enter next page'] : [];
    const row = heads.length > 0 ? 'Number or letter' : 'Number';
    return [row, ...own, ...pages, 'b back', '? help'].join(', ');
  }

  /** Words whose letter the list needs for itself are known by their long form. */
  #words(): PlainWord[] {
    const { heads = [], actions = [], marked, source } = this.#spec;
    const taken = new Set([...heads, ...actions].map(({ key }) => key.toLowerCase()));
    const all = [...PLAIN_LIST, ...(marked === undefined ? [] : PLAIN_MARK)];
    return all
      .filter(({ action }) => action !== 'find' || source.find !== undefined)
      .map((one) => ({ ...one, words: one.words.filter((word) => !taken.has(word)) }));
  }

  #help(): void {
    const { heads = [], actions = [], title } = this.#spec;
    this.#talk.help(
      title,
      [
        'N                        the row of that number',
        ...heads.map(({ key, label }) => `${key.toUpperCase().padEnd(24)} ${label}`),
        ...actions.map(
          ({ key, help }) => `${`${key.toUpperCase()}, ${key.toUpperCase()} N`.padEnd(24)} ${help}`,
        ),
      ],
      this.#words(),
      PLAIN_EVERYWHERE,
    );
  }
}
