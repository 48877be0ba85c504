/** Backs up one disk: decides FULL or DELTA, writes, reads back, proves the source did not change, then names it. */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { FullRecord } from '../../db/jobs-db.ts';
import { geometryOf } from '../archive/geometry.ts';
import { type DiskIdentity, printFullHead } from '../archive/manifest.ts';
import { PART_SUFFIX } from '../archive/names.ts';
import type { BlockPool } from '../blocks/pool.ts';
import { type OpenDisk, scanRegions } from '../blocks/scan-disk.ts';
import { encryptStream } from '../crypt/message.ts';
import type { SourceDisk } from '../datastore/source-vm.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { makeFolder } from '../make-folder.ts';
import type { Codec, Stamp } from '../model/archive.ts';
import type { DiskAccount } from '../model/disk-reader.ts';
import type { Storage, WriteResult } from '../storage/storage.ts';
import { type BaseFull, mapsFolder } from './base-full.ts';
import type { EngineContext } from './context.ts';
import { headerOf } from './delta-header.ts';
import { type DeltaFile, type DeltaRequest, deltaStream } from './delta-writer.ts';
import { fullStream } from './full-writer.ts';
import { type DiskMap, MapFileWriter, openMapFile } from './map-file.ts';
import { type OnProgress, Progress } from './progress.ts';
import type { RunClaim } from './run-claim.ts';
import { deltaFileName, fullFileName } from './run-place.ts';
import type { Scratch } from './scratch.ts';
import { rereadSample, sourceChanged } from './source-watch.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

/** What all disks of a run share. */
export interface RunFacts {
  ctx: EngineContext;
  storage: Storage;
  claim: RunClaim;
  runId: string;
  stamp: Stamp;
  /** Everything of a manifest that does not differ between the disks. */
  identity: Omit<DiskIdentity, 'scsiId' | 'disk' | 'diskBytes' | 'blockBytes' | 'fullId'>;
  runDisks: { scsiId: string; disk: string }[];
  codec: Codec;
  level: number;
  /** System first, then master; null: not encrypted. */
  passphrases: string[] | null;
  files: DeltaFile[];
  pool: BlockPool;
  scratch: Scratch;
  onProgress: OnProgress | undefined;
  signal: AbortSignal | undefined;
}

/** What the scan of a disk against its FULL found. */
export interface ScanOutcome {
  base: BaseFull;
  now: DiskMap;
  changedBlocks: number;
}

export interface WrittenDisk {
  mode: 'full' | 'delta';
  folder: string;
  /** File names; a FULL comes with its empty DELTA. */
  fullFile: string;
  /** Where that FULL lies; for a DELTA this is most often not `folder`. */
  fullFolder: string;
  deltaFile: string;
  archiveBytes: number;
  diskBytes: number;
  changedBlocks: number;
  changedPercent: number;
  /** Null: all of the disk was read, and nobody keeps account of it. */
  account: Pick<DiskAccount, 'unreadableSectors' | 'checksum'> | null;
}

