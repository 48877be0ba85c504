/** From words of a person to archives: `N:folder/file`, the path of a file, or a VM by name or UUID. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { ArchiveFilter } from '../../db/archive-filter.ts';
import type { ArchiveRow } from '../../db/archive-rows.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { PATH_TARGET } from './archive-place.ts';
import type { EngineContext } from './context.ts';
import { newestRun } from './list-archives.ts';
import type { ArchiveRef } from './restore-source.ts';

/** An archive as a command names it. Throws USAGE, NOT_FOUND (no such target), CONFIG_INVALID, TARGET_*. */
export async function archiveRef(ctx: EngineContext, text: string): Promise<ArchiveRef> {
  const onTarget = /^(\d{1,4}):(.+)\/([^/]+)$/s.exec(text);
  if (onTarget) {
    const [, number, folder, file] = onTarget as unknown as [string, string, string, string];
    return { storage: await ctx.storage(Number(number)), folder, file };
  }
  return await refOfPath(text);
}

/** A file anywhere: the parent of its folder is taken as the root, so that a FULL in a folder beside is found. */
async function refOfPath(text: string): Promise<ArchiveRef> {
  const file = path.resolve(text);
  const folder = path.dirname(file);
  await stat(file).catch((error) => {
    const failure = fromErrno(error, `cannot read ${file}`);
    if (failure.code !== 'NOT_FOUND') throw failure;
    throw new PhdError(
      'NOT_FOUND',
      `there is no file ${file}; an archive on target N is named N:folder/file`,
    );
  });
  const { VmfsStorage } = await import('../storage/vmfs.ts');
  const storage = new VmfsStorage({
    number: PATH_TARGET,
    name: 'path',
    transport: 'vmfs',
    path: path.dirname(folder),
    host: null,
    port: null,
    user: null,
    tls: 'none',
    tlsPin: null,
    knownHostsFile: null,
    legacyAlgorithms: false,
    bandwidthLimitBytesPerSecond: null,
    maxConnections: null,
    readOnly: true,
    timeoutMs: 60_000,
    readBack: 'tail',
  });
  return { storage, folder: path.basename(folder), file: path.basename(file) };
}

export interface WantedVm {
  /** Name or UUID. */
  vm: string;
  /** Only this disk; default: all of the run. */
  disk?: string;
  /** `YYYY-MM-DD` or `YYYY-MM-DDTHH:MM`. */
  onOrBefore?: string;
}

/**
 * The DELTAs of a VM's newest complete run, on or before a date. Runs that lack disks are never taken silently:
 * each newer one is named through `onWarning`. Throws NOT_FOUND, USAGE (several VMs of this name).
 */
export async function refsOfVm(
  ctx: EngineContext,
  wanted: WantedVm,
  onWarning: (message: string) => void,
): Promise<ArchiveRef[]> {
  const rows = await newestRun(ctx, wanted, (stamp, why) =>
    onWarning(`the run of ${stamp.replace('T', ' ')} is not taken: ${why}`),
  );
  if (rows.length === 0) {
    const { disk: _, ...whole } = wanted;
    const names = (await newestRun(ctx, whole)).map(({ disk }) => disk);
    throw new PhdError(
      'NOT_FOUND',
      `the newest complete run of ${wanted.vm} has no disk ${wanted.disk}, but ${names.join(', ')}`,
    );
  }
  return await Promise.all(rows.map((row) => nearestThere(ctx, row, onWarning)));
}

/**
 * The DELTA that was chosen, or, where its target is dead or lacks it, another copy of the same run, named through
 * `onWarning`. Without one the chosen DELTA: opening it says what is wrong.
 */
async function nearestThere(
  ctx: EngineContext,
  chosen: ArchiveRow,
  onWarning: (message: string) => void,
): Promise<ArchiveRef> {
  const { uuid, stamp, disk, scsiId } = chosen;
  const runId = chosen.header?.runId;
  const filter: ArchiveFilter = { uuid, disk, kind: 'delta', from: stamp, to: stamp };
  const others = ctx.index
    .listArchives(filter, { limit: 100 })
    .filter((row) => row.scsiId === scsiId && row.complete && row.id !== chosen.id)
    .filter(({ header }) => (header?.runId ?? runId) === (runId ?? header?.runId));
  const refOf = async (row: ArchiveRow): Promise<ArchiveRef> => {
    const { targetNumber, folder, file } = row;
    return { storage: await ctx.storage(targetNumber), folder, file };
  };
  let why = '';
  for (const row of others.length === 0 ? [] : [chosen, ...others]) {
    try {
      const ref = await refOf(row);
      if ((await ref.storage.stat(`${row.folder}/${row.file}`)) !== undefined) {
        if (row !== chosen) onWarning(`target ${row.targetNumber} is taken for ${disk}: ${why}`);
        return ref;
      }
      why ||= `target ${row.targetNumber} has no ${row.folder}/${row.file}`;
    } catch (error) {
      if (!(error instanceof PhdError)) throw error;
      why ||= error.message;
    }
  }
  return await refOf(chosen);
}
