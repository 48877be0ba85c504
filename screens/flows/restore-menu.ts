/** The restore menu: lists are brought up to date when it is entered. */
import { RESTORE_MENU } from '../../menus/tree.ts';
import type { Desk } from '../desk.ts';
import { ToMainMenu } from '../dialogue.ts';
import { freshenIndex } from './reindex.ts';
import { tellFailure } from './tell-failure.ts';

type Flow = (desk: Desk) => Promise<void>;

const FLOWS: Record<string, () => Promise<Flow>> = {
  restore: async () => (await import('./restore/search.ts')).searchBy,
  vmx: async () => (await import('./vmx-only.ts')).vmxOnly,
  background: async () => (await import('./background.ts')).background,
  replication: async () => (await import('./replication.ts')).replication,
  locks: async () => (await import('./locks.ts')).locks,
  log: async () => (await import('./log.ts')).log,
  reindex: async () => (await import('./reindex.ts')).reindex,
  stub: async () => (await import('./stub.ts')).stub,
  help: async () => (await import('./help.ts')).help,
};

export async function restoreMenu(desk: Desk): Promise<void> {
  await freshenIndex(desk);
  let at: string | undefined;
  for (;;) {
    void desk.refreshState();
    const chosen = await desk.dialogue.menu(RESTORE_MENU, at === undefined ? {} : { at });
    if (chosen === undefined || chosen === 'quit') return;
    if (chosen === 'abort') throw new ToMainMenu();
    at = chosen;
    const load = FLOWS[chosen] as () => Promise<Flow>;
    await tellFailure(desk, 'That did not work', async () => (await load())(desk));
  }
}
