/** Verifies archives to the last byte, and disks against archives; what was found is kept with its date. */

import { createHash } from 'node:crypto';
import fs from 'node:fs/promises';
import { blockSizeBytes, DIGEST_BYTES, type Geometry, geometryOf } from '../archive/geometry.ts';
import { decodeEndRecord } from '../archive/map.ts';
import {
  seekTableBytes,
  seekTableEntry,
  seekTableFooter,
  seekTableHead,
  skippableFrameBytes,
} from '../archive/zstd-frame.ts';
import { compareDisk, placeStream } from '../blocks/check-disk.ts';
import { DiskFiller, groupMembers, type WantedMember } from '../blocks/fill-disk.ts';
import { BlockPool } from '../blocks/pool.ts';
import type { BlockFailure } from '../blocks/tasks.ts';
import { decryptStream } from '../crypt/message.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { ArchiveName } from '../model/archive.ts';
import { type ByteSource, readRange } from '../model/byte-source.ts';
import { type ArchivePlace, placePath, placeText, storedBytes } from './archive-place.ts';
import type { OperationHooks } from './backup.ts';
import type { EngineContext } from './context.ts';
import { type DeltaMaps, gunzip, loadMaps, type OpenDelta, openDelta, readMapPart } from './delta-reader.ts';
import { expectedRegions } from './expected-disk.ts';
import { isOpenFull, type OpenFull, openFull } from './full-reader.ts';
import { lzopPlain } from './lzop.ts';
import { type DiskMap, saveMap } from './map-file.ts';
import { OnePassSource } from './one-pass-source.ts';
import { passphrasesToRead } from './passphrase-order.ts';
import { Progress } from './progress.ts';
import { countSources } from './restore-blocks.ts';
import { type ArchiveRef, findArchive, openRestoreSource } from './restore-source.ts';
import { deltaFileName } from './run-place.ts';
import { openScratch, type Scratch } from './scratch.ts';
import { readArchiveFiles } from './vm-files.ts';

export interface VerifyResult {
  archive: string;
  kind: 'full' | 'delta' | 'disk';
  blocks: number;
  bytes: number;
  seconds: number;
}

interface Verifying {
  ctx: EngineContext;
  place: ArchivePlace;
  name: ArchiveName;
  passphrases: string[];
  scratch: Scratch;
  hooks: OperationHooks;
}

/**
 * Verifies one archive: every stored byte, every block. The outcome is kept with its date for lists. Returns only if
 * all is good; throws ARCHIVE_DAMAGED, DIGEST_MISMATCH, PASSPHRASE_*, TARGET_*, NOT_FOUND, CANCELLED.
 */
export async function verifyArchive(
  ctx: EngineContext,
  ref: ArchiveRef,
  hooks: OperationHooks = {},
): Promise<VerifyResult> {
  const { place, name } = await findArchive(ref, hooks.signal);
  const startedMs = performance.now();
  const scratch = await openScratch(ctx.places.stateDir);
  try {
    const passphrases = passphrasesToRead(await ctx.passphrases());
    const verifying: Verifying = { ctx, place, name, passphrases, scratch, hooks };
    const blocks = name.kind === 'full' ? await verifyFull(verifying) : await verifyDelta(verifying);
    keep(ctx, place, 'good', '');
    return {
      archive: placeText(place),
      kind: name.kind,
      blocks,
      bytes: place.sizeBytes,
      seconds: (performance.now() - startedMs) / 1000,
    };
  } catch (error) {
    const translated = fromErrno(error, placeText(place));
    if (['ARCHIVE_DAMAGED', 'DIGEST_MISMATCH'].includes(translated.code))
      keep(ctx, place, 'damaged', translated.message);
    else if (['PASSPHRASE_MISSING', 'PASSPHRASE_WRONG', 'FORMAT_UNSUPPORTED'].includes(translated.code)) {
      keep(ctx, place, 'unreadable', translated.message);
    }
    throw translated;
  } finally {
    await scratch.remove();
  }
}

function keep(
  ctx: EngineContext,
  place: ArchivePlace,
  result: 'good' | 'damaged' | 'unreadable',
  detail: string,
): void {
  const { storage, folder, file, sizeBytes } = place;
  if (storage.number === 0) return;
  ctx.jobs.recordVerify({
    targetNumber: storage.number,
    folder,
    file,
    sizeBytes,
    verifiedAt: ctx.clock.now().toISOString(),
    result,
    detail,
  });
}

/** The digest kept when the archive was written here finds what recomputed digests would hide. */
function requireWritten({ ctx, place }: Verifying, sha256: string): void {
  const written = ctx.jobs.written(place.storage.number, place.folder, place.file);
  if (written && (written.sha256 !== sha256 || written.sizeBytes !== place.sizeBytes)) {
    throw new PhdError(
      'DIGEST_MISMATCH',
      `${placeText(place)} is not the file that was written there on ${written.writtenAt}`,
    );
  }
}

