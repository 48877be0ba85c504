/** The whole menu tree. Flows in screens/ do what the entries say; nothing else knows a key of a menu. */

import { BACKUP_JOB_MENU, BACKUP_MENU } from './backup-menus.ts';
import {
  BACKUP_DEFAULTS_MENU,
  ENCRYPTION_MENU,
  HOST_MENU,
  HOST_TYPE_MENU,
  RESTORE_OPTIONS_MENU,
  TARGET_MENU,
} from './configuration-menus.ts';
import { LOOK_MENU } from './look-menu.ts';
import type { Menu, MenuEntry } from './menu.ts';
import { LOCATION_MENU, STUB_MENU, VMX_MENU } from './restore-menus.ts';
import { type ConsoleState, daemonText, locksText, runningText } from './state.ts';

const HELP: MenuEntry = {
  key: 'h',
  id: 'help',
  label: 'Help',
  help: 'what the console can do, and all its keys',
};
const ABORT: MenuEntry = {
  key: 'a',
  id: 'abort',
  label: 'Abort to main menu',
  help: 'back to the main menu at once',
};
const QUIT: MenuEntry = { key: 'q', id: 'quit', label: 'Quit to last menu', help: 'back to the menu before' };
const needsTarget = ({ targetCount }: ConsoleState): string | null =>
  targetCount === 0 ? 'no target is set up: see C Configuration' : null;
const BACKGROUND: MenuEntry = {
  key: 'b',
  id: 'background',
  label: (state) => `Background status: ${runningText(state)}`,
  help: 'all jobs, with progress, logs, kill and retry',
};
const LOCKS: MenuEntry = {
  key: 'l',
  id: 'locks',
  label: (state) => `Locks: ${locksText(state)}`,
  help: 'keep new restores or backups from starting',
};
const LOG: MenuEntry = { key: 't', id: 'log', label: 'Log', help: 'the log of the program, from its end' };

export const MAIN_MENU: Menu = {
  id: 'main',
  title: 'Main menu',
  isTop: true,
  entries: [
    {
      key: '1',
      id: 'background',
      label: (state) => `Status: ${runningText(state)}`,
      help: 'what runs now; opens the list of jobs',
    },
    {
      key: '2',
      id: 'daemon',
      label: (state) => `Daemon: ${daemonText(state)}`,
      help: 'whether queued jobs are being run; starts or stops the daemon',
    },
    {
      key: '3',
      id: 'locks',
      label: (state) => `Locks: ${locksText(state)}`,
      help: 'locks that keep jobs from starting',
    },
    {
      key: 'e',
      id: 'restore',
      label: 'Restore',
      help: 'find a backup and bring it back',
      disabled: needsTarget,
    },
    {
      key: 'k',
      id: 'backup',
      label: 'Backup',
      help: 'back up a VM; backup jobs, their preview and status',
      disabled: needsTarget,
    },
    {
      key: 'c',
      id: 'configuration',
      label: 'Configuration',
      help: 'targets, their tests, look of the console',
    },
    LOG,
    HELP,
    { key: 'q', id: 'quit', label: 'Quit', help: 'end the console; jobs go on' },
  ],
};

export const RESTORE_MENU: Menu = {
  id: 'restore',
  title: 'Restore',
  entries: [
    {
      key: 'c',
      id: 'restore',
      label: 'Restore',
      help: 'restore disks, one or all of a VM, or of several VMs',
      disabled: needsTarget,
    },
    {
      key: 'x',
      id: 'vmx',
      label: 'VMX restore',
      help: 'only VMX, NVRAM and logs of a VM',
      disabled: needsTarget,
    },
    BACKGROUND,
    {
      key: 'r',
      id: 'replication',
      label: 'Replication',
      help: 'restore the newest backups onto a standby host again and again',
    },
    LOCKS,
    LOG,
    {
      key: 'i',
      id: 'reindex',
      label: 'Re-index',
      help: 'list all targets again, whatever their age',
      disabled: needsTarget,
    },
    { key: 's', id: 'stub', label: 'Stub', help: 'make a descriptor for a flat disk file that has none' },
    HELP,
    ABORT,
    QUIT,
  ],
};

