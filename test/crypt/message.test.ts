import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decryptStream, encryptStream, PASSPHRASE_PACKET_BYTES } from '../../src/crypt/message.ts';
import { openRandomMessage } from '../../src/crypt/random-read.ts';
import { type ByteSource, readRange } from '../../src/model/byte-source.ts';

async function* one(bytes: Uint8Array, pieceBytes = 100_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

async function all(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function bufferSource(bytes: Buffer): ByteSource {
  return {
    sizeBytes: bytes.length,
    async *read(offsetBytes, lengthBytes) {
      for (let at = 0; at < lengthBytes; at += 65_521) {
        yield bytes.subarray(offsetBytes + at, offsetBytes + Math.min(lengthBytes, at + 65_521));
      }
    },
  };
}

/** As encryptStream makes it, but with a cheap S2K, so that hundreds can be opened. */
async function cheapMessage(data: Buffer): Promise<Buffer> {
  const openpgp = await import('openpgp');
  const message = await openpgp.encrypt({
    message: await openpgp.createMessage({ binary: new Uint8Array(data) }),
    passwords: ['right words'],
    format: 'binary',
    config: {
      aeadProtect: false,
      preferredSymmetricAlgorithm: openpgp.enums.symmetric.aes256,
      preferredCompressionAlgorithm: openpgp.enums.compression.uncompressed,
      s2kIterationCountByte: 0,
    },
  });
  return Buffer.from(message as Uint8Array);
}

const MIB = 1_048_576;
/** Around every edge of the two chains of chunks: literal header of 6 bytes, prefix of 18, MDC of 22. */
const SIZES = [0, 1, 512, 262_145, MIB - 7, MIB - 6, MIB - 5, MIB, 3 * MIB + 12_345];

describe('an encrypted message', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'phd-gpg-'));
  });
  afterAll(() => {
    execFileSync('gpgconf', ['--homedir', folder, '--kill', 'all']);
    rmSync(folder, { recursive: true, force: true });
  });

  it('tells each of many wrong passphrases as wrong, and tries the next: some look like a key by chance', async () => {
    const data = randomBytes(3_000);
    const bytes = await cheapMessage(data);
    for (let number = 0; number < 600; number++) {
      const wrong = `wrong ${number}`;
      await expect(all(decryptStream(one(bytes), [wrong], 'it'))).rejects.toMatchObject({
        code: 'PASSPHRASE_WRONG',
      });
      if (number % 10 > 0) continue;
      expect((await all(decryptStream(one(bytes), [wrong, 'right words'], 'it'))).equals(data)).toBe(true);
    }
  });

  function gpg(message: Buffer, passphrase: string): Buffer {
    writeFileSync(join(folder, 'message'), message);
    writeFileSync(join(folder, 'passphrase'), passphrase, { mode: 0o600 });
    return execFileSync(
      'gpg',
      [
        '--homedir',
        folder,
        '--batch',
        '--quiet',
        '--pinentry-mode',
        'loopback',
        '--passphrase-file',
        join(folder, 'passphrase'),
        '-d',
        join(folder, 'message'),
      ],
      { maxBuffer: 1 << 27, stdio: ['ignore', 'pipe', 'ignore'] },
    );
  }

  it.each([0, 1, 262_145, MIB, 3 * MIB + 12_345])(
    'of %i bytes is opened by gpg with either passphrase',
    async (size) => {
      const plain = randomBytes(size);
      const message = await all(encryptStream(one(plain), ['the system', 'the master']));
      expect(gpg(message, 'the system').equals(plain)).toBe(true);
      expect(gpg(message.subarray(PASSPHRASE_PACKET_BYTES), 'the master').equals(plain)).toBe(true);
    },
  );

  it.each(SIZES)('of %i bytes is read as a stream and at random', async (size) => {
    const plain = randomBytes(size);
    const message = await all(encryptStream(one(plain), ['a']));
    expect((await all(decryptStream(one(message), ['a'], 'it'))).equals(plain)).toBe(true);
    const random = await openRandomMessage(bufferSource(message), ['a'], 'it');
    expect(random.sizeBytes).toBe(size);
    const edges = [
      0,
      1,
      15,
      16,
      17,
      262_144,
      MIB - 30,
      MIB - 25,
      MIB - 24,
      MIB - 7,
      MIB - 6,
      MIB - 1,
      MIB,
      MIB + 1,
      2 * MIB,
      size - 40,
      size - 1,
    ];
    for (const from of edges.filter((edge) => edge >= 0 && edge < size)) {
      for (const length of [1, 16, 100, MIB + 3, size - from].filter((n) => n <= size - from)) {
        expect((await readRange(random, from, length)).equals(plain.subarray(from, from + length))).toBe(
          true,
        );
      }
    }
  });

  it('opens with any of several passphrases, the others being tried first', async () => {
    const plain = randomBytes(70_000);
    const message = await all(encryptStream(one(plain), ['system', 'master']));
    expect((await all(decryptStream(one(message), ['old', 'master'], 'it'))).equals(plain)).toBe(true);
    const random = await openRandomMessage(bufferSource(message), ['old', 'master'], 'it');
    expect((await readRange(random, 60_000, 5000)).equals(plain.subarray(60_000, 65_000))).toBe(true);
  });

  it('is not opened by a wrong passphrase, nor without one', async () => {
    const message = await all(encryptStream(one(randomBytes(5000)), ['right']));
    await expect(all(decryptStream(one(message), ['wrong'], 'it'))).rejects.toMatchObject({
      code: 'PASSPHRASE_WRONG',
    });
    await expect(openRandomMessage(bufferSource(message), ['wrong'], 'it')).rejects.toMatchObject({
      code: 'PASSPHRASE_WRONG',
    });
    await expect(openRandomMessage(bufferSource(message), [], 'it')).rejects.toMatchObject({
      code: 'PASSPHRASE_MISSING',
    });
  });

  it('that was flipped or cut never ends normally as a stream', async () => {
    const plain = randomBytes(20_000);
    const message = await cheapMessage(plain);
    const digest = createHash('sha256').update(plain).digest('hex');
    for (let trial = 0; trial < 200; trial += 1) {
      const bad = Buffer.from(message);
      const at = trial < 60 ? trial : (trial * 809 + 11) % bad.length;
      bad[at] = bad[at]! ^ (1 << (trial % 8));
      const outcome = await all(decryptStream(one(bad), ['right words'], 'it')).then(
        (bytes) => createHash('sha256').update(bytes).digest('hex'),
        (error) => error.code as string,
      );
      expect([digest, 'ARCHIVE_DAMAGED', 'PASSPHRASE_WRONG', 'FORMAT_UNSUPPORTED']).toContain(outcome);
    }
    await expect(
      all(decryptStream(one(message.subarray(0, -1)), ['right words'], 'it')),
    ).rejects.toMatchObject({
      code: 'ARCHIVE_DAMAGED',
    });
  });
});
