/** Tables of index.db. Everything in them can be read again from the targets. */

/**
 * `by_time` serves every list: one range for each target and kind, merged by stamp. `by_vm` and `by_disk` serve
 * narrow name filters without touching the table. `present` tells which disks of which VMs a target holds (a pair
 * may linger until names are tidied). The trigram tables hold folded names (see fold.ts).
 */
export const INDEX_MIGRATIONS = [
  `CREATE TABLE targets (
     number INTEGER PRIMARY KEY, name TEXT NOT NULL, transport TEXT NOT NULL, place TEXT NOT NULL,
     listed_ms INTEGER, tried_ms INTEGER, error TEXT, bytes_per_second INTEGER
   ) STRICT;

   CREATE TABLE vms (
     id INTEGER PRIMARY KEY, name TEXT NOT NULL, uuid TEXT NOT NULL, folded TEXT NOT NULL,
     UNIQUE (name, uuid)
   ) STRICT;
   CREATE INDEX vms_by_name ON vms (folded, id);
   CREATE INDEX vms_by_uuid ON vms (uuid);
   CREATE VIRTUAL TABLE vms_trigrams USING fts5(
     folded, content='vms', content_rowid='id', tokenize='trigram case_sensitive 1', detail=none);
   CREATE TRIGGER vms_added AFTER INSERT ON vms BEGIN
     INSERT INTO vms_trigrams (rowid, folded) VALUES (new.id, new.folded); END;
   CREATE TRIGGER vms_removed AFTER DELETE ON vms BEGIN
     INSERT INTO vms_trigrams (vms_trigrams, rowid, folded) VALUES ('delete', old.id, old.folded); END;

   CREATE TABLE disks (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, folded TEXT NOT NULL) STRICT;
   CREATE INDEX disks_by_name ON disks (folded, id);
   CREATE VIRTUAL TABLE disks_trigrams USING fts5(
     folded, content='disks', content_rowid='id', tokenize='trigram case_sensitive 1', detail=none);
   CREATE TRIGGER disks_added AFTER INSERT ON disks BEGIN
     INSERT INTO disks_trigrams (rowid, folded) VALUES (new.id, new.folded); END;
   CREATE TRIGGER disks_removed AFTER DELETE ON disks BEGIN
     INSERT INTO disks_trigrams (disks_trigrams, rowid, folded) VALUES ('delete', old.id, old.folded); END;

   CREATE TABLE folders (
     id INTEGER PRIMARY KEY, target_number INTEGER NOT NULL REFERENCES targets ON DELETE CASCADE,
     name TEXT NOT NULL, modified_ms INTEGER, listed_ms INTEGER NOT NULL,
     complete INTEGER NOT NULL, skipped INTEGER NOT NULL,
     UNIQUE (target_number, name)
   ) STRICT;

   CREATE TABLE archives (
     id INTEGER PRIMARY KEY, target_number INTEGER NOT NULL,
     folder_id INTEGER NOT NULL REFERENCES folders ON DELETE CASCADE, file TEXT NOT NULL,
     vm_id INTEGER NOT NULL, disk_id INTEGER NOT NULL, scsi_id TEXT NOT NULL,
     kind TEXT NOT NULL CHECK (kind IN ('full', 'delta')), generation INTEGER NOT NULL, codec TEXT,
     encrypted INTEGER NOT NULL, stamp TEXT NOT NULL, full_stamp TEXT NOT NULL,
     size_bytes INTEGER NOT NULL, complete INTEGER NOT NULL,
     UNIQUE (folder_id, file)
   ) STRICT;
   CREATE INDEX archives_by_time ON archives (target_number, kind, stamp, vm_id, disk_id);
   CREATE INDEX archives_by_vm ON archives (vm_id, stamp, disk_id, target_number, kind);
   CREATE INDEX archives_by_disk ON archives (disk_id, stamp, vm_id, target_number, kind);

   CREATE TABLE present (
     target_number INTEGER NOT NULL REFERENCES targets ON DELETE CASCADE,
     vm_id INTEGER NOT NULL, disk_id INTEGER NOT NULL,
     PRIMARY KEY (target_number, vm_id, disk_id)
   ) STRICT, WITHOUT ROWID;
   CREATE INDEX present_by_vm ON present (vm_id, disk_id);
   CREATE INDEX present_by_disk ON present (disk_id, vm_id);

   CREATE TABLE headers (
     archive_id INTEGER PRIMARY KEY REFERENCES archives ON DELETE CASCADE,
     run_id TEXT, host TEXT, display_name TEXT, disk_bytes INTEGER, run_disks TEXT NOT NULL,
     changed_blocks INTEGER, is_foreign INTEGER NOT NULL
   ) STRICT;`,
  // Headers of archives written here, until a listing shows the archive.
  `CREATE TABLE written_headers (
     target_number INTEGER NOT NULL REFERENCES targets ON DELETE CASCADE,
     folder TEXT NOT NULL, file TEXT NOT NULL, size_bytes INTEGER NOT NULL,
     run_id TEXT, host TEXT, display_name TEXT, disk_bytes INTEGER, run_disks TEXT NOT NULL,
     changed_blocks INTEGER, is_foreign INTEGER NOT NULL,
     PRIMARY KEY (target_number, folder, file)
   ) STRICT;`,
  // How the last attempt to list a target ended: a target that was cut short was reached all the same.
  `ALTER TABLE targets ADD COLUMN outcome TEXT CHECK (outcome IN ('complete', 'partial', 'failed'));
   UPDATE targets SET outcome = CASE WHEN error IS NULL THEN 'complete' ELSE 'failed' END
     WHERE tried_ms IS NOT NULL;`,
  // Of images with sectors that could not be read; headers read before know of none.
  `ALTER TABLE headers ADD COLUMN unreadable_sectors INTEGER;
   ALTER TABLE written_headers ADD COLUMN unreadable_sectors INTEGER;`,
  // Stamps of runs that a file beside them holds, with blanks between; a folder listed before has none until it changes.
  "ALTER TABLE folders ADD COLUMN held TEXT NOT NULL DEFAULT ''",
];
