/** Where the disks go: the VM's path of now, the original one, or any folder of any volume. */
import path from 'node:path';
import { locationMenu } from '../../../menus/restore-menus.ts';
import { formatBytes } from '../../../src/engine/display-text.ts';
import type { VmLockState, Volume } from '../../../src/engine/volumes.ts';
import { fromErrno } from '../../../src/errors.ts';
import type { Desk } from '../../desk.ts';
import { type Line, ToMainMenu } from '../../dialogue.ts';
import type { Draft } from './draft.ts';
import { hostNames, pickHostVolume } from './onto-host.ts';
import { rowSource } from './sources.ts';
import type { StepEnd } from './steps.ts';

/** The folder that was last restored to, proposed in the next restore of this session. */
let lastFolder: string | null = null;

export async function pickPlace(draft: Draft): Promise<StepEnd> {
  const { desk, context } = draft;
  const { findVm, folderNameFault, listVolumes, vmLockState } = await import(
    '../../../src/engine/volumes.ts'
  );
  const { uuid, vm } = vmOf(draft);
  const found = await desk.dialogue.busy('Looking for the VM', async (signal, say) => {
    say('looking at the volumes');
    const volumes = await listVolumes(context.config.datastores);
    say('looking for the VM on the volumes');
    const folder = await findVm(volumes, uuid, context.hostName, signal);
    return { volumes, folder, lock: folder === null ? null : await vmLockState(folder).catch(asUnknown) };
  });
  if (found === undefined) return 'back';
  const { volumes, folder, lock } = found;
  // The name comes out of the archive: one that leads elsewhere is no folder.
  const isPlain = folderNameFault(vm) === undefined;
  const original = isPlain ? await originalFolder(volumes, vm) : null;
  const menu = locationMenu({
    current: folder,
    original: original ?? (isPlain ? `a folder ${vm} on a volume` : null),
    last: lastFolder,
    hosts: draft.by === 'vmx' ? null : hostNames(draft),
  });
  const lines = (): Line[] =>
    lock === null
      ? [`VM ${vm} is on no volume of the datastores now.`]
      : [`VM ${vm} is in ${folder} now.`, stateLine(lock)];
  let at = folder === null ? 'original' : 'current';
  for (;;) {
    const chosen = await desk.dialogue.menu(menu, { at, lines });
    if (chosen === undefined || chosen === 'back') return 'back';
    if (chosen === 'quit') return 'quit';
    if (chosen === 'abort') throw new ToMainMenu();
    at = chosen;
    if (chosen === 'host' && draft.disks.some(({ checked }) => !checked.isProvable)) {
      await desk.dialogue.tell('Not onto a host', [
        'An archive without digests cannot be proved there: restore it into a folder.',
      ]);
      continue;
    }
    if (chosen === 'host') {
      const onHost = await pickHostVolume(draft);
      if (onHost === 'quit') return 'quit';
      if (onHost === undefined) continue;
      draft.onHost = onHost;
      return 'next';
    }
    const picked = await folderFor(desk, chosen, { folder, original, vm: isPlain ? vm : '', volumes });
    if (picked === 'quit') return 'quit';
    if (picked === undefined) continue;
    draft.folder = picked;
    draft.onHost = undefined;
    lastFolder = picked;
    return 'next';
  }
}

function asUnknown(error: unknown): VmLockState {
  return { state: 'unknown', words: `cannot be known: ${fromErrno(error, 'its files').message}` };
}

/** The lock state of the VM where it lies now, in words. */
function stateLine({ state, words }: VmLockState): Line {
  if (state === 'in use') return { text: `It runs or is in use: ${words}.`, mark: 'bad' };
  if (state === 'unknown') return { text: `Whether it is off ${words}.`, mark: 'warning' };
  return { text: `It is ${words}.`, mark: 'good' };
}

function vmOf(draft: Draft): { uuid: string; vm: string } {
  const [first] = draft.disks;
  return { uuid: first?.checked.uuid ?? '', vm: first?.checked.vm ?? '' };
}

interface Found {
  folder: string | null;
  original: string | null;
  /** Empty if it is the name of no folder. */
  vm: string;
  volumes: readonly Volume[];
}

async function folderFor(desk: Desk, chosen: string, found: Found): Promise<string | 'quit' | undefined> {
  if (chosen === 'current') return found.folder ?? undefined;
  if (chosen === 'original' && found.original !== null) return found.original;
  const volume = await pickVolume(desk, found.volumes);
  if (volume === undefined || volume === 'quit') return volume;
  if (chosen === 'original' && found.vm !== '') return path.join(volume, found.vm);
  return pickFolder(desk, volume, { proposed: found.vm, verb: 'Restore into' });
}

/** The archive names the folder, not its volume: one that has such a folder, or the only one. */
async function originalFolder(volumes: readonly Volume[], vm: string): Promise<string | null> {
  const { subFolders } = await import('../../../src/engine/volumes.ts');
  for (const { path } of volumes) {
    const folders = await subFolders(path).catch(() => []);
    if (folders.some(({ name }) => name === vm)) return `${path}/${vm}`;
  }
  const [only] = volumes;
  return volumes.length === 1 && only?.fault === null ? `${only.path}/${vm}` : null;
}

