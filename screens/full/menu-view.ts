/** A menu: its letters act at once, the marker moves with the arrows. */
import { type Binding, MENU_KEYS } from '../../menus/keys.ts';
import { labelOf, type Menu, type MenuEntry, reasonAgainst } from '../../menus/menu.ts';
import type { ConsoleState } from '../../menus/state.ts';
import { type Line, type MenuOptions, ToMainMenu } from '../dialogue.ts';
import { type Frame, fitted, type Row, type Size, span, wrap } from '../frame.ts';
import type { Look } from '../look.ts';
import type { KeyEvent } from '../terminal/key-decoder.ts';
import { footerOf, type Outcome, ruleRow, titleRow, type View } from './view.ts';

export class MenuView implements View {
  readonly title: string;
  readonly tickMs = 1000;
  readonly #menu: Menu;
  readonly #options: MenuOptions;
  readonly #state: () => ConsoleState;
  readonly #outcome: Outcome<string | undefined>;
  readonly #say: (text: string) => void;
  #at: number;
  #shown = '';
  #firstEntryRow = 2;
  /** First entry on the screen, where there are more than it has rows. */
  #top = 0;

  constructor(
    menu: Menu,
    options: MenuOptions,
    state: () => ConsoleState,
    outcome: Outcome<string | undefined>,
    say: (text: string) => void,
  ) {
    this.title = menu.title;
    this.#menu = menu;
    this.#options = options;
    this.#state = state;
    this.#outcome = outcome;
    this.#say = say;
    const wanted = menu.entries.findIndex(({ id }) => id === options.at);
    this.#at =
      wanted >= 0
        ? wanted
        : Math.max(
            0,
            menu.entries.findIndex((one) => !/^\d$/.test(one.key)),
          );
  }

  get help(): readonly string[] {
    return this.#menu.entries.map(({ key, help, ...entry }) => {
      const label =
        typeof entry.label === 'string' ? entry.label : labelOf({ key, help, ...entry }, this.#state());
      return `${key.toUpperCase()}  ${label.split(':')[0]}: ${help}`;
    });
  }

  bindings(): readonly Binding[] {
    const own = this.#menu.entries.map(({ key, id, help }) => ({ action: `entry ${id}`, keys: [key], help }));
    return [...own, ...MENU_KEYS];
  }

  onTick(): boolean {
    const now = this.#labels().join('\n');
    const isNew = now !== this.#shown;
    this.#shown = now;
    return isNew;
  }

  onAction(action: string, _key: KeyEvent): void {
    const last = this.#menu.entries.length - 1;
    if (action.startsWith('entry ')) return void this.#choose(this.#entryOf(action.slice(6)));
    if (action === 'choose') return void this.#choose(this.#at);
    if (action === 'back') return void this.#back();
    if (action === 'abort') return void this.#outcome.fail(new ToMainMenu());
    if (action === 'up') this.#at = Math.max(0, this.#at - 1);
    if (action === 'down') this.#at = Math.min(last, this.#at + 1);
    if (action === 'home' || action === 'page-up') this.#at = 0;
    if (action === 'end' || action === 'page-down') this.#at = last;
  }

  onOther(key: KeyEvent): void {
    if (key.kind !== 'mouse') return;
    if (key.action !== 'press') return void this.onAction(key.action === 'wheel-up' ? 'up' : 'down', key);
    const at = key.row - this.#firstEntryRow + this.#top;
    if (at < this.#top || at >= this.#menu.entries.length) return;
    if (at === this.#at) this.#choose(at);
    else this.#at = at;
  }

  frame(size: Size, look: Look, notice: Row | undefined): Frame {
    const above = (this.#options.lines?.() ?? []).flatMap((line) => rowsOf(line, size.columns, look));
    const rows: Row[] = [[], ruleRow(size, look), ...above];
    if (above.length > 0) rows.push([]);
    this.#firstEntryRow = rows.length;
    const state = this.#state();
    const room = size.rows - 1 - rows.length;
    const count = this.#menu.entries.length;
    rows[0] = titleRow(this.title, count > room ? `${this.#at + 1}/${count}` : '', size, look);
    this.#top = Math.max(Math.min(this.#top, this.#at), this.#at - room + 1, 0);
    this.#menu.entries.slice(this.#top, this.#top + room).forEach((entry, from) => {
      const at = this.#top + from;
      const isHere = at === this.#at;
      const reason = reasonAgainst(entry, state);
      const label = `${labelOf(entry, state)}${reason === null ? '' : ` (${reason})`}`;
      const text = ` ${entry.key.toUpperCase()}  ${label}`;
      const marker = isHere ? '>' : ' ';
      const isBar = isHere && look.kind === 'rich';
      rows.push([
        span(marker, isBar ? 'selected' : 'plain'),
        span(
          isBar ? fitted(text, size.columns - 1, look) : fitted(text, size.columns - 1, look).trimEnd(),
          isBar ? 'selected' : 'plain',
        ),
      ]);
    });
    this.#shown = this.#labels().join('\n');
    while (rows.length < size.rows - 1) rows.push([]);
    rows.length = size.rows - 1;
    rows.push(notice ?? [span(footerOf(this, size.columns))]);
    return { rows, cursor: { row: this.#firstEntryRow + this.#at - this.#top, column: 0, isVisible: false } };
  }

  #labels(): string[] {
    const state = this.#state();
    const lines = this.#options.lines?.() ?? [];
    return [
      ...lines.map((line) => (typeof line === 'string' ? line : line.text)),
      ...this.#menu.entries.map((entry) => `${labelOf(entry, state)} ${reasonAgainst(entry, state) ?? ''}`),
    ];
  }

  #entryOf(id: string): number {
    return this.#menu.entries.findIndex((entry) => entry.id === id);
  }

  /** Who presses Esc again and again to get out of a screen is not put out of the program. */
  #back(): void {
    const quit = this.#menu.isTop ? this.#entryOf('quit') : -1;
    if (quit < 0 || this.#at === quit) return void this.#outcome.done(undefined);
    this.#at = quit;
  }

  #choose(at: number): void {
    const entry = this.#menu.entries[at] as MenuEntry;
    this.#at = at;
    const reason = reasonAgainst(entry, this.#state());
    if (reason === null) this.#outcome.done(entry.id);
    else this.#say(reason);
  }
}

/** A line of a flow as rows of the screen. */
export function rowsOf(line: Line, columns: number, look: Look): Row[] {
  const { text, mark } = typeof line === 'string' ? { text: line, mark: 'plain' as const } : line;
  return wrap(text, columns, look).map((part) => [span(part, mark)]);
}
