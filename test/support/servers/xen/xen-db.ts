/** What a simulated pool holds: records by class and reference, and the bytes of its disks. */
import { randomUUID } from 'node:crypto';
import { SimDisk } from './sim-disk.ts';

export type XenRecord = Record<string, unknown>;
export const NULL_REF = 'OpaqueRef:NULL';
export const CLASSES = ['VM', 'VBD', 'VDI', 'VIF', 'SR', 'network', 'host', 'pool', 'task'] as const;
export type XenClass = (typeof CLASSES)[number];

/** An answer of XenAPI that is an error. */
export class XenRefusal extends Error {
  readonly params: string[];

  constructor(code: string, ...params: string[]) {
    super(code);
    this.params = params;
  }
}

export interface NewVm {
  name: string;
  disks?: { name: string; content: Buffer; userdevice?: string }[];
  macs?: string[];
  power?: 'Running' | 'Halted' | 'Suspended' | 'Paused';
  hasCd?: boolean;
}

const VM_REQUIRED = [
  'name_label',
  'VCPUs_max',
  'memory_static_max',
  'other_config',
  'platform',
  'HVM_boot_policy',
];

export class XenDb {
  /** A fault: the disk at this place is in no snapshot. */
  leftOut = '';
  readonly records = Object.fromEntries(
    CLASSES.map((name) => [name, new Map<string, XenRecord>()]),
  ) as Record<XenClass, Map<string, XenRecord>>;
  readonly disks = new Map<string, SimDisk>();
  readonly sessions = new Set<string>();
  /** Whole numbers as older releases write them. */
  readonly number: (value: number) => number | string;

  constructor(numbersAreText: boolean) {
    this.number = (value) => (numbersAreText ? String(value) : value);
  }

  add(name: XenClass, record: XenRecord): string {
    const ref = `OpaqueRef:${randomUUID()}`;
    this.records[name].set(ref, { uuid: randomUUID(), ...record });
    return ref;
  }

  get(name: XenClass, ref: unknown): XenRecord {
    const found = this.records[name].get(String(ref));
    if (found === undefined) throw new XenRefusal('HANDLE_INVALID', name, String(ref));
    return found;
  }

  byUuid(name: XenClass, uuid: unknown): string {
    for (const [ref, record] of this.records[name]) if (record.uuid === uuid) return ref;
    throw new XenRefusal('UUID_INVALID', name, String(uuid));
  }

  one(name: XenClass): string {
    const [first] = this.records[name].keys();
    if (first === undefined) throw new Error(`no ${name}`);
    return first;
  }

  addVm({ name, disks = [], macs = [], power = 'Running', hasCd = true }: NewVm): {
    ref: string;
    uuid: string;
  } {
    const ref = this.createVm({ ...vmPresets(this), name_label: name, power_state: power });
    const vm = this.get('VM', ref);
    vm.resident_on = power === 'Running' ? this.one('host') : NULL_REF;
    for (const [at, disk] of disks.entries()) {
      const vdi = this.createVdi({
        name_label: disk.name,
        SR: this.one('SR'),
        virtual_size: disk.content.length,
      });
      this.disks.get(vdi)!.write(0, disk.content);
      const attached = power === 'Running';
      this.createVbd({
        VM: ref,
        VDI: vdi,
        userdevice: disk.userdevice ?? String(at),
        type: 'Disk',
        bootable: at === 0,
        attached,
      });
    }
    if (hasCd)
      this.createVbd({ VM: ref, VDI: NULL_REF, userdevice: '3', type: 'CD', mode: 'RO', empty: true });
    for (const [at, MAC] of macs.entries())
      this.createVif({ VM: ref, device: String(at), network: this.one('network'), MAC });
    return { ref, uuid: String(vm.uuid) };
  }

  createVm(words: XenRecord): string {
    for (const field of VM_REQUIRED)
      if (words[field] === undefined) throw new XenRefusal('SERVER_ERROR', `missing field ${field}`);
    return this.add('VM', {
      power_state: 'Halted',
      ...words,
      is_a_snapshot: false,
      is_control_domain: false,
      snapshots: [],
      VBDs: [],
      VIFs: [],
      current_operations: {},
    });
  }

  createVdi(words: XenRecord): string {
    const size = Number(words.virtual_size);
    const sr = this.get('SR', words.SR);
    const room = Number(sr.physical_size) - Number(sr.physical_utilisation);
    if (size > room) throw new XenRefusal('SR_BACKEND_FAILURE_44', '', 'There is insufficient space', '');
    sr.physical_utilisation = this.number(Number(sr.physical_utilisation) + size);
    const ref = this.add('VDI', {
      name_description: '',
      other_config: {},
      ...words,
      virtual_size: this.number(size),
      physical_utilisation: this.number(size),
      is_a_snapshot: false,
      VBDs: [],
    });
    this.disks.set(ref, new SimDisk(size));
    return ref;
  }

