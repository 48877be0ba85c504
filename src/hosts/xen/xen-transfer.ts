/** Uploads and downloads by the handlers of XenAPI: over the member that sees the storage, and proved by the host's own task. */
import type { IncomingMessage } from 'node:http';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';
import type { z } from 'zod';
import { shownName } from '../../datastore/plain-name.ts';
import { fromErrno, PhdError, throwIfAborted } from '../../errors.ts';
import { isTellingCode, xenError } from './xen-error.ts';
import { sendRequest, type XenExchange } from './xen-line.ts';
import { hostRecord, nothing, recordsOf, ref, taskRecord } from './xen-records.ts';
import type { XenSession } from './xen-session.ts';

/** How long hosts are waited for. A chain of snapshots may have to be put together before an export begins. */
export interface XenWaits {
  firstByteMs: number;
  silenceMs: number;
  /** After an upload or download, for the task to say how it ended. */
  taskMs: number;
  /** A member that sends uploads elsewhere says so before it reads; one that says nothing is sent the body after this. */
  redirectMs: number;
}

export const XEN_WAITS: XenWaits = {
  firstByteMs: 30 * 60_000,
  silenceMs: 5 * 60_000,
  taskMs: 30 * 60_000,
  redirectMs: 3_000,
};
const MOST_REDIRECTS = 3;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2_000;

export type Query = Readonly<Record<string, string>>;

export interface TransferOptions {
  /** The thing and what is done to it: "cannot read xvda of web". */
  doing: string;
  signal?: AbortSignal;
}

/** What is sent: made anew for each try, since a member may send us to another after the first bytes. */
export interface Upload {
  sizeBytes: number;
  open(): Readable;
}

type Task = z.infer<typeof taskRecord>;

export class XenTransfers {
  readonly #session: XenSession;
  readonly #waits: XenWaits;

  constructor(session: XenSession, waits: XenWaits = XEN_WAITS) {
    this.#session = session;
    this.#waits = waits;
  }

