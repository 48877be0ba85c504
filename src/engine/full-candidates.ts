/**
 * What a person is shown before a restore: the headers of an archive, read now, and every FULL that it may be restored
 * with, each proved or not. Reads only.
 */
import { listedName, parseArchiveName } from '../archive/names.ts';
import { PhdError } from '../errors.ts';
import type { ArchiveName, Codec, Stamp, Transport } from '../model/archive.ts';
import { requireNamedRightly } from './archive-name-check.ts';
import { type ArchivePlace, placePath, placeText } from './archive-place.ts';
import { archiveRef } from './choose-run.ts';
import type { EngineContext } from './context.ts';
import { headerOf } from './delta-header.ts';
import { loadMaps, type OpenDelta, openDelta } from './delta-reader.ts';
import { isOpenFull, type OpenFull, openFull, type StreamFull } from './full-reader.ts';
import { passphrasesForReading } from './passphrase-order.ts';
import { copiesOnTargets, findArchive, fullCandidates, type Opening } from './restore-source.ts';
import { deltaFileName } from './run-place.ts';
import { openScratch } from './scratch.ts';

/**
 * `proved`: stamp, disk, UUID and size agree, and so does the digest of its map, read now; `names`: names agree, its
 * map could not be read or it has none; `wrong`: it is another FULL.
 */
export type Agreement = 'proved' | 'names' | 'wrong';

export interface FullCandidate {
  /** `N:folder/file` */
  archive: string;
  targetNumber: number;
  targetName: string;
  transport: Transport;
  sizeBytes: number;
  /** Measured rate of reading from its target, or null. */
  bytesPerSecond: number | null;
  agreement: Agreement;
  /** Why it is not proved; null if it is. */
  why: string | null;
  /** Bytes of its blocks that are not zero; null where its map was not read. */
  dataBytes: number | null;
}

export interface CheckedArchive {
  /** `N:folder/file` */
  archive: string;
  kind: 'full' | 'delta';
  vm: string;
  displayName: string;
  uuid: string;
  host: string | null;
  scsiId: string;
  /** Its true name. */
  disk: string;
  /** null: it does not tell, as archives of other programs. */
  diskBytes: number | null;
  stamp: Stamp;
  fullStamp: Stamp;
  encrypted: boolean;
  /** `SS disk` of all disks of its run; empty where it is not told. */
  runDisks: string[];
  /** Bytes of the blocks that a DELTA brings. */
  payloadBytes: number;
  carriesVmx: boolean;
  /** False: it carries no digests, so that its restore cannot be proved. */
  isProvable: boolean;
  /** Nearest first: vmfs, then measured rate, then number. */
  fulls: FullCandidate[];
  /** Targets that could not be asked, a line each. */
  warnings: string[];
}

export interface CheckOptions {
  /** False: FULLs are not looked for, as for a VMX alone; default true. */
  withFulls?: boolean;
  signal?: AbortSignal;
  /** What is being done, for a line on the screen. */
  say?: (text: string) => void;
}

/**
 * Reads the headers of `N:folder/file`, or of the path of a file, and of its FULLs. Throws what makes the archive itself
 * unfit: NOT_FOUND, ARCHIVE_DAMAGED, FORMAT_UNSUPPORTED, PASSPHRASE_*, TARGET_*, CANCELLED.
 */
export async function checkArchive(
  ctx: EngineContext,
  archive: string,
  { withFulls = true, signal, say = () => undefined }: CheckOptions = {},
): Promise<CheckedArchive> {
  const ref = await archiveRef(ctx, archive);
  const warnings: string[] = [];
  const scratch = await openScratch(ctx.places.stateDir);
  try {
    const hooks = { onWarning: (text: string) => warnings.push(text), ...(signal && { signal }) };
    const { place, name } = await findArchive(ref, signal);
    const passphrases = await passphrasesForReading(ctx, name.encrypted, hooks.onWarning);
    const opening = { ctx, passphrases, scratch, hooks };
    if (name.generation === 2) {
      throw new PhdError(
        'FORMAT_UNSUPPORTED',
        `${ref.file}: a DELTA of esXpress version 2 is listed, but its payload is not documented`,
      );
    }
    say(`reading the header of ${place.file}`);
    const look: Look = { opening, say, withFulls };
    const checked =
      name.kind === 'delta'
        ? await checkDelta(look, place)
        : await checkFull(look, place, name.codec ?? 'gzip');
    return { ...checked, warnings };
  } finally {
    await scratch.remove();
  }
}

