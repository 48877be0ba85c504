/**
 * One FTP connection (basic-ftp). Login, TLS, directory listings and control replies are the package's; data
 * transfers use its documented parts (`prepareTransfer`, `ftp.handle`) so that a read can stop in the middle
 * without losing the connection and a failed upload learns the server's reason before it is classified.
 */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { Client, FTPError, type FTPResponse } from 'basic-ftp';
import { PhdError, throwIfAborted } from '../errors.ts';
import type { TargetSettings } from '../model/target.ts';
import { withAdvice } from './connect-advice.ts';
import { parseLines } from './ftp-listing.ts';
import { type Line, NoMoreLines } from './line-pool.ts';
import { chunksWithin } from './resuming-read.ts';
import type { Listing, StorageEntry } from './storage.ts';
import { checkCertificate, tlsOptions } from './tls.ts';

const KEEPALIVE_MS = 15_000;
const MAX_LISTING_BYTES = 256 * 1024 * 1024;
/** How long a server may take to say why it closed the data connection. */
const REPLY_AFTER_FAILURE_MS = 5_000;
/** Replies kept for messages. */
const SHOWN_REPLY_CHARACTERS = 300;

export interface FtpLogin {
  settings: TargetSettings;
  password: string | null;
  log: (text: string) => void;
}

interface Transfer {
  socket: Socket;
  /** The server is ready for data, or refuses. */
  started: Promise<void>;
  /** The data connection is encrypted; undefined without TLS. */
  secured: Promise<unknown> | undefined;
  reply: Promise<FTPResponse>;
}

export class FtpLine implements Line {
  readonly #client: Client;
  readonly #login: FtpLogin;
  readonly #what: string;
  /** Folder the account lands in; relative roots hang there. */
  homeFolder = '/';
  /** Greeting and SYST, for warnings about servers with known faults. */
  banner = '';
  #lastReply = '';
  #dataError: Error | undefined;
  #isTransferring = false;
  /** Fires with the error when the control connection is lost during a transfer. */
  #lost = new AbortController();
  /** We closed the data connection, and the transfer had begun. */
  #hasStopped = false;

