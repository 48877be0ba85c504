/** Lists of archives as people filter them, with the results of verify runs; and the newest complete run of a VM. */
import type { ArchiveCursor, ArchiveFilter } from '../../db/archive-filter.ts';
import type { ArchiveHeader, ArchiveRow } from '../../db/archive-rows.ts';
import type { VerifyOutcome } from '../../db/jobs-db.ts';
import { listedName } from '../archive/names.ts';
import { dateOfStamp } from '../clock.ts';
import { PhdError } from '../errors.ts';
import type { Stamp, Transport } from '../model/archive.ts';
import { nearNames } from '../model/near-names.ts';
import type { EngineContext } from './context.ts';

/** The two databases that lists are made of. */
export type Catalogue = Pick<EngineContext, 'index' | 'jobs'>;

/** Filter in the words of the command line and the console. */
export interface ListFilter {
  vm?: string;
  disk?: string;
  /** Own stamps, both ends included (see `parseDateRange`). */
  from?: Stamp;
  to?: Stamp;
  transport?: 'all' | 'ssh' | 'ftp';
  /** Archives on vmfs targets. */
  vmfs?: 'show' | 'only' | 'hide';
  /** null: all targets. */
  target?: number | null;
  mode?: 'all' | 'full' | 'delta';
}

/**
 * Why a row is no archive to count on, or null. `arriving or cut`: its end is missing, or it has another size than was written; `foreign`: listed, not
 * restored; `without DELTA`: a FULL whose empty DELTA is not in its folder;
 * `without FULL`: a DELTA whose FULL the index knows nowhere; `partial`: its run lacks disks;
 * `incomplete`: sectors of the device could not be read, zeros stand for them.
 */
export type ArchiveState =
  | 'arriving or cut'
  | 'foreign'
  | 'without DELTA'
  | 'without FULL'
  | 'partial'
  | 'incomplete'
  | null;

export interface ListedRow extends VerifiedRow {
  state: ArchiveState;
}

export interface VerifiedRow extends ArchiveRow {
  /** UTC, ISO 8601, or null. */
  verifiedAt: string | null;
  verifyResult: VerifyOutcome | null;
  /** True for an archive this program lists but cannot restore. */
  foreign: boolean;
}

/** `YYYY-MM-DD`, `YYYY-MM-DDTHH:MM` or a range `D..D` as stamps, both ends included. Throws USAGE. */
export function parseDateRange(text: string): { from: Stamp; to: Stamp } {
  const ends = text.split('..');
  const [first = '', last = first] = ends;
  if (ends.length > 1 && ends.some((end) => end === ''))
    throw new PhdError('USAGE', `${JSON.stringify(text)} is no range: both ends are needed, D..D`);
  if (ends.length > 2) throw new PhdError('USAGE', `${JSON.stringify(text)} is no date: expected D or D..D`);
  const from = checkDate(first);
  const to = checkDate(last);
  if (from > to) throw new PhdError('USAGE', `${JSON.stringify(text)} ends before it begins`);
  return { from: from.length === 10 ? `${from}T00:00` : from, to: lastStampOf(to) };
}

/** The last stamp that a date or a stamp covers. Throws USAGE if it is neither. */
export function lastStampOf(date: string): Stamp {
  const checked = checkDate(date);
  return checked.length === 10 ? `${checked}T23:59` : checked;
}

/** The moment, local time, at which a date or a stamp begins. Throws USAGE if it is neither. */
export function firstMomentOf(date: string): Date {
  const checked = checkDate(date);
  return dateOfStamp(checked.length === 10 ? `${checked}T00:00` : checked);
}

