/** The main menu: every flow begins here and comes back here. */
import { MAIN_MENU } from '../../menus/tree.ts';
import { fromErrno } from '../../src/errors.ts';
import type { Desk } from '../desk.ts';
import { EndOfInput, type Line, ToMainMenu } from '../dialogue.ts';

type Flow = (desk: Desk) => Promise<void>;

/** What each entry does; loaded when it is first chosen. */
const FLOWS: Record<string, () => Promise<Flow>> = {
  background: async () => (await import('./background.ts')).background,
  daemon: async () => (await import('./daemon.ts')).daemon,
  locks: async () => (await import('./locks.ts')).locks,
  restore: async () => (await import('./restore-menu.ts')).restoreMenu,
  backup: async () => (await import('./backup-menu.ts')).backupMenu,
  configuration: async () => (await import('./configuration.ts')).configuration,
  log: async () => (await import('./log.ts')).log,
  help: async () => (await import('./help.ts')).help,
};

/** Runs until the person quits, or nobody can answer any more. */
export async function mainMenu(desk: Desk): Promise<void> {
  let at: string | undefined;
  let isFirst = true;
  for (;;) {
    try {
      if (isFirst) {
        isFirst = false;
        await runFlow(desk, async () => await guideIfNeeded(desk));
      }
      void desk.refreshState();
      const chosen = await desk.dialogue.menu(MAIN_MENU, { at, lines: () => faultLines(desk) });
      if (chosen !== undefined && chosen !== 'quit') {
        at = chosen;
        await desk.heedChangedConfig();
        await runFlow(desk, FLOWS[chosen] as () => Promise<Flow>);
      } else if (await mayQuit(desk)) return;
    } catch (error) {
      if (error instanceof EndOfInput) return;
      if (!(error instanceof ToMainMenu)) throw error;
    }
  }
}

/** What cannot be read is said for as long as that lasts, not until the next key. */
function faultLines({ state }: Desk): Line[] {
  return state.fault === null ? [] : [{ text: state.fault, mark: 'bad' }];
}

/** The guide of the first start, loaded only where no target is configured. */
async function guideIfNeeded(desk: Desk): Promise<Flow> {
  const { findConfiguration } = await import('../../src/engine/first-configuration.ts');
  const { hasTargets } = await findConfiguration(desk.env);
  return hasTargets ? async () => undefined : (await import('./first-start.ts')).firstStart;
}

/** One flow: what it throws becomes a message, and the console goes on. */
export async function runFlow(desk: Desk, load: () => Promise<Flow>): Promise<void> {
  try {
    const flow = await load();
    await flow(desk);
  } catch (error) {
    if (error instanceof EndOfInput) throw error;
    if (error instanceof ToMainMenu) return;
    const failure = fromErrno(error, 'fault in the program');
    await desk.dialogue
      .tell('That did not work', [{ text: failure.message, mark: 'bad' }])
      .catch(() => undefined);
  }
}

async function mayQuit(desk: Desk): Promise<boolean> {
  const running = desk.state.jobs?.running ?? 0;
  if (running === 0) return true;
  return desk.dialogue.confirm({
    title: 'Quit',
    lines: [`${running} job${running === 1 ? '' : 's'} running: they go on without the console.`],
    question: 'Quit the console?',
  });
}
