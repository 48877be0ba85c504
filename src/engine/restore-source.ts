/** Finds and pairs what a restore reads: DELTA, its FULL, and every further copy of both. */
import type { EndRecord } from '../archive/map.ts';
import { decodeEndRecord } from '../archive/map.ts';
import { listedName, parseArchiveName } from '../archive/names.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { ArchiveName } from '../model/archive.ts';
import type { ByteSource } from '../model/byte-source.ts';
import type { Storage } from '../storage/storage.ts';
import { requireNamedRightly } from './archive-name-check.ts';
import { type ArchivePlace, placePath, placeText } from './archive-place.ts';
import type { OperationHooks } from './backup.ts';
import type { EngineContext } from './context.ts';
import { type DeltaMaps, loadMaps, type OpenDelta, openDelta, readMapPart } from './delta-reader.ts';
import { isOpenFull, type OpenFull, openCutFull, openFull, type StreamFull } from './full-reader.ts';
import { type DiskMap, saveMap } from './map-file.ts';
import { passphrasesForReading } from './passphrase-order.ts';
import { deltaFileName } from './run-place.ts';
import { claimReading, type Scratch } from './scratch.ts';

/** An archive that a person named. */
export interface ArchiveRef {
  storage: Storage;
  folder: string;
  file: string;
}

/** A pair that belongs together and was proved to. */
export interface RestoreSource {
  /** Null: a FULL whose DELTA is gone. */
  delta: OpenDelta | null;
  maps: DeltaMaps | null;
  full: OpenFull | StreamFull;
  /** Map of the FULL; null for a FULL without one (lzop without its DELTA, or foreign). */
  fullMap: DiskMap | null;
  diskName: string;
  diskBytes: number;
  /** Further copies, tried in order when one fails. */
  otherFulls: ArchivePlace[];
  otherDeltas: ArchivePlace[];
  passphrases: string[];
}

/** Looks the file up; NOT_FOUND, USAGE if its name is no archive's. */
export async function findArchive(
  ref: ArchiveRef,
  signal?: AbortSignal,
): Promise<{ place: ArchivePlace; name: ArchiveName }> {
  const name = parseArchiveName(ref.file);
  if (!name) throw new PhdError('USAGE', `${ref.file} is not the name of an archive`);
  const entry = await ref.storage.stat(placePath(ref), signal);
  if (entry?.kind !== 'file') {
    // A volume that is not mounted is told as such.
    if (ref.storage.transport === 'vmfs') await ref.storage.list('', signal);
    const where = ref.storage.number === 0 ? '' : ` on target ${ref.storage.number} (${ref.storage.name})`;
    throw new PhdError(
      'NOT_FOUND',
      `there is no archive ${placePath(ref)}${where}, or it is no regular file; phd index looks what is there`,
    );
  }
  return { place: { ...ref, sizeBytes: entry.sizeBytes }, name };
}

/** Opens the named archive and its counterpart. `chosenFull` is what a person chose; else it is looked for. */
export async function openRestoreSource(
  ctx: EngineContext,
  ref: ArchiveRef,
  scratch: Scratch,
  hooks: OperationHooks,
  { chosenFull, isSalvage = false }: { chosenFull?: ArchiveRef | undefined; isSalvage?: boolean } = {},
): Promise<RestoreSource> {
  const named = await findArchive(ref, hooks.signal);
  const passphrases = await passphrasesForReading(ctx, named.name.encrypted, hooks.onWarning);
  if (named.name.generation === 2) {
    throw new PhdError(
      'FORMAT_UNSUPPORTED',
      `${ref.file}: a DELTA of esXpress version 2 is listed, but its payload is not documented`,
    );
  }
  const opening: Opening = { ctx, passphrases, scratch, hooks, isSalvage };
  const source =
    named.name.kind === 'delta'
      ? await openFromDelta(opening, named.place, named.name, chosenFull)
      : await openFromFull(opening, named.place, named.name);
  await claimReading(scratch, [named.place, source.full.place].map(placeText));
  return source;
}

export interface Opening {
  ctx: EngineContext;
  passphrases: string[];
  scratch: Scratch;
  hooks: OperationHooks;
  /** A FULL that lost its end will do. */
  isSalvage?: boolean;
  /** Why a target could not be asked: what is not found may be there. */
  notAsked?: PhdError;
}

