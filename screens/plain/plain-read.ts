/** Text page by page, and a log that is followed. */
import { PLAIN_EVERYWHERE, PLAIN_FOLLOW, PLAIN_READ, plainAction } from '../../menus/plain-keys.ts';
import { type ReadSpec, ToMainMenu } from '../dialogue.ts';
import type { PlainTalk } from './talk.ts';

export class PlainRead {
  readonly #talk: PlainTalk;
  readonly #spec: ReadSpec;
  #lines: readonly string[] = [];
  /** Lines printed so far stand before it. */
  #at = 0;
  #top = 0;
  #wanted = '';

  constructor(talk: PlainTalk, spec: ReadSpec) {
    this.#talk = talk;
    this.#spec = spec;
  }

  async run(): Promise<void> {
    this.#talk.head(this.#spec.title);
    this.#look();
    if (this.#spec.isFollowing) {
      this.#end();
      if (this.#talk.input.isTerminal) await this.#follow();
    } else {
      this.#page(0);
      if (this.#at >= this.#lines.length && this.#spec.refreshMs === undefined) return;
    }
    while (await this.#ask());
  }

  /** True while the person reads on. */
  async #ask(): Promise<boolean> {
    const { refreshMs, title } = this.#spec;
    const line = await this.#talk.question(`${this.#promptText()}> `);
    const tables = [PLAIN_READ, ...(refreshMs === undefined ? [] : [PLAIN_FOLLOW]), PLAIN_EVERYWHERE];
    const isAtEnd = this.#at >= this.#lines.length;
    // Enter at the end of a text leaves it, as in every pager.
    if (line === '' && isAtEnd) return false;
    const said = plainAction(tables, line === '' ? 'next' : line);
    switch (said?.action) {
      case 'back':
      case 'quit':
        return false;
      case 'abort':
        throw new ToMainMenu();
      case 'help':
        this.#talk.help(title, [], ...tables);
        break;
      case 'next':
        this.#look();
        if (this.#at >= this.#lines.length) this.#talk.print('That is the end.');
        else this.#page(this.#at);
        break;
      case 'previous':
        this.#page(Math.max(0, this.#top - this.#talk.pageRows));
        break;
      case 'end':
        this.#look();
        this.#end();
        break;
      case 'find':
        this.#find(said.rest);
        break;
      case 'follow':
        await this.#follow();
        break;
      default:
        this.#talk.print(`Not understood: ${line}. Enter reads on, ? tells all words.`);
    }
    return true;
  }

  #promptText(): string {
    const { refreshMs } = this.#spec;
    const isAtEnd = this.#at >= this.#lines.length;
    const place = `${this.#at} of ${this.#lines.length} lines`;
    const enter = isAtEnd ? 'Enter back' : 'Enter more';
    return [
      place,
      enter,
      '/TEXT find',
      ...(refreshMs === undefined ? [] : ['f follow']),
      'b back',
      '? help',
    ].join(', ');
  }

  #look(): void {
    this.#lines = this.#spec.lines();
  }

  /** Prints one page from line `from`; long lines count for what they take. */
  #page(from: number): void {
    let room = this.#talk.pageRows;
    this.#top = from;
    this.#at = from;
    while (this.#at < this.#lines.length) {
      const parts = this.#talk.broken(this.#lines[this.#at] as string);
      if (parts.length > room && this.#at > from) break;
      room -= parts.length;
      this.#talk.print(this.#lines[this.#at] as string);
      this.#at++;
      if (room <= 0) break;
    }
    if (this.#lines.length === 0) this.#talk.print('There is nothing yet.');
  }

  #end(): void {
    this.#page(Math.max(0, this.#lines.length - this.#talk.pageRows));
  }

  #find(text: string): void {
    if (text !== '') this.#wanted = text.toLowerCase();
    if (this.#wanted === '') {
      this.#talk.print('Type / and the text to look for: /error');
      return;
    }
    this.#look();
    const from = text === '' ? this.#top + 1 : this.#top;
    const at = this.#lines.findIndex(
      (line, number) => number >= from && line.toLowerCase().includes(this.#wanted),
    );
    if (at < 0) this.#talk.print(`No line further down holds ${this.#wanted}.`);
    else this.#page(at);
  }

  /** Prints what is added until a line is typed. */
  async #follow(): Promise<void> {
    this.#talk.print('New lines follow as they come; Enter ends that.');
    for (;;) {
      const line = await this.#talk.within('', this.#spec.refreshMs ?? 1_000);
      if (line !== 'late') return;
      const before = this.#lines;
      this.#look();
      if (this.#lines === before) continue;
      for (const added of this.#lines.slice(addedFrom(before, this.#lines))) this.#talk.print(added);
      this.#at = this.#lines.length;
      this.#top = Math.max(0, this.#at - this.#talk.pageRows);
    }
  }
}

/** Where the new lines begin; of a long log the oldest may have gone meanwhile. */
function addedFrom(before: readonly string[], now: readonly string[]): number {
  const last = before.at(-1);
  if (last === undefined) return 0;
  if (now[before.length - 1] === last) return before.length;
  return now.lastIndexOf(last) + 1;
}
