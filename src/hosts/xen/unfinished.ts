/** What a restore has made in a pool and not finished: it bears a mark, and a name that says so, until all is proved. */
import type { XenHost } from './xen-host.ts';
import { recordsOf, type VdiRecord, type VmRecord, vdiRecord, vmRecord } from './xen-records.ts';

/** Key in `other_config`; its value tells runs apart. */
export const RESTORE_MARK = 'phd-restore';
const SUFFIX = ' [restore not finished]';

export function unfinishedName(name: string): string {
  return `${name}${SUFFIX}`;
}

export interface Unfinished {
  vms: { ref: string; record: VmRecord }[];
  disks: { ref: string; record: VdiRecord }[];
}

/** Of one run, or of all. Copies that people have renamed are theirs. Throws TARGET_*, CANCELLED. */
export async function findUnfinished(
  { session }: XenHost,
  run: string | null,
  signal?: AbortSignal,
): Promise<Unfinished> {
  const doing = 'cannot look for what a restore has left';
  const vms = await session.call('VM.get_all_records', [], recordsOf(vmRecord), doing, { signal });
  const disks = await session.call('VDI.get_all_records', [], recordsOf(vdiRecord), doing, { signal });
  const isMeant = ({
    name_label: name,
    is_a_snapshot: isSnapshot,
    other_config: words,
  }: VmRecord | VdiRecord) =>
    !isSnapshot &&
    name.endsWith(SUFFIX) &&
    (run === null ? RESTORE_MARK in words : words[RESTORE_MARK] === run);
  const meant = <Of extends VmRecord | VdiRecord>(all: Record<string, Of>): { ref: string; record: Of }[] =>
    Object.entries(all)
      .filter(([, record]) => isMeant(record))
      .map(([ref, record]) => ({ ref, record }));
  return { vms: meant(vms), disks: meant(disks) };
}
