/**
 * The session key of a message, found by its passphrase packets and proved by the first bytes of its data, before any
 * of the data is decrypted (FORMAT.md section 7; RFC 9580 sections 5.3, 5.7, 13.9). One wrong passphrase in a hundred or so
 * gives what looks like a key: OpenPGP.js would decrypt with it, and end in words of damage, or never.
 */
import { createDecipheriv } from 'node:crypto';
import type * as Openpgp from 'openpgp';
import { PhdError } from '../errors.ts';

export const AES_BLOCK_BYTES = 16;
/** Random prefix of 16 bytes and its last two repeated. */
export const PREFIX_BYTES = 18;
/** So much of a message holds all its passphrase packets and the prefix. */
export const HEAD_BYTES = 4096;
const MAX_PASSPHRASE_PACKETS = 16;

/** Loaded when first needed: most restores meet no encryption, and it costs start-up time and memory. */
export function loadOpenpgp(): Promise<typeof Openpgp> {
  return import('openpgp');
}

export function requirePassphrases(passphrases: readonly string[], what: string): void {
  if (passphrases.length > 0) return;
  throw new PhdError(
    'PASSPHRASE_MISSING',
    `${what} is encrypted and no passphrase is known: name one under "encryption" in phd.yaml`,
  );
}

/** OpenPGP.js tells failures apart by words alone; this is the only place that reads them. */
export function fromOpenpgp(error: unknown, what: string): PhdError {
  if (error instanceof PhdError) return error;
  const words = (error as Error | undefined)?.message ?? String(error);
  if (
    /session key decryption failed|incorrect (key )?passphrase|Invalid enum value|Invalid session key/i.test(
      words,
    )
  ) {
    return new PhdError('PASSPHRASE_WRONG', `${what}: none of the known passphrases opens it`, {
      cause: error,
    });
  }
  if (/version|not supported|unsupported|unknown packet/i.test(words)) {
    const advice = 'it was not encrypted by this program (only SEIPDv1 messages are read)';
    return new PhdError('FORMAT_UNSUPPORTED', `${what}: ${advice}`, { cause: error });
  }
  return new PhdError('ARCHIVE_DAMAGED', `${what}: the encrypted message is damaged (${words})`, {
    cause: error,
  });
}

/** Offset of the first length header of the data packet; `head` begins with the passphrase packets. */
export function skipPassphrasePackets(head: Buffer, what: string): number {
  let at = 0;
  for (let count = 0; count < MAX_PASSPHRASE_PACKETS && at + 2 < head.length; count += 1) {
    if (head[at] === 0xd2 && at > 0) return at + 1;
    const length = head[at + 1] as number;
    if (head[at] !== 0xc3 || length >= 192) break;
    at += 2 + length;
  }
  throw new PhdError(
    'FORMAT_UNSUPPORTED',
    `${what}: not an OpenPGP message with passphrases of this program`,
  );
}

/**
 * The AES-256 key that one of the passphrases opens; `head` holds the first 4096 bytes of the message, or all of it. Throws
 * PASSPHRASE_WRONG, FORMAT_UNSUPPORTED.
 */
export async function sessionKey(
  head: Buffer,
  passphrases: readonly string[],
  what: string,
): Promise<Buffer> {
  const bodyAt = skipPassphrasePackets(head, what);
  const prefix = prefixOf(head, bodyAt);
  if (prefix[0] !== 1) {
    throw new PhdError(
      'FORMAT_UNSUPPORTED',
      `${what}: not a SEIPDv1 message, it was not encrypted by this program`,
    );
  }
  const openpgp = await loadOpenpgp();
  const emptyData = Buffer.concat([Buffer.from([0xd2, 60, 1]), Buffer.alloc(59)]);
  const binaryMessage = Uint8Array.from(Buffer.concat([head.subarray(0, bodyAt - 1), emptyData]));
  for (const passphrase of passphrases) {
    try {
      const message = await openpgp.readMessage({ binaryMessage });
      const keys = await openpgp.decryptSessionKeys({ message, passwords: [passphrase] });
      for (const key of keys) if (opensPrefix(Buffer.from(key.data), prefix)) return Buffer.from(key.data);
    } catch (error) {
      const translated = fromOpenpgp(error, what);
      if (translated.code === 'FORMAT_UNSUPPORTED') throw translated;
    }
  }
  throw new PhdError('PASSPHRASE_WRONG', `${what}: none of the known passphrases opens it`);
}

/** Version octet and prefix of the data packet, behind its first length header. */
function prefixOf(head: Buffer, bodyAt: number): Buffer {
  const first = head[bodyAt] ?? 0;
  const headerBytes = first < 192 || (first >= 224 && first < 255) ? 1 : first < 224 ? 2 : 5;
  const from = bodyAt + headerBytes;
  return head.subarray(from, from + 1 + PREFIX_BYTES);
}

/** The two repeated bytes tell a wrong key, but for one in 65,536. */
function opensPrefix(key: Buffer, prefix: Buffer): boolean {
  if (key.length !== 32 || prefix.length < 1 + PREFIX_BYTES) return false;
  const plain = createDecipheriv('aes-256-cfb', key, Buffer.alloc(AES_BLOCK_BYTES)).update(
    prefix.subarray(1),
  );
  return plain.readUInt16BE(14) === plain.readUInt16BE(16);
}
