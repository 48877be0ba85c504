/** The VMs of a pool as people see them: no templates, no snapshots, not the members' own domains. */
import { z } from 'zod';
import { shownName } from '../../datastore/plain-name.ts';
import { PhdError } from '../../errors.ts';
import type { HostVm, PowerState } from '../host.ts';
import { hostRecord, recordsOf, ref, type VmRecord, vmRecord } from './xen-records.ts';
import type { XenSession } from './xen-session.ts';

const POWER: Record<string, PowerState> = {
  Running: 'on',
  Paused: 'on',
  Halted: 'off',
  Suspended: 'suspended',
};

/** Names are not unique there: the UUID tells VMs apart. */
export async function listXenVms(
  session: XenSession,
  signal?: AbortSignal,
  onFault: (fault: string) => void = () => undefined,
): Promise<HostVm[]> {
  const doing = 'cannot list its VMs';
  const told = await session.call('VM.get_all_records', [], recordsOf(z.unknown()), doing, { signal });
  const hosts = await session.call('host.get_all_records', [], recordsOf(hostRecord), doing, { signal });
  const all = Object.entries(told).flatMap(([vmRef, value]) => {
    const { data, error } = vmRecord.safeParse(value);
    if (data !== undefined) return [data];
    const [issue] = error.issues;
    onFault(
      `VM ${shownName(vmRef)} cannot be read${shownName(` (${issue?.path.join('.')}: ${issue?.message})`)}`,
    );
    return [];
  });
  return all
    .filter(isVm)
    .map((vm) => ({
      id: vm.uuid.toLowerCase(),
      name: vm.name_label,
      uuid: vm.uuid.toLowerCase(),
      place: hosts[vm.resident_on]?.name_label ?? null,
      power: POWER[vm.power_state] ?? 'unknown',
    }))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.id < b.id ? -1 : 1));
}

export function isVm(record: VmRecord): boolean {
  return !record.is_a_template && !record.is_a_snapshot && !record.is_control_domain;
}

/** A VM as it is now. Throws NOT_FOUND, TARGET_*. */
export async function xenVmNow(
  session: XenSession,
  uuid: string,
  doing: string,
  signal?: AbortSignal,
): Promise<{ vmRef: string; record: VmRecord }> {
  const vmRef = await session.call('VM.get_by_uuid', [uuid], ref, doing, { signal });
  const record = await session.call('VM.get_record', [vmRef], vmRecord, doing, { signal });
  if (isVm(record)) return { vmRef, record };
  throw new PhdError(
    'NOT_FOUND',
    `host ${session.config.name}: ${doing}: ${uuid} is a template or a snapshot now: see phd host list ${session.config.name}`,
  );
}
