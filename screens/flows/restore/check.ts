/** Confirmation of what was chosen, then its headers are fetched and checked; then which FULL. */
import type { ArchiveListRow } from '../../../src/engine/browse-archives.ts';
import { formatBytes } from '../../../src/engine/display-text.ts';
import type { CheckedArchive, FullCandidate } from '../../../src/engine/full-candidates.ts';
import { PhdError } from '../../../src/errors.ts';
import type { Line, ListColumn } from '../../dialogue.ts';
import { archiveText, type Draft, nearestOf, renewContext, scsiText, stampText } from './draft.ts';
import { rowSource } from './sources.ts';
import type { StepEnd } from './steps.ts';

/** One question: what turns out to be unfit leads back to the list it was chosen from. */
export async function takeArchives(draft: Draft): Promise<StepEnd> {
  return (await confirmArchives(draft)) ? checkHeaders(draft) : 'back';
}

/** Full path, host and user of the target. */
async function confirmArchives(draft: Draft): Promise<boolean> {
  const { desk, rows } = draft;
  const [first, ...others] = rows;
  // Of several disks, which lie in one folder as a rule, the place is told once.
  const lines = rows.flatMap((row): Line[] => {
    const place = placeLines(draft, row, others.length === 0);
    const isTold = row !== first && first !== undefined && isSamePlace(row, first);
    const { kind, stamp, scsiId, disk, sizeBytes } = row;
    const what = `${kind.toUpperCase()} of ${stampText(stamp)}, disk ${scsiText(scsiId)} ${disk}, ${formatBytes(sizeBytes)}`;
    return [...(isTold ? [] : place), what, ...stateLines(row)];
  });
  return desk.dialogue.confirm({
    title: rows.length === 1 ? 'Is this the archive?' : `Are these the ${rows.length} archives?`,
    lines,
    question: 'Fetch and check the headers?',
  });
}

function isSamePlace(row: ArchiveListRow, other: ArchiveListRow): boolean {
  const [one, two] = [nearestOf(row), nearestOf(other)];
  return one.targetNumber === two.targetNumber && one.folder === two.folder;
}

/** Where the archive lies, for people who log in there. */
function placeLines({ context }: Draft, row: ArchiveListRow, withFile: boolean): string[] {
  const { targetNumber, targetName, transport, folder, file } = nearestOf(row);
  const target = context.config.targets.find(({ number }) => number === targetNumber);
  const others = row.copies.filter((copy) => copy.targetNumber !== targetNumber);
  const also = others.length === 0 ? '' : ` (also on ${others.map((copy) => copy.targetNumber).join(', ')})`;
  const where = `target ${targetNumber} (${targetName})${also}, ${transport}`;
  const host = target?.host ?? null;
  const account = host === null ? 'this host' : `host ${host}, user ${target?.user ?? '(none)'}`;
  const path = [target?.path, folder, withFile ? file : ''].filter(Boolean).join('/');
  return [`${where}, ${account}`, path];
}

const STATE_WORDS = {
  'arriving or cut': 'It has no end mark: it is still arriving, or was cut.',
  foreign: 'It was made by another program.',
  'without DELTA': 'Its empty DELTA is gone: it restores through its own map.',
  'without FULL': 'Its FULL is on no target that the index knows.',
  partial: 'Its run is partial: other disks of it are missing.',
  incomplete: 'Sectors of the device could not be read: zeros stand for them.',
} as const;

function stateLines({ state, isHeld, verifyResult, verifiedAt }: ArchiveListRow): Line[] {
  const lines: Line[] = state === null ? [] : [{ text: STATE_WORDS[state], mark: 'warning' }];
  if (isHeld) lines.push('It is held: retention does not remove its run.');
  if (verifyResult !== null && verifyResult !== 'good') {
    lines.push({
      text: `Its last verify (${verifiedAt?.slice(0, 10)}) found it bad: ${verifyResult}.`,
      mark: 'bad',
    });
  }
  return lines;
}

/** Reads the headers of all disks now; a copy on another target stands in for one that cannot be reached. */
async function checkHeaders(draft: Draft): Promise<StepEnd> {
  const { desk, context, rows } = draft;
  const { checkArchive } = await import('../../../src/engine/full-candidates.ts');
  draft.disks = [];
  // A VMX comes out of the DELTA alone.
  const withFulls = draft.by !== 'vmx';
  const title = withFulls ? 'Fetching the headers of both archives' : 'Fetching the header';
  try {
    const checked = await desk.dialogue.busy(title, (signal, say) => {
      const check = (archive: string) => checkArchive(context, archive, { withFulls, signal, say });
      return orGivenUp(signal, checkAll(rows, check));
    });
    if (checked === undefined) return 'back';
    for (const [at, one] of checked.entries()) {
      if (!(await mayGoOn(draft, one))) return 'back';
      const [full] = one.fulls;
      if (full === undefined && withFulls)
        throw new PhdError('NOT_FOUND', `no FULL of ${one.archive} was found`);
      draft.disks.push({ row: rows[at] as ArchiveListRow, checked: one, full, name: one.disk });
    }
    const { distinctDiskNames } = await import('../../../src/engine/disk-names.ts');
    const names = distinctDiskNames(checked);
    for (const [at, disk] of draft.disks.entries()) disk.name = names[at] as string;
    return 'next';
  } catch (error) {
    if (!(error instanceof PhdError)) throw error;
    await desk.dialogue.tell('The archive cannot be restored', [
      { text: error.message, mark: 'bad' },
      ...adviceFor(draft, error),
    ]);
    if (/^PASSPHRASE/.test(error.code)) await renewContext(draft);
    return 'back';
  }
}

