/** Menus around backups. */
import type { Menu, MenuEntry } from './menu.ts';

const QUIT: MenuEntry = { key: 'q', id: 'quit', label: 'Quit to last menu', help: 'back to the menu before' };

export interface BackupJobWords {
  /** How many backup jobs are configured. */
  jobs: number;
}

export function backupMenu({ jobs }: BackupJobWords): Menu {
  const needsJob = (): string | null => (jobs === 0 ? 'no backup job is in phd.yaml' : null);
  return {
    id: 'backup',
    title: 'Backup',
    entries: [
      {
        key: 'v',
        id: 'vm',
        label: 'Back up a VM',
        help: 'of a datastore or a host, now or in the background',
      },
      {
        key: 'j',
        id: 'jobs',
        label: 'Backup jobs',
        help: 'how the last run of each ended, and when the next is; run one',
        disabled: needsJob,
      },
      {
        key: 'p',
        id: 'preview',
        label: 'Preview',
        help: 'what the jobs would do, VM by VM, and which VMs none takes',
        disabled: needsJob,
      },
      { key: 's', id: 'status', label: 'Status', help: 'how daemon, jobs, targets and verification stand' },
      QUIT,
    ],
  };
}

export const BACKUP_JOB_MENU: Menu = {
  id: 'backup-job',
  title: 'Backup job',
  entries: [
    { key: 'd', id: 'delta', label: 'Run now', help: 'DELTAs, FULLs where there is none yet' },
    { key: 'f', id: 'full', label: 'Run now with FULLs', help: 'FULLs of all its VMs' },
    { key: 'l', id: 'last', label: 'Last run', help: 'what its last run said of each VM' },
    { key: 'p', id: 'preview', label: 'Preview', help: 'what it would do, VM by VM' },
    QUIT,
  ],
};

/** As the help and the printed keys show it. */
export const BACKUP_MENU: Menu = backupMenu({ jobs: 1 });
