/**
 * What the finished disk of a restore must be, block by block, and where each block comes from: the map of the FULL,
 * overlaid with the plan of a DELTA. Streamed region by region, proved as a whole when it has run to its end.
 */
import { createHash } from 'node:crypto';
import type { PayloadBlock, PlanRun } from '../archive/delta-maps.ts';
import { DIGEST_BYTES, isZeroMark } from '../archive/geometry.ts';
import type { MapRegion } from '../archive/map.ts';
import { PhdError } from '../errors.ts';
import type { DeltaMaps } from './delta-reader.ts';
import type { DiskMap } from './map-file.ts';

/** Where the bytes of a block are. */
export const FROM_ZERO = 0;
export const FROM_FULL = 1;
export const FROM_DELTA = 2;

export interface ExpectedRegion {
  index: number;
  firstBlock: number;
  count: number;
  /** Of the finished disk, 32 bytes a block, zero marks included. */
  digests: Buffer;
  /** FROM_* for each block. */
  sources: Uint8Array;
  /** Offset of each block's member in its source. */
  offsets: Float64Array;
  memberBytes: Uint32Array;
}

/** Regions of the finished disk. Without `maps` it is the disk of the FULL. Throws ARCHIVE_DAMAGED. */
export async function* expectedRegions(
  full: DiskMap,
  maps: DeltaMaps | null,
): AsyncGenerator<ExpectedRegion> {
  const overlay = maps ? new Overlay(maps) : null;
  let offset = full.end.dataOffset;
  try {
    for await (const region of full.regions()) {
      const expected = ofFull(region, offset);
      for (const bytes of region.memberBytes) offset += bytes;
      if (overlay) await overlay.apply(expected, region);
      yield expected;
    }
    await overlay?.finish();
  } finally {
    await overlay?.close();
  }
}

function ofFull(region: MapRegion, dataOffset: number): ExpectedRegion {
  const { index, firstBlock, count, digests, memberBytes } = region;
  const sources = new Uint8Array(count);
  const offsets = new Float64Array(count);
  let offset = dataOffset;
  for (let at = 0; at < count; at += 1) {
    const isZero = isZeroMark(digests.subarray(at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES));
    sources[at] = isZero ? FROM_ZERO : FROM_FULL;
    offsets[at] = offset;
    offset += memberBytes[at]!;
  }
  return { index, firstBlock, count, digests, sources, offsets, memberBytes };
}

/** Lays the plan of a DELTA over the regions of its FULL, checking that it covers every block once. */
class Overlay {
  readonly #mapDigest: Buffer;
  readonly #plan: AsyncGenerator<PlanRun>;
  readonly #payload: AsyncGenerator<PayloadBlock>;
  readonly #hash = createHash('sha256');
  #run: PlanRun | undefined;
  #payloadOffset = 0;

  constructor(maps: DeltaMaps) {
    this.#mapDigest = maps.mapDigest;
    this.#plan = maps.plan();
    this.#payload = maps.payload();
  }

  async apply(expected: ExpectedRegion, full: MapRegion): Promise<void> {
    const digests = Buffer.from(expected.digests);
    const memberBytes = Uint32Array.from(expected.memberBytes);
    for (let at = 0; at < expected.count; at += 1) {
      const block = expected.firstBlock + at;
      const run = await this.#runAt(block, expected.offsets[at]!);
      if (run.kind === 'u') {
        if (expected.sources[at] !== FROM_FULL)
          throw damaged(`block ${block} is said to be in the FULL, where it is zero`);
      } else if (run.kind === 'z') {
        expected.sources[at] = FROM_ZERO;
        digests.fill(0, at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES);
      } else {
        const entry = await this.#nextPayload(block);
        expected.sources[at] = FROM_DELTA;
        expected.offsets[at] = this.#payloadOffset;
        memberBytes[at] = entry.memberBytes;
        entry.digest.copy(digests, at * DIGEST_BYTES);
        this.#payloadOffset += entry.memberBytes;
      }
    }
    if (full.count !== expected.count) throw damaged('a region has the wrong size');
    expected.digests = digests;
    expected.memberBytes = memberBytes;
    this.#hash.update(digests);
  }

  async #runAt(block: number, fullOffset: number): Promise<PlanRun> {
    if (this.#run && block < this.#run.start + this.#run.count) return this.#run;
    const next = await this.#plan.next();
    if (next.done || next.value.start !== block || next.value.count === 0)
      throw damaged(`the plan does not name block ${block}`);
    const run = next.value;
    const isPlaced =
      run.kind === 'z' ||
      (run.kind === 'c' && run.offsetBytes === this.#payloadOffset) ||
      (run.kind === 'u' && (run.sizeBytes === 0 || run.offsetBytes === fullOffset));
    if (!isPlaced) throw damaged(`the plan places block ${block} wrongly`);
    this.#run = run;
    return run;
  }

  async #nextPayload(block: number): Promise<PayloadBlock> {
    const next = await this.#payload.next();
    if (next.done || next.value.block !== block || isZeroMark(next.value.digest)) {
      throw damaged(`the list of changed blocks does not name block ${block}`);
    }
    return next.value;
  }

  async finish(): Promise<void> {
    const isDone = (await this.#plan.next()).done && (await this.#payload.next()).done;
    if (!isDone) throw damaged('the plan is longer than the disk');
    if (!this.#hash.digest().equals(this.#mapDigest))
      throw damaged('the finished disk does not match its digest');
  }

  async close(): Promise<void> {
    await Promise.all([this.#plan.return(undefined), this.#payload.return(undefined)]);
  }
}

function damaged(what: string): PhdError {
  return new PhdError('ARCHIVE_DAMAGED', `part maps of the DELTA: ${what}`);
}
