/** VMX restore: only VMX, NVRAM and logs of a VM. */
import type { Desk } from '../desk.ts';
import { register } from './restore/after.ts';
import { takeArchives } from './restore/check.ts';
import { type Draft, newDraft } from './restore/draft.ts';
import { pickArchive } from './restore/pick-archive.ts';
import { pickDay } from './restore/pick-day.ts';
import { pickVm } from './restore/pick-name.ts';
import { pickPlace } from './restore/place.ts';
import { runSteps, type StepEnd } from './restore/steps.ts';
import { placeVmx } from './restore/vmx.ts';

export async function vmxOnly(desk: Desk): Promise<void> {
  await runSteps(await newDraft(desk, 'vmx'), [pickVm, pickDay, pickArchive, takeArchives, pickPlace, place]);
}

async function place(draft: Draft): Promise<StepEnd> {
  const [first] = draft.disks;
  if (first === undefined) return 'back';
  if (!first.checked.carriesVmx) {
    await draft.desk.dialogue.tell('No VMX', [`${first.checked.archive} carries no VMX.`]);
    return 'back';
  }
  const goal = { archive: first.checked.archive, folder: draft.folder ?? '', restored: [] };
  const vmxPath = await placeVmx(draft, goal);
  if (vmxPath === undefined) return 'back';
  await register(draft.desk, vmxPath);
  return 'next';
}
