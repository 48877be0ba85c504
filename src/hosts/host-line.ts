/** A connection to a host's shell: commands over SSH exec channels and nothing else, for not every host has SFTP. */
import type { Readable, Writable } from 'node:stream';
import type { Client, ClientChannel } from 'ssh2';
import { PhdError, throwIfAborted } from '../errors.ts';
import type { HostConfig } from '../model/config.ts';
import { HostKeyCheck } from '../storage/host-key-check.ts';
import { checkPrivateKey } from '../storage/private-key.ts';
import { connect, type SshLogin, whatOf } from '../storage/ssh-connect.ts';
import type { HostAccess } from './open-host.ts';

/** What a command may say before it is taken for broken. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
/** A command that says a little again and again ends after so many of the host's limits: such a line is as good as dead. */
const MAX_SILENCES = 30;
const MAX_ERROR_CHARACTERS = 8 * 1024;

export interface RunOptions {
  /** All of what the command reads. */
  stdin?: Buffer;
  /** More on its standard output is an error (TARGET_REFUSED); 16 MiB by default. */
  maxBytes?: number;
  /** From the start to its end; default: the host's `timeoutMs` of silence, and thirty times that in all. */
  timeoutMs?: number;
  /** What it says, as it comes. */
  onOutput?: (part: Buffer) => void;
  signal?: AbortSignal;
}

export interface RunResult {
  /** Exit status; 128 + n is not used: a signal is told as null. */
  status: number | null;
  stdout: Buffer;
  /** At most 8 KiB, the end of what it said. */
  stderr: string;
}

export interface RunningCommand {
  stdin: Writable;
  stdout: Readable;
  /** When the channel is closed. Throws TARGET_UNREACHABLE, CANCELLED. */
  ended: Promise<{ status: number | null; stderr: string }>;
  /** Closes the channel at once; `ended` then says so. Safe to repeat. */
  stop(): void;
}

export class HostLine {
  readonly #client: Client;
  readonly #what: string;
  readonly #timeoutMs: number;
  readonly #stops = new Set<(why: string) => void>();
  #death: string | null = null;

