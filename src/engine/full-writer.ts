/** Writes a FULL as one stream, and its index map into a local file on the way (FORMAT.md sections 3 to 7). */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { blockSizeBytes, type Geometry } from '../archive/geometry.ts';
import { emptyMember, zeroBlockMember } from '../archive/gzip-member.ts';
import { decodeMap, type EndRecord, encodeEndRecord, MapEncoder } from '../archive/map.ts';
import {
  seekTableEntry,
  seekTableFooter,
  seekTableHead,
  skippableFrame,
  skippableFrameBytes,
  zstdFrame,
} from '../archive/zstd-frame.ts';
import type { BlockPool } from '../blocks/pool.ts';
import { allBlocks, type OpenDisk, type ScannedBatch, scanDisk } from '../blocks/scan-disk.ts';
import { PhdError } from '../errors.ts';
import type { Codec } from '../model/archive.ts';
import { MapFileWriter } from './map-file.ts';

export interface FullRequest {
  pool: BlockPool;
  disk: OpenDisk;
  codec: Codec;
  level: number;
  /** The head record; not used by lzop. */
  head: Buffer;
  /** New file for the map. */
  mapPath: string;
  onBlocks: (bytes: number) => void;
  signal?: AbortSignal;
}

export interface FullStream {
  /** A chunk's memory is used again once the next one is asked for. */
  bytes: AsyncGenerator<Buffer>;
  /** The map's end record, once `bytes` has run to its end. */
  end(): EndRecord;
  /** Frees what the stream holds if it is not run to its end. */
  close(): void;
}

/** Levels when none is asked for: what the goals are measured with. */
export const DEFAULT_LEVEL: Record<Codec, number> = { gzip: 1, zstd: 3, lzop: 1 };

/** The stream of a FULL before encryption. */
export function fullStream(request: FullRequest): FullStream {
  const { geometry } = request.disk;
  const map = new MapFileWriter(request.mapPath, geometry, zeroMemberBytes(request, geometry));
  let end: EndRecord | undefined;
  const finish = (places: { dataOffset: number; tableOffset: number }): EndRecord => {
    end = map.finish({ ...places, headDigest: createHash('sha256').update(request.head).digest() });
    return end;
  };
  const bytes =
    request.codec === 'lzop' ? lzopStream(request, map, finish) : memberStream(request, map, finish);
  return {
    bytes,
    end: () => {
      if (!end) throw new Error('the FULL is not finished');
      return end;
    },
    close: () => map.close(),
  };
}

function zeroMemberBytes(request: FullRequest, geometry: Geometry): number {
  if (request.codec === 'lzop') return 0;
  if (request.codec === 'gzip') return zeroBlockMember(geometry.blockBytes).length;
  return zstdFrame(Buffer.alloc(geometry.blockBytes), request.level).length;
}

async function* scanned(request: FullRequest, map: MapFileWriter): AsyncGenerator<ScannedBatch> {
  const { pool, disk, codec, level, signal } = request;
  const options = {
    packing: codec === 'lzop' ? null : { codec, level },
    withRegions: true,
    keepRaw: codec === 'lzop',
    lendPacked: true,
    signal,
  };
  for await (const batch of scanDisk(pool, disk, allBlocks(disk.geometry), options)) {
    map.add(batch);
    yield batch;
    const last = batch.blocks.at(-1) as number;
    request.onBlocks(
      (batch.blocks.length - 1) * disk.geometry.blockBytes + blockSizeBytes(disk.geometry, last),
    );
  }
}

type Finish = (places: { dataOffset: number; tableOffset: number }) => EndRecord;

async function* memberStream(
  request: FullRequest,
  map: MapFileWriter,
  finish: Finish,
): AsyncGenerator<Buffer> {
  const wrap = request.codec === 'gzip' ? emptyMember : skippableFrame;
  const head = wrap('H', request.head);
  yield head;
  let offset = head.length;
  for await (const batch of scanned(request, map)) {
    offset += batch.packed.length;
    yield batch.packed;
  }
  const end = finish({ dataOffset: head.length, tableOffset: offset });
  for await (const page of pagesOf(end, map)) yield wrap('M', page);
  const record = encodeEndRecord(end);
  yield wrap('E', record);
  if (request.codec === 'zstd') yield* seekTable(request, end, map, record.length);
}

/** Single pages, cut out of the map file again. */
async function* pagesOf(end: EndRecord, map: MapFileWriter): AsyncGenerator<Buffer> {
  const encoder = new MapEncoder(end.geometry, end.zeroMemberBytes);
  for await (const region of decodeMap(end, map.pages())) yield* encoder.addRegion(region);
}

/** The published seekable table: an entry for each frame, ours without content included. */
async function* seekTable(
  request: FullRequest,
  end: EndRecord,
  map: MapFileWriter,
  recordBytes: number,
): AsyncGenerator<Buffer> {
  const { geometry } = end;
  const frameCount = 2 + geometry.blockCount + end.pageCount;
  yield seekTableHead(frameCount);
  const single = (frameBytes: number): Buffer => {
    const entry = Buffer.alloc(8);
    seekTableEntry(entry, 0, frameBytes, 0);
    return entry;
  };
  yield single(skippableFrameBytes(request.head.length));
  for await (const region of decodeMap(end, map.pages())) {
    const entries = Buffer.alloc(8 * region.count);
    region.memberBytes.forEach((bytes, index) => {
      seekTableEntry(entries, 8 * index, bytes, blockSizeBytes(geometry, region.firstBlock + index));
    });
    yield entries;
  }
  for await (const page of pagesOf(end, map)) yield single(skippableFrameBytes(page.length));
  yield single(skippableFrameBytes(recordBytes));
  yield seekTableFooter(frameCount);
}

/** Everything through the `lzop` program; its exit status is part of the stream. */
async function* lzopStream(request: FullRequest, map: MapFileWriter, finish: Finish): AsyncGenerator<Buffer> {
  const child = spawn('lzop', [`-${request.level}`, '-c'], { stdio: ['pipe', 'pipe', 'pipe'] });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(0, 500);
  });
  const exited = new Promise<number | null>((resolve, reject) => {
    child.on('error', (cause) =>
      reject(
        new PhdError(
          'PROGRAM_MISSING',
          'codec lzop needs the program lzop: install it, or choose gzip or zstd',
          { cause },
        ),
      ),
    );
    child.on('close', resolve);
  });
  let isClosed = false;
  child.once('close', () => {
    isClosed = true;
  });
  exited.catch(() => undefined);
  let isFed = false;
  const feed = (async () => {
    for await (const batch of scanned(request, map)) {
      if (child.stdin.write(batch.raw)) continue;
      if (!isClosed) await drainOrClose(child);
      // Why it ended its status tells.
      if (isClosed) return;
    }
    child.stdin.end();
    isFed = true;
  })();
  child.stdin.on('error', () => child.kill());
  feed.catch(() => child.kill());
  try {
    for await (const chunk of child.stdout) yield chunk as Buffer;
    const status = await exited;
    await feed;
    if (status !== 0 || !isFed)
      throw new PhdError(
        'IO',
        `lzop ended with status ${status} before its work was done: ${complaint.replaceAll(/\s+/g, ' ').trim()}`,
      );
    finish({ dataOffset: 0, tableOffset: 0 });
  } finally {
    child.kill();
    await Promise.allSettled([feed, exited]);
  }
}

function drainOrClose(child: ChildProcessWithoutNullStreams): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      child.stdin.off('drain', done);
      child.off('close', done);
      resolve();
    };
    child.stdin.on('drain', done);
    child.on('close', done);
  });
}
