/** Proof that does not lean on the engine: SHA-256 of a whole file, and a comparison byte by byte. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import fs from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';

const CHUNK_BYTES = 4 * 1024 * 1024;

export async function digestOfFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: CHUNK_BYTES }), hash);
  return hash.digest('hex');
}

/** Offset of the first byte that differs, or null if both files are the same to the last byte. */
export async function firstDifference(one: string, other: string): Promise<number | null> {
  const files = [await fs.open(one), await fs.open(other)];
  try {
    const buffers = files.map(() => Buffer.alloc(CHUNK_BYTES));
    for (let at = 0; ; ) {
      const [left, right] = (await Promise.all(
        files.map((file, n) => readUpTo(file, buffers[n] as Buffer, at)),
      )) as [Buffer, Buffer];
      if (!left.equals(right)) {
        const shorter = Math.min(left.length, right.length);
        let same = 0;
        while (same < shorter && left[same] === right[same]) same++;
        return at + same;
      }
      if (left.length === 0) return null;
      at += left.length;
    }
  } finally {
    for (const file of files) await file.close();
  }
}

/** Fills the buffer, less only at the end of the file. */
async function readUpTo(file: fs.FileHandle, buffer: Buffer, at: number): Promise<Buffer> {
  let got = 0;
  while (got < buffer.length) {
    const { bytesRead } = await file.read(buffer, got, buffer.length - got, at + got);
    if (bytesRead === 0) break;
    got += bytesRead;
  }
  return buffer.subarray(0, got);
}
