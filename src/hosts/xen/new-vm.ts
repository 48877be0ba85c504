/** A VM of an archive as XenAPI takes it: its fields, drives, and network cards on the networks of the pool. */
import { shownName } from '../../datastore/plain-name.ts';
import type { KeptVm } from './kept-vm.ts';
import { RESTORE_MARK } from './unfinished.ts';
import type { XenHost } from './xen-host.ts';
import { NO_REF, networkRecord, recordsOf, vifRecord } from './xen-records.ts';
import { SNAPSHOT_MARK } from './xen-snapshot.ts';

export interface NewVif {
  device: string;
  /** Empty: the pool makes one. */
  mac: string;
  networkRef: string;
}

/** Network cards of a VM on the networks of this pool: the same network, else one of the same name, else of the same bridge. */
export async function placeVifs(
  host: XenHost,
  kept: KeptVm,
  keepsMacs: boolean,
  onWarning: (text: string) => void,
  signal?: AbortSignal,
): Promise<NewVif[]> {
  const doing = 'cannot list its networks';
  const all = await host.session.call('network.get_all_records', [], recordsOf(networkRecord), doing, {
    signal,
  });
  const networks = Object.entries(all);
  const placed: NewVif[] = [];
  for (const { vif, network } of kept.vifs) {
    const found =
      networks.find(([, one]) => one.uuid === network.uuid) ??
      networks.find(([, one]) => one.name_label === network.name_label) ??
      networks.find(([, one]) => network.bridge !== '' && one.bridge === network.bridge);
    if (found === undefined)
      onWarning(
        `network card ${shownName(vif.device)} is left out: ${host.config.name} has no network ${shownName(network.name_label)}`,
      );
    else
      placed.push({
        device: vif.device,
        mac: keepsMacs ? vif.MAC : '',
        networkRef: found[0],
      });
  }
  return placed;
}

/** MAC addresses of a VM that cards in the pool have already. */
export async function takenMacs(host: XenHost, kept: KeptVm, signal?: AbortSignal): Promise<string[]> {
  const doing = 'cannot list its network cards';
  const all = await host.session.call('VIF.get_all_records', [], recordsOf(vifRecord), doing, { signal });
  const there = new Set(Object.values(all).map(({ MAC }) => MAC.toLowerCase()));
  return kept.vifs.map(({ vif }) => vif.MAC.toLowerCase()).filter((mac) => there.has(mac));
}

/** What VM.create needs, and what else it takes, as far as the archive has it. */
const VM_FIELDS = {
  name_description: '',
  user_version: '1',
  is_a_template: false,
  affinity: NO_REF,
  memory_target: '0',
  memory_static_max: '2147483648',
  memory_dynamic_max: '2147483648',
  memory_dynamic_min: '2147483648',
  memory_static_min: '536870912',
  VCPUs_params: {},
  VCPUs_max: '1',
  VCPUs_at_startup: '1',
  actions_after_shutdown: 'destroy',
  actions_after_reboot: 'restart',
  actions_after_crash: 'restart',
  PV_bootloader: '',
  PV_kernel: '',
  PV_ramdisk: '',
  PV_args: '',
  PV_bootloader_args: '',
  PV_legacy_args: '',
  HVM_boot_policy: 'BIOS order',
  HVM_boot_params: { order: 'cd' },
  HVM_shadow_multiplier: 1,
  platform: {},
  PCI_bus: '',
  other_config: {},
  recommendations: '',
  xenstore_data: {},
  ha_always_run: false,
  ha_restart_priority: '',
  tags: [],
  blocked_operations: {},
  protection_policy: NO_REF,
  bios_strings: {},
  order: '0',
  start_delay: '0',
  shutdown_delay: '0',
  version: '0',
  hardware_platform_version: '0',
  has_vendor_device: false,
  reference_label: '',
  domain_type: 'unspecified',
  NVRAM: {},
} as const;
/** A template's seed makes MAC addresses: two VMs of one seed would get the same ones. Marks are of what the VM was. */
const LEFT_OUT: readonly string[] = ['mac_seed', SNAPSHOT_MARK, RESTORE_MARK];

export function vmWords(
  kept: KeptVm,
  name: string,
): Record<string, unknown> & { other_config: Record<string, string> } {
  const vm = kept.vm as Record<string, unknown>;
  const words: Record<string, unknown> = {};
  for (const [field, preset] of Object.entries(VM_FIELDS)) words[field] = vm[field] ?? preset;
  const otherConfig = Object.entries(kept.vm.other_config).filter(([key]) => !LEFT_OUT.includes(key));
  return {
    ...words,
    name_label: name,
    is_a_template: false,
    affinity: NO_REF,
    protection_policy: NO_REF,
    ha_always_run: false,
    ha_restart_priority: '',
    other_config: Object.fromEntries(otherConfig),
  };
}

export function vbdWords(
  vmRef: string,
  {
    userdevice,
    bootable,
    mode,
    vdiRef,
  }: { userdevice: string; bootable: boolean; mode: string; vdiRef: string | null },
): Record<string, unknown> {
  return {
    VM: vmRef,
    VDI: vdiRef ?? NO_REF,
    userdevice,
    bootable,
    mode,
    type: vdiRef === null ? 'CD' : 'Disk',
    empty: vdiRef === null,
    unpluggable: true,
    other_config: {},
    qos_algorithm_type: '',
    qos_algorithm_params: {},
  };
}

export function vifWords(vmRef: string, { device, mac, networkRef }: NewVif): Record<string, unknown> {
  return {
    device,
    network: networkRef,
    VM: vmRef,
    MAC: mac,
    MTU: '1500',
    other_config: {},
    qos_algorithm_type: '',
    qos_algorithm_params: {},
  };
}
