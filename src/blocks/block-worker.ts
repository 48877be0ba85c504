/** A worker thread over blocks: synchronous reads, digests, packing and writes on shared slots. */
import { createHash, type Hash } from 'node:crypto';
import fs from 'node:fs';
import v8 from 'node:v8';
import vm from 'node:vm';
import { parentPort, workerData } from 'node:worker_threads';
import { DIGEST_BYTES, isZeroMark } from '../archive/geometry.ts';
import { readBlockMember, writeBlockMember, zeroBlockMember } from '../archive/gzip-member.ts';
import { readZstdFrame, writeZstdFrame, zstdFrame } from '../archive/zstd-frame.ts';
import { fromErrno, PhdError } from '../errors.ts';
import {
  BATCH_BLOCKS,
  type BlockFailure,
  type Packing,
  type Slot,
  type Task,
  type TaskResult,
  type WorkerReply,
  type WorkerSetup,
} from './tasks.ts';

const setup = workerData as WorkerSetup;
const { blockBytes } = setup;
const slots: Slot[] = setup.raw.map((raw, index) => ({
  index,
  raw: Buffer.from(raw),
  packed: Buffer.from(setup.packed[index] as SharedArrayBuffer),
}));
const zeroBlock = Buffer.alloc(blockBytes);
/** Ready-made member or frame of a full-size zero block, by codec and level. */
const zeroMembers = new Map<string, Buffer>();

type DiskTask = Pick<Extract<Task, { blocks: number[] }>, 'slot' | 'fd' | 'diskBytes' | 'blocks'>;

function blockSize(task: DiskTask, block: number): number {
  return Math.min(blockBytes, task.diskBytes - block * blockBytes);
}

function isZero(block: Buffer): boolean {
  return block.equals(block.length === blockBytes ? zeroBlock : zeroBlock.subarray(0, block.length));
}

/** Index one past the last of a run of consecutive block numbers that begins at `from`. */
function runEnd(blocks: number[], from: number): number {
  let to = from + 1;
  while (to < blocks.length && blocks[to] === blocks[to - 1]! + 1) to += 1;
  return to;
}

/** Reads the task's blocks into `raw`, one read for each run, and returns a view of each. */
function readBlocks(task: DiskTask): Buffer[] {
  const { raw } = slots[task.slot]!;
  if (task.fd < 0) {
    return task.blocks.map((block, index) =>
      raw.subarray(index * blockBytes, index * blockBytes + blockSize(task, block)),
    );
  }
  const views: Buffer[] = [];
  for (let from = 0; from < task.blocks.length; ) {
    const to = runEnd(task.blocks, from);
    const runBytes = (to - from - 1) * blockBytes + blockSize(task, task.blocks[to - 1]!);
    readFully(
      task.fd,
      raw.subarray(from * blockBytes, from * blockBytes + runBytes),
      task.blocks[from]! * blockBytes,
    );
    for (; from < to; from += 1) {
      views.push(raw.subarray(from * blockBytes, from * blockBytes + blockSize(task, task.blocks[from]!)));
    }
  }
  return views;
}

function readFully(fd: number, target: Buffer, position: number): void {
  for (let filled = 0; filled < target.length; ) {
    const count = fs.readSync(fd, target, filled, target.length - filled, position + filled);
    if (count === 0)
      throw new PhdError('SOURCE_CHANGED', `the disk ends at byte ${position + filled}, earlier than it did`);
    filled += count;
  }
}

function writeFully(fd: number, buffers: Buffer[], position: number): void {
  let at = position;
  let rest = buffers;
  while (rest.length > 0) {
    let written = fs.writevSync(fd, rest, at);
    at += written;
    while (rest.length > 0 && written >= rest[0]!.length) {
      written -= rest[0]!.length;
      rest = rest.slice(1);
    }
    if (written > 0) rest = [rest[0]!.subarray(written), ...rest.slice(1)];
  }
}

function digestOf(block: Buffer): Buffer {
  return createHash('sha256').update(block).digest();
}

function matches(block: Buffer, expected: Uint8Array): boolean {
  if (isZeroMark(expected)) return isZero(block);
  return digestOf(block).equals(expected);
}

function zeroMember(packing: Packing): Buffer {
  const key = `${packing.codec} ${packing.level}`;
  let member = zeroMembers.get(key);
  if (!member) {
    member = packing.codec === 'gzip' ? zeroBlockMember(blockBytes) : zstdFrame(zeroBlock, packing.level);
    zeroMembers.set(key, member);
  }
  return member;
}

function packMember(packed: Buffer, at: number, block: Buffer, digest: Buffer, packing: Packing): number {
  if (isZeroMark(digest) && block.length === blockBytes) {
    const member = zeroMember(packing);
    member.copy(packed, at);
    return member.length;
  }
  if (packing.codec === 'gzip') return writeBlockMember(packed, at, block, digest, packing.level);
  return writeZstdFrame(packed, at, block, packing.level);
}

