/** Names of a run on its target: folder, stamp, files (FORMAT.md section 1). */
import { parseArchiveName, parseFolderName, printArchiveName, printFolderName } from '../archive/names.ts';
import { dateOfStamp, localStamp } from '../clock.ts';
import { PhdError } from '../errors.ts';
import type { ArchiveName, Codec, Stamp } from '../model/archive.ts';
import type { Storage } from '../storage/storage.ts';

/** Archives of one VM that a target holds, as far as its names tell. */
export interface VmArchives {
  archives: { folder: string; file: string; name: ArchiveName; sizeBytes: number }[];
  /** Every name seen in its folders, to keep clear of. */
  taken: Set<string>;
  /** False: the target could not be listed whole, so what is absent is unknown. */
  complete: boolean;
}

/** Lists the folders of one VM. Throws TARGET_* only if the root itself cannot be listed. */
export async function listVmArchives(
  storage: Storage,
  vmUuid: string,
  signal?: AbortSignal,
): Promise<VmArchives> {
  const found: VmArchives = { archives: [], taken: new Set(), complete: true };
  const root = await storage.list('', signal);
  found.complete = root.complete;
  for (const entry of root.entries) {
    const folder = entry.kind === 'folder' ? parseFolderName(entry.name) : undefined;
    if (folder?.uuid !== vmUuid) continue;
    const listing = await storage.list(entry.name, signal);
    if (!listing.complete) found.complete = false;
    for (const file of listing.entries) {
      found.taken.add(`${entry.name}/${file.name}`);
      const name = file.kind === 'file' ? parseArchiveName(file.name) : undefined;
      if (name && name.generation === 3) {
        found.archives.push({ folder: entry.name, file: file.name, name, sizeBytes: file.sizeBytes });
      }
    }
  }
  return found;
}

/**
 * Stamp of a new run: the present minute, or the next one that sorts after everything the VM has there
 * (the autumn hour, two runs in a minute). `known`: stamps that a cut list may not show.
 */
export function chooseStamp(now: Date, existing: VmArchives, known: readonly Stamp[] = []): Stamp {
  const newest =
    existing.archives
      .map(({ name }) => name.stamp)
      .concat(known)
      .sort()
      .at(-1) ?? '';
  const present = localStamp(now);
  return newest === '' || present > newest ? present : stampAfter(newest);
}

/** The next minute whose text sorts after a stamp. */
export function stampAfter(newest: Stamp): Stamp {
  const next = new Date(dateOfStamp(newest).getTime() + 60_000);
  const stamp = localStamp(next);
  // In the repeated hour of autumn local minutes run twice; step on until the text sorts after.
  if (stamp > newest) return stamp;
  return localStamp(new Date(next.getTime() + 3_600_000));
}

/** Folder of a run. */
export function runFolder(stamp: Stamp, vm: string, uuid: string, allFulls: boolean): string {
  return printFolderName({ date: stamp.slice(0, 10), vm, uuid, allFulls });
}

export interface DiskNames {
  scsiId: string;
  disk: string;
  codec: Codec;
  encrypted: boolean;
  stamp: Stamp;
  fullStamp: Stamp;
}

export function fullFileName({ scsiId, disk, codec, encrypted, fullStamp }: DiskNames): string {
  return printArchiveName({
    kind: 'full',
    generation: 3,
    scsiId,
    disk,
    codec,
    encrypted,
    stamp: fullStamp,
    fullStamp,
  });
}

export function deltaFileName({ scsiId, disk, encrypted, stamp, fullStamp }: DiskNames): string {
  return printArchiveName({
    kind: 'delta',
    generation: 3,
    scsiId,
    disk,
    codec: null,
    encrypted,
    stamp,
    fullStamp,
  });
}

/** EXISTS if a name of the new run is taken on the target. */
export function requireFree(existing: VmArchives, folder: string, file: string): void {
  if (existing.taken.has(`${folder}/${file}`)) {
    throw new PhdError('EXISTS', `${folder}/${file} is on the target already and is never written again`);
  }
}
