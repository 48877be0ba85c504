/**
 * The contract of a target: what every transport (vmfs, ftp, ssh) does in the same way.
 *
 * Paths are relative to the target's root folder, parts joined by `/`, never absolute, never holding
 * `.` or `..` parts or control characters; `''` is the root itself. Names come back exactly as the
 * target holds them (they are hostile data: escape on display).
 *
 * Errors are PhdError: NOT_FOUND, EXISTS, NO_SPACE, TARGET_UNREACHABLE (retryable), TARGET_REFUSED,
 * TARGET_LIED, HOST_KEY_REFUSED, CANCELLED, IO. Each implementation translates at its own door.
 *
 * One instance may be used by several callers at once; an implementation queues what its line cannot
 * do in parallel, within `maxConnections`.
 */
import type { Transport } from '../model/archive.ts';

export interface StorageEntry {
  /** Last path part. */
  name: string;
  kind: 'file' | 'folder' | 'other';
  /** Bytes; 0 for folders. */
  sizeBytes: number;
  /** Last change in milliseconds UTC, or null where the target gives none that can be trusted. */
  modifiedMs: number | null;
  /** Last change as the server words it, without zone; only where `modifiedMs` is null. */
  shownTime?: string;
}

export interface Listing {
  entries: StorageEntry[];
  /** False if the list may be cut (server limit, line lost, parse failure): then an absent name is unknown, not gone. */
  complete: boolean;
}

export interface ReadRange {
  offsetBytes: number;
  /** Exactly this many bytes come, or the stream fails; undefined = to the end of the file. */
  lengthBytes?: number;
}

export interface WriteOptions {
  signal?: AbortSignal;
  /** Called with the bytes handed to the target so far. */
  onBytes?: (totalBytes: number) => void;
  /** How much is read back and compared: the end (default) or all. */
  readBack?: 'tail' | 'all';
}

export interface WriteResult {
  sizeBytes: number;
  /** SHA-256 (hex) of the bytes handed over, which the read-back agreed with. */
  sha256: string;
}

export interface Storage {
  readonly number: number;
  readonly name: string;
  readonly transport: Transport;
  /** Root shown to people: `/backups`, `192.168.1.110:21/backups`. */
  readonly place: string;
  readonly readOnly: boolean;

  list(path: string, signal?: AbortSignal): Promise<Listing>;
  /** Undefined if there is nothing by that name. Never follows symbolic links. */
  stat(path: string, signal?: AbortSignal): Promise<StorageEntry | undefined>;
  /** Bytes of a regular file. Breaking off the iteration frees the line. */
  read(path: string, range: ReadRange, signal?: AbortSignal): AsyncIterable<Buffer>;
  /**
   * Writes a new file under exactly `path` (callers pass a `.part` name), makes it durable as far as the
   * transport can, then proves it: size compared, end or all read back. A failure removes the file, or
   * says in the message that it could not be removed. EXISTS if the name is taken. The source may use the memory of a
   * chunk again once the next one is asked for: who keeps a chunk copies it.
   */
  write(path: string, source: AsyncIterable<Uint8Array>, options?: WriteOptions): Promise<WriteResult>;
  /** EXISTS if `to` is taken: checked first, since FTP servers replace silently. Durable on return. */
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  removeFolder(path: string): Promise<void>;
  /** Makes the folder and its parents; fine if it is there. */
  makeFolder(path: string): Promise<void>;
  /** Free bytes, or null where the target cannot tell; null never blocks anything. */
  freeSpaceBytes(): Promise<number | null>;
  close(): Promise<void>;
}
