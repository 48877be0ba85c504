/** What a backup of a pool needs, tried one by one; nothing is changed. */
import { shownName } from '../../datastore/plain-name.ts';
import { fromErrno } from '../../errors.ts';
import type { CheckLine } from '../host.ts';
import { findUnfinished } from './unfinished.ts';
import type { XenHost } from './xen-host.ts';
import { sendRequest } from './xen-line.ts';
import { hostRecord, recordsOf, vmRecord } from './xen-records.ts';
import { listRepositories } from './xen-storage.ts';
import { isVm } from './xen-vms.ts';

/** Throws CANCELLED alone: what fails is told in its line. */
export async function checkPool(host: XenHost, signal?: AbortSignal): Promise<CheckLine[]> {
  const { session, config } = host;
  const lines: CheckLine[] = [];
  const attempt = async (what: string, work: () => Promise<string>): Promise<boolean> => {
    try {
      lines.push({ what, state: 'good', text: await work() });
      return true;
    } catch (error) {
      const failure = fromErrno(error, what);
      if (failure.code === 'CANCELLED') throw failure;
      lines.push({ what, state: 'failed', text: failure.message });
      return false;
    }
  };
  const isIn = await attempt('login', async () => {
    const { address } = await session.login(signal);
    return address === config.host
      ? `${address} is the master`
      : `${config.host} is a member, ${address} the master`;
  });
  if (!isIn) return lines;
  const doing = 'cannot list its members';
  const members = await session.call('host.get_all_records', [], recordsOf(hostRecord), doing, { signal });
  for (const { name_label: name, address, software_version: version } of Object.values(members))
    await attempt(`member ${shownName(name)}`, async () => {
      const silenceMs = config.timeoutMs;
      const exchange = await sendRequest(config, address, { method: 'GET', path: '/', silenceMs, signal });
      exchange.request.end();
      (await exchange.answer).destroy();
      const words = [version.product_brand, version.product_version].filter((word) => word !== undefined);
      return shownName(`${address}: ${words.join(' ')}, its certificate is known`);
    });
  await attempt('storage', async () => {
    const all = await listRepositories(session, signal);
    return (
      all.map(({ name, isDefault }) => `${shownName(name)}${isDefault ? ' (default)' : ''}`).join(', ') ||
      'none'
    );
  });
  await attempt('VMs', async () => {
    const all = await session.call('VM.get_all_records', [], recordsOf(vmRecord), 'cannot list its VMs', {
      signal,
    });
    for (const record of Object.values(all).filter((one) => host.snapshots.isOfProgram(one))) {
      const of = all[record.snapshot_of]?.name_label ?? 'a VM that is gone';
      const whose = host.snapshots.isOwn(record)
        ? 'the next backup of it removes it, unless one is running'
        : `left by another machine or home of the program, or its backup is running: xe snapshot-uninstall uuid=${record.uuid} removes it`;
      lines.push({
        what: 'snapshot',
        state: 'warning',
        text: `${shownName(record.name_label)} of ${shownName(of)}: ${whose}`,
      });
    }
    return `${Object.values(all).filter(isVm).length}`;
  });
  await attempt('restores', async () => {
    const { vms, disks } = await findUnfinished(host, null, signal);
    const left = [
      ...vms.map(({ record }) => ({ record, command: 'vm-destroy' })),
      ...disks.map(({ record }) => ({ record, command: 'vdi-destroy' })),
    ];
    for (const { record, command } of left)
      lines.push({
        what: 'left over',
        state: 'warning',
        text: `${shownName(record.name_label)}: by a restore that was broken off, unless one is running: xe ${command} uuid=${record.uuid} removes it`,
      });
    return left.length === 0 ? 'none is unfinished' : `${left.length} disks or VMs are of unfinished ones`;
  });
  return lines;
}