type Checked = Omit<CheckedArchive, 'warnings'>;

interface Look {
  opening: Opening;
  say: (text: string) => void;
  withFulls: boolean;
}

async function checkDelta(look: Look, place: ArchivePlace): Promise<Checked> {
  const { opening } = look;
  const delta = await openNamedDelta(opening, place);
  const facts = factsOf(delta);
  keepHeader(opening, delta);
  if (!look.withFulls) return { ...facts, fulls: [] };
  const digest = await fullDigestOf(opening, delta);
  const places = await fullCandidates(opening, place, delta);
  return { ...facts, fulls: await candidatesOf(look, places, (full) => faultOfFull(full, facts, digest)) };
}

/** What was read is kept for lists: archives of far targets are known by name alone until then. */
function keepHeader({ ctx }: Opening, { place, manifest }: OpenDelta): void {
  const row = ctx.index.archiveAt(place.storage.number, place.folder, place.file);
  if (row !== undefined && row.header === null && row.sizeBytes === place.sizeBytes) {
    ctx.index.recordHeader(row.id, headerOf(manifest));
  }
}

/** A FULL restores through its empty DELTA if that is there; its copies are what can be chosen among. */
async function checkFull(look: Look, place: ArchivePlace, codec: Codec): Promise<Checked> {
  const { opening } = look;
  const name = parseArchiveName(place.file) as ArchiveName;
  const empty = deltaFileName({ ...name, codec, fullStamp: name.stamp });
  const emptyPath = placePath({ folder: place.folder, file: empty });
  const entry = await place.storage.stat(emptyPath, opening.hooks.signal);
  const copies = look.withFulls ? [place, ...(await copiesOnTargets(opening, place))] : [];
  const mark = { archive: placeText(place), kind: 'full' as const };
  if (entry?.kind === 'file') {
    const delta = await openNamedDelta(opening, { ...place, file: empty, sizeBytes: entry.sizeBytes });
    const facts = { ...factsOf(delta), ...mark };
    const digest = look.withFulls ? await fullDigestOf(opening, delta) : null;
    return { ...facts, fulls: await candidatesOf(look, copies, (full) => faultOfFull(full, facts, digest)) };
  }
  opening.hooks.onWarning?.(`${placeText(place)} has no empty DELTA: it restores through its own map`);
  const full = await openFull(place, name, opening.passphrases, opening.hooks.signal);
  const facts = { ...factsOfFull(look, place, name, full), ...mark };
  const digest = isOpenFull(full) ? full.end.mapDigest : null;
  return { ...facts, fulls: await candidatesOf(look, copies, (one) => faultOfFull(one, facts, digest)) };
}

/** Of a FULL without DELTA: its own head, or what its name and the index tell if it was made by another program. */
function factsOfFull(
  { opening }: Look,
  place: ArchivePlace,
  name: ArchiveName,
  full: OpenFull | StreamFull,
): Omit<Checked, 'fulls'> {
  const head = isOpenFull(full) ? full.head : undefined;
  const row = opening.ctx.index.archiveAt(place.storage.number, place.folder, place.file);
  return {
    archive: placeText(place),
    kind: 'full',
    vm: head?.vm ?? row?.vm ?? '',
    displayName: head?.displayName ?? row?.vm ?? '',
    uuid: head?.uuid ?? row?.uuid ?? '',
    host: head?.host ?? null,
    scsiId: name.scsiId,
    disk: head?.disk ?? name.disk,
    diskBytes: head?.diskBytes ?? null,
    stamp: name.stamp,
    fullStamp: name.stamp,
    encrypted: name.encrypted,
    runDisks: [],
    payloadBytes: 0,
    carriesVmx: false,
    isProvable: head !== undefined,
  };
}

async function openNamedDelta(opening: Opening, place: ArchivePlace): Promise<OpenDelta> {
  const delta = await openDelta(place, opening.passphrases, opening.hooks.signal);
  const name = parseArchiveName(place.file);
  if (name) requireNamedRightly(place, name, delta.manifest);
  return delta;
}

