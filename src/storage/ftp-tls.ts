/** Explicit TLS to an FTP server: what is offered, and whose certificate counts. */
import { createHash } from 'node:crypto';
import { isIP } from 'node:net';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { PhdError } from '../errors.ts';
import type { TargetSettings } from '../model/target.ts';

/** Options of the control connection; data connections take them over. */
export function tlsOptions(settings: TargetSettings, host: string): ConnectionOptions {
  return {
    host,
    // Judged by `checkCertificate`, by pin or by the result of the usual check, before a secret is sent.
    rejectUnauthorized: false,
    ...(isIP(host) ? {} : { servername: host }),
    ...(settings.legacyAlgorithms ? { minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' } : {}),
  };
}

/** The pinned certificate, or one the CAs vouch for; else HOST_KEY_REFUSED. `pin`: SHA-256 in hex, colons allowed. */
export function checkCertificate(socket: TLSSocket, pin: string | null, what: string): void {
  const raw = socket.getPeerCertificate()?.raw;
  const fingerprint = raw ? createHash('sha256').update(raw).digest('hex') : '';
  if (pin !== null) {
    if (pin.replaceAll(':', '').toLowerCase() === fingerprint) return;
    const found = `it shows SHA-256 ${fingerprint || 'none'}`;
    throw new PhdError('HOST_KEY_REFUSED', `${what}: the certificate is not the pinned one: ${found}`);
  }
  if (socket.authorized) return;
  const why = String(socket.authorizationError);
  const advice = `if it is the right one, pin it: SHA-256 ${fingerprint}`;
  throw new PhdError('HOST_KEY_REFUSED', `${what}: the certificate is not trusted (${why}); ${advice}`);
}
