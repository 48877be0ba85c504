/** What changes by itself, in few lines: new states soon, figures seldom. */
import { PLAIN_EVERYWHERE, plainAction } from '../../menus/plain-keys.ts';
import { ToMainMenu, type WatchAction, type WatchRows, type WatchSpec } from '../dialogue.ts';
import type { PlainTalk } from './talk.ts';

/** Lines that differ in more than figures are printed no sooner than this. */
const STATE_EVERY_MS = 3_000;
/** Lines of which only figures differ. */
const FIGURES_EVERY_MS = 30_000;
const GAUGE_STEP = 10;
/** Figures, bars and the units beside them. */
const FIGURES = /[\d.,:%#=>-]+|\b[KMGTP]?B(\/s)?\b/g;

export class PlainWatch {
  readonly #talk: PlainTalk;
  readonly #spec: WatchSpec;
  #printed: readonly string[] = [];
  #printedStep = -1;
  #printedMs = Number.NEGATIVE_INFINITY;
  #isInterrupted = false;

  constructor(talk: PlainTalk, spec: WatchSpec) {
    this.#talk = talk;
    this.#spec = spec;
  }

  async run(): Promise<string | undefined> {
    const { interrupt, title } = this.#spec;
    this.#talk.head(title);
    const onInterrupt =
      interrupt === undefined
        ? undefined
        : () => {
            this.#isInterrupted = true;
            this.#talk.input.wake();
          };
    return await this.#talk.interruptible(onInterrupt, () => this.#watch());
  }

  async #watch(): Promise<string | undefined> {
    const { isOver, interrupt, refreshMs } = this.#spec;
    this.#say(true);
    this.#talk.print(this.#hint());
    for (;;) {
      const end = isOver?.();
      if (end !== undefined) {
        this.#say(true);
        return end;
      }
      const line = await this.#talk.within('', refreshMs);
      if (this.#isInterrupted) return interrupt;
      if (line === 'late') {
        this.#say(false);
        continue;
      }
      const text = line.text.trim();
      const onEnter = this.#offered().find(({ key }) => key === 'enter');
      const answer = text !== '' ? this.#take(text) : (onEnter ?? (await this.#ask()));
      if (answer !== undefined) return answer === 'back' ? undefined : answer.id;
    }
  }

  /** What Enter does, and the letters where there is nothing to wait for. */
  #hint(): string {
    const offered = this.#offered();
    const onEnter = offered.find(({ key }) => key === 'enter');
    if (onEnter === undefined) return 'Changes are printed as they come; Enter tells what can be done.';
    const letters = offered.filter((one) => one !== onEnter);
    const words = letters.map(({ key, footer }) => `${key.toUpperCase()} ${footer}`);
    return [`Enter ${onEnter.footer}`, ...words, 'b back', '? help'].join(', ');
  }

  async #ask(): Promise<{ id: string } | 'back' | undefined> {
    this.#say(true);
    const offered = this.#offered();
    for (const [at, { key, help }] of offered.entries()) {
      this.#talk.print(`${String(at + 1).padStart(2)} ${key.toUpperCase()} ${help}`);
    }
    const line = await this.#talk.question(
      `${offered.length > 0 ? 'Number or letter, ' : ''}Enter watch on, b back, ? help> `,
    );
    if (line === '') return undefined;
    const byNumber = /^\d+$/.test(line) ? offered[Number(line) - 1] : undefined;
    return byNumber === undefined ? this.#take(line) : { id: byNumber.id };
  }

  #take(line: string): { id: string } | 'back' | undefined {
    const offered = this.#offered();
    const own =
      offered.find(({ key }) => key === line) ??
      offered.find(({ key }) => key.toLowerCase() === line.toLowerCase());
    if (own !== undefined) return { id: own.id };
    const said = plainAction([PLAIN_EVERYWHERE], line)?.action;
    if (said === 'back') return 'back';
    if (said === 'abort') throw new ToMainMenu();
    if (said === 'help') {
      const lines = offered.map(({ key, help }) => `${key.toUpperCase().padEnd(24)} ${help}`);
      this.#talk.help(this.#spec.title, lines, PLAIN_EVERYWHERE);
    } else this.#talk.print(`Not understood: ${line}. Enter tells what can be done.`);
    return undefined;
  }

  #offered(): WatchAction[] {
    return (this.#spec.actions ?? []).filter(({ isOffered }) => isOffered?.() ?? true);
  }

  /** Prints the lines that differ from those printed before, if it is time for them. */
  #say(isAsked: boolean): void {
    const shown = this.#spec.rows(this.#talk.columns, this.#talk.pageRows);
    const lines = shown.rows.map((row) =>
      row
        .map(({ text }) => text)
        .join('')
        .trimEnd(),
    );
    if (!isAsked && !this.#isDue(lines, shown)) return;
    const before = new Set(this.#printed);
    for (const line of lines) if (line !== '' && !before.has(line)) this.#talk.print(line);
    this.#printed = lines;
    this.#printedStep = stepOf(shown);
    this.#printedMs = performance.now();
  }

  #isDue(lines: readonly string[], shown: WatchRows): boolean {
    const agoMs = performance.now() - this.#printedMs;
    if (lines.join('\n') === this.#printed.join('\n') || agoMs < STATE_EVERY_MS) return false;
    if (agoMs >= FIGURES_EVERY_MS || stepOf(shown) !== this.#printedStep) return true;
    return wordsOf(lines) !== wordsOf(this.#printed);
  }
}

function stepOf({ gauge }: WatchRows): number {
  return gauge === undefined ? -1 : Math.floor(gauge / GAUGE_STEP);
}

function wordsOf(lines: readonly string[]): string {
  return lines.map((line) => line.replace(FIGURES, '').replace(/\s+/g, ' ')).join('\n');
}
