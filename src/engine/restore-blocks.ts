/** Brings the blocks a disk lacks: in one run over the FULL and one over the DELTA, each block proved before it is written. */
import { blockSizeBytes, DIGEST_BYTES, type Geometry } from '../archive/geometry.ts';
import type { BlockSet } from '../blocks/block-set.ts';
import { placeStream } from '../blocks/check-disk.ts';
import { DiskFiller, groupMembers, type WantedMember } from '../blocks/fill-disk.ts';
import type { BlockPool } from '../blocks/pool.ts';
import type { OpenDisk } from '../blocks/scan-disk.ts';
import type { BlockFailure } from '../blocks/tasks.ts';
import { PhdError } from '../errors.ts';
import type { ByteSource } from '../model/byte-source.ts';
import { type ArchivePlace, placeText } from './archive-place.ts';
import type { OperationHooks } from './backup.ts';
import { type ExpectedRegion, expectedRegions, FROM_DELTA, FROM_FULL } from './expected-disk.ts';
import { isOpenFull } from './full-reader.ts';
import { lzopPlain } from './lzop.ts';
import type { Progress } from './progress.ts';
import { openOtherDelta, openOtherFull, type RestoreSource } from './restore-source.ts';

export interface BringRequest {
  pool: BlockPool;
  disk: OpenDisk;
  source: RestoreSource;
  /** Blocks still wanted; each leaves the set when it is proved and written. */
  wanted: BlockSet;
  progress: Progress;
  /** Counts bytes that went to the disk. */
  onWritten?: (bytes: number) => void;
  hooks: OperationHooks;
  /** Only check the archives, write nothing. */
  check?: boolean;
}

export interface BringResult {
  fromFull: number;
  fromDelta: number;
  /** Blocks that were bad at first and good at the second reading or in another copy. */
  retried: number;
  /** Blocks that are good nowhere, with the reason of the first failure. */
  bad: Map<number, string>;
}

/** One archive with its copies: opened as it is needed. */
interface Copies {
  from: number;
  codec: 'gzip' | 'zstd';
  primary: { source: ByteSource; place: ArchivePlace };
  others: ArchivePlace[];
  open: (place: ArchivePlace) => Promise<ByteSource>;
}

export async function bringBlocks(request: BringRequest): Promise<BringResult> {
  const { source, hooks } = request;
  const result: BringResult = { fromFull: 0, fromDelta: 0, retried: 0, bad: new Map() };
  if (!isOpenFull(source.full)) await bringFromStream(request, result);
  else {
    const { full } = source;
    result.fromFull = await bringFrom(request, result.bad, {
      from: FROM_FULL,
      codec: full.codec,
      primary: { source: full.plain, place: full.place },
      others: source.otherFulls,
      open: (place) => openOtherFull(source, place, hooks.signal),
    });
  }
  if (source.delta?.part('blocks')) {
    result.fromDelta = await bringFrom(request, result.bad, {
      from: FROM_DELTA,
      codec: 'gzip',
      primary: { source: await source.delta.random('blocks'), place: source.delta.place },
      others: source.otherDeltas,
      open: (place) => openOtherDelta(source, place, hooks.signal),
    });
  }
  result.retried = retriedOf(request, result.bad);
  return result;
}

/** Blocks that failed once and are written now; what remains in `bad` is good nowhere. */
function retriedOf(request: BringRequest, bad: Map<number, string>): number {
  let retried = 0;
  for (const block of [...bad.keys()]) {
    if (request.wanted.has(block)) continue;
    bad.delete(block);
    retried += 1;
  }
  return retried;
}

async function bringFrom(request: BringRequest, bad: Map<number, string>, copies: Copies): Promise<number> {
  let count = 0;
  const onBatch = (good: number[], failures: BlockFailure[]): void => {
    for (const block of good) {
      if (!request.wanted.has(block)) continue;
      request.wanted.delete(block);
      count += 1;
      const from = copies.from === FROM_FULL ? 'full' : 'delta';
      request.progress.add(blockSizeBytes(request.disk.geometry, block), from);
      request.onWritten?.(blockSizeBytes(request.disk.geometry, block));
    }
    for (const failure of failures) if (!bad.has(failure.block)) bad.set(failure.block, failure.reason);
  };
  const lines = lineOfSources(request, copies);
  await pass(request, copies, lines, onBatch);
  // Once more from the same place, then from each other copy: a flip on the way is not a flip on the disk.
  for (let attempt = 0; attempt <= copies.others.length && hasBad(bad, request.wanted); attempt += 1) {
    const again =
      attempt === 0
        ? lines
        : lineOfSources(
            request,
            { ...copies, others: copies.others.slice(attempt) },
            copies.others[attempt - 1],
          );
    const before = [...bad.keys()].filter((block) => request.wanted.has(block));
    const only = new Set(before);
    await pass(request, copies, again, onBatch, only).catch((error) => {
      if (!(error instanceof PhdError) || error.code === 'CANCELLED' || error.code === 'NO_SPACE')
        throw error;
      request.hooks.onWarning?.(error.message);
    });
    const where =
      attempt === 0 ? 'at the second reading' : `in ${placeText(copies.others[attempt - 1] as ArchivePlace)}`;
    for (const block of before) {
      if (!request.wanted.has(block))
        request.hooks.onWarning?.(
          `block ${block} of ${placeText(copies.primary.place)} was bad (${bad.get(block)}) and good ${where}`,
        );
    }
  }
  return count;
}

function hasBad(bad: Map<number, string>, wanted: BlockSet): boolean {
  for (const block of bad.keys()) if (wanted.has(block)) return true;
  return false;
}

