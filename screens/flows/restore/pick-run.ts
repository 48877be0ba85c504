/** Runs of a VM: all disks of one in one go. */
import type { ArchiveListRow } from '../../../src/engine/browse-archives.ts';
import { formatBytes } from '../../../src/engine/display-text.ts';
import { rowsByRun } from '../../../src/engine/list-archives.ts';
import { type Draft, scsiText, stampText } from './draft.ts';
import { targetNote } from './list-notes.ts';
import { chosenFilter, chosenText } from './pick-day.ts';
import { rowSource } from './sources.ts';
import type { StepEnd } from './steps.ts';

/** So many archives of a VM are looked through for its runs; older ones are found by a date. */
const MAX_ARCHIVES = 5_000;

interface Run {
  /** Its stamp; another of that stamp, by another home, has a number behind it. */
  id: string;
  stamp: string;
  /** The DELTA of each disk (a FULL where there is none), by SCSI id. */
  rows: ArchiveListRow[];
  /** `SS disk` that its headers name and that are nowhere. */
  missing: string[];
  /** Disks of which nothing can be restored. */
  unfit: ArchiveListRow[];
  /** Of its archives, FULLs among them if they were made by it. */
  sizeBytes: number;
}

export async function pickRun(draft: Draft): Promise<StepEnd> {
  const { desk } = draft;
  const runs = runsOf(draft);
  let at = draft.rows[0]?.stamp;
  for (;;) {
    const answer = await desk.dialogue.list({
      title: `Runs of ${chosenText(draft)}`,
      source: rowSource(
        runs,
        ({ id }) => id,
        ({ stamp }) => stampText(stamp),
      ),
      idOf: ({ id }) => id,
      columns: [
        { title: 'run', columns: 16, text: ({ stamp }) => stampText(stamp) },
        { title: 'disks', columns: 5, align: 'right', text: ({ rows }) => String(rows.length) },
        { title: 'size', columns: 7, align: 'right', text: ({ sizeBytes }) => formatBytes(sizeBytes) },
        { title: '', columns: 0, text: runText },
      ],
      markOf: ({ missing, unfit }) => (missing.length + unfit.length > 0 ? 'warning' : 'plain'),
      empty: 'No run under this filter.',
      note: targetNote(draft),
      ...(at !== undefined && { at }),
    });
    if (answer === undefined) return 'back';
    if (answer.kind === 'quit') return 'quit';
    if (answer.kind !== 'row') continue;
    const run = answer.row;
    at = run.id;
    if (run.rows.length === 0) {
      await desk.dialogue.tell('This run cannot be taken', [runText(run)]);
      continue;
    }
    if (!(await mayTake(draft, run))) continue;
    draft.rows = run.rows;
    return 'next';
  }
}

/** A run that lacks disks is never taken silently. */
async function mayTake({ desk }: Draft, run: Run): Promise<boolean> {
  if (run.missing.length + run.unfit.length === 0) return true;
  return desk.dialogue.confirm({
    title: 'A partial run',
    lines: [
      { text: runText(run), mark: 'warning' },
      `Only ${run.rows.map(({ disk }) => disk).join(', ')} would be restored.`,
    ],
    question: 'Take it all the same?',
    isDestructive: true,
  });
}

function runText({ rows, missing, unfit }: Run): string {
  const lacking = missing.map(
    (one) => `${scsiText(one.slice(0, one.indexOf(' ')))} ${one.slice(one.indexOf(' ') + 1)}`,
  );
  const bad = unfit.map(({ disk, state }) => `${disk} (${state})`);
  const parts = [
    ...(lacking.length > 0 ? [`partial: lacks ${lacking.join(', ')}`] : []),
    ...(bad.length > 0 ? [`not restorable: ${bad.join(', ')}`] : []),
  ];
  return parts.length > 0 ? parts.join('; ') : rows.map(({ disk }) => disk).join(', ');
}

function runsOf(draft: Draft): Run[] {
  const list = draft.browser.archives({ ...chosenFilter(draft), mode: 'all' });
  while (!list.length.isExact && list.length.known < MAX_ARCHIVES && list.advance(100));
  const byStamp = new Map<string, ArchiveListRow[]>();
  for (const row of list.rows(0, MAX_ARCHIVES)) {
    if (row !== null) byStamp.set(row.stamp, [...(byStamp.get(row.stamp) ?? []), row]);
  }
  return [...byStamp].flatMap(([stamp, rows]) =>
    rowsByRun(rows).map((ofRun, number) => ({
      id: number === 0 ? stamp : `${stamp} ${number}`,
      ...runOf(stamp, ofRun),
    })),
  );
}

const UNFIT = new Set(['arriving or cut', 'foreign', 'without FULL']);

function runOf(stamp: string, all: readonly ArchiveListRow[]): Omit<Run, 'id'> {
  const chosen = new Map<string, ArchiveListRow>();
  const unfit = new Map<string, ArchiveListRow>();
  for (const row of all) {
    const key = `${row.scsiId} ${row.disk}`;
    if (UNFIT.has(row.state ?? '')) {
      unfit.set(key, row);
      continue;
    }
    // A run's DELTA restores with what its program proves; a FULL of the same run has its empty DELTA beside it.
    if (chosen.get(key)?.kind !== 'delta') chosen.set(key, row);
  }
  for (const key of chosen.keys()) unfit.delete(key);
  const wanted = new Set(all.flatMap(({ header }) => header?.runDisks ?? []));
  const missing = [...wanted].filter((key) => !chosen.has(key) && !unfit.has(key));
  const rows = [...chosen.values()].sort((a, b) => (a.scsiId < b.scsiId ? -1 : 1));
  const sizeBytes = all.reduce((sum, row) => sum + row.sizeBytes, 0);
  return { stamp, rows, missing, unfit: [...unfit.values()], sizeBytes };
}
