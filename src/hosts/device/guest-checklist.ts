/** What a person has to look at when a machine of iron starts as a VM, by what is known of its devices. */
import type { GuestFamily } from './device-vmx.ts';
import type { PartitionTable } from './partition-table.ts';

export interface ImagedDevice {
  /** `/dev/sda` */
  path: string;
  /** `sda.vmdk` */
  disk: string;
  sectorBytes: number;
  table: PartitionTable;
}

export interface CheckListItem {
  title: string;
  lines: string[];
}

/** In the order in which they are done. */
export function guestCheckList(family: GuestFamily, devices: readonly ImagedDevice[]): CheckListItem[] {
  const contents = new Set(
    devices.flatMap(({ table }) => table.partitions.flatMap(({ type, content }) => [content ?? type])),
  );
  const isEfi = devices.some(({ table }) => table.isEfi);
  const isLinux = family === 'linux';
  const items: CheckListItem[] = [
    { title: 'Before the first start', lines: beforeStart(devices, isEfi) },
    { title: 'Drivers', lines: driverLines(family) },
  ];
  if (isLinux) items.push({ title: 'Initial RAM disk', lines: initrdLines(contents) });
  items.push({ title: 'Bootloader', lines: bootLines(family, isEfi) });
  if (isLinux) items.push({ title: 'fstab and names of disks', lines: fstabLines(contents) });
  items.push(
    { title: 'Network', lines: networkLines(family) },
    { title: 'Time', lines: timeLines(family) },
    { title: 'At the end', lines: endLines(family) },
  );
  return items;
}

function beforeStart(devices: readonly ImagedDevice[], isEfi: boolean): string[] {
  const lines = devices.map(({ path, disk, table }) => {
    const parts = table.partitions
      .map(({ number, type, content }) => `${number} ${content ?? type}`)
      .join(', ');
    const kind = table.kind === 'none' ? '' : `: ${table.kind === 'gpt' ? 'GPT' : 'MBR'}`;
    return `${path} is ${disk}${kind}${parts === '' ? '' : ` with ${parts}`}`;
  });
  for (const { path, table } of devices) for (const notice of table.notices) lines.push(`${path}: ${notice}`);
  for (const { path, sectorBytes } of devices)
    if (sectorBytes !== 512)
      lines.push(
        `${path} has sectors of ${sectorBytes} bytes, a virtual disk has 512: its partition table is not understood there`,
      );
  lines.push(
    `the firmware of the VM must be ${isEfi ? 'EFI' : 'BIOS'}: the VMX says so; do not change it`,
    'the old machine is off, or its network is: two of one name and address disturb each other',
    'the network card of the VM is not connected at the start; connect it when the names are right',
  );
  return lines;
}

function driverLines(family: GuestFamily): string[] {
  if (family === 'windows')
    return [
      'the disks hang on LSI SAS (lsisas1068): Windows from Vista on has the driver; older ones need an IDE disk first',
      'a stop 0x7B at the start means the driver is not enabled: start the repair console, set Start = 0 for LSI_SAS',
      'remove the tools of the old hardware (RAID, sensors, lights-out management)',
    ];
  if (family === 'linux')
    return [
      'the disks hang on LSI Logic (mptspi), the network card is an Intel e1000: both drivers must be in the kernel or its initrd',
      'remove what watches the old hardware (RAID tools, IPMI, sensors, smartd, microcode)',
    ];
  return [
    'the disks hang on LSI Logic, the network card is an Intel e1000: see that the system has drivers for both',
  ];
}

function initrdLines(contents: ReadonlySet<string>): string[] {
  const lines = [
    'start a rescue system in the VM, mount the root file system, bind /dev /proc /sys, chroot',
    'Debian, Ubuntu: echo mptspi >> /etc/initramfs-tools/modules; update-initramfs -u -k all',
    'Red Hat, SUSE: dracut -f --regenerate-all --no-hostonly; before dracut: mkinitrd -f --with=mptspi',
  ];
  if (contents.has('LVM'))
    lines.push('root may lie on LVM: vgchange -ay before it is mounted, and lvm2 must be in the initrd');
  if (contents.has('RAID'))
    lines.push(
      'a member of a software RAID is here: mdadm --assemble --scan; a mirror with one disk starts degraded',
    );
  if (contents.has('LUKS'))
    lines.push('a partition is encrypted: its passphrase is asked for at the start, as before');
  return lines;
}

function bootLines(family: GuestFamily, isEfi: boolean): string[] {
  if (family === 'windows')
    return isEfi
      ? [
          'no entry in the firmware of the VM: start \\EFI\\Boot\\bootx64.efi from file, or bcdboot C:\\Windows from the rescue console',
        ]
      : ['no start: bootrec /fixmbr, bootrec /fixboot, bootrec /rebuildbcd from the rescue console'];
  if (isEfi)
    return [
      'the firmware of the VM knows no entries of the old one: it starts \\EFI\\BOOT\\BOOTX64.EFI',
      'if that is missing: efibootmgr -c from a rescue system started by EFI, or grub-install --removable',
    ];
  return [
    'the disk is the first one of the BIOS: if GRUB stays at its prompt, grub-install /dev/sda from the rescue system',
    'root= of the kernel must name a UUID or LVM, not /dev/hda or /dev/cciss',
  ];
}

function fstabLines(contents: ReadonlySet<string>): string[] {
  const lines = [
    'disks are /dev/sda, /dev/sdb ... in the order of the VMX: replace /dev/hd*, /dev/nvme*, /dev/vd*, /dev/cciss/* by UUID= (blkid)',
    'entries of disks that were not imaged need nofail, or a # before them',
  ];
  if (contents.has('swap'))
    lines.push('swap by UUID too; /etc/initramfs-tools/conf.d/resume may name the old one');
  return lines;
}

function networkLines(family: GuestFamily): string[] {
  if (family === 'windows')
    return [
      'the card is new: set the address again, remove the hidden old one (set devmgr_show_nonpresent_devices=1)',
    ];
  return [
    'the card is new, so is its name (ens*, enp*) and MAC: change /etc/network/interfaces, netplan, ifcfg-* (HWADDR) or the like',
    'remove 70-persistent-net.rules from /etc/udev/rules.d, else eth0 becomes eth1',
  ];
}

function timeLines(family: GuestFamily): string[] {
  return family === 'windows'
    ? ['one source of time: the domain or the tools of the hypervisor, not both']
    : [
        'one source of time: chrony or ntpd, or the tools of the hypervisor, not both',
        'the clock of the VM is UTC or local as /etc/adjtime says: compare after the first start',
      ];
}

function endLines(family: GuestFamily): string[] {
  return [
    `install the tools of the hypervisor${family === 'linux' ? ' (open-vm-tools)' : ''}, then use its own network card and controller if wanted`,
    family === 'windows'
      ? 'Windows may want to be activated again'
      : 'check the file systems once (fsck -f) before they are used',
    'make a backup of the VM once it runs',
  ];
}

/** As it is printed. */
export function checkListText(items: readonly CheckListItem[]): string[] {
  return items.flatMap(({ title, lines }, at) => [
    ...(at === 0 ? [] : ['']),
    `${at + 1}. ${title}`,
    ...lines.map((line) => `   [ ] ${line}`),
  ]);
}
