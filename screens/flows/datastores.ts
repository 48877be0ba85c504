/** Datastores: folders in which virtual disks live. Taking one out of the list touches nothing in it. */
import { statSync } from 'node:fs';
import type { Desk } from '../desk.ts';
import { rowSource } from './restore/sources.ts';
import { tellFailure } from './tell-failure.ts';

export async function datastores(desk: Desk): Promise<void> {
  for (;;) {
    const { datastores: known } = (await desk.context()).config;
    const answer = await desk.dialogue.list<string>({
      title: 'Datastores',
      source: rowSource(known, (path) => path),
      idOf: (path) => path,
      columns: [
        { title: 'Folder', columns: 0, text: (path) => path },
        { title: '', columns: 12, text: (path) => (isFolder(path) ? '' : 'not there') },
      ],
      markOf: (path) => (isFolder(path) ? 'plain' : 'bad'),
      actions: [
        { key: 'n', id: 'new', footer: 'new', help: 'add a folder' },
        { key: 'x', id: 'remove', footer: 'remove', help: 'take the folder of the marker out of the list' },
      ],
      empty: 'No datastore is set up: N adds one.',
    });
    if (answer === undefined || answer.kind === 'quit') return;
    await tellFailure(desk, 'Not kept', async () => {
      if (answer.kind === 'action' && answer.id === 'new') await add(desk, known);
      else if (answer.row !== undefined) await remove(desk, known, answer.row);
    });
  }
}

async function add(desk: Desk, known: readonly string[]): Promise<void> {
  const folder = await desk.dialogue.ask({
    title: 'Datastore',
    question: 'Folder in which virtual disks live',
    lines: ['Restores offer it as their goal; each folder in it is a volume.'],
    fault: (text) => {
      if (known.includes(text)) return 'it is in the list';
      return isFolder(text) ? undefined : `${text} is no folder of this host: give its whole path`;
    },
  });
  if (folder !== undefined) await keep(desk, [...known, folder]);
}

async function remove(desk: Desk, known: readonly string[], folder: string): Promise<void> {
  const isSure = await desk.dialogue.confirm({
    title: 'Remove',
    lines: [`${folder} leaves the list. Nothing in it is touched.`],
    question: 'Take it out of the list?',
    isDestructive: true,
  });
  if (isSure)
    await keep(
      desk,
      known.filter((one) => one !== folder),
    );
}

async function keep(desk: Desk, folders: readonly string[]): Promise<void> {
  const { setSetting } = await import('../../src/engine/configuration.ts');
  await setSetting((await desk.queue()).places, 'datastores', JSON.stringify(folders));
  await desk.forgetContext();
}

function isFolder(path: string): boolean {
  return path.startsWith('/') && (statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false);
}
