/** Backup of one VM: all its disks, one run, one folder on one target. */
import { randomUUID } from 'node:crypto';
import { BLOCK_BYTES } from '../archive/geometry.ts';
import { BlockPool } from '../blocks/pool.ts';
import { namedTarget } from '../config/named-target.ts';
import { shownName } from '../datastore/plain-name.ts';
import { openSourceVm, type SourceDisk, type SourceVm } from '../datastore/source-vm.ts';
import { fromErrno, PhdError, throwIfAborted } from '../errors.ts';
import type { Codec, Stamp } from '../model/archive.ts';
import { globMatches } from '../model/glob.ts';
import type { Storage } from '../storage/storage.ts';
import {
  closeDisk,
  openDisk,
  proveUnchanged,
  type RunFacts,
  type ScanOutcome,
  scanAgainst,
  type WrittenDisk,
  writeDelta,
  writeFull,
  writeMissingEmptyDelta,
} from './backup-disk.ts';
import { type BaseFull, findBase, type NoBase } from './base-full.ts';
import type { EngineContext } from './context.ts';
import { defaultTarget } from './default-target.ts';
import { DEFAULT_LEVEL } from './full-writer.ts';
import { indexFolder } from './index-targets.ts';
import { passphrasesToWrite } from './passphrase-order.ts';
import type { OnProgress } from './progress.ts';
import { RunClaim } from './run-claim.ts';
import {
  chooseStamp,
  deltaFileName,
  listVmArchives,
  requireFree,
  runFolder,
  type VmArchives,
} from './run-place.ts';
import { giveBackStamp, reserveStamp } from './run-stamp.ts';
import { openScratch } from './scratch.ts';
import { SourceWatch } from './source-watch.ts';
import { PROGRAM } from './version.ts';

/** How a VM is backed up, wherever it lies. */
export interface SourceRequest {
  /** Number of the target; default: the configured one, else the lowest that may be written. */
  target?: number;
  mode?: 'auto' | 'full' | 'delta';
  codec?: Codec;
  level?: number;
  encrypt?: boolean;
  /** The operator says the VM is off although that cannot be seen. */
  assumeOff?: boolean;
  /** Globs over names of disks: only these; none of these. */
  disks?: string[];
  excludeDisks?: string[];
  /** More changed blocks than this make a FULL; default: as configured. */
  fullAboveChangedPercent?: number;
}

export interface BackupRequest extends SourceRequest {
  /** VM folder on a datastore. */
  folder: string;
  /** Further raw images or devices to take as disks. */
  images?: string[];
}

export interface OperationHooks {
  signal?: AbortSignal;
  onProgress?: OnProgress;
  /** Things a person should know that are no failure. */
  onWarning?: (message: string) => void;
  /** Called before another disk is begun; what it throws keeps that disk from being begun. */
  beforeDisk?: () => void;
}

export interface DiskBackup extends WrittenDisk {
  disk: string;
  scsiId: string;
  seconds: number;
  /** Why this mode was chosen. */
  reason: string;
}

export interface BackupResult {
  vm: string;
  displayName: string;
  uuid: string;
  runId: string;
  targetNumber: number;
  disks: DiskBackup[];
  failed: { disk: string; error: PhdError }[];
}

interface Planned {
  source: SourceDisk;
  scan: ScanOutcome | null;
  reason: string;
}

/** Backs up a VM in a local folder; else as backupSource. */
export async function backup(
  ctx: EngineContext,
  request: BackupRequest,
  hooks: OperationHooks = {},
): Promise<BackupResult> {
  if (request.target !== undefined) namedTarget(ctx.config, request.target);
  const vm = await openSourceVm(request.folder, ctx.hostName, request.images, ctx.config.datastores);
  return await backupSource(ctx, vm, request, hooks);
}

/**
 * Backs up a VM, local or held still on a host. A disk that fails is in `failed` and does not stop the others. Throws
 * where nothing can be done at all: NOT_FOUND, SOURCE_UNSUPPORTED, TARGET_*, CONFIG_INVALID, CANCELLED, LOCKED (this VM is
 * being backed up to that target).
 */
