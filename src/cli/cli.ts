/**
 * What every command works with, and the one place where failures become lines and exit statuses. A command file
 * exports `register...(program, cli)`; it imports the engine only inside its action, so that others start quickly.
 */
import { type Command, CommanderError } from 'commander';
import type { ContextOptions, EngineContext, HostKeyQuestion } from '../engine/context.ts';
import { escapeText } from '../engine/display-text.ts';
import { exitStatusOf, PhdError } from '../errors.ts';
import { refuseExcess, registerHelp, requireCommand } from './help-command.ts';

export interface CliStreams {
  stdin: NodeJS.ReadStream;
  stdout: NodeJS.WriteStream;
  stderr: NodeJS.WriteStream;
}

export class Cli {
  readonly env: NodeJS.ProcessEnv;
  readonly streams: CliStreams;
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
  #status = 0;
  readonly #told = new Set<string>();

  constructor(env: NodeJS.ProcessEnv, streams: CliStreams, signal: AbortSignal) {
    this.env = env;
    this.streams = streams;
    this.signal = signal;
  }

  /** One line on standard output, made safe for a terminal. */
  print(line: string): void {
    this.streams.stdout.write(`${escapeText(line)}\n`);
  }

  /** One JSON line on standard output. */
  printJson(value: unknown): void {
    this.streams.stdout.write(`${JSON.stringify(value)}\n`);
  }

  /** One line `phd: ...` on standard error. */
  warn(message: string): void {
    this.streams.stderr.write(`phd: ${escapeText(message)}\n`);
  }

  /** The same, but no line twice in one command: what cannot be seen is told by each disk. */
  warnOnce(message: string): void {
    if (this.#told.has(message)) return;
    this.#told.add(message);
    this.warn(message);
  }

  /** Opens the engine's context, runs `work` and closes it, whatever happens. */
  async withContext<T>(
    work: (context: EngineContext) => Promise<T>,
    options: Partial<ContextOptions> = {},
  ): Promise<T> {
    const { openContext } = await import('../engine/context.ts');
    const context = await openContext({
      env: this.env,
      onNotice: (message) => this.warnOnce(message),
      askHostKey: (question) => this.#askHostKey(question),
      ...options,
    });
    try {
      return await work(context);
    } finally {
      await context.close();
    }
  }

  async #askHostKey(question: HostKeyQuestion): Promise<boolean> {
    const { askYes } = await import('./prompt.ts');
    const { host, port, keyType, fingerprint } = question;
    return askYes(
      this.streams,
      `The key of ${host}:${port} is not known yet: ${keyType} ${fingerprint}. Trust it?`,
    );
  }

  /** Reports the failure of one item; the command goes on and `setStatusOf` decides at its end. */
  reportError(error: unknown): PhdError {
    const failure = toPhdError(error);
    this.warn(failure.message);
    return failure;
  }

  /** The same with the JSON line that names the item. */
  reportItemError(
    error: unknown,
    item: { archive?: string; disk?: string; job?: number },
    isJson: boolean,
  ): PhdError {
    const failure = this.reportError(error);
    if (isJson) this.#printJsonError(failure, item);
    return failure;
  }

  #printJsonError(
    { code, message }: PhdError,
    item: { archive?: string; disk?: string; job?: number },
  ): void {
    this.printJson({
      event: 'error',
      ...item,
      archive: item.archive ?? null,
      disk: item.disk ?? null,
      bytes: 0,
      totalBytes: 0,
      percent: 0,
      bytesPerSecond: 0,
      remainingSeconds: null,
      code,
      message,
    });
  }

  /** Sets the exit status from the failures of all items (README, exit status). */
  setStatusOf(failures: readonly PhdError[]): void {
    this.#status = exitStatusOf(failures.map((one) => one.code));
  }

  /** Sets the exit status itself, where it is no failure of an item. */
  setStatus(status: number): void {
    this.#status = status;
  }

  /** Runs the program; returns the exit status and never throws. */
  async run(program: Command, words: readonly string[]): Promise<number> {
    registerHelp(program);
    program.hook('preAction', (_, command) => {
      if (command !== program) refuseExcess(command);
    });
    try {
      requireCommand(program, words);
      await program.parseAsync(words, { from: 'user' });
      return this.#status;
    } catch (error) {
      if (error instanceof CommanderError && error.exitCode === 0) return 0;
      const cancelled =
        words[0] === 'restore' ? 'cancelled: the same command goes on where it was' : 'cancelled';
      const failure = this.signal.aborted ? new PhdError('CANCELLED', cancelled) : toPhdError(error);
      // The parser has written its own line.
      if (!(error instanceof CommanderError)) this.warn(failure.message);
      if (words.includes('--json')) this.#printJsonError(failure, {});
      return failure.exitStatus;
    }
  }
}

/** A number from the command line. Throws USAGE unless it is whole and within the limits. */
export function parseWhole(text: string, what: string, from: number, to: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= from && value <= to)) {
    throw new PhdError('USAGE', `${what} ${JSON.stringify(text)}: expected a whole number ${from} to ${to}`);
  }
  return value;
}

/** One of the words. Throws USAGE with the list of them. */
export function parseChoice<const Word extends string>(
  text: string,
  what: string,
  words: readonly Word[],
): Word {
  const word = words.find((one) => one === text);
  if (word === undefined) {
    throw new PhdError('USAGE', `${what} ${JSON.stringify(text)}: expected ${words.join(', ')}`);
  }
  return word;
}

/** What the parser says, with its proposal, in one line. */
export function parserWords(text: string): string {
  return text
    .trim()
    .replace(/^error: /, '')
    .replace(/\n\(Did you mean (.*)\?\)$/, '; did you mean $1?');
}

/** A fault of the program itself still becomes one line. */
function toPhdError(error: unknown): PhdError {
  if (error instanceof PhdError) return error;
  if (error instanceof CommanderError)
    return new PhdError('USAGE', parserWords(error.message), { cause: error });
  const words = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return new PhdError('IO', `fault in the program: ${words}`, { cause: error });
}