/** The same filter in the terms of the index. */
export function indexFilter(
  context: { config: { targets: readonly { number: number; transport: Transport }[] } },
  filter: ListFilter,
): ArchiveFilter {
  const { transport = 'all', vmfs = 'show', mode = 'all' } = filter;
  const passes = (one: Transport): boolean => {
    if (one === 'vmfs') return vmfs !== 'hide' && (transport === 'all' || vmfs === 'only');
    return vmfs !== 'only' && (transport === 'all' || transport === one);
  };
  const targets = context.config.targets
    .filter((one) => passes(one.transport) && (filter.target == null || filter.target === one.number))
    .map((one) => one.number);
  return {
    ...(filter.vm ? { vmPart: filter.vm } : {}),
    ...(filter.disk ? { diskPart: filter.disk } : {}),
    ...(filter.from ? { from: filter.from } : {}),
    ...(filter.to ? { to: filter.to } : {}),
    ...(mode === 'all' ? {} : { kind: mode }),
    ...(targets.length === context.config.targets.length ? {} : { targets }),
  };
}

/** One page of archives, newest first. */
export function listArchives(
  context: EngineContext,
  filter: ListFilter,
  page: { after?: ArchiveCursor; limit: number; backward?: boolean },
): ListedRow[] {
  return listedRows(context, context.index.listArchives(indexFilter(context, filter), page));
}

/** Rows of the index with what lists tell of them. */
export function listedRows(catalogue: Catalogue, rows: readonly ArchiveRow[]): ListedRow[] {
  const partialRuns = new Map<string, boolean>();
  return rows.map((row) => ({
    ...withVerify(catalogue, row),
    state: stateOf(catalogue, row, partialRuns),
  }));
}

/** `partialRuns` remembers what was found of each run of the page. */
function stateOf(context: Catalogue, row: ArchiveRow, partialRuns: Map<string, boolean>): ArchiveState {
  if (!row.complete || !hasWrittenSize(context, row)) return 'arriving or cut';
  if (isForeign(row)) return 'foreign';
  if (row.kind === 'full' && !context.index.hasEmptyDelta(row.id)) return 'without DELTA';
  const run = `${row.vmId} ${row.stamp}`;
  let isPartial = partialRuns.get(run);
  if (isPartial === undefined) {
    const { wanted, present } = context.index.disksOfRun(row.vmId, row.stamp);
    isPartial = wanted.some((disk) => !present.includes(disk));
    partialRuns.set(run, isPartial);
  }
  if (isPartial) return 'partial';
  if (row.kind === 'delta' && !context.index.hasFull(row)) return 'without FULL';
  return (row.header?.unreadableSectors ?? 0) > 0 ? 'incomplete' : null;
}

/** False where this home wrote it, and wrote another size. */
function hasWrittenSize({ jobs }: Catalogue, { targetNumber, folder, file, sizeBytes }: ArchiveRow): boolean {
  return (jobs.written(targetNumber, folder, file)?.sizeBytes ?? sizeBytes) === sizeBytes;
}

/** The row with the result of its last verify run. */
export function withVerify(context: Catalogue, row: ArchiveRow): VerifiedRow {
  const verified = context.jobs.verifyResult(row.targetNumber, row.folder, row.file, row.sizeBytes);
  return {
    ...row,
    foreign: isForeign(row),
    verifiedAt: verified?.verifiedAt ?? null,
    verifyResult: verified?.result ?? null,
  };
}

/** So many runs after a date are named where there is none before. */
const NEXT_RUNS = 3;
/** So many names of VMs are compared with one that is not there. */
const NAMES_COMPARED = 5000;

/** All disks of one VM at one time. */
export interface Run {
  vm: string;
  uuid: string;
  stamp: Stamp;
  /** The DELTA of each disk, one copy each, by SCSI id. */
  deltas: ArchiveRow[];
}

/**
 * The newest run of a VM (by name or UUID), on or before a stamp, whose disks are all there. `readHeader` reads a
 * DELTA's manifest; it is called only for rows whose header the index does not hold, newest run first, and what it
 * gives is kept. Runs that lack disks or are still arriving are passed over and named through `onPartial`.
 * Throws NOT_FOUND, USAGE (several VMs bear this name).
 */
