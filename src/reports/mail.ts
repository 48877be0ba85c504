/** Mail by SMTP: STARTTLS that never falls back, login, further tries with growing pauses. */
import { readFile } from 'node:fs/promises';
import { createTransport } from 'nodemailer';
import { fromErrno, PhdError } from '../errors.ts';
import type { MailSettings } from '../model/config.ts';

/** Before the second try; each further pause is four times as long. */
const FIRST_PAUSE_MS = 15_000;

export interface Letter {
  subject: string;
  text: string;
  /** The run, for programs. */
  json: string;
}

export interface MailHooks {
  password: string | null;
  /** Waits between tries. Throws CANCELLED. */
  wait(milliseconds: number): Promise<void>;
  onWarning(message: string): void;
}

/** Throws TARGET_UNREACHABLE, TARGET_REFUSED; no message holds the password. */
export async function sendMail(settings: MailSettings, letter: Letter, hooks: MailHooks): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await sendOnce(settings, letter, hooks);
      return;
    } catch (error) {
      const failure = translated(settings, error, hooks.password);
      if (attempt >= settings.retries || !failure.retryable) throw failure;
      hooks.onWarning(`${failure.message}; tried again`);
      await hooks.wait(FIRST_PAUSE_MS * 4 ** attempt);
    }
  }
}

async function sendOnce(settings: MailSettings, letter: Letter, hooks: MailHooks): Promise<void> {
  const { host, port, tls, user, from, to, timeoutMs, caFile } = settings;
  const ca = caFile === null ? null : await readCertificates(caFile);
  const transport = createTransport({
    host,
    port,
    secure: tls === 'tls',
    requireTLS: tls === 'starttls',
    ignoreTLS: tls === 'none',
    ...(user === null ? {} : { auth: { user, pass: hooks.password ?? '' } }),
    ...(ca === null ? {} : { tls: { ca } }),
    connectionTimeout: timeoutMs,
    greetingTimeout: timeoutMs,
    socketTimeout: timeoutMs,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  try {
    const { rejected } = await transport.sendMail({
      from,
      to,
      subject: letter.subject,
      text: letter.text,
      attachments: [{ filename: 'run.json', content: letter.json, contentType: 'application/json' }],
    });
    if (rejected.length > 0)
      hooks.onWarning(`mail by ${host}:${port}: not taken for ${rejected.map(addressOf).join(', ')}`);
  } finally {
    transport.close();
  }
}

function addressOf(recipient: string | { address: string }): string {
  return typeof recipient === 'string' ? recipient : recipient.address;
}

async function readCertificates(caFile: string): Promise<string> {
  try {
    return await readFile(caFile, 'utf8');
  } catch (error) {
    throw fromErrno(error, `cannot read the certificates of the mail server, ${caFile}`);
  }
}

function translated(settings: MailSettings, error: unknown, password: string | null): PhdError {
  const { code, responseCode, message } = error as { code?: string; responseCode?: number; message: string };
  const words = password ? message.replaceAll(password, '***') : message;
  const place = `mail by ${settings.host}:${settings.port}`;
  if (error instanceof PhdError) return error;
  // 4xx is for now only, at the login and at the envelope too: greylisting wants to be asked again (RFC 5321, 4.2.1).
  const isForNow = responseCode !== undefined && responseCode >= 400 && responseCode < 500;
  const isRefused =
    !isForNow && (code === 'EAUTH' || code === 'ETLS' || code === 'EENVELOPE' || (responseCode ?? 0) >= 500);
  const text = `${place}: ${words.split('\n')[0]}`;
  return new PhdError(isRefused ? 'TARGET_REFUSED' : 'TARGET_UNREACHABLE', text, { retryable: !isRefused });
}
