/** A fingerprint of a source: what changes when somebody writes to it. */
import { stat } from 'node:fs/promises';
import { fromErrno } from '../errors.ts';

/** Numbers as text, since nanoseconds do not fit a double. */
export interface SourceFingerprint {
  sizeBytes: string;
  mtimeNs: string;
  ctimeNs: string;
  /** `device:inode`, so that a replaced file shows. */
  inode: string;
}

/** Taken before and after a source is read. A device shows no writes this way: its blocks must be read again. */
export async function sourceFingerprint(path: string): Promise<SourceFingerprint> {
  try {
    const found = await stat(path, { bigint: true });
    return {
      sizeBytes: String(found.size),
      mtimeNs: String(found.mtimeNs),
      ctimeNs: String(found.ctimeNs),
      inode: `${found.dev}:${found.ino}`,
    };
  } catch (error) {
    throw fromErrno(error, `cannot look at ${path}`);
  }
}

/** What differs between two fingerprints, in words; null if nothing does. */
export function fingerprintChange(before: SourceFingerprint, after: SourceFingerprint): string | null {
  if (before.inode !== after.inode) return 'the file was replaced by another';
  if (before.sizeBytes !== after.sizeBytes)
    return `its size changed from ${before.sizeBytes} to ${after.sizeBytes} bytes`;
  if (before.mtimeNs !== after.mtimeNs) return 'it was written to';
  if (before.ctimeNs !== after.ctimeNs) return 'its owner, mode or name changed, or it was written to';
  return null;
}
