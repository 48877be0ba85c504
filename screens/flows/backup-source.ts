/** What is backed up: a VM folder of this machine, or a VM of a host. */
import type { BackupPreview, VmFolder } from '../../src/engine/backup-preview.ts';
import { formatBytes } from '../../src/engine/display-text.ts';
import { PhdError } from '../../src/errors.ts';
import type { HostConfig } from '../../src/model/config.ts';
import type { Desk } from '../desk.ts';
import type { Mark } from '../frame.ts';
import { type HostSource, pickHostVm } from './host-vms.ts';
import { rowSource } from './restore/sources.ts';

export type BackupSource = BackupPreview | HostSource;

export interface Fact {
  label: string;
  text: string;
  mark: Mark;
}

export const fact = (label: string, text: string, mark: Mark = 'plain'): Fact => ({ label, text, mark });

/** VMs on all volumes; any other folder may be walked to, and hosts have VMs of their own. */
export async function pickVm(desk: Desk): Promise<{ folder: string } | 'host' | undefined> {
  const { config } = await desk.context();
  const found = await desk.dialogue.busy('Looking for VMs', async (signal, say) => {
    say('looking at the datastores');
    const { findVmFolders } = await import('../../src/engine/backup-preview.ts');
    return await findVmFolders(config.datastores, signal);
  });
  if (found === undefined) return undefined;
  const [fault] = found.faults;
  if (fault !== undefined) desk.dialogue.notice(fault, 'warning');
  for (;;) {
    const answer = await desk.dialogue.list<VmFolder>({
      title: 'Back up which VM',
      source: rowSource(
        found.folders,
        ({ path }) => path,
        ({ path }) => path,
      ),
      idOf: ({ path }) => path,
      columns: [
        { title: 'VM folder', columns: 0, text: ({ name }) => name },
        { title: 'Volume', columns: 28, text: ({ volume }) => volume },
      ],
      actions: [
        { key: 'o', id: 'other', footer: 'other folder', help: 'a folder anywhere else' },
        { key: 'm', id: 'host', footer: 'host', help: 'a VM of a host' },
      ],
      empty:
        config.datastores.length === 0
          ? 'No datastore is set up: O takes any folder.'
          : 'No VM on the datastores: O takes any folder.',
    });
    if (answer === undefined || answer.kind === 'quit') return undefined;
    if (answer.kind === 'row') return { folder: answer.row.path };
    if (answer.id === 'host') return 'host';
    const other = await pickOther(desk, config.datastores);
    if (other === 'quit') return undefined;
    if (other !== undefined) return { folder: other };
  }
}

async function pickOther(desk: Desk, datastores: readonly string[]): Promise<string | 'quit' | undefined> {
  const { listVolumes } = await import('../../src/engine/volumes.ts');
  const { pickFolder, pickVolume } = await import('./restore/place.ts');
  const volume = await pickVolume(desk, await listVolumes(datastores));
  if (volume === undefined || volume === 'quit') return volume;
  return await pickFolder(desk, volume, { proposed: '', verb: 'Back up' });
}

/** Looks at what was picked; undefined if the person went back. Throws SOURCE_UNSUPPORTED, and what the host says. */
export async function openSource(
  desk: Desk,
  picked: { folder: string } | 'host',
): Promise<BackupSource | undefined> {
  if (picked !== 'host') return await openFolder(desk, picked.folder);
  const host = await pickHost(desk, (await desk.context()).config.hosts);
  return host === undefined ? undefined : await pickHostVm(desk, host);
}

async function pickHost(desk: Desk, hosts: readonly HostConfig[]): Promise<string | undefined> {
  const [first, second] = hosts;
  if (second === undefined && first !== undefined) return first.name;
  const answer = await desk.dialogue.list<HostConfig>({
    title: 'VMs of which host',
    source: rowSource(hosts, ({ name }) => name),
    idOf: ({ name }) => name,
    columns: [
      { title: 'Host', columns: 20, text: ({ name }) => name },
      { title: 'Type', columns: 0, text: ({ type }) => type },
    ],
    empty: 'No host is set up: C Configuration, M Hosts adds one.',
  });
  return answer?.kind === 'row' ? answer.row.name : undefined;
}

async function openFolder(desk: Desk, folder: string): Promise<BackupPreview | undefined> {
  const context = await desk.context();
  const preview = await desk.dialogue.busy('Looking at the VM', async (_signal, say) => {
    say(folder);
    const { previewBackup } = await import('../../src/engine/backup-preview.ts');
    return await previewBackup(context, folder);
  });
  if (preview === undefined) return undefined;
  if (preview.disks.length === 0) {
    const [first] = preview.refused;
    throw new PhdError('SOURCE_UNSUPPORTED', first?.reason ?? `${folder} holds no disk`);
  }
  return preview;
}

export function factsOfSource(source: BackupSource): Fact[] {
  return 'host' in source ? factsOfHostVm(source) : factsOfFolder(source);
}

function factsOfFolder({ displayName, folder, disks, refused, notices }: BackupPreview): Fact[] {
  return [
    fact('VM', displayName),
    fact('Folder', folder),
    ...disks.map(({ name, scsiId, sizeBytes }) =>
      fact(`Disk ${scsiId}`, `${name}, ${formatBytes(sizeBytes)}`),
    ),
    ...refused.map(({ reason }) => fact('Left out', reason, 'bad')),
    ...notices.map((text) => fact('Note', text, 'warning')),
  ];
}

function factsOfHostVm({ host, vm, isQuiesced }: HostSource): Fact[] {
  return [
    fact('VM', vm.name),
    fact('Host', host),
    ...(vm.place === null ? [] : [fact('Place', vm.place)]),
    fact('Power', vm.power),
    fact('Flush', isQuiesced ? 'the guest is asked to flush its file systems' : 'no: as after a power cut'),
  ];
}

/** Where the VM lies, as requests say it. */
export function requestOfSource(
  source: BackupSource,
): { folder: string } | { host: string; vm: string; quiesce: boolean } {
  if (!('host' in source)) return { folder: source.folder };
  return { host: source.host, vm: source.wanted, quiesce: source.isQuiesced };
}