async function verifyFull(verifying: Verifying): Promise<number> {
  const { place, name, passphrases, hooks } = verifying;
  const stored = storedBytes(place, hooks.signal);
  if (name.encrypted) requireWritten(verifying, await authenticate(verifying, stored));
  const full = await openFull(place, name, passphrases, hooks.signal);
  if (!isOpenFull(full)) {
    if (full.codec === 'lzop') return await verifyLzop(verifying, full.plain);
    throw new PhdError('FORMAT_UNSUPPORTED', `${placeText(place)} carries no digests: it cannot be verified`);
  }
  if (full.head.stamp !== name.stamp || full.head.disk === '') {
    throw new PhdError(
      'ARCHIVE_DAMAGED',
      `${placeText(place)}: its name and its head (${full.head.disk}, ${full.head.stamp}) disagree; it was renamed`,
    );
  }
  const map = await saveMap(verifying.scratch.file('full.map'), full.end, full.pages());
  await requireSameAsDelta(verifying, map);
  if (full.codec === 'zstd') await verifySeekTable(full, map);
  if (name.encrypted)
    return await checkMembers(verifying, full.plain, full.codec, allMembers(map), map.end.geometry);
  const once = new OnePassSource(full.plain);
  try {
    const blocks = await checkMembers(verifying, once, full.codec, allMembers(map), map.end.geometry);
    requireWritten(verifying, await once.finish());
    return blocks;
  } finally {
    await once.close();
  }
}

/** Reads the whole message, so that its MDC is checked. Returns the digest of the file. */
async function authenticate(verifying: Verifying, stored: ByteSource): Promise<string> {
  const { place, passphrases, hooks } = verifying;
  const hash = createHash('sha256');
  const progress = new Progress(hooks.onProgress, {
    label: place.file,
    phase: 'authenticate',
    totalBytes: stored.sizeBytes,
  });
  const tee = (async function* (): AsyncGenerator<Buffer> {
    for await (const chunk of stored.read(0, stored.sizeBytes)) {
      hash.update(chunk);
      progress.add(chunk.length);
      yield chunk;
    }
  })();
  const plain = decryptStream(tee, passphrases, placeText(place));
  for (let next = await plain.next(); !next.done; next = await plain.next());
  progress.finish();
  return hash.digest('hex');
}

/** Where the empty DELTA lies beside its FULL, both must name the same content. */
async function requireSameAsDelta(verifying: Verifying, map: DiskMap): Promise<void> {
  const delta = await emptyDelta(verifying);
  if (!delta) return;
  const { record, close } = await readMapPart(delta);
  await close();
  if (!decodeEndRecord(record).mapDigest.equals(map.end.mapDigest)) {
    throw new PhdError(
      'DIGEST_MISMATCH',
      `${placeText(verifying.place)} and its DELTA ${delta.place.file} are of different disks`,
    );
  }
}

async function emptyDelta({ place, name, passphrases, hooks }: Verifying): Promise<OpenDelta | undefined> {
  const file = deltaFileName({ ...name, codec: name.codec ?? 'gzip', fullStamp: name.stamp });
  const entry = await place.storage.stat(placePath({ folder: place.folder, file }), hooks.signal);
  if (entry?.kind !== 'file') return undefined;
  return await openDelta({ ...place, file, sizeBytes: entry.sizeBytes }, passphrases, hooks.signal);
}

/** Every member of a FULL, those of zero blocks included: other tools read them all. */
async function* allMembers(map: DiskMap): AsyncGenerator<WantedMember> {
  let offsetBytes = map.end.dataOffset;
  for await (const region of map.regions()) {
    for (let at = 0; at < region.count; at += 1) {
      const memberBytes = region.memberBytes[at]!;
      const digest = region.digests.subarray(at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES);
      yield { block: region.firstBlock + at, offsetBytes, memberBytes, digest };
      offsetBytes += memberBytes;
    }
  }
  if (offsetBytes !== map.end.tableOffset)
    throw new PhdError('ARCHIVE_DAMAGED', 'blocks and index map of the FULL do not meet');
}

