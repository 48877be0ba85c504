/** Plain types of archives and targets; no behaviour, no imports. Words: README. */

export type Transport = 'vmfs' | 'ftp' | 'ssh';
export type Codec = 'gzip' | 'zstd' | 'lzop';
export type ArchiveKind = 'full' | 'delta';

/** Local time of the backup host to the minute, `YYYY-MM-DDTHH:MM`; sorts as text. */
export type Stamp = string;

/** What a file name on a target says (FORMAT.md section 1). */
export interface ArchiveName {
  kind: ArchiveKind;
  /** Naming generation: 3 is ours and esXpress v3; 2 is the older form without `.phd` (listed, foreign). */
  generation: 2 | 3;
  /** Controller and unit digits as written, `00` = SCSI 0:0. */
  scsiId: string;
  /** Disk name as decoded from the file name (the manifest has the true one if it was cut). */
  disk: string;
  /** Codec of a FULL; null for a DELTA. */
  codec: Codec | null;
  encrypted: boolean;
  /** Own stamp. */
  stamp: Stamp;
  /** Stamp of the FULL (equal to `stamp` for a FULL and for its empty DELTA). Generation 2: date only, `YYYY-MM-DD`. */
  fullStamp: Stamp;
}

/** What a folder name on a target says. */
export interface FolderName {
  /** `YYYY-MM-DD` */
  date: string;
  vm: string;
  /** Lower case. */
  uuid: string;
  /** True if the name ends in `.FULL`. Readers ignore it. */
  allFulls: boolean;
}
