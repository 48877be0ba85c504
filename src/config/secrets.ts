/**
 * Secrets, read only when they are needed: from a file of mode 0600, an environment variable or a command.
 * One trailing newline is dropped, an empty secret is refused, and none ever stands in a message.
 */
import { execFile } from 'node:child_process';
import { open } from 'node:fs/promises';
import { fromErrno, PhdError } from '../errors.ts';
import type { Config, SecretSource } from '../model/config.ts';

const COMMAND_TIMEOUT_MS = 60_000;
const MAX_SECRET_BYTES = 64 * 1024;

/**
 * The secret that `source` names. `what` says for people whose it is: "password of target 2 (ftp1)".
 * Throws CONFIG_INVALID if there is none, if it is empty, or if its file is open to others.
 */
export async function readSecret(
  source: SecretSource,
  what: string,
  env: NodeJS.ProcessEnv,
): Promise<string> {
  const text = await readSource(source, what, env);
  const secret = text.replace(/\r?\n$/, '');
  if (secret === '') throw new PhdError('CONFIG_INVALID', `${what}: ${describeSource(source)} is empty`);
  return secret;
}

/** Reads all passphrases that are named; null where none is. Throws CONFIG_INVALID as readSecret does. */
export async function readPassphrases(
  encryption: Config['encryption'],
  env: NodeJS.ProcessEnv,
): Promise<{ system: string | null; master: string | null; former: string[] }> {
  const read = (source: SecretSource | null, what: string) =>
    source === null ? null : readSecret(source, what, env);
  const [system, master, former] = await Promise.all([
    read(encryption.system, 'system passphrase'),
    read(encryption.master, 'master passphrase'),
    Promise.all(
      encryption.former.map((source, at) => readSecret(source, `former passphrase ${at + 1}`, env)),
    ),
  ]);
  return { system, master, former };
}

/** A private key: bytes of a file that must be closed to others. Throws CONFIG_INVALID. */
export async function readPrivateKey(file: string, what: string): Promise<Buffer> {
  return readClosedFile(file, what);
}

/** Names the source for people: `file /etc/phd/secrets/ftp1`. */
export function describeSource(source: SecretSource): string {
  if (source.kind === 'file') return `file ${source.path}`;
  if (source.kind === 'environment') return `environment variable ${source.variable}`;
  return 'the output of its command';
}

async function readSource(source: SecretSource, what: string, env: NodeJS.ProcessEnv): Promise<string> {
  if (source.kind === 'file') return (await readClosedFile(source.path, what)).toString('utf8');
  if (source.kind === 'environment') {
    const value = env[source.variable];
    if (value === undefined) {
      throw new PhdError('CONFIG_INVALID', `${what}: environment variable ${source.variable} is not set`);
    }
    return value;
  }
  return runSecretCommand(source.command, what);
}

async function readClosedFile(file: string, what: string): Promise<Buffer> {
  try {
    const handle = await open(file, 'r');
    try {
      const { mode, size } = await handle.stat();
      if ((mode & 0o077) !== 0) {
        throw new PhdError('CONFIG_INVALID', `${what}: ${file} is open to others; run chmod 600 on it`);
      }
      if (size > MAX_SECRET_BYTES) {
        throw new PhdError('CONFIG_INVALID', `${what}: ${file} is over ${MAX_SECRET_BYTES} bytes`);
      }
      return await handle.readFile();
    } finally {
      await handle.close();
    }
  } catch (error) {
    const { code, message } = fromErrno(error, `${what}: cannot read`);
    if (error instanceof PhdError) throw error;
    const words = code === 'NOT_FOUND' ? `${what}: there is no file ${file}` : message;
    throw new PhdError('CONFIG_INVALID', words, { cause: error });
  }
}

/** The command is the administrator's own word in phd.yaml, so a shell may read it; its output is never shown. */
function runSecretCommand(command: string, what: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const limits = { timeout: COMMAND_TIMEOUT_MS, maxBuffer: MAX_SECRET_BYTES };
    const child = execFile('/bin/sh', ['-c', command], limits, (error, stdout) => {
      if (error === null) resolve(stdout);
      else {
        const status = error.killed
          ? 'took over a minute'
          : `ended with status ${error.code ?? error.signal}`;
        reject(new PhdError('CONFIG_INVALID', `${what}: its command ${status}`));
      }
    });
    child.stdin?.end();
  });
}