function pack(task: Extract<Task, { kind: 'pack' }>): TaskResult {
  const views = readBlocks(task);
  const digests = Buffer.alloc(views.length * DIGEST_BYTES);
  const memberBytes = new Uint32Array(views.length);
  const { packed } = slots[task.slot]!;
  let at = 0;
  views.forEach((block, index) => {
    const digest = digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
    if (!isZero(block)) digestOf(block).copy(digest);
    if (!task.packing) return;
    memberBytes[index] = packMember(packed, at, block, digest, task.packing);
    at += memberBytes[index]!;
  });
  return { digests, memberBytes };
}

type ScanTask = Extract<Task, { kind: 'scan' }>;

/**
 * Whether the region before had changed. A region in which no block changed has the digest that the FULL's map names,
 * so it is not hashed a second time; where changes are to be expected it is hashed at once, to read it once only.
 */
let expectsChange = false;

function scan(task: ScanTask): TaskResult {
  const digests = Buffer.alloc(task.count * DIGEST_BYTES);
  let region = expectsChange ? new RegionDigest() : undefined;
  let changedBlocks = 0;
  for (let from = 0; from < task.count; from += BATCH_BLOCKS) {
    const views = readBatch(task, from);
    const batchDigests = digests.subarray(from * DIGEST_BYTES, (from + views.length) * DIGEST_BYTES);
    views.forEach((block, index) => {
      const digest = batchDigests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
      if (!isZero(block)) digestOf(block).copy(digest);
      if (!digest.equals(expectedDigest(task.fullDigests, from + index))) changedBlocks += 1;
    });
    if (region) addBatch(region, task, views, batchDigests);
    else if (changedBlocks > 0) region = regionUpTo(task, digests, from + views.length);
  }
  expectsChange = changedBlocks > 0;
  return { digests, regionDigest: region?.finish() ?? task.fullRegionDigest, changedBlocks };
}

function readBatch(task: ScanTask, from: number): Buffer[] {
  const count = Math.min(BATCH_BLOCKS, task.count - from);
  const blocks = Array.from({ length: count }, (_, index) => task.firstBlock + from + index);
  return readBlocks({ ...task, blocks });
}

function addBatch(region: RegionDigest, task: ScanTask, views: Buffer[], digests: Buffer): void {
  const bytes = views.reduce((sum, block) => sum + block.length, 0);
  if (isZero(digests)) region.addZeros(bytes);
  else region.add(slots[task.slot]!.raw.subarray(0, bytes));
}

/** Reads the first `count` blocks of the region again and hashes them; throws if one is not what it was before. */
function regionUpTo(task: ScanTask, digests: Buffer, count: number): RegionDigest {
  const region = new RegionDigest();
  for (let from = 0; from < count; from += BATCH_BLOCKS) {
    const views = readBatch(task, from);
    views.forEach((block, index) => {
      if (!matches(block, expectedDigest(digests, from + index)))
        throw new PhdError(
          'SOURCE_CHANGED',
          `block ${task.firstBlock + from + index} changed while it was read`,
        );
    });
    addBatch(
      region,
      task,
      views,
      digests.subarray(from * DIGEST_BYTES, (from + views.length) * DIGEST_BYTES),
    );
  }
  return region;
}

/** Digests after so many bytes of zeros: most regions begin or consist of them, and they need not be hashed again. */
const zeroPrefixes = new Map<number, Hash>();

function hashOfZeros(bytes: number): Hash {
  let prefix = zeroPrefixes.get(bytes);
  if (!prefix) {
    prefix = createHash('sha256');
    updateWithZeros(prefix, bytes);
    zeroPrefixes.set(bytes, prefix);
  }
  return prefix.copy();
}

function updateWithZeros(hash: Hash, bytes: number): void {
  for (let left = bytes; left > 0; left -= blockBytes)
    hash.update(zeroBlock.subarray(0, Math.min(left, blockBytes)));
}

/** Running digest of one region; a region of zeros has the zero mark. */
class RegionDigest {
  /** Undefined while there was nothing but zeros. */
  #hash: Hash | undefined;
  #leadingZeroBytes = 0;

  /** `bytes` that are not all zero. */
  add(bytes: Buffer): void {
    this.#hash ??= hashOfZeros(this.#leadingZeroBytes);
    this.#hash.update(bytes);
  }