async function openFromDelta(
  opening: Opening,
  place: ArchivePlace,
  name: ArchiveName,
  chosenFull?: ArchiveRef,
): Promise<RestoreSource> {
  const { passphrases, scratch, hooks } = opening;
  const delta = await openDelta(place, passphrases, hooks.signal);
  requireNamedRightly(place, name, delta.manifest);
  const maps = await loadMaps(delta, scratch);
  requireDigests(delta, maps);
  const candidates = chosenFull
    ? [(await findArchive(chosenFull, hooks.signal)).place]
    : await fullCandidates(opening, place, delta);
  const { full, others } = await openMatchingFull(opening, delta, maps, candidates);
  return {
    delta,
    maps,
    full,
    fullMap: await mapOfFull(opening, full, delta, maps),
    diskName: delta.manifest.disk,
    diskBytes: delta.manifest.diskBytes,
    otherFulls: others,
    otherDeltas: await copiesOnTargets(opening, place),
    passphrases,
  };
}

function requireDigests(delta: OpenDelta, maps: DeltaMaps): void {
  const { fullMapDigest, mapDigest } = delta.manifest;
  const isSame =
    (fullMapDigest === null || fullMapDigest === maps.fullMapDigest.toString('hex')) &&
    (mapDigest === null || mapDigest === maps.mapDigest.toString('hex'));
  if (!isSame)
    throw new PhdError(
      'ARCHIVE_DAMAGED',
      `${placeText(delta.place)}: manifest and maps name different digests`,
    );
}

/** Places where the FULL may be: beside the DELTA, in its folder on the same target, then every copy of the index. */
export async function fullCandidates(
  opening: Opening,
  place: ArchivePlace,
  delta: OpenDelta,
): Promise<ArchivePlace[]> {
  const { manifest } = delta;
  const found: ArchivePlace[] = [];
  const seen = new Set<string>();
  const add = async (storage: Storage, folder: string, file: string): Promise<void> => {
    const key = `${storage.number}:${folder}/${file}`;
    if (seen.has(key)) return;
    seen.add(key);
    try {
      const entry = await storage.stat(placePath({ folder, file }), opening.hooks.signal);
      if (entry?.kind === 'file') found.push({ storage, folder, file, sizeBytes: entry.sizeBytes });
    } catch (error) {
      warnOf(opening, error, `target ${storage.number}`);
    }
  };
  await add(place.storage, place.folder, manifest.fullFile);
  await add(place.storage, manifest.fullFolder, manifest.fullFile);
  for (const row of opening.ctx.index.findFull({
    uuid: manifest.uuid,
    scsiId: manifest.scsiId,
    disk: listedName(manifest.disk),
    fullStamp: manifest.fullStamp,
  })) {
    try {
      await add(await opening.ctx.storage(row.targetNumber), row.folder, row.file);
    } catch (error) {
      warnOf(opening, error, `target ${row.targetNumber}`);
    }
  }
  if (found.length === 0) await addFromOtherTargets(opening, manifest, add);
  if (found.length === 0) {
    const { notAsked } = opening;
    if (notAsked)
      throw new PhdError(
        notAsked.code,
        `the FULL ${manifest.fullFile} of ${delta.place.file} is on no target that answers: ${notAsked.message}`,
        { cause: notAsked },
      );
    throw new PhdError(
      'NOT_FOUND',
      `the FULL ${manifest.fullFile} of ${delta.place.file} is on no target: bring it back, or name it with --full`,
    );
  }
  return found;
}

/** Without an index row the FULL may still be where the manifest says, on another target. */
async function addFromOtherTargets(
  opening: Opening,
  manifest: OpenDelta['manifest'],
  add: (storage: Storage, folder: string, file: string) => Promise<void>,
): Promise<void> {
  for (const target of opening.ctx.config.targets) {
    try {
      await add(await opening.ctx.storage(target.number), manifest.fullFolder, manifest.fullFile);
    } catch (error) {
      warnOf(opening, error, `target ${target.number}`);
    }
  }
}

function warnOf(opening: Opening, error: unknown, what: string): void {
  if (!(error instanceof PhdError) || error.code === 'CANCELLED') throw error;
  opening.notAsked ??= error;
  opening.hooks.onWarning?.(`${what}: ${error.message}`);
}

