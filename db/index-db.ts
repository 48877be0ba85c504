/**
 * index.db: the catalogue of what lies on the targets. Nothing in it is needed to restore; a file that is deleted
 * or damaged is made anew and filled by the next listing. This layer takes listings in, and what was read of archives;
 * what is asked of the index stands in the layers below.
 */
import type { ArchiveName, Stamp } from '../src/model/archive.ts';
import { type ArchiveHeader, headerOfRow, type SqlRow, valuesOfHeader } from './archive-rows.ts';
import { fold } from './fold.ts';
import { OrderReader } from './order-reader.ts';

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
  /** Runs that are held; default: none. */
  held?: readonly Stamp[];
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

type FolderValues = [
  name: string,
  modifiedMs: number | null,
  listedMs: number,
  skipped: number,
  complete: number,
  archiveCount: number,
];

export class IndexDb extends OrderReader {
  /** Opens or makes the file; a damaged one is removed and made anew, and `onNotice` says so. Throws IO. */
  static open(file: string, onNotice?: (message: string) => void): IndexDb {
    return new IndexDb(file, onNotice);
  }

  /** Folders of a target as they were last seen, by name. */
  folderStates(targetNumber: number): Map<string, FolderState> {
    const sql = `SELECT f.name, f.modified_ms, f.listed_ms, f.skipped,
         f.complete AND f.id NOT IN (SELECT folder_id FROM archives WHERE complete = 0) AS complete,
         (SELECT count(*) FROM archives a WHERE a.folder_id = f.id) AS archives
       FROM folders f WHERE f.target_number = @targetNumber`;
    return this.guard(() => {
      const states = new Map<string, FolderState>();
      // Tens of thousands of rows: as arrays they cost half.
      for (const row of this.statement(sql).raw().iterate({ targetNumber })) {
        const [name, modifiedMs, listedMs, skipped, complete, archiveCount] = row as FolderValues;
        states.set(name, { modifiedMs, listedMs, skipped, complete: complete === 1, archiveCount });
      }
      return states;
    });
  }

