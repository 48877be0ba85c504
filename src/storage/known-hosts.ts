/** known_hosts in OpenSSH's format (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): who is known, changed, revoked. */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import path from 'node:path';
import { fromErrno, PhdError } from '../errors.ts';
import { makeFolder } from '../make-folder.ts';

export interface KnownKey {
  /** `ssh-ed25519`, `ecdsa-sha2-nistp256`, ... */
  type: string;
  key: Buffer;
  isRevoked: boolean;
}

export type HostKeyVerdict = 'known' | 'unknown' | 'changed' | 'revoked';

/** Name a host bears in the file: with its port unless that is 22. */
export function knownHostName(host: string, port: number): string {
  const name = host.toLowerCase();
  return port === 22 ? name : `[${name}]:${port}`;
}

/** `SHA256:...` as ssh-keygen -l prints it. */
export function fingerprintOf(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
}

/** Type of a public key blob (RFC 4253 section 6.6): its first string. Empty if malformed. */
export function keyTypeOf(key: Buffer): string {
  if (key.length < 4) return '';
  const length = key.readUInt32BE(0);
  return length > 64 || key.length < 4 + length ? '' : key.toString('latin1', 4, 4 + length);
}

/** Keys the text names for a host; lines that make no sense and certificate authorities are passed over. */
export function keysInText(text: string, host: string, port: number): KnownKey[] {
  const name = knownHostName(host, port);
  const keys: KnownKey[] = [];
  for (const line of text.split('\n')) {
    const fields = line.trim().split(/[ \t]+/);
    if (fields[0] === undefined || fields[0] === '' || fields[0].startsWith('#')) continue;
    const marker = fields[0].startsWith('@') ? fields.shift() : undefined;
    if (marker !== undefined && marker !== '@revoked') continue;
    const [names, type, base64] = fields;
    if (names === undefined || type === undefined || base64 === undefined) continue;
    if (!namesMatch(names, name)) continue;
    const key = Buffer.from(base64, 'base64');
    if (keyTypeOf(key) !== type) continue;
    keys.push({ type, key, isRevoked: marker === '@revoked' });
  }
  return keys;
}

export function judgeHostKey(known: readonly KnownKey[], offered: Buffer): HostKeyVerdict {
  const same = known.filter((one) => one.key.equals(offered));
  if (same.some((one) => one.isRevoked)) return 'revoked';
  if (same.length > 0) return 'known';
  return known.some((one) => !one.isRevoked) ? 'changed' : 'unknown';
}

/** Reads the file; absent is empty, unreadable is refused: else a broken file would make all hosts new. */
export async function readKnownHosts(file: string | null): Promise<string> {
  if (file === null) return '';
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    const words = `known hosts cannot be read from ${file}: ${(error as Error).message}`;
    throw new PhdError('HOST_KEY_REFUSED', words, { cause: error });
  }
}

/** Appends an accepted key, durable on return. */
export async function appendKnownHost(file: string, host: string, port: number, key: Buffer): Promise<void> {
  try {
    await makeFolder(path.dirname(file));
    const before = await readKnownHosts(file);
    const handle = await open(file, 'a', 0o600);
    try {
      const separator = before === '' || before.endsWith('\n') ? '' : '\n';
      const entry = `${knownHostName(host, port)} ${keyTypeOf(key)} ${key.toString('base64')}`;
      await handle.writeFile(`${separator}${entry}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fromErrno(error, `cannot add the host key to ${file}`);
  }
}

function namesMatch(names: string, name: string): boolean {
  if (names.startsWith('|')) return hashedNameMatches(names, name);
  let matches = false;
  for (const pattern of names.toLowerCase().split(',')) {
    if (pattern.startsWith('!')) {
      if (wildcardMatches(pattern.slice(1), name)) return false;
    } else if (wildcardMatches(pattern, name)) matches = true;
  }
  return matches;
}

/** `|1|salt|hash`, HMAC-SHA1 of the name. */
function hashedNameMatches(field: string, name: string): boolean {
  const [, version, salt, hash] = field.split('|');
  if (version !== '1' || salt === undefined || hash === undefined) return false;
  const wanted = Buffer.from(hash, 'base64');
  const found = createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest();
  return wanted.length === found.length && timingSafeEqual(wanted, found);
}

/** `*` and `?`; linear, without regular expressions made of foreign text. */
function wildcardMatches(pattern: string, name: string): boolean {
  let at = 0;
  let p = 0;
  let star = -1;
  let mark = 0;
  while (at < name.length) {
    if (p < pattern.length && (pattern[p] === '?' || pattern[p] === name[at]) && pattern[p] !== '*') {
      at += 1;
      p += 1;
    } else if (p < pattern.length && pattern[p] === '*') {
      star = p;
      mark = at;
      p += 1;
    } else if (star >= 0) {
      p = star + 1;
      mark += 1;
      at = mark;
    } else return false;
  }
  while (pattern[p] === '*') p += 1;
  return p === pattern.length;
}