  /**
   * Reads a handler to its end. `onPart` takes each part before the next is read. The bytes count only once this returns: then the
   * host has said that the whole of it was sent. Throws TARGET_*, CANCELLED, what xenError makes of the task, what `onPart` throws.
   */
  async download(
    handler: string,
    query: Query,
    onPart: (part: Buffer) => Promise<void> | void,
    options: TransferOptions,
  ): Promise<void> {
    await this.#withTask(options, async (task) => {
      const exchange = await this.#send('GET', handler, { ...query, task_id: task }, null, options);
      const response = await exchange.answer;
      exchange.setSilence(this.#waits.silenceMs);
      try {
        for await (const part of response as AsyncIterable<Buffer>) await onPart(part);
      } catch (error) {
        const own = error instanceof PhdError ? error : exchange.failure();
        exchange.fail(own ?? new PhdError('CANCELLED', 'cancelled'));
        throw own ?? this.#dead(options, (error as Error).message);
      }
    });
  }

  /** Writes to a handler, with its length, for chunked uploads are refused. What the task says at its end. Throws as `download`. */
  async upload(handler: string, query: Query, body: Upload, options: TransferOptions): Promise<string> {
    const task = await this.#withTask(options, async (id) => {
      const exchange = await this.#send('PUT', handler, { ...query, task_id: id }, body, options);
      (await exchange.answer).resume();
    });
    return task.result;
  }

  /** Runs a transfer under a task of its own, which then has to end well. */
  async #withTask(options: TransferOptions, work: (task: string) => Promise<void>): Promise<Task> {
    const { doing, signal } = options;
    const task = await this.#session.call('task.create', ['phd', doing.slice(0, 200)], ref, doing, {
      signal,
    });
    try {
      await work(task);
      return await this.#ended(task, options);
    } catch (error) {
      throw await this.#reason(task, error, doing);
    } finally {
      await this.#forget(task);
    }
  }

  /** Waits until a task has ended. Throws unless it ended well. */
  async #ended(task: string, { doing, signal }: TransferOptions): Promise<Task> {
    const endMs = performance.now() + this.#waits.taskMs;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      const found = await this.#session.call('task.get_record', [task], taskRecord, doing, { signal });
      if (found.status === 'success') return found;
      if (found.status === 'failure' || found.status === 'cancelled') throw this.#failureOf(found, doing);
      if (performance.now() > endMs)
        throw this.#dead({ doing }, 'the host does not say how it ended: its task is still under way');
      await pause(pauseMs, undefined, { signal }).catch(() => throwIfAborted(signal));
    }
  }

  #failureOf({ status, error_info: [code, ...params] }: Task, doing: string): PhdError {
    const failure = { code: code ?? (status === 'cancelled' ? 'TASK_CANCELLED' : 'INTERNAL_ERROR'), params };
    return xenError(failure, `host ${this.#session.config.name}: ${doing}`);
  }

  /** A line that broke tells less than the task, if that has failed for a reason of its own. */
  async #reason(task: string, error: unknown, doing: string): Promise<PhdError> {
    const own = fromErrno(error, doing);
    if (own.code !== 'TARGET_UNREACHABLE' && own.code !== 'TARGET_REFUSED') return own;
    try {
      const found = await this.#session.call('task.get_record', [task], taskRecord, doing);
      const [code = ''] = found.error_info;
      if (found.status === 'failure' && isTellingCode(code)) return this.#failureOf(found, doing);
    } catch (failure) {
      this.#session.log(`no word of the task: ${(failure as Error).message}`);
    }
    return own;
  }

  /** What is still under way is called off; tasks that nobody removes stay until the host restarts. */
  async #forget(task: string): Promise<void> {
    try {
      const { status } = await this.#session.call(
        'task.get_record',
        [task],
        taskRecord,
        'cannot see its task',
      );
      if (status === 'pending')
        await this.#session.call('task.cancel', [task], nothing, 'cannot call its task off');
      await this.#session.call('task.destroy', [task], nothing, 'cannot remove its task');
    } catch (error) {
      this.#session.log((error as Error).message);
    }
  }

  /** The exchange whose answer is 200, at the member that has what is asked for. */
  async #send(
    method: 'GET' | 'PUT',
    handler: string,
    query: Query,
    body: Upload | null,
    options: TransferOptions,
  ): Promise<XenExchange> {
    const { session, address: master } = await this.#session.login(options.signal);
    let address = master;
    for (let redirects = 0; ; redirects++) {
      const words = new URLSearchParams({ ...query, session_id: session });
      const exchange = await sendRequest(this.#session.config, address, {
        method,
        path: `${handler}?${words}`,
        headers: body === null ? {} : { 'content-length': body.sizeBytes },
        silenceMs: this.#waits.firstByteMs,
        signal: options.signal,
      });
      if (body === null) exchange.request.end();
      else await this.#sendBody(exchange, body);
      const response = await this.#answerOf(exchange, options);
      if (response.statusCode === 200) return exchange;
      response.resume();
      if (response.statusCode !== 302) {
        exchange.fail(this.#dead(options, 'refused'));
        throw this.#refused(response, options);
      }
      exchange.fail(this.#dead(options, 'sent elsewhere'));
      if (redirects === MOST_REDIRECTS)
        throw this.#refusal(options, 'its members send us from one to the other');
      address = await this.#memberOf(response.headers.location ?? '', handler, options);
    }
  }

  /** Where an upload goes is told before its body is read: it is waited for, but not for ever. */
  async #sendBody(exchange: XenExchange, body: Upload): Promise<void> {
    const early = await Promise.race([
      exchange.answer.catch(() => null),
      pause(this.#waits.redirectMs, undefined, { ref: false }),
    ]);
    if (early === null || (early !== undefined && early.statusCode !== 200)) return;
    const stop = new AbortController();
    // An answer that is no leave to go on ends the sending.
    exchange.answer.then(
      ({ statusCode }) => statusCode === 200 || stop.abort(),
      () => stop.abort(),
    );
    const source = body.open();
    let fault: PhdError | null = null;
    source.once('error', (error) => {
      fault = fromErrno(error, 'what is to be sent cannot be read');
    });
    try {
      await pipeline(source, exactly(body.sizeBytes), exchange.request, { signal: stop.signal });
    } catch (error) {
      fault ??= error instanceof PhdError && error.code === 'SOURCE_CHANGED' ? error : null;
      // Else the line or the answer tells what happened.
      if (fault !== null) exchange.fail(fault);
    }
  }

  async #answerOf(exchange: XenExchange, options: TransferOptions): Promise<IncomingMessage> {
    try {
      return await exchange.answer;
    } catch (error) {
      const failure = fromErrno(error, options.doing);
      throw failure.code === 'TARGET_UNREACHABLE' ? this.#dead(options, failure.message) : failure;
    }
  }

  /** Only members of the pool are trusted with the session. Throws TARGET_LIED. */
  async #memberOf(location: string, handler: string, options: TransferOptions): Promise<string> {
    const { doing, signal } = options;
    const url = URL.canParse(location) ? new URL(location) : null;
    const members = await this.#session.call('host.get_all_records', [], recordsOf(hostRecord), doing, {
      signal,
    });
    const address = url?.hostname.replace(/^\[|\]$/g, '') ?? '';
    const isMember = Object.values(members).some((one) => one.address.toLowerCase() === address);
    if (url?.protocol === 'https:' && url.pathname === handler && isMember) return address;
    throw new PhdError(
      'TARGET_LIED',
      `host ${this.#session.config.name}: ${doing}: it sends us to ${shownName(`${url?.protocol ?? ''}//${address}${url?.pathname ?? ''}`)}, which is no member of its pool`,
    );
  }

  #refused(response: IncomingMessage, options: TransferOptions): PhdError {
    const why =
      response.statusCode === 404
        ? 'it does not know this, or not in this format'
        : `it answers HTTP ${response.statusCode} ${shownName(response.statusMessage ?? '')}`;
    return this.#refusal(options, why);
  }

  #refusal({ doing }: TransferOptions, why: string): PhdError {
    return new PhdError('TARGET_REFUSED', `host ${this.#session.config.name}: ${doing}: ${why}`);
  }

  #dead({ doing }: Pick<TransferOptions, 'doing'>, why: string): PhdError {
    return new PhdError('TARGET_UNREACHABLE', `host ${this.#session.config.name}: ${doing}: ${why}`);
  }
}

/** Lets so many bytes through, neither more nor fewer: SOURCE_CHANGED. */
function exactly(sizeBytes: number): Transform {
  let bytes = 0;
  const wrong = (): PhdError =>
    new PhdError('SOURCE_CHANGED', `what is sent has not ${sizeBytes} bytes, as it had`);
  return new Transform({
    transform(part: Buffer, _encoding, done) {
      bytes += part.length;
      if (bytes > sizeBytes) done(wrong());
      else done(null, part);
    },
    flush: (done) => done(bytes === sizeBytes ? null : wrong()),
  });
}