interface SourceLine {
  /** The source in use; moves on when it fails as a whole. */
  current(): Promise<ByteSource>;
  /** Gives up the present source; false if there is no other. */
  next(error: PhdError): boolean;
}

/** The copies in order: the first in use until its line fails for good. */
function lineOfSources(request: BringRequest, copies: Copies, first?: ArchivePlace): SourceLine {
  const rest = [...copies.others];
  let place = first ?? copies.primary.place;
  let opened: Promise<ByteSource> | undefined = first ? undefined : Promise.resolve(copies.primary.source);
  return {
    current: () => {
      opened ??= copies.open(place);
      return opened;
    },
    next: (error) => {
      const other = rest.shift();
      if (!other) return false;
      request.hooks.onWarning?.(`${placeText(place)}: ${error.message}; going on with ${placeText(other)}`);
      place = other;
      opened = undefined;
      return true;
    },
  };
}

/** One run over all wanted blocks of one archive (or `only` some of them). */
async function pass(
  request: BringRequest,
  copies: Copies,
  line: SourceLine,
  onBatch: (good: number[], failures: BlockFailure[]) => void,
  only?: Set<number>,
): Promise<void> {
  const { pool, disk, source, hooks, wanted } = request;
  if (!source.fullMap) throw new PhdError('FORMAT_UNSUPPORTED', `${placeText(source.full.place)} has no map`);
  const filler = new DiskFiller(pool, disk.fd, disk.geometry, {
    codec: copies.codec,
    check: request.check ?? false,
    onBatch,
    signal: hooks.signal,
  });
  const members = wantedMembers(
    expectedRegions(source.fullMap, source.maps),
    copies.from,
    (block) => wanted.has(block) && (only?.has(block) ?? true),
  );
  try {
    for await (const group of groupMembers(members)) await fillGroup(filler, line, group, wanted);
  } finally {
    await filler.settle();
  }
}

async function fillGroup(
  filler: DiskFiller,
  line: SourceLine,
  group: WantedMember[],
  wanted: BlockSet,
): Promise<void> {
  let rest = group;
  for (;;) {
    try {
      await filler.fill(await line.current(), rest);
      return;
    } catch (error) {
      const isLine = error instanceof PhdError && LINE_ERRORS.has(error.code);
      if (!isLine || !line.next(error)) throw error;
      await filler.settle();
      rest = group.filter((member) => wanted.has(member.block));
      if (rest.length === 0) return;
    }
  }
}

/** Failures that another copy can cure. */
const LINE_ERRORS = new Set([
  'TARGET_UNREACHABLE',
  'TARGET_REFUSED',
  'TARGET_LIED',
  'NOT_FOUND',
  'IO',
  'ARCHIVE_DAMAGED',
  'WRONG_FULL',
  'HOST_KEY_REFUSED',
]);

async function* wantedMembers(
  regions: AsyncIterable<ExpectedRegion>,
  from: number,
  isWanted: (block: number) => boolean,
): AsyncGenerator<WantedMember> {
  for await (const region of regions) {
    for (let at = 0; at < region.count; at += 1) {
      const block = region.firstBlock + at;
      if (region.sources[at] !== from || !isWanted(block)) continue;
      yield {
        block,
        offsetBytes: region.offsets[at]!,
        memberBytes: region.memberBytes[at]!,
        digest: region.digests.subarray(at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES),
      };
    }
  }
}

/** A FULL that only opens from its beginning (lzop): one run over all of it; bad blocks have no second source. */
async function bringFromStream(request: BringRequest, result: BringResult): Promise<void> {
  const { source, wanted, disk, pool, hooks } = request;
  if (!source.fullMap) throw new PhdError('FORMAT_UNSUPPORTED', `${placeText(source.full.place)} has no map`);
  const fullOnly = new Set<number>();
  const onBatch = (good: number[], failures: BlockFailure[]): void => {
    for (const block of good) {
      wanted.delete(block);
      result.fromFull += 1;
      request.progress.add(blockSizeBytes(disk.geometry, block));
      request.onWritten?.(blockSizeBytes(disk.geometry, block));
    }
    for (const failure of failures) result.bad.set(failure.block, failure.reason);
  };
  const regions = noting(expectedRegions(source.fullMap, source.maps), fullOnly);
  await placeStream(pool, disk, lzopPlain(source.full.plain), regions, {
    isWanted: (block) => wanted.has(block) && fullOnly.has(block),
    onBatch,
    signal: hooks.signal,
    check: request.check ?? false,
  });
}

/** Remembers which blocks of the region under way come from the FULL. */
async function* noting(
  regions: AsyncIterable<ExpectedRegion>,
  fromFull: Set<number>,
): AsyncGenerator<ExpectedRegion> {
  for await (const region of regions) {
    fromFull.clear();
    region.sources.forEach((from, at) => {
      if (from === FROM_FULL) fromFull.add(region.firstBlock + at);
    });
    yield region;
  }
}

/** Blocks of a disk that hold data. */
export async function countSources(
  source: RestoreSource,
  geometry: Geometry,
  visit: (region: ExpectedRegion) => void,
): Promise<void> {
  if (!source.fullMap) throw new PhdError('FORMAT_UNSUPPORTED', `${placeText(source.full.place)} has no map`);
  const { end } = source.fullMap;
  if (end.geometry.diskBytes !== geometry.diskBytes || end.geometry.blockBytes !== geometry.blockBytes) {
    throw new PhdError('WRONG_FULL', `${placeText(source.full.place)} is of a disk of another size`);
  }
  for await (const region of expectedRegions(source.fullMap, source.maps)) visit(region);
}
