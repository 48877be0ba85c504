/** Opens a DELTA by parsing it (it is never run): trailer, manifest, parts, maps. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { Readable } from 'node:stream';
import zlib from 'node:zlib';
import {
  type MapsLine,
  type PayloadBlock,
  type PlanRun,
  parseMapsLine,
  type RegionDigests,
} from '../archive/delta-maps.ts';
import { geometryOf } from '../archive/geometry.ts';
import type { DeltaManifest, Part, PartName } from '../archive/manifest.ts';
import { END_RECORD_BYTES } from '../archive/map.ts';
import { decryptStream } from '../crypt/message.ts';
import { openRandomMessage } from '../crypt/random-read.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { ByteSource } from '../model/byte-source.ts';
import { type ArchivePlace, placeText, sliceSource, storedBytes } from './archive-place.ts';
import { readDeltaManifest } from './delta-manifest.ts';
import type { Scratch } from './scratch.ts';

export interface OpenDelta {
  place: ArchivePlace;
  manifest: DeltaManifest;
  headBytes: number;
  headSha256: string;
  stored: ByteSource;
  /** Undefined if the DELTA has no such part. */
  part(name: PartName): Part | undefined;
  /** Plain content of a part. Provisional until it ends normally: stored digest (and MDC) are checked then. */
  content(name: PartName): AsyncGenerator<Buffer>;
  /** Plain content of a part for random reads; bytes count only by digests from part `maps`. */
  random(name: PartName): Promise<ByteSource>;
}

/** Throws ARCHIVE_DAMAGED, FORMAT_UNSUPPORTED, TARGET_*. */
export async function openDelta(
  place: ArchivePlace,
  passphrases: readonly string[],
  signal?: AbortSignal,
): Promise<OpenDelta> {
  const what = placeText(place);
  const stored = storedBytes(place, signal);
  try {
    const { trailer, manifest } = await readDeltaManifest(stored);
    const part = (name: PartName): Part | undefined => manifest.parts.find((one) => one.name === name);
    return {
      place,
      manifest,
      headBytes: trailer.headBytes,
      headSha256: trailer.headSha256,
      stored,
      part,
      content: (name) =>
        partContent(stored, requirePart(part(name), name, what), manifest, passphrases, what),
      random: (name) => partRandom(stored, requirePart(part(name), name, what), manifest, passphrases, what),
    };
  } catch (error) {
    throw error instanceof PhdError && !error.message.startsWith(what)
      ? new PhdError(error.code, `${what}: ${error.message}`, { cause: error })
      : error;
  }
}

function requirePart(part: Part | undefined, name: string, what: string): Part {
  if (!part) throw new PhdError('ARCHIVE_DAMAGED', `${what}: part ${name} is missing`);
  return part;
}

async function* partContent(
  stored: ByteSource,
  part: Part,
  manifest: DeltaManifest,
  passphrases: readonly string[],
  what: string,
): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  const bytes = (async function* (): AsyncGenerator<Buffer> {
    for await (const chunk of stored.read(part.offsetBytes, part.sizeBytes)) {
      hash.update(chunk);
      yield chunk;
    }
  })();
  yield* manifest.encrypted ? decryptStream(bytes, passphrases, what) : bytes;
  if (hash.digest('hex') !== part.sha256) {
    throw new PhdError('ARCHIVE_DAMAGED', `${what}: part ${part.name} does not match its digest`);
  }
}

function partRandom(
  stored: ByteSource,
  part: Part,
  manifest: DeltaManifest,
  passphrases: readonly string[],
  what: string,
): Promise<ByteSource> {
  const slice = sliceSource(stored, part.offsetBytes, part.sizeBytes);
  return manifest.encrypted ? openRandomMessage(slice, passphrases, what) : Promise.resolve(slice);
}

/** Part `maps`, proved as a whole and kept in scratch files. */
export interface DeltaMaps {
  fullMapDigest: Buffer;
  mapDigest: Buffer;
  plan(): AsyncGenerator<PlanRun>;
  payload(): AsyncGenerator<PayloadBlock>;
  regions(): AsyncGenerator<RegionDigests>;
}

/** Sections of part `maps` come in this order. */
const SECTIONS = ['phd-maps', 'digest', 'p', 'b', 'r', 'end'] as const;

