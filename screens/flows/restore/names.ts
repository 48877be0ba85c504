/** Name of the restored disk, or of the VM on a host. Several disks keep theirs. */
import type { Draft, DraftDisk } from './draft.ts';
import { nameVm } from './onto-host.ts';
import type { StepEnd } from './steps.ts';

export async function nameDisk(draft: Draft): Promise<StepEnd> {
  const { desk, disks, folder, onHost } = draft;
  if (onHost !== undefined) return await nameVm(draft, onHost);
  if (disks.length > 1) return 'skip';
  const disk = disks[0] as DraftDisk;
  const { diskNameFault } = await import('../../../src/engine/restore-preview.ts');
  const name = await desk.dialogue.ask({
    title: 'Name of the disk',
    lines: [`In ${folder}`],
    question: 'Restore to this name:',
    preset: disk.name,
    fault: diskNameFault,
  });
  if (name === undefined) return 'back';
  disk.name = name;
  return 'next';
}
