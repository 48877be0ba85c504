/** What backups do unless told otherwise: target, codec, and what when a FULL is gone. */
import { backupDefaultsMenu } from '../../menus/configuration-menus.ts';
import type { Desk } from '../desk.ts';
import { rowSource } from './restore/sources.ts';
import { tellFailure } from './tell-failure.ts';

const CODECS: readonly string[] = ['gzip', 'zstd', 'lzop'];

export async function backupDefaults(desk: Desk): Promise<void> {
  let at: string | undefined;
  for (;;) {
    const { backup, targets } = (await desk.context()).config;
    const target = targets.find(({ number }) => number === backup.target);
    const menu = backupDefaultsMenu({
      target: target === undefined ? 'the lowest that may be written' : `${target.number} ${target.name}`,
      codec: backup.codec,
      fullOffline: backup.fullOffline === 'allowed' ? 'go on with DELTAs' : 'make a new FULL',
    });
    const chosen = await desk.dialogue.menu(menu, at === undefined ? {} : { at });
    if (chosen === undefined || chosen === 'quit') return;
    at = chosen;
    await tellFailure(desk, 'Not kept', async () => {
      if (chosen === 'target') await pickTarget(desk);
      if (chosen === 'codec')
        await keep(desk, 'codec', CODECS[(CODECS.indexOf(backup.codec) + 1) % 3] ?? 'gzip');
      if (chosen === 'full-offline') {
        await keep(desk, 'fullOffline', backup.fullOffline === 'allowed' ? 'refused' : 'allowed');
      }
    });
  }
}

async function keep(desk: Desk, key: string, value: string): Promise<void> {
  const { setSetting } = await import('../../src/engine/configuration.ts');
  await setSetting((await desk.queue()).places, `backup.${key}`, value);
  await desk.forgetContext();
}

async function pickTarget(desk: Desk): Promise<void> {
  const { targets } = (await desk.context()).config;
  const writable = targets.filter(({ readOnly }) => !readOnly);
  const answer = await desk.dialogue.list({
    title: 'Back up to which target',
    source: rowSource(writable, ({ number }) => String(number)),
    idOf: ({ number }) => String(number),
    columns: [
      { title: 'Target', columns: 6, align: 'right', text: ({ number }) => String(number) },
      { title: 'Name', columns: 0, text: ({ name }) => name },
    ],
    empty: 'Every target is read only.',
  });
  if (answer?.kind === 'row') await keep(desk, 'target', String(answer.row.number));
}
