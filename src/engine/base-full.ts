/** The FULL a DELTA can be made against, and its map: kept locally, else fetched from the target. */
import fs from 'node:fs/promises';
import path from 'node:path';
import type { FullRecord } from '../../db/jobs-db.ts';
import { decodeEndRecord } from '../archive/map.ts';
import { listedName } from '../archive/names.ts';
import type { SourceDisk } from '../datastore/source-vm.ts';
import { PhdError } from '../errors.ts';
import { makeFolder } from '../make-folder.ts';
import type { Storage } from '../storage/storage.ts';
import type { EngineContext } from './context.ts';
import { openDelta, readMapPart } from './delta-reader.ts';
import { isOpenFull, openFull } from './full-reader.ts';
import { type DiskMap, openMapFile, proveMap, saveMap } from './map-file.ts';
import { deltaFileName, type VmArchives } from './run-place.ts';

export interface BaseFull {
  full: FullRecord;
  /** It lies on the target now; false: it was purged to tape, or could not be seen. */
  wasThere: boolean;
  map: DiskMap;
}

/** Why there is none; `warn` if a person should hear of it. */
export interface NoBase {
  reason: string;
  warn: boolean;
}

export interface BaseQuery {
  storage: Storage;
  vmUuid: string;
  disk: SourceDisk;
  encrypted: boolean;
  existing: VmArchives;
  passphrases: readonly string[];
  /** A FULL that was purged to tape still counts. */
  fullOffline: boolean;
  onWarning: (message: string) => void;
  signal?: AbortSignal;
}

export function mapsFolder(ctx: EngineContext): string {
  return path.join(ctx.places.stateDir, 'maps');
}

/** The newest FULL of a disk on the target of the run, if a DELTA can be made against it. */
export async function findBase(ctx: EngineContext, query: BaseQuery): Promise<BaseFull | NoBase> {
  const { storage, vmUuid, disk, existing } = query;
  const known = ctx.jobs.newestFull({
    vmUuid,
    scsiId: disk.scsiId,
    disk: disk.name,
    targetNumber: storage.number,
  });
  const onTarget = newestOnTarget(query);
  if (!known && !onTarget) return { reason: 'it is the first backup of this disk there', warn: false };
  const isThere =
    known &&
    existing.archives.some(
      (one) => one.folder === known.folder && one.file === known.file && one.sizeBytes === known.fullBytes,
    );
  let full: FullRecord | undefined = known;
  if (known && !isThere) {
    const gone = `its FULL ${known.folder}/${known.file} is not on target ${storage.number}`;
    if (!existing.complete)
      query.onWarning(
        `disk ${disk.name}: ${gone} as far as it could be listed; the DELTA is made all the same`,
      );
    else if (query.fullOffline)
      query.onWarning(`disk ${disk.name}: ${gone}; the DELTA is made all the same, as configured`);
    else full = undefined;
    if (!full && !onTarget) return { reason: gone, warn: true };
  }
  if (!full || (onTarget && onTarget.stamp > full.stamp)) full = onTarget ?? full;
  if (!full) return { reason: 'no FULL of this disk is known', warn: false };
  if (known === full && full.encrypted !== query.encrypted)
    return { reason: 'encryption was switched since its FULL', warn: false };
  // A DELTA against a FULL that is known to be bad restores nothing, however green the backup looks.
  const verified = ctx.jobs.verifyResult(full.targetNumber, full.folder, full.file, full.fullBytes);
  if (verified?.result === 'damaged') {
    return {
      reason: `its FULL ${full.folder}/${full.file} was found damaged on ${verified.verifiedAt.slice(0, 10)}`,
      warn: true,
    };
  }
  try {
    const map = await mapOf(ctx, query, full);
    if (map.end.geometry.diskBytes !== disk.sizeBytes)
      return { reason: 'the disk has another size than its FULL', warn: false };
    if (map.end.mapDigest.toString('hex') !== full.mapDigest && full.mapDigest !== '') {
      return { reason: `the map of ${full.folder}/${full.file} does not match its digest`, warn: true };
    }
    const proved = { ...full, mapDigest: map.end.mapDigest.toString('hex') };
    // Else a lost jobs.db would never learn of a FULL that may be purged to tape tomorrow.
    if (full !== known) ctx.jobs.recordFull(proved);
    return { full: proved, map, wasThere: full !== known || isThere === true };
  } catch (error) {
    if (!(error instanceof PhdError) || error.code === 'CANCELLED') throw error;
    return { reason: `the map of ${full.folder}/${full.file} cannot be had: ${error.message}`, warn: true };
  }
}