/** The first candidate that is this DELTA's FULL; a wrong one is named and passed over. */
async function openMatchingFull(
  opening: Opening,
  delta: OpenDelta,
  maps: DeltaMaps,
  candidates: ArchivePlace[],
): Promise<{ full: OpenFull | StreamFull; others: ArchivePlace[] }> {
  const failures: PhdError[] = [];
  for (const [index, place] of candidates.entries()) {
    try {
      return { full: await openPairedFull(opening, delta, maps, place), others: candidates.slice(index + 1) };
    } catch (error) {
      if (!(error instanceof PhdError) || error.code === 'CANCELLED') throw error;
      failures.push(error);
      if (index + 1 < candidates.length) opening.hooks.onWarning?.(error.message);
    }
  }
  for (const place of opening.isSalvage ? candidates : []) {
    const full = await cutFullAt(opening, delta, maps, place);
    if (full === null) continue;
    opening.hooks.onWarning?.(`${(failures[0] as PhdError).message}; its map is taken from the empty DELTA`);
    return { full, others: [] };
  }
  throw failures[0] as PhdError;
}

/** Null where neither the FULL nor its empty DELTA tell enough. */
async function cutFullAt(
  opening: Opening,
  delta: OpenDelta,
  maps: DeltaMaps,
  place: ArchivePlace,
): Promise<OpenFull | null> {
  const name = parseArchiveName(place.file);
  if (name?.kind !== 'full' || name.encrypted || name.codec === 'lzop') return null;
  try {
    const empty = delta.part('map') ? delta : await emptyDeltaOf(opening, place, delta);
    const { record, close } = await readMapPart(empty);
    await close();
    const end = decodeEndRecord(record);
    requirePair(end, maps, placeText(empty.place));
    const pages = async function* (): AsyncGenerator<Buffer> {
      yield* (await readMapPart(empty)).pages;
    };
    return await openCutFull(place, name.codec ?? 'gzip', end, pages, opening.hooks.signal);
  } catch (error) {
    const failure = fromErrno(error, placeText(place));
    if (failure.code === 'CANCELLED') throw failure;
    opening.hooks.onWarning?.(`${placeText(place)} cannot be salvaged: ${failure.message}`);
    return null;
  }
}

async function openPairedFull(
  opening: Opening,
  delta: OpenDelta,
  maps: DeltaMaps,
  place: ArchivePlace,
): Promise<OpenFull | StreamFull> {
  const { manifest } = delta;
  const name = parseArchiveName(place.file);
  if (name?.kind !== 'full')
    throw new PhdError('WRONG_FULL', `${placeText(place)} is not the name of a FULL`);
  const full = await openFull(place, name, opening.passphrases, opening.hooks.signal);
  if (!isOpenFull(full)) {
    if (manifest.fullCodec === 'lzop' && full.codec === 'lzop') return full;
    throw new PhdError(
      'WRONG_FULL',
      `${placeText(place)} was not made by this program and is not the FULL of ${delta.place.file}`,
    );
  }
  requirePair(full.end, maps, `${placeText(place)} is not the FULL of ${delta.place.file}`);
  const { head } = full;
  const isSame =
    head.uuid === manifest.uuid &&
    head.disk === manifest.disk &&
    head.stamp === manifest.fullStamp &&
    head.diskBytes === manifest.diskBytes;
  if (!isSame)
    throw new PhdError(
      'WRONG_FULL',
      `${placeText(place)} is not the FULL of ${delta.place.file}: VM, disk, size or stamp differ`,
    );
  return full;
}

function requirePair(end: EndRecord, maps: DeltaMaps, what: string): void {
  if (!end.mapDigest.equals(maps.fullMapDigest))
    throw new PhdError('WRONG_FULL', `${what}: the digests of their maps differ`);
}

/** The map of the FULL, proved against the DELTA. For lzop it is in the empty DELTA. */
async function mapOfFull(
  opening: Opening,
  full: OpenFull | StreamFull,
  delta: OpenDelta,
  maps: DeltaMaps,
): Promise<DiskMap> {
  const file = opening.scratch.file('full.map');
  if (isOpenFull(full)) return await saveMap(file, full.end, full.pages());
  const empty = delta.part('map') ? delta : await emptyDeltaOf(opening, full.place, delta);
  const { record, pages } = await readMapPart(empty);
  const end = decodeEndRecord(record);
  requirePair(end, maps, `${placeText(empty.place)} belongs to another FULL`);
  return await saveMap(file, end, pages);
}