  /** Puts what a listing of one folder shows in the place of what was known of it, in one transaction. */
  recordFolder(folder: ListedFolder): void {
    this.transaction(() => {
      const folderId = this.statement(
        `INSERT INTO folders (target_number, name, modified_ms, listed_ms, complete, skipped, held)
             VALUES (@targetNumber, @name, @modifiedMs, @listedMs, @complete, @skipped, @held)
           ON CONFLICT (target_number, name) DO UPDATE SET modified_ms = excluded.modified_ms,
             listed_ms = excluded.listed_ms, complete = excluded.complete, skipped = excluded.skipped,
             held = excluded.held
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
          held: (folder.held ?? []).join(' '),
        }) as number;
      if (folder.archives.length > 0) {
        const vmId = this.#idOfVm(folder.vm, folder.uuid);
        for (const archive of folder.archives) this.#recordArchive(folder, folderId, vmId, archive);
        this.#takeWrittenHeaders(folder, folderId);
      }
      if (folder.complete) {
        this.statement(
          `DELETE FROM archives WHERE folder_id = @folderId
               AND file NOT IN (SELECT value FROM json_each(@files))`,
        ).run({ folderId, files: JSON.stringify(folder.archives.map((one) => one.file)) });
      }
    });
  }

  /** Drops folders of a target that a complete listing no longer shows. Returns how many. */
  keepFolders(targetNumber: number, names: readonly string[]): number {
    return this.transaction(() => {
      const sql = `DELETE FROM folders WHERE target_number = @targetNumber
        AND name NOT IN (SELECT value FROM json_each(@names))`;
      return this.database.prepare(sql).run({ targetNumber, names: JSON.stringify(names) }).changes;
    });
  }

  /** Drops names that no archive bears any more. */
  dropUnusedNames(): void {
    this.transaction(() => {
      this.database.exec(
        `DELETE FROM present WHERE NOT EXISTS (SELECT 1 FROM archives a INDEXED BY archives_by_vm
           WHERE a.vm_id = present.vm_id AND a.disk_id = present.disk_id
             AND a.target_number = present.target_number)`,
      );
      for (const [table, column, index] of [
        ['vms', 'vm_id', 'archives_by_vm'],
        ['disks', 'disk_id', 'archives_by_disk'],
      ] as const) {
        this.database.exec(
          `DELETE FROM ${table} WHERE NOT EXISTS
             (SELECT 1 FROM archives INDEXED BY ${index} WHERE ${column} = ${table}.id)`,
        );
      }
    });
  }

  /** Keeps what was read from an archive, so that it is not read again. */
  recordHeader(archiveId: number, header: ArchiveHeader): void {
    this.guard(() => this.#putHeader(archiveId, header));
  }

  /** Keeps what is known of an archive that was just written, until a listing shows it at this size. */
  recordWritten(
    written: { targetNumber: number; folder: string; file: string; sizeBytes: number },
    header: ArchiveHeader,
  ): void {
    this.run(
      `INSERT OR REPLACE INTO written_headers VALUES (@targetNumber, @folder, @file, @sizeBytes,
         @runId, @host, @displayName, @diskBytes, @runDisks, @changedBlocks, @foreign, @unreadableSectors)`,
      { ...written, ...valuesOfHeader(header) },
    );
  }

  /** Headers that are known of a folder's archives, by file, with the size they hold for. */
  headersIn(targetNumber: number, folder: string): Map<string, { sizeBytes: number; header: ArchiveHeader }> {
    return this.guard(() => {
      const rows = this.statement(
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

  /** Marks an archive whose end could not be read as arriving or cut. */
  markIncomplete(archiveId: number): void {
    this.run('UPDATE archives SET complete = 0 WHERE id = @archiveId', { archiveId });
  }

  #recordArchive(folder: ListedFolder, folderId: number, vmId: number, archive: ListedArchive): void {
    const { name } = archive;
    const diskId = this.#idOfDisk(name.disk);
    this.statement('INSERT OR IGNORE INTO present VALUES (?, ?, ?)').run(folder.targetNumber, vmId, diskId);
    const old = this.statement('SELECT id, size_bytes FROM archives WHERE folder_id = ? AND file = ?').get(
      folderId,
      archive.file,
    ) as { id: number; size_bytes: number } | undefined;
    if (old !== undefined) {
      if (old.size_bytes !== archive.sizeBytes) {
        this.statement('DELETE FROM headers WHERE archive_id = ?').run(old.id);
      }
      this.statement('UPDATE archives SET size_bytes = ?, complete = ? WHERE id = ?').run(
        archive.sizeBytes,
        archive.complete ? 1 : 0,
        old.id,
      );
      this.#noteHeader(old.id, archive);
      return;
    }
    const id = this.statement(
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
      this.statement('DELETE FROM headers WHERE archive_id = ?').run(archiveId);
    } else if (archive.header !== undefined) this.#putHeader(archiveId, archive.header);
  }

  #putHeader(archiveId: number, header: ArchiveHeader): void {
    this.statement(
      `INSERT OR REPLACE INTO headers
         SELECT id, @runId, @host, @displayName, @diskBytes, @runDisks, @changedBlocks, @foreign, @unreadableSectors
         FROM archives WHERE id = @archiveId`,
    ).run({ archiveId, ...valuesOfHeader(header) });
  }

  /** Headers of archives written here go to the rows of this listing; one of another size is dropped. */
  #takeWrittenHeaders(folder: ListedFolder, folderId: number): void {
    const place = { targetNumber: folder.targetNumber, folder: folder.name, folderId };
    this.statement(
      `INSERT OR IGNORE INTO headers
         SELECT a.id, w.run_id, w.host, w.display_name, w.disk_bytes, w.run_disks, w.changed_blocks, w.is_foreign,
                w.unreadable_sectors
         FROM written_headers w JOIN archives a ON a.folder_id = @folderId AND a.file = w.file
           AND a.size_bytes = w.size_bytes
         WHERE w.target_number = @targetNumber AND w.folder = @folder`,
    ).run(place);
    this.statement(
      `DELETE FROM written_headers WHERE target_number = @targetNumber AND folder = @folder
         AND file IN (SELECT file FROM archives WHERE folder_id = @folderId)`,
    ).run(place);
  }

  #idOfVm(name: string, uuid: string): number {
    const find = this.statement('SELECT id FROM vms WHERE name = ? AND uuid = ?').pluck();
    const add = this.statement('INSERT INTO vms (name, uuid, folded) VALUES (?, ?, ?) RETURNING id').pluck();
    return (find.get(name, uuid) ?? add.get(name, uuid, fold(name))) as number;
  }

  #idOfDisk(name: string): number {
    const find = this.statement('SELECT id FROM disks WHERE name = ?').pluck();
    const add = this.statement('INSERT INTO disks (name, folded) VALUES (?, ?) RETURNING id').pluck();
    return (find.get(name) ?? add.get(name, fold(name))) as number;
  }
}