/** To be closed by closeDisk. Throws NOT_FOUND, IO. */
export function openDisk(disk: SourceDisk): OpenDisk {
  if (disk.reader) return { fd: -1, reader: disk.reader, geometry: geometryOf(disk.sizeBytes) };
  try {
    const fd = fs.openSync(disk.flatPath, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
    return { fd, geometry: geometryOf(disk.sizeBytes) };
  } catch (error) {
    throw fromErrno(error, `cannot read disk ${disk.name} at ${disk.flatPath}`);
  }
}

/** A reader belongs to whoever gave it. */
export function closeDisk(disk: OpenDisk): void {
  if (!disk.reader) fs.closeSync(disk.fd);
}

/** Reads the whole disk and compares it with its FULL. */
export async function scanAgainst(
  run: RunFacts,
  source: SourceDisk,
  disk: OpenDisk,
  base: BaseFull,
): Promise<ScanOutcome> {
  const { geometry } = disk;
  const progress = new Progress(run.onProgress, {
    label: source.name,
    phase: 'scan',
    totalBytes: geometry.diskBytes,
  });
  const mapPath = run.scratch.file(`scan-${randomUUID()}`);
  const writer = new MapFileWriter(mapPath, geometry, 0);
  let changedBlocks = 0;
  try {
    for await (const region of scanRegions(run.pool, disk, base.map.regions(), run.signal)) {
      writer.add(region);
      changedBlocks += region.changedBlocks;
      progress.add(
        Math.min(
          region.blocks.length * geometry.blockBytes,
          geometry.diskBytes - region.blocks[0]! * geometry.blockBytes,
        ),
      );
    }
    writer.finish({ dataOffset: 0, tableOffset: 0, headDigest: Buffer.alloc(32) });
  } finally {
    writer.close();
  }
  progress.finish();
  return { base, now: openMapFile(mapPath), changedBlocks };
}

/** Called when all bytes are on the target and read back, before anything bears its final name. */
export type ProveSource = (map: DiskMap) => Promise<void>;

/** Writes a FULL and its empty DELTA: both as `.part`, both read back, FULL renamed first. */
export async function writeFull(
  run: RunFacts,
  folder: string,
  source: SourceDisk,
  disk: OpenDisk,
  proveSource: ProveSource,
): Promise<WrittenDisk> {
  const { storage, stamp, codec, level, pool } = run;
  const fullId = randomUUID();
  const names = {
    scsiId: source.scsiId,
    disk: source.name,
    codec,
    encrypted: run.passphrases !== null,
    stamp,
    fullStamp: stamp,
  };
  const fullFile = fullFileName(names);
  const deltaFile = deltaFileName(names);
  const identity = identityOf(run, source, disk, fullId);
  const head =
    codec === 'lzop'
      ? Buffer.alloc(0)
      : printFullHead({ ...identity, codec, runDiskCount: run.runDisks.length });
  const mapPath = await newMapPath(run.ctx, fullId);
  const progress = new Progress(run.onProgress, {
    label: source.name,
    phase: 'full',
    totalBytes: disk.geometry.diskBytes,
  });
  const stream = fullStream({
    pool,
    disk,
    codec,
    level,
    head,
    mapPath: `${mapPath}${PART_SUFFIX}`,
    onBlocks: (bytes) => progress.add(bytes),
    signal: run.signal,
  });
  const owed: string[] = [];
  try {
    const full = await writePart(
      run,
      `${folder}/${fullFile}`,
      run.passphrases ? encryptStream(stream.bytes, run.passphrases) : stream.bytes,
      owed,
    );
    progress.finish();
    const map = openMapFile(`${mapPath}${PART_SUFFIX}`);
    const account = await accountFor(run, source, disk, map, 'full');
    const request: DeltaRequest = {
      ...deltaBasics(run, disk, source, account),
      full: map,
      now: map,
      manifest: {
        ...identity,
        ...runManifest(run, source),
        kind: 'empty',
        fullStamp: stamp,
        fullFile,
        fullFolder: folder,
        fullCodec: codec,
        fullEncrypted: run.passphrases !== null,
        fullBytes: full.sizeBytes,
        changedBlocks: 0,
        unreadableSectors: account?.unreadableSectors ?? 0,
      },
    };
    const delta = await writePart(run, `${folder}/${deltaFile}`, deltaStream(request), owed);
    await proveSource(map);
    await nameArchive(run, `${folder}/${fullFile}`, owed);
    await nameArchive(run, `${folder}/${deltaFile}`, owed);
    await fs.promises.rename(`${mapPath}${PART_SUFFIX}`, mapPath);
    const { vmUuid, scsiId, disk: diskName } = keyOf(run, source);
    run.ctx.jobs.recordFull({
      vmUuid,
      scsiId,
      disk: diskName,
      targetNumber: storage.number,
      folder,
      file: fullFile,
      stamp,
      fullId,
      mapDigest: map.end.mapDigest.toString('hex'),
      mapFile: mapPath,
      fullBytes: full.sizeBytes,
      codec,
      encrypted: run.passphrases !== null,
      diskBytes: disk.geometry.diskBytes,
    });
    recordWritten(run, folder, fullFile, full);
    recordWritten(run, folder, deltaFile, delta);
    const { diskBytes } = disk.geometry;
    const unreadableSectors = account?.unreadableSectors ?? 0;
    tellIndex(run, folder, deltaFile, delta, { diskBytes, changedBlocks: 0, unreadableSectors });
    const { dataBlocks } = map.end;
    return {
      mode: 'full',
      folder,
      fullFile,
      fullFolder: folder,
      deltaFile,
      archiveBytes: full.sizeBytes + delta.sizeBytes,
      diskBytes,
      changedBlocks: dataBlocks,
      changedPercent: 100,
      account,
    };
  } catch (error) {
    await removeOwed(run, owed);
    await fs.promises.rm(`${mapPath}${PART_SUFFIX}`, { force: true });
    throw error;
  } finally {
    stream.close();
  }
}

/** Writes a DELTA against its FULL. */
export async function writeDelta(
  run: RunFacts,
  folder: string,
  source: SourceDisk,
  disk: OpenDisk,
  scan: ScanOutcome,
  proveSource: ProveSource,
): Promise<WrittenDisk> {
  const { stamp } = run;
  const { full } = scan.base;
  const names = {
    scsiId: source.scsiId,
    disk: source.name,
    codec: full.codec,
    encrypted: run.passphrases !== null,
    stamp,
    fullStamp: full.stamp,
  };
  const deltaFile = deltaFileName(names);
  const changedBytes = Math.min(disk.geometry.diskBytes, scan.changedBlocks * disk.geometry.blockBytes);
  const progress = new Progress(run.onProgress, {
    label: source.name,
    phase: 'delta',
    totalBytes: changedBytes,
  });
  const owed: string[] = [];
  try {
    const account = await accountFor(run, source, disk, scan.now, 'delta');
    const request = deltaOf(run, source, disk, scan, account, (bytes) => progress.add(bytes));
    const delta = await writePart(run, `${folder}/${deltaFile}`, deltaStream(request), owed);
    progress.finish();
    await proveSource(scan.now);
    await requireBase(run, scan.base);
    await nameArchive(run, `${folder}/${deltaFile}`, owed);
    recordWritten(run, folder, deltaFile, delta);
    const { changedBlocks } = scan;
    const unreadableSectors = account?.unreadableSectors ?? 0;
    const { diskBytes } = disk.geometry;
    tellIndex(run, folder, deltaFile, delta, { diskBytes, changedBlocks, unreadableSectors });
    return {
      mode: 'delta',
      folder,
      fullFile: full.file,
      fullFolder: full.folder,
      deltaFile,
      archiveBytes: delta.sizeBytes,
      diskBytes: disk.geometry.diskBytes,
      changedBlocks: scan.changedBlocks,
      changedPercent:
        disk.geometry.blockCount === 0 ? 0 : (100 * scan.changedBlocks) / disk.geometry.blockCount,
      account,
    };
  } catch (error) {
    await removeOwed(run, owed);
    throw error;
  }
}

/** A FULL that was there when the run began and has gone since, by another home's retention, would leave the DELTA alone. */
async function requireBase({ ctx, storage, signal }: RunFacts, { full, wasThere }: BaseFull): Promise<void> {
  // One that is purged to tape is meant to go.
  if (!wasThere || ctx.config.backup.fullOffline === 'allowed') return;
  const entry = await storage.stat(`${full.folder}/${full.file}`, signal);
  if (entry?.sizeBytes === full.fullBytes) return;
  throw new PhdError(
    'SOURCE_CHANGED',
    `the FULL ${full.folder}/${full.file} was removed from target ${storage.number} while a DELTA was made against it: back up again, the next is a FULL`,
  );
}

function deltaOf(
  run: RunFacts,
  source: SourceDisk,
  disk: OpenDisk,
  scan: ScanOutcome,
  account: DiskAccount | null,
  onBlocks: (bytes: number) => void,
): DeltaRequest {
  const { full, map } = scan.base;
  return {
    ...deltaBasics(run, disk, source, account),
    onBlocks,
    full: map,
    now: scan.now,
    manifest: {
      ...identityOf(run, source, disk, full.fullId),
      ...runManifest(run, source),
      kind: 'delta',
      fullStamp: full.stamp,
      fullFile: full.file,
      fullFolder: full.folder,
      fullCodec: full.codec,
      fullEncrypted: full.encrypted,
      fullBytes: full.fullBytes,
      changedBlocks: scan.changedBlocks,
      unreadableSectors: account?.unreadableSectors ?? 0,
    },
  };
}

/**
 * Makes the empty DELTA of a FULL that lost (or never got) its own, from the FULL's map. It carries no files: those
 * of today are not those of then.
 */
export async function writeMissingEmptyDelta(
  run: RunFacts,
  source: SourceDisk,
  disk: OpenDisk,
  base: BaseFull,
): Promise<string> {
  const { full, map } = base;
  const names = {
    scsiId: full.scsiId,
    disk: full.disk,
    codec: full.codec,
    encrypted: full.encrypted,
    stamp: full.stamp,
    fullStamp: full.stamp,
  };
  const file = deltaFileName(names);
  const owed: string[] = [];
  const request = deltaOf(
    { ...run, stamp: full.stamp, files: [] },
    source,
    disk,
    { base, now: map, changedBlocks: 0 },
    null,
    () => undefined,
  );
  request.manifest = {
    ...request.manifest,
    kind: 'empty',
    stamp: full.stamp,
    runDisks: [{ scsiId: full.scsiId, disk: full.disk }],
  };
  try {
    const written = await writePart(run, `${full.folder}/${file}`, deltaStream(request), owed);
    await nameArchive(run, `${full.folder}/${file}`, owed);
    recordWritten(run, full.folder, file, written);
    return file;
  } catch (error) {
    await removeOwed(run, owed);
    throw error;
  }
}

/** End of every backup of a disk: nothing may have touched it. Throws SOURCE_CHANGED. */
export async function proveUnchanged(
  run: RunFacts,
  source: SourceDisk,
  disk: OpenDisk,
  map: DiskMap,
): Promise<void> {
  if (disk.geometry.diskBytes !== source.sizeBytes) throw sourceChanged(source.name, 'its size changed');
  await rereadSample(run.pool, disk, map, source.name, run.signal);
  await disk.reader?.confirm?.(run.signal);
}

/** Null where nobody keeps account of the disk. Throws SOURCE_CHANGED, TARGET_*, CANCELLED. */
async function accountFor(
  run: RunFacts,
  { name: label }: SourceDisk,
  { reader, geometry }: OpenDisk,
  map: DiskMap,
  mode: 'full' | 'delta',
): Promise<DiskAccount | null> {
  if (!reader?.account) return null;
  const { onProgress, signal } = run;
  const progress = new Progress(onProgress, { label, phase: 'checksum', totalBytes: geometry.diskBytes });
  const account = await reader.account(map, mode, { onBytes: (bytes) => progress.add(bytes), signal });
  if (account.checksum.source !== null) progress.finish();
  return account;
}

function keyOf(run: RunFacts, source: SourceDisk): Pick<FullRecord, 'vmUuid' | 'scsiId' | 'disk'> {
  return { vmUuid: run.identity.uuid, scsiId: source.scsiId, disk: source.name };
}

function identityOf(run: RunFacts, source: SourceDisk, disk: OpenDisk, fullId: string): DiskIdentity {
  const { diskBytes, blockBytes } = disk.geometry;
  return { ...run.identity, scsiId: source.scsiId, disk: source.name, diskBytes, blockBytes, fullId };
}

function runManifest(run: RunFacts, source: SourceDisk) {
  return {
    runDisks: run.runDisks,
    encrypted: run.passphrases !== null,
    createType: source.createType ?? '',
    adapterType: source.adapterType ?? '',
  };
}

/** VM files, of the descriptors only the disk's own, and what is kept of this image. */
function deltaBasics(run: RunFacts, disk: OpenDisk, source: SourceDisk, account: DiskAccount | null) {
  const own = run.files.filter((file) => file.kind !== 'descriptor' || file.path === source.descriptorPath);
  const kept = (account?.files ?? []).map(
    ({ name, bytes }): DeltaFile => ({ kind: 'log', name, path: name, bytes, sizeBytes: bytes.length }),
  );
  return {
    pool: run.pool,
    disk,
    files: [...own, ...kept],
    passphrases: run.passphrases,
    level: run.codec === 'gzip' ? run.level : 1,
    onBlocks: () => undefined,
    signal: run.signal,
  };
}

async function newMapPath(ctx: EngineContext, fullId: string): Promise<string> {
  const folder = mapsFolder(ctx);
  await makeFolder(folder).catch((error) => {
    throw fromErrno(error, `cannot make ${folder}`);
  });
  return path.join(folder, `${fullId}.map`);
}

/**
 * Leftovers of this host are removed when its run begins, so a young `.part` may be in the making elsewhere.
 * Throws EXISTS for such a one.
 */
async function writePart(
  run: RunFacts,
  finalPath: string,
  source: AsyncIterable<Uint8Array>,
  owed: string[],
): Promise<WriteResult> {
  const partPath = `${finalPath}${PART_SUFFIX}`;
  const leftover = await run.storage.stat(partPath, run.signal);
  if (leftover) {
    const nowMs = run.ctx.clock.now().getTime();
    if (nowMs - (leftover.modifiedMs ?? nowMs) < DAY_MS) {
      const words = 'another host may be writing it: try again in a minute, or remove it';
      throw new PhdError('EXISTS', `${partPath} is on target ${run.storage.number}, ${words}`);
    }
    await run.storage.remove(partPath);
  }
  run.claim.begun(partPath);
  owed.push(partPath);
  return await run.storage.write(partPath, source, { signal: run.signal });
}

/** Gives the first of the `.part` files that are owed its name. */
async function nameArchive(run: RunFacts, finalPath: string, owed: string[]): Promise<void> {
  const partPath = `${finalPath}${PART_SUFFIX}`;
  await run.storage.rename(partPath, finalPath);
  owed.shift();
  run.claim.settled(partPath);
}

/** Best effort: the failure that brought us here is what gets reported; a `.part` is never taken for an archive. */
async function removeOwed({ storage, claim }: RunFacts, owed: readonly string[]): Promise<void> {
  const removals = owed.map(async (partPath) => {
    if (await storage.stat(partPath)) await storage.remove(partPath);
    claim.settled(partPath);
  });
  await Promise.allSettled(removals);
}

function recordWritten(run: RunFacts, folder: string, file: string, written: WriteResult): void {
  run.ctx.jobs.recordWritten({
    targetNumber: run.storage.number,
    folder,
    file,
    sizeBytes: written.sizeBytes,
    sha256: written.sha256,
    runId: run.runId,
    writtenAt: run.ctx.clock.now().toISOString(),
  });
}

/** Spares the index a look into the DELTA. The index can be made anew, so its failure is none of the backup. */
function tellIndex(
  run: RunFacts,
  folder: string,
  file: string,
  written: WriteResult,
  of: { diskBytes: number; changedBlocks: number; unreadableSectors: number },
): void {
  const { sizeBytes } = written;
  const { host, displayName } = run.identity;
  const { runId, runDisks } = run;
  try {
    run.ctx.index.recordWritten(
      { targetNumber: run.storage.number, folder, file, sizeBytes },
      headerOf({ runId, host, displayName, runDisks, ...of }),
    );
  } catch (error) {
    run.ctx.log(`${folder}/${file} is not in the index yet: ${(error as Error).message}`);
  }
}
