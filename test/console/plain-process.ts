/** The built console over pipes, talked to line by line: what comes next is typed when its question stands there. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { MAIN } from '../support/console-pty.ts';

const PATIENCE_MS = 30_000;

export class PlainProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #exited: Promise<number | null>;
  #text = '';
  #seen = 0;
  #look: () => void = () => undefined;

  constructor(env: NodeJS.ProcessEnv, words: readonly string[] = []) {
    this.#child = spawn(process.execPath, [MAIN, ...words], { env });
    this.#child.stdout.on('data', (bytes: Buffer) => {
      this.#text += bytes.toString();
      this.#look();
    });
    this.#child.stderr.on('data', (bytes: Buffer) => {
      this.#text += `[stderr] ${bytes.toString()}`;
      this.#look();
    });
    this.#exited = new Promise((resolve) => {
      this.#child.on('exit', (status) => {
        this.#look();
        resolve(status);
      });
    });
  }

  /** All that was printed. */
  get text(): string {
    return this.#text;
  }

  /** Waits for a text behind the last one that was waited for; gives what was printed up to it. */
  async sees(wanted: string): Promise<string> {
    await this.#until([wanted]);
    const from = this.#seen;
    this.#seen = this.#text.indexOf(wanted, this.#seen) + wanted.length;
    return this.#text.slice(from, this.#seen);
  }

  /** Waits for the first of several texts and tells which came; it can be waited for again. */
  async seesOneOf(...wanted: [string, ...string[]]): Promise<string> {
    await this.#until(wanted);
    const places = wanted.map((one) => ({ one, at: this.#text.indexOf(one, this.#seen) }));
    const [first] = places.filter(({ at }) => at >= 0).sort((a, b) => a.at - b.at);
    return first?.one ?? '';
  }

  async #until(wanted: readonly string[]): Promise<void> {
    const isThere = (): boolean => wanted.some((one) => this.#text.indexOf(one, this.#seen) >= 0);
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string): void =>
        reject(new Error(`${why} before ${JSON.stringify(wanted)} after:\n${this.#text.slice(this.#seen)}`));
      const timer = setTimeout(() => fail(`${PATIENCE_MS} ms passed`), PATIENCE_MS);
      this.#look = () => {
        if (!isThere() && this.#child.exitCode === null) return;
        clearTimeout(timer);
        if (isThere()) resolve();
        else fail('the program ended');
      };
      this.#look();
    });
  }

  /** Answers the question that ends with `prompt`. */
  async answer(prompt: string, line: string): Promise<string> {
    const before = await this.sees(prompt);
    this.#child.stdin.write(`${line}\n`);
    return before;
  }

  /** No more input; the exit status. */
  async end(): Promise<number | null> {
    this.#child.stdin.end();
    return await this.#exited;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