async function checkMembers(
  verifying: Verifying,
  source: ByteSource,
  codec: 'gzip' | 'zstd',
  members: AsyncIterable<WantedMember>,
  geometry: Geometry,
): Promise<number> {
  const { place, hooks } = verifying;
  const progress = new Progress(hooks.onProgress, {
    label: place.file,
    phase: 'verify',
    totalBytes: place.sizeBytes,
  });
  const failures: BlockFailure[] = [];
  let blocks = 0;
  const pool = new BlockPool(geometry.blockBytes, geometry.blockCount);
  const onBatch = (good: number[], bad: BlockFailure[]): void => {
    blocks += good.length;
    if (failures.length < 1000) failures.push(...bad);
  };
  const filler = new DiskFiller(pool, -1, geometry, { codec, check: true, onBatch, signal: hooks.signal });
  try {
    for await (const group of groupMembers(members)) {
      await filler.fill(source, group);
      progress.add(group.reduce((sum, member) => sum + member.memberBytes, 0));
    }
    await filler.settle();
  } finally {
    await filler.settle().catch(() => undefined);
    await pool.close();
  }
  progress.finish();
  requireNone(failures, placeText(place), geometry);
  return blocks;
}

function requireNone(failures: BlockFailure[], what: string, geometry: Geometry): void {
  const [first] = failures.sort((a, b) => a.block - b.block);
  if (!first) return;
  const others = failures.length > 1 ? ` and ${failures.length - 1} more` : '';
  throw new PhdError(
    'DIGEST_MISMATCH',
    `${what}: block ${first.block} (byte ${first.block * geometry.blockBytes})${others}: ${first.reason}`,
  );
}

/** The published table at the end of a zstd FULL must tell what the map tells. */
async function verifySeekTable(full: OpenFull, map: DiskMap): Promise<void> {
  const { geometry, pageCount, dataOffset } = map.end;
  const frameCount = 2 + geometry.blockCount + pageCount;
  const hash = createHash('sha256').update(seekTableHead(frameCount));
  const entry = Buffer.alloc(8);
  const add = (frameBytes: number, contentBytes: number): void => {
    seekTableEntry(entry, 0, frameBytes, contentBytes);
    hash.update(entry);
  };
  add(dataOffset, 0);
  for await (const region of map.regions()) {
    region.memberBytes.forEach((bytes, at) => {
      add(bytes, blockSizeBytes(geometry, region.firstBlock + at));
    });
  }
  for await (const page of full.pages()) add(skippableFrameBytes(page.length), 0);
  add(skippableFrameBytes(192), 0);
  hash.update(seekTableFooter(frameCount));
  const tableBytes = seekTableBytes(frameCount);
  const stored = createHash('sha256');
  for await (const chunk of full.plain.read(full.plain.sizeBytes - tableBytes, tableBytes))
    stored.update(chunk);
  if (!stored.digest().equals(hash.digest()))
    throw new PhdError('ARCHIVE_DAMAGED', `${placeText(full.place)}: its seekable table is damaged`);
}

/** An lzop FULL is proved by the map of its empty DELTA. */
async function verifyLzop(verifying: Verifying, plain: ByteSource): Promise<number> {
  const { place, hooks, scratch } = verifying;
  const delta = await emptyDelta(verifying);
  if (!delta)
    throw new PhdError(
      'FORMAT_UNSUPPORTED',
      `${placeText(place)}: an lzop FULL is proved by its empty DELTA, which is not there`,
    );
  const { record, pages } = await readMapPart(delta);
  const map = await saveMap(scratch.file('full.map'), decodeEndRecord(record), pages);
  const { geometry } = map.end;
  const progress = new Progress(hooks.onProgress, {
    label: place.file,
    phase: 'verify',
    totalBytes: geometry.diskBytes,
  });
  const failures: BlockFailure[] = [];
  const pool = new BlockPool(geometry.blockBytes, geometry.blockCount);
  const once = new OnePassSource(plain);
  try {
    await placeStream(pool, { fd: -1, geometry }, lzopPlain(once), map.regions(), {
      isWanted: () => true,
      check: true,
      signal: hooks.signal,
      onBatch: (good, bad) => {
        failures.push(...bad);
        progress.add(good.length * geometry.blockBytes);
      },
    });
    requireWritten(verifying, await once.finish());
  } finally {
    await once.close();
    await pool.close();
  }
  requireNone(failures, placeText(place), geometry);
  return geometry.blockCount;
}

async function verifyDelta(verifying: Verifying): Promise<number> {
  const { place, name, passphrases, scratch, hooks } = verifying;
  if (name.generation === 2)
    throw new PhdError(
      'FORMAT_UNSUPPORTED',
      `${placeText(place)}: a DELTA of esXpress version 2 cannot be verified`,
    );
  const delta = await openDelta(place, passphrases, hooks.signal);
  const { manifest } = delta;
  if (manifest.stamp !== name.stamp || manifest.fullStamp !== name.fullStamp) {
    throw new PhdError(
      'ARCHIVE_DAMAGED',
      `${placeText(place)}: its name and its manifest (${manifest.disk}, ${manifest.stamp}) disagree; it was renamed`,
    );
  }
  await verifyHead(delta);
  const maps = await loadMaps(delta, scratch);
  if (delta.part('map')) {
    const { record, pages } = await readMapPart(delta);
    const map = await saveMap(scratch.file('part.map'), decodeEndRecord(record), pages);
    if (!map.end.mapDigest.equals(maps.fullMapDigest))
      throw new PhdError('DIGEST_MISMATCH', `${placeText(place)}: its parts name different disks`);
  }
  const files = readArchiveFiles(delta);
  for (let next = await files.next(); !next.done; next = await files.next());
  if (manifest.files.length === 0 && delta.part('files')) {
    const content = gunzip(delta.content('files'));
    for (let next = await content.next(); !next.done; next = await content.next());
  }
  const blocks = delta.part('blocks') ? await verifyPayload(verifying, delta, maps) : 0;
  const once = new OnePassSource(storedBytes(place, hooks.signal));
  requireWritten(verifying, await once.finish());
  return blocks;
}

