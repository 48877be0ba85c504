/** One disk as the source of a backup: found, checked to be one flat, or refused with the reason. */
import { lstat, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fromErrno, PhdError } from '../errors.ts';
import type { DiskReader } from '../model/disk-reader.ts';
import { deviceSizeBytes } from './block-device.ts';
import { type Descriptor, notPlainReason, SECTOR_BYTES } from './descriptor.ts';
import { readVmdkFile, statInFolder, type VmdkFile } from './descriptor-file.ts';
import { shownName } from './plain-name.ts';
import { isHalfWritten } from './unfinished-disk.ts';

export interface SourceDisk {
  /** Controller and unit digits, `00` = SCSI 0:0. */
  scsiId: string;
  /** File name of the descriptor, or of the raw image. */
  name: string;
  /** With a reader: what messages call the place. */
  flatPath: string;
  /** Reads a disk that lies in no local file and is held still by whoever gave the reader; else it is watched. */
  reader?: DiskReader | null;
  /** Null for a raw image or device. */
  descriptorPath: string | null;
  /** For reading; an archive takes the bytes of the file, which may be of another encoding than UTF-8. */
  descriptorText: string | null;
  sizeBytes: number;
  createType: string | null;
  adapterType: string | null;
}

/** A disk that something says exists. */
export interface DiskClaim {
  scsiId: string;
  path: string;
  /** As the VMX or the folder names it. */
  fileName: string;
  /** The operator's VMX (or command) names it: then it may lie outside the folder and may be a device. */
  isNamedByVmx: boolean;
}

/** A refusal that names the disk and the reason. */
export function unsupported(disk: string, reason: string): PhdError {
  return new PhdError('SOURCE_UNSUPPORTED', `${shownName(disk)} cannot be backed up: ${reason}`);
}

/** Size of the flat of a descriptor, checked against its extent. */
async function checkFlat(name: string, flatPath: string, extentBytes: number): Promise<void> {
  let sizeBytes: number;
  try {
    sizeBytes = (await statInFolder(flatPath)).size;
  } catch (error) {
    const reason = fromErrno(error, flatPath);
    if (reason.code === 'NOT_FOUND') throw unsupported(name, `its flat ${flatPath} is missing`);
    throw reason.code === 'SOURCE_UNSUPPORTED' ? unsupported(name, reason.message) : reason;
  }
  if (sizeBytes !== extentBytes) {
    throw unsupported(name, `its descriptor says ${extentBytes} bytes, its flat has ${sizeBytes}`);
  }
  if (sizeBytes === 0) throw unsupported(name, 'it is empty');
  if (await isHalfWritten(flatPath)) throw unsupported(name, HALF_WRITTEN);
}

const HALF_WRITTEN = 'an in-place restore over it was broken off: run that restore again first';

async function openDescribed(claim: DiskClaim, bytes: Buffer, descriptor: Descriptor): Promise<SourceDisk> {
  const name = basename(claim.path);
  const reason = notPlainReason(descriptor);
  if (reason !== null) throw unsupported(name, reason);
  if (/-\d{6}\.vmdk$/i.test(name)) throw unsupported(name, 'its name is that of a snapshot');
  const extent = descriptor.extents[0]!;
  const flatPath = join(dirname(claim.path), extent.fileName!);
  const sizeBytes = extent.sectors * SECTOR_BYTES;
  await checkFlat(name, flatPath, sizeBytes);
  return {
    scsiId: claim.scsiId,
    name,
    flatPath,
    descriptorPath: claim.path,
    descriptorText: bytes.toString('utf8'),
    sizeBytes,
    createType: descriptor.createType,
    adapterType: descriptor.ddb.get('adaptertype') ?? null,
  };
}

function rawDisk(claim: DiskClaim, sizeBytes: number): SourceDisk {
  const name = basename(claim.path);
  if (sizeBytes === 0) throw unsupported(name, 'it is empty');
  return {
    scsiId: claim.scsiId,
    name,
    flatPath: claim.path,
    descriptorPath: null,
    descriptorText: null,
    sizeBytes,
    createType: null,
    adapterType: null,
  };
}

/** A named device or image may be reached by a link of the operator's; what it leads to must still be a disk. */
async function openNamedFile(claim: DiskClaim): Promise<SourceDisk | null> {
  try {
    const own = await lstat(claim.path);
    const target = own.isSymbolicLink() && claim.isNamedByVmx ? await stat(claim.path) : own;
    if (target.isBlockDevice()) return rawDisk(claim, await deviceSizeBytes(claim.path));
    return null;
  } catch (error) {
    throw fromErrno(error, `${shownName(claim.fileName)} cannot be backed up`);
  }
}

function sparseReason(file: VmdkFile & { kind: 'sparse' }): string {
  const reason = file.descriptor && notPlainReason(file.descriptor);
  return reason ?? 'it is sparse, its bytes are not the disk';
}

/**
 * Finds the flat of a disk and proves that it is the whole state of the disk.
 * @throws PhdError SOURCE_UNSUPPORTED: snapshot, sparse, split, raw-mapped, missing flat, sizes that disagree,
 *   link that leaves the folder; NOT_FOUND, FORMAT_UNSUPPORTED, IO
 */
export async function openSourceDisk(claim: DiskClaim): Promise<SourceDisk> {
  if (/^[A-Za-z]:[\\/]|\\/.test(claim.fileName))
    throw unsupported(claim.fileName, 'its path is one of another system');
  const device = await openNamedFile(claim);
  if (device) return device;
  const file = await readVmdkFile(claim.path);
  if (file.kind === 'descriptor') return openDescribed(claim, file.bytes, file.descriptor);
  if (file.kind === 'sparse') throw unsupported(basename(claim.path), sparseReason(file));
  if (/\.vmdk$/i.test(claim.path)) {
    throw unsupported(
      basename(claim.path),
      'it is neither a descriptor nor a sparse disk: give the flat a stub and name that',
    );
  }
  const image = rawDisk(claim, (await statInFolder(claim.path)).size);
  if (await isHalfWritten(image.flatPath)) throw unsupported(image.name, HALF_WRITTEN);
  return image;
}