  private constructor(client: Client, what: string, timeoutMs: number) {
    this.#client = client;
    this.#what = what;
    this.#timeoutMs = timeoutMs;
    client
      .on('error', (error: Error) => this.#die(error.message))
      .on('end', () => this.#die('it ended the connection'))
      .on('close', () => this.#die('the connection was lost'));
  }

  /** Throws TARGET_UNREACHABLE, TARGET_REFUSED, HOST_KEY_REFUSED, PASSPHRASE_*, CONFIG_INVALID. */
  static async open(config: HostConfig, access: HostAccess): Promise<HostLine> {
    const login = await loginOf(config, access);
    const what = `host ${config.name} (${whatOf(login.settings)})`;
    return new HostLine(await connect(login), what, config.timeoutMs);
  }

  get usable(): boolean {
    return this.#death === null;
  }

  /** Runs a command to its end. Throws TARGET_UNREACHABLE, TARGET_REFUSED (too much output), CANCELLED. */
  async run(command: string, options: RunOptions = {}): Promise<RunResult> {
    const { stdin, maxBytes = MAX_OUTPUT_BYTES, timeoutMs, onOutput, signal } = options;
    const running = await this.stream(command, { signal, silenceMs: timeoutMs ? null : this.#timeoutMs });
    const limitMs = timeoutMs ?? (onOutput === undefined ? MAX_SILENCES * this.#timeoutMs : null);
    const timer =
      limitMs === null
        ? undefined
        : setTimeout(() => running.fail(this.#dead(`a command did not end within ${limitMs} ms`)), limitMs);
    try {
      const parts: Buffer[] = [];
      let bytes = 0;
      running.stdout.on('data', (part: Buffer) => {
        bytes += part.length;
        onOutput?.(part);
        if (bytes <= maxBytes) parts.push(part);
        else
          running.fail(
            new PhdError('TARGET_REFUSED', `${this.#what}: a command says more than ${maxBytes} bytes`),
          );
      });
      running.stdout.resume();
      running.stdin.end(stdin);
      return { ...(await running.ended), stdout: Buffer.concat(parts) };
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Starts a command. A line that is silent for the host's time limit is taken for dead, unless `silenceMs` is null.
   * Throws TARGET_UNREACHABLE, CANCELLED.
   */
  async stream(
    command: string,
    { signal, silenceMs = this.#timeoutMs }: { signal?: AbortSignal; silenceMs?: number | null } = {},
  ): Promise<RunningCommand & { fail(error: PhdError): void }> {
    throwIfAborted(signal);
    // A command may have ended in the packet that says that it began: it is followed at once, not a tick later.
    return await this.#open(command, (channel) => this.#follow(channel, signal, silenceMs));
  }

  close(): void {
    this.#die('the connection was closed');
    this.#client.end();
    this.#client.destroy();
  }

  #open<Followed>(command: string, follow: (channel: ClientChannel) => Followed): Promise<Followed> {
    return new Promise((resolve, reject) => {
      if (this.#death !== null) {
        reject(this.#dead(this.#death));
        return;
      }
      const stop = (why: string): void => settle(() => reject(this.#dead(why)));
      const timer = setTimeout(() => this.#die(`no answer within ${this.#timeoutMs} ms`), this.#timeoutMs);
      const settle = (how: () => void): void => {
        clearTimeout(timer);
        this.#stops.delete(stop);
        how();
      };
      this.#stops.add(stop);
      try {
        this.#client.exec(command, (error, channel) => {
          settle(() =>
            error ? reject(this.#dead(`no command can be run: ${error.message}`)) : resolve(follow(channel)),
          );
        });
      } catch (error) {
        // The socket is gone, and its end was not told yet.
        this.#die((error as Error).message);
      }
    });
  }

  #follow(
    channel: ClientChannel,
    signal: AbortSignal | undefined,
    silenceMs: number | null,
  ): RunningCommand & { fail(error: PhdError): void } {
    let fail: (error: PhdError) => void = () => undefined;
    const ended = new Promise<{ status: number | null; stderr: string }>((resolve, reject) => {
      let stderr = '';
      let status: number | null = null;
      let timer: NodeJS.Timeout | undefined;
      const arm = (): void => {
        clearTimeout(timer);
        if (silenceMs === null) return;
        timer = setTimeout(() => {
          // What lies here unread is no silence of the host.
          if (channel.readableLength > 0) arm();
          else fail(this.#dead(`no answer within ${silenceMs} ms`));
        }, silenceMs);
      };
      const onAbort = (): void => fail(new PhdError('CANCELLED', 'cancelled'));
      const onDeath = (why: string): void => fail(this.#dead(why));
      const settle = (): void => {
        clearTimeout(timer);
        this.#stops.delete(onDeath);
        signal?.removeEventListener('abort', onAbort);
      };
      fail = (error) => {
        settle();
        reject(error);
        channel.destroy();
      };
      this.#stops.add(onDeath);
      signal?.addEventListener('abort', onAbort, { once: true });
      channel.on('data', arm);
      channel.on('drain', arm);
      channel.stderr.on('data', (part: Buffer) => {
        arm();
        stderr = (stderr + part.toString('utf8')).slice(-MAX_ERROR_CHARACTERS);
      });
      channel.on('exit', (code: number | null) => {
        status = code;
      });
      // Whoever writes to a channel that closes learns it from `ended`.
      channel.on('error', () => undefined);
      channel.on('close', () => {
        settle();
        resolve({ status, stderr });
      });
      arm();
    });
    ended.catch(() => undefined);
    // Listening for data would let it flow: it waits until someone reads.
    channel.pause();
    return {
      stdin: channel,
      stdout: channel,
      ended,
      fail: (error) => fail(error),
      stop: () => fail(new PhdError('CANCELLED', 'cancelled')),
    };
  }

  #die(why: string): void {
    this.#death ??= why;
    for (const stop of [...this.#stops]) stop(this.#death);
  }

  #dead(why: string): PhdError {
    return new PhdError('TARGET_UNREACHABLE', `${this.#what}: ${why}`);
  }
}

async function loginOf(config: HostConfig, access: HostAccess): Promise<SshLogin> {
  const { name, host, port, user, timeoutMs, legacyAlgorithms, knownHostsFile, privateKeyFile } = config;
  if (host === null) throw new PhdError('CONFIG_INVALID', `host ${name} has no address`);
  const password = await access.password();
  const privateKey = await access.privateKey();
  const passphrase = privateKey === null ? null : await access.privateKeyPassphrase();
  if (privateKey !== null)
    checkPrivateKey(privateKey, passphrase, `private key ${privateKeyFile} of host ${name}`);
  return {
    settings: { host, port, user, timeoutMs, legacyAlgorithms },
    password,
    privateKey,
    passphrase,
    hostKeys: new HostKeyCheck(host, port ?? 22, knownHostsFile, (question) => access.askHostKey(question)),
    log: (text) => access.log(text),
  };
}
