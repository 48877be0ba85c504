/** Menus of the restore flow whose words depend on what was chosen. */
import type { Menu, MenuEntry } from './menu.ts';

const BACK: MenuEntry = { key: 'b', id: 'back', label: 'Back', help: 'to the question before' };
const ABORT: MenuEntry = {
  key: 'a',
  id: 'abort',
  label: 'Abort to main menu',
  help: 'back to the main menu at once',
};
const QUIT: MenuEntry = { key: 'q', id: 'quit', label: 'Quit to last menu', help: 'back to the menu before' };

/** What the location menu tells; null: there is none. */
export interface LocationWords {
  /** Where the VM lies now, with its state in words. */
  current: string | null;
  original: string | null;
  /** What was chosen before in this session. */
  last: string | null;
  /** Names of hosts that VMs can be put onto. */
  hosts: string | null;
}

export function locationMenu({ current, original, last, hosts }: LocationWords): Menu {
  return {
    id: 'location',
    title: 'Location to restore to',
    entries: [
      ...(current === null
        ? []
        : [
            {
              key: '1',
              id: 'current',
              label: `Current path: ${current}`,
              help: 'the folder that the VM lies in now',
            },
          ]),
      {
        key: 'l',
        id: 'original',
        label: original === null ? 'Original location' : `Original location: ${original}`,
        help: 'a folder of the name that the VM had when it was backed up',
      },
      {
        key: 'o',
        id: 'other',
        label: `Other location${last === null ? '' : ` (last: ${last})`}`,
        help: 'a volume, then a folder on it, or a new one',
      },
      ...(hosts === null
        ? []
        : [
            {
              key: 'h',
              id: 'host',
              label: `On a host: ${hosts}`,
              help: 'the VM goes onto a datastore of an ESX host, or into a pool of XenServer',
            },
          ]),
      BACK,
      ABORT,
      QUIT,
    ],
  };
}

/** As the help and the printed keys show it. */
export const LOCATION_MENU: Menu = locationMenu({ current: '', original: null, last: null, hosts: 'esx01' });

export const STUB_MENU: Menu = {
  id: 'stub-type',
  title: 'Stub for',
  entries: [
    { key: 'v', id: 'vmfs', label: 'ESX (vmfs)', help: 'a descriptor as ESX makes it' },
    {
      key: 'm',
      id: 'monolithicFlat',
      label: 'Server, GSX, Workstation, qemu (monolithicFlat)',
      help: 'a descriptor for hosted products',
    },
    BACK,
    ABORT,
    QUIT,
  ],
};

export const VMX_MENU: Menu = {
  id: 'vmx-place',
  title: 'VMX for this place',
  entries: [
    {
      key: 'm',
      id: 'moved',
      label: 'Same VM in a new place',
      help: 'disks and paths fitted; UUID and MAC stay',
    },
    {
      key: 'c',
      id: 'copy',
      label: 'Copy of the VM',
      help: 'also another UUID, other MAC addresses, network unplugged',
    },
    { key: 'u', id: 'unchanged', label: 'Unchanged', help: 'exactly as it was backed up' },
    { key: 'n', id: 'none', label: 'No VMX', help: 'leave VMX, NVRAM and logs where they are' },
  ],
};
