/** Exports in XenServer's own forms: a VM as XVA, its disks as VHD or raw, its metadata, the database of the pool. */
import { shownName } from '../../datastore/plain-name.ts';
import { PhdError } from '../../errors.ts';
import { devicePosition, diskAt } from './kept-vm.ts';
import { VhdStream } from './vhd-stream.ts';
import type { XenHost } from './xen-host.ts';
import { NO_REF, vbdRecord, vdiRecord, vmRecord } from './xen-records.ts';
import type { Query } from './xen-transfer.ts';
import { xenVmNow } from './xen-vms.ts';
import { looksLikeXva, XvaCheck } from './xva-check.ts';

export type XvaPacking = 'none' | 'gzip' | 'zstd';

/** A download, and what proves it as it comes. */
export interface XenExport {
  /** `web.xva`, `xvda.vhd`: of the file, without the VM's name for disks. */
  fileName: string;
  handler: string;
  query: Query;
  /** Made anew for each try. `end` tells what was proved. */
  prove(what: string): ExportProof;
  /** Null: not known before. */
  sizeBytes: number | null;
}

export interface ExportProof {
  push(part: Buffer): Promise<void>;
  end(): Promise<string>;
  /** Lets go of what was begun and does not end. */
  stop(): void;
}

/**
 * Calls `work` with a VM, or a snapshot of it where it is not off, that can be exported; the snapshot bears the VM's name while it
 * is, and goes whatever happens. Throws NOT_FOUND, TARGET_*, what `work` throws.
 */
export async function withExportable<Result>(
  host: XenHost,
  uuid: string,
  { signal, onWarning }: { signal?: AbortSignal; onWarning: (text: string) => void },
  work: (vmRef: string) => Promise<Result>,
): Promise<Result> {
  const { session, snapshots } = host;
  const { vmRef, record } = await xenVmNow(session, uuid, 'cannot export it', signal);
  const vm = record.name_label;
  for (const name of await snapshots.removeOwn(vmRef, vm, signal))
    onWarning(`${shownName(vm)}: snapshot ${name}, left there by what was broken off, was removed`);
  if (record.power_state === 'Halted') return await work(vmRef);
  let isUncertain = true;
  try {
    const made = await snapshots.create(vmRef, vm, false, onWarning);
    isUncertain = false;
    await snapshots.showAs(made, vm);
    return await work(made);
  } finally {
    await snapshots.release(vmRef, vm, { isUncertain }).catch((error: Error) => onWarning(error.message));
  }
}

/** The VM with its disks, of these sizes. Its file is `NAME.xva`. */
export function xvaExport(
  vmRef: string,
  name: string,
  packing: XvaPacking,
  diskSizesBytes: readonly number[],
): XenExport {
  const compression = packing === 'none' ? 'false' : packing === 'gzip' ? 'true' : 'zstd';
  return {
    fileName: `${name}.xva`,
    handler: '/export',
    query: { ref: vmRef, use_compression: compression },
    prove: (what) => proveXva(what, diskSizesBytes),
    sizeBytes: null,
  };
}

/** The VM without its disks: what `xe vm-import metadata=true` reads. */
export function metadataExport(vmRef: string, name: string): XenExport {
  return {
    fileName: `${name}.metadata.xva`,
    handler: '/export_metadata',
    query: { ref: vmRef, export_snapshots: 'false' },
    prove: (what) => proveXva(what, []),
    sizeBytes: null,
  };
}

/** Of the master: what `xe pool-restore-database` reads. */
export function poolDatabaseExport(): XenExport {
  return {
    fileName: 'pool-database.xml',
    handler: '/pool/xmldbdump',
    query: {},
    prove: proveXml,
    sizeBytes: null,
  };
}

interface VmDisk {
  userdevice: string;
  uuid: string;
  sizeBytes: number;
}

async function disksOf({ session }: XenHost, vmRef: string, signal?: AbortSignal): Promise<VmDisk[]> {
  const doing = 'cannot see its disks';
  const { VBDs } = await session.call('VM.get_record', [vmRef], vmRecord, doing, { signal });
  const found: VmDisk[] = [];
  for (const vbdRef of VBDs) {
    const vbd = await session.call('VBD.get_record', [vbdRef], vbdRecord, doing, { signal });
    if (vbd.type !== 'Disk' || vbd.VDI === NO_REF) continue;
    const vdi = await session.call('VDI.get_record', [vbd.VDI], vdiRecord, doing, { signal });
    found.push({ userdevice: vbd.userdevice, uuid: vdi.uuid, sizeBytes: vdi.virtual_size });
  }
  return found;
}

