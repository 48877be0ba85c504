/** What an archive keeps of a VM of a pool beside its disks: its records, the host's own metadata, and a VMX made from them. */
import { z } from 'zod';
import { shownName } from '../../datastore/plain-name.ts';
import type { VmFile } from '../../datastore/vm-files.ts';
import { PhdError } from '../../errors.ts';
import { deviceVmx, type GuestFamily } from '../device/device-vmx.ts';
import { networkRecord, vbdRecord, vdiRecord, vifRecord, vmRecord } from './xen-records.ts';

const FORMAT = 'phd-xen-vm';
const KEPT_SUFFIX = '.xen.log';
const MAX_KEPT_BYTES = 16 * 1024 * 1024;

const keptVm = z.object({
  format: z.literal(FORMAT),
  version: z.literal(1),
  pool: z.string(),
  vm: vmRecord,
  /** Of disks and drives, with the disk's own record. */
  vbds: z.array(z.object({ vbd: vbdRecord, vdi: vdiRecord.nullable() })),
  vifs: z.array(z.object({ vif: vifRecord, network: networkRecord })),
});
/** Records as the host gave them, unknown fields included. */
export type KeptVm = z.infer<typeof keptVm>;

export interface XenDisk {
  scsiId: string;
  /** `xvda.vmdk` */
  name: string;
  userdevice: string;
}

/** Number of a place as the guest sees it: `0` and `xvda` are 0. Null: none that is known. */
export function devicePosition(userdevice: string): number | null {
  if (/^\d{1,3}$/.test(userdevice)) return Number(userdevice);
  const letter = /^(?:xvd|hd|sd)([a-z])$/.exec(userdevice)?.[1];
  return letter === undefined ? null : letter.charCodeAt(0) - 'a'.charCodeAt(0);
}

/** Name and place on a bus of the disk at a position; unit 7 is the controller's own. Null: more than there are places. */
export function diskAt(position: number): Pick<XenDisk, 'scsiId' | 'name'> | null {
  const unit = position % 15;
  const controller = Math.floor(position / 15);
  if (controller > 3) return null;
  const letters =
    position < 26 ? String.fromCharCode(97 + position) : `a${String.fromCharCode(97 + position - 26)}`;
  return { scsiId: `${controller}${unit < 7 ? unit : unit + 1}`, name: `xvd${letters}.vmdk` };
}

/** A name of people as the name of a file. */
export function fileWord(name: string): string {
  const word = name
    .replace(/[^\p{L}\p{N}._ -]/gu, '_')
    .trim()
    .replace(/^[.-]/, '_');
  return [...(word || 'vm')].slice(0, 60).join('');
}

/** Records, metadata and VMX as files of an archive. `metadata`: text of `ova.xml`; null: the host gave none. */
export function keptFiles(kept: KeptVm, disks: readonly XenDisk[], metadata: Buffer | null): VmFile[] {
  const name = fileWord(kept.vm.name_label);
  const files = [
    fileOf('vmx', `${name}.vmx`, Buffer.from(vmxOf(kept, disks))),
    fileOf('log', `${name}${KEPT_SUFFIX}`, Buffer.from(`${JSON.stringify(kept, null, 1)}\n`)),
  ];
  if (metadata !== null) files.push(fileOf('log', `${name}.ova-xml.log`, metadata));
  return files;
}

export function newKeptVm(pool: string, records: Pick<KeptVm, 'vm' | 'vbds' | 'vifs'>): KeptVm {
  return { format: FORMAT, version: 1, pool, ...records };
}

/** The records in the files of an archive; null if it holds none. Throws ARCHIVE_DAMAGED. */
export function findKeptVm(files: readonly { kind: string; name: string; bytes: Buffer }[]): KeptVm | null {
  const file = files.find(({ kind, name }) => kind === 'log' && name.endsWith(KEPT_SUFFIX));
  if (file === undefined) return null;
  const damaged = (why: string): PhdError =>
    new PhdError('ARCHIVE_DAMAGED', `${shownName(file.name)}, the VM's records, cannot be read: ${why}`);
  if (file.bytes.length > MAX_KEPT_BYTES) throw damaged(`more than ${MAX_KEPT_BYTES} bytes`);
  let json: unknown;
  try {
    json = JSON.parse(file.bytes.toString('utf8'));
  } catch {
    throw damaged('no JSON');
  }
  const parsed = keptVm.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw damaged(shownName(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`));
}

/** So that the archive can be started elsewhere too. */
function vmxOf({ vm }: KeptVm, disks: readonly XenDisk[]): string {
  const memory = Number(vm.memory_static_max);
  const boot = vm.HVM_boot_params as Record<string, unknown> | undefined;
  return deviceVmx({
    name: vm.name_label,
    uuid: vm.uuid.toLowerCase(),
    family: familyOf(vm),
    isEfi: boot?.firmware === 'uefi',
    memoryMib: Number.isFinite(memory) && memory > 0 ? Math.floor(memory / 1024 ** 2) : null,
    cpus: Number(vm.VCPUs_max) || null,
    disks: disks.map(({ scsiId, name }) => ({ scsiId, name })),
  });
}

/** By the template that the VM was made from, as far as its name tells. */
function familyOf({ reference_label: label, name_description: description }: KeptVm['vm']): GuestFamily {
  const words = `${label ?? ''} ${description}`.toLowerCase();
  if (words.includes('windows')) return 'windows';
  if (/freebsd/.test(words)) return 'freebsd';
  if (/linux|debian|ubuntu|centos|rhel|rocky|alma|sles|suse|fedora|oracle|coreos|generic/.test(words))
    return 'linux';
  return 'other';
}

function fileOf(kind: VmFile['kind'], name: string, bytes: Buffer): VmFile {
  return { kind, name, path: name, bytes, sizeBytes: bytes.length };
}
