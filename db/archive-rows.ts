/** Rows of index.db as other rooms see them. */
import type { ArchiveKind, Codec, Stamp, Transport } from '../src/model/archive.ts';
import type { ArchiveCursor } from './archive-filter.ts';

/** What was read from an archive itself; kept while its size stays the same. */
export interface ArchiveHeader {
  runId: string | null;
  host: string | null;
  displayName: string | null;
  diskBytes: number | null;
  /** Disks of the run, `SS disk` with the disk as file names tell it; empty if the archive does not say. */
  runDisks: string[];
  changedBlocks: number | null;
  /** Sectors of the source that could not be read; null where no header of ours was read. */
  unreadableSectors: number | null;
  /** True for an archive that this program lists but cannot read. */
  foreign: boolean;
}

export interface ArchiveRow {
  id: number;
  targetNumber: number;
  targetName: string;
  transport: Transport;
  /** Names exactly as the target has them. */
  folder: string;
  file: string;
  vmId: number;
  vm: string;
  /** Lower case; empty for an archive of generation 2. */
  uuid: string;
  diskId: number;
  disk: string;
  scsiId: string;
  kind: ArchiveKind;
  generation: 2 | 3;
  codec: Codec | null;
  encrypted: boolean;
  stamp: Stamp;
  fullStamp: Stamp;
  sizeBytes: number;
  /** False while it is arriving, and if it was cut. */
  complete: boolean;
  /** Its run is held: retention does not remove it. */
  isHeld: boolean;
  /** When its folder was last listed, UTC. */
  seenMs: number;
  /** null until it was read. */
  header: ArchiveHeader | null;
}

export interface VmRow {
  id: number;
  vm: string;
  uuid: string;
  newestStamp: Stamp;
}

export interface DiskRow {
  id: number;
  disk: string;
  newestStamp: Stamp;
}

export interface VmDetails {
  id: number;
  vm: string;
  uuid: string;
  /** Another VM bears the same name. */
  isNameRepeated: boolean;
  /** Host of origin by its newest archives; null where no header was read. */
  host: string | null;
  newestStamp: Stamp | null;
}

export interface DiskDetails {
  id: number;
  disk: string;
  /** VMs with a disk of this name, at most VMS_COUNTED. */
  vmIds: number[];
  newestStamp: Stamp | null;
}

/** One disk of one VM, whatever its archives. */
export interface SeriesRow {
  vm: string;
  uuid: string;
  scsiId: string;
  disk: string;
}

export type ListingOutcome = 'complete' | 'partial' | 'failed';

export interface Page<Cursor> {
  after?: Cursor;
  limit: number;
  /** Walks the other way from the cursor (or from the end); rows come in the usual order all the same. */
  backward?: boolean;
}

/** Order of VM and disk lists: folded name, then id. */
export interface NameCursor {
  folded: string;
  id: number;
}

/** State of the index of one target. */
export interface TargetState {
  number: number;
  name: string;
  transport: Transport;
  place: string;
  /** Last complete listing, UTC; null: never. */
  listedMs: number | null;
  /** Last attempt, UTC. */
  triedMs: number | null;
  /** How the last attempt ended; `partial`: reached, but some listing was cut or failed. null: never tried. */
  outcome: ListingOutcome | null;
  /** Why the last attempt did not succeed, or null. */
  error: string | null;
  /** Measured rate of reading, or null. */
  bytesPerSecond: number | null;
}

export type SqlRow = Record<string, string | number | null>;

/** Columns that `archiveOfRow` reads, over `page` (ids), archives a, folders f, vms v, disks d, targets t, headers h. */
export const ARCHIVE_COLUMNS = `a.*, f.name AS folder, f.listed_ms AS seen_ms, f.held, v.name AS vm, v.uuid AS uuid,
  d.name AS disk, t.name AS target_name, t.transport AS transport, h.archive_id AS header_of, h.run_id, h.host,
  h.display_name, h.disk_bytes, h.run_disks, h.changed_blocks, h.is_foreign, h.unreadable_sectors`;

export const ARCHIVE_JOINS = `JOIN archives a ON a.id = page.id JOIN folders f ON f.id = a.folder_id
  JOIN vms v ON v.id = a.vm_id JOIN disks d ON d.id = a.disk_id JOIN targets t ON t.number = a.target_number
  LEFT JOIN headers h ON h.archive_id = a.id`;

const textOrNull = (value: unknown): string | null => (value === null ? null : String(value));
const numberOrNull = (value: unknown): number | null => (value === null ? null : Number(value));

export function archiveOfRow(row: SqlRow): ArchiveRow {
  return {
    id: Number(row.id),
    targetNumber: Number(row.target_number),
    targetName: String(row.target_name),
    transport: row.transport as Transport,
    folder: String(row.folder),
    file: String(row.file),
    vmId: Number(row.vm_id),
    vm: String(row.vm),
    uuid: String(row.uuid),
    diskId: Number(row.disk_id),
    disk: String(row.disk),
    scsiId: String(row.scsi_id),
    kind: row.kind as ArchiveKind,
    generation: row.generation === 2 ? 2 : 3,
    codec: row.codec as Codec | null,
    encrypted: row.encrypted === 1,
    stamp: String(row.stamp),
    fullStamp: String(row.full_stamp),
    sizeBytes: Number(row.size_bytes),
    complete: row.complete === 1,
    isHeld: String(row.held).split(' ').includes(String(row.stamp)),
    seenMs: Number(row.seen_ms),
    header: row.header_of === null ? null : headerOfRow(row),
  };
}

/** Where the row stands in the order of lists. */
export function cursorOf(row: ArchiveRow): ArchiveCursor {
  return { stamp: row.stamp, vmId: row.vmId, diskId: row.diskId, id: row.id };
}

export function targetOfRow(row: SqlRow): TargetState {
  return {
    number: Number(row.number),
    name: String(row.name),
    transport: row.transport as Transport,
    place: String(row.place),
    listedMs: numberOrNull(row.listed_ms),
    triedMs: numberOrNull(row.tried_ms),
    outcome: row.outcome as ListingOutcome | null,
    error: textOrNull(row.error),
    bytesPerSecond: numberOrNull(row.bytes_per_second),
  };
}

export function headerOfRow(row: SqlRow): ArchiveHeader {
  return {
    runId: textOrNull(row.run_id),
    host: textOrNull(row.host),
    displayName: textOrNull(row.display_name),
    diskBytes: numberOrNull(row.disk_bytes),
    runDisks: JSON.parse(String(row.run_disks)) as string[],
    changedBlocks: numberOrNull(row.changed_blocks),
    unreadableSectors: numberOrNull(row.unreadable_sectors),
    foreign: row.is_foreign === 1,
  };
}

/** Values for the columns that `headerOfRow` reads. */
export function valuesOfHeader(header: ArchiveHeader): SqlRow {
  const { runId, host, displayName, diskBytes, changedBlocks, unreadableSectors } = header;
  return {
    runId,
    host,
    displayName,
    diskBytes,
    changedBlocks,
    unreadableSectors,
    runDisks: JSON.stringify(header.runDisks),
    foreign: header.foreign ? 1 : 0,
  };
}
