/** A session of XenAPI (JSON-RPC 2.0): logged in at the master, wherever it is; renewed once if it ends. */
import { isIP } from 'node:net';
import { z } from 'zod';
import { shownName } from '../../datastore/plain-name.ts';
import { PhdError } from '../../errors.ts';
import type { HostConfig } from '../../model/config.ts';
import type { HostAccess } from '../open-host.ts';
import { type XenFailure, xenError } from './xen-error.ts';
import { memberName, sendRequest } from './xen-line.ts';

/** Who the sessions are for, as the host's log shows it. */
const ORIGINATOR = 'phd';
/** All VMs of a large pool with their templates are some ten megabytes. */
const MAX_ANSWER_BYTES = 128 * 1024 * 1024;
/** An answer ends after so many of the host's limits: a member that sends a byte now and then is as good as dead. */
const MAX_SILENCES = 30;

const rpcAnswer = z.union([
  z.object({ error: z.object({ message: z.string(), data: z.unknown().optional() }) }),
  z.object({ result: z.unknown() }),
]);

export interface CallOptions {
  /** Until its answer begins; default: the host's limit. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

interface Login {
  /** A secret. */
  session: string;
  /** Of the master. */
  address: string;
}

export class XenSession {
  readonly config: HostConfig;
  readonly #access: HostAccess;
  #login: Promise<Login> | null = null;
  #masterAddress: string | null = null;
  #calls = 0;
  /** Password and sessions: a host that repeats one must not bring it into a message. */
  readonly #secrets = new Set<string>();

  constructor(config: HostConfig, access: HostAccess) {
    this.config = config;
    this.#access = access;
  }

  log(text: string): void {
    this.#access.log(text);
  }

