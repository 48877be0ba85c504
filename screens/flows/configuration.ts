/** Configuration: targets, datastores, encryption, backups, jobs, look. All of it stands in phd.yaml, comments are kept. */
import { CONFIGURATION_MENU } from '../../menus/tree.ts';
import type { Desk } from '../desk.ts';
import { tellFailure } from './tell-failure.ts';

const MOST_AT_ONCE = 4;

export async function configuration(desk: Desk): Promise<void> {
  let at: string | undefined;
  for (;;) {
    const chosen = await desk.dialogue.menu(CONFIGURATION_MENU, at === undefined ? {} : { at });
    if (chosen === undefined || chosen === 'quit') return;
    at = chosen;
    await tellFailure(desk, 'That did not work', async () => {
      if (chosen === 'targets') await (await import('./targets.ts')).targets(desk);
      if (chosen === 'hosts') await (await import('./hosts.ts')).hosts(desk);
      if (chosen === 'datastores') await (await import('./datastores.ts')).datastores(desk);
      if (chosen === 'encryption') await (await import('./encryption.ts')).encryption(desk);
      if (chosen === 'backup') await (await import('./backup-defaults.ts')).backupDefaults(desk);
      if (chosen === 'jobs') await askJobsAtOnce(desk);
      if (chosen === 'look') await (await import('./look.ts')).look(desk);
      if (chosen === 'help') await (await import('./help.ts')).help(desk);
    });
  }
}

async function askJobsAtOnce(desk: Desk): Promise<void> {
  const { config } = await desk.context();
  const { setSetting } = await import('../../src/engine/configuration.ts');
  const text = await desk.dialogue.ask({
    title: 'Jobs at once',
    lines: [
      'Each job uses all processors already. Two help where targets are slow; more than two',
      'make disks and lines wait for one another, and every single restore ends later.',
    ],
    question: `How many jobs may the daemon run at the same time, 1 to ${MOST_AT_ONCE}?`,
    preset: String(config.jobs.atOnce),
    fault: (typed) => (/^[1-4]$/.test(typed.trim()) ? undefined : `a number from 1 to ${MOST_AT_ONCE}`),
  });
  if (text === undefined) return;
  await setSetting((await desk.queue()).places, 'jobs.atOnce', text.trim());
  await desk.forgetContext();
  desk.dialogue.notice('Kept; a daemon that runs goes by it at once.');
}
