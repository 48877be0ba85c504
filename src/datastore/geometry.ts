/** Drive geometry as VMware writes it into descriptors. */

const MEBIBYTE = 1024 * 1024;
/** The largest cylinder count that ATA can name. */
const MAX_IDE_CYLINDERS = 16_383;

export interface Geometry {
  cylinders: number;
  heads: number;
  /** Sectors for each track. */
  sectors: number;
}

/** Geometry of a disk of `diskBytes`; IDE stops at 16,383 cylinders, SCSI tracks grow with the disk. */
export function geometryOf(diskBytes: number, isIde: boolean): Geometry {
  const [heads, sectors] = isIde ? [16, 63] : scsiTrack(diskBytes);
  const cylinders = Math.max(1, Math.floor(diskBytes / 512 / (heads * sectors)));
  return { cylinders: isIde ? Math.min(cylinders, MAX_IDE_CYLINDERS) : cylinders, heads, sectors };
}

function scsiTrack(diskBytes: number): [heads: number, sectors: number] {
  if (diskBytes <= 1023 * MEBIBYTE) return [64, 32];
  if (diskBytes <= 2046 * MEBIBYTE) return [128, 32];
  return [255, 63];
}
