/** Menus of the configuration whose entries tell how things are set. */
import type { Menu, MenuEntry } from './menu.ts';

const QUIT: MenuEntry = { key: 'q', id: 'quit', label: 'Quit to last menu', help: 'back to the menu before' };

export interface EncryptionWords {
  hasSystem: boolean;
  hasMaster: boolean;
  /** Backups are encrypted unless told otherwise. */
  isOn: boolean;
}

export function encryptionMenu({ hasSystem, hasMaster, isOn }: EncryptionWords): Menu {
  return {
    id: 'encryption',
    title: 'Encryption',
    entries: [
      {
        key: 's',
        id: 'system',
        label: `System passphrase: ${hasSystem ? 'set' : 'none'}`,
        help: 'archives are encrypted with it; the one before is kept for older archives',
      },
      {
        key: 'm',
        id: 'master',
        label: `Master passphrase: ${hasMaster ? 'set' : 'none'}`,
        help: 'opens archives as well, for the day the other is lost',
      },
      {
        key: 't',
        id: 'test',
        label: 'Test a passphrase',
        help: 'type one and learn whether it is the one in use',
        disabled: () => (hasSystem ? null : 'there is none yet'),
      },
      {
        key: 'e',
        id: 'encrypt',
        label: `Encrypt backups: ${isOn ? 'yes' : 'no'}`,
        help: 'what backups do unless told otherwise',
        disabled: () => (hasSystem ? null : 'the system passphrase comes first'),
      },
      QUIT,
    ],
  };
}

export interface BackupWords {
  target: string;
  codec: string;
  /** What happens when the FULL of a DELTA is gone from its target. */
  fullOffline: string;
}

export function backupDefaultsMenu({ target, codec, fullOffline }: BackupWords): Menu {
  return {
    id: 'backup-defaults',
    title: 'Backup defaults',
    entries: [
      { key: 't', id: 'target', label: `Target: ${target}`, help: 'where backups go unless told otherwise' },
      { key: 'c', id: 'codec', label: `Codec: ${codec}`, help: 'gzip opens everywhere, zstd is quicker' },
      {
        key: 'f',
        id: 'full-offline',
        label: `When the FULL is gone: ${fullOffline}`,
        help: 'make a new FULL, or go on with DELTAs because FULLs are kept on tape',
      },
      QUIT,
    ],
  };
}

export const HOST_MENU: Menu = {
  id: 'host',
  title: 'Host',
  entries: [
    { key: 'v', id: 'vms', label: 'VMs', help: 'list its VMs: the test of a host; Enter backs one up' },
    { key: 'e', id: 'edit', label: 'Edit', help: 'change its settings, one after the other' },
    { key: 'x', id: 'remove', label: 'Remove', help: 'take it out of the configuration; archives stay' },
    QUIT,
  ],
};

export const HOST_TYPE_MENU: Menu = {
  id: 'host-type',
  title: 'What kind of machine is it?',
  entries: [
    { key: 'e', id: 'esx', label: 'ESX host', help: 'VMs, over SSH and its own commands' },
    { key: 'x', id: 'xen', label: 'XenServer or XCP-ng', help: 'VMs, over XenAPI' },
    {
      key: 'd',
      id: 'device',
      label: 'Machine with disks',
      help: 'block devices, over SSH or of this machine',
    },
    QUIT,
  ],
};

/** As the help and the printed keys show them. */
export const ENCRYPTION_MENU: Menu = encryptionMenu({ hasSystem: true, hasMaster: true, isOn: false });
export const BACKUP_DEFAULTS_MENU: Menu = backupDefaultsMenu({ target: '', codec: '', fullOffline: '' });
