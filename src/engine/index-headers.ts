/** Reads what new DELTAs of a listed folder say of their runs. */
import type { ArchiveHeader } from '../../db/archive-rows.ts';
import type { ListedArchive } from '../../db/index-db.ts';
import { PhdError, throwIfAborted } from '../errors.ts';
import type { Storage } from '../storage/storage.ts';
import { FOREIGN_HEADER, readHeader } from './delta-header.ts';

/** DELTAs of one folder that are opened at once. */
const READS_AT_ONCE = 4;

/**
 * The archives of a folder with their headers. A DELTA is opened unless `known` has its header for its size; one
 * without its end is not complete, one of another maker foreign, one that cannot be read stays unread. A FULL takes
 * the header of its empty DELTA. Throws CANCELLED.
 */
export async function withHeaders(
  storage: Storage,
  folder: string,
  archives: readonly ListedArchive[],
  known: ReadonlyMap<string, { sizeBytes: number; header: ArchiveHeader }>,
  signal?: AbortSignal,
): Promise<ListedArchive[]> {
  const waiting = archives.filter((one) => one.name.kind === 'delta' && one.name.generation === 3);
  const deltas = new Map<string, ListedArchive>();
  const work = async (): Promise<void> => {
    for (let one = waiting.shift(); one !== undefined; one = waiting.shift()) {
      throwIfAborted(signal);
      const held = known.get(one.file);
      const isKnown = held !== undefined && held.sizeBytes === one.sizeBytes;
      const read = isKnown ? { ...one, header: held.header } : await readOne(storage, folder, one, signal);
      deltas.set(one.file, read);
    }
  };
  await Promise.all(Array.from({ length: READS_AT_ONCE }, work)).finally(() => waiting.splice(0));
  const empties = new Map<string, ArchiveHeader>();
  for (const { name, header } of deltas.values()) {
    if (header && !header.foreign && name.stamp === name.fullStamp) empties.set(diskOf(name), header);
  }
  return archives.map((one) => {
    const empty = one.name.kind === 'full' ? empties.get(diskOf(one.name)) : undefined;
    if (one.name.kind === 'delta') return deltas.get(one.file) ?? one;
    return { ...one, header: empty ? { ...empty, changedBlocks: null } : null };
  });
}

function diskOf(name: ListedArchive['name']): string {
  return `${name.stamp} ${name.scsiId} ${name.disk}`;
}

async function readOne(
  storage: Storage,
  folder: string,
  archive: ListedArchive,
  signal?: AbortSignal,
): Promise<ListedArchive> {
  if (!archive.complete) return { ...archive, header: null };
  const { file, sizeBytes } = archive;
  try {
    return { ...archive, header: await readHeader({ storage, folder, file, sizeBytes }, signal) };
  } catch (error) {
    if (!(error instanceof PhdError) || error.code === 'CANCELLED') throw error;
    if (error.code === 'FORMAT_UNSUPPORTED') return { ...archive, header: FOREIGN_HEADER };
    return { ...archive, header: null, complete: error.code !== 'ARCHIVE_DAMAGED' };
  }
}