export async function backupSource(
  ctx: EngineContext,
  whole: SourceVm,
  request: SourceRequest,
  hooks: OperationHooks = {},
): Promise<BackupResult> {
  const vm = withChosenDisks(whole, request);
  const onWarning = hooks.onWarning ?? (() => undefined);
  if (request.target !== undefined) namedTarget(ctx.config, request.target);
  for (const notice of vm.notices) onWarning(notice);
  if (vm.disks.length === 0 && vm.refused.length === 0) {
    throw new PhdError('NOT_FOUND', `${vm.folder} holds no virtual disk`);
  }
  const storage = await chooseTarget(ctx, request.target);
  const claim = RunClaim.take(ctx.places.stateDir, vm, storage);
  try {
    await claim.removeLeftovers(onWarning);
    return await backupClaimed(ctx, request, hooks, { vm, storage, claim });
  } finally {
    claim.release();
  }
}

/** A run that leaves disks out on purpose is whole without them. */
function withChosenDisks(vm: SourceVm, { disks, excludeDisks = [] }: SourceRequest): SourceVm {
  if (disks === undefined && excludeDisks.length === 0) return vm;
  const isWanted = (name: string): boolean =>
    (disks?.some((one) => globMatches(one, name)) ?? true) &&
    !excludeDisks.some((one) => globMatches(one, name));
  const chosen = vm.disks.filter(({ name }) => isWanted(name));
  const left = vm.disks.filter((disk) => !chosen.includes(disk)).map(({ name }) => shownName(name));
  return {
    ...vm,
    disks: chosen,
    refused: vm.refused.filter(({ disk }) => isWanted(disk)),
    notices: [...vm.notices, ...left.map((name) => `${name} is left out, as asked for`)],
  };
}

async function backupClaimed(
  ctx: EngineContext,
  request: SourceRequest,
  hooks: OperationHooks,
  { vm, storage, claim }: { vm: SourceVm; storage: Storage; claim: RunClaim },
): Promise<BackupResult> {
  const { signal } = hooks;
  const onWarning = hooks.onWarning ?? (() => undefined);
  const failed = [...vm.refused];
  const existing = await listVmArchives(storage, vm.uuid, signal);
  const scratch = await openScratch(ctx.places.stateDir);
  let pool: BlockPool | undefined;
  try {
    const mostBytes = Math.max(0, ...vm.disks.map((disk) => disk.sizeBytes));
    pool = new BlockPool(BLOCK_BYTES, Math.ceil(mostBytes / BLOCK_BYTES));
    const run = await runFacts(ctx, request, hooks, { vm, storage, claim, existing, pool, scratch });
    const watches = new Map<SourceDisk, SourceWatch>();
    // What cannot be seen of one disk can mostly not be seen of the others either.
    const told = new Set<string>();
    const warnOnce = (message: string): void => {
      if (!told.has(message)) onWarning(message);
      told.add(message);
    };
    const result: BackupResult = {
      vm: vm.vmName,
      displayName: vm.displayName,
      uuid: vm.uuid,
      runId: run.runId,
      targetNumber: storage.number,
      disks: [],
      failed,
    };
    try {
      const planned: Planned[] = [];
      for (const source of vm.disks) {
        await attempt(source, failed, signal, async () => {
          hooks.beforeDisk?.();
          if (!source.reader) watches.set(source, await watchSource(vm, source, request, warnOnce));
          planned.push(await planDisk(run, request, source, existing, onWarning));
        });
      }
      const allFulls = planned.every((one) => one.scan === null);
      const folder = runFolder(run.stamp, vm.vmName, vm.uuid, allFulls);
      await inFolder(storage, folder, planned.length, result, async () => {
        for (const [at, one] of planned.entries()) {
          await attempt(one.source, failed, signal, async () => {
            // The first was begun when it was scanned.
            if (at > 0) hooks.beforeDisk?.();
            result.disks.push(await writeDisk(run, one, folder, existing, watches.get(one.source)));
          });
        }
      });
      if (result.disks.length > 0) {
        // Else a restore by name would take the run before, as long as the index counts as young.
        const unlisted = await indexFolder(ctx, storage, folder);
        if (unlisted) onWarning(`${unlisted.message}: the new run shows after the next phd index`);
      }
    } finally {
      for (const watch of watches.values()) watch.stop();
      // What was refused is tried again under the same names, and so clears away what lies there.
      if (result.disks.length === 0) giveBackStamp(ctx.places.stateDir, vm.uuid, run.stamp);
    }
    return result;
  } finally {
    await pool?.close();
    await scratch.remove();
  }
}

