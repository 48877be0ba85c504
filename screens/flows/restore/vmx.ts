/** VMX, NVRAM and logs of an archive into a folder; what is changed in the VMX is shown before it is written. */
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { VMX_MENU } from '../../../menus/restore-menus.ts';
import type { RestoreVmxRequest } from '../../../src/engine/restore-vmx.ts';
import type { ArchiveFile } from '../../../src/engine/vm-files.ts';
import { PhdError } from '../../../src/errors.ts';
import type { Line } from '../../dialogue.ts';
import type { Draft } from './draft.ts';

interface VmxGoal {
  /** `N:folder/file` */
  archive: string;
  folder: string;
  /** Disks that were restored there, with their names. */
  restored: { scsiId: string; name: string }[];
}

type Rewrite = NonNullable<RestoreVmxRequest['rewrite']>;

/** Path of the VMX that was written; undefined if none was wanted, one is there already, or it could not be. */
export async function placeVmx(draft: Draft, goal: VmxGoal): Promise<string | undefined> {
  const { dialogue } = draft.desk;
  try {
    const { archiveRef } = await import('../../../src/engine/choose-run.ts');
    const { readVmFiles, restoreVmx } = await import('../../../src/engine/restore-vmx.ts');
    const ref = await archiveRef(draft.context, goal.archive);
    const files = await dialogue.busy('Reading the VMX', (signal) =>
      readVmFiles(draft.context, ref, { signal }),
    );
    const name = files?.find(({ kind }) => kind === 'vmx')?.name;
    if (files === undefined || name === undefined) return undefined;
    const vmxPath = path.join(goal.folder, path.basename(name));
    const { existsSync } = await import('node:fs');
    if (existsSync(vmxPath)) {
      await dialogue.tell('VMX', [`${vmxPath} is there already and stays as it is.`]);
      return undefined;
    }
    const rewrite = await askRewrite(draft, goal, files);
    if (rewrite === 'none') return undefined;
    const request = { archive: ref, to: goal.folder, ...(rewrite && { rewrite }) };
    const placed = await dialogue.busy('Writing the VMX', (signal) =>
      restoreVmx(draft.context, request, { signal }),
    );
    if (placed === undefined) return undefined;
    await dialogue.tell('VMX, NVRAM and logs', [
      ...placed.written.map((file): Line => ({ text: `${file} restored`, mark: 'good' })),
      ...placed.failed.map(({ error }): Line => ({ text: error.message, mark: 'bad' })),
    ]);
    return placed.written.includes(vmxPath) ? vmxPath : undefined;
  } catch (error) {
    if (!(error instanceof PhdError)) throw error;
    await dialogue.tell('The VMX was not restored', [{ text: error.message, mark: 'bad' }]);
    return undefined;
  }
}

/** How the VMX is fitted to its place; undefined leaves it as it was. */
async function askRewrite(
  { desk }: Draft,
  goal: VmxGoal,
  files: readonly ArchiveFile[],
): Promise<Rewrite | undefined | 'none'> {
  let at = 'moved';
  for (;;) {
    const lines = () => [`VMX, NVRAM and logs go to ${goal.folder}`];
    const chosen = await desk.dialogue.menu(VMX_MENU, { at, lines });
    if (chosen === undefined || chosen === 'none') return 'none';
    if (chosen === 'unchanged') return undefined;
    at = chosen;
    const isCopy = chosen === 'copy';
    const { rewriteFor } = await import('../../../src/engine/restore-vmx.ts');
    const rewrite: Rewrite = {
      ...rewriteFor(files, goal.folder, {
        identity: isCopy ? 'new' : 'keep',
        disconnectNetwork: isCopy,
        restored: goal.restored,
      }),
      ...(isCopy && { newUuid: randomUUID().replaceAll('-', '') }),
    };
    if (await isRightSo(desk, files, rewrite, goal.folder)) return rewrite;
  }
}

async function isRightSo(
  desk: Draft['desk'],
  files: readonly ArchiveFile[],
  rewrite: Rewrite,
  folder: string,
): Promise<boolean> {
  const { changeLines, previewVmx } = await import('../../../src/engine/restore-vmx.ts');
  const changes = previewVmx(files, rewrite, folder)?.changes ?? [];
  const lines = changeLines(changes);
  if (lines.length > 0) {
    await desk.dialogue.read({
      title: `Changes of the VMX (${changes.length})`,
      lines: () => ['Lines with - go, lines with + come; Esc goes on to the question.', '', ...lines],
    });
  }
  return desk.dialogue.confirm({
    title: 'VMX',
    lines: [
      lines.length === 0 ? 'Nothing in it needs to be changed.' : `${changes.length} lines are changed.`,
      'The VMX as it was backed up is kept beside it as NAME.vmx.original.',
    ],
    question: 'Write it so?',
  });
}
