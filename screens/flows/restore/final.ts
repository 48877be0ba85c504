/** The final confirmation: every fact of the restore, its options, and what it will be refused for. */
import { nameTaken } from '../../../src/engine/disk-names.ts';
import { formatBytes } from '../../../src/engine/display-text.ts';
import type { RestorePreview } from '../../../src/engine/restore-preview.ts';
import { fromErrno } from '../../../src/errors.ts';
import type { Line, ListAction } from '../../dialogue.ts';
import { type Mark, wrap } from '../../frame.ts';
import { type Draft, type DraftDisk, scsiText, stampText } from './draft.ts';
import { confirmOntoHost } from './onto-host.ts';
import { rowSource } from './sources.ts';
import type { StepEnd } from './steps.ts';
import { runInBackground, runNow } from './submit.ts';

interface Fact {
  label: string;
  text: string;
  mark: Mark;
}

/** One disk with what is at its goal, or why that cannot be looked at. */
export interface Looked {
  disk: DraftDisk;
  preview: RestorePreview | null;
  fault: string | null;
}

const LABEL_COLUMNS = 9;
const OPTIONS: readonly ListAction[] = [
  { key: 'v', id: 'verify', footer: 'verify', help: 'read the finished disk again and compare: on or off' },
  {
    key: 'i',
    id: 'in-place',
    footer: 'in place',
    help: 'write only differing blocks over the disk that is there',
  },
  {
    key: 'z',
    id: 'salvage',
    footer: 'salvage',
    help: 'zero-fill blocks that are good nowhere, into NAME.damaged',
  },
];

export async function confirmRestore(draft: Draft): Promise<StepEnd> {
  const { desk, onHost } = draft;
  if (onHost !== undefined) return await confirmOntoHost(draft, onHost);
  for (;;) {
    const looked = await desk.dialogue.busy('Looking at the goal', () => lookAtGoals(draft));
    if (looked === undefined) return 'back';
    const facts = await factsOf(draft, looked);
    const answer = await desk.dialogue.list({
      title: 'Restore: is all of this right?',
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
      actions: OPTIONS,
      note: () => optionsLine(draft),
      empty: '',
    });
    if (answer === undefined) return 'back';
    if (answer.kind === 'quit') return 'quit';
    if (answer.kind !== 'action') continue;
    if (answer.id === 'verify') draft.isVerified = !draft.isVerified;
    else if (answer.id === 'in-place') draft.isInPlace = !draft.isInPlace;
    else if (answer.id === 'salvage') await turnSalvage(draft);
    else if (await mayStart(draft, looked)) {
      if (await (answer.id === 'now' ? runNow(draft) : runInBackground(draft))) return 'next';
    }
  }
}

/** Stands under the title, wherever the facts are scrolled to. */
function optionsLine({ isVerified, isInPlace, salvage }: Draft): Line {
  const on = [
    isVerified ? 'verify (the finished disk is read again)' : '',
    isInPlace ? 'in place (only differing blocks are written)' : '',
    salvage ? 'SALVAGE' : '',
  ].filter((text) => text !== '');
  const text = `Options: ${on.length === 0 ? 'none' : on.join(', ')}`;
  return salvage ? { text, mark: 'warning' } : text;
}

async function turnSalvage(draft: Draft): Promise<void> {
  if (draft.salvage) draft.salvage = false;
  else {
    draft.salvage = await draft.desk.dialogue.typed({
      title: 'Salvage',
      lines: [
        'Blocks that are good in no copy are filled with zeros. The result is NAME.damaged with a list of the byte ranges; it is never called restored.',
      ],
      word: 'SALVAGE',
    });
  }
}

