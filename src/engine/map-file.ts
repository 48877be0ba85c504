/** Index maps as local files (map stream of FORMAT.md section 4): written region by region, read as often as needed. */
import fs from 'node:fs';
import { DIGEST_BYTES, type Geometry, REGION_BLOCKS } from '../archive/geometry.ts';
import {
  decodeEndRecord,
  decodeMap,
  END_RECORD_BYTES,
  type EndRecord,
  encodeEndRecord,
  MapEncoder,
  type MapRegion,
} from '../archive/map.ts';
import { fromErrno } from '../errors.ts';

export interface DiskMap {
  end: EndRecord;
  /** From the first region on, each time it is called; proved when it has run to its end. */
  regions(): AsyncGenerator<MapRegion>;
}

/** What a scan tells of a batch of blocks, as far as the map wants to know. */
export interface MappedBatch {
  blocks: number[];
  digests: Buffer;
  memberBytes: Uint32Array;
  regionDigest: Buffer | null;
}

/** Collects a map while a disk is scanned. Close it, or finish it, in any case. */
export class MapFileWriter {
  readonly path: string;
  readonly #fd: number;
  readonly #encoder: MapEncoder;
  readonly #geometry: Geometry;
  #digests: Buffer[] = [];
  #memberBytes: number[] = [];
  #region = 0;
  #isOpen = true;

  /** `path` must not exist. */
  constructor(path: string, geometry: Geometry, zeroMemberBytes: number) {
    this.path = path;
    this.#geometry = geometry;
    this.#encoder = new MapEncoder(geometry, zeroMemberBytes);
    try {
      this.#fd = fs.openSync(path, 'wx+', 0o600);
      fs.writeSync(this.#fd, Buffer.alloc(END_RECORD_BYTES));
    } catch (error) {
      throw fromErrno(error, `cannot write the index map ${path}`);
    }
  }

  /** Batches of a whole disk in order; the last batch of each region brings its digest. */
  add(batch: MappedBatch): void {
    this.#digests.push(batch.digests);
    this.#memberBytes.push(...batch.memberBytes);
    if (!batch.regionDigest) return;
    const firstBlock = this.#region * REGION_BLOCKS;
    const digests = Buffer.concat(this.#digests);
    const region: MapRegion = {
      index: this.#region,
      firstBlock,
      count: digests.length / DIGEST_BYTES,
      digest: batch.regionDigest,
      digests,
      memberBytes: Uint32Array.from(this.#memberBytes),
    };
    this.#region += 1;
    this.#digests = [];
    this.#memberBytes = [];
    try {
      for (const page of this.#encoder.addRegion(region)) fs.writeSync(this.#fd, page);
    } catch (error) {
      throw fromErrno(error, `cannot write the index map ${this.path}`);
    }
  }

  /** Data of all pages so far, to copy them behind the blocks of a FULL. */
  pages(): AsyncGenerator<Buffer> {
    return readPages(this.path);
  }

  finish(places: { dataOffset: number; tableOffset: number; headDigest: Buffer }): EndRecord {
    if (this.#region !== this.#geometry.regionCount) throw new Error('the map is not complete');
    const end = this.#encoder.finish(places);
    try {
      fs.writeSync(this.#fd, encodeEndRecord(end), 0, END_RECORD_BYTES, 0);
      fs.fsyncSync(this.#fd);
    } catch (error) {
      throw fromErrno(error, `cannot write the index map ${this.path}`);
    }
    this.close();
    return end;
  }

  close(): void {
    if (this.#isOpen) fs.closeSync(this.#fd);
    this.#isOpen = false;
  }
}

async function* readPages(path: string): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of fs.createReadStream(path, {
      start: END_RECORD_BYTES,
      highWaterMark: 1 << 18,
    })) {
      yield chunk as Buffer;
    }
  } catch (error) {
    throw fromErrno(error, `cannot read the index map ${path}`);
  }
}

/** Opens a kept map. Throws NOT_FOUND, ARCHIVE_DAMAGED. */
export function openMapFile(path: string): DiskMap {
  const record = Buffer.alloc(END_RECORD_BYTES);
  try {
    const fd = fs.openSync(path, 'r');
    try {
      fs.readSync(fd, record, 0, END_RECORD_BYTES, 0);
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    throw fromErrno(error, `cannot read the index map ${path}`);
  }
  const end = decodeEndRecord(record);
  return { end, regions: () => decodeMap(end, readPages(path)) };
}

/** Writes an end record and page data that came from elsewhere into a new file and proves them. */
export async function saveMap(
  path: string,
  end: EndRecord,
  pageData: AsyncIterable<Uint8Array>,
): Promise<DiskMap> {
  const handle = await fs.promises.open(path, 'wx', 0o600).catch((error) => {
    throw fromErrno(error, `cannot write the index map ${path}`);
  });
  try {
    await handle.write(encodeEndRecord(end));
    for await (const chunk of pageData) await handle.write(chunk);
    await handle.sync();
  } catch (error) {
    throw fromErrno(error, `cannot write the index map ${path}`);
  } finally {
    await handle.close();
  }
  const map = openMapFile(path);
  await proveMap(map);
  return map;
}

/** Runs through a map, which proves it. Throws ARCHIVE_DAMAGED. */
export async function proveMap(map: DiskMap): Promise<void> {
  const regions = map.regions();
  for (let next = await regions.next(); !next.done; next = await regions.next());
}