/** Volumes of the datastores, with their room; any other folder may be typed. */
export async function pickVolume(
  desk: Desk,
  volumes: readonly Volume[],
): Promise<string | 'quit' | undefined> {
  for (;;) {
    const answer = await desk.dialogue.list({
      title: 'Volume',
      source: rowSource(
        volumes,
        ({ path }) => path,
        ({ path }) => path,
      ),
      idOf: ({ path }) => path,
      columns: [
        { title: 'volume', columns: 0, text: ({ path }) => path },
        { title: 'free', columns: 8, align: 'right', text: ({ freeBytes }) => sizeText(freeBytes) },
        { title: 'of', columns: 8, align: 'right', text: ({ totalBytes }) => sizeText(totalBytes) },
      ],
      markOf: ({ fault }) => (fault === null ? 'plain' : 'bad'),
      actions: [{ key: 't', id: 'type', footer: 'type a path', help: 'type the path of any folder' }],
      empty: 'No datastore is set up: T takes any path.',
    });
    if (answer === undefined) return undefined;
    if (answer.kind === 'quit') return 'quit';
    if (answer.kind === 'action') {
      const typed = await typeFolder(desk);
      if (typed !== undefined) return typed;
    } else if (answer.row.fault === null) return answer.row.path;
    else await desk.dialogue.tell('This volume cannot be used', [{ text: answer.row.fault, mark: 'bad' }]);
  }
}

function sizeText(bytes: number | null): string {
  return bytes === null ? '?' : formatBytes(bytes);
}

async function typeFolder(desk: Desk): Promise<string | undefined> {
  const typed = await desk.dialogue.ask({
    title: 'Path',
    question: 'Folder to begin in, from / on:',
    preset: lastFolder ?? '/',
    fault: (text) => (text.startsWith('/') ? undefined : 'a path begins with /'),
  });
  return typed === undefined ? undefined : path.resolve(typed);
}

interface FolderWish {
  /** Name that a new folder is given first; undefined: none can be made. */
  proposed?: string;
  /** What taking a folder does: `Restore into`. */
  verb: string;
}

/** Walks through folders: Enter goes in, the first entry takes the folder that is shown. */
export async function pickFolder(
  desk: Desk,
  volume: string,
  wish: FolderWish,
): Promise<string | 'quit' | undefined> {
  const { subFolders } = await import('../../../src/engine/volumes.ts');
  let here = volume;
  let at: string | undefined;
  for (;;) {
    const folders = await desk.dialogue
      .busy(here, () => subFolders(here))
      .catch(async (error: unknown) => {
        await desk.dialogue.tell('This folder cannot be used', [
          { text: fromErrno(error, `cannot list ${here}`).message, mark: 'bad' },
          ...(wish.proposed === undefined ? [] : ['Begin at one that is there: N makes a new folder in it.']),
        ]);
        return undefined;
      });
    if (folders === undefined) return undefined;
    const answer = await desk.dialogue.list({
      title: `Folder on ${here}`,
      source: rowSource(
        folders,
        ({ name }) => name,
        ({ name }) => name,
      ),
      idOf: ({ name }) => name,
      columns: [
        { title: 'folder', columns: 0, text: ({ name }) => name },
        { title: '', columns: 14, text: ({ holdsVm }) => (holdsVm ? 'holds a VM' : '') },
      ],
      heads: [
        { key: 's', id: 'take', label: `${wish.verb} ${here}` },
        ...(wish.proposed === undefined ? [] : [{ key: 'n', id: 'new', label: 'Make new folder' }]),
      ],
      empty: 'No folders here.',
      at: at ?? (folders.some(({ name }) => name === wish.proposed) ? wish.proposed : 'take'),
    });
    if (answer?.kind === 'quit') return 'quit';
    if (answer === undefined) {
      if (here === volume) return undefined;
      at = here.slice(here.lastIndexOf('/') + 1);
      here = here.slice(0, here.lastIndexOf('/')) || '/';
    } else if (answer.kind === 'row') {
      here = answer.row.path;
      at = 'take';
    } else if (answer.id === 'take') return here;
    else at = (await makeNewFolder(desk, here, wish.proposed ?? '')) ?? 'new';
  }
}

/** Name, confirmation, made; then it is shown selected. */
async function makeNewFolder(desk: Desk, here: string, proposed: string): Promise<string | undefined> {
  const { folderNameFault, makeFolder } = await import('../../../src/engine/volumes.ts');
  const name = await desk.dialogue.ask({
    title: 'Make new folder',
    question: `Name of the new folder on ${here}:`,
    preset: proposed,
    fault: folderNameFault,
  });
  if (name === undefined) return undefined;
  const isWanted = await desk.dialogue.confirm({
    title: 'Make new folder',
    lines: [`${here}/${name}`],
    question: 'Make this folder?',
  });
  if (!isWanted) return undefined;
  try {
    const made = await makeFolder(here, name);
    desk.dialogue.notice(`${made} was made`, 'good');
    return name;
  } catch (error) {
    await desk.dialogue.tell('No folder was made', [
      { text: fromErrno(error, `cannot make ${here}/${name}`).message, mark: 'bad' },
    ]);
    return undefined;
  }
}
