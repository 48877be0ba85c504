/** The machine whose devices are read: this one, or one behind a line. Both run the same words of a POSIX shell. */
import { spawn } from 'node:child_process';
import { fromErrno, PhdError, throwIfAborted } from '../../errors.ts';
import type { HostConfig } from '../../model/config.ts';
import { HostLine, type RunOptions, type RunResult } from '../host-line.ts';
import type { HostAccess } from '../open-host.ts';

const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
const MAX_ERROR_CHARACTERS = 8 * 1024;

export interface Machine {
  /** As messages call it. */
  readonly name: string;
  /** Runs a command to its end; of `options` as a line does. Throws TARGET_UNREACHABLE, TARGET_REFUSED, CANCELLED, IO. */
  run(command: string, options?: RunOptions): Promise<RunResult>;
  close(): void;
}

export function openMachine(config: HostConfig, access: HostAccess): Machine {
  return config.host === null ? new ThisMachine() : new FarMachine(config, access);
}

class ThisMachine implements Machine {
  readonly name = 'this machine';

  run(command: string, options: RunOptions = {}): Promise<RunResult> {
    const { stdin, maxBytes = MAX_OUTPUT_BYTES, onOutput, signal } = options;
    throwIfAborted(signal);
    return new Promise((resolve, reject) => {
      // A group of its own, so that a cancel reaches what the shell has started.
      const child = spawn('/bin/sh', ['-c', command], { detached: true, env: shellEnvironment() });
      const parts: Buffer[] = [];
      let bytes = 0;
      let stderr = '';
      let failure: Error | undefined;
      const fail = (error: Error): void => {
        failure ??= error;
        try {
          if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
        } catch {
          child.kill('SIGKILL');
        }
      };
      const onAbort = (): void => fail(new PhdError('CANCELLED', 'cancelled'));
      signal?.addEventListener('abort', onAbort, { once: true });
      child.stdout.on('data', (part: Buffer) => {
        bytes += part.length;
        onOutput?.(part);
        if (bytes <= maxBytes) parts.push(part);
        else fail(new PhdError('IO', `a command on this machine says more than ${maxBytes} bytes`));
      });
      child.stderr.on('data', (part: Buffer) => {
        stderr = (stderr + part.toString('utf8')).slice(-MAX_ERROR_CHARACTERS);
      });
      // A command that ends without reading tells so by its status.
      child.stdin.on('error', () => undefined);
      child.stdin.end(stdin);
      child.on('error', (error) => {
        failure ??= fromErrno(error, 'cannot start /bin/sh');
      });
      child.on('close', (status) => {
        signal?.removeEventListener('abort', onAbort);
        if (failure) reject(failure);
        else resolve({ status, stdout: Buffer.concat(parts), stderr });
      });
    });
  }

  close(): void {}
}

/** Without the secrets that may stand in ours. */
function shellEnvironment(): NodeJS.ProcessEnv {
  const { PATH, HOME } = process.env;
  return { PATH: `${PATH ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`, HOME, LC_ALL: 'C' };
}

/** Opens its line when it is first used, and again when it is lost. */
class FarMachine implements Machine {
  readonly name: string;
  readonly #config: HostConfig;
  readonly #access: HostAccess;
  #line: Promise<HostLine> | undefined;

  constructor(config: HostConfig, access: HostAccess) {
    this.name = config.host ?? config.name;
    this.#config = config;
    this.#access = access;
  }

  /** Once more over a new line if the line is lost: all that is run here only reads. */
  async run(command: string, options: RunOptions = {}): Promise<RunResult> {
    try {
      return await this.#runOnce(command, options);
    } catch (error) {
      if (!(error instanceof PhdError) || error.code !== 'TARGET_UNREACHABLE') throw error;
      throwIfAborted(options.signal);
      this.#access.log(`${error.message}; connecting again`);
      return await this.#runOnce(command, options);
    }
  }

  async #runOnce(command: string, options: RunOptions): Promise<RunResult> {
    const line = await this.#usable();
    // Logins without a terminal often lack the folders of the tools.
    return await line.run(
      `LC_ALL=C; PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"; export LC_ALL PATH; ${command}`,
      options,
    );
  }

  close(): void {
    this.#line?.then(
      (line) => line.close(),
      () => undefined,
    );
    this.#line = undefined;
  }

  /** Several may ask at once when a line is lost: one of them opens the next. */
  async #usable(): Promise<HostLine> {
    const held = this.#line;
    const line = await held?.catch(() => undefined);
    if (line?.usable) return line;
    if (this.#line === held) {
      line?.close();
      this.#line = HostLine.open(this.#config, this.#access);
    }
    this.#line ??= HostLine.open(this.#config, this.#access);
    return await this.#line;
  }
}
