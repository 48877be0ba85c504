/** The VMX of a VM that takes the place of a machine: made from what is known of its devices. */
import { escapeValue, printVmxUuid } from '../../datastore/vmx.ts';
import type { PartitionTable } from './partition-table.ts';

export type GuestFamily = 'windows' | 'linux' | 'freebsd' | 'other';

export interface VmxFacts {
  name: string;
  uuid: string;
  family: GuestFamily;
  isEfi: boolean;
  memoryMib: number | null;
  cpus: number | null;
  disks: { scsiId: string; name: string }[];
}

const GUEST_OS: Record<GuestFamily, string> = {
  windows: 'windows9-64',
  linux: 'otherlinux-64',
  freebsd: 'freebsd-64',
  other: 'other-64',
};
/** Windows brings drivers for this one, and Linux for both. */
const CONTROLLER: Record<GuestFamily, string> = {
  windows: 'lsisas1068',
  linux: 'lsilogic',
  freebsd: 'lsilogic',
  other: 'lsilogic',
};
const MEMORY_MIB = 2048;
const MOST_MEMORY_MIB = 16_384;
const MOST_CPUS = 8;

/** A guess by the partitions of all devices; Windows first, for its disks may hold others too. */
export function familyOf(tables: readonly PartitionTable[]): GuestFamily {
  const partitions = tables.flatMap((table) => table.partitions);
  const has = (test: (words: string) => boolean): boolean =>
    partitions.some(({ type, content }) => test(`${type} ${content ?? ''}`));
  // Linux on a GPT may use the type of Windows data: that alone tells nothing.
  if (has((words) => /ntfs|windows re/.test(words) && !/ext[234]|xfs|btrfs/.test(words))) return 'windows';
  if (has((words) => /linux|ext[234]|xfs|btrfs|lvm|luks/i.test(words))) return 'linux';
  return has((words) => /freebsd/.test(words)) ? 'freebsd' : 'other';
}

/** Text of the VMX. The network is there but not connected, so that the copy does not meet the machine. */
export function deviceVmx(facts: VmxFacts): string {
  const { name, uuid, family, isEfi, disks } = facts;
  const memory = Math.min(MOST_MEMORY_MIB, Math.max(256, facts.memoryMib ?? MEMORY_MIB));
  const controllers = [...new Set(disks.map(({ scsiId }) => controllerOf(scsiId)))];
  const lines: [string, string][] = [
    ['.encoding', 'UTF-8'],
    ['config.version', '8'],
    ['virtualHW.version', '8'],
    ['displayName', name],
    ['guestOS', GUEST_OS[family]],
    ['firmware', isEfi ? 'efi' : 'bios'],
    ['uuid.bios', printVmxUuid(uuid)],
    ['uuid.location', printVmxUuid(uuid)],
    ['numvcpus', String(Math.min(MOST_CPUS, Math.max(1, facts.cpus ?? 1)))],
    ['memSize', String(memory - (memory % 4))],
    ['pciBridge0.present', 'TRUE'],
    ...controllers.flatMap((controller): [string, string][] => [
      [`scsi${controller}.present`, 'TRUE'],
      [`scsi${controller}.virtualDev`, CONTROLLER[family]],
    ]),
    ...disks.flatMap(({ scsiId, name: disk }): [string, string][] => {
      const slot = `scsi${controllerOf(scsiId)}:${Number(scsiId.slice(-unitDigits(scsiId)))}`;
      return [
        [`${slot}.present`, 'TRUE'],
        [`${slot}.deviceType`, 'scsi-hardDisk'],
        [`${slot}.fileName`, disk],
      ];
    }),
    ['ethernet0.present', 'TRUE'],
    ['ethernet0.virtualDev', 'e1000'],
    ['ethernet0.connectionType', 'bridged'],
    ['ethernet0.addressType', 'generated'],
    ['ethernet0.startConnected', 'FALSE'],
  ];
  return lines.map(([key, value]) => `${key} = "${escapeValue(value)}"\n`).join('');
}

function unitDigits(scsiId: string): number {
  return scsiId.length - 1;
}

function controllerOf(scsiId: string): number {
  return Number(scsiId.slice(0, 1));
}