export function replicationMenu(isEnabled: boolean): Menu {
  return {
    id: 'replication',
    title: 'Replication',
    entries: [
      {
        key: 's',
        id: 'switch',
        label: `Replication: ${isEnabled ? 'enabled' : 'disabled'}`,
        help: 'turns it on or off: whether the daemon runs a pass each hour, or as often as is set',
      },
      LOCKS,
      BACKGROUND,
      {
        key: 'r',
        id: 'run',
        label: 'Run now',
        help: 'one pass: list the targets, restore what is new',
        disabled: needsTarget,
      },
      {
        key: 'y',
        id: 'dry-run',
        label: 'Why: what each line would do',
        help: 'a pass that only tells what it would restore, and why not',
        disabled: needsTarget,
      },
      {
        key: 'g',
        id: 'retry',
        label: 'Go again over what failed',
        help: 'what failed in the last pass, with reasons; R tries these lines again',
        disabled: needsTarget,
      },
      LOG,
      {
        key: 'e',
        id: 'edit',
        label: 'Edit vmdks.auto',
        help: 'the lines, in $EDITOR; faults are told by number',
      },
      {
        key: 'f',
        id: 'load',
        label: 'Load disk names',
        help: 'append a line, commented out, for each disk on the targets',
        disabled: needsTarget,
      },
      { key: 'v', id: 'view', label: 'View restored.log', help: 'what was restored, when and where to' },
      {
        key: 'd',
        id: 'forget',
        label: 'Delete restored.log',
        help: 'forget what was restored: the next pass restores it all again',
      },
      ABORT,
      QUIT,
    ],
  };
}

/** As the help and the printed keys show it. */
export const REPLICATION_MENU: Menu = replicationMenu(false);

export const SEARCH_MENU: Menu = {
  id: 'search',
  title: 'Search by',
  entries: [
    { key: 'v', id: 'vm', label: 'VM name', help: 'pick a VM, then a date, then its disks' },
    { key: 'f', id: 'disk', label: 'Disk name', help: 'pick a disk of any VM; it never asks to register' },
    { key: 'x', id: 'vmx', label: 'VMX only', help: 'only VMX, NVRAM and logs of a VM' },
    { key: 's', id: 'stub', label: 'Stub', help: 'make a descriptor for a flat disk file that has none' },
    { key: 'p', id: 'plans', label: 'Plans', help: 'restore plans over several VMs that were saved' },
    BACKGROUND,
    ABORT,
    QUIT,
  ],
};

export const LOCKS_MENU: Menu = {
  id: 'locks',
  title: 'Locks',
  entries: [
    {
      key: 'c',
      id: 'clear',
      label: 'Clear all locks',
      help: 'jobs may start again',
      disabled: ({ locks }) => (locks?.length === 0 ? 'no lock is set' : null),
    },
    {
      key: 'p',
      id: 'stop',
      label: 'Stop after the current disk',
      help: 'what runs finishes its disk, no new restore or backup starts',
    },
    { key: 'k', id: 'kill', label: 'Kill what runs', help: 'stop, and end running jobs now' },
    QUIT,
  ],
};

export const FILTER_MENU: Menu = {
  id: 'filter',
  title: 'Filter',
  entries: [
    {
      key: 'n',
      id: 'name',
      label: 'Part of the name',
      help: 'any part of the VM name (of the disk name in lists of disks)',
    },
    { key: 'd', id: 'dates', label: 'Date range', help: 'a day, or from one day to another' },
    { key: 't', id: 'transport', label: 'Transport', help: 'all, ssh or ftp' },
    { key: 'v', id: 'vmfs', label: 'VMFS', help: 'show, only or hide archives on local folders' },
    { key: 'g', id: 'target', label: 'Target', help: 'one target by its number, or all (%)' },
    { key: 'm', id: 'mode', label: 'Mode', help: 'all archives, FULLs or DELTAs' },
    { key: 'r', id: 'reset', label: 'Reset', help: 'no filter' },
    { key: 'b', id: 'back', label: 'Back (keeps the filter)', help: 'back to the list' },
    { key: 'q', id: 'quit', label: 'Quit to last menu', help: 'to the menu before the list' },
  ],
};

export const CONFIGURATION_MENU: Menu = {
  id: 'configuration',
  title: 'Configuration',
  entries: [
    { key: 't', id: 'targets', label: 'Targets', help: 'list of targets; test and speed test of one' },
    { key: 'm', id: 'hosts', label: 'Hosts', help: 'machines whose VMs are backed up' },
    { key: 'd', id: 'datastores', label: 'Datastores', help: 'folders in which virtual disks live' },
    { key: 'e', id: 'encryption', label: 'Encryption', help: 'passphrases, and whether backups use them' },
    { key: 'b', id: 'backup', label: 'Backup defaults', help: 'target, codec, what when a FULL is gone' },
    {
      key: 'r',
      id: 'restore-options',
      label: 'Replication and restore options',
      help: 'restore queue, jobs at once, default volume, how often replication runs',
    },
    { key: 'l', id: 'look', label: 'Look of the console', help: 'thin, rich, colours, characters, mouse' },
    {
      key: 's',
      id: 'sheet',
      label: 'Sheet for the drawer',
      help: 'targets, keys, VMs, how to restore by hand: one page, no secret',
    },
    {
      key: 'p',
      id: 'support-bundle',
      label: 'Support bundle',
      help: 'gather what helps to help, without secrets',
    },
    {
      key: 'o',
      id: 'adopt',
      label: 'Take over a configuration',
      help: 'of another host, from the copy that lies on a target',
    },
    HELP,
    QUIT,
  ],
};

