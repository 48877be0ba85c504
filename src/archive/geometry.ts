/** How a disk is cut into blocks and regions (FORMAT.md section 1), and the limits of section 10. */
import { PhdError } from '../errors.ts';

export const BLOCK_BYTES = 262_144;
export const REGION_BLOCKS = 256;
export const PAGE_BLOCKS = 128;
export const DIGEST_BYTES = 32;
export const MAX_DISK_BYTES = 64 * 2 ** 40;
/** Stored in place of a digest where all bytes are zero. */
export const ZERO_MARK: Buffer = Buffer.alloc(DIGEST_BYTES);

export interface Geometry {
  diskBytes: number;
  blockBytes: number;
  blockCount: number;
  regionCount: number;
}

/** Throws ARCHIVE_DAMAGED where FORMAT.md section 10 says a reader must refuse. */
export function geometryOf(diskBytes: number, blockBytes: number = BLOCK_BYTES): Geometry {
  const isPowerOfTwo = (blockBytes & (blockBytes - 1)) === 0;
  if (!isPowerOfTwo || blockBytes < 4096 || blockBytes > 1_048_576) {
    throw new PhdError('ARCHIVE_DAMAGED', `block size ${blockBytes} is not a power of two in 4096..1048576`);
  }
  if (!Number.isSafeInteger(diskBytes) || diskBytes < 0 || diskBytes > MAX_DISK_BYTES) {
    throw new PhdError('ARCHIVE_DAMAGED', `disk size ${diskBytes} is out of range`);
  }
  const blockCount = Math.ceil(diskBytes / blockBytes);
  return { diskBytes, blockBytes, blockCount, regionCount: Math.ceil(blockCount / REGION_BLOCKS) };
}

/** Bytes of one block; only the last may be shorter. */
export function blockSizeBytes(geometry: Geometry, block: number): number {
  return Math.min(geometry.blockBytes, geometry.diskBytes - block * geometry.blockBytes);
}

export function isZeroMark(digest: Uint8Array): boolean {
  return ZERO_MARK.equals(digest);
}
