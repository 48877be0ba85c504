/** A VM put onto a volume of a host: which volume, under which name, and the last look before it is queued. */
import { formatBytes } from '../../../src/engine/display-text.ts';
import type { HostVolume } from '../../../src/engine/host-volumes.ts';
import type { ListAction } from '../../dialogue.ts';
import { type Mark, wrap } from '../../frame.ts';
import { type Draft, type OntoHost, scsiText, stampText } from './draft.ts';
import { rowSource } from './sources.ts';
import type { StepEnd } from './steps.ts';
import { runInBackground, runNow } from './submit.ts';

const LABEL_COLUMNS = 9;
const MAC_WORDS = {
  auto: 'kept, unless the pool has one of them',
  keep: 'kept, whoever has them',
  new: 'made anew',
} as const;
const MACS: readonly ListAction[] = [
  { key: 'm', id: 'macs', footer: 'MACs', help: 'MAC addresses: kept unless taken, kept, or made anew' },
];

/** Names of the hosts that VMs can be put onto; null: none is configured. */
export function hostNames({ context }: Draft): string | null {
  const names = context.config.hosts.filter(({ type }) => type !== 'device').map(({ name }) => name);
  return names.length === 0 ? null : names.join(', ');
}

/** Volumes of all hosts with their room; hosts that do not answer are named above. */
export async function pickHostVolume(draft: Draft): Promise<OntoHost | 'quit' | undefined> {
  const { desk, context } = draft;
  const { hostVolumes } = await import('../../../src/engine/host-volumes.ts');
  const found = await desk.dialogue.busy('Asking the hosts for their volumes', (signal) =>
    hostVolumes(context, signal),
  );
  if (found === undefined) return undefined;
  if (found.failed.length > 0)
    await desk.dialogue.tell(
      'Not all hosts answer',
      found.failed.map(({ error }) => ({ text: error.message, mark: 'warning' as const })),
    );
  const idOf = ({ host, name }: HostVolume): string => `${host}:${name}`;
  for (;;) {
    const answer = await desk.dialogue.list({
      title: 'Volume of a host',
      source: rowSource(found.volumes, idOf, idOf),
      idOf,
      columns: [
        { title: 'volume', columns: 0, text: idOf },
        { title: 'type', columns: 8, text: ({ kind }) => kind },
        { title: 'free', columns: 8, align: 'right', text: ({ freeBytes }) => formatBytes(freeBytes) },
        { title: 'of', columns: 8, align: 'right', text: ({ sizeBytes }) => formatBytes(sizeBytes) },
      ],
      empty: 'No host has a volume that answers.',
    });
    if (answer === undefined) return undefined;
    if (answer.kind === 'quit') return 'quit';
    if (answer.kind !== 'row') continue;
    const { host, name, freeBytes } = answer.row;
    const isXen = context.config.hosts.some((one) => one.name === host && one.type === 'xen');
    return { host, volume: name, freeBytes, macs: isXen ? 'auto' : null, name: nameOf(draft) };
  }
}

function nameOf({ disks }: Draft): string {
  return disks[0]?.checked.vm ?? '';
}

export async function nameVm(draft: Draft, onHost: OntoHost): Promise<StepEnd> {
  const { desk } = draft;
  const { folderNameFault } = await import('../../../src/engine/volumes.ts');
  for (;;) {
    const name = await desk.dialogue.ask({
      title: 'Name of the VM',
      lines: [`On ${onHost.host}, ${onHost.volume}`],
      question: 'Restore under this name:',
      preset: onHost.name,
      fault: (text) =>
        folderNameFault(text) ?? (/^[.-]|"/.test(text) ? 'no dot or dash first, no quotes' : undefined),
    });
    if (name === undefined) return 'back';
    onHost.name = name;
    if (await isFree(draft, onHost)) return 'next';
  }
}

/** Names of a pool are not unique; a datastore holds one folder of a name. */
async function isFree({ desk, context }: Draft, { host, volume, name, macs }: OntoHost): Promise<boolean> {
  if (macs !== null) return true;
  const { hostGoalFault } = await import('../../../src/engine/restore-to-host.ts');
  const fault = await desk.dialogue.busy(`Asking ${host} whether the name is free`, (signal) =>
    hostGoalFault(context, { host, datastore: volume, name }, signal),
  );
  if (fault === null) return true;
  if (fault !== undefined)
    await desk.dialogue.tell('That name cannot be taken', [{ text: fault.message, mark: 'bad' }]);
  return false;
}

interface Fact {
  label: string;
  text: string;
  mark: Mark;
}

export async function confirmOntoHost(draft: Draft, onHost: OntoHost): Promise<StepEnd> {
  const { desk } = draft;
  for (;;) {
    const facts = factsOf(draft, onHost);
    const answer = await desk.dialogue.list({
      title: 'Restore onto a host: is all of this right?',
      source: rowSource(facts, (fact) => String(facts.indexOf(fact))),
      idOf: (fact) => String(facts.indexOf(fact)),
      columns: [
        { title: '', columns: LABEL_COLUMNS, text: ({ label }) => label },
        { title: '', columns: 0, text: ({ text }) => text },
      ],
      markOf: ({ mark }) => mark,
      heads: [
        { key: 'r', id: 'now', label: 'Restore now, and watch it' },
        { key: 's', id: 'background', label: 'Submit to the background' },
      ],
      actions: onHost.macs === null ? [] : MACS,
      empty: '',
    });
    if (answer === undefined) return 'back';
    if (answer.kind === 'quit') return 'quit';
    if (answer.kind !== 'action') continue;
    if (answer.id === 'macs')
      onHost.macs = onHost.macs === 'auto' ? 'keep' : onHost.macs === 'keep' ? 'new' : 'auto';
    else if (await (answer.id === 'now' ? runNow(draft) : runInBackground(draft))) return 'next';
  }
}

/** Facts as rows; long ones go over several rows, so that nothing is cut. */
function factsOf({ desk, disks }: Draft, { host, volume, name, freeBytes, macs }: OntoHost): Fact[] {
  const facts: Fact[] = [];
  const room = Math.max(20, desk.dialogue.columns - LABEL_COLUMNS - 8);
  const add = (label: string, text: string, mark: Mark = 'plain'): void => {
    wrap(text, room, desk.look).forEach((part, at) => {
      facts.push({ label: at === 0 ? label : '', text: part, mark });
    });
  };
  const totalBytes = disks.reduce((sum, { checked }) => sum + (checked.diskBytes ?? 0), 0);
  add('VM', `${name} on ${host}, ${volume}: a new one, off`);
  for (const { checked } of disks) {
    const size = checked.diskBytes === null ? 'size not known' : formatBytes(checked.diskBytes);
    add('Disk', `${scsiText(checked.scsiId)} ${checked.disk} of ${stampText(checked.stamp)}, ${size}`);
    add('Archive', checked.archive);
  }
  const isShort = totalBytes > freeBytes;
  const words = `${formatBytes(freeBytes)} free there, up to ${formatBytes(totalBytes)} needed`;
  add('Room', isShort ? `${words}: it may not fit` : words, isShort ? 'warning' : 'plain');
  if (macs !== null) add('MACs', MAC_WORDS[macs]);
  add(
    '',
    'each disk is restored and proved here first, then sent and proved there: the state folder needs room for the data of the largest',
  );
  return facts;
}
