/**
 * index.db: the catalogue of what lies on the targets. Nothing in it is needed to restore; a file that is deleted
 * or damaged is made anew and filled by the next listing.
 */
import { rmSync } from 'node:fs';
import type Database from 'better-sqlite3';
import { PhdError } from '../src/errors.ts';
import type { ArchiveName, Stamp, Transport } from '../src/model/archive.ts';
import { type ArchiveCursor, type ArchiveFilter, archiveQuery, type Query } from './archive-filter.ts';
import type { OrderPage } from './archive-order.ts';
import {
  ARCHIVE_COLUMNS,
  ARCHIVE_JOINS,
  type ArchiveHeader,
  type ArchiveRow,
  archiveOfRow,
  type DiskDetails,
  type DiskRow,
  headerOfRow,
  type ListingOutcome,
  type SeriesRow,
  type SqlRow,
  type TargetState,
  targetOfRow,
  type VmDetails,
  type VmRow,
  valuesOfHeader,
} from './archive-rows.ts';
import { fold, trigramQuery } from './fold.ts';
import { INDEX_MIGRATIONS } from './index-schema.ts';
import { matchNames, nameCondition } from './name-match.ts';
import type { NamePage } from './name-order.ts';
import { fromSqlite, isDamaged, openDatabase } from './open-database.ts';

/** Ranges of time with up to this many archives are walked to find their VMs; larger ones are tested VM by VM. */
const SMALL_RANGE = 5000;

/** More names than this are tested one by one in order rather than looked up. */
const MANY_NAMES = 10_000;

/** Ids of the FULLs that a DELTA may belong to. */
const FULL_OF_DELTA = `SELECT a.id FROM disks d CROSS JOIN archives a INDEXED BY archives_by_disk ON a.disk_id = d.id
  JOIN vms v ON v.id = a.vm_id
  WHERE d.name = @disk AND a.stamp = @fullStamp AND v.uuid = @uuid AND a.scsi_id = @scsiId
    AND a.kind = 'full' AND a.complete = 1`;
/** Newest archives of a VM among which its host is looked for. */
const HEADERS_LOOKED_AT = 20;
/** VMs of one disk name that are told at most. */
export const VMS_COUNTED = 1000;

/** One archive of a folder as a listing shows it. */
export interface ListedArchive {
  /** Entry name exactly as the target has it. */
  file: string;
  name: ArchiveName;
  sizeBytes: number;
  complete: boolean;
  /** What was read of it now; null: nothing is known of it; absent: what was known stays while the size does. */
  header?: ArchiveHeader | null;
}

/** One folder as a listing shows it. */
export interface ListedFolder {
  targetNumber: number;
  name: string;
  modifiedMs: number | null;
  listedMs: number;
  /** False if the listing may be cut: then rows that it lacks stay. */
  complete: boolean;
  /** Entries that are no archives. */
  skipped: number;
  vm: string;
  uuid: string;
  archives: ListedArchive[];
}

/** What is known of a folder before it is listed again. */
export interface FolderState {
  modifiedMs: number | null;
  listedMs: number;
  /** True if its listing was complete and each of its archives was too. */
  complete: boolean;
  skipped: number;
  archiveCount: number;
}

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

export class IndexDb {
  readonly file: string;
  #database: Database.Database;
  readonly #onNotice: (message: string) => void;
  readonly #statements = new Map<string, Database.Statement>();

  /** Opens or makes the file; a damaged one is removed and made anew, and `onNotice` says so. Throws IO. */
  static open(file: string, onNotice: (message: string) => void = () => {}): IndexDb {
    try {
      return new IndexDb(file, openDatabase(file, INDEX_MIGRATIONS, 'NORMAL'), onNotice);
    } catch (error) {
      const isFromNewer = error instanceof PhdError && error.code === 'FORMAT_UNSUPPORTED';
      if (!isDamaged(error) && !isFromNewer) throw error;
      return new IndexDb(file, makeAnew(file, onNotice), onNotice);
    }
  }

  private constructor(file: string, database: Database.Database, onNotice: (message: string) => void) {
    this.file = file;
    this.#database = database;
    this.#onNotice = onNotice;
  }

  /** Lets SQLite keep less of the file in memory (16 MB by default): the pages lie in the cache of the system as well. */
  limitCache(bytes: number): void {
    this.#guard(() => this.#database.pragma(`cache_size = -${Math.ceil(bytes / 1024)}`));
  }

