/** The dialogue on the full screen: a stack of views, of which the top one has the keys; painted once a turn. */
import { actionFor, EVERYWHERE } from '../../menus/keys.ts';
import type { Menu } from '../../menus/menu.ts';
import { keyLine } from '../../menus/printed-keys.ts';
import type { ConsoleState } from '../../menus/state.ts';
import { PhdError } from '../../src/errors.ts';
import type {
  AskSpec,
  ConfirmSpec,
  Dialogue,
  Line,
  ListAnswer,
  ListSpec,
  MenuOptions,
  ReadSpec,
  TypedSpec,
  WatchSpec,
} from '../dialogue.ts';
import { type Frame, fitted, type Mark, type Row, type Size, span } from '../frame.ts';
import type { Look } from '../look.ts';
import type { KeyEvent } from '../terminal/key-decoder.ts';
import { Terminal, type TerminalStreams } from '../terminal/terminal.ts';
import { ListView } from './list-view.ts';
import { MenuView } from './menu-view.ts';
import { AskView, BusyView, ConfirmView, TellView, TypedView } from './question-views.ts';
import { ReadView } from './read-view.ts';
import { footerKeyAt, isTooSmall, type Outcome, tooSmallFrame, type View } from './view.ts';
import { WatchView } from './watch-view.ts';

export interface FaceOptions {
  terminalName: string;
  streams: TerminalStreams;
  env: NodeJS.ProcessEnv;
  look: Look;
  /** What the menus show; read at each paint. */
  state: () => ConsoleState;
  /** The terminal has gone away. */
  onGone: () => void;
  /** Called after the first paint has been handed to the terminal. */
  onFirstPaint?: () => void;
}

export class FullFace implements Dialogue {
  readonly isFullScreen = true;
  readonly #options: FaceOptions;
  readonly #terminal: Terminal;
  readonly #stack: View[] = [];
  /** Bottom-most views that questions lie over when nothing else is open. */
  #backdrop: Frame | undefined;
  #notice: Row | undefined;
  /** No notice stood in its place when the key came. */
  #isFooterShown = true;
  /** Keys that no view has had yet. */
  readonly #waiting: KeyEvent[] = [];
  #isPaintDue = false;
  #paintedView: View | undefined;
  #ticker: NodeJS.Timeout | undefined;