export async function newestCompleteRun(
  context: EngineContext,
  wanted: { vm: string; onOrBefore?: Stamp },
  readHeader: (row: ArchiveRow) => Promise<ArchiveHeader>,
  onPartial: (stamp: Stamp, why: string) => void = () => {},
): Promise<Run> {
  const filter = vmFilter(context, wanted.vm);
  const limits = wanted.onOrBefore === undefined ? {} : { to: wanted.onOrBefore };
  for (const stamp of stampsOf(context, { ...filter, ...limits })) {
    const found = await completeRunAt(context, { ...filter, from: stamp, to: stamp }, readHeader);
    if (typeof found !== 'string') return { stamp, ...found };
    onPartial(stamp, found);
  }
  const until = wanted.onOrBefore === undefined ? '' : ` on or before ${wanted.onOrBefore.replace('T', ' ')}`;
  throw new PhdError(
    'NOT_FOUND',
    `there is no complete run of ${JSON.stringify(wanted.vm)}${until} in the index${nextRuns(context, filter, wanted.onOrBefore)}`,
  );
}

/** The first runs after a stamp, in words; empty if there is none. */
function nextRuns(context: EngineContext, filter: ArchiveFilter, after: Stamp | undefined): string {
  if (after === undefined) return '';
  const later: Stamp[] = [];
  for (const stamp of stampsOf(context, filter)) {
    if (stamp <= after) break;
    later.push(stamp);
  }
  const next = later.slice(-NEXT_RUNS).reverse();
  return next.length === 0 ? '' : `; the next are of ${next.join(', ').replaceAll('T', ' ')}`;
}

/**
 * DELTAs of the newest complete run of a VM (name or UUID), on or before a date or stamp, by SCSI id; with `disk`
 * that disk alone. Empty if the run has no such disk. Throws NOT_FOUND, USAGE, TARGET_*.
 */
export async function newestRun(
  context: EngineContext,
  wanted: { vm: string; disk?: string; onOrBefore?: string },
  onPartial?: (stamp: Stamp, why: string) => void,
): Promise<ArchiveRow[]> {
  const until = wanted.onOrBefore === undefined ? {} : { onOrBefore: lastStampOf(wanted.onOrBefore) };
  const read = async (row: ArchiveRow) => (await import('./delta-header.ts')).readDeltaHeader(context, row);
  const run = await newestCompleteRun(context, { vm: wanted.vm, ...until }, read, onPartial);
  const disk = wanted.disk === undefined ? undefined : listedName(wanted.disk);
  return run.deltas.filter((row) => disk === undefined || row.disk === disk);
}

/**
 * The run of one stamp, or why it cannot be taken. A DELTA that turns out cut or foreign is marked so, and the rest
 * of the run, or another copy, is looked at without it.
 */
async function completeRunAt(
  context: EngineContext,
  filter: ArchiveFilter,
  readHeader: (row: ArchiveRow) => Promise<ArchiveHeader>,
): Promise<Omit<Run, 'stamp'> | string> {
  let why = 'no complete DELTA';
  for (;;) {
    const rows = context.index.listArchives(filter, { limit: 10_000 });
    const whole = rows.filter((row) => row.kind === 'delta' && row.complete);
    const runs = rowsByRun(whole.filter((row) => !isForeign(row))).map(nearestOfEachDisk);
    let first = runs[0]?.[0];
    if (first === undefined) return whole.length === 0 ? why : 'made by another program';
    const lacking: string[] = [];
    try {
      for (const deltas of runs) {
        first = deltas[0] as ArchiveRow;
        const runDisks = await disksOfRun(context, first, readHeader);
        const present = new Set(deltas.map((row) => `${row.scsiId} ${row.disk}`));
        const missing = runDisks.filter((disk) => !present.has(disk));
        if (missing.length === 0) return { vm: first.vm, uuid: first.uuid, deltas };
        lacking.push(`disks missing: ${missing.join(', ')}`);
      }
      return lacking.join('; ');
    } catch (error) {
      if (!(error instanceof PhdError)) throw error;
      if (error.code === 'ARCHIVE_DAMAGED') context.index.markIncomplete(first.id);
      else if (error.code === 'FORMAT_UNSUPPORTED') {
        const { FOREIGN_HEADER } = await import('./delta-header.ts');
        context.index.recordHeader(first.id, FOREIGN_HEADER);
      } else throw error;
      why = error.message;
    }
  }
}

/**
 * Of the rows of one stamp those of each run: two homes may have made one each, and their disks must not be put together. Rows without
 * a header (FULLs, what was not read yet) may be of any of them.
 */
