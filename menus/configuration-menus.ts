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
        help: 'type one and learn whether it is one of those in use',
        disabled: () => (hasSystem || hasMaster ? null : 'there is none yet'),
      },
      {
        key: 'w',
        id: 'archives',
        label: 'Which archives open with which',
        help: 'tries the passphrases, former ones too, on every encrypted run of the targets',
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

export interface RestoreOptionWords {
  restoreQueue: boolean;
  atOnce: number;
  defaultVolume: string;
  everyMinutes: number;
  /** Replicas are refreshed in place. */
  inPlace: boolean;
}

export function restoreOptionsMenu(words: RestoreOptionWords): Menu {
  const { restoreQueue, atOnce, defaultVolume, everyMinutes, inPlace } = words;
  return {
    id: 'restore-options',
    title: 'Replication and restore options',
    entries: [
      {
        key: 'b',
        id: 'queue',
        label: `Restore queue: ${restoreQueue ? 'on' : 'off'}`,
        help: 'off: the daemon starts no restores and no pass; what is queued waits',
      },
      {
        key: 'n',
        id: 'at-once',
        label: `Number of jobs at once: ${atOnce}`,
        help: 'how many jobs the daemon runs at the same time, 1 to 4',
      },
      {
        key: 'v',
        id: 'volume',
        label: `Default volume: ${defaultVolume}`,
        help: 'where lines restore to that Load disk names writes',
      },
      {
        key: 'i',
        id: 'interval',
        label: `A pass of replication every ${everyMinutes} min`,
        help: 'how often the daemon looks for new backups, where replication is on',
      },
      {
        key: 'p',
        id: 'in-place',
        label: `Replicas: ${inPlace ? 'refreshed in place' : 'written whole'}`,
        help: 'in place writes only blocks that differ, whole needs room for a second disk',
      },
      QUIT,
    ],
  };
}

export interface TargetWords {
  isReadOnly: boolean;
  /** `none`, or a rate. */
  bandwidth: string;
  /** `as many as it takes`, or a number. */
  connections: string;
}

export function targetMenu({ isReadOnly, bandwidth, connections }: TargetWords): Menu {
  return {
    id: 'target',
    title: 'Target',
    entries: [
      { key: 't', id: 'test', label: 'Test', help: 'make a folder, write, rename, list, read, delete' },
      { key: 's', id: 'speed', label: 'Speed test', help: 'write 200 MB of zeros and read them back' },
      { key: 'e', id: 'edit', label: 'Edit', help: 'change where it is and how it is reached, step by step' },
      {
        key: 'r',
        id: 'read-only',
        label: `Read only: ${isReadOnly ? 'yes' : 'no'}`,
        help: 'nothing is ever written to a target that is read only',
      },
      {
        key: 'l',
        id: 'bandwidth',
        label: `Limit of bandwidth: ${bandwidth}`,
        help: 'so many KB a second at most, so that others can use the line',
      },
      {
        key: 'm',
        id: 'connections',
        label: `Most connections: ${connections}`,
        help: 'connections to the server at the same time, at most',
      },
      { key: 'x', id: 'remove', label: 'Remove', help: 'take it out of the configuration; archives stay' },
      QUIT,
    ],
  };
}

/** As the help and the printed keys show them. */
export const ENCRYPTION_MENU: Menu = encryptionMenu({ hasSystem: true, hasMaster: true, isOn: false });
export const BACKUP_DEFAULTS_MENU: Menu = backupDefaultsMenu({ target: '', codec: '', fullOffline: '' });
export const RESTORE_OPTIONS_MENU: Menu = restoreOptionsMenu({
  restoreQueue: true,
  atOnce: 1,
  defaultVolume: '',
  everyMinutes: 60,
  inPlace: true,
});
export const TARGET_MENU: Menu = targetMenu({ isReadOnly: false, bandwidth: '', connections: '' });