async function checkAll(
  rows: readonly ArchiveListRow[],
  check: (archive: string) => Promise<CheckedArchive>,
): Promise<CheckedArchive[]> {
  const all: CheckedArchive[] = [];
  for (const row of rows) all.push(await firstThatAnswers(row, check));
  return all;
}

/** A person who gives up does not wait for the time-out of a dead line. */
function orGivenUp<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const givenUp = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(new PhdError('CANCELLED', 'given up')), { once: true });
  });
  return Promise.race([work, givenUp]);
}

/** Copies, the nearest first; the reason of the first that failed if none answers. */
async function firstThatAnswers(
  row: ArchiveListRow,
  check: (archive: string) => Promise<CheckedArchive>,
): Promise<CheckedArchive> {
  const copies = row.copies.length > 0 ? row.copies : [row];
  let first: PhdError | undefined;
  for (const copy of copies) {
    try {
      const checked = await check(archiveText(copy));
      if (first !== undefined) checked.warnings.unshift(`${first.message}: another copy is taken`);
      return checked;
    } catch (error) {
      if (!(error instanceof PhdError) || error.code === 'CANCELLED') throw error;
      first ??= error;
    }
  }
  throw first as PhdError;
}

function adviceFor({ context }: Draft, { code }: PhdError): Line[] {
  const file = context.config.file;
  if (code === 'PASSPHRASE_MISSING' || code === 'PASSPHRASE_WRONG') {
    return [
      `Restores run as jobs, so the passphrase must stand in ${file}: encryption.systemPassphraseFile, or, for one of former times, encryption.formerPassphraseFiles.`,
      'Put the passphrase into a file of mode 0600, name it there, and choose the archive again.',
    ];
  }
  if (code === 'NOT_FOUND')
    return ['It may have been moved or removed since: Re-index shows what is there now.'];
  if (/^TARGET|HOST_KEY/.test(code))
    return ['The target does not answer: Configuration, Targets, Test tells why.'];
  return [];
}

/** Warnings are shown once; without digests a restore cannot be proved, which needs a person's word. */
async function mayGoOn({ desk, ...draft }: Draft, checked: CheckedArchive): Promise<boolean> {
  if (checked.warnings.length > 0) {
    await desk.dialogue.tell(
      'To know before going on',
      checked.warnings.map((text) => ({ text, mark: 'warning' as const })),
    );
  }
  if (checked.isProvable || draft.by === 'vmx') return true;
  return desk.dialogue.typed({
    title: 'This restore cannot be proved',
    lines: [`${checked.archive} carries no digests: what it restores may be wrong without anyone noticing.`],
    word: 'UNPROVED',
  });
}

const COLUMNS: readonly ListColumn<FullCandidate>[] = [
  { title: '', columns: 1, text: ({ agreement }) => ({ proved: '*', names: '?', wrong: '!' })[agreement] },
  { title: 'target', columns: 14, text: ({ targetNumber, targetName }) => `${targetNumber} ${targetName}` },
  { title: 'via', columns: 4, text: ({ transport }) => transport },
  { title: 'size', columns: 7, align: 'right', text: ({ sizeBytes }) => formatBytes(sizeBytes) },
  { title: 'MB/s', columns: 5, align: 'right', text: ({ bytesPerSecond }) => rateText(bytesPerSecond) },
  { title: 'FULL', columns: 0, text: ({ archive, why }) => why ?? archive.slice(archive.indexOf(':') + 1) },
];

function rateText(bytesPerSecond: number | null): string {
  return bytesPerSecond === null ? '-' : (bytesPerSecond / 2 ** 20).toFixed(1);
}

/** The nearest proved one is proposed; a single proved one is taken without a question. */
export async function chooseFulls(draft: Draft): Promise<StepEnd> {
  let isAsked = false;
  for (const one of draft.disks) {
    const { fulls } = one.checked;
    const [only] = fulls;
    if (fulls.length === 1 && only?.agreement === 'proved') one.full = only;
    else {
      isAsked = true;
      const end = await chooseFull(draft, one);
      if (end !== 'next') return end;
    }
  }
  return isAsked ? 'next' : 'skip';
}

async function chooseFull({ desk }: Draft, one: Draft['disks'][number]): Promise<StepEnd> {
  const { checked } = one;
  for (;;) {
    const answer = await desk.dialogue.list({
      title: `Which FULL for ${checked.disk} of ${stampText(checked.stamp)}`,
      source: rowSource(checked.fulls, ({ archive }) => archive),
      idOf: ({ archive }) => archive,
      columns: COLUMNS,
      markOf: ({ agreement }) => ({ proved: 'good', names: 'warning', wrong: 'faint' })[agreement] as 'good',
      empty: 'No FULL was found.',
      at: (checked.fulls.find(({ agreement }) => agreement === 'proved') ?? checked.fulls[0])?.archive ?? '',
      note: () => '* names and digest of its map agree   ? names agree only   ! another FULL',
    });
    if (answer === undefined) return 'back';
    if (answer.kind === 'quit') return 'quit';
    if (answer.kind !== 'row') continue;
    const { archive, agreement, why } = answer.row;
    if (agreement === 'wrong') {
      await desk.dialogue.tell('The wrong FULL', [
        `${archive} is not the FULL of ${checked.archive}: ${why}.`,
      ]);
      continue;
    }
    if (agreement === 'names' && checked.isProvable && !(await takesUnread({ desk }, answer.row))) continue;
    one.full = answer.row;
    return 'next';
  }
}

function takesUnread({ desk }: Pick<Draft, 'desk'>, { archive, why }: FullCandidate): Promise<boolean> {
  return desk.dialogue.confirm({
    title: 'Names agree only',
    lines: [
      `${archive}: ${why}.`,
      'The restore checks it before anything is written, and fails if it is another one.',
    ],
    question: 'Take it all the same?',
    isDestructive: true,
  });
}
