/** Verifies a DELTA: program, maps, files, and every changed block. */
import { createHash } from 'node:crypto';
import { geometryOf } from '../archive/geometry.ts';
import { decodeEndRecord } from '../archive/map.ts';
import type { WantedMember } from '../blocks/fill-disk.ts';
import { PhdError } from '../errors.ts';
import { readRange } from '../model/byte-source.ts';
import { requireNamedRightly } from './archive-name-check.ts';
import { placeText, storedBytes } from './archive-place.ts';
import { type DeltaMaps, gunzip, loadMaps, type OpenDelta, openDelta, readMapPart } from './delta-reader.ts';
import { warnIncomplete } from './incomplete-archive.ts';
import { saveMap } from './map-file.ts';
import { OnePassSource } from './one-pass-source.ts';
import { checkMembers, requireWritten, type Verifying } from './verifying.ts';
import { readArchiveFiles } from './vm-files.ts';

export async function verifyDelta(verifying: Verifying): Promise<number> {
  const { place, name, passphrases, scratch, hooks } = verifying;
  if (name.generation === 2)
    throw new PhdError(
      'FORMAT_UNSUPPORTED',
      `${placeText(place)}: a DELTA of esXpress version 2 cannot be verified`,
    );
  const delta = await openDelta(place, passphrases, hooks.signal);
  const { manifest } = delta;
  requireNamedRightly(place, name, manifest);
  warnIncomplete(manifest, placeText(place), hooks.onWarning);
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
