/**
 * The layout of a dynamic VHD. Source: Microsoft, Virtual Hard Disk Image Format Specification 1.0. All numbers are big-endian.
 */

export const SECTOR_BYTES = 512;
export const FOOTER_BYTES = 512;
export const HEADER_BYTES = 1024;
export const VHD_BLOCK_BYTES = 2 * 1024 * 1024;
/** Which sectors of a block hold data; before its data. */
export const BITMAP_BYTES = SECTOR_BYTES;
export const DYNAMIC = 3;
export const FOOTER_CHECKSUM_AT = 64;
export const HEADER_CHECKSUM_AT = 36;
/** Largest disk of the format: 2040 GiB. */
export const MAX_VHD_BYTES = 2040 * 1024 ** 3;

/** One's complement of the sum of all bytes but the checksum's own. */
export function checksumOf(bytes: Buffer, checksumAt: number): number {
  let sum = 0;
  for (const [at, byte] of bytes.entries()) if (at < checksumAt || at >= checksumAt + 4) sum += byte;
  return ~sum >>> 0;
}
