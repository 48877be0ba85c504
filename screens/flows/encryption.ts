/** Passphrases of the archives, and whether backups are encrypted. No passphrase is ever shown. */
import { encryptionMenu } from '../../menus/configuration-menus.ts';
import { PhdError } from '../../src/errors.ts';
import type { Desk } from '../desk.ts';
import { askTwice } from './new-passphrase.ts';
import { tellFailure } from './tell-failure.ts';

type Kind = 'system' | 'master';

export async function encryption(desk: Desk): Promise<void> {
  let at: string | undefined;
  for (;;) {
    const { config } = await desk.context();
    const hasSystem = config.encryption.system !== null;
    const isOn = config.backup.encrypt;
    const menu = encryptionMenu({ hasSystem, hasMaster: config.encryption.master !== null, isOn });
    const chosen = await desk.dialogue.menu(menu, at === undefined ? {} : { at });
    if (chosen === undefined || chosen === 'quit') return;
    at = chosen;
    await tellFailure(desk, 'That did not work', async () => {
      if (chosen === 'system' || chosen === 'master') await setPassphrase(desk, chosen);
      if (chosen === 'test') await testTyped(desk);
      if (chosen === 'archives')
        await (await import('./opening-passphrases.ts')).showOpeningPassphrases(desk);
      if (chosen === 'encrypt') await turnEncryption(desk, isOn);
    });
  }
}

async function setPassphrase(desk: Desk, kind: Kind): Promise<void> {
  const passphrase = await askTwice(desk, `New ${kind} passphrase`, false);
  if (passphrase === undefined) return;
  const engine = await import('../../src/engine/configuration.ts');
  const file = await engine.setPassphrase((await desk.queue()).places, kind, passphrase);
  await desk.forgetContext();
  await desk.dialogue.tell('Kept', [
    `The ${kind} passphrase stands in ${file}, which only you can read.`,
    'Without it an encrypted archive is lost: write it down in a second place.',
  ]);
}

async function testTyped(desk: Desk): Promise<void> {
  const typed = await desk.dialogue.ask({
    title: 'Encryption',
    question: 'Passphrase to test',
    isSecret: true,
  });
  if (typed === undefined) return;
  const { testPassphrase } = await import('../../src/engine/configuration.ts');
  const { places } = await desk.queue();
  const { encryption: known } = (await desk.context()).config;
  const right: Kind[] = [];
  for (const kind of ['system', 'master'] as const) {
    if (known[kind] === null) continue;
    await testPassphrase(places, desk.env, kind, typed).then(
      () => right.push(kind),
      (error: unknown) => {
        if (!(error instanceof PhdError) || error.code !== 'PASSPHRASE_WRONG') throw error;
      },
    );
  }
  if (right.length === 0)
    throw new PhdError('PASSPHRASE_WRONG', 'this is neither the system nor the master passphrase in use');
  await desk.dialogue.tell('Right', [`This is the ${right.join(' and the ')} passphrase in use.`]);
}

async function turnEncryption(desk: Desk, isOn: boolean): Promise<void> {
  const { setSetting } = await import('../../src/engine/configuration.ts');
  await setSetting((await desk.queue()).places, 'backup.encrypt', String(!isOn));
  await desk.forgetContext();
}
