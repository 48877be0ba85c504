/** Search by: where a restore begins. */
import { SEARCH_MENU } from '../../../menus/tree.ts';
import type { Desk } from '../../desk.ts';
import { ToMainMenu } from '../../dialogue.ts';
import { tellFailure } from '../tell-failure.ts';
import { chooseFulls, takeArchives } from './check.ts';
import { newDraft, type SearchBy } from './draft.ts';
import { confirmRestore } from './final.ts';
import { nameDisk } from './names.ts';
import { pickArchive } from './pick-archive.ts';
import { pickDay } from './pick-day.ts';
import { pickDisk, pickVm } from './pick-name.ts';
import { pickPlace } from './place.ts';
import { runSteps } from './steps.ts';

export async function searchBy(desk: Desk): Promise<void> {
  let at: string | undefined;
  for (;;) {
    const chosen = await desk.dialogue.menu(SEARCH_MENU, at === undefined ? {} : { at });
    if (chosen === undefined || chosen === 'quit') return;
    if (chosen === 'abort') throw new ToMainMenu();
    at = chosen;
    await tellFailure(desk, 'That did not work', () => begin(desk, chosen));
  }
}

async function begin(desk: Desk, chosen: string): Promise<void> {
  if (chosen === 'vm' || chosen === 'disk') await restoreBy(desk, chosen);
  if (chosen === 'vmx') await (await import('../vmx-only.ts')).vmxOnly(desk);
  if (chosen === 'plans') await (await import('../plan/plan.ts')).plans(desk);
  if (chosen === 'stub') await (await import('../stub.ts')).stub(desk);
  if (chosen === 'background') await (await import('../background.ts')).background(desk);
}

async function restoreBy(desk: Desk, by: SearchBy): Promise<void> {
  const draft = await newDraft(desk, by);
  await runSteps(draft, [
    by === 'vm' ? pickVm : pickDisk,
    pickDay,
    pickArchive,
    takeArchives,
    chooseFulls,
    pickPlace,
    nameDisk,
    confirmRestore,
  ]);
}