export const LOCK_KIND_MENU: Menu = {
  id: 'lock-kind',
  title: 'For which jobs',
  entries: [
    { key: 'r', id: 'restore', label: 'Restores', help: 'restores and verify runs' },
    { key: 'b', id: 'backup', label: 'Backups', help: 'backups and verify runs' },
    { key: 'o', id: 'both', label: 'Both', help: 'all jobs' },
    QUIT,
  ],
};

export const DAEMON_MENU: Menu = {
  id: 'daemon',
  title: 'Daemon',
  entries: [
    {
      key: 's',
      id: 'start',
      label: 'Start',
      help: 'run queued jobs in the background from now on',
      disabled: ({ daemon }) => (daemon === 'running' ? 'the daemon runs' : null),
    },
    {
      key: 'p',
      id: 'stop',
      label: 'Stop after its jobs',
      help: 'what runs is finished, nothing new starts',
      disabled: ({ daemon }) => (daemon === 'not running' ? 'no daemon runs' : null),
    },
    {
      key: 'n',
      id: 'stop-now',
      label: 'Stop now',
      help: 'end its running jobs and the daemon at once',
      disabled: ({ daemon }) => (daemon === 'not running' ? 'no daemon runs' : null),
    },
    LOG,
    QUIT,
  ],
};

export const STOP_MENU: Menu = {
  id: 'stop',
  title: 'Stop watching',
  entries: [
    { key: 'w', id: 'watch', label: 'Go on watching', help: 'back to the progress' },
    {
      key: 'l',
      id: 'leave',
      label: 'Leave it running',
      help: 'it goes on without the console; Background status shows it again',
    },
    { key: 'c', id: 'cancel', label: 'Cancel it', help: 'end it now; retry goes on where it was' },
  ],
};

/** Where no target is set up. */
export const FIRST_MENU: Menu = {
  id: 'first',
  title: 'Welcome to phd',
  entries: [
    {
      key: 's',
      id: 'set-up',
      label: 'Set up now: a target, a datastore, passphrases',
      help: 'a few questions make the configuration',
    },
    {
      key: 'd',
      id: 'demo',
      label: 'Open the demo farm',
      help: 'three small VMs in a temporary folder are backed up and restored; less than a minute',
    },
    { key: 'l', id: 'later', label: 'Later: to the main menu', help: 'nothing is written' },
  ],
};

/** After a target has failed its test. */
export const FIRST_TEST_MENU: Menu = {
  id: 'first-test',
  title: 'The target does not work yet',
  entries: [
    { key: 'c', id: 'change', label: 'Change what was answered', help: 'the same questions again' },
    { key: 't', id: 'test', label: 'Test again', help: 'once more as it is' },
    { key: 'k', id: 'keep', label: 'Keep it as it is', help: 'go on; it can be changed later' },
    { key: 'r', id: 'remove', label: 'Take it away again', help: 'out of the configuration' },
  ],
};

export const TRANSPORT_MENU: Menu = {
  id: 'transport',
  title: 'Where do the archives of this target lie?',
  entries: [
    { key: 'v', id: 'vmfs', label: 'Folder of this host', help: 'VMFS, NFS, any local folder' },
    { key: 'f', id: 'ftp', label: 'FTP server', help: 'FTP, with TLS if the server knows it' },
    { key: 's', id: 'ssh', label: 'SSH server', help: 'SFTP with a password or a key' },
    QUIT,
  ],
};

export const AUTHENTICATION_MENU: Menu = {
  id: 'authentication',
  title: 'How does the server know you?',
  entries: [
    { key: 'p', id: 'password', label: 'By a password', help: 'kept in a file of mode 0600' },
    { key: 'k', id: 'key', label: 'By a private key', help: 'a file of this host' },
    QUIT,
  ],
};

export const ALL_MENUS: readonly Menu[] = [
  MAIN_MENU,
  RESTORE_MENU,
  REPLICATION_MENU,
  SEARCH_MENU,
  FILTER_MENU,
  LOCATION_MENU,
  VMX_MENU,
  STUB_MENU,
  LOCKS_MENU,
  BACKUP_MENU,
  BACKUP_JOB_MENU,
  CONFIGURATION_MENU,
  TARGET_MENU,
  HOST_MENU,
  HOST_TYPE_MENU,
  ENCRYPTION_MENU,
  RESTORE_OPTIONS_MENU,
  BACKUP_DEFAULTS_MENU,
  LOOK_MENU,
  LOCK_KIND_MENU,
  DAEMON_MENU,
  STOP_MENU,
  FIRST_MENU,
  FIRST_TEST_MENU,
  TRANSPORT_MENU,
  AUTHENTICATION_MENU,
];
