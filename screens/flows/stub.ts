/** Stub: the descriptor that a flat lacks, made over a flat that is browsed to. */
import { STUB_MENU } from '../../menus/restore-menus.ts';
import { formatBytes } from '../../src/engine/display-text.ts';
import type { StubType } from '../../src/engine/restore-preview.ts';
import { fromErrno } from '../../src/errors.ts';
import type { Desk } from '../desk.ts';
import { ToMainMenu } from '../dialogue.ts';
import { pickFolder, pickVolume } from './restore/place.ts';
import { rowSource } from './restore/sources.ts';
import { tellFailure } from './tell-failure.ts';

export async function stub(desk: Desk): Promise<void> {
  const { listVolumes } = await import('../../src/engine/volumes.ts');
  const { config } = await desk.context();
  for (;;) {
    const volumes = await desk.dialogue.busy('Looking at the volumes', () => listVolumes(config.datastores));
    if (volumes === undefined) return;
    const volume = await pickVolume(desk, volumes);
    if (volume === undefined || volume === 'quit') return;
    const folder = await pickFolder(desk, volume, { verb: 'Flats in' });
    if (folder === 'quit') return;
    if (folder !== undefined && (await stubIn(desk, folder))) return;
  }
}

/** True when the person is through with stubs. */
async function stubIn(desk: Desk, folder: string): Promise<boolean> {
  const { flatsIn } = await import('../../src/engine/volumes.ts');
  for (;;) {
    const flats = await tellFailure(desk, 'This folder cannot be used', () => flatsIn(folder));
    if (flats === undefined) return false;
    const answer = await desk.dialogue.list({
      title: `Flats in ${folder}`,
      source: rowSource(
        flats,
        ({ name }) => name,
        ({ name }) => name,
      ),
      idOf: ({ name }) => name,
      columns: [
        { title: 'flat', columns: 0, text: ({ name }) => name },
        { title: 'size', columns: 8, align: 'right', text: ({ sizeBytes }) => formatBytes(sizeBytes) },
      ],
      empty: 'No flat (NAME-flat.vmdk) or raw image is here.',
    });
    if (answer === undefined) return false;
    if (answer.kind === 'quit') return true;
    if (answer.kind === 'row') await makeStub(desk, answer.row.path);
  }
}

async function makeStub(desk: Desk, flatPath: string): Promise<void> {
  const type = await desk.dialogue.menu(STUB_MENU, { lines: () => [flatPath] });
  if (type === 'abort') throw new ToMainMenu();
  if (type !== 'vmfs' && type !== 'monolithicFlat') return;
  const { writeStub } = await import('../../src/engine/restore-preview.ts');
  try {
    const made = await writeStub(flatPath, type satisfies StubType, null);
    await desk.dialogue.tell('Stub', [{ text: `${made} was made.`, mark: 'good' }]);
  } catch (error) {
    await desk.dialogue.tell('No stub was made', [
      { text: fromErrno(error, `cannot make a stub for ${flatPath}`).message, mark: 'bad' },
    ]);
  }
}