  addZeros(bytes: number): void {
    if (!this.#hash) this.#leadingZeroBytes += bytes;
    else updateWithZeros(this.#hash, bytes);
  }

  finish(): Buffer {
    return this.#hash?.digest() ?? Buffer.alloc(DIGEST_BYTES);
  }
}

/** The region whose pieces come as `region` tasks. */
let runningRegion = new RegionDigest();

function hashRegion(task: Extract<Task, { kind: 'region' }>): TaskResult {
  if (task.isFirst) runningRegion = new RegionDigest();
  runningRegion.addZeros(task.zeroBytesBefore);
  if (task.bytes > 0) runningRegion.add(slots[task.slot]!.raw.subarray(0, task.bytes));
  if (!task.isLast) return {};
  return { regionDigest: runningRegion.finish() };
}

/** Writes blocks that are good, a run at a time; null marks a bad one. */
function writeGood(task: DiskTask, blocks: (Buffer | null)[]): void {
  for (let from = 0; from < blocks.length; from += 1) {
    if (!blocks[from]) continue;
    let to = from + 1;
    while (to < blocks.length && blocks[to] && task.blocks[to] === task.blocks[to - 1]! + 1) to += 1;
    writeFully(task.fd, blocks.slice(from, to) as Buffer[], task.blocks[from]! * blockBytes);
    from = to - 1;
  }
}

function expectedDigest(digests: Uint8Array, index: number): Uint8Array {
  return digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
}

/** A member that inflated to a whole block of zeros: others with the same bytes need not be inflated. */
let provedZeroMember: Buffer = Buffer.alloc(0);

function unpack(task: Extract<Task, { kind: 'unpack' }>): TaskResult {
  const failures: BlockFailure[] = [];
  const { packed, raw } = slots[task.slot]!;
  let at = 0;
  const blocks = task.blocks.map((block, index) => {
    const member = packed.subarray(at, at + task.memberBytes[index]!);
    at += member.length;
    const expected = expectedDigest(task.digests, index);
    const isZeroMember = isZeroMark(expected) && member.equals(provedZeroMember);
    if (isZeroMember && blockSize(task, block) === blockBytes) return zeroBlock;
    try {
      const size = blockSize(task, block);
      const room = raw.subarray(index * blockBytes, index * blockBytes + size + 1);
      const plain =
        task.codec === 'gzip'
          ? readBlockMember(member, size, expected, room)
          : readZstdFrame(member, size, room);
      if (matches(plain, expected)) {
        if (isZeroMark(expected) && size === blockBytes) provedZeroMember = Buffer.from(member);
        return plain;
      }
      failures.push({ block, reason: 'its bytes do not match their digest' });
    } catch (error) {
      if (!(error instanceof PhdError)) throw error;
      failures.push({ block, reason: error.message });
    }
    return null;
  });
  if (!task.check) writeGood(task, blocks);
  return { failures };
}

function place(task: Extract<Task, { kind: 'place' }>): TaskResult {
  const failures: BlockFailure[] = [];
  const { raw } = slots[task.slot]!;
  const blocks = task.blocks.map((block, index) => {
    const view = raw.subarray(index * blockBytes, index * blockBytes + blockSize(task, block));
    if (matches(view, expectedDigest(task.digests, index))) return view;
    failures.push({ block, reason: 'its bytes do not match their digest' });
    return null;
  });
  if (!task.check) writeGood(task, blocks);
  return { failures };
}

function prove(task: Extract<Task, { kind: 'prove' }>): TaskResult {
  const failures = readBlocks(task).flatMap((view, index) =>
    matches(view, expectedDigest(task.digests, index))
      ? []
      : [{ block: task.blocks[index]!, reason: 'its bytes do not match their digest' }],
  );
  return { failures };
}

function zero(task: Extract<Task, { kind: 'zero' }>): TaskResult {
  const blocks = readBlocks(task).map((view) => (isZero(view) ? null : zeroBlock.subarray(0, view.length)));
  writeGood(task, blocks);
  return { writtenBlocks: blocks.filter((block) => block !== null).length };
}

function run(task: Task): TaskResult {
  switch (task.kind) {
    case 'pack':
      return pack(task);
    case 'scan':
      return scan(task);
    case 'region':
      return hashRegion(task);
    case 'unpack':
      return unpack(task);
    case 'place':
      return place(task);
    case 'prove':
      return prove(task);
    case 'zero':
      return zero(task);
  }
}

/**
 * Inflated and deflated blocks are garbage after each task, and V8 lets about 64 MiB of them pile up in each thread
 * before it looks. A minor collection every few tasks keeps the whole program under its memory goal (measured: 232 to
 * 165 MiB for a FULL) and costs nothing that can be measured.
 */
const COLLECT_EVERY_TASKS = 4;
v8.setFlagsFromString('--expose-gc');
const collect = vm.runInNewContext('gc') as (options: { type: 'minor' }) => void;
let tasksDone = 0;

const port = parentPort;
if (!port) throw new Error('block-worker runs as a worker thread only');
port.on('message', ({ id, task }: { id: number; task: Task }) => {
  let reply: WorkerReply;
  try {
    reply = { id, result: run(task) };
  } catch (error) {
    const isWrite = task.kind === 'place' || task.kind === 'zero';
    const { code, message } = fromErrno(error, `cannot ${isWrite ? 'write' : 'read'} the disk`);
    reply = { id, error: { code, message } };
  }
  port.postMessage(reply);
  tasksDone += 1;
  if (tasksDone % COLLECT_EVERY_TASKS === 0) collect({ type: 'minor' });
});