async function lookAtGoals({ disks, folder, isInPlace }: Draft): Promise<Looked[]> {
  const { previewRestore } = await import('../../../src/engine/restore-preview.ts');
  return Promise.all(
    disks.map(async (disk): Promise<Looked> => {
      const { checked, full, name } = disk;
      const { diskBytes, payloadBytes } = checked;
      const dataBytes = full?.dataBytes ?? null;
      const neededBytes =
        diskBytes === null || dataBytes === null ? diskBytes : Math.min(diskBytes, dataBytes + payloadBytes);
      try {
        const preview = await previewRestore({
          folder: folder ?? '',
          diskName: name,
          diskBytes,
          neededBytes,
          isExact: payloadBytes === 0 && dataBytes !== null,
          inPlace: isInPlace,
        });
        const isTaken = disks.length > 1 && name !== disk.checked.disk && preview.goal.existing !== null;
        const taken = isTaken ? nameTaken(preview.goal.flatPath, disk.checked.disk).message : null;
        return { disk, preview, fault: preview.refusal?.message ?? taken };
      } catch (error) {
        return { disk, preview: null, fault: fromErrno(error, `cannot look at ${folder}`).message };
      }
    }),
  );
}

/** Facts as rows; long ones go over several rows, so that nothing is cut. */
async function factsOf(draft: Draft, looked: readonly Looked[]): Promise<Fact[]> {
  const { desk } = draft;
  const facts: Fact[] = [];
  const room = Math.max(20, desk.dialogue.columns - LABEL_COLUMNS - 8);
  const add = (label: string, text: string, mark: Mark = 'plain'): void => {
    wrap(text, room, desk.look).forEach((part, at) => {
      facts.push({ label: at === 0 ? label : '', text: part, mark });
    });
  };
  for (const line of await holdsText(draft)) add('Lock', line, 'warning');
  for (const one of looked) if (one.fault !== null) add('REFUSED', one.fault, 'bad');
  addRoom(looked, draft, add);
  if (isOutside(draft)) add('', 'outside every datastore of the configuration', 'warning');
  for (const { disk, preview } of looked) diskFacts(draft, disk, preview, add);
  return facts;
}

function diskFacts(
  draft: Draft,
  { checked, full, name }: DraftDisk,
  preview: RestorePreview | null,
  add: (label: string, text: string, mark?: Mark) => void,
): void {
  const size = checked.diskBytes === null ? 'size not known' : formatBytes(checked.diskBytes);
  add(
    'Disk',
    `${checked.vm}: ${scsiText(checked.scsiId)} ${checked.disk} of ${stampText(checked.stamp)}, ${size}`,
  );
  add('Archive', checked.archive);
  if (full !== undefined && full.archive !== checked.archive) {
    const isProved = full.agreement === 'proved';
    add(isProved ? 'FULL *' : 'FULL ?', full.archive, isProved ? 'plain' : 'warning');
  }
  add('To', preview?.goal.flatPath ?? `${draft.folder}/${name}`);
  if (preview === null || preview.refusal !== null) return;
  const { goal, doubts } = preview;
  if (!goal.folderExists) add('', 'the folder is made');
  if (goal.hasRecord) add('', 'an in-place restore was broken off here: it is settled first', 'warning');
  if (goal.existing === null)
    add('', goal.hasPart ? 'goes on where an earlier attempt stopped' : 'a new file');
  else if (draft.isInPlace)
    add(
      '',
      'WRITTEN OVER where it differs, when all is proved: the disk that is there is rolled back',
      'warning',
    );
  else add('', 'REPLACES the disk that is there, at the end, when all is proved', 'warning');
  if (preview.mayNotFit) {
    add(
      '',
      `may not fit: up to ${formatBytes(preview.neededBytes ?? 0)} needed, ${formatBytes(goal.freeBytes)} free`,
      'bad',
    );
  }
  for (const doubt of doubts) add('', `whether it is off cannot be known: ${doubt}`, 'warning');
}

