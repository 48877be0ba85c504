/** Something that changes by itself: progress of a job, a running index. */
import { type Binding, WATCH_KEYS } from '../../menus/keys.ts';
import { ToMainMenu, type WatchRows, type WatchSpec } from '../dialogue.ts';
import { type Frame, type Row, type Size, span, type Widget } from '../frame.ts';
import type { Look } from '../look.ts';
import type { KeyEvent } from '../terminal/key-decoder.ts';
import { footerOf, type Outcome, ruleRow, titleRow, type View } from './view.ts';

export class WatchView implements View {
  readonly title: string;
  readonly tickMs: number;
  readonly #spec: WatchSpec;
  readonly #outcome: Outcome<string | undefined>;

  constructor(spec: WatchSpec, outcome: Outcome<string | undefined>) {
    this.title = spec.title;
    this.tickMs = spec.refreshMs;
    this.#spec = spec;
    this.#outcome = outcome;
  }

  bindings(): readonly Binding[] {
    const { actions = [], interrupt } = this.#spec;
    const own = actions
      .filter(({ isOffered }) => isOffered?.() ?? true)
      .map(({ key, id, footer, help }) => ({ action: `action ${id}`, keys: [key], footer, help }));
    const base =
      interrupt === undefined
        ? WATCH_KEYS
        : WATCH_KEYS.map((one) => ({ ...one, keys: one.keys.filter((key) => key !== 'ctrl-c') }));
    const stop =
      interrupt === undefined
        ? []
        : [{ action: `action ${interrupt}`, keys: ['ctrl-c'], footer: 'stop', help: 'asks what to do' }];
    return [...own, ...stop, ...base];
  }

  onTick(): boolean {
    const end = this.#spec.isOver?.();
    if (end !== undefined) this.#outcome.done(end);
    return true;
  }

  onAction(action: string, _key: KeyEvent): void {
    if (action.startsWith('action ')) return void this.#outcome.done(action.slice(7));
    if (action === 'back') this.#outcome.done(undefined);
    if (action === 'abort') this.#outcome.fail(new ToMainMenu());
  }

  frame(size: Size, look: Look, notice: Row | undefined): Frame {
    const shown = this.#spec.rows(size.columns, size.rows - 3);
    const rows: Row[] = [titleRow(this.title, '', size, look), ruleRow(size, look), ...shown.rows];
    const widgets =
      look.kind === 'rich' && look.charset === 'utf8' && !look.isMono
        ? widgetsOf(shown, rows.length, size)
        : [];
    while (rows.length < size.rows - 1) rows.push([]);
    rows.length = size.rows - 1;
    rows.push(notice ?? [span(footerOf(this, size.columns))]);
    return { rows, cursor: { row: 0, column: 0, isVisible: false }, widgets };
  }
}

/** Under the text, if there is room for them. */
function widgetsOf({ gauge, rates }: WatchRows, top: number, size: Size): Widget[] {
  const columns = Math.min(size.columns - 2, 72);
  const widgets: Widget[] = [];
  if (gauge !== undefined && top + 4 < size.rows) {
    widgets.push({ kind: 'gauge', row: top + 1, column: 1, columns, values: [Math.round(gauge)] });
  }
  if (rates !== undefined && rates.length > 1 && top + 8 < size.rows) {
    widgets.push({ kind: 'sparkline', row: top + 5, column: 1, columns, values: rates });
  }
  return widgets;
}
