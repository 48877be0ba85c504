/** Blocks of a disk behind a reader: into shared memory ahead of the workers, or compared by digests of the host's. */
import { DIGEST_BYTES, type Geometry } from '../archive/geometry.ts';
import type { MapRegion } from '../archive/map.ts';
import { PhdError, throwIfAborted } from '../errors.ts';
import type { DiskReader, RegionDigests } from '../model/disk-reader.ts';
import type { ScannedBatch, ScannedRegion } from './scan-disk.ts';

/** Regions whose digests a host is asked for at once: it hashes one while the next is on its way. */
const REGIONS_AHEAD = 3;

/** Fills `raw` with `blocks` (ascending), blockBytes apart, one request for each run of consecutive ones. */
export async function fetchBlocks(
  reader: DiskReader,
  { blockBytes, diskBytes }: Geometry,
  blocks: readonly number[],
  raw: Buffer,
  signal?: AbortSignal,
): Promise<void> {
  const requests: Promise<void>[] = [];
  for (let from = 0; from < blocks.length; ) {
    let to = from + 1;
    while (to < blocks.length && blocks[to] === blocks[to - 1]! + 1) to += 1;
    const first = blocks[from]!;
    const bytes = Math.min((to - from) * blockBytes, diskBytes - first * blockBytes);
    requests.push(reader.read(first, raw.subarray(from * blockBytes, from * blockBytes + bytes), signal));
    from = to;
  }
  // All must have ended before the memory is given away, also when one has failed.
  const failed = (await Promise.allSettled(requests)).find((one) => one.status === 'rejected');
  if (failed) throw failed.reason;
}

/** Compares regions by digests made on the host. */
export async function* compareByDigests(
  digestsOf: NonNullable<DiskReader['digests']>,
  full: AsyncGenerator<MapRegion>,
  signal?: AbortSignal,
): AsyncGenerator<ScannedRegion> {
  const started: { region: MapRegion; result: Promise<RegionDigests> }[] = [];
  try {
    let more = true;
    for (;;) {
      throwIfAborted(signal);
      while (more && started.length < REGIONS_AHEAD) {
        const { value: region, done } = await full.next();
        more = !done;
        if (done) break;
        const result = digestsOf(region, signal);
        result.catch(() => undefined);
        started.push({ region, result });
      }
      const head = started.shift();
      if (!head) return;
      yield compared(head.region, await head.result);
    }
  } finally {
    await Promise.allSettled(started.map((one) => one.result));
    await full.return(undefined);
  }
}

/** Compares regions whose blocks were read over the line, in order. */
export async function* compareByBlocks(
  batches: AsyncGenerator<ScannedBatch>,
  full: AsyncGenerator<MapRegion>,
): AsyncGenerator<ScannedRegion> {
  try {
    let digests: Buffer[] = [];
    for await (const batch of batches) {
      digests.push(batch.digests);
      if (!batch.regionDigest) continue;
      const { value: region, done } = await full.next();
      if (done) throw new Error('the map ends before the disk');
      yield compared(region, { digests: Buffer.concat(digests), regionDigest: batch.regionDigest });
      digests = [];
    }
  } finally {
    await full.return(undefined);
  }
}

function compared(region: MapRegion, { digests, regionDigest }: RegionDigests): ScannedRegion {
  const { firstBlock, count } = region;
  if (digests.length !== count * DIGEST_BYTES || regionDigest.length !== DIGEST_BYTES) {
    throw new PhdError('TARGET_LIED', `the host gave other digests than those of ${count} blocks`);
  }
  let changedBlocks = 0;
  for (let at = 0; at < digests.length; at += DIGEST_BYTES) {
    if (!digests.subarray(at, at + DIGEST_BYTES).equals(region.digests.subarray(at, at + DIGEST_BYTES)))
      changedBlocks += 1;
  }
  return {
    blocks: Array.from({ length: count }, (_, index) => firstBlock + index),
    digests,
    memberBytes: new Uint32Array(count),
    regionDigest,
    changedBlocks,
  };
}
