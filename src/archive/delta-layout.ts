/** Where things lie in a DELTA file: padding, trailer (FORMAT.md section 8). */
import { createHash } from 'node:crypto';
import { PhdError } from '../errors.ts';
import { parseDecimal } from './text-record.ts';

export const PART_ALIGNMENT = 4096;
export const TRAILER_BYTES = 512;
/** No manifest is larger: 10,000 files and disks with long names. */
export const MAX_MANIFEST_BYTES = 16 * 2 ** 20;

export interface DeltaTrailer {
  manifestOffset: number;
  manifestBytes: number;
  manifestSha256: string;
  headBytes: number;
  headSha256: string;
  fileBytes: number;
}

/** Bytes from `size` up to the next multiple of `alignment`. */
export function paddingBytes(size: number, alignment: number): number {
  return (alignment - (size % alignment)) % alignment;
}

export function printTrailer(trailer: DeltaTrailer): Buffer {
  const { manifestOffset, manifestBytes, manifestSha256, headBytes, headSha256, fileBytes } = trailer;
  const line = `phd-delta-end 1 ${manifestOffset} ${manifestBytes} ${manifestSha256} ${headBytes} ${headSha256} ${fileBytes}`;
  return Buffer.from(line.padEnd(TRAILER_BYTES - 1) + '\n', 'latin1');
}

/** Throws ARCHIVE_DAMAGED unless `bytes` are, to the last bit, a trailer that fits a file of `fileBytes`. */
export function parseTrailer(bytes: Buffer, fileBytes: number): DeltaTrailer {
  const fields = bytes.toString('latin1').trimEnd().split(' ');
  if (fields[0] !== 'phd-delta-end') {
    throw new PhdError(
      'ARCHIVE_DAMAGED',
      'the DELTA has no end: it is arriving or cut, or it is no DELTA of this program',
    );
  }
  const [, version = ''] = fields;
  if (version !== '1' && /^\d{1,9}$/.test(version)) {
    throw new PhdError('FORMAT_UNSUPPORTED', `DELTA version ${version} is newer than this program`);
  }
  const [manifestOffset, manifestBytes, headBytes, size] = [2, 3, 5, 7].map((at) =>
    parseDecimal(fields[at] ?? '', 'trailer'),
  );
  const trailer: DeltaTrailer = {
    manifestOffset: manifestOffset!,
    manifestBytes: manifestBytes!,
    manifestSha256: fields[4] ?? '',
    headBytes: headBytes!,
    headSha256: fields[6] ?? '',
    fileBytes: size!,
  };
  const manifestEnd = trailer.manifestOffset + trailer.manifestBytes;
  const isSound =
    printTrailer(trailer).equals(bytes) &&
    trailer.fileBytes === fileBytes &&
    trailer.headBytes % PART_ALIGNMENT === 0 &&
    trailer.headBytes <= trailer.manifestOffset &&
    trailer.manifestOffset % PART_ALIGNMENT === 0 &&
    trailer.manifestBytes <= MAX_MANIFEST_BYTES &&
    manifestEnd + paddingBytes(manifestEnd, TRAILER_BYTES) + TRAILER_BYTES === fileBytes;
  if (!isSound)
    throw new PhdError('ARCHIVE_DAMAGED', 'the end of the DELTA is damaged, or bytes were cut or added');
  return trailer;
}

/** The head as it stands in every DELTA: the program, then line ends up to the alignment. */
export function paddedHead(program: Buffer): Buffer {
  return Buffer.concat([program, Buffer.alloc(paddingBytes(program.length, PART_ALIGNMENT), '\n')]);
}

export function sha256Hex(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