function addRoom(
  looked: readonly Looked[],
  { folder = '', isInPlace }: Draft,
  add: (label: string, text: string, mark?: Mark) => void,
): void {
  const known = looked.flatMap(({ preview }) => (preview === null ? [] : [preview]));
  const [first] = known;
  if (first === undefined) return;
  const needed = known.reduce((sum, { neededBytes }) => sum + (neededBytes ?? 0), 0);
  const { freeBytes } = first.goal;
  const isShort = needed > freeBytes;
  const isKnown = known.every(({ neededBytes }) => neededBytes !== null);
  const most = needed === 0 ? 'none is needed' : `${formatBytes(needed)} needed at most`;
  const wanted = isInPlace
    ? 'room for the blocks that differ is needed'
    : isKnown
      ? most
      : 'how much is needed is not known';
  add('Room', `${wanted}, ${formatBytes(freeBytes)} free at ${folder}`, isShort ? 'bad' : 'plain');
}

function isOutside({ context, folder = '' }: Draft): boolean {
  return !context.config.datastores.some(
    (one) => folder === one || folder.startsWith(`${one.replace(/\/$/, '')}/`),
  );
}

/** Locks over restores, and whether anything runs queued jobs. */
async function holdsText({ desk }: Draft): Promise<string[]> {
  const queue = await desk.queue();
  const { locksHolding, lockText } = await import('../../../src/queue/gate.ts');
  return locksHolding(queue.db, 'restore').map(
    (lock) => `${lockText(lock)}: the job waits until it is cleared`,
  );
}

/** Asks for what only a person can answer for; false goes back to the facts. */
async function mayStart(draft: Draft, looked: readonly Looked[]): Promise<boolean> {
  const { dialogue } = draft.desk;
  const refused = looked.filter(({ fault }) => fault !== null);
  if (refused.length > 0) {
    await dialogue.tell(
      'This restore is refused',
      refused.map(({ fault }) => ({ text: fault ?? '', mark: 'bad' as const })),
    );
    return false;
  }
  const inTheWay = await otherJobs(draft, looked);
  if (inTheWay.length > 0) {
    await dialogue.tell('Another job has this disk', inTheWay);
    return false;
  }
  const replaced = looked.filter(({ preview }) => preview?.goal.existing);
  const short = looked.filter(({ preview }) => preview?.mayNotFit);
  if (short.length > 0 && !(await confirmShort(draft))) return false;
  if (replaced.length > 0 && !(await confirmReplaced(draft, replaced))) return false;
  const doubts = looked.flatMap(({ preview }) => preview?.doubts ?? []);
  draft.assumeOff = false;
  if (doubts.length === 0) return true;
  draft.assumeOff = await dialogue.typed({
    title: 'Is the VM off?',
    lines: [
      ...[...new Set(doubts)].map((text) => ({
        text: `Cannot be known: ${text}.`,
        mark: 'warning' as const,
      })),
      'A disk that is written while its VM runs is destroyed. Make sure that it is off.',
    ],
    word: 'yes',
  });
  return draft.assumeOff;
}

function confirmShort({ desk }: Draft): Promise<boolean> {
  return desk.dialogue.confirm({
    title: 'It may not fit',
    lines: ['The restore counts exactly before it writes, and stops if there is no room.'],
    question: 'Try it?',
    isDestructive: true,
  });
}

function confirmReplaced({ desk, isInPlace }: Draft, replaced: readonly Looked[]): Promise<boolean> {
  return desk.dialogue.confirm({
    title: isInPlace ? 'Written over' : 'Replaced',
    lines: replaced.map(({ preview }) => ({ text: preview?.goal.flatPath ?? '', mark: 'warning' as const })),
    question: isInPlace
      ? 'Roll back this disk?'
      : `Replace ${replaced.length === 1 ? 'this disk' : 'these disks'}?`,
    isDestructive: true,
  });
}

/** Jobs that wait or run and write one of these disks. */
async function otherJobs({ desk, folder }: Draft, looked: readonly Looked[]): Promise<string[]> {
  const queue = await desk.queue();
  const { goalOf } = await import('../../../src/queue/request.ts');
  queue.settleInterrupted();
  const goals = new Set(looked.map(({ disk }) => `disk ${folder}/${disk.name}`));
  return queue.db
    .jobs({ states: ['waiting', 'running'] })
    .filter((job) => goals.has(goalOf(job) ?? ''))
    .map(({ id, state, title }) => `job ${id} is ${state}: ${title}`);
}
