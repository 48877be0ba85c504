/** Disks behind a reader: the archives are those of the same bytes in a local file; unchanged blocks are not read. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { geometryOf } from '../../src/archive/geometry.ts';
import type * as Pool from '../../src/blocks/pool.ts';
import type * as Scan from '../../src/blocks/scan-disk.ts';
import type { SourceVm } from '../../src/datastore/source-vm.ts';
import type * as FullWriter from '../../src/engine/full-writer.ts';
import type * as Library from '../../src/engine/index.ts';
import type * as MapFile from '../../src/engine/map-file.ts';
import type { Codec } from '../../src/model/archive.ts';
import type { DiskReader } from '../../src/model/disk-reader.ts';
import { randomLooking } from '../support/disk-images.ts';
import { BLOCK, only, sha256, Tale } from '../tales/tale.ts';

const BUILT = new URL('../../dist/src/', import.meta.url).href;
const { BlockPool } = (await import(`${BUILT}blocks/pool.js`)) as typeof Pool;
const { scanRegions } = (await import(`${BUILT}blocks/scan-disk.js`)) as typeof Scan;
const { fullStream } = (await import(`${BUILT}engine/full-writer.js`)) as typeof FullWriter;
const { openMapFile } = (await import(`${BUILT}engine/map-file.js`)) as typeof MapFile;
const phd = (await import(`${BUILT}engine/index.js`)) as typeof Library;

/** 289 blocks and a short one, so two regions; most of it is zeros. */
const SIZE = 289 * BLOCK + 12_288;
const BLOCKS = 290;

function makeContent(): Buffer {
  const content = Buffer.alloc(SIZE);
  for (const block of [0, 1, 7, 8, 130, 254, 255, 256, 288])
    randomLooking(`block ${block}`, BLOCK).copy(content, block * BLOCK);
  randomLooking('the short one', 12_288).copy(content, 289 * BLOCK);
  return content;
}

function digestOrMark(bytes: Buffer): Buffer {
  return bytes.every((byte) => byte === 0) ? Buffer.alloc(32) : createHash('sha256').update(bytes).digest();
}

/** A host in memory: counts what crosses the line. */
class MemoryHost implements DiskReader {
  readBytes = 0;
  hashedRegions = 0;
  /** Called before bytes are given. */
  onRead: (firstBlock: number) => void = () => undefined;
  readonly digests: DiskReader['digests'];

  constructor(
    public content: Buffer,
    canHash: boolean,
  ) {
    this.digests = canHash ? (region) => this.#hash(region) : null;
  }

  async read(firstBlock: number, target: Buffer): Promise<void> {
    // The first asked for answers last.
    await new Promise<void>((resolve) => (firstBlock % 16 === 0 ? setImmediate(resolve) : resolve()));
    this.onRead(firstBlock);
    this.readBytes += target.length;
    this.content.copy(target, 0, firstBlock * BLOCK, firstBlock * BLOCK + target.length);
  }

  async #hash({ firstBlock, count }: { firstBlock: number; count: number }) {
    this.hashedRegions += 1;
    const bytes = this.content.subarray(firstBlock * BLOCK, (firstBlock + count) * BLOCK);
    const blocks = Array.from({ length: count }, (_, at) => bytes.subarray(at * BLOCK, (at + 1) * BLOCK));
    return { digests: Buffer.concat(blocks.map(digestOrMark)), regionDigest: digestOrMark(bytes) };
  }
}

describe('The stream of a FULL', () => {
  const tale = new Tale();
  const content = makeContent();
  const file = tale.home.write('disk.img', '');
  const pool = new BlockPool(BLOCK, BLOCKS);
  writeFileSync(file, content);
  const fd = openSync(file, 'r');
  afterAll(async () => {
    closeSync(fd);
    await pool.close();
    tale.remove();
  });
  const geometry = geometryOf(SIZE);

  async function full(disk: Scan.OpenDisk, codec: Codec, mapPath: string): Promise<string> {
    const head = Buffer.from('head');
    const onBlocks = (): void => undefined;
    const stream = fullStream({ pool, disk, codec, level: 1, head, mapPath, onBlocks });
    const hash = createHash('sha256');
    for await (const chunk of stream.bytes) hash.update(chunk);
    stream.close();
    return hash.digest('hex');
  }

  it.each(['gzip', 'zstd'] as const)('is byte for byte that of a local disk: %s', async (codec) => {
    const host = new MemoryHost(content, true);
    const near = await full({ fd, geometry }, codec, tale.path(`near.${codec}`));
    const far = await full({ fd: -1, reader: host, geometry }, codec, tale.path(`far.${codec}`));
    expect(far).toBe(near);
    expect(readFileSync(tale.path(`far.${codec}`)).equals(readFileSync(tale.path(`near.${codec}`)))).toBe(
      true,
    );
    expect(host.readBytes).toBe(SIZE);
  });

  it('is compared alike by a local scan, by digests of the host, and by blocks from it', async () => {
    const changed = Buffer.from(content);
    randomLooking('changed', BLOCK).copy(changed, 3 * BLOCK);
    changed.fill(0, 256 * BLOCK, 257 * BLOCK);
    const changedFile = tale.home.write('changed.img', '');
    writeFileSync(changedFile, changed);
    const changedFd = openSync(changedFile, 'r');
    try {
      const found: unknown[][] = [];
      for (const disk of [
        { fd: changedFd, geometry },
        { fd: -1, reader: new MemoryHost(changed, true), geometry },
        { fd: -1, reader: new MemoryHost(changed, false), geometry },
      ]) {
        const regions: unknown[] = [];
        const map = openMapFile(tale.path('near.gzip')).regions();
        for await (const { blocks, digests, regionDigest, changedBlocks } of scanRegions(pool, disk, map)) {
          regions.push([blocks.length, digests.toString('hex'), regionDigest.toString('hex'), changedBlocks]);
        }
        found.push(regions);
      }
      expect(found[0]?.map((region) => (region as unknown[])[3])).toEqual([1, 1]);
      expect(found[1]).toEqual(found[0]);
      expect(found[2]).toEqual(found[0]);
    } finally {
      closeSync(changedFd);
    }
  });
});