/** The program at its beginning: people run it when this one is gone. */
async function verifyHead(delta: OpenDelta): Promise<void> {
  const head = await readRange(delta.stored, 0, delta.headBytes);
  const sha256 = createHash('sha256').update(head).digest('hex');
  if (sha256 !== delta.headSha256)
    throw new PhdError(
      'DIGEST_MISMATCH',
      `${placeText(delta.place)}: the program at its beginning is damaged`,
    );
}

async function verifyPayload(verifying: Verifying, delta: OpenDelta, maps: DeltaMaps): Promise<number> {
  const content = delta.content('blocks');
  for (let next = await content.next(); !next.done; next = await content.next());
  const geometry = geometryOf(delta.manifest.diskBytes, delta.manifest.blockBytes);
  const members = (async function* (): AsyncGenerator<WantedMember> {
    let offsetBytes = 0;
    for await (const entry of maps.payload()) {
      if (entry.block >= geometry.blockCount)
        throw new PhdError('ARCHIVE_DAMAGED', `${placeText(delta.place)}: a block lies beyond the disk`);
      yield { block: entry.block, offsetBytes, memberBytes: entry.memberBytes, digest: entry.digest };
      offsetBytes += entry.memberBytes;
    }
  })();
  return await checkMembers(verifying, await delta.random('blocks'), 'gzip', members, geometry);
}

/** Compares a disk with what an archive says it must be. Throws DIGEST_MISMATCH naming the first block that differs. */
export async function verifyDisk(
  ctx: EngineContext,
  flatPath: string,
  against: ArchiveRef,
  hooks: OperationHooks = {},
  chosenFull?: ArchiveRef,
): Promise<VerifyResult> {
  const startedMs = performance.now();
  const scratch = await openScratch(ctx.places.stateDir);
  try {
    const source = await openRestoreSource(ctx, against, scratch, hooks, chosenFull);
    const { fullMap } = source;
    if (!fullMap)
      throw new PhdError(
        'FORMAT_UNSUPPORTED',
        `${against.file} carries no digests: no disk can be verified against it`,
      );
    const geometry = geometryOf(source.diskBytes, fullMap.end.geometry.blockBytes);
    await countSources(source, geometry, () => undefined);
    const failures = await compareFlat(flatPath, geometry, expectedRegions(fullMap, source.maps), hooks);
    requireNone(failures, flatPath, geometry);
    return {
      archive: placeText((source.delta ?? source.full).place),
      kind: 'disk',
      blocks: geometry.blockCount,
      bytes: geometry.diskBytes,
      seconds: (performance.now() - startedMs) / 1000,
    };
  } finally {
    await scratch.remove();
  }
}

async function compareFlat(
  flatPath: string,
  geometry: Geometry,
  regions: ReturnType<typeof expectedRegions>,
  hooks: OperationHooks,
): Promise<BlockFailure[]> {
  const handle = await fs.open(flatPath, 'r').catch((error) => {
    throw fromErrno(error, `cannot read ${flatPath}`);
  });
  const pool = new BlockPool(geometry.blockBytes, geometry.blockCount);
  try {
    const { size } = await handle.stat();
    if (size !== geometry.diskBytes && size !== 0) {
      throw new PhdError(
        'DIGEST_MISMATCH',
        `${flatPath} has ${size} bytes, the archive says ${geometry.diskBytes}`,
      );
    }
    const progress = new Progress(hooks.onProgress, {
      label: flatPath,
      phase: 'verify',
      totalBytes: geometry.diskBytes,
    });
    const failures: BlockFailure[] = [];
    const note = (blocks: number[], bad: BlockFailure[]): void => {
      if (failures.length < 1000) failures.push(...bad);
      progress.add(blocks.reduce((sum, block) => sum + blockSizeBytes(geometry, block), 0));
    };
    await compareDisk(pool, { fd: handle.fd, geometry }, regions, note, hooks.signal);
    progress.finish();
    return failures;
  } finally {
    await pool.close();
    await handle.close();
  }
}
