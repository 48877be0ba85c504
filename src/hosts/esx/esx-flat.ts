/** Bytes of a disk sent into a flat on an ESX host, and proved there. */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { BLOCK_BYTES, blockSizeBytes, DIGEST_BYTES, type Geometry } from '../../archive/geometry.ts';
import { shownName } from '../../datastore/plain-name.ts';
import { PhdError, throwIfAborted } from '../../errors.ts';
import { shellWord } from '../../storage/shell-word.ts';
import type { RunningCommand } from '../host-line.ts';
import { EsxReader, readWay } from './esx-reader.ts';
import type { EsxShell } from './esx-shell.ts';
import { LastingHelper } from './lasting-reads.ts';

/** Zeros between two pieces of data up to here are sent along: a command for each piece costs more. */
const GAP_BLOCKS = 4;
const REGION = 256;

export interface FillHooks {
  /** Bytes of the disk that are done. */
  onBytes?: (bytes: number) => void;
  signal?: AbortSignal;
}

/** Writes what is no zeros into a flat of zeros. Throws NO_SPACE, TARGET_*, CANCELLED. */
export async function fillFlat(
  shell: EsxShell,
  file: FileHandle,
  flatPath: string,
  geometry: Geometry,
  { onBytes = () => undefined, signal }: FillHooks,
): Promise<void> {
  for (let block = 0; block < geometry.blockCount; ) {
    const first = await nextData(file, geometry, block, onBytes, signal);
    if (first === null) return;
    const command = `dd of=${shellWord(flatPath)} bs=${BLOCK_BYTES} seek=${first} conv=notrunc`;
    block = await shell.stream(command, signal, async (running) => {
      const next = await sendRun(file, geometry, first, running, onBytes);
      running.stdin.end();
      running.stdout.resume();
      const { status, stderr } = await running.ended;
      if (status !== 0)
        throw shell.refusal(`cannot write ${shownName(flatPath)}`, {
          status,
          stdout: Buffer.alloc(0),
          stderr,
        });
      return next;
    });
  }
}

/** Compares digests of all blocks there and here; how they were had. Throws DIGEST_MISMATCH, TARGET_*, CANCELLED. */
export async function proveFlat(
  shell: EsxShell,
  file: FileHandle,
  flatPath: string,
  geometry: Geometry,
  signal?: AbortSignal,
): Promise<string> {
  const way = await readWay(shell, signal);
  const helper = way === 'python3' ? await LastingHelper.start(shell) : null;
  try {
    const reader = new EsxReader(shell, flatPath, geometry.diskBytes, way, { helper });
    for (let first = 0; first < geometry.blockCount; first += REGION) {
      throwIfAborted(signal);
      const count = Math.min(REGION, geometry.blockCount - first);
      const there = reader.digests
        ? (await reader.digests({ firstBlock: first, count }, signal)).digests
        : await digestsOverTheLine(reader, geometry, first, count, signal);
      for (let at = 0; at < count; at += 1) {
        const here = digestOf(await readBlock(file, geometry, first + at));
        if (here.equals(there.subarray(at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES))) continue;
        throw new PhdError(
          'DIGEST_MISMATCH',
          `block ${first + at} of ${shownName(flatPath)} on host ${shell.config.name} is not what was sent`,
        );
      }
    }
  } finally {
    helper?.stop();
  }
  return way === 'dd' ? 'read back over the line' : `digests by ${way} on the host`;
}

async function nextData(
  file: FileHandle,
  geometry: Geometry,
  from: number,
  onBytes: (bytes: number) => void,
  signal?: AbortSignal,
): Promise<number | null> {
  for (let block = from; block < geometry.blockCount; block += 1) {
    throwIfAborted(signal);
    const bytes = await readBlock(file, geometry, block);
    if (!isZero(bytes)) return block;
    onBytes(bytes.length);
  }
  return null;
}

/** Sends blocks from `first` on up to the next long run of zeros; the block after them. */
async function sendRun(
  file: FileHandle,
  geometry: Geometry,
  first: number,
  running: RunningCommand,
  onBytes: (bytes: number) => void,
): Promise<number> {
  let zeros: Buffer[] = [];
  let block = first;
  for (; block < geometry.blockCount && zeros.length <= GAP_BLOCKS; block += 1) {
    const bytes = await readBlock(file, geometry, block);
    zeros.push(bytes);
    if (isZero(bytes)) continue;
    for (const one of zeros) {
      await send(running, one);
      onBytes(one.length);
    }
    zeros = [];
  }
  return block - zeros.length;
}

async function send({ stdin, ended }: RunningCommand, bytes: Buffer): Promise<void> {
  if (stdin.write(bytes)) return;
  // A command that has ended takes nothing more; its end tells why.
  await Promise.race([new Promise<void>((resolve) => stdin.once('drain', resolve)), ended]);
}

async function readBlock(file: FileHandle, geometry: Geometry, block: number): Promise<Buffer> {
  const bytes = Buffer.alloc(blockSizeBytes(geometry, block));
  const { bytesRead } = await file.read(bytes, 0, bytes.length, block * geometry.blockBytes);
  if (bytesRead === bytes.length) return bytes;
  throw new PhdError('IO', `the restored disk ends in block ${block}`);
}

async function digestsOverTheLine(
  reader: EsxReader,
  geometry: Geometry,
  first: number,
  count: number,
  signal?: AbortSignal,
): Promise<Buffer> {
  const digests: Buffer[] = [];
  for (let block = first; block < first + count; block += 1) {
    const bytes = Buffer.alloc(blockSizeBytes(geometry, block));
    await reader.read(block, bytes, signal);
    digests.push(digestOf(bytes));
  }
  return Buffer.concat(digests);
}

/** Zeros for a block of zeros, as hosts are asked. */
function digestOf(bytes: Buffer): Buffer {
  return isZero(bytes) ? Buffer.alloc(DIGEST_BYTES) : createHash('sha256').update(bytes).digest();
}

const ZEROS = Buffer.alloc(BLOCK_BYTES);

function isZero(bytes: Buffer): boolean {
  return bytes.equals(ZEROS.subarray(0, bytes.length));
}