describe('A VM held still on a host', () => {
  const tale = new Tale();
  const content = makeContent();
  let context: Library.EngineContext;
  beforeAll(async () => {
    context = await phd.openContext({ env: tale.home.env });
  });
  afterAll(async () => {
    await context.close();
    tale.remove();
  });

  const vmWith = (...readers: DiskReader[]): SourceVm => ({
    folder: '[datastore1] web',
    hostName: 'esx1',
    vmName: 'web',
    displayName: 'web',
    uuid: '564d1111-2222-3333-4444-555566667777',
    files: [
      {
        kind: 'vmx',
        name: 'web.vmx',
        path: '[datastore1] web/web.vmx',
        bytes: Buffer.from('x'),
        sizeBytes: 1,
      },
    ],
    disks: readers.map((reader, at) => ({
      scsiId: `0${at}`,
      name: `web_${at}.vmdk`,
      flatPath: `[datastore1] web/web_${at}-flat.vmdk`,
      reader,
      descriptorPath: null,
      descriptorText: null,
      sizeBytes: SIZE,
      createType: 'vmfs',
      adapterType: 'lsilogic',
    })),
    refused: [],
    notices: [],
  });

  async function restored(archive: string): Promise<string> {
    const to = tale.newFolder();
    const { flatPath } = await phd.restore(context, { archive: await phd.archiveRef(context, archive), to });
    return sha256(readFileSync(flatPath));
  }

  it('becomes a FULL, then a DELTA for which only changed blocks and the sample cross the line', async () => {
    const host = new MemoryHost(content, true);
    const first = await phd.backupSource(context, vmWith(host), {});
    expect(first.failed).toEqual([]);
    expect(only(first.disks)).toMatchObject({ mode: 'full', disk: 'web_0.vmdk' });

    host.content = Buffer.from(content);
    randomLooking('the next day', BLOCK).copy(host.content, 40 * BLOCK);
    host.readBytes = 0;
    const second = await phd.backupSource(context, vmWith(host), {});
    const one = only(second.disks);
    expect(one).toMatchObject({ mode: 'delta', changedBlocks: 1 });
    expect(host.hashedRegions).toBe(2);
    // One changed block, and sixteen of the sample, of which one may be the short one.
    expect(host.readBytes).toBeGreaterThan(16 * BLOCK);
    expect(host.readBytes).toBeLessThanOrEqual(17 * BLOCK);
    expect(await restored(`1:${one.folder}/${one.deltaFile}`)).toBe(sha256(host.content));
    const full = only(first.disks);
    expect(await restored(`1:${full.folder}/${full.deltaFile}`)).toBe(sha256(content));
  });

  it('fails where the host gives other bytes than before, and nothing bears a final name', async () => {
    const before = tale.filesOn('one');
    const host = new MemoryHost(Buffer.from(content), true);
    let isRead = false;
    host.onRead = () => {
      if (host.readBytes >= SIZE && !isRead) {
        isRead = true;
        for (let block = 0; block < BLOCKS; block += 1)
          host.content.fill(block + 1, block * BLOCK, block * BLOCK + 1);
      }
    };
    const { failed, disks } = await phd.backupSource(context, vmWith(host), { mode: 'full' });
    expect(isRead).toBe(true);
    expect(disks).toEqual([]);
    expect(only(failed).error).toMatchObject({ code: 'SOURCE_CHANGED' });
    expect(tale.filesOn('one')).toEqual(before);
  });

  it('loses a disk whose line dies, and no other', async () => {
    const before = tale.filesOn('one');
    const dying = new MemoryHost(content, false);
    dying.onRead = (firstBlock) => {
      if (firstBlock >= 64) throw new phd.PhdError('TARGET_UNREACHABLE', 'esx1:22: the line died');
    };
    const vm = vmWith(dying, new MemoryHost(content, false));
    const { failed, disks } = await phd.backupSource(context, vm, { mode: 'full' });
    expect(only(failed)).toMatchObject({ disk: 'web_0.vmdk', error: { code: 'TARGET_UNREACHABLE' } });
    const one = only(disks);
    expect(one.disk).toBe('web_1.vmdk');
    expect(await restored(`1:${one.folder}/${one.deltaFile}`)).toBe(sha256(content));
    const added = tale.filesOn('one').filter((name) => !before.includes(name));
    expect(added).toHaveLength(2);
    expect(added.every((name) => name.includes('web_1'))).toBe(true);
  });

  it('ends when it is cancelled while blocks are on their way', async () => {
    const host = new MemoryHost(content, false);
    const abort = new AbortController();
    host.onRead = (firstBlock) => {
      if (firstBlock >= 64) abort.abort();
    };
    const work = phd.backupSource(context, vmWith(host), { mode: 'full' }, { signal: abort.signal });
    await expect(work).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(tale.filesOn('one').filter((name) => name.endsWith('.part'))).toEqual([]);
  });
});