  destroyVdi(ref: string): void {
    const vdi = this.get('VDI', ref);
    const sr = this.get('SR', vdi.SR);
    sr.physical_utilisation = this.number(Number(sr.physical_utilisation) - Number(vdi.virtual_size));
    this.records.VDI.delete(ref);
    this.disks.delete(ref);
  }

  createVbd(words: XenRecord): string {
    const ref = this.add('VBD', { mode: 'RW', empty: false, bootable: false, attached: false, ...words });
    (this.get('VM', words.VM).VBDs as string[]).push(ref);
    return ref;
  }

  createVif(words: XenRecord): string {
    const bytes = Buffer.from(randomUUID().slice(0, 8), 'hex');
    const made = `02:16:${[...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;
    const ref = this.add('VIF', { ...words, MAC: words.MAC || made, MAC_autogenerated: !words.MAC });
    (this.get('VM', words.VM).VIFs as string[]).push(ref);
    return ref;
  }

  /** Disks as they are at this moment; the record is a template that is a snapshot, as the real one makes it. */
  snapshot(vmRef: string, name: string): string {
    const vm = this.get('VM', vmRef);
    const ref = this.add('VM', {
      ...structuredClone(vm),
      uuid: randomUUID(),
      name_label: name,
      is_a_snapshot: true,
      is_a_template: true,
      power_state: 'Halted',
      snapshot_of: vmRef,
      snapshots: [],
      VBDs: [],
      VIFs: [],
      resident_on: NULL_REF,
    });
    for (const vbdRef of vm.VBDs as string[]) {
      const vbd = this.get('VBD', vbdRef);
      if (vbd.userdevice === this.leftOut) continue;
      let vdi = vbd.VDI;
      if (vdi !== NULL_REF && vbd.type === 'Disk') {
        const copy = this.add('VDI', {
          ...structuredClone(this.get('VDI', vdi)),
          uuid: randomUUID(),
          is_a_snapshot: true,
          snapshot_of: vdi,
        });
        this.disks.set(copy, this.disks.get(String(vdi))!.copy());
        const sr = this.get('SR', this.get('VDI', copy).SR);
        sr.physical_utilisation = this.number(
          Number(sr.physical_utilisation) + Number(this.get('VDI', copy).virtual_size),
        );
        vdi = copy;
      }
      this.createVbd({ ...structuredClone(vbd), uuid: randomUUID(), VM: ref, VDI: vdi, attached: false });
    }
    for (const vifRef of vm.VIFs as string[])
      this.createVif({ ...structuredClone(this.get('VIF', vifRef)), uuid: randomUUID(), VM: ref });
    (vm.snapshots as string[]).push(ref);
    return ref;
  }

  /** Its disks stay, its drives and cards go. */
  destroyVm(ref: string): void {
    const vm = this.get('VM', ref);
    if (vm.power_state !== 'Halted')
      throw new XenRefusal('VM_BAD_POWER_STATE', ref, 'halted', String(vm.power_state).toLowerCase());
    for (const vbd of vm.VBDs as string[]) this.records.VBD.delete(vbd);
    for (const vif of vm.VIFs as string[]) this.records.VIF.delete(vif);
    this.records.VM.delete(ref);
    const parent = this.records.VM.get(String(vm.snapshot_of));
    if (parent) parent.snapshots = (parent.snapshots as string[]).filter((one) => one !== ref);
  }

  /** In use by a running VM. */
  isAttached(vdiRef: string): boolean {
    return [...this.records.VBD.values()].some((vbd) => vbd.VDI === vdiRef && vbd.attached === true);
  }
}

/** Fields of a VM as the real one writes them, shortened. */
function vmPresets(db: XenDb): XenRecord {
  return {
    name_description: 'made by "hand"\nsecond line',
    is_a_template: false,
    memory_static_max: db.number(2_147_483_648),
    memory_dynamic_max: db.number(2_147_483_648),
    memory_dynamic_min: db.number(2_147_483_648),
    memory_static_min: db.number(1_073_741_824),
    VCPUs_max: db.number(2),
    VCPUs_at_startup: db.number(2),
    VCPUs_params: {},
    HVM_boot_policy: 'BIOS order',
    HVM_boot_params: { order: 'cdn', firmware: 'uefi' },
    platform: { acpi: '1', apic: 'true', nx: 'true', 'device-model': 'qemu-upstream-uefi' },
    other_config: {
      mac_seed: 'f0e1d2c3-0000-0000-0000-000000000000',
      base_template_name: 'Debian Bookworm 12',
    },
    reference_label: 'debian-12',
    snapshot_of: NULL_REF,
    resident_on: NULL_REF,
    actions_after_reboot: 'restart',
  };
}
