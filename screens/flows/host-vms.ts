/** The VMs of a host as a list. */
import type { HostVm } from '../../src/hosts/host.ts';
import type { Desk } from '../desk.ts';
import { rowSource } from './restore/sources.ts';

/** A VM of a host, and whether it is asked to flush its file systems before its backup. */
export interface HostSource {
  host: string;
  vm: HostVm;
  /** What requests call it: its name, or what tells it from others of that name. */
  wanted: string;
  isQuiesced: boolean;
}

/** The VM that was chosen; undefined is back. Throws what the host says. */
export async function pickHostVm(desk: Desk, hostName: string): Promise<HostSource | undefined> {
  const vms = await desk.dialogue.busy(`VMs of ${hostName}`, async (signal, say) => {
    say('asking the host');
    const host = await (await desk.context()).host(hostName);
    return await host.listVms(signal, (fault) => desk.dialogue.notice(fault, 'warning'));
  });
  if (vms === undefined) return undefined;
  const answer = await desk.dialogue.list<HostVm>({
    title: `VMs of ${hostName}`,
    source: rowSource(
      vms,
      ({ id }) => id,
      ({ name }) => name,
    ),
    idOf: ({ id }) => id,
    columns: [
      { title: 'VM', columns: 0, text: ({ name }) => name },
      { title: 'Power', columns: 9, text: ({ power }) => power },
      { title: 'Place', columns: 36, text: ({ place }) => place ?? '', from: 70 },
    ],
    empty: 'The host has no VM.',
  });
  if (answer?.kind !== 'row') return undefined;
  const vm = answer.row;
  const isAlone = vms.filter(({ name }) => name === vm.name).length === 1;
  return { host: hostName, vm, wanted: isAlone ? vm.name : (vm.uuid ?? vm.id), isQuiesced: false };
}
