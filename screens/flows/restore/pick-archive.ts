/** Archives of what was chosen: one of them, or all disks of a run in one go. */
import { localStamp } from '../../../src/clock.ts';
import type { ArchiveListRow } from '../../../src/engine/browse-archives.ts';
import { formatAge, formatBytes } from '../../../src/engine/display-text.ts';
import type { ListColumn, ListHead } from '../../dialogue.ts';
import type { Mark } from '../../frame.ts';
import { editFilter, filterText } from '../filter.ts';
import { type Draft, nearestOf, scsiText, stampText } from './draft.ts';
import { clockNote, indexFault, REFRESH_MS, targetNote } from './list-notes.ts';
import { chosenFilter, chosenText } from './pick-day.ts';
import { FILTER_ACTION } from './pick-name.ts';
import { pickRun } from './pick-run.ts';
import { browsedSource, type Shown } from './sources.ts';
import type { StepEnd } from './steps.ts';

const RUN_HEAD: ListHead = { key: 'd', id: 'run', label: 'All disks of a run in one go' };
/** Below this many columns dates are short. */
const WIDE = 76;

export async function pickArchive(draft: Draft): Promise<StepEnd> {
  const { desk, browser } = draft;
  const word = draft.vm ? 'disk' : 'vm';
  let at = draft.rows.length === 1 ? String(draft.rows[0]?.id) : undefined;
  for (;;) {
    const filter = chosenFilter(draft);
    const answer = await desk.dialogue.list({
      title: `${chosenText(draft)}${draft.day ? `, ${draft.day}` : ''}${clockNote(draft)}`,
      filter: filterText(desk.filter),
      source: browsedSource(
        (text) => browser.archives(text === '' ? filter : { ...filter, [word]: text }),
        indexFault(draft),
      ),
      idOf: ({ id }) => id,
      columns: columnsFor(draft),
      markOf: ({ row }) => markOf(row),
      ...(draft.vm && draft.by === 'vm' && { heads: [RUN_HEAD] }),
      actions: [FILTER_ACTION],
      empty: 'No archives under this filter: F changes it.',
      refreshMs: REFRESH_MS,
      note: targetNote(draft),
      ...(at !== undefined && { at }),
    });
    if (answer === undefined) return 'back';
    if (answer.kind === 'quit') return 'quit';
    if (answer.kind === 'action') {
      at = answer.row?.id ?? (answer.id === 'run' ? 'run' : at);
      if (answer.id === 'run') {
        const end = await pickRun(draft);
        if (end !== 'back') return end;
      } else if ((await editFilter(desk, word)) === 'quit') return 'quit';
      continue;
    }
    at = answer.row.id;
    const fault = faultOf(answer.row.row, draft);
    if (answer.row.row !== null && fault === undefined) {
      draft.rows = [answer.row.row];
      return 'next';
    }
    await desk.dialogue.tell('This archive cannot be taken', [fault ?? 'it is gone from the index']);
  }
}

/** Why a row is refused at once; what else is wrong with it is told with its header. */
function faultOf(row: ArchiveListRow | null, { by }: Draft): string | undefined {
  if (row === null) return 'it is gone from the index';
  if (row.state === 'foreign') {
    return row.generation === 2
      ? 'a DELTA of esXpress version 2: its payload is not documented, so it is listed only'
      : 'it was made by another program: its payload is not documented, so it is listed only';
  }
  if (row.state === 'arriving or cut')
    return 'it has no end mark: it is still arriving or was cut; Re-index when it has come';
  if (row.state === 'without FULL' && by !== 'vmx')
    return 'its FULL is on no target that the index knows: bring it back, then Re-index';
  return undefined;
}

function columnsFor(draft: Draft): ListColumn<Shown<ArchiveListRow>>[] {
  const { desk, disk } = draft;
  const isWide = desk.dialogue.columns >= WIDE;
  const of = (text: (row: ArchiveListRow) => string) => (shown: Shown<ArchiveListRow>) =>
    shown.row === null ? '' : text(shown.row);
  return [
    {
      title: 'tgt',
      columns: 4,
      text: of(
        (row) => `${nearestOf(row).targetNumber}${row.copies.length > 1 ? `+${row.copies.length - 1}` : ''}`,
      ),
    },
    { title: 'size', columns: 7, align: 'right', text: of(({ sizeBytes }) => formatBytes(sizeBytes)) },
    { title: 'type', columns: 5, text: of(({ kind }) => kind.toUpperCase()) },
    {
      title: 'date',
      columns: isWide ? 16 : 14,
      text: of(({ stamp }) => stampText(isWide ? stamp : stamp.slice(2))),
    },
    { title: 'SCSI', columns: 4, text: of(({ scsiId }) => scsiText(scsiId)), from: 70 },
    {
      title: disk ? 'VM' : 'disk',
      columns: 0,
      text: ({ row }) => (row === null ? '(gone)' : disk ? row.vm : row.disk),
    },
    { title: 'state', columns: 9, text: of((row) => stateText(row, draft.context.clock.now())) },
    {
      title: 'chg%',
      columns: 4,
      align: 'right',
      text: of(({ changedPercent }) => percentText(changedPercent)),
      from: 70,
    },
  ];
}

function percentText(percent: number | null): string {
  if (percent === null) return '';
  return percent > 0 && percent < 1 ? '<1' : String(Math.round(percent));
}

const STATES = {
  'arriving or cut': 'cut',
  foreign: 'foreign',
  'without DELTA': 'no DELTA',
  'without FULL': 'no FULL',
  partial: 'partial',
  incomplete: 'incompl.',
} as const;

/** Stamps after this lie in the future; the autumn hour may run ahead. */
function aheadOf(now: Date): string {
  return localStamp(new Date(now.getTime() + 65 * 60_000));
}

/** What is wrong with it, how old it is where it was not seen again, else how its last verify ended. */
function stateText(
  { state, stamp, staleSinceMs, verifiedAt, verifyResult }: ArchiveListRow,
  now: Date,
): string {
  if (state !== null) return STATES[state];
  if (stamp > aheadOf(now)) return 'future';
  if (staleSinceMs !== null) return `${formatAge(now.getTime() - staleSinceMs).replace('days', 'd')} old`;
  if (verifyResult === null) return '-';
  return `${verifyResult === 'good' ? 'ok' : 'BAD'} ${(verifiedAt ?? '').slice(5, 10)}`;
}

function markOf(row: ArchiveListRow | null): Mark {
  if (row === null) return 'faint';
  if (row.verifyResult !== null && row.verifyResult !== 'good') return 'bad';
  if (row.staleSinceMs !== null) return 'faint';
  if (row.state === 'arriving or cut' || row.state === 'foreign') return 'faint';
  return row.state === null ? 'plain' : 'warning';
}