/** Reads part `maps` whole. Throws ARCHIVE_DAMAGED, PASSPHRASE_*. */
export async function loadMaps(delta: OpenDelta, scratch: Scratch): Promise<DeltaMaps> {
  const what = placeText(delta.place);
  const geometry = geometryOf(delta.manifest.diskBytes, delta.manifest.blockBytes);
  const limits = { p: geometry.blockCount, b: delta.manifest.payloadBlocks, r: geometry.regionCount };
  const counts = { 'phd-maps': 0, digest: 0, p: 0, b: 0, r: 0, end: 0 };
  const digests: { full?: Buffer; disk?: Buffer } = {};
  const spools = {
    p: new Spool(scratch.file('plan')),
    b: new Spool(scratch.file('payload')),
    r: new Spool(scratch.file('regions')),
  };
  let section = 0;
  let lines = 0;
  const take = (text: string): void => {
    const line = parseMapsLine(text);
    const at = SECTIONS.indexOf(line.key);
    if (at < section || counts.end > 0)
      throw new PhdError('ARCHIVE_DAMAGED', 'part maps of the DELTA: lines are out of order');
    section = at;
    counts[line.key] += 1;
    if (line.key === 'digest') digests[line.of] = line.digest;
    if (line.key === 'end' && line.lines !== lines)
      throw new PhdError('ARCHIVE_DAMAGED', 'part maps of the DELTA: lines are missing');
    if (line.key === 'p' || line.key === 'b' || line.key === 'r') {
      if (counts[line.key] > limits[line.key])
        throw new PhdError('ARCHIVE_DAMAGED', 'part maps of the DELTA: too many lines');
      spools[line.key].add(text);
    }
    lines += 1;
  };
  try {
    await eachLine(gunzip(delta.content('maps')), take);
    for (const spool of Object.values(spools)) spool.finish();
    const isWhole =
      counts['phd-maps'] === 1 && counts.end === 1 && counts.b === limits.b && counts.r === limits.r;
    if (!isWhole || !digests.full || !digests.disk)
      throw new PhdError('ARCHIVE_DAMAGED', 'part maps of the DELTA is not whole');
  } catch (error) {
    throw error instanceof PhdError && !error.message.startsWith(what)
      ? new PhdError(error.code, `${what}: ${error.message}`, { cause: error })
      : error;
  } finally {
    for (const spool of Object.values(spools)) spool.finish();
  }
  return {
    fullMapDigest: digests.full,
    mapDigest: digests.disk,
    plan: () => spools.p.read((line) => (line.key === 'p' ? line.run : undefined)),
    payload: () => spools.b.read((line) => (line.key === 'b' ? line.entry : undefined)),
    regions: () => spools.r.read((line) => (line.key === 'r' ? line.entry : undefined)),
  };
}

/** Lines of one kind, kept in a file so that their number does not matter. */
class Spool {
  readonly #path: string;
  readonly #fd: number;
  #text = '';
  #isOpen = true;

  constructor(path: string) {
    this.#path = path;
    try {
      this.#fd = fs.openSync(path, 'w', 0o600);
    } catch (error) {
      throw fromErrno(error, `cannot write ${path}`);
    }
  }

  add(line: string): void {
    this.#text += line + '\n';
    if (this.#text.length > 65_536) this.#flush();
  }

  #flush(): void {
    try {
      fs.writeSync(this.#fd, this.#text);
    } catch (error) {
      throw fromErrno(error, `cannot write ${this.#path}`);
    }
    this.#text = '';
  }

  finish(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    try {
      this.#flush();
    } finally {
      fs.closeSync(this.#fd);
    }
  }

  async *read<T>(pick: (line: MapsLine) => T | undefined): AsyncGenerator<T> {
    const stream = fs.createReadStream(this.#path, { encoding: 'latin1', highWaterMark: 1 << 18 });
    let rest = '';
    for await (const chunk of stream) {
      const lines = (rest + (chunk as string)).split('\n');
      rest = lines.pop() as string;
      for (const text of lines) {
        const value = pick(parseMapsLine(text));
        if (value !== undefined) yield value;
      }
    }
  }
}

/** A line of part maps never is longer than this. */
const MAX_LINE_CHARS = 400;

async function eachLine(source: AsyncIterable<Buffer>, take: (line: string) => void): Promise<void> {
  let rest = '';
  for await (const chunk of source) {
    const lines = (rest + chunk.toString('latin1')).split('\n');
    rest = lines.pop() as string;
    if (rest.length > MAX_LINE_CHARS)
      throw new PhdError('ARCHIVE_DAMAGED', 'part maps of the DELTA: a line is too long');
    for (const line of lines) take(line);
  }
  if (rest !== '') throw new PhdError('ARCHIVE_DAMAGED', 'part maps of the DELTA: the last line is cut');
}

/** Inflates a stream; errors of the source pass unchanged, errors of the data are ARCHIVE_DAMAGED. */
export async function* gunzip(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let sourceError: unknown;
  const guarded = (async function* (): AsyncGenerator<Buffer> {
    try {
      yield* source;
    } catch (error) {
      sourceError = error;
      throw error;
    }
  })();
  const input = Readable.from(guarded, { objectMode: false });
  const inflater = zlib.createGunzip();
  input.on('error', (error) => inflater.destroy(error));
  input.pipe(inflater);
  try {
    for await (const chunk of inflater) yield chunk as Buffer;
  } catch (error) {
    if (sourceError) throw sourceError;
    throw new PhdError('ARCHIVE_DAMAGED', 'compressed data is damaged', { cause: error });
  } finally {
    input.destroy();
    inflater.destroy();
  }
  if (sourceError) throw sourceError;
}

/** The map that an empty DELTA carries: end record, then page data. Who leaves the pages unread calls `close`. */
export async function readMapPart(
  delta: OpenDelta,
): Promise<{ record: Buffer; pages: AsyncGenerator<Buffer>; close(): Promise<void> }> {
  const content = delta.content('map');
  let start: Buffer = Buffer.alloc(0);
  while (start.length < END_RECORD_BYTES) {
    const next = await content.next();
    if (next.done) throw new PhdError('ARCHIVE_DAMAGED', `${placeText(delta.place)}: part map is cut`);
    start = Buffer.concat([start, next.value]);
  }
  const first = start;
  const pages = (async function* (): AsyncGenerator<Buffer> {
    if (first.length > END_RECORD_BYTES) yield first.subarray(END_RECORD_BYTES);
    yield* content;
  })();
  const close = async (): Promise<void> => void (await content.return(undefined));
  return { record: first.subarray(0, END_RECORD_BYTES), pages, close };
}
