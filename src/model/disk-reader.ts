/** A disk that does not lie in a local file: on a host, behind a line. */
export interface DiskReader {
  /**
   * Fills `target` with consecutive whole blocks from `firstBlock` on (the last block of the disk may be short).
   * Called ahead and out of order, several at once; it may fill memory that other threads see. Throws TARGET_*,
   * SOURCE_CHANGED, CANCELLED.
   */
  read(firstBlock: number, target: Buffer, signal?: AbortSignal): Promise<void>;
  /**
   * Digests made where the disk lies, so that unchanged blocks do not cross the line: of each block of a region (zero
   * marks for zeros) and of the region. Null where the host cannot; then the blocks are read. Several at once.
   */
  digests:
    | ((region: { firstBlock: number; count: number }, signal?: AbortSignal) => Promise<RegionDigests>)
    | null;
  /**
   * Called at the end, before anything bears its final name: whether the disk was held still to this moment. Left out: it
   * cannot be otherwise. Throws SOURCE_CHANGED, TARGET_*, CANCELLED.
   */
  confirm?: (signal?: AbortSignal) => Promise<void>;
  /**
   * Called once the disk has been read, before its DELTA (an empty one beside a FULL) is finished: what is to be kept
   * and told of this image. Left out: nothing. Throws SOURCE_CHANGED, TARGET_*, CANCELLED.
   */
  account?: (image: ImageMap, mode: 'full' | 'delta', hooks: AccountHooks) => Promise<DiskAccount>;
}

export interface AccountHooks {
  /** Bytes of the source that were read once more, each time some are. */
  onBytes: (bytes: number) => void;
  signal?: AbortSignal;
}

/** Digests of the disk as it stands in the archive. */
export interface ImageMap {
  end: { mapDigest: Buffer };
  regions(): AsyncGenerator<{ firstBlock: number; count: number }>;
}

export interface DiskAccount {
  /** Kept in the DELTA as logs; names that end in `.log`. */
  files: { name: string; bytes: Buffer }[];
  /** Sectors in whose place zeros stand; more than 0 marks the archive incomplete. */
  unreadableSectors: number;
  checksum: ImageChecksum;
}

/** Hex, both of one kind; null where it could not be made. */
export interface ImageChecksum {
  /** SHA-256 of all bytes, or of the digests of all blocks (what the manifest calls mapDigest). */
  kind: 'sha256' | 'blocks';
  source: string | null;
  image: string | null;
}

export interface RegionDigests {
  /** 32 bytes a block. */
  digests: Buffer;
  /** 32 bytes; the zero mark if the region holds nothing else. */
  regionDigest: Buffer;
}
