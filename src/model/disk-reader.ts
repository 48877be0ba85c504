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
}

export interface RegionDigests {
  /** 32 bytes a block. */
  digests: Buffer;
  /** 32 bytes; the zero mark if the region holds nothing else. */
  regionDigest: Buffer;
}
