/** A health ping: an address that is asked at the begin of a run (`/start`), after it, or after a failure (`/fail`). */
import { PhdError } from '../errors.ts';

const TIMEOUT_MS = 10_000;
const TRIES = 3;
const PAUSE_MS = 2_000;

export type PingKind = 'start' | 'success' | 'fail';

/** Throws TARGET_UNREACHABLE, TARGET_REFUSED, CONFIG_INVALID; no message tells the address, which is a secret. */
export async function ping(
  url: string,
  kind: PingKind,
  body: string,
  wait: (milliseconds: number) => Promise<void>,
): Promise<void> {
  const address = addressOf(url, kind);
  for (let attempt = 1; ; attempt++) {
    try {
      const answer = await fetch(address, {
        method: 'POST',
        body,
        headers: { 'content-type': 'text/plain; charset=utf-8' },
        redirect: 'error',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      await answer.body?.cancel();
      if (answer.ok) return;
      throw new PhdError('TARGET_REFUSED', `health ping of ${address.host}: it answers ${answer.status}`, {
        retryable: answer.status >= 500,
      });
    } catch (error) {
      const failure =
        error instanceof PhdError
          ? error
          : new PhdError('TARGET_UNREACHABLE', `health ping of ${address.host}: ${reasonOf(error)}`);
      if (attempt >= TRIES || !failure.retryable) throw failure;
      await wait(PAUSE_MS * attempt);
    }
  }
}

function addressOf(url: string, kind: PingKind): URL {
  let address: URL;
  try {
    address = new URL(url);
  } catch {
    throw new PhdError('CONFIG_INVALID', 'the address of the health ping is none');
  }
  if (address.protocol !== 'https:' && address.protocol !== 'http:')
    throw new PhdError('CONFIG_INVALID', 'the address of the health ping is neither http nor https');
  if (kind !== 'success') address.pathname = `${address.pathname.replace(/\/$/, '')}/${kind}`;
  return address;
}

/** Words of the system alone: those of fetch may hold the address. */
function reasonOf(error: unknown): string {
  const { name, cause } = error as { name?: string; cause?: { code?: string } };
  if (name === 'TimeoutError') return `no answer within ${TIMEOUT_MS / 1000} s`;
  return cause?.code ?? 'no connection';
}