  /**
   * Calls a method with the session before `params`. A session that ended, or a master that moved, is followed once: both are
   * answered before anything is done. `doing`: what for, "cannot list its VMs". Throws TARGET_* and what xenError makes of answers.
   */
  async call<Result>(
    method: string,
    params: readonly unknown[],
    schema: z.ZodType<Result>,
    doing: string,
    options: CallOptions = {},
  ): Promise<Result> {
    for (let isFirst = true; ; isFirst = false) {
      const login = await this.login(options.signal);
      const answer = await this.#ask(login.address, method, [login.session, ...params], {
        ...options,
        doing,
      });
      if ('result' in answer) return this.#checked(schema, answer.result, method);
      const { code } = answer.failure;
      if (isFirst && (code === 'SESSION_INVALID' || code === 'HOST_IS_SLAVE')) {
        this.#login = null;
        if (code === 'HOST_IS_SLAVE') this.#masterAddress = this.#masterOf(answer.failure);
        continue;
      }
      throw xenError(answer.failure, `host ${this.config.name}: ${doing}`);
    }
  }

  /** Logs in unless that is done. Throws TARGET_*, HOST_KEY_REFUSED, CONFIG_INVALID, CANCELLED. */
  async login(signal?: AbortSignal): Promise<Login> {
    this.#login ??= this.#logIn(signal);
    try {
      return await this.#login;
    } catch (error) {
      this.#login = null;
      // A master that died is asked for at the member that phd.yaml names.
      this.#masterAddress = null;
      throw error;
    }
  }

  /** Ends the session on the host, which keeps only a few hundred; safe to repeat. */
  async close(): Promise<void> {
    const login = await this.#login?.catch(() => null);
    this.#login = null;
    if (!login) return;
    const answer = await this.#ask(login.address, 'session.logout', [login.session], {}).catch(
      (error: PhdError) => ({ failure: { code: error.message, params: [] } }),
    );
    if ('failure' in answer) this.log(`the session was not ended: ${answer.failure.code}`);
  }

  async #logIn(signal?: AbortSignal): Promise<Login> {
    const { name, host, user } = this.config;
    if (host === null || user === null)
      throw new PhdError('CONFIG_INVALID', `host ${name} has no address or no user`);
    const password = await this.#access.password();
    if (password === null)
      throw new PhdError('CONFIG_INVALID', `host ${name} has no password: XenAPI takes nothing else`);
    this.#secrets.add(password);
    let address = this.#masterAddress ?? host;
    for (let isFirst = true; ; isFirst = false) {
      const words = [user, password, '2.0', ORIGINATOR];
      const answer = await this.#ask(address, 'session.login_with_password', words, { signal });
      if ('result' in answer) {
        const session = this.#checked(z.string().min(1), answer.result, 'session.login_with_password');
        this.#secrets.add(session);
        this.log(`logged in at ${address}${address === host ? '' : ', the master of its pool'}`);
        return { session, address };
      }
      if (!isFirst || answer.failure.code !== 'HOST_IS_SLAVE')
        throw xenError(answer.failure, `${memberName(this.config, address)}: cannot log in as ${user}`);
      address = this.#masterOf(answer.failure);
      this.#masterAddress = address;
    }
  }

  /** The address that a member names; its certificate decides whether it is trusted. */
  #masterOf({ params: [address = ''] }: XenFailure): string {
    if (isIP(address) !== 0 || /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})$/.test(address)) return address;
    throw new PhdError(
      'TARGET_LIED',
      `host ${this.config.name} names ${shownName(address)} as the master of its pool`,
    );
  }

  async #ask(
    address: string,
    method: string,
    params: readonly unknown[],
    { timeoutMs, signal, doing }: CallOptions & { doing?: string },
  ): Promise<{ result: unknown } | { failure: XenFailure }> {
    const what = `${memberName(this.config, address)}: ${method}`;
    const { answer, fail, failure } = await sendRequest(this.config, address, {
      method: 'POST',
      path: '/jsonrpc',
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', method, params, id: ++this.#calls }),
      silenceMs: timeoutMs ?? this.config.timeoutMs,
      ...(doing === undefined ? {} : { doing }),
      signal,
    });
    const response = await answer;
    const parts: Buffer[] = [];
    let bytes = 0;
    const limitMs = MAX_SILENCES * this.config.timeoutMs;
    const tooLong = new PhdError(
      'TARGET_UNREACHABLE',
      `${what}: its answer did not end within ${limitMs} ms`,
    );
    const timer = setTimeout(() => fail(tooLong), limitMs);
    try {
      for await (const part of response as AsyncIterable<Buffer>) {
        bytes += part.length;
        if (bytes > MAX_ANSWER_BYTES)
          fail(new PhdError('TARGET_LIED', `${what}: the answer has more than ${MAX_ANSWER_BYTES} bytes`));
        parts.push(part);
      }
    } catch (error) {
      throw failure() ?? new PhdError('TARGET_UNREACHABLE', `${what}: ${(error as Error).message}`);
    } finally {
      clearTimeout(timer);
    }
    if (response.statusCode !== 200)
      throw new PhdError('TARGET_REFUSED', `${what}: it answers HTTP ${response.statusCode}`);
    const told = parseAnswer(Buffer.concat(parts).toString('utf8'), what);
    if ('result' in told) return told;
    const { code, params: words } = told.failure;
    return { failure: { code: this.#redacted(code), params: words.map((word) => this.#redacted(word)) } };
  }

  #checked<Result>(schema: z.ZodType<Result>, value: unknown, method: string): Result {
    const parsed = schema.safeParse(value);
    if (parsed.success) return parsed.data;
    const [issue] = parsed.error.issues;
    const where = issue === undefined ? '' : ` at ${issue.path.join('.')}: ${issue.message}`;
    throw new PhdError(
      'TARGET_LIED',
      `host ${this.config.name}: ${method} answers what cannot be read${shownName(this.#redacted(where))}`,
    );
  }

  #redacted(text: string): string {
    let shown = text;
    for (const secret of this.#secrets) if (secret !== '') shown = shown.replaceAll(secret, '***');
    return shown;
  }
}

function parseAnswer(text: string, what: string): { result: unknown } | { failure: XenFailure } {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new PhdError('TARGET_LIED', `${what}: the answer is no JSON`, { cause: error });
  }
  const answer = rpcAnswer.safeParse(parsed);
  if (!answer.success) throw new PhdError('TARGET_LIED', `${what}: the answer is no JSON-RPC`);
  if ('result' in answer.data) return { result: answer.data.result };
  const { message, data } = answer.data.error;
  return { failure: { code: message, params: Array.isArray(data) ? data.map(String) : [] } };
}