function factsOf({ manifest, place }: OpenDelta): Omit<Checked, 'fulls'> {
  const { vm, displayName, uuid, host, scsiId, disk, diskBytes, stamp, fullStamp, encrypted } = manifest;
  return {
    archive: placeText(place),
    kind: 'delta',
    vm,
    displayName,
    uuid,
    host,
    scsiId,
    disk,
    diskBytes,
    stamp,
    fullStamp,
    encrypted,
    runDisks: manifest.runDisks.map((one) => `${one.scsiId} ${listedName(one.disk)}`),
    payloadBytes: Math.min(diskBytes, manifest.payloadBlocks * manifest.blockBytes),
    carriesVmx: manifest.files.some(({ kind }) => kind === 'vmx'),
    isProvable: true,
  };
}

/** Of an encrypted DELTA it stands in part `maps` alone, which is read and proved whole. */
async function fullDigestOf(opening: Opening, delta: OpenDelta): Promise<Buffer> {
  const { fullMapDigest } = delta.manifest;
  if (fullMapDigest !== null) return Buffer.from(fullMapDigest, 'hex');
  return (await loadMaps(delta, opening.scratch)).fullMapDigest;
}

type Facts = Pick<CheckedArchive, 'uuid' | 'disk' | 'fullStamp' | 'diskBytes'>;

/** Why it is another FULL, or null. */
function faultOfFull({ head, end }: OpenFull, facts: Facts, digest: Buffer | null): string | null {
  if (head.uuid !== facts.uuid) return 'it is of another VM';
  if (head.disk !== facts.disk) return `it is of disk ${head.disk}`;
  if (head.stamp !== facts.fullStamp) return `it is of ${head.stamp.replace('T', ' ')}`;
  if (head.diskBytes !== facts.diskBytes) return `its disk has ${head.diskBytes} bytes`;
  return digest !== null && end.mapDigest.equals(digest) ? null : 'the digest of its map differs';
}

async function candidatesOf(
  { opening, say }: Look,
  places: readonly ArchivePlace[],
  fault: (full: OpenFull) => string | null,
): Promise<FullCandidate[]> {
  const targets = opening.ctx.index.targets();
  const candidates = await Promise.all(
    places.map(async (place): Promise<FullCandidate> => {
      const { storage, sizeBytes } = place;
      say(`reading the header of ${placeText(place)}`);
      return {
        archive: placeText(place),
        targetNumber: storage.number,
        targetName: storage.name,
        transport: storage.transport,
        sizeBytes,
        bytesPerSecond: targets.find((one) => one.number === storage.number)?.bytesPerSecond ?? null,
        ...(await agreementOf(opening, place, fault)),
      };
    }),
  );
  return candidates.sort(byNearness);
}

async function agreementOf(
  opening: Opening,
  place: ArchivePlace,
  fault: (full: OpenFull) => string | null,
): Promise<Pick<FullCandidate, 'agreement' | 'why' | 'dataBytes'>> {
  const name = parseArchiveName(place.file);
  if (name?.kind !== 'full')
    return { agreement: 'wrong', why: 'its name is not that of a FULL', dataBytes: null };
  try {
    const full = await openFull(place, name, opening.passphrases, opening.hooks.signal);
    if (!isOpenFull(full))
      return { agreement: 'names', why: 'it carries no map of its own', dataBytes: null };
    const why = fault(full);
    const { dataBlocks, geometry } = full.end;
    const dataBytes = Math.min(geometry.diskBytes, dataBlocks * geometry.blockBytes);
    return { agreement: why === null ? 'proved' : 'wrong', why, dataBytes };
  } catch (error) {
    if (!(error instanceof PhdError) || error.code === 'CANCELLED') throw error;
    return { agreement: 'names', why: error.message, dataBytes: null };
  }
}

function byNearness(a: FullCandidate, b: FullCandidate): number {
  const far = ({ transport }: FullCandidate): number => (transport === 'vmfs' ? 0 : 1);
  return (
    far(a) - far(b) || (b.bytesPerSecond ?? 0) - (a.bytesPerSecond ?? 0) || a.targetNumber - b.targetNumber
  );
}
