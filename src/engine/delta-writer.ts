/** Writes a DELTA as one stream (FORMAT.md sections 8 and 9): program, changed blocks, maps, files, manifest, trailer. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import zlib from 'node:zlib';
import {
  PART_ALIGNMENT,
  paddedHead,
  paddingBytes,
  printTrailer,
  sha256Hex,
  TRAILER_BYTES,
} from '../archive/delta-layout.ts';
import {
  digestText,
  type PlanRun,
  printPayloadBlock,
  printPlanRun,
  printRegionDigests,
} from '../archive/delta-maps.ts';
import { blockSizeBytes, DIGEST_BYTES, isZeroMark } from '../archive/geometry.ts';
import {
  type DeltaManifest,
  type FileEntry,
  type Part,
  type PartName,
  printDeltaManifest,
} from '../archive/manifest.ts';
import { encodeEndRecord, MapEncoder, type MapRegion } from '../archive/map.ts';
import type { BlockPool } from '../blocks/pool.ts';
import { type OpenDisk, scanDisk } from '../blocks/scan-disk.ts';
import { BATCH_BLOCKS } from '../blocks/tasks.ts';
import { encryptStream } from '../crypt/message.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { DiskMap } from './map-file.ts';

export interface DeltaFile {
  kind: FileEntry['kind'];
  name: string;
  path: string;
  /** Of a file that does not lie at a local path. */
  bytes?: Buffer;
  sizeBytes: number;
}

export interface DeltaRequest {
  pool: BlockPool;
  disk: OpenDisk;
  /** Map of the FULL, with the places of its members. */
  full: DiskMap;
  /** Map of the disk as it is now; the same object for an empty DELTA. */
  now: DiskMap;
  /** Everything of the manifest that is known before. */
  manifest: Omit<DeltaManifest, 'parts' | 'files' | 'fullMapDigest' | 'mapDigest' | 'payloadBlocks'>;
  files: readonly DeltaFile[];
  /** Null: not encrypted. */
  passphrases: readonly string[] | null;
  level: number;
  onBlocks: (bytes: number) => void;
  signal?: AbortSignal;
}

/** Kept in memory to be written in front of every DELTA. */
let head: Buffer | undefined;

/** The program that stands at the head of every DELTA, padded. */
export function deltaHead(): Buffer {
  head ??= paddedHead(fs.readFileSync(new URL('../archive/delta-program.sh', import.meta.url)));
  return head;
}

export async function* deltaStream(request: DeltaRequest): AsyncGenerator<Buffer> {
  const layout = new Layout();
  const program = deltaHead();
  yield layout.count(program);
  const payload: number[] = [];
  const isEmpty = request.manifest.kind === 'empty';
  if (!isEmpty) yield* storePart(layout, 'blocks', payloadBytes(request, payload), request);
  if (isEmpty) yield* storePart(layout, 'map', mapStream(request.full), request);
  yield* storePart(layout, 'maps', gzip(mapsText(request, payload)), request);
  const files: FileEntry[] = [];
  yield* storePart(layout, 'files', gzip(fileBytes(request.files, files)), request);
  yield layout.padding(PART_ALIGNMENT);
  const manifestOffset = layout.offset;
  const manifest = printDeltaManifest({
    ...request.manifest,
    fullMapDigest: request.passphrases ? null : request.full.end.mapDigest.toString('hex'),
    mapDigest: request.passphrases ? null : request.now.end.mapDigest.toString('hex'),
    payloadBlocks: payload.length,
    parts: layout.parts,
    files,
  });
  yield layout.count(manifest);
  yield layout.padding(TRAILER_BYTES);
  yield printTrailer({
    manifestOffset,
    manifestBytes: manifest.length,
    manifestSha256: sha256Hex(manifest),
    headBytes: program.length,
    headSha256: sha256Hex(program),
    fileBytes: layout.offset + TRAILER_BYTES,
  });
}

