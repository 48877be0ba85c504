/** Without a configuration: a short guide makes one, or opens the demo. */
import { spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import { FIRST_MENU, FIRST_TEST_MENU } from '../../menus/tree.ts';
import { findConfiguration } from '../../src/engine/first-configuration.ts';
import { fromErrno } from '../../src/errors.ts';
import { makeFolderSync } from '../../src/make-folder.ts';
import type { Desk } from '../desk.ts';
import { askTwice } from './new-passphrase.ts';
import { askTarget, NEW_TARGET, settingsOf, showTargetTest, type TargetAnswers } from './target-questions.ts';

/** Where VMs lie on the hosts that phd began on. */
const USUAL_DATASTORE = '/vmfs/volumes';

/** Asked where no target is configured; returns when there is one or the person wants the main menu. */
export async function firstStart(desk: Desk): Promise<void> {
  const { file } = await findConfiguration(desk.env);
  for (;;) {
    const chosen = await desk.dialogue.menu(FIRST_MENU, {
      lines: () => [`No target is set up yet (${file}).`],
    });
    if (chosen === 'demo') await openDemo(desk);
    else if (chosen !== 'set-up') {
      desk.state = { ...desk.state, targetCount: 0 };
      return;
    } else if (await setUp(desk)) return;
  }
}

/** True when a target stands in the configuration. */
async function setUp(desk: Desk): Promise<boolean> {
  // A home that went away meanwhile would be made anew by halves.
  (await desk.queue()).requirePresent();
  const answers = { ...NEW_TARGET };
  if (!(await askTarget(desk, answers, new Set()))) return false;
  await offerFolder(desk, answers);
  const { places } = await desk.queue();
  const { beginConfiguration } = await import('../../src/engine/configuration.ts');
  const file = await beginConfiguration(places, await settingsOf(desk, answers));
  await desk.forgetContext();
  desk.dialogue.notice(`written to ${file}`);
  if (!(await testUntilContent(desk, answers))) return false;
  const { offerAdoption } = await import('./adoption.ts');
  if (!(await offerAdoption(desk, answers.number))) {
    await askDatastore(desk);
    await askPassphrases(desk);
  }
  await desk.forgetContext();
  await desk.context();
  await desk.dialogue.tell('Set up', [
    `All of it stands in ${file}, with comments; C Configuration changes it.`,
    'K Backup makes the first backup, E Restore brings one back.',
  ]);
  return true;
}

/** Tests the target and changes it until it works or the person keeps it; false if it was taken away again. */
async function testUntilContent(desk: Desk, answers: TargetAnswers): Promise<boolean> {
  let number = answers.number;
  const { editTarget, removeTarget, addTarget } = await import('../../src/engine/configuration.ts');
  const { places } = await desk.queue();
  if (await showTargetTest(desk, number)) return true;
  for (;;) {
    const chosen = await desk.dialogue.menu(FIRST_TEST_MENU);
    if (chosen === undefined || chosen === 'keep') return true;
    if (chosen === 'remove') {
      await removeTarget(places, number);
      await desk.forgetContext();
      return false;
    }
    if (chosen === 'change' && (await askTarget(desk, answers, new Set()))) {
      await offerFolder(desk, answers);
      const settings = await settingsOf(desk, answers);
      if (answers.number === number) await editTarget(places, number, settings);
      else {
        await removeTarget(places, number);
        await addTarget(places, settings);
        number = answers.number;
      }
      await desk.forgetContext();
    } else if (chosen === 'change') continue;
    if (await showTargetTest(desk, number)) return true;
  }
}

/** A folder of this host that is not there yet can be made at once. */
async function offerFolder(desk: Desk, { transport, path }: TargetAnswers): Promise<void> {
  if (transport !== 'vmfs' || statSync(path, { throwIfNoEntry: false }) !== undefined) return;
  const isWanted = await desk.dialogue.confirm({
    title: 'Target',
    lines: [`${path} is not there.`],
    question: 'Make this folder?',
  });
  if (!isWanted) return;
  try {
    makeFolderSync(path);
  } catch (error) {
    throw fromErrno(error, `cannot make ${path}`);
  }
}

async function askDatastore(desk: Desk): Promise<void> {
  const folder = await desk.dialogue.ask({
    title: 'Datastore',
    question: 'Folder in which virtual disks live (empty: none on this host)',
    lines: ['Restores offer it as their goal; each folder in it is a volume.'],
    preset: isFolder(USUAL_DATASTORE) ? USUAL_DATASTORE : '',
    fault: (text) =>
      text === '' || isFolder(text) ? undefined : `${text} is no folder of this host: give its whole path`,
  });
  if (!folder) return;
  const { setSetting } = await import('../../src/engine/configuration.ts');
  await setSetting((await desk.queue()).places, 'datastores', `[ ${JSON.stringify(folder)} ]`);
}

function isFolder(path: string): boolean {
  return path.startsWith('/') && (statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false);
}

async function askPassphrases(desk: Desk): Promise<void> {
  const isWanted = await desk.dialogue.confirm({
    title: 'Encryption',
    lines: [
      'Archives can be encrypted with a system passphrase, and a master passphrase for the day it is lost.',
      'Without a passphrase an encrypted archive is lost: keep them in a second place.',
    ],
    question: 'Encrypt backups?',
    preset: false,
  });
  if (!isWanted) return;
  const { setPassphrase, setSetting } = await import('../../src/engine/configuration.ts');
  const { places } = await desk.queue();
  const system = await askTwice(desk, 'System passphrase', false);
  if (system === undefined) return;
  await setPassphrase(places, 'system', system);
  await setSetting(places, 'backup.encrypt', 'true');
  const master = await askTwice(desk, 'Master passphrase (empty: none)', true);
  if (master) await setPassphrase(places, 'master', master);
}

/** The demo in a process of its own: it has a home and, on a terminal, a console of its own. */
async function openDemo(desk: Desk): Promise<void> {
  const [program = '', ...words] = process.argv.slice(1);
  await desk.dialogue.lend(
    () =>
      new Promise<void>((resolve, reject) => {
        const child = spawn(process.execPath, [...process.execArgv, program, ...words, 'demo'], {
          stdio: 'inherit',
          env: desk.env,
        });
        child.once('error', reject);
        child.once('exit', () => resolve());
      }),
  );
}
