/** One HTTPS request to a member of a pool: its certificate is judged before anything is sent. */
import http from 'node:http';
import { isIP } from 'node:net';
import tls from 'node:tls';
import { PhdError, throwIfAborted } from '../../errors.ts';
import type { HostConfig } from '../../model/config.ts';
import { withAdvice } from '../../storage/connect-advice.ts';
import { checkCertificate, tlsOptions } from '../../storage/tls.ts';

export const XEN_PORT = 443;

export interface XenRequest {
  method: 'GET' | 'POST' | 'PUT';
  /** With its query; it may hold the session, so it is never shown. */
  path: string;
  headers?: Record<string, string | number>;
  /** Sent at once; left out: the caller writes into `request` and ends it. */
  body?: Buffer | string;
  /** Until the answer begins, and between two parts of it. */
  silenceMs: number;
  /** What for, for messages: "cannot list its VMs". */
  doing?: string;
  signal?: AbortSignal;
}

export interface XenExchange {
  request: http.ClientRequest;
  /** Throws TARGET_UNREACHABLE, CANCELLED. */
  answer: Promise<http.IncomingMessage>;
  /** How long the host may be silent from now on. */
  setSilence(silenceMs: number): void;
  /** Closes the connection; `answer` and whoever reads it learn the reason. */
  fail(error: PhdError): void;
  /** Why the exchange was ended, if it was. */
  failure(): PhdError | null;
}

/** How members are named in addresses: IPv6 in brackets. */
export function hostWord(address: string): string {
  return isIP(address) === 6 ? `[${address}]` : address;
}

/** A member as messages name it. */
export function memberName(config: HostConfig, address: string): string {
  return `host ${config.name} (${hostWord(address)}:${config.port ?? XEN_PORT})`;
}

/** Connects and sends the head of the request. Throws TARGET_UNREACHABLE, HOST_KEY_REFUSED, CANCELLED. */
export async function sendRequest(
  config: HostConfig,
  address: string,
  { method, path, headers = {}, body, silenceMs, doing, signal }: XenRequest,
): Promise<XenExchange> {
  const what = `${memberName(config, address)}${doing === undefined ? '' : `: ${doing}`}`;
  const socket = await openTls(config, address, what, signal);
  let failure: PhdError | null = null;
  const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) };
  const request = http.request({
    createConnection: () => socket,
    method,
    path,
    headers: {
      host: `${hostWord(address)}:${config.port ?? XEN_PORT}`,
      connection: 'close',
      ...length,
      ...headers,
    },
  });
  const fail = (error: PhdError): void => {
    failure ??= error;
    request.destroy(failure);
  };
  const onAbort = (): void => fail(new PhdError('CANCELLED', 'cancelled'));
  signal?.addEventListener('abort', onAbort, { once: true });
  socket.once('close', () => signal?.removeEventListener('abort', onAbort));
  let limitMs = silenceMs;
  socket.setTimeout(limitMs);
  socket.on('timeout', () =>
    fail(new PhdError('TARGET_UNREACHABLE', `${what}: no answer within ${limitMs} ms`)),
  );
  const setSilence = (ms: number): void => {
    limitMs = ms;
    socket.setTimeout(limitMs);
  };
  const answer = new Promise<http.IncomingMessage>((resolve, reject) => {
    request.once('response', resolve);
    request.on('error', (error) => {
      const isCut = error.message === 'socket hang up' || (error as NodeJS.ErrnoException).code === 'EPIPE';
      const words = isCut ? 'the connection was cut' : error.message;
      failure ??= new PhdError('TARGET_UNREACHABLE', `${what}: ${words}`, { cause: error });
      reject(failure);
    });
  });
  // Whoever sends a body looks at it only later.
  answer.catch(() => undefined);
  if (body === undefined) request.flushHeaders();
  else request.end(body);
  return { request, answer, fail, setSilence, failure: () => failure };
}

async function openTls(
  config: HostConfig,
  address: string,
  what: string,
  signal?: AbortSignal,
): Promise<tls.TLSSocket> {
  throwIfAborted(signal);
  const pins = [...(config.tlsPin === null ? [] : [config.tlsPin]), ...config.memberTlsPins];
  const socket = tls.connect({ ...tlsOptions(config, address), port: config.port ?? XEN_PORT });
  let timer: NodeJS.Timeout | undefined;
  let onAbort = (): void => undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const dead = (why: string): void => reject(new PhdError('TARGET_UNREACHABLE', `${what}: ${why}`));
      timer = setTimeout(() => dead(`no answer within ${config.timeoutMs} ms`), config.timeoutMs);
      onAbort = () => reject(new PhdError('CANCELLED', 'cancelled'));
      signal?.addEventListener('abort', onAbort, { once: true });
      socket.once('secureConnect', resolve);
      socket.once('error', (error) => dead(withAdvice(error)));
      socket.once('close', () => dead('the connection was closed'));
    });
    checkCertificate(socket, pins, what);
  } catch (error) {
    socket.on('error', () => undefined);
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    socket.removeAllListeners('secureConnect');
    socket.removeAllListeners('close');
    socket.removeAllListeners('error');
  }
  return socket;
}
