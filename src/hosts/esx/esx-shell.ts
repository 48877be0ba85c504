/** The shell of an ESX host: commands over one line that is opened again where it died, a few at once, errors in plain words. */
import { PhdError, throwIfAborted } from '../../errors.ts';
import type { HostConfig } from '../../model/config.ts';
import { HostLine, type RunningCommand, type RunOptions, type RunResult } from '../host-line.ts';
import type { HostAccess } from '../open-host.ts';
import { withVmkernelCodes } from '../vmkernel-codes.ts';

/** Sessions of a connection that ESX takes are ten; the helper for reading has one of them. */
const MAX_AT_ONCE = 6;
const MAX_WORDS = 300;

export class EsxShell {
  readonly config: HostConfig;
  readonly #access: HostAccess;
  #line: Promise<HostLine> | null = null;
  #isClosed = false;
  #free = MAX_AT_ONCE;
  readonly #waiting: (() => void)[] = [];

  constructor(config: HostConfig, access: HostAccess) {
    this.config = config;
    this.#access = access;
  }

  log(text: string): void {
    this.#access.log(text);
  }

  /** Runs a command to its end, whatever its status. Throws TARGET_*, HOST_KEY_REFUSED, CANCELLED. */
  async run(command: string, options: RunOptions = {}): Promise<RunResult> {
    return await this.#within(options.signal, async () => (await this.#open()).run(command, options));
  }

  /** Output of a command that must succeed; `doing` names it in the refusal: "cannot list the VMs". */
  async output(command: string, doing: string, options: RunOptions = {}): Promise<Buffer> {
    const result = await this.run(command, options);
    if (result.status !== 0) throw this.refusal(doing, result);
    return result.stdout;
  }

  /** Runs a script that may be longer than a command line. */
  async script(text: string, doing: string, options: Omit<RunOptions, 'stdin'> = {}): Promise<Buffer> {
    return await this.output('sh -s', doing, { ...options, stdin: Buffer.from(text) });
  }

  /** Starts a command and gives its channel to `work`, which must end or stop it. Silence is the caller's to watch. */
  async stream<T>(
    command: string,
    signal: AbortSignal | undefined,
    work: (running: RunningCommand) => Promise<T>,
  ): Promise<T> {
    return await this.#within(signal, async () => {
      const running = await (await this.#open()).stream(command, { signal });
      try {
        return await work(running);
      } finally {
        running.stop();
      }
    });
  }

  /** A command that stays open beside the others, silent as long as nothing is asked of it. */
  async lasting(command: string): Promise<RunningCommand> {
    return await (await this.#open()).stream(command, { silenceMs: null });
  }

  /** What a command said when it failed, in one line, with what vmkernel codes in it mean. */
  refusal(doing: string, { status, stdout, stderr }: RunResult): PhdError {
    const said = `${stderr}\n${stdout.subarray(0, 65_536).toString('utf8')}`;
    const words = wordsOf(said) || `status ${status ?? 'unknown: it was killed'}`;
    const message = withVmkernelCodes(`host ${this.config.name}: ${doing}: ${words}`, said);
    if (/no space left|0xbad00d8|disk quota/i.test(said)) return new PhdError('NO_SPACE', message);
    if (/resource busy|failed to lock|file is being locked|0xbad0023/i.test(said))
      return new PhdError('LOCKED', message);
    return new PhdError('TARGET_REFUSED', message);
  }

  close(): void {
    this.#isClosed = true;
    this.dropLine();
  }

  /** A line that is only silent looks alive: whoever was left without an answer drops it, and the next command opens another. */
  dropLine(): void {
    this.#line?.then(
      (line) => line.close(),
      () => undefined,
    );
    this.#line = null;
  }

  /** One line for all who ask at once: whoever finds it dead first opens the next. */
  async #open(): Promise<HostLine> {
    const current = this.#line;
    const line = await current?.catch(() => undefined);
    if (line?.usable) return line;
    if (this.#isClosed)
      throw new PhdError('TARGET_UNREACHABLE', `host ${this.config.name}: the connection was closed`);
    if (this.#line === current || this.#line === null) {
      line?.close();
      this.#line = HostLine.open(this.config, this.#access);
    }
    return await this.#line;
  }

  async #within<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      throwIfAborted(signal);
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}

/** The telling line of an output: the `msg` of a fault, else the last one. */
function wordsOf(said: string): string {
  const fault = /\bmsg = "((?:[^"\\]|\\.)*)"/.exec(said)?.[1]?.trim();
  const lines = said
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^\d+\+\d+ records (in|out)$/.test(line));
  const text =
    fault || lines.find((line) => /fail|error|denied|busy|can't|cannot/i.test(line)) || lines.at(-1);
  return (text ?? '').replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ').slice(0, MAX_WORDS);
}