/** Makes the folder of a run, if anything is to go there; one that got no disk is taken away again. */
async function inFolder(
  storage: Storage,
  folder: string,
  planned: number,
  result: BackupResult,
  work: () => Promise<void>,
): Promise<void> {
  if (planned === 0) return;
  await storage.makeFolder(folder);
  try {
    await work();
  } finally {
    // Refused where something lies in it, a FULL without its DELTA for one; an empty folder does no harm.
    if (result.disks.length === 0) await storage.removeFolder(folder).catch(() => undefined);
  }
}

/** Runs work for one disk; a failure is kept and the others go on, a cancel ends all. */
async function attempt(
  source: SourceDisk,
  failed: BackupResult['failed'],
  signal: AbortSignal | undefined,
  work: () => Promise<void>,
): Promise<void> {
  throwIfAborted(signal);
  try {
    await work();
  } catch (error) {
    const translated = fromErrno(error, `disk ${source.name}`);
    if (translated.code === 'CANCELLED') throw translated;
    failed.push({ disk: source.name, error: translated });
  }
}

async function chooseTarget(ctx: EngineContext, number: number | undefined): Promise<Storage> {
  const chosen = number ?? defaultTarget(ctx.config);
  if (chosen === null) {
    throw new PhdError(
      'CONFIG_INVALID',
      `no target that may be written is configured: add one to ${ctx.config.file}`,
    );
  }
  const storage = await ctx.storage(chosen);
  if (storage.readOnly) throw new PhdError('TARGET_REFUSED', `target ${chosen} is configured read-only`);
  return storage;
}

async function runFacts(
  ctx: EngineContext,
  request: SourceRequest,
  hooks: OperationHooks,
  found: {
    vm: SourceVm;
    storage: Storage;
    claim: RunClaim;
    existing: VmArchives;
    pool: BlockPool;
    scratch: RunFacts['scratch'];
  },
): Promise<RunFacts> {
  const { vm, storage, claim, existing, pool, scratch } = found;
  const now = ctx.clock.now();
  const codec = request.codec ?? ctx.config.backup.codec;
  const encrypt = request.encrypt ?? ctx.config.backup.encrypt;
  if (encrypt && codec === 'lzop') throw new PhdError('USAGE', 'an encrypted FULL is gzip or zstd, not lzop');
  const passphrases = encrypt ? passphrasesToWrite(await ctx.passphrases()) : null;
  // Last of all that may fail: who throws here has no stamp to give back.
  const free = chooseStamp(now, existing, stampsOfFulls(ctx, vm, storage));
  const stamp = reserveStamp(ctx.places.stateDir, vm.uuid, free, now);
  const runId = randomUUID();
  return {
    ctx,
    storage,
    claim,
    runId,
    stamp,
    identity: {
      program: PROGRAM,
      vm: vm.vmName,
      displayName: vm.displayName,
      uuid: vm.uuid,
      host: vm.hostName ?? ctx.hostName,
      runId,
      stamp,
      timeUtc: now.toISOString().slice(0, 19) + 'Z',
      utcOffsetMinutes: -now.getTimezoneOffset() || 0,
    },
    runDisks: [
      ...vm.disks.map(({ scsiId, name }) => ({ scsiId, disk: name })),
      ...vm.refused.map(({ disk }) => ({ scsiId: '00', disk })),
    ],
    codec,
    level: request.level ?? ctx.config.backup.level ?? DEFAULT_LEVEL[codec],
    passphrases,
    files: vm.files,
    pool,
    scratch,
    onProgress: hooks.onProgress,
    signal: hooks.signal,
  };
}

/** Of the FULLs that a DELTA of this run may be made against. */
function stampsOfFulls(ctx: EngineContext, vm: SourceVm, storage: Storage): Stamp[] {
  return vm.disks.flatMap(({ scsiId, name }) => {
    const key = { vmUuid: vm.uuid, scsiId, disk: name, targetNumber: storage.number };
    return ctx.jobs.newestFull(key)?.stamp ?? [];
  });
}

function watchSource(
  vm: SourceVm,
  source: SourceDisk,
  request: SourceRequest,
  onWarning: (message: string) => void,
): Promise<SourceWatch> {
  const paths = [
    source.flatPath,
    ...(source.descriptorPath ? [source.descriptorPath] : []),
    ...vm.files.filter((file) => file.kind === 'vmx').map((file) => file.path),
  ];
  const about = {
    disk: source.name,
    flatPath: source.flatPath,
    paths,
    assumeOff: request.assumeOff ?? false,
  };
  return SourceWatch.begin(about, onWarning);
}