/** What an XVA of the VM has to hold. Throws TARGET_*, CANCELLED. */
export async function diskSizesBytes(host: XenHost, vmRef: string, signal?: AbortSignal): Promise<number[]> {
  return (await disksOf(host, vmRef, signal)).map(({ sizeBytes }) => sizeBytes);
}

/** Each disk of a VM, `xvda.vhd`. Throws TARGET_*, CANCELLED. */
export async function diskExports(
  host: XenHost,
  vmRef: string,
  format: 'vhd' | 'raw',
  signal?: AbortSignal,
): Promise<XenExport[]> {
  return (await disksOf(host, vmRef, signal)).map(({ userdevice, uuid, sizeBytes }) => {
    const position = devicePosition(userdevice);
    const place = position === null ? null : diskAt(position);
    const name = place?.name.replace(/\.vmdk$/, '') ?? `disk-${uuid}`;
    return {
      fileName: `${name}.${format}`,
      handler: '/export_raw_vdi',
      query: { vdi: uuid, format },
      prove: (what) => (format === 'raw' ? proveRaw(what, sizeBytes) : proveVhd(what, sizeBytes)),
      sizeBytes: format === 'raw' ? sizeBytes : null,
    };
  });
}

function proveRaw(what: string, sizeBytes: number): ExportProof {
  let bytes = 0;
  return {
    push: async (part) => {
      bytes += part.length;
    },
    end: async () => {
      if (bytes !== sizeBytes)
        throw new PhdError('TARGET_LIED', `${what}: the host gave ${bytes} bytes of ${sizeBytes}`);
      return `its ${sizeBytes} bytes are there; a raw disk holds no checksums`;
    },
    stop: () => undefined,
  };
}

function proveVhd(what: string, sizeBytes: number): ExportProof {
  let blockCount = 0;
  const stream = new VhdStream(what, {
    begin: ({ diskBytes, blocks }) => {
      blockCount = blocks.length;
      if (diskBytes < sizeBytes)
        throw new PhdError(
          'TARGET_LIED',
          `${what}: the host gave a VHD of ${diskBytes} bytes for ${sizeBytes}`,
        );
    },
    data: () => undefined,
    blockEnd: () => undefined,
  });
  return {
    push: (part) => stream.push(part),
    end: async () => {
      stream.finish();
      return `its structure and ${blockCount} blocks are there; a VHD holds no checksums of data`;
    },
    stop: () => undefined,
  };
}

/** Every piece, and that each disk of the VM is there from its first piece to its last, which are never left out. */
function proveXva(what: string, sizesBytes: readonly number[]): ExportProof {
  let check: XvaCheck | null = null;
  let head = Buffer.alloc(0);
  const begin = async (): Promise<XvaCheck> => {
    if (!looksLikeXva(head))
      throw new PhdError('TARGET_LIED', `${what}: what the host gave does not begin as an XVA`);
    check = await XvaCheck.begin(what, head);
    await check.push(head);
    return check;
  };
  return {
    push: async (part) => {
      if (check !== null) return await check.push(part);
      head = Buffer.concat([head, part]);
      if (head.length >= 8) await begin();
    },
    end: async () => {
      const { disks, unprovedPieces } = await (check ?? (await begin())).finish();
      const pieces = disks.reduce((sum, disk) => sum + disk.pieces, 0);
      const ascending = (sizes: readonly number[]): string => [...sizes].sort((a, b) => a - b).join(', ');
      const there = ascending(disks.map(({ sizeBytes }) => sizeBytes));
      if (there !== ascending(sizesBytes))
        throw new PhdError(
          'TARGET_LIED',
          `${what}: the host gave disks of ${there || 'no'} bytes, the VM has disks of ${ascending(sizesBytes) || 'no'} bytes`,
        );
      if (disks.length === 0) return 'its metadata is there';
      if (unprovedPieces > 0)
        return `${unprovedPieces} of its ${pieces} pieces have no checksum, the others match theirs`;
      return `all ${pieces} pieces of ${disks.length} disks match their checksums`;
    },
    stop: () => check?.stop(),
  };
}

/** Begins and ends as one document. */
function proveXml(what: string): ExportProof {
  let head = '';
  let tail = '';
  return {
    push: async (part) => {
      if (head.length < 100) head += part.toString('latin1', 0, 100);
      tail = (tail + part.toString('latin1', Math.max(0, part.length - 100))).slice(-100);
    },
    end: async () => {
      if (!/^\s*<(\?xml|database)/.test(head) || !/<\/database>\s*$/.test(tail))
        throw new PhdError('TARGET_LIED', `${what}: what the host gave is no whole database`);
      return 'it begins and ends as a database does; it holds no checksums';
    },
    stop: () => undefined,
  };
}