/** From names alone: what a lost jobs.db would have told. */
function newestOnTarget(query: BaseQuery): FullRecord | undefined {
  const { disk, existing, storage, vmUuid } = query;
  const [newest] = existing.archives
    .filter(
      ({ name }) =>
        name.kind === 'full' &&
        name.scsiId === disk.scsiId &&
        name.disk === listedName(disk.name) &&
        name.encrypted === query.encrypted,
    )
    .sort((a, b) => (a.name.stamp < b.name.stamp ? 1 : -1));
  if (!newest) return undefined;
  return {
    vmUuid,
    scsiId: disk.scsiId,
    disk: disk.name,
    targetNumber: storage.number,
    folder: newest.folder,
    file: newest.file,
    stamp: newest.name.stamp,
    fullId: '',
    mapDigest: '',
    mapFile: '',
    fullBytes: newest.sizeBytes,
    codec: newest.name.codec ?? 'gzip',
    encrypted: newest.name.encrypted,
    diskBytes: disk.sizeBytes,
  };
}

async function mapOf(ctx: EngineContext, query: BaseQuery, full: FullRecord): Promise<DiskMap> {
  if (full.mapFile !== '') {
    try {
      const map = openMapFile(full.mapFile);
      await proveMap(map);
      return map;
    } catch (error) {
      if (!(error instanceof PhdError)) throw error;
      query.onWarning(
        `the kept map of ${full.file} cannot be used (${error.message}); it is fetched from the target`,
      );
    }
  }
  const { fullId, map } = await fetchMap(ctx, query, full);
  full.fullId = fullId;
  return map;
}

/** From the FULL's tail, or from its empty DELTA (lzop). Throws what opening them throws. */
async function fetchMap(
  ctx: EngineContext,
  query: BaseQuery,
  full: FullRecord,
): Promise<{ fullId: string; map: DiskMap }> {
  const folder = mapsFolder(ctx);
  await makeFolder(folder);
  const place = { storage: query.storage, folder: full.folder, file: full.file, sizeBytes: full.fullBytes };
  const save = async (
    fullId: string,
    end: DiskMap['end'],
    pages: AsyncIterable<Buffer>,
  ): Promise<DiskMap> => {
    const file = path.join(folder, `${fullId}.map`);
    const part = `${file}.${process.pid}.part`;
    await fs.rm(part, { force: true });
    await saveMap(part, end, pages);
    await fs.rename(part, file);
    full.mapFile = file;
    return openMapFile(file);
  };
  if (full.codec !== 'lzop') {
    const name = query.existing.archives.find(
      (one) => one.folder === full.folder && one.file === full.file,
    )?.name;
    if (!name) throw new PhdError('NOT_FOUND', `${full.folder}/${full.file} is not on the target`);
    const opened = await openFull(place, name, query.passphrases, query.signal);
    if (!isOpenFull(opened))
      throw new PhdError('FORMAT_UNSUPPORTED', `${full.file} was made by another program and has no map`);
    return { fullId: opened.head.fullId, map: await save(opened.head.fullId, opened.end, opened.pages()) };
  }
  const emptyName = deltaFileName({ ...full, disk: full.disk, fullStamp: full.stamp });
  const empty = query.existing.archives.find((one) => one.folder === full.folder && one.file === emptyName);
  if (!empty) throw new PhdError('NOT_FOUND', `its empty DELTA ${emptyName} is not on the target`);
  const delta = await openDelta(
    { ...place, file: emptyName, sizeBytes: empty.sizeBytes },
    query.passphrases,
    query.signal,
  );
  const { record, pages } = await readMapPart(delta);
  return {
    fullId: delta.manifest.fullId,
    map: await save(delta.manifest.fullId, decodeEndRecord(record), pages),
  };
}