  constructor(options: FaceOptions) {
    this.#options = options;
    const { terminalName, streams, env, look, onGone } = options;
    this.#terminal = new Terminal(terminalName, streams, env, look, {
      onKeys: (keys) => this.#onKeys(keys),
      onPaintWanted: () => this.#wantPaint(),
      onGone,
    });
  }

  get columns(): number {
    return this.#terminal.size.columns;
  }

  menu(menu: Menu, options: MenuOptions = {}): Promise<string | undefined> {
    return this.#show<string | undefined>(
      (outcome) => new MenuView(menu, options, this.#options.state, outcome, (text) => this.notice(text)),
    );
  }

  list<T>(spec: ListSpec<T>): Promise<ListAnswer<T> | undefined> {
    return this.#show<ListAnswer<T> | undefined>(
      (outcome) => new ListView(spec, outcome, () => this.#wantPaint()),
    );
  }

  ask(spec: AskSpec): Promise<string | undefined> {
    return this.#show<string | undefined>((outcome) => new AskView(spec, outcome));
  }

  confirm(spec: ConfirmSpec): Promise<boolean> {
    return this.#show<boolean>((outcome) => new ConfirmView(spec, outcome));
  }

  typed(spec: TypedSpec): Promise<boolean> {
    return this.#show<boolean>((outcome) => new TypedView(spec, outcome));
  }

  read(spec: ReadSpec): Promise<void> {
    return this.#show<void>((outcome) => new ReadView(spec, outcome));
  }

  watch(spec: WatchSpec): Promise<string | undefined> {
    return this.#show<string | undefined>((outcome) => new WatchView(spec, outcome));
  }

  tell(title: string, lines: readonly Line[]): Promise<void> {
    return this.#show<void>((outcome) => new TellView(title, lines, outcome));
  }

  async busy<T>(
    title: string,
    work: (signal: AbortSignal, say: (text: string) => void) => Promise<T>,
  ): Promise<T | undefined> {
    const abort = new AbortController();
    const view = new BusyView(title, () => abort.abort());
    view.say('working');
    this.#push(view);
    try {
      return await work(abort.signal, (text) => {
        view.say(text);
        this.#wantPaint();
      });
    } catch (error) {
      if (abort.signal.aborted || (error instanceof PhdError && error.code === 'CANCELLED')) return undefined;
      throw error;
    } finally {
      this.#pop(view);
    }
  }

  notice(text: string, mark: Mark = 'plain'): void {
    this.#notice = [span(fitted(text, this.columns, this.#options.look).trimEnd(), mark)];
    this.#wantPaint();
  }

  async lend<T>(work: () => Promise<T>): Promise<T> {
    return this.#terminal.lend(work);
  }

  /** ^C typed at a program that has the terminal reaches the console as well, and is not meant for it. */
  interrupt(): boolean {
    return this.#terminal.isLent;
  }

  /** See Terminal. */
  guard(): Promise<void> {
    return this.#terminal.guard();
  }

  /** False: the line stalls and has not taken the last bytes. */
  restyle(): void {
    this.#terminal.restyle(this.#options.look);
  }

  close(): Promise<boolean> {
    clearTimeout(this.#ticker);
    return this.#terminal.close();
  }

  closeNow(): void {
    clearTimeout(this.#ticker);
    this.#terminal.closeNow();
  }

  #show<R>(make: (outcome: Outcome<R>) => View): Promise<R> {
    return new Promise<R>((resolve, reject) => {
      const view: View = make({
        done: (answer) => {
          this.#pop(view);
          resolve(answer);
        },
        fail: (error) => {
          this.#pop(view);
          reject(error);
        },
      });
      this.#push(view);
    });
  }

  #push(view: View): void {
    this.#stack.push(view);
    // A question that destroys is answered only by those who can have read it.
    if (view.ignoresTypeAhead) this.#waiting.length = 0;
    this.#wantPaint();
    if (this.#waiting.length > 0) setImmediate(() => this.#pump());
  }

  #pop(view: View): void {
    const at = this.#stack.indexOf(view);
    if (at < 0) return;
    this.#stack.splice(at, 1);
    // What keys have changed since the last paint is seen behind the question that comes next.
    if (!view.isOverlay && this.#stack.length === 0) this.#backdrop = this.#frameOf(view);
    // Nothing is painted for a stack without a view: the next question comes within the same turn.
    if (this.#stack.length > 0) this.#wantPaint();
  }

  #wantPaint(): void {
    if (this.#isPaintDue) return;
    this.#isPaintDue = true;
    setImmediate(() => {
      this.#isPaintDue = false;
      this.#paint();
    });
  }

  #paint(): void {
    const view = this.#stack.at(-1);
    if (view === undefined) return;
    const frame = this.#frameOf(view);
    if (!this.#terminal.paint(frame)) return;
    if (!view.isOverlay) this.#backdrop = frame;
    const isNew = this.#paintedView !== view;
    if (this.#paintedView === undefined) this.#options.onFirstPaint?.();
    this.#paintedView = view;
    this.#schedule(view, isNew);
  }

  #frameOf(view: View): Frame {
    const size = this.#terminal.size;
    const { look } = this.#options;
    if (isTooSmall(size)) return tooSmallFrame(size, look);
    const frame = view.frame(size, look, this.#notice);
    return view.isOverlay ? this.#laidOver(frame, size) : frame;
  }

  /** A panel lies at the bottom, over the view that was there. */
  #laidOver(panel: Frame, size: Size): Frame {
    const below = [...this.#stack].reverse().find(({ isOverlay }) => !isOverlay);
    const back = below?.frame(size, this.#options.look, undefined) ?? this.#backdrop;
    const top = Math.max(0, size.rows - panel.rows.length);
    const rows = [...(back?.rows ?? [])].slice(0, top);
    while (rows.length < top) rows.push([]);
    rows.push(...panel.rows.slice(0, size.rows));
    return { rows, cursor: { ...panel.cursor, row: panel.cursor.row + top } };
  }

  #schedule(view: View, isNew: boolean): void {
    if (isNew) clearTimeout(this.#ticker);
    if (view.onIdle) setImmediate(() => this.#idle(view));
    if (view.tickMs === undefined || (!isNew && this.#ticker !== undefined)) return;
    this.#ticker = setTimeout(() => {
      this.#ticker = undefined;
      if (this.#stack.at(-1) !== view) return;
      if (view.onTick?.() && this.#stack.at(-1) === view) this.#wantPaint();
      this.#schedule(view, false);
    }, view.tickMs);
  }

  #idle(view: View): void {
    if (this.#stack.at(-1) === view && view.onIdle?.()) setImmediate(() => this.#idle(view));
  }

  #onKeys(keys: readonly KeyEvent[]): void {
    this.#waiting.push(...keys);
    this.#pump();
  }

  /** Keys typed ahead wait for the view that the key before them opens; one at a time reaches a view. */
  #pump(): void {
    while (this.#waiting.length > 0) {
      const view = this.#stack.at(-1);
      if (view === undefined) return;
      if (view !== this.#paintedView && view.ignoresTypeAhead) {
        this.#waiting.length = 0;
        return;
      }
      const key = this.#waiting.shift() as KeyEvent;
      this.#isFooterShown = this.#notice === undefined;
      this.#notice = undefined;
      this.#dispatch(view, key);
      this.#wantPaint();
      if (this.#stack.at(-1) !== view) {
        setImmediate(() => this.#pump());
        return;
      }
    }
  }

  #dispatch(view: View, key: KeyEvent): void {
    if (isTooSmall(this.#terminal.size)) return;
    const name = key.kind === 'key' ? key.name : key.kind === 'text' ? key.text : undefined;
    const hint = this.#clickedHint(view, key);
    if (hint !== undefined) return void this.#dispatch(view, hint);
    if (name === undefined) return void view.onOther?.(key);
    const everywhere = actionFor(EVERYWHERE, name);
    const isLetter = key.kind === 'text';
    if (view.isTyping) {
      if (everywhere !== undefined && !isLetter) return void this.#doEverywhere(everywhere, view);
      return void view.onOther?.(key);
    }
    const action = actionFor(view.bindings(), name);
    if (action !== undefined) return void view.onAction(action, key);
    if (everywhere !== undefined) return void this.#doEverywhere(everywhere, view);
    view.onOther?.(key);
  }

  /** A click on a hint of the footer is the key it names. */
  #clickedHint(view: View, key: KeyEvent): KeyEvent | undefined {
    const { columns, rows } = this.#terminal.size;
    if (key.kind !== 'mouse' || key.action !== 'press' || key.row !== rows - 1) return undefined;
    const hasHints = this.#isFooterShown && (view.isOverlay || !view.isTyping);
    const hint = hasHints ? footerKeyAt(view, columns, key.column) : undefined;
    if (hint === undefined) return undefined;
    return hint.length === 1 ? { kind: 'text', text: hint } : { kind: 'key', name: hint };
  }

  #doEverywhere(action: string, view: View): void {
    if (action === 'help') void this.#help(view);
    if (action === 'repaint') this.#terminal.forget();
    if (action === 'suspend') void this.#terminal.suspend();
    if (action === 'mouse')
      this.notice(this.#terminal.turnMouse() ? 'mouse on (Shift+drag copies)' : 'mouse off');
  }

  async #help(view: View): Promise<void> {
    if (view instanceof ReadView && view.title.startsWith('Help')) return;
    const lines = [
      ...(view.help ?? []),
      ...((view.help?.length ?? 0) > 0 ? [''] : []),
      ...view
        .bindings()
        .filter(({ action }) => !action.startsWith('entry '))
        .map(keyLine),
      ...EVERYWHERE.map(keyLine),
    ];
    await this.read({ title: `Help: ${view.title}`, lines: () => lines }).catch((error: Error) => {
      this.notice(error.message);
    });
  }
}
