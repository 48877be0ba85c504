/** Reads the manifest at the end of a DELTA: in clear also where the archive is encrypted, so without passphrases. */
import { type DeltaTrailer, parseTrailer, sha256Hex, TRAILER_BYTES } from '../archive/delta-layout.ts';
import { type DeltaManifest, parseDeltaManifest } from '../archive/manifest.ts';
import { PhdError } from '../errors.ts';
import { type ByteSource, readRange } from '../model/byte-source.ts';

/** Read with the trailer in one go; most manifests fit. */
const TAIL_BYTES = 65_536;

/** A DELTA of this program says what it is within its first bytes. */
const SIGN_BYTES = 1024;
const SIGN = '# This file is a DELTA:';

/**
 * Trailer and manifest of a stored DELTA, one ranged read as a rule. Throws ARCHIVE_DAMAGED (cut, still arriving,
 * flipped), FORMAT_UNSUPPORTED (a later version, or a program of another maker), TARGET_*.
 */
export async function readDeltaManifest(
  stored: ByteSource,
): Promise<{ trailer: DeltaTrailer; manifest: DeltaManifest }> {
  if (stored.sizeBytes < TRAILER_BYTES) throw new PhdError('ARCHIVE_DAMAGED', 'the DELTA is cut');
  const tailOffset = Math.max(0, stored.sizeBytes - TAIL_BYTES);
  const tail = await readRange(stored, tailOffset, stored.sizeBytes - tailOffset);
  const end = tail.subarray(tail.length - TRAILER_BYTES);
  if (!end.toString('latin1').startsWith('phd-delta-end ')) await refuseForeign(stored);
  const trailer = parseTrailer(end, stored.sizeBytes);
  const { manifestOffset, manifestBytes } = trailer;
  const bytes =
    manifestOffset >= tailOffset
      ? tail.subarray(manifestOffset - tailOffset, manifestOffset - tailOffset + manifestBytes)
      : await readRange(stored, manifestOffset, manifestBytes);
  if (sha256Hex(bytes) !== trailer.manifestSha256) {
    throw new PhdError('ARCHIVE_DAMAGED', 'the manifest of the DELTA does not match its digest');
  }
  return { trailer, manifest: parseDeltaManifest(bytes, manifestOffset) };
}

/** A program without our sign was made by another one; anything else without an end is cut. */
async function refuseForeign(stored: ByteSource): Promise<void> {
  if (stored.sizeBytes < SIGN_BYTES) return;
  const start = (await readRange(stored, 0, SIGN_BYTES)).toString('latin1');
  if (start.startsWith('#!') && !start.includes(SIGN)) {
    throw new PhdError(
      'FORMAT_UNSUPPORTED',
      'the DELTA was made by another program; its payload is not documented',
    );
  }
}
