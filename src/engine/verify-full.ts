/** Verifies a FULL: every member, its map, its tables, and its DELTA's word. */
import { createHash } from 'node:crypto';
import { blockSizeBytes, DIGEST_BYTES } from '../archive/geometry.ts';
import { decodeEndRecord } from '../archive/map.ts';
import {
  seekTableBytes,
  seekTableEntry,
  seekTableFooter,
  seekTableHead,
  skippableFrameBytes,
} from '../archive/zstd-frame.ts';
import { placeStream } from '../blocks/check-disk.ts';
import type { WantedMember } from '../blocks/fill-disk.ts';
import { BlockPool } from '../blocks/pool.ts';
import type { BlockFailure } from '../blocks/tasks.ts';
import { decryptStream } from '../crypt/message.ts';
import { PhdError } from '../errors.ts';
import type { ByteSource } from '../model/byte-source.ts';
import { requireNamedRightly } from './archive-name-check.ts';
import { placePath, placeText, storedBytes } from './archive-place.ts';
import { type OpenDelta, openDelta, readMapPart } from './delta-reader.ts';
import { isOpenFull, type OpenFull, openFull } from './full-reader.ts';
import { warnIncomplete } from './incomplete-archive.ts';
import { lzopPlain } from './lzop.ts';
import { type DiskMap, saveMap } from './map-file.ts';
import { OnePassSource } from './one-pass-source.ts';
import { Progress } from './progress.ts';
import { deltaFileName } from './run-place.ts';
import { checkMembers, requireNone, requireWritten, type Verifying } from './verifying.ts';

export async function verifyFull(verifying: Verifying): Promise<number> {
  const { place, name, passphrases, hooks } = verifying;
  const stored = storedBytes(place, hooks.signal);
  if (name.encrypted) requireWritten(verifying, await authenticate(verifying, stored));
  const full = await openFull(place, name, passphrases, hooks.signal);
  if (!isOpenFull(full)) {
    if (full.codec === 'lzop') return await verifyLzop(verifying, full.plain);
    throw new PhdError('FORMAT_UNSUPPORTED', `${placeText(place)} carries no digests: it cannot be verified`);
  }
  requireNamedRightly(place, name, full.head);
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
  warnIncomplete(delta.manifest, placeText(verifying.place), verifying.hooks.onWarning);
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
  warnIncomplete(delta.manifest, placeText(place), hooks.onWarning);
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
