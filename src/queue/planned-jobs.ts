/** A restore plan as requests: one for each disk, in the plan's order, the VMX with the first disk of its VM. */
import { randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { archiveRef } from '../engine/choose-run.ts';
import type { EngineContext } from '../engine/context.ts';
import type { PlannedVm } from '../engine/planned-restore.ts';
import type { RestorePlan } from '../engine/restore-plan.ts';
import { changeLines, previewVmx, readVmFiles, rewriteFor, type VmxFit } from '../engine/restore-vmx.ts';
import { PhdError } from '../errors.ts';
import { type DiskRestore, goalOfRestore } from './request.ts';

/** One VM that is to be restored, with its run. */
export interface PlannedEntry {
  vm: string;
  /** Folder that its disks go to. */
  to: string;
  planned: PlannedVm;
  /** `undefined`: no VMX; `null`: as it was backed up; else fitted. */
  vmx?: VmxFit | null;
}

/** Says for each VM whether and how its VMX is restored; returns folders whose VMX is there already and stays. */
export function chooseVmx(entries: readonly PlannedEntry[], vmx: RestorePlan['vmx']): string[] {
  const staying: string[] = [];
  if (vmx === 'none') return staying;
  for (const entry of entries) {
    if (!(entry.planned.disks[0]?.checked.carriesVmx ?? false)) continue;
    if (holdsVmx(entry.to)) staying.push(entry.to);
    else entry.vmx = vmx === 'unchanged' ? null : fitOf(entry, vmx === 'copy');
  }
  return staying;
}

function holdsVmx(folder: string): boolean {
  try {
    return readdirSync(folder).some((name) => /\.vmx$/i.test(name));
  } catch {
    // A folder that cannot be listed is told by the restore itself.
    return false;
  }
}

/** The UUID of a copy is chosen now, so that what is shown is what is written. */
function fitOf({ planned }: PlannedEntry, isCopy: boolean): VmxFit {
  return {
    identity: isCopy ? 'new' : 'keep',
    disconnectNetwork: isCopy,
    ...(isCopy && { newUuid: randomUUID().replaceAll('-', '') }),
    restored: planned.disks.map(({ checked, name }) => ({ scsiId: checked.scsiId, name })),
  };
}

/** Every line that changes in the VMX of each VM; none if no VMX is fitted. Throws what reading the archives throws. */
export async function vmxChanges(
  context: EngineContext,
  entries: readonly PlannedEntry[],
  signal: AbortSignal,
  say: (text: string) => void = () => undefined,
): Promise<string[]> {
  const lines: string[] = [];
  for (const { vm, to, planned, vmx } of entries) {
    if (!vmx) continue;
    say(vm);
    const archive = planned.disks[0]?.checked.archive ?? '';
    const files = await readVmFiles(context, await archiveRef(context, archive), { signal });
    const changes = previewVmx(files, rewriteFor(files, to, vmx), to)?.changes ?? [];
    lines.push('', `${vm}: ${to}`, ...(changes.length === 0 ? ['nothing changes'] : changeLines(changes)));
  }
  return lines;
}

/** Throws USAGE if two disks go to the same file: the later would replace the earlier. */
export function planRequests(
  entries: readonly PlannedEntry[],
  options: { verify: boolean; assumeOff: boolean },
): DiskRestore[] {
  const requests = entries.flatMap((entry) => requestsOf(entry, options));
  const goals = requests.map(goalOfRestore);
  const twice = goals.find((goal, at) => goals.indexOf(goal) !== at);
  if (twice !== undefined) {
    throw new PhdError(
      'USAGE',
      `two disks of this plan go to the same place, ${twice}: choose another folder`,
    );
  }
  return requests;
}

function requestsOf(
  { to, planned, vmx }: PlannedEntry,
  { verify, assumeOff }: { verify: boolean; assumeOff: boolean },
): DiskRestore[] {
  return planned.disks.map(({ checked, full, name }, at) => {
    const isFull = checked.kind === 'full';
    return {
      archive: isFull && full !== null ? full.archive : checked.archive,
      ...(!isFull && full !== null && { full: full.archive }),
      to,
      ...(name !== checked.disk && { name, isNameNew: true }),
      ...(verify && { verify: true }),
      ...(assumeOff && { assumeOff: true }),
      ...(vmx !== undefined && at === 0 && { vmx: true, ...(vmx && { vmxRewrite: vmx }) }),
    };
  });
}