async function emptyDeltaOf(opening: Opening, full: ArchivePlace, delta: OpenDelta): Promise<OpenDelta> {
  const { manifest } = delta;
  const names = {
    scsiId: manifest.scsiId,
    disk: manifest.disk,
    codec: manifest.fullCodec,
    encrypted: manifest.fullEncrypted,
    stamp: manifest.fullStamp,
    fullStamp: manifest.fullStamp,
  };
  const { place } = await findArchive({ ...full, file: deltaFileName(names) }, opening.hooks.signal);
  return await openDelta(place, opening.passphrases, opening.hooks.signal);
}

/** A FULL restores through its empty DELTA; without one through its own map. */
async function openFromFull(
  opening: Opening,
  place: ArchivePlace,
  name: ArchiveName,
): Promise<RestoreSource> {
  const { passphrases, hooks, scratch } = opening;
  const file = deltaFileName({
    ...name,
    codec: name.codec ?? 'gzip',
    stamp: name.stamp,
    fullStamp: name.stamp,
  });
  const entry = await place.storage.stat(placePath({ folder: place.folder, file }), hooks.signal);
  if (entry?.kind === 'file') {
    const deltaPlace = { storage: place.storage, folder: place.folder, file, sizeBytes: entry.sizeBytes };
    const emptyName = parseArchiveName(file) as ArchiveName;
    const source = await openFromDelta(opening, deltaPlace, emptyName, place);
    source.otherFulls = await copiesOnTargets(opening, place);
    return source;
  }
  hooks.onWarning?.(`${placeText(place)} has no empty DELTA: it restores through its own map`);
  const full = await openFull(place, name, passphrases, hooks.signal);
  const fullMap = isOpenFull(full) ? await saveMap(scratch.file('full.map'), full.end, full.pages()) : null;
  if (isOpenFull(full)) requireNamedRightly(place, name, full.head);
  return {
    delta: null,
    maps: null,
    full,
    fullMap,
    diskName: isOpenFull(full) ? full.head.disk : name.disk,
    diskBytes: isOpenFull(full) ? full.end.geometry.diskBytes : -1,
    otherFulls: await copiesOnTargets(opening, place),
    otherDeltas: [],
    passphrases,
  };
}

/** The same name and size on other targets, nearest first. */
export async function copiesOnTargets(opening: Opening, place: ArchivePlace): Promise<ArchivePlace[]> {
  const row = opening.ctx.index.archiveAt(place.storage.number, place.folder, place.file);
  const copies: ArchivePlace[] = [];
  for (const copy of row ? opening.ctx.index.copiesOf(row) : []) {
    if (copy.targetNumber === place.storage.number && copy.folder === place.folder) continue;
    try {
      copies.push({
        storage: await opening.ctx.storage(copy.targetNumber),
        folder: copy.folder,
        file: copy.file,
        sizeBytes: copy.sizeBytes,
      });
    } catch (error) {
      warnOf(opening, error, `target ${copy.targetNumber}`);
    }
  }
  return copies;
}

/** A further copy of the FULL, proved to be the same. Throws as opening does, WRONG_FULL. */
export async function openOtherFull(
  source: RestoreSource,
  place: ArchivePlace,
  signal?: AbortSignal,
): Promise<ByteSource> {
  const name = parseArchiveName(place.file);
  if (!name) throw new PhdError('WRONG_FULL', `${placeText(place)} is not the name of a FULL`);
  const full = await openFull(place, name, source.passphrases, signal);
  if (
    !isOpenFull(full) ||
    !isOpenFull(source.full) ||
    !full.end.tableDigest.equals(source.full.end.tableDigest)
  ) {
    throw new PhdError('WRONG_FULL', `${placeText(place)} is not a copy of the same FULL`);
  }
  return full.plain;
}

/** Part `blocks` of a further copy of the DELTA. */
export async function openOtherDelta(
  source: RestoreSource,
  place: ArchivePlace,
  signal?: AbortSignal,
): Promise<ByteSource> {
  const other = await openDelta(place, source.passphrases, signal);
  const same = source.delta?.part('blocks');
  if (other.part('blocks')?.sha256 !== same?.sha256)
    throw new PhdError('ARCHIVE_DAMAGED', `${placeText(place)} is not a copy of the same DELTA`);
  return await other.random('blocks');
}
