/** Room that disks need on a datastore of a host, made thin: what cannot fit is refused before anything is sent. */
import path from 'node:path';
import { blockSizeBytes, geometryOf } from '../archive/geometry.ts';
import { shownName } from '../datastore/plain-name.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { EsxHost } from '../hosts/esx/esx-host.ts';
import type { EsxDatastore } from '../hosts/esx/esx-storage.ts';
import type { OperationHooks } from './backup.ts';
import type { EngineContext } from './context.ts';
import { escapeText, formatBytes } from './display-text.ts';
import { FROM_ZERO } from './expected-disk.ts';
import { countSources } from './restore-blocks.ts';
import { type ArchiveRef, openRestoreSource } from './restore-source.ts';
import { openScratch } from './scratch.ts';

export interface NeededRoom {
  /** Of blocks that are no zeros: what a thin disk takes at first. */
  dataBytes: number;
  /** What it takes once all of it was written. */
  diskBytes: number;
}

/** Of several disks. One whose archive cannot be opened counts for nothing: its restore says why. Throws CANCELLED. */
export async function neededRoom(
  ctx: EngineContext,
  archives: readonly ArchiveRef[],
  fulls: ReadonlyMap<ArchiveRef, ArchiveRef>,
  signal?: AbortSignal,
): Promise<NeededRoom> {
  const needed: NeededRoom = { dataBytes: 0, diskBytes: 0 };
  for (const archive of archives) {
    try {
      const { dataBytes, diskBytes } = await roomOfDisk(ctx, archive, fulls.get(archive), signal);
      needed.dataBytes += dataBytes;
      needed.diskBytes += diskBytes;
    } catch (error) {
      const failure = fromErrno(error, archive.file);
      if (failure.code === 'CANCELLED') throw failure;
      ctx.log(`the room that ${archive.file} needs is not known: ${failure.message}`);
    }
  }
  return needed;
}

async function roomOfDisk(
  ctx: EngineContext,
  archive: ArchiveRef,
  full: ArchiveRef | undefined,
  signal?: AbortSignal,
): Promise<NeededRoom> {
  const scratch = await openScratch(ctx.places.stateDir);
  try {
    const source = await openRestoreSource(ctx, archive, scratch, { signal }, { chosenFull: full });
    const diskBytes = Math.max(0, source.diskBytes);
    if (source.fullMap === null) return { dataBytes: 0, diskBytes };
    const geometry = geometryOf(diskBytes, source.fullMap.end.geometry.blockBytes);
    let dataBytes = 0;
    await countSources(source, geometry, ({ firstBlock, sources }) => {
      sources.forEach((from, at) => {
        if (from !== FROM_ZERO) dataBytes += blockSizeBytes(geometry, firstBlock + at);
      });
    });
    return { dataBytes, diskBytes };
  } finally {
    await scratch.remove();
  }
}

/** Asks the host, and warns if only thin disks fit, or if it cannot tell. Throws NO_SPACE, TARGET_UNREACHABLE, CANCELLED. */
export async function requireHostRoom(
  host: EsxHost,
  datastore: string,
  { dataBytes, diskBytes }: NeededRoom,
  { signal, onWarning = () => undefined }: OperationHooks,
): Promise<void> {
  const place = `${host.config.name}:${escapeText(datastore)}`;
  let freeBytes: number;
  try {
    ({ freeBytes } = await datastoreOf(host, datastore, signal));
  } catch (error) {
    const failure = fromErrno(error, place);
    if (!['TARGET_REFUSED', 'NOT_FOUND'].includes(failure.code)) throw failure;
    onWarning(`whether the disks fit is not known: ${failure.message}`);
    return;
  }
  if (dataBytes > freeBytes)
    throw new PhdError(
      'NO_SPACE',
      `${place} has ${formatBytes(freeBytes)} free, the data of the disks needs ${formatBytes(dataBytes)}: make room, or choose another datastore`,
    );
  if (diskBytes > freeBytes)
    onWarning(
      `${place} has ${formatBytes(freeBytes)} free, the disks are ${formatBytes(diskBytes)}: they are made thin, and fit until they are filled`,
    );
}

/** By its name, or the UUID that its mount point ends in. Throws NOT_FOUND, TARGET_*, CANCELLED. */
export async function datastoreOf(
  host: EsxHost,
  datastore: string,
  signal?: AbortSignal,
): Promise<EsxDatastore> {
  const { listDatastores } = await import('../hosts/esx/esx-storage.ts');
  const all = await listDatastores(host.shell, signal);
  const found = all.find(
    ({ name, mountPoint }) => name === datastore || path.posix.basename(mountPoint) === datastore,
  );
  if (found !== undefined) return found;
  throw new PhdError(
    'NOT_FOUND',
    `host ${host.config.name} lists no datastore ${shownName(datastore)}: see phd host storage ${host.config.name}`,
  );
}