/** Counts what was written and where parts came to lie. */
class Layout {
  offset = 0;
  readonly parts: Part[] = [];

  count(bytes: Buffer): Buffer {
    this.offset += bytes.length;
    return bytes;
  }

  padding(alignment: number): Buffer {
    return this.count(Buffer.alloc(paddingBytes(this.offset, alignment)));
  }
}

/** One part, encrypted if the archive is; nothing at all if there is nothing in it. */
async function* storePart(
  layout: Layout,
  name: PartName,
  content: AsyncIterable<Buffer>,
  request: DeltaRequest,
): AsyncGenerator<Buffer> {
  const iterator = content[Symbol.asyncIterator]();
  let first = await iterator.next();
  while (!first.done && first.value.length === 0) first = await iterator.next();
  if (first.done) return;
  const whole = (async function* (): AsyncGenerator<Buffer> {
    try {
      for (let next: IteratorResult<Buffer> = first; !next.done; next = await iterator.next())
        yield next.value;
    } finally {
      await iterator.return?.();
    }
  })();
  yield layout.padding(PART_ALIGNMENT);
  const offsetBytes = layout.offset;
  const hash = createHash('sha256');
  for await (const chunk of request.passphrases ? encryptStream(whole, request.passphrases) : whole) {
    hash.update(chunk);
    yield layout.count(chunk);
  }
  layout.parts.push({
    name,
    offsetBytes,
    sizeBytes: layout.offset - offsetBytes,
    sha256: hash.digest('hex'),
  });
}

/** How a block of the finished disk is told from the FULL. */
function kindOf(now: MapRegion, full: MapRegion, index: number): PlanRun['kind'] {
  const digest = now.digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
  if (isZeroMark(digest)) return 'z';
  return digest.equals(full.digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES)) ? 'u' : 'c';
}

/** Both maps side by side; they have the same geometry. */
async function* regionPairs(request: DeltaRequest): AsyncGenerator<{ now: MapRegion; full: MapRegion }> {
  if (request.now === request.full) {
    for await (const region of request.full.regions()) yield { now: region, full: region };
    return;
  }
  const full = request.full.regions();
  for await (const now of request.now.regions()) {
    const next = await full.next();
    if (next.done) throw new Error('maps of different disks');
    yield { now, full: next.value };
  }
  await full.next();
}

interface Expected {
  blocks: number[];
  digests: Buffer;
}

/** Members of changed blocks; each is read again and must be what the scan saw. */
async function* payloadBytes(request: DeltaRequest, payload: number[]): AsyncGenerator<Buffer> {
  const expected: Expected[] = [];
  const batches = (async function* (): AsyncGenerator<number[]> {
    for await (const batch of changedBatches(request)) {
      expected.push(batch);
      yield batch.blocks;
    }
  })();
  const packing = { codec: 'gzip', level: request.level } as const;
  const options = { packing, withRegions: false, signal: request.signal };
  for await (const batch of scanDisk(request.pool, request.disk, batches, options)) {
    const { digests } = expected.shift() as Expected;
    if (!batch.digests.equals(digests)) {
      throw new PhdError(
        'SOURCE_CHANGED',
        `disk ${request.manifest.disk} changed while it was read: stop the VM or back up a snapshot`,
      );
    }
    for (const bytes of batch.memberBytes) payload.push(bytes);
    yield batch.packed;
    request.onBlocks(
      batch.blocks.reduce((sum, block) => sum + blockSizeBytes(request.disk.geometry, block), 0),
    );
  }
}

async function* changedBatches(request: DeltaRequest): AsyncGenerator<Expected> {
  for await (const { now, full } of regionPairs(request)) {
    let batch: Expected = { blocks: [], digests: Buffer.alloc(0) };
    for (let index = 0; index < now.count; index += 1) {
      if (kindOf(now, full, index) !== 'c') continue;
      batch.blocks.push(now.firstBlock + index);
      batch.digests = Buffer.concat([
        batch.digests,
        now.digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES),
      ]);
      if (batch.blocks.length < BATCH_BLOCKS) continue;
      yield batch;
      batch = { blocks: [], digests: Buffer.alloc(0) };
    }
    if (batch.blocks.length > 0) yield batch;
  }
}

