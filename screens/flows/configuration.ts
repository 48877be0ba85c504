/** Configuration: targets, datastores, encryption, backups, restores, look. All of it stands in phd.yaml, comments are kept. */
import { CONFIGURATION_MENU } from '../../menus/tree.ts';
import type { Desk } from '../desk.ts';
import { tellFailure } from './tell-failure.ts';

export async function configuration(desk: Desk): Promise<void> {
  let at: string | undefined;
  for (;;) {
    const chosen = await desk.dialogue.menu(CONFIGURATION_MENU, at === undefined ? {} : { at });
    if (chosen === undefined || chosen === 'quit') return void keepCopies(desk);
    at = chosen;
    await tellFailure(desk, 'That did not work', async () => {
      if (chosen === 'targets') await (await import('./targets.ts')).targets(desk);
      if (chosen === 'hosts') await (await import('./hosts.ts')).hosts(desk);
      if (chosen === 'datastores') await (await import('./datastores.ts')).datastores(desk);
      if (chosen === 'encryption') await (await import('./encryption.ts')).encryption(desk);
      if (chosen === 'backup') await (await import('./backup-defaults.ts')).backupDefaults(desk);
      if (chosen === 'restore-options') await (await import('./restore-options.ts')).restoreOptions(desk);
      if (chosen === 'look') await (await import('./look.ts')).look(desk);
      if (chosen === 'sheet') await (await import('./safekeeping.ts')).sheet(desk);
      if (chosen === 'support-bundle') await (await import('./safekeeping.ts')).supportBundle(desk);
      if (chosen === 'adopt') await (await import('./safekeeping.ts')).takeOverConfiguration(desk);
      if (chosen === 'help') await (await import('./help.ts')).help(desk);
    });
  }
}

/** Targets get a copy of what has changed while the person goes on; one that does not take it is told. */
async function keepCopies(desk: Desk): Promise<void> {
  try {
    const { keepCopies: keep } = await import('../../src/safekeeping/copies.ts');
    const failed = (await keep(await desk.context(), desk.env)).find(({ error }) => error !== null);
    if (failed?.error) desk.dialogue.notice(failed.error.message, 'warning');
  } catch (error) {
    desk.dialogue.notice((error as Error).message, 'warning');
  }
}
