/** TLS to a server: what is offered, and whose certificate counts. */
import { createHash } from 'node:crypto';
import { isIP } from 'node:net';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { PhdError } from '../errors.ts';
import type { TargetSettings } from '../model/target.ts';

/** Options of a connection; FTP's data connections take over those of the control connection. */
export function tlsOptions(
  settings: Pick<TargetSettings, 'legacyAlgorithms'>,
  host: string,
): ConnectionOptions {
  return {
    host,
    // Judged by `checkCertificate`, by pin or by the result of the usual check, before a secret is sent.
    rejectUnauthorized: false,
    ...(isIP(host) ? {} : { servername: host }),
    ...(settings.legacyAlgorithms ? { minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' } : {}),
  };
}

/** One of the pinned certificates, or, without pins, one the CAs vouch for; else HOST_KEY_REFUSED. Pins: SHA-256 in hex, colons allowed. */
export function checkCertificate(socket: TLSSocket, pins: readonly string[], what: string): void {
  const raw = socket.getPeerCertificate()?.raw;
  const fingerprint = raw ? createHash('sha256').update(raw).digest('hex') : '';
  if (pins.length > 0) {
    if (pins.some((pin) => pin.replaceAll(':', '').toLowerCase() === fingerprint)) return;
    const which = pins.length === 1 ? 'the pinned one' : `one of the ${pins.length} pinned ones`;
    const found = `it shows SHA-256 ${fingerprint || 'none'}`;
    throw new PhdError('HOST_KEY_REFUSED', `${what}: the certificate is not ${which}: ${found}`);
  }
  if (socket.authorized) return;
  const why = String(socket.authorizationError);
  const advice = `if it is the right one, pin it: SHA-256 ${fingerprint}`;
  throw new PhdError('HOST_KEY_REFUSED', `${what}: the certificate is not trusted (${why}); ${advice}`);
}