export function rowsByRun<Row extends Pick<ArchiveRow, 'header'>>(rows: readonly Row[]): Row[][] {
  const ids = [...new Set(rows.flatMap(({ header }) => header?.runId ?? []))];
  if (ids.length === 0) return rows.length === 0 ? [] : [[...rows]];
  return ids.map((id) => rows.filter(({ header }) => (header?.runId ?? id) === id));
}

/** True for an archive this program lists but cannot restore. */
function isForeign(row: ArchiveRow): boolean {
  return row.generation === 2 || row.header?.foreign === true;
}

async function disksOfRun(
  context: EngineContext,
  row: ArchiveRow,
  readHeader: (row: ArchiveRow) => Promise<ArchiveHeader>,
): Promise<string[]> {
  if (row.header !== null) return row.header.runDisks;
  const header = await readHeader(row);
  context.index.recordHeader(row.id, header);
  return header.runDisks;
}

/** Exact filter for a VM by UUID or by name. Throws NOT_FOUND, USAGE if several VMs bear the name. */
function vmFilter(context: EngineContext, nameOrUuid: string): ArchiveFilter {
  const name = listedName(nameOrUuid);
  const byUuid = context.index.distinctVms({ uuid: nameOrUuid }, { limit: 1 });
  if (byUuid.length > 0) return { uuid: nameOrUuid };
  const named = context.index.distinctVms({ vm: name }, { limit: 10 });
  if (named.length > 1) {
    const uuids = named.map((one) => one.uuid).join(', ');
    throw new PhdError(
      'USAGE',
      `several VMs are called ${JSON.stringify(nameOrUuid)}: give the UUID (${uuids})`,
    );
  }
  if (named.length === 0) {
    const names = context.index.distinctVms({}, { limit: NAMES_COMPARED }).map((one) => one.vm);
    const near = nearNames(name, names).map((one) => JSON.stringify(one));
    const words = near.length === 0 ? '' : `; did you mean ${near.join(' or ')}?`;
    throw new PhdError('NOT_FOUND', `there is no VM ${JSON.stringify(nameOrUuid)} in the index${words}`);
  }
  return { vm: name };
}

/** Distinct own stamps, newest first, read page by page. */
function* stampsOf(context: EngineContext, filter: ArchiveFilter): Generator<Stamp> {
  let after: ArchiveCursor | undefined;
  let last: Stamp | undefined;
  for (;;) {
    const rows = context.index.listArchives(filter, {
      limit: 200,
      ...(after === undefined ? {} : { after }),
    });
    for (const row of rows) {
      if (row.stamp !== last) yield row.stamp;
      last = row.stamp;
    }
    const end = rows.at(-1);
    if (end === undefined || rows.length < 200) return;
    after = { stamp: end.stamp, vmId: end.vmId, diskId: end.diskId, id: end.id };
  }
}

function nearestOfEachDisk(rows: ArchiveRow[]): ArchiveRow[] {
  const chosen = new Map<string, ArchiveRow>();
  const distance = (row: ArchiveRow) => (row.transport === 'vmfs' ? 0 : 10_000) + row.targetNumber;
  for (const row of rows) {
    const key = `${row.scsiId} ${row.disk}`;
    const other = chosen.get(key);
    if (other === undefined || distance(row) < distance(other)) chosen.set(key, row);
  }
  return [...chosen.values()].sort((a, b) => (a.scsiId < b.scsiId ? -1 : 1));
}

function checkDate(text: string): string {
  const match = /^(\d{4}-\d\d-\d\d)(?:T([01]\d|2[0-3]):[0-5]\d)?$/.exec(text);
  const day = match?.[1];
  const moment = day === undefined ? undefined : new Date(`${day}T00:00:00Z`);
  if (
    day === undefined ||
    moment === undefined ||
    Number.isNaN(moment.getTime()) ||
    !moment.toISOString().startsWith(day)
  ) {
    throw new PhdError(
      'USAGE',
      `${JSON.stringify(text)} is no date: expected YYYY-MM-DD or YYYY-MM-DDTHH:MM`,
    );
  }
  return text;
}
