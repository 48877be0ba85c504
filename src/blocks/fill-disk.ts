/** Takes members from a byte source, has them checked and written to a disk by the workers. */
import { DIGEST_BYTES, type Geometry } from '../archive/geometry.ts';
import { maxBlockMemberBytes } from '../archive/gzip-member.ts';
import { maxFrameBytes } from '../archive/zstd-frame.ts';
import { PhdError, throwIfAborted } from '../errors.ts';
import type { ByteSource } from '../model/byte-source.ts';
import type { BlockPool } from './pool.ts';
import { BATCH_BLOCKS, type BlockFailure, type Packing, type Slot, type TaskResult } from './tasks.ts';

export interface WantedMember {
  block: number;
  /** Where its member or frame begins in the source. */
  offsetBytes: number;
  memberBytes: number;
  /** Of the plain block. */
  digest: Buffer;
}

/** Members nearer to each other than this are fetched in one range; what lies between is thrown away. */
const MAX_GAP_BYTES = 1_048_576;
/** Most bytes fetched as one range: bounds what is asked again when a line dies. */
const MAX_GROUP_BYTES = 256 * 1_048_576;
const MAX_GROUP_MEMBERS = 4096;

/** Cuts a list of members (ascending offsets) into groups worth one range each. */
export async function* groupMembers(members: AsyncIterable<WantedMember>): AsyncGenerator<WantedMember[]> {
  let group: WantedMember[] = [];
  for await (const member of members) {
    const first = group[0];
    const last = group.at(-1);
    const isNear =
      first !== undefined &&
      last !== undefined &&
      group.length < MAX_GROUP_MEMBERS &&
      member.offsetBytes >= last.offsetBytes + last.memberBytes &&
      member.offsetBytes - last.offsetBytes - last.memberBytes <= MAX_GAP_BYTES &&
      member.offsetBytes + member.memberBytes - first.offsetBytes <= MAX_GROUP_BYTES;
    if (!isNear && group.length > 0) {
      yield group;
      group = [];
    }
    group.push(member);
  }
  if (group.length > 0) yield group;
}

export interface FillOptions {
  codec: Packing['codec'];
  /** Only check, write nothing. */
  check: boolean;
  /** Called when a batch is through: blocks that are now on the disk (or proved), and those that failed. */
  onBatch: (good: number[], failures: BlockFailure[]) => void;
  signal?: AbortSignal;
}

interface Batch {
  slot: Slot;
  usedBytes: number;
  blocks: number[];
  memberBytes: number[];
  digests: Buffer[];
}

export class DiskFiller {
  readonly #pool: BlockPool;
  readonly #fd: number;
  readonly #geometry: Geometry;
  readonly #options: FillOptions;
  readonly #pending = new Set<Promise<void>>();
  readonly #maxMemberBytes: number;
  #failure: unknown;

  /** `fd` is the disk to write; with `check` it is not touched. */
  constructor(pool: BlockPool, fd: number, geometry: Geometry, options: FillOptions) {
    this.#pool = pool;
    this.#fd = fd;
    this.#geometry = geometry;
    this.#options = options;
    this.#maxMemberBytes =
      options.codec === 'gzip'
        ? maxBlockMemberBytes(geometry.blockBytes)
        : maxFrameBytes(geometry.blockBytes);
  }

  /**
   * Fetches one group and hands it to the workers. Rejects when the source fails: whole batches before that point
   * still count, so the caller may take the rest from another copy.
   */
  async fill(source: ByteSource, group: readonly WantedMember[]): Promise<void> {
    const first = group[0];
    const last = group.at(-1);
    if (!first || !last) return;
    const cursor = new MemberCursor(
      source.read(first.offsetBytes, last.offsetBytes + last.memberBytes - first.offsetBytes),
      first.offsetBytes,
    );
    let batch: Batch | undefined;
    try {
      for (const member of group) {
        if (member.memberBytes > this.#maxMemberBytes || member.memberBytes === 0) {
          throw new PhdError(
            'ARCHIVE_DAMAGED',
            `block ${member.block}: its size in the index map is impossible`,
          );
        }
        batch ??= await this.#begin();
        await cursor.copy(member, batch.slot.packed, batch.usedBytes);
        batch.usedBytes += member.memberBytes;
        batch.blocks.push(member.block);
        batch.memberBytes.push(member.memberBytes);
        batch.digests.push(member.digest);
        if (batch.blocks.length < BATCH_BLOCKS) continue;
        this.#send(batch);
        batch = undefined;
      }
      if (batch) this.#send(batch);
      batch = undefined;
    } finally {
      if (batch) this.#pool.release(batch.slot);
      await cursor.close();
    }
  }

  async #begin(): Promise<Batch> {
    throwIfAborted(this.#options.signal);
    if (this.#failure) throw this.#failure;
    return { slot: await this.#pool.acquire(), usedBytes: 0, blocks: [], memberBytes: [], digests: [] };
  }

  #send(batch: Batch): void {
    const { blocks, memberBytes, slot } = batch;
    const digests = Buffer.concat(batch.digests, blocks.length * DIGEST_BYTES);
    const { codec, check } = this.#options;
    const { diskBytes } = this.#geometry;
    const task = {
      kind: 'unpack',
      slot: slot.index,
      fd: this.#fd,
      diskBytes,
      blocks,
      memberBytes,
      digests,
      codec,
      check,
    } as const;
    this.#track(this.#pool.run(task), blocks, slot);
  }

  #track(work: Promise<TaskResult>, blocks: number[], slot: Slot): void {
    const done = work
      .then(
        (result) => this.#report(blocks, result.failures ?? []),
        (error) => {
          this.#failure ??= error;
        },
      )
      .finally(() => {
        this.#pool.release(slot);
        this.#pending.delete(done);
      });
    this.#pending.add(done);
  }

  #report(blocks: number[], failures: BlockFailure[]): void {
    const bad = new Set(failures.map((failure) => failure.block));
    this.#options.onBatch(
      blocks.filter((block) => !bad.has(block)),
      failures,
    );
  }

  /** Waits for all batches; rejects with the first failure of a write. */
  async settle(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
    if (this.#failure) throw this.#failure;
  }
}

/** Walks a stream of bytes, copying members out and dropping what lies between. */
class MemberCursor {
  readonly #stream: AsyncIterator<Buffer>;
  #chunk: Buffer = Buffer.alloc(0);
  #at: number;

  constructor(stream: AsyncIterable<Buffer>, offsetBytes: number) {
    this.#stream = stream[Symbol.asyncIterator]();
    this.#at = offsetBytes;
  }

  async copy(member: WantedMember, target: Buffer, targetAt: number): Promise<void> {
    while (this.#at < member.offsetBytes) this.#consume(await this.#available(member.offsetBytes - this.#at));
    for (let copied = 0; copied < member.memberBytes; ) {
      const count = await this.#available(member.memberBytes - copied);
      this.#chunk.copy(target, targetAt + copied, 0, count);
      copied += count;
      this.#consume(count);
    }
  }

  /** How many of `wanted` bytes are at hand, at least one. */
  async #available(wanted: number): Promise<number> {
    while (this.#chunk.length === 0) {
      const next = await this.#stream.next();
      if (next.done) throw new PhdError('TARGET_LIED', 'the target sent fewer bytes than were asked for');
      this.#chunk = next.value;
    }
    return Math.min(wanted, this.#chunk.length);
  }

  #consume(count: number): void {
    this.#chunk = this.#chunk.subarray(count);
    this.#at += count;
  }

  async close(): Promise<void> {
    await this.#stream.return?.();
  }
}