  private constructor(login: FtpLogin) {
    this.#login = login;
    this.#what = `${login.settings.host}:${login.settings.port ?? 21}`;
    this.#client = new Client(login.settings.timeoutMs, {
      allowSeparateTransferHost: false,
      maxListingBytes: MAX_LISTING_BYTES,
    });
    const context = this.#client.ftp;
    context.log = (message) => this.#onLog(message);
    const closeWithError = context.closeWithError.bind(context);
    context.closeWithError = (error) => {
      // The control connection still has the reason to tell.
      if (
        this.#isTransferring &&
        /\((data socket)\)$/.test(error.message) &&
        !/^Timeout/.test(error.message)
      ) {
        this.#dataError ??= error;
        return;
      }
      // Takes all listeners off the data connection: whoever waits on it must hear of it in another way.
      closeWithError(error);
      this.#lost.abort(error);
    };
  }

  /** Connects, checks the certificate before any secret is sent, logs in. Throws PhdError or NoMoreLines. */
  static async open(login: FtpLogin): Promise<FtpLine> {
    const line = new FtpLine(login);
    try {
      await line.#access();
      return line;
    } catch (error) {
      line.close();
      if (error instanceof FTPError && error.code === 421) {
        throw new NoMoreLines(`${line.#what} has no room for one more connection: ${line.#shown(error)}`);
      }
      throw line.translated(error, 'cannot log in');
    }
  }

  get usable(): boolean {
    return !this.#client.closed && !this.#isTransferring;
  }

  close(): void {
    this.#client.close();
  }

  async #access(): Promise<void> {
    const { settings, password } = this.#login;
    const client = this.#client;
    const host = settings.host ?? 'localhost';
    const greeting = await client.connect(host, settings.port ?? 21);
    client.ftp.socket.setKeepAlive(true, KEEPALIVE_MS);
    if (settings.tls === 'explicit') await this.#startTls(host);
    await client.sendIgnoringError('OPTS UTF8 ON');
    await client.login(settings.user ?? 'anonymous', password ?? '');
    await client.useDefaultSettings();
    this.homeFolder = await client.pwd();
    const system = await client.sendIgnoringError('SYST');
    this.banner = `${greeting.message}\n${system.message}`;
  }

  async #startTls(host: string): Promise<void> {
    const { settings } = this.#login;
    try {
      await this.#client.useTLS(tlsOptions(settings, host));
    } catch (error) {
      if (!(error instanceof FTPError)) throw error;
      const words = `${this.#what} does not offer TLS (${this.#shown(error)}); clear text is not used instead`;
      throw new PhdError('TARGET_REFUSED', words, { cause: error });
    }
    const socket = this.#client.ftp.socket as TLSSocket;
    this.#checkCertificate(socket);
    socket.setKeepAlive(true, KEEPALIVE_MS);
  }

  /** Throws HOST_KEY_REFUSED. A resumed session is that of a connection already checked. */
  #checkCertificate(socket: TLSSocket): void {
    const { tlsPin } = this.#login.settings;
    checkCertificate(socket, tlsPin === null ? [] : [tlsPin], this.#what);
  }

  #onLog(message: string): void {
    if (!message.startsWith('< ')) return;
    this.#lastReply = message.slice(2, 2000).trim();
    this.#login.log(this.#redacted(`${this.#what} ${this.#lastReply}`));
  }

  /** Sends one command; replies of 400 and more throw FTPError. */
  send(command: string): Promise<FTPResponse> {
    return this.#client.send(command);
  }

  /** Size of a file, undefined if the server says it has none by that name, null if it cannot tell sizes. */
  async size(path: string): Promise<number | undefined | null> {
    try {
      const reply = await this.send(`SIZE ${path}`);
      const digits = /^213[ -](\d{1,16})\s*/.exec(reply.message)?.[1];
      const bytes = digits === undefined ? Number.NaN : Number(digits);
      return Number.isSafeInteger(bytes) ? bytes : null;
    } catch (error) {
      if (error instanceof FTPError && error.code === 550) return undefined;
      if (error instanceof FTPError && error.code !== 421) return null;
      throw error;
    }
  }

  /** Lists a folder after changing into it: arguments of LIST would be patterns. CWD refused: FTPError. */
  async list(folder: string): Promise<Listing> {
    const client = this.#client;
    await client.send(`CWD ${folder}`);
    let badLines = 0;
    const parseDefault = client.parseList;
    const listing: { entries: StorageEntry[] } = { entries: [] };
    client.parseList = (raw) => {
      const parsed = parseLines(raw, parseDefault);
      badLines = parsed.badLines;
      listing.entries = parsed.entries;
      return [];
    };
    try {
      await client.list();
    } finally {
      client.parseList = parseDefault;
    }
    const wasCut = /truncat|limit|too many|partial|incomplete|abort/i.test(this.#lastReply);
    return { entries: listing.entries, complete: badLines === 0 && !wasCut };
  }

  /** Bytes from `offset`; breaking off keeps the connection if the server plays along. */
  async *retrieve(path: string, offset: number, signal?: AbortSignal): AsyncGenerator<Buffer> {
    const { socket, started, reply } = await this.#begin(`RETR ${path}`, offset);
    const onAbort = (): void => void socket.destroy();
    signal?.addEventListener('abort', onAbort, { once: true });
    let hasStarted = false;
    try {
      await started;
      hasStarted = true;
      yield* chunksWithin(socket, this.#login.settings.timeoutMs, this.#what, this.#lost.signal);
      if (this.#dataError !== undefined) throw this.#dataError;
      throwIfAborted(signal);
      const answer = await this.#settled(reply);
      if (answer instanceof FTPError) throw answer;
    } catch (error) {
      await this.#reasonOf(reply, error);
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.#hasStopped = hasStarted;
      socket.destroy();
      if ((await this.#settled(reply)) === undefined) this.close();
      this.#isTransferring = false;
      this.#client.ftp.dataSocket = undefined;
    }
  }

  /**
   * Stores what `source` yields with STOR (from `offset` if it is not 0) or APPE. The reply counts for nothing
   * yet: the caller proves what arrived.
   */
  async store(
    command: 'STOR' | 'APPE',
    path: string,
    offset: number,
    source: AsyncIterable<Uint8Array>,
    signal?: AbortSignal,
  ): Promise<void> {
    const { socket, started, secured, reply } = await this.#begin(`${command} ${path}`, offset);
    const onAbort = (): void => void socket.destroy();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await started;
      if (secured !== undefined) await within(secured, this.#login.settings.timeoutMs, this.#what);
      if (this.#dataError !== undefined) throw this.#dataError;
      for await (const chunk of source) {
        if (!socket.write(chunk)) await this.#untilDrained(socket);
        if (this.#dataError !== undefined) throw this.#dataError;
        throwIfAborted(signal);
      }
      socket.end();
      this.#client.ftp.socket.setTimeout(this.#login.settings.timeoutMs);
      await reply;
      if (this.#dataError !== undefined) throw this.#dataError;
    } catch (error) {
      throwIfAborted(signal);
      await this.#reasonOf(reply, error);
    } finally {
      signal?.removeEventListener('abort', onAbort);
      socket.destroy();
      if ((await this.#settled(reply)) === undefined) this.close();
      this.#isTransferring = false;
      this.#client.ftp.dataSocket = undefined;
    }
  }

  async #begin(command: string, offset: number): Promise<Transfer> {
    const client = this.#client;
    this.#dataError = undefined;
    this.#hasStopped = false;
    this.#lost = new AbortController();
    await client.prepareTransfer(client.ftp);
    const socket = client.ftp.dataSocket;
    if (socket === undefined) throw new PhdError('TARGET_UNREACHABLE', `${this.#what}: no data connection`);
    this.#isTransferring = true;
    socket.setKeepAlive(true, KEEPALIVE_MS);
    socket.on('error', (error) => {
      this.#dataError ??= error;
    });
    let secured: Promise<unknown> | undefined;
    if (this.#login.settings.tls === 'explicit') {
      this.#watchDataCertificate(socket as TLSSocket);
      secured = once(socket, 'secureConnect');
      secured.catch(() => undefined);
    }
    try {
      if (offset > 0) await client.send(`REST ${offset}`);
    } catch (error) {
      this.#isTransferring = false;
      throw error;
    }
    let begin: () => void = () => undefined;
    let fail: (error: Error) => void = () => undefined;
    const started = new Promise<void>((resolve, reject) => {
      begin = resolve;
      fail = reject;
    });
    started.catch(() => undefined);
    const reply: Promise<FTPResponse> = client.ftp.handle(command, (response, task) => {
      if (response instanceof Error) {
        fail(response);
        task.reject(response);
      } else if (!this.#hasStopped && (response.code === 150 || response.code === 125)) {
        // The data connection has its own time limits from here on.
        client.ftp.socket.setTimeout(0);
        begin();
      } else if (response.code >= 200 || this.#hasStopped) {
        // Pure-FTPd closes a download that was broken off with a second reply of the 100s.
        begin();
        task.resolve(response);
      }
    });
    reply.catch(() => undefined);
    return { socket, started, secured, reply };
  }

  #watchDataCertificate(socket: TLSSocket): void {
    const check = (): void => {
      if (socket.isSessionReused()) return;
      try {
        this.#checkCertificate(socket);
      } catch (error) {
        this.#dataError = error as Error;
        socket.destroy();
      }
    };
    socket.once('secureConnect', check);
  }

  async #untilDrained(socket: Socket): Promise<void> {
    if (socket.destroyed) return;
    const stop = new AbortController();
    const ends = AbortSignal.any([stop.signal, this.#lost.signal]);
    const events = ['drain', 'close'].map((event) => once(socket, event, { signal: ends }));
    for (const event of events) event.catch(() => undefined);
    try {
      await within(Promise.race(events), this.#login.settings.timeoutMs, this.#what);
    } finally {
      stop.abort();
    }
    if (socket.destroyed) throw this.#dataError ?? new Error('data connection closed');
  }

  /** Always throws: the server's own reply if it comes, else `error`. */
  async #reasonOf(reply: Promise<FTPResponse>, error: unknown): Promise<never> {
    if (error instanceof PhdError && error.code !== 'TARGET_UNREACHABLE') throw error;
    const answer = error instanceof FTPError ? error : await this.#settled(reply);
    throw answer instanceof FTPError ? answer : error;
  }

  /** The final reply, the error it ended with, or undefined if none came in time. */
  async #settled(reply: Promise<FTPResponse>): Promise<FTPResponse | Error | undefined> {
    const limit = Math.min(REPLY_AFTER_FAILURE_MS, this.#login.settings.timeoutMs);
    return within(
      reply.catch((error: Error) => error),
      limit,
      this.#what,
    ).catch(() => undefined);
  }

  /** Foreign errors of this connection as PhdError; passwords never pass. */
  translated(error: unknown, doing: string): PhdError {
    if (error instanceof PhdError) return error;
    const words = `${this.#what}: ${doing}: ${this.#shown(error)}`;
    // Its stack and message may quote what the server echoed; only its kind is kept.
    const cause = error instanceof FTPError ? { code: error.code } : undefined;
    return new PhdError(codeOf(error), words, cause ? { cause } : {});
  }

  #shown(error: unknown): string {
    const text = error instanceof Error ? error.message : String(error);
    const words = this.#redacted(text.replace(/\s+/g, ' ').slice(0, SHOWN_REPLY_CHARACTERS));
    return error instanceof Error ? withAdvice(error, words) : words;
  }

  #redacted(text: string): string {
    const { password } = this.#login;
    return password ? text.replaceAll(password, '***') : text;
  }
}

function codeOf(error: unknown): PhdError['code'] {
  if (!(error instanceof FTPError)) return 'TARGET_UNREACHABLE';
  if (error.code === 452 || error.code === 552) return 'NO_SPACE';
  // vsftpd answers a failed write of its own with these words; a full disk is nearly always why.
  if (error.code === 451 && /space|full|quota|writing to local file/i.test(error.message)) return 'NO_SPACE';
  if (error.code === 421 || error.code === 425 || error.code === 426) return 'TARGET_UNREACHABLE';
  if (error.code === 550 && /no such|not found|not exist|can't find/i.test(error.message)) return 'NOT_FOUND';
  return 'TARGET_REFUSED';
}

/** Rejects with TARGET_UNREACHABLE if `work` takes longer. */
async function within<T>(work: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new PhdError('TARGET_UNREACHABLE', `${what}: no answer within ${timeoutMs} ms`);
    timer = setTimeout(() => reject(error), timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