  /** Makes the table of targets agree with the configuration; rows of targets that are gone or moved go. */
  syncTargets(
    targets: readonly { number: number; name: string; transport: Transport; place: string }[],
  ): void {
    const known = this.targets();
    const isSame =
      known.length === targets.length &&
      known.every((state) =>
        targets.some(
          (one) =>
            one.number === state.number &&
            one.name === state.name &&
            one.place === state.place &&
            one.transport === state.transport,
        ),
      );
    if (isSame) return;
    this.#transaction(() => {
      const drop = this.#database.prepare('DELETE FROM targets WHERE number = ?');
      const put = this.#database.prepare(
        `INSERT INTO targets (number, name, transport, place) VALUES (@number, @name, @transport, @place)
           ON CONFLICT (number) DO UPDATE SET name = excluded.name`,
      );
      for (const state of known) {
        const target = targets.find((one) => one.number === state.number);
        if (target?.place !== state.place || target.transport !== state.transport) drop.run(state.number);
      }
      for (const { number, name, transport, place } of targets) put.run({ number, name, transport, place });
    });
  }

  /** State of the index of each target, by number. */
  targets(): TargetState[] {
    return this.#rows('SELECT * FROM targets ORDER BY number').map(targetOfRow);
  }

  /** Records how a listing of a target ended; the time of the last complete one stays. */
  finishTarget(end: {
    number: number;
    triedMs: number;
    outcome: ListingOutcome;
    error: string | null;
  }): void {
    this.#run(
      `UPDATE targets SET tried_ms = @triedMs, outcome = @outcome, error = @error,
         listed_ms = CASE @outcome WHEN 'complete' THEN @triedMs ELSE listed_ms END WHERE number = @number`,
      { ...end },
    );
  }

  /** Keeps a measured rate of reading from a target, for the choice among copies. */
  recordRate(targetNumber: number, bytesPerSecond: number): void {
    this.#run('UPDATE targets SET bytes_per_second = @rate WHERE number = @targetNumber', {
      targetNumber,
      rate: Math.round(bytesPerSecond),
    });
  }

  /** Folders of a target as they were last seen, by name. */
  folderStates(targetNumber: number): Map<string, FolderState> {
    const rows = this.#rows(
      `SELECT f.name, f.modified_ms, f.listed_ms, f.complete AND coalesce(min(a.complete), 1) AS complete,
         f.skipped, count(a.id) AS archives
       FROM folders f LEFT JOIN archives a ON a.folder_id = f.id WHERE f.target_number = @targetNumber GROUP BY f.id`,
      { targetNumber },
    );
    return new Map(
      rows.map((row) => [
        String(row.name),
        {
          modifiedMs: row.modified_ms === null ? null : Number(row.modified_ms),
          listedMs: Number(row.listed_ms),
          complete: row.complete === 1,
          skipped: Number(row.skipped),
          archiveCount: Number(row.archives),
        },
      ]),
    );
  }

  /** Puts what a listing of one folder shows in the place of what was known of it, in one transaction. */
  recordFolder(folder: ListedFolder): void {
    this.#transaction(() => {
      const folderId = this.#statement(
        `INSERT INTO folders (target_number, name, modified_ms, listed_ms, complete, skipped)
             VALUES (@targetNumber, @name, @modifiedMs, @listedMs, @complete, @skipped)
           ON CONFLICT (target_number, name) DO UPDATE SET modified_ms = excluded.modified_ms,
             listed_ms = excluded.listed_ms, complete = excluded.complete, skipped = excluded.skipped
           RETURNING id`,
      )
        .pluck()
        .get({
          targetNumber: folder.targetNumber,
          name: folder.name,
          modifiedMs: folder.modifiedMs,
          listedMs: folder.listedMs,
          complete: folder.complete ? 1 : 0,
          skipped: folder.skipped,
        }) as number;
      if (folder.archives.length > 0) {
        const vmId = this.#idOfVm(folder.vm, folder.uuid);
        for (const archive of folder.archives) this.#recordArchive(folder, folderId, vmId, archive);
        this.#takeWrittenHeaders(folder, folderId);
      }
      if (folder.complete) {
        this.#statement(
          `DELETE FROM archives WHERE folder_id = @folderId
               AND file NOT IN (SELECT value FROM json_each(@files))`,
        ).run({ folderId, files: JSON.stringify(folder.archives.map((one) => one.file)) });
      }
    });
  }

  /** Drops folders of a target that a complete listing no longer shows. Returns how many. */
  keepFolders(targetNumber: number, names: readonly string[]): number {
    return this.#transaction(() => {
      const sql = `DELETE FROM folders WHERE target_number = @targetNumber
        AND name NOT IN (SELECT value FROM json_each(@names))`;
      return this.#database.prepare(sql).run({ targetNumber, names: JSON.stringify(names) }).changes;
    });
  }

  /** Drops names that no archive bears any more. */
  dropUnusedNames(): void {
    this.#transaction(() => {
      this.#database.exec(
        `DELETE FROM present WHERE NOT EXISTS (SELECT 1 FROM archives a INDEXED BY archives_by_vm
           WHERE a.vm_id = present.vm_id AND a.disk_id = present.disk_id
             AND a.target_number = present.target_number)`,
      );
      for (const [table, column, index] of [
        ['vms', 'vm_id', 'archives_by_vm'],
        ['disks', 'disk_id', 'archives_by_disk'],
      ] as const) {
        this.#database.exec(
          `DELETE FROM ${table} WHERE NOT EXISTS
             (SELECT 1 FROM archives INDEXED BY ${index} WHERE ${column} = ${table}.id)`,
        );
      }
    });
  }

  /** Keeps what was read from an archive, so that it is not read again. */
  recordHeader(archiveId: number, header: ArchiveHeader): void {
    this.#guard(() => this.#putHeader(archiveId, header));
  }

  /** Keeps what is known of an archive that was just written, until a listing shows it at this size. */
  recordWritten(
    written: { targetNumber: number; folder: string; file: string; sizeBytes: number },
    header: ArchiveHeader,
  ): void {
    this.#run(
      `INSERT OR REPLACE INTO written_headers VALUES (@targetNumber, @folder, @file, @sizeBytes,
         @runId, @host, @displayName, @diskBytes, @runDisks, @changedBlocks, @foreign)`,
      { ...written, ...valuesOfHeader(header) },
    );
  }

  /** Headers that are known of a folder's archives, by file, with the size they hold for. */
  headersIn(targetNumber: number, folder: string): Map<string, { sizeBytes: number; header: ArchiveHeader }> {
    return this.#guard(() => {
      const rows = this.#statement(
        `SELECT a.file, a.size_bytes, h.* FROM folders f JOIN archives a ON a.folder_id = f.id
           JOIN headers h ON h.archive_id = a.id WHERE f.target_number = ? AND f.name = ?`,
      ).all(targetNumber, folder) as SqlRow[];
      return new Map(
        rows.map((row) => [
          String(row.file),
          { sizeBytes: Number(row.size_bytes), header: headerOfRow(row) },
        ]),
      );
    });
  }

  /**
   * Disks (`SS disk`) that the headers of a VM's run name, and those of which a complete DELTA lies on any target.
   * Nothing is wanted where no header was read.
   */
  disksOfRun(vmId: number, stamp: Stamp): { wanted: string[]; present: string[] } {
    return this.#guard(() => {
      const rows = this.#statement(
        `SELECT a.scsi_id, d.name AS disk, a.complete, h.run_disks
           FROM archives a INDEXED BY archives_by_vm JOIN disks d ON d.id = a.disk_id
           LEFT JOIN headers h ON h.archive_id = a.id
           WHERE a.vm_id = ? AND a.stamp = ? AND a.kind = 'delta'`,
      ).all(vmId, stamp) as SqlRow[];
      const wanted = rows.flatMap((row) =>
        row.run_disks === null ? [] : (JSON.parse(String(row.run_disks)) as string[]),
      );
      const present = rows.filter((row) => row.complete === 1).map((row) => `${row.scsi_id} ${row.disk}`);
      return { wanted: [...new Set(wanted)], present };
    });
  }

  /** True if the empty DELTA of this FULL lies complete in its folder. */
  hasEmptyDelta(fullId: number): boolean {
    return this.#guard(
      () =>
        this.#statement(
          `SELECT 1 FROM archives f JOIN archives d ON d.folder_id = f.folder_id
             WHERE f.id = ? AND d.kind = 'delta' AND d.complete = 1 AND d.disk_id = f.disk_id
               AND d.scsi_id = f.scsi_id AND d.stamp = f.stamp AND d.full_stamp = f.stamp LIMIT 1`,
        ).get(fullId) !== undefined,
    );
  }

  /** Marks an archive whose end could not be read as arriving or cut. */
  markIncomplete(archiveId: number): void {
    this.#run('UPDATE archives SET complete = 0 WHERE id = @archiveId', { archiveId });
  }

  /** One page of archives: newest first, archives of one VM together. */
  listArchives(filter: ArchiveFilter, page: Page<ArchiveCursor>): ArchiveRow[] {
    return this.#archives(() => archiveQuery(this.#database, filter, this.#numbers(), page));
  }

  /** How many archives pass the filter. */
  countArchives(filter: ArchiveFilter): number {
    return this.#guard(() => {
      const query = archiveQuery(this.#database, filter, this.#numbers(), { unordered: true });
      return this.#database
        .prepare(`SELECT count(*) FROM (${query.sql})`)
        .pluck()
        .get(query.values) as number;
    });
  }

  /** Ids of all archives that pass, in the order of lists: a list that jumps to any row keeps these. */
  archiveIds(filter: ArchiveFilter): Uint32Array {
    return this.#guard(() => {
      const query = archiveQuery(this.#database, filter, this.#numbers());
      return Uint32Array.from(this.#database.prepare(query.sql).pluck().all(query.values) as number[]);
    });
  }

  /** The next archives in the order of lists, as columns. */
  orderPage(after: ArchiveCursor | undefined, limit: number): OrderPage {
    return this.#guard(() => {
      const page = { limit, ...(after === undefined ? {} : { after }) };
      const query = archiveQuery(this.#database, {}, this.#numbers(), page);
      const sql = `SELECT json_group_array(id) AS ids, json_group_array(2 * target_number + (kind = 'full')) AS slots,
        json_group_array(stamp) AS stamps, json_group_array(vm_id) AS vmIds, json_group_array(disk_id) AS diskIds
        FROM (${query.sql})`;
      return columnsOf<OrderPage>(this.#statement(sql).get(query.values));
    });
  }

  /** File name and size of each archive as one text, by id. */
  filesOf(ids: readonly number[]): Map<number, string> {
    return this.#guard(() => {
      const sql = `SELECT a.id, a.file || ' ' || a.size_bytes FROM json_each(?) ids JOIN archives a ON a.id = ids.value`;
      return new Map(this.#statement(sql).raw().all(JSON.stringify(ids)) as [number, string][]);
    });
  }

  /** The next VMs or disk names in the order of lists. */
  namePage(table: 'vm' | 'disk', after: NameCursor | undefined, limit: number): NamePage {
    return this.#guard(() => {
      const where = after === undefined ? '' : 'WHERE (folded, id) > (@folded, @id)';
      const sql = `SELECT json_group_array(id) AS ids, json_group_array(folded) AS folded
        FROM (SELECT id, folded FROM ${table}s ${where} ORDER BY folded, id LIMIT @limit)`;
      return columnsOf<NamePage>(this.#statement(sql).get({ ...after, limit }));
    });
  }

  /** Ids of the VMs or disk names that hold a part; undefined if all do. */
  nameIds(table: 'vm' | 'disk', part: string): number[] | undefined {
    const folded = fold(part);
    if (folded === '') return undefined;
    return this.#guard(() => {
      const isLong = Array.from(folded).length >= 3;
      const from = isLong
        ? `${table}s_trigrams t CROSS JOIN ${table}s n ON n.id = t.rowid WHERE ${table}s_trigrams MATCH @trigrams AND`
        : `${table}s n WHERE`;
      const sql = `SELECT json_group_array(n.id) AS ids FROM ${from} instr(n.folded, @folded) > 0`;
      const values = { folded, ...(isLong ? { trigrams: trigramQuery(folded) } : {}) };
      return columnsOf<{ ids: number[] }>(this.#statement(sql).get(values)).ids;
    });
  }

  /** Ids of the names that the filter names whole (VM, UUID, disk); undefined if it names none. */
  exactNames(table: 'vm' | 'disk', filter: ArchiveFilter): number[] | undefined {
    const { vm, uuid, disk } = filter;
    const exact = table === 'vm' ? { vm, uuid } : { disk };
    return this.#guard(() => {
      const match = matchNames(this.#database, table, exact);
      return match.kind === 'few' ? match.ids : undefined;
    });
  }

  /** Those of the archives that have this SCSI id, in the order they were given. */
  withScsiId(ids: Uint32Array, scsiId: string): Uint32Array {
    return this.#guard(() => {
      const sql = `SELECT a.id FROM json_each(?) ids CROSS JOIN archives a ON a.id = ids.value WHERE a.scsi_id = ?`;
      const found = this.#statement(sql)
        .pluck()
        .all(JSON.stringify([...ids]), scsiId) as number[];
      return Uint32Array.from(found);
    });
  }

  /** What lists tell of VMs beyond their figures; VMs that are gone are left out. */
  vmDetails(ids: readonly number[]): VmDetails[] {
    return this.#guard(() => {
      const rows = this.#statement(
        `SELECT v.id, v.name AS vm, v.uuid,
           EXISTS (SELECT 1 FROM vms o WHERE o.name = v.name AND o.id <> v.id) AS is_repeated,
           (SELECT h.host FROM (SELECT id FROM archives INDEXED BY archives_by_vm WHERE vm_id = v.id
              ORDER BY stamp DESC LIMIT ${HEADERS_LOOKED_AT}) a JOIN headers h ON h.archive_id = a.id
              WHERE h.host IS NOT NULL LIMIT 1) AS host,
           (SELECT stamp FROM archives INDEXED BY archives_by_vm WHERE vm_id = v.id
              ORDER BY stamp DESC LIMIT 1) AS newest
         FROM json_each(?) ids JOIN vms v ON v.id = ids.value`,
      ).all(JSON.stringify(ids)) as SqlRow[];
      return rows.map((row) => ({
        id: Number(row.id),
        vm: String(row.vm),
        uuid: String(row.uuid),
        isNameRepeated: row.is_repeated === 1,
        host: row.host === null ? null : String(row.host),
        newestStamp: row.newest === null ? null : String(row.newest),
      }));
    });
  }

  /** What lists tell of disk names beyond their figures; names that are gone are left out. */
  diskDetails(ids: readonly number[]): DiskDetails[] {
    return this.#guard(() => {
      const rows = this.#statement(
        `SELECT d.id, d.name AS disk,
           (SELECT json_group_array(vm_id) FROM (SELECT DISTINCT vm_id FROM present INDEXED BY present_by_disk
              WHERE disk_id = d.id LIMIT ${VMS_COUNTED})) AS vms,
           (SELECT stamp FROM archives INDEXED BY archives_by_disk WHERE disk_id = d.id
              ORDER BY stamp DESC LIMIT 1) AS newest
         FROM json_each(?) ids JOIN disks d ON d.id = ids.value`,
      ).all(JSON.stringify(ids)) as SqlRow[];
      return rows.map((row) => ({
        id: Number(row.id),
        disk: String(row.disk),
        vmIds: JSON.parse(String(row.vms)) as number[],
        newestStamp: row.newest === null ? null : String(row.newest),
      }));
    });
  }

  /** Another text after the index was changed by this connection or another; the same as long as it was not. */
  version(): string {
    return this.#guard(() => {
      const byOthers = this.#database.pragma('data_version', { simple: true });
      return `${byOthers} ${this.#statement('SELECT total_changes()').pluck().get()}`;
    });
  }

  /** Archives of these ids, in the order of lists; ids that are gone are left out. */
  archivesById(ids: readonly number[]): ArchiveRow[] {
    return this.#archives(() => ({
      sql: 'SELECT value AS id FROM json_each(@ids)',
      values: { ids: JSON.stringify(ids) },
    }));
  }

  /** The archive by its place, or undefined. */
  archiveAt(targetNumber: number, folder: string, file: string): ArchiveRow | undefined {
    const [row] = this.#archives(() => ({
      sql: `SELECT a.id FROM folders f JOIN archives a ON a.folder_id = f.id
        WHERE f.target_number = @targetNumber AND f.name = @folder AND a.file = @file`,
      values: { targetNumber, folder, file },
    }));
    return row;
  }

  /** The same archive (name and size) on this and on other targets, nearest first: vmfs, rate, number. */
  copiesOf(row: ArchiveRow): ArchiveRow[] {
    const copies = this.#archives(() => ({
      sql: `SELECT id FROM archives INDEXED BY archives_by_disk WHERE disk_id = @diskId AND stamp = @stamp
        AND vm_id = @vmId AND file = @file AND size_bytes = @sizeBytes`,
      values: {
        diskId: row.diskId,
        stamp: row.stamp,
        vmId: row.vmId,
        file: row.file,
        sizeBytes: row.sizeBytes,
      },
    }));
    return this.#nearestFirst(copies);
  }

  /**
   * FULLs that a DELTA may belong to, by stamp, disk, SCSI id and UUID, on all targets, complete ones only; nearest
   * first: vmfs, then measured rate, then number. Names only: the digest of the map decides.
   */
  findFull(delta: { uuid: string; scsiId: string; disk: string; fullStamp: Stamp }): ArchiveRow[] {
    const fulls = this.#archives(() => ({
      sql: FULL_OF_DELTA,
      values: { disk: delta.disk, fullStamp: delta.fullStamp, uuid: delta.uuid, scsiId: delta.scsiId },
    }));
    return this.#nearestFirst(fulls);
  }

  /** True if the index knows a complete FULL that a DELTA may belong to (see `findFull`). */
  hasFull(delta: { uuid: string; scsiId: string; disk: string; fullStamp: Stamp }): boolean {
    const { disk, fullStamp, uuid, scsiId } = delta;
    return this.#guard(
      () => this.#statement(`${FULL_OF_DELTA} LIMIT 1`).get({ disk, fullStamp, uuid, scsiId }) !== undefined,
    );
  }

  /** One page of VMs that have an archive which passes the filter, by name. */
  distinctVms(filter: ArchiveFilter, page: Page<NameCursor>): (VmRow & { cursor: NameCursor })[] {
    return this.#names('vm', filter, page).map((row) => ({
      id: Number(row.id),
      vm: String(row.name),
      uuid: String(row.uuid),
      newestStamp: String(row.newest),
      cursor: { folded: String(row.folded), id: Number(row.id) },
    }));
  }

  /** One page of disk names that have an archive which passes the filter, by name. */
  distinctDisks(filter: ArchiveFilter, page: Page<NameCursor>): (DiskRow & { cursor: NameCursor })[] {
    return this.#names('disk', filter, page).map((row) => ({
      id: Number(row.id),
      disk: String(row.name),
      newestStamp: String(row.newest),
      cursor: { folded: String(row.folded), id: Number(row.id) },
    }));
  }

  /** Each disk of each VM once, by VM and SCSI id. */
  series(filter: ArchiveFilter): SeriesRow[] {
    return this.#guard(() => {
      const query = archiveQuery(this.#database, filter, this.#numbers(), { unordered: true });
      const sql = `SELECT DISTINCT v.name AS vm, v.uuid AS uuid, a.scsi_id AS scsiId, d.name AS disk, v.folded
        FROM (${query.sql}) page JOIN archives a ON a.id = page.id JOIN vms v ON v.id = a.vm_id
        JOIN disks d ON d.id = a.disk_id ORDER BY v.folded, v.uuid, a.scsi_id, d.name`;
      return (this.#database.prepare(sql).all(query.values) as SqlRow[]).map((row) => ({
        vm: String(row.vm),
        uuid: String(row.uuid),
        scsiId: String(row.scsiId),
        disk: String(row.disk),
      }));
    });
  }

  /** Days (`YYYY-MM-DD`) with archives that pass, newest first, and how many each has; copies count once. */
  days(filter: ArchiveFilter): { day: string; archiveCount: number }[] {
    return this.#guard(() => {
      const query = archiveQuery(this.#database, filter, this.#numbers(), { unordered: true });
      const sql = `SELECT substr(day.stamp, 1, 10) AS day,
        count(DISTINCT a.vm_id || ' ' || a.size_bytes || ' ' || a.file) AS archiveCount
        FROM (${query.sql}) day CROSS JOIN archives a ON a.id = day.id GROUP BY 1 ORDER BY 1 DESC`;
      return this.#database.prepare(sql).all(query.values) as { day: string; archiveCount: number }[];
    });
  }

  /** How many archives, each copy counted, are younger than a stamp. */
  countAfter(stamp: Stamp): number {
    return this.#guard(() => {
      const ranges = this.#numbers().flatMap((number) =>
        ['full', 'delta'].map(
          (kind) => `(SELECT count(*) FROM archives INDEXED BY archives_by_time
             WHERE target_number = ${number} AND kind = '${kind}' AND stamp > @stamp)`,
        ),
      );
      return this.#statement(`SELECT ${['0', ...ranges].join(' + ')}`)
        .pluck()
        .get({ stamp }) as number;
    });
  }

  /** Own stamp of the newest archive, or undefined in an empty index. */
  newestStamp(filter: ArchiveFilter = {}): Stamp | undefined {
    return this.listArchives(filter, { limit: 1 })[0]?.stamp;
  }

  close(): void {
    this.#database.close();
  }

  #recordArchive(folder: ListedFolder, folderId: number, vmId: number, archive: ListedArchive): void {
    const { name } = archive;
    const diskId = this.#idOfDisk(name.disk);
    this.#statement('INSERT OR IGNORE INTO present VALUES (?, ?, ?)').run(folder.targetNumber, vmId, diskId);
    const old = this.#statement('SELECT id, size_bytes FROM archives WHERE folder_id = ? AND file = ?').get(
      folderId,
      archive.file,
    ) as { id: number; size_bytes: number } | undefined;
    if (old !== undefined) {
      if (old.size_bytes !== archive.sizeBytes) {
        this.#statement('DELETE FROM headers WHERE archive_id = ?').run(old.id);
      }
      this.#statement('UPDATE archives SET size_bytes = ?, complete = ? WHERE id = ?').run(
        archive.sizeBytes,
        archive.complete ? 1 : 0,
        old.id,
      );
      this.#noteHeader(old.id, archive);
      return;
    }
    const id = this.#statement(
      `INSERT INTO archives (target_number, folder_id, file, vm_id, disk_id, scsi_id, kind, generation, codec,
           encrypted, stamp, full_stamp, size_bytes, complete)
         VALUES (@targetNumber, @folderId, @file, @vmId, @diskId, @scsiId, @kind, @generation, @codec,
           @encrypted, @stamp, @fullStamp, @sizeBytes, @complete)`,
    ).run({
      targetNumber: folder.targetNumber,
      folderId,
      vmId,
      diskId,
      file: archive.file,
      scsiId: name.scsiId,
      kind: name.kind,
      generation: name.generation,
      codec: name.codec,
      encrypted: name.encrypted ? 1 : 0,
      stamp: name.stamp,
      fullStamp: name.fullStamp,
      sizeBytes: archive.sizeBytes,
      complete: archive.complete ? 1 : 0,
    }).lastInsertRowid as number;
    this.#noteHeader(id, archive);
  }

  #noteHeader(archiveId: number, archive: ListedArchive): void {
    if (archive.header === null) {
      this.#statement('DELETE FROM headers WHERE archive_id = ?').run(archiveId);
    } else if (archive.header !== undefined) this.#putHeader(archiveId, archive.header);
  }

  #putHeader(archiveId: number, header: ArchiveHeader): void {
    this.#statement(
      `INSERT OR REPLACE INTO headers
         SELECT id, @runId, @host, @displayName, @diskBytes, @runDisks, @changedBlocks, @foreign
         FROM archives WHERE id = @archiveId`,
    ).run({ archiveId, ...valuesOfHeader(header) });
  }

  /** Headers of archives written here go to the rows of this listing; one of another size is dropped. */
  #takeWrittenHeaders(folder: ListedFolder, folderId: number): void {
    const place = { targetNumber: folder.targetNumber, folder: folder.name, folderId };
    this.#statement(
      `INSERT OR IGNORE INTO headers
         SELECT a.id, w.run_id, w.host, w.display_name, w.disk_bytes, w.run_disks, w.changed_blocks, w.is_foreign
         FROM written_headers w JOIN archives a ON a.folder_id = @folderId AND a.file = w.file
           AND a.size_bytes = w.size_bytes
         WHERE w.target_number = @targetNumber AND w.folder = @folder`,
    ).run(place);
    this.#statement(
      `DELETE FROM written_headers WHERE target_number = @targetNumber AND folder = @folder
         AND file IN (SELECT file FROM archives WHERE folder_id = @folderId)`,
    ).run(place);
  }

  /** A statement that is compiled once. */
  #statement(sql: string): Database.Statement {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #idOfVm(name: string, uuid: string): number {
    const find = this.#statement('SELECT id FROM vms WHERE name = ? AND uuid = ?').pluck();
    const add = this.#statement('INSERT INTO vms (name, uuid, folded) VALUES (?, ?, ?) RETURNING id').pluck();
    return (find.get(name, uuid) ?? add.get(name, uuid, fold(name))) as number;
  }

  #idOfDisk(name: string): number {
    const find = this.#statement('SELECT id FROM disks WHERE name = ?').pluck();
    const add = this.#statement('INSERT INTO disks (name, folded) VALUES (?, ?) RETURNING id').pluck();
    return (find.get(name) ?? add.get(name, fold(name))) as number;
  }

  #archives(query: () => Query): ArchiveRow[] {
    return this.#guard(() => {
      const { sql, values } = query();
      const whole = `SELECT ${ARCHIVE_COLUMNS} FROM (${sql}) page ${ARCHIVE_JOINS}
        ORDER BY a.stamp DESC, a.vm_id DESC, a.disk_id DESC, a.id DESC`;
      return (this.#statement(whole).all(values) as SqlRow[]).map(archiveOfRow);
    });
  }

  #names(table: 'vm' | 'disk', filter: ArchiveFilter, page: Page<NameCursor>): SqlRow[] {
    return this.#guard(() => {
      const names = table === 'vm' ? 'vms' : 'disks';
      const column = table === 'vm' ? 'vm_id' : 'disk_id';
      const sign = page.backward ? '<' : '>';
      const order = page.backward ? 'DESC' : 'ASC';
      const conditions: string[] = [];
      const values: Record<string, string | number> = { limit: page.limit };
      const match = matchNames(this.#database, table, filter);
      if (match.kind === 'few') {
        conditions.push('n.id IN (SELECT value FROM json_each(@ids))');
        values.ids = JSON.stringify(match.ids);
      } else if (match.kind === 'many') {
        conditions.push('instr(n.folded, @part) > 0');
        values.part = match.part;
      }
      if (page.after !== undefined) {
        conditions.push(`(n.folded, n.id) ${sign} (@folded, @id)`);
        values.folded = page.after.folded;
        values.id = page.after.id;
      }
      const own =
        table === 'vm'
          ? { vmPart: undefined, vm: undefined, uuid: undefined }
          : { diskPart: undefined, disk: undefined };
      const rest: ArchiveFilter = { ...filter, ...own };
      conditions.push(...this.#otherName(table, rest, values));
      const inRange = this.#namesInSmallRange(rest, column);
      if (inRange !== undefined) {
        conditions.push('n.id IN (SELECT value FROM json_each(@inRange))');
        values.inRange = JSON.stringify(inRange);
      }
      const archives = `FROM archives a INDEXED BY archives_by_${table} WHERE a.${column} = n.id
        ${this.#rowTests(rest, values)}`;
      conditions.push(`EXISTS (SELECT 1 ${archives})`);
      const sql = `SELECT n.*, (SELECT max(stamp) ${archives}) AS newest FROM ${names} n
        WHERE ${conditions.join(' AND ')} ORDER BY n.folded ${order}, n.id ${order} LIMIT @limit`;
      const rows = this.#database.prepare(sql).all(values) as SqlRow[];
      return page.backward ? rows.reverse() : rows;
    });
  }

  /** Condition on VMs `n` by the names of their disks, or on disks by those of their VMs. */
  #otherName(table: 'vm' | 'disk', rest: ArchiveFilter, values: Record<string, string | number>): string[] {
    const other = table === 'vm' ? 'disk' : 'vm';
    const match = matchNames(this.#database, other, rest);
    if (match.kind === 'any') return [];
    const from =
      match.kind === 'few'
        ? `present p WHERE p.${other}_id IN (SELECT value FROM json_each(@other))`
        : `present p CROSS JOIN ${other}s o ON o.id = p.${other}_id WHERE instr(o.folded, @other) > 0`;
    const ids = this.#database
      .prepare(`SELECT DISTINCT p.${table}_id FROM ${from} LIMIT ${MANY_NAMES + 1}`)
      .pluck()
      .all({ other: match.kind === 'few' ? JSON.stringify(match.ids) : match.part }) as number[];
    if (ids.length > MANY_NAMES) return [];
    values.other = JSON.stringify(ids);
    return ['n.id IN (SELECT value FROM json_each(@other))'];
  }

  /** Names of the archives that pass `rest`, if they are so few that walking them is quicker than asking each name. */
  #namesInSmallRange(rest: ArchiveFilter, column: 'vm_id' | 'disk_id'): number[] | undefined {
    if (Object.values(rest).every((value) => value === undefined)) return undefined;
    const query = archiveQuery(this.#database, rest, this.#numbers(), {
      limit: SMALL_RANGE + 1,
      unordered: true,
    });
    const rows = this.#database.prepare(query.sql).all(query.values) as Record<string, number>[];
    return rows.length > SMALL_RANGE ? undefined : [...new Set(rows.map((row) => row[column] ?? 0))];
  }

  /** Conditions of the filter on one archive `a`, beginning with AND; fills `values`. */
  #rowTests(filter: ArchiveFilter, values: Record<string, string | number>): string {
    const tests: string[] = [];
    const add = (test: string, name: string, value: string | undefined) => {
      if (value === undefined) return;
      tests.push(test);
      values[name] = value;
    };
    add('a.stamp >= @from', 'from', filter.from);
    add('a.stamp <= @to', 'to', filter.to);
    add('a.kind = @kind', 'kind', filter.kind);
    add('a.scsi_id = @scsiId', 'scsiId', filter.scsiId);
    const targets = filter.targets === undefined ? undefined : JSON.stringify(filter.targets);
    add('a.target_number IN (SELECT value FROM json_each(@targets))', 'targets', targets);
    for (const table of ['vm', 'disk'] as const) {
      const test = nameCondition(table, matchNames(this.#database, table, filter), values);
      if (test !== undefined) tests.push(test);
    }
    return tests.map((test) => ` AND ${test}`).join('');
  }

  #nearestFirst(rows: ArchiveRow[]): ArchiveRow[] {
    const rates = new Map(this.targets().map((one) => [one.number, one.bytesPerSecond ?? 0]));
    const distance = (row: ArchiveRow) => (row.transport === 'vmfs' ? 0 : 1);
    return rows.sort(
      (a, b) =>
        distance(a) - distance(b) ||
        (rates.get(b.targetNumber) ?? 0) - (rates.get(a.targetNumber) ?? 0) ||
        a.targetNumber - b.targetNumber,
    );
  }

  #numbers(): number[] {
    return this.#statement('SELECT number FROM targets ORDER BY number').pluck().all() as number[];
  }

  #rows(sql: string, values: Record<string, string | number | null> = {}): SqlRow[] {
    return this.#guard(() => this.#statement(sql).all(values) as SqlRow[]);
  }

  #run(sql: string, values: Record<string, string | number | null>): void {
    this.#guard(() => this.#database.prepare(sql).run(values));
  }

  #transaction<T>(work: () => T): T {
    return this.#guard(() => this.#database.transaction(work).immediate());
  }

  /** Translates errors of SQLite; a file found damaged in mid-use is made anew before the error goes on. */
  #guard<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (isDamaged(error) && !this.#database.inTransaction) {
        this.#database.close();
        this.#statements.clear();
        this.#database = makeAnew(this.file, this.#onNotice);
        throw new PhdError('IO', `the index ${this.file} was damaged and is empty now: run phd index`, {
          cause: error,
        });
      }
      throw fromSqlite(error, `index ${this.file}`);
    }
  }
}

/** One row of JSON arrays, a column each. */
function columnsOf<T>(row: unknown): T {
  const columns = Object.entries(row as Record<string, string>);
  return Object.fromEntries(columns.map(([name, text]) => [name, JSON.parse(text)])) as T;
}

function makeAnew(file: string, onNotice: (message: string) => void): Database.Database {
  for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true });
  onNotice(`the index ${file} could not be used and is made anew: run phd index`);
  return openDatabase(file, INDEX_MIGRATIONS, 'NORMAL');
}
