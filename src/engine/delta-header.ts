/** What the index keeps of a DELTA's manifest. */
import type { ArchiveHeader, ArchiveRow } from '../../db/archive-rows.ts';
import { listedName } from '../archive/names.ts';
import { PhdError } from '../errors.ts';
import { type ArchivePlace, placeText, storedBytes } from './archive-place.ts';
import type { EngineContext } from './context.ts';
import { readDeltaManifest } from './delta-manifest.ts';

/** Header of an archive that this program lists but cannot read. */
export const FOREIGN_HEADER: ArchiveHeader = {
  runId: null,
  host: null,
  displayName: null,
  diskBytes: null,
  runDisks: [],
  changedBlocks: null,
  unreadableSectors: null,
  foreign: true,
};

/** Facts of one DELTA as its writer and its reader know them; disks by their true names. */
export interface DeltaFacts {
  runId: string;
  host: string;
  displayName: string;
  diskBytes: number;
  runDisks: readonly { scsiId: string; disk: string }[];
  changedBlocks: number;
  unreadableSectors: number;
}

/** The same facts in the terms of the index, where disks bear the names that file names tell. */
export function headerOf(facts: DeltaFacts): ArchiveHeader {
  const { runId, host, displayName, diskBytes, runDisks, changedBlocks, unreadableSectors } = facts;
  return {
    runId,
    host,
    displayName,
    diskBytes,
    runDisks: runDisks.map((one) => `${one.scsiId} ${listedName(one.disk)}`),
    changedBlocks,
    unreadableSectors,
    foreign: false,
  };
}

/** Reads a DELTA's manifest. Throws ARCHIVE_DAMAGED, FORMAT_UNSUPPORTED, TARGET_*. */
export async function readHeader(place: ArchivePlace, signal?: AbortSignal): Promise<ArchiveHeader> {
  try {
    return headerOf((await readDeltaManifest(storedBytes(place, signal))).manifest);
  } catch (error) {
    const what = placeText(place);
    throw error instanceof PhdError && !error.message.startsWith(what)
      ? new PhdError(error.code, `${what}: ${error.message}`, { cause: error })
      : error;
  }
}

/** What the manifest of a listed DELTA says. Throws as `readHeader` does. */
export async function readDeltaHeader(context: EngineContext, row: ArchiveRow): Promise<ArchiveHeader> {
  const storage = await context.storage(row.targetNumber);
  const { folder, file, sizeBytes } = row;
  return await readHeader({ storage, folder, file, sizeBytes });
}