async function* mapStream(map: DiskMap): AsyncGenerator<Buffer> {
  yield encodeEndRecord(map.end);
  const encoder = new MapEncoder(map.end.geometry, map.end.zeroMemberBytes);
  for await (const region of map.regions()) yield* encoder.addRegion(region);
}

async function* mapsText(request: DeltaRequest, payload: readonly number[]): AsyncGenerator<Buffer> {
  let lines = 0;
  for await (const line of mapsLines(request, payload)) {
    lines += line.split('\n').length - 1;
    yield Buffer.from(line);
  }
  yield Buffer.from(`end ${lines}\n`);
}

/** Text in pieces of whole lines. */
async function* mapsLines(request: DeltaRequest, payload: readonly number[]): AsyncGenerator<string> {
  const { full, now } = request;
  yield `phd-maps 1\ndigest full ${digestText(full.end.mapDigest)}\ndigest disk ${digestText(now.end.mapDigest)}\n`;
  yield* planLines(request, payload);
  let at = 0;
  for await (const batch of changedBatches(request)) {
    let text = '';
    batch.blocks.forEach((block, index) => {
      const digest = batch.digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
      text += printPayloadBlock({ block, memberBytes: payload[at]!, digest });
      at += 1;
    });
    yield text;
  }
  for await (const pair of regionPairs(request)) {
    yield printRegionDigests({ region: pair.now.index, disk: pair.now.digest, full: pair.full.digest });
  }
}

/** Runs as long as can be: blocks of one kind in a row have their members in a row. */
async function* planLines(request: DeltaRequest, payload: readonly number[]): AsyncGenerator<string> {
  let run: PlanRun | undefined;
  let fullOffset = request.full.end.dataOffset;
  let payloadOffset = 0;
  let payloadIndex = 0;
  for await (const { now, full } of regionPairs(request)) {
    let text = '';
    for (let index = 0; index < now.count; index += 1) {
      const kind = kindOf(now, full, index);
      const memberBytes = kind === 'c' ? payload[payloadIndex]! : kind === 'u' ? full.memberBytes[index]! : 0;
      if (run?.kind !== kind) {
        if (run) text += printPlanRun(run);
        const offsetBytes = kind === 'u' ? fullOffset : kind === 'c' ? payloadOffset : 0;
        run = { kind, start: now.firstBlock + index, count: 0, offsetBytes, sizeBytes: 0 };
      }
      run.count += 1;
      run.sizeBytes += memberBytes;
      fullOffset += full.memberBytes[index]!;
      if (kind !== 'c') continue;
      payloadOffset += memberBytes;
      payloadIndex += 1;
    }
    if (text !== '') yield text;
  }
  if (run) yield printPlanRun(run);
}

async function* fileBytes(files: readonly DeltaFile[], entries: FileEntry[]): AsyncGenerator<Buffer> {
  for (const file of files) {
    const bytes =
      file.bytes ??
      (await fs.promises.readFile(file.path).catch((error) => {
        throw fromErrno(error, `cannot read ${file.path}`);
      }));
    const kept = bytes.subarray(0, file.sizeBytes);
    entries.push({ kind: file.kind, name: file.name, sizeBytes: kept.length });
    yield kept;
  }
}

/** One gzip member of a stream; a file part without bytes still gets one, so that it can be opened. */
async function* gzip(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const packer = zlib.createGzip({ level: 6 });
  const done = pipeline(Readable.from(source, { objectMode: false }), packer);
  done.catch(() => undefined);
  for await (const chunk of packer) yield chunk as Buffer;
  await done;
}
