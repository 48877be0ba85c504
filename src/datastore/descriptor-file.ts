/** What a `.vmdk` file on a datastore is: descriptor, sparse disk with its embedded descriptor, or something else. */
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, realpath } from 'node:fs/promises';
import { dirname, sep } from 'node:path';
import { fromErrno, PhdError } from '../errors.ts';
import {
  type Descriptor,
  looksLikeDescriptor,
  MAX_DESCRIPTOR_BYTES,
  parseDescriptor,
  SECTOR_BYTES,
} from './descriptor.ts';

export type VmdkFile =
  | { kind: 'descriptor'; bytes: Buffer; descriptor: Descriptor }
  /** KDMV (hosted sparse, streamOptimized) or COWD (old snapshots); the embedded descriptor if it can be read. */
  | { kind: 'sparse'; descriptor: Descriptor | null }
  | { kind: 'other' };

/**
 * Details of a regular file inside its folder; a symbolic link counts only if it stays in the folder it lies in.
 * @throws PhdError SOURCE_UNSUPPORTED (link that leads out, not a regular file), NOT_FOUND, IO
 */
export async function statInFolder(path: string): Promise<Stats> {
  const doing = `cannot use ${path}`;
  try {
    const own = await lstat(path);
    if (own.isFile()) return own;
    if (!own.isSymbolicLink()) throw new PhdError('SOURCE_UNSUPPORTED', `${doing}: it is not a regular file`);
    const [target, folder] = await Promise.all([realpath(path), realpath(dirname(path))]);
    if (!target.startsWith(folder + sep)) {
      throw new PhdError(
        'SOURCE_UNSUPPORTED',
        `${doing}: it is a symbolic link that leaves its folder (to ${target})`,
      );
    }
    const linked = await lstat(target);
    if (!linked.isFile()) throw new PhdError('SOURCE_UNSUPPORTED', `${doing}: it links to no regular file`);
    return linked;
  } catch (error) {
    throw fromErrno(error, doing);
  }
}

/** Reads a regular file of at most `maxBytes`. */
export async function readSmallFile(path: string, maxBytes: number): Promise<Buffer> {
  const stat = await statInFolder(path);
  if (stat.size > maxBytes) {
    throw new PhdError('SOURCE_UNSUPPORTED', `cannot use ${path}: ${stat.size} bytes, more than ${maxBytes}`);
  }
  return withFile(path, (file) => readRange(file, 0, stat.size));
}

/** Descriptor inside a hosted sparse disk: its place stands in the header, in sectors (u64 at 28 and 36). */
async function readEmbedded(file: FileHandle, header: Buffer, path: string): Promise<Descriptor | null> {
  if (header.length < 44 || header.toString('latin1', 0, 4) !== 'KDMV') return null;
  const offsetBytes = header.readBigUInt64LE(28) * BigInt(SECTOR_BYTES);
  const sizeBytes = header.readBigUInt64LE(36) * BigInt(SECTOR_BYTES);
  if (sizeBytes === 0n || sizeBytes > BigInt(MAX_DESCRIPTOR_BYTES) || offsetBytes > 2n ** 50n) return null;
  try {
    return parseDescriptor(await readRange(file, Number(offsetBytes), Number(sizeBytes)), path);
  } catch (error) {
    if (error instanceof PhdError && error.code === 'FORMAT_UNSUPPORTED') return null;
    throw error;
  }
}

/**
 * Reads a `.vmdk` file as far as needed to know what it is.
 * @throws PhdError FORMAT_UNSUPPORTED (a descriptor that cannot be read), SOURCE_UNSUPPORTED, NOT_FOUND, IO
 */
export async function readVmdkFile(path: string): Promise<VmdkFile> {
  const { size } = await statInFolder(path);
  return withFile(path, async (file) => {
    const head = await readRange(file, 0, Math.min(size, 4_096));
    if (/^(KDMV|COWD)/.test(head.toString('latin1', 0, 4))) {
      return { kind: 'sparse', descriptor: await readEmbedded(file, head, path) };
    }
    if (!looksLikeDescriptor(head) || size > MAX_DESCRIPTOR_BYTES) return { kind: 'other' };
    const bytes = await readRange(file, 0, size);
    return { kind: 'descriptor', bytes, descriptor: parseDescriptor(bytes, path) };
  });
}

/** Bytes of a range, fewer at the end of the file. */
async function readRange(file: FileHandle, offsetBytes: number, sizeBytes: number): Promise<Buffer> {
  const bytes = Buffer.alloc(sizeBytes);
  let filled = 0;
  while (filled < sizeBytes) {
    const { bytesRead } = await file.read(bytes, filled, sizeBytes - filled, offsetBytes + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return bytes.subarray(0, filled);
}

async function withFile<T>(path: string, use: (file: FileHandle) => Promise<T>): Promise<T> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      return await use(file);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw fromErrno(error, `cannot read ${path}`);
  }
}
