/** Reads archives out of the index: pages under a filter, single ones, copies, the FULL of a DELTA, the disks of a run. */
import type { Stamp } from '../src/model/archive.ts';
import { type ArchiveCursor, type ArchiveFilter, archiveQuery, type Query } from './archive-filter.ts';
import {
  ARCHIVE_COLUMNS,
  ARCHIVE_JOINS,
  type ArchiveRow,
  archiveOfRow,
  type Page,
  type SeriesRow,
  type SqlRow,
} from './archive-rows.ts';
import { TargetTable } from './target-table.ts';

/** Ids of the FULLs that a DELTA may belong to. */
const FULL_OF_DELTA = `SELECT a.id FROM disks d CROSS JOIN archives a INDEXED BY archives_by_disk ON a.disk_id = d.id
  JOIN vms v ON v.id = a.vm_id
  WHERE d.name = @disk AND a.stamp = @fullStamp AND v.uuid = @uuid AND a.scsi_id = @scsiId
    AND a.kind = 'full' AND a.complete = 1`;

export class ArchiveReader extends TargetTable {
  /** One page of archives: newest first, archives of one VM together. */
  listArchives(filter: ArchiveFilter, page: Page<ArchiveCursor>): ArchiveRow[] {
    return this.archives(() => archiveQuery(this.database, filter, this.numbers(), page));
  }

  /** How many archives pass the filter. */
  countArchives(filter: ArchiveFilter): number {
    return this.guard(() => {
      const query = archiveQuery(this.database, filter, this.numbers(), { unordered: true });
      return this.database.prepare(`SELECT count(*) FROM (${query.sql})`).pluck().get(query.values) as number;
    });
  }

  /** How many archives, each copy counted, are younger than a stamp. */
  countAfter(stamp: Stamp): number {
    return this.guard(() => {
      const ranges = this.numbers().flatMap((number) =>
        ['full', 'delta'].map(
          (kind) => `(SELECT count(*) FROM archives INDEXED BY archives_by_time
             WHERE target_number = ${number} AND kind = '${kind}' AND stamp > @stamp)`,
        ),
      );
      return this.statement(`SELECT ${['0', ...ranges].join(' + ')}`)
        .pluck()
        .get({ stamp }) as number;
    });
  }

  /** Ids of all archives that pass, in the order of lists: a list that jumps to any row keeps these. */
  archiveIds(filter: ArchiveFilter): Uint32Array {
    return this.guard(() => {
      const query = archiveQuery(this.database, filter, this.numbers());
      return Uint32Array.from(this.database.prepare(query.sql).pluck().all(query.values) as number[]);
    });
  }

  /** Archives of these ids, in the order of lists; ids that are gone are left out. */
  archivesById(ids: readonly number[]): ArchiveRow[] {
    return this.archives(() => ({
      sql: 'SELECT value AS id FROM json_each(@ids)',
      values: { ids: JSON.stringify(ids) },
    }));
  }

  /** The archive by its place, or undefined. */
  archiveAt(targetNumber: number, folder: string, file: string): ArchiveRow | undefined {
    const [row] = this.archives(() => ({
      sql: `SELECT a.id FROM folders f JOIN archives a ON a.folder_id = f.id
        WHERE f.target_number = @targetNumber AND f.name = @folder AND a.file = @file`,
      values: { targetNumber, folder, file },
    }));
    return row;
  }

  /** The same archive (name and size) on this and on other targets, nearest first: vmfs, rate, number. */
  copiesOf(row: ArchiveRow): ArchiveRow[] {
    const copies = this.archives(() => ({
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
    const fulls = this.archives(() => ({
      sql: FULL_OF_DELTA,
      values: { disk: delta.disk, fullStamp: delta.fullStamp, uuid: delta.uuid, scsiId: delta.scsiId },
    }));
    return this.#nearestFirst(fulls);
  }

  /** True if the index knows a complete FULL that a DELTA may belong to (see `findFull`). */
  hasFull(delta: { uuid: string; scsiId: string; disk: string; fullStamp: Stamp }): boolean {
    const { disk, fullStamp, uuid, scsiId } = delta;
    return this.guard(
      () => this.statement(`${FULL_OF_DELTA} LIMIT 1`).get({ disk, fullStamp, uuid, scsiId }) !== undefined,
    );
  }

  /** True if the empty DELTA of this FULL lies complete in its folder. */
  hasEmptyDelta(fullId: number): boolean {
    return this.guard(
      () =>
        this.statement(
          `SELECT 1 FROM archives f JOIN archives d ON d.folder_id = f.folder_id
             WHERE f.id = ? AND d.kind = 'delta' AND d.complete = 1 AND d.disk_id = f.disk_id
               AND d.scsi_id = f.scsi_id AND d.stamp = f.stamp AND d.full_stamp = f.stamp LIMIT 1`,
        ).get(fullId) !== undefined,
    );
  }

  /**
   * Disks (`SS disk`) that the headers of a VM's run name, and those of which a complete DELTA lies on any target.
   * Nothing is wanted where no header was read.
   */
  disksOfRun(vmId: number, stamp: Stamp): { wanted: string[]; present: string[] } {
    return this.guard(() => {
      const rows = this.statement(
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

  /** Each disk of each VM once, by VM and SCSI id. */
  series(filter: ArchiveFilter): SeriesRow[] {
    return this.guard(() => {
      const query = archiveQuery(this.database, filter, this.numbers(), { unordered: true });
      const sql = `SELECT DISTINCT v.name AS vm, v.uuid AS uuid, a.scsi_id AS scsiId, d.name AS disk, v.folded
        FROM (${query.sql}) page JOIN archives a ON a.id = page.id JOIN vms v ON v.id = a.vm_id
        JOIN disks d ON d.id = a.disk_id ORDER BY v.folded, v.uuid, a.scsi_id, d.name`;
      return (this.database.prepare(sql).all(query.values) as SqlRow[]).map((row) => ({
        vm: String(row.vm),
        uuid: String(row.uuid),
        scsiId: String(row.scsiId),
        disk: String(row.disk),
      }));
    });
  }

  /** Days (`YYYY-MM-DD`) with archives that pass, newest first, and how many each has; copies count once. */
  days(filter: ArchiveFilter): { day: string; archiveCount: number }[] {
    return this.guard(() => {
      const query = archiveQuery(this.database, filter, this.numbers(), { unordered: true });
      const sql = `SELECT substr(day.stamp, 1, 10) AS day,
        count(DISTINCT a.vm_id || ' ' || a.size_bytes || ' ' || a.file) AS archiveCount
        FROM (${query.sql}) day CROSS JOIN archives a ON a.id = day.id GROUP BY 1 ORDER BY 1 DESC`;
      return this.database.prepare(sql).all(query.values) as { day: string; archiveCount: number }[];
    });
  }

  /** Own stamp of the newest archive, or undefined in an empty index. */
  newestStamp(filter: ArchiveFilter = {}): Stamp | undefined {
    return this.listArchives(filter, { limit: 1 })[0]?.stamp;
  }

  protected archives(query: () => Query): ArchiveRow[] {
    return this.guard(() => {
      const { sql, values } = query();
      const whole = `SELECT ${ARCHIVE_COLUMNS} FROM (${sql}) page ${ARCHIVE_JOINS}
        ORDER BY a.stamp DESC, a.vm_id DESC, a.disk_id DESC, a.id DESC`;
      return (this.statement(whole).all(values) as SqlRow[]).map(archiveOfRow);
    });
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
}