/** FULL or DELTA, decided after the scan. */
async function planDisk(
  run: RunFacts,
  request: SourceRequest,
  source: SourceDisk,
  existing: VmArchives,
  onWarning: (message: string) => void,
): Promise<Planned> {
  const { ctx, storage } = run;
  const mode = request.mode ?? 'auto';
  if (mode === 'full') return { source, scan: null, reason: 'asked for' };
  const base = await findBase(ctx, {
    storage,
    vmUuid: run.identity.uuid,
    disk: source,
    encrypted: run.passphrases !== null,
    existing,
    passphrases: run.passphrases ?? [],
    fullOffline: ctx.config.backup.fullOffline === 'allowed',
    onWarning,
    signal: run.signal,
  });
  if (!isBase(base)) {
    if (base.warn || mode === 'delta') onWarning(`disk ${source.name}: a FULL is made, since ${base.reason}`);
    return { source, scan: null, reason: base.reason };
  }
  const disk = openDisk(source);
  try {
    await repairEmptyDelta(run, source, disk, base, existing, onWarning);
    const scan = await scanAgainst(run, source, disk, base);
    const { blockCount } = disk.geometry;
    const percent = blockCount === 0 ? 0 : (100 * scan.changedBlocks) / blockCount;
    const limit = request.fullAboveChangedPercent ?? ctx.config.backup.fullAboveChangedPercent;
    if (mode === 'auto' && percent > limit) {
      return { source, scan: null, reason: `${percent.toFixed(0)} % of its blocks changed since its FULL` };
    }
    return {
      source,
      scan,
      reason: mode === 'delta' ? 'asked for' : `${percent.toFixed(1)} % of its blocks changed`,
    };
  } finally {
    closeDisk(disk);
  }
}

function isBase(found: BaseFull | NoBase): found is BaseFull {
  return 'map' in found;
}

/** A FULL alone gets its empty DELTA; a failure of that is no reason to make no backup today. */
async function repairEmptyDelta(
  run: RunFacts,
  source: SourceDisk,
  disk: ReturnType<typeof openDisk>,
  base: BaseFull,
  existing: VmArchives,
  onWarning: (message: string) => void,
): Promise<void> {
  const { full } = base;
  const file = deltaFileName({
    scsiId: full.scsiId,
    disk: full.disk,
    codec: full.codec,
    encrypted: full.encrypted,
    stamp: full.stamp,
    fullStamp: full.stamp,
  });
  const isThere = existing.taken.has(`${full.folder}/${file}`);
  const isFullThere = existing.taken.has(`${full.folder}/${full.file}`);
  if (isThere || !isFullThere || !existing.complete) return;
  try {
    await writeMissingEmptyDelta(run, source, disk, base);
    onWarning(
      `disk ${source.name}: ${full.folder}/${full.file} had no DELTA; its empty DELTA was made from its map`,
    );
  } catch (error) {
    const translated = fromErrno(error, full.file);
    if (translated.code === 'CANCELLED') throw translated;
    onWarning(
      `disk ${source.name}: ${full.folder}/${full.file} has no DELTA and none could be made: ${translated.message}`,
    );
  }
}

async function writeDisk(
  run: RunFacts,
  planned: Planned,
  folder: string,
  existing: VmArchives,
  watch: SourceWatch | undefined,
): Promise<DiskBackup> {
  const { source, scan } = planned;
  const startedMs = performance.now();
  const disk = openDisk(source);
  try {
    const names = {
      scsiId: source.scsiId,
      disk: source.name,
      codec: run.codec,
      encrypted: run.passphrases !== null,
      stamp: run.stamp,
    };
    requireFree(existing, folder, deltaFileName({ ...names, fullStamp: scan?.base.full.stamp ?? run.stamp }));
    const proveSource = async (map: ScanOutcome['now']): Promise<void> => {
      await proveUnchanged(run, source, disk, map);
      await watch?.requireUnchanged();
    };
    const written = scan
      ? await writeDelta(run, folder, source, disk, scan, proveSource)
      : await writeFull(run, folder, source, disk, proveSource);
    return {
      ...written,
      disk: source.name,
      scsiId: source.scsiId,
      seconds: (performance.now() - startedMs) / 1000,
      reason: planned.reason,
    };
  } finally {
    closeDisk(disk);
  }
}
