/** Stubs: descriptors made anew for a flat that has none. */
import { createHash } from 'node:crypto';
import { lstat, open } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fromErrno, PhdError } from '../errors.ts';
import { checkFlatName, looksLikeDescriptor, printDescriptor, SECTOR_BYTES } from './descriptor.ts';
import { writeNewFile } from './durable-file.ts';
import { geometryOf } from './geometry.ts';
import { shownName } from './plain-name.ts';

/** `vmfs` for ESX, `monolithicFlat` for Server, GSX, Workstation and qemu-img. */
export type StubType = 'vmfs' | 'monolithicFlat';

export interface StubRequest {
  type: StubType;
  /** File name of the flat beside the stub. */
  flatName: string;
  diskBytes: number;
  /** As a descriptor or the manifest of an archive has it; null, or a word VMware does not read there, = lsilogic. */
  adapterType: string | null;
}

const MAX_DISK_BYTES = 64 * 1024 ** 4;
/** What VMware reads in a descriptor; newer SCSI controllers are written as lsilogic there too. */
const ADAPTERS: Record<string, string> = {
  ide: 'ide',
  buslogic: 'buslogic',
  lsilogic: 'lsilogic',
  legacyesx: 'legacyESX',
  lsisas1068: 'lsilogic',
  pvscsi: 'lsilogic',
};

/** Refuses a size that is no whole number of sectors, with the nearest one that is. */
function checkDiskBytes(flatName: string, diskBytes: number): void {
  const wholeBytes = Math.floor(diskBytes / SECTOR_BYTES) * SECTOR_BYTES;
  if (diskBytes !== wholeBytes) {
    throw new PhdError(
      'FORMAT_UNSUPPORTED',
      `${shownName(flatName)} has ${diskBytes} bytes, not a multiple of 512 (the nearest below is ${wholeBytes}): it is cut or not a flat disk`,
    );
  }
  if (diskBytes <= 0 || diskBytes > MAX_DISK_BYTES) {
    throw new PhdError(
      'FORMAT_UNSUPPORTED',
      `${shownName(flatName)} has ${diskBytes} bytes: a disk has 512 bytes to 64 TiB`,
    );
  }
}

/** CID of a stub: any 8 digits do, so it follows from name and size and never takes one of the reserved values. */
function stubCid(flatName: string, diskBytes: number): string {
  const digest = createHash('sha256').update(`${flatName}\0${diskBytes}`).digest('hex');
  return `0${digest.slice(0, 7)}`;
}

/**
 * Text of a stub.
 * @throws PhdError FORMAT_UNSUPPORTED for a size that is no disk's or a name no descriptor can hold
 */
export function makeStub({ type, flatName, diskBytes, adapterType }: StubRequest): string {
  checkFlatName(flatName);
  checkDiskBytes(flatName, diskBytes);
  const adapter = ADAPTERS[(adapterType ?? 'lsilogic').toLowerCase()] ?? 'lsilogic';
  const geometry = geometryOf(diskBytes, adapter === 'ide');
  const isHosted = type === 'monolithicFlat';
  return printDescriptor({
    encoding: /^[\u0020-\u007e]*$/.test(flatName) ? null : 'UTF-8',
    cid: stubCid(flatName, diskBytes),
    createType: type,
    extents: [
      {
        access: 'RW',
        sectors: diskBytes / SECTOR_BYTES,
        type: isHosted ? 'FLAT' : 'VMFS',
        fileName: flatName,
        startSector: isHosted ? 0 : null,
      },
    ],
    ddb: [
      ['virtualHWVersion', '4'],
      ['geometry.cylinders', String(geometry.cylinders)],
      ['geometry.heads', String(geometry.heads)],
      ['geometry.sectors', String(geometry.sectors)],
      ['adapterType', adapter],
    ],
  });
}

/** Name of the descriptor that belongs beside a flat: NAME-flat.vmdk -> NAME.vmdk, a raw image NAME.img -> NAME.vmdk. */
export function stubNameOf(flatName: string): string {
  const stem = /^(.+)(?:-flat\.vmdk|\.img|\.raw|\.dsk)$/i.exec(flatName)?.[1];
  if (stem === undefined) {
    throw new PhdError(
      'USAGE',
      `no stub name follows from ${shownName(flatName)}: name the flat NAME-flat.vmdk (or NAME.img, .raw, .dsk)`,
    );
  }
  return `${stem}.vmdk`;
}

async function flatSize(flatPath: string): Promise<number> {
  const doing = `cannot make a stub for ${flatPath}`;
  try {
    const stat = await lstat(flatPath);
    if (!stat.isFile()) throw new PhdError('FORMAT_UNSUPPORTED', `${doing}: it is not a regular file`);
    const file = await open(flatPath, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(4_096), 0, 4_096, 0);
      const head = buffer.subarray(0, bytesRead);
      if (/^(KDMV|COWD)/.test(head.toString('latin1')) || looksLikeDescriptor(head)) {
        throw new PhdError('FORMAT_UNSUPPORTED', `${doing}: it is a sparse disk or a descriptor, not a flat`);
      }
    } finally {
      await file.close();
    }
    return stat.size;
  } catch (error) {
    throw fromErrno(error, doing);
  }
}

/**
 * Writes the stub of a flat beside it, durably and never over an existing file.
 * @returns path of the stub
 * @throws PhdError EXISTS, NOT_FOUND, FORMAT_UNSUPPORTED, USAGE (no name follows), NO_SPACE, IO
 */
export async function writeStub(
  flatPath: string,
  type: StubType,
  adapterType: string | null,
): Promise<string> {
  const flatName = basename(flatPath);
  const stubPath = join(dirname(flatPath), stubNameOf(flatName));
  const diskBytes = await flatSize(flatPath);
  await writeNewFile(stubPath, Buffer.from(makeStub({ type, flatName, diskBytes, adapterType })));
  return stubPath;
}
