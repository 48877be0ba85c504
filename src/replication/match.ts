/** From a line of `vmdks.auto` to the archive it asks for today, or one reason why there is none. Asks the index only. */
import type { ArchiveFilter } from '../../db/archive-filter.ts';
import type { ArchiveRow } from '../../db/archive-rows.ts';
import type { IndexDb } from '../../db/index-db.ts';
import { listedName } from '../archive/names.ts';
import { localDate } from '../clock.ts';
import type { PhdError } from '../errors.ts';
import type { Stamp } from '../model/archive.ts';
import type { RestoredLog } from './restored-log.ts';
import type { RestoreLine, VmdksAuto } from './vmdks-auto.ts';

export const DECISIONS = ['restore', 'already restored', 'queued', 'too new', 'no match', 'refused'] as const;
export type DecisionKind = (typeof DECISIONS)[number];

export interface Decision {
  line: RestoreLine;
  kind: DecisionKind;
  /** One line for people. */
  reason: string;
  /** The archive to restore, or that was restored; null: none. */
  row: ArchiveRow | null;
  /** What a person should know although the line does what it says. */
  warnings: string[];
  /** Why it is refused; null otherwise. */
  fault: PhdError | null;
  /** Number of the job that writes this disk; null: none. */
  job: number | null;
  /** An in-place restore was broken off over its disk. */
  isUnfinished: boolean;
}

/** What the index is asked for. */
export type MatchIndex = Pick<IndexDb, 'listArchives' | 'series' | 'disksOfRun' | 'hasFull'>;

export interface MatchContext {
  index: MatchIndex;
  /** Local day is taken from it. */
  now: Date;
  file: Pick<VmdksAuto, 'days' | 'daysFaultLine'>;
  restored: Pick<RestoredLog, 'names' | 'entries'>;
  /** Targets that cannot be reached now: a copy elsewhere is taken first. */
  deadTargets: ReadonlySet<number>;
}

/** Archives of one page: the newest of all mostly decides. */
const FIRST_PAGE = 2;
const PAGE = 16;
/** So many archives that were passed over are named. */
const NAMED = 3;

/** `N:folder/file` */
export function archiveText({ targetNumber, folder, file }: ArchiveRow): string {
  return `${targetNumber}:${folder}/${file}`;
}

/** Last stamp that a line may take today: `days` is 0 or negative. */
export function lastStampFor(now: Date, days: number): Stamp {
  return `${localDate(new Date(now.getFullYear(), now.getMonth(), now.getDate() + days))}T23:59`;
}

/** What the line asks for today. Throws IO. */
export function matchLine(line: RestoreLine, context: MatchContext): Decision {
  const { file, index } = context;
  if (line.days === null && file.daysFaultLine !== null) {
    return decide(line, 'no match', `USE_DAYS in line ${file.daysFaultLine} cannot be read: mend it first`);
  }
  const search = searchOf(line, index);
  const until = lastStampFor(context.now, line.days ?? file.days);
  const chosen = newestUsable(search.filter, until, line, context);
  const warnings = [...search.warnings, ...chosen.passedOver.map((one) => `passed over: ${one}`)];
  const { row } = chosen;
  if (row === null)
    return { ...withoutArchive(line, search.filter, until, chosen.passedOver, context), warnings };
  const others = othersOf(line, search.filter, row, index);
  if (others !== undefined) warnings.push(others);
  const archive = archiveText(row);
  if (context.restored.names(archive, line.goal))
    return { ...decide(line, 'already restored', archive), row, warnings };
  const newer = newerThere(row, line.goal, context.restored);
  if (newer !== undefined) warnings.push(`older than what lies there: ${newer} was restored to ${line.goal}`);
  return { ...decide(line, 'restore', archive), row, warnings };
}

export function decide(line: RestoreLine, kind: DecisionKind, reason: string): Decision {
  return { line, kind, reason, row: null, warnings: [], fault: null, job: null, isUnfinished: false };
}

/** Only DELTAs are restored: a FULL has its empty one. */
function searchOf(line: RestoreLine, index: MatchIndex): { filter: ArchiveFilter; warnings: string[] } {
  const filter: ArchiveFilter = {
    kind: 'delta',
    disk: listedName(line.disk),
    ...(line.vm === null ? {} : { vm: listedName(line.vm) }),
    ...(line.uuid === null ? {} : { uuid: line.uuid }),
    ...(line.scsiId === null ? {} : { scsiId: line.scsiId }),
  };
  if (line.vm !== null || line.scsiId === null) return { filter, warnings: [] };
  if (index.listArchives(filter, { limit: 1 }).length > 0) return { filter, warnings: [] };
  const { scsiId, ...byName } = filter;
  return index.listArchives(byName, { limit: 1 }).length === 0
    ? { filter, warnings: [] }
    : { filter: byName, warnings: [`no ${line.disk} has SCSI id ${scsiId}: taken by its name alone`] };
}

interface Chosen {
  row: ArchiveRow | null;
  /** Newer archives that cannot be taken, each with its reason. */
  passedOver: string[];
}

/** The newest archive that can be restored; of its copies the nearest. */
function newestUsable(filter: ArchiveFilter, until: Stamp, line: RestoreLine, context: MatchContext): Chosen {
  const passedOver: string[] = [];
  let after: { stamp: string; vmId: number; diskId: number; id: number } | undefined;
  const tried = new Set<string>();
  for (;;) {
    const limit = after === undefined ? FIRST_PAGE : PAGE;
    const page = context.index.listArchives(
      { ...filter, to: until },
      { limit, ...(after === undefined ? {} : { after }) },
    );
    for (const row of page) {
      const run = runOf(row);
      if (tried.has(run)) continue;
      tried.add(run);
      if (row.complete && context.restored.names(archiveText(row), line.goal)) return { row, passedOver };
      const copies = copiesOf(row, filter, context.index);
      const fault = faultOf(copies, context.index);
      if (fault === null) return { row: nearest(copies, context.deadTargets), passedOver };
      if (passedOver.length < NAMED) passedOver.push(`${row.stamp.replace('T', ' ')}, ${fault}`);
    }
    const last = page.at(-1);
    if (last === undefined || page.length < limit) return { row: null, passedOver };
    after = { stamp: last.stamp, vmId: last.vmId, diskId: last.diskId, id: last.id };
  }
}

const runOf = (row: ArchiveRow): string => `${row.vmId} ${row.diskId} ${row.scsiId} ${row.stamp}`;

/** All rows of the same disk and stamp that can be read, on whichever target. */
function copiesOf(row: ArchiveRow, filter: ArchiveFilter, index: MatchIndex): ArchiveRow[] {
  const sameRun = {
    ...filter,
    uuid: row.uuid,
    vm: row.vm,
    scsiId: row.scsiId,
    from: row.stamp,
    to: row.stamp,
  };
  return index.listArchives(sameRun, { limit: 100 }).filter((one) => runOf(one) === runOf(row));
}

/** Why none of these can be taken, or null. */
function faultOf(copies: readonly ArchiveRow[], index: MatchIndex): string | null {
  const whole = readable(copies);
  const [first] = whole;
  if (first === undefined)
    return copies.some(({ complete }) => complete) ? 'made by another program' : 'arriving or cut';
  const { wanted, present } = index.disksOfRun(first.vmId, first.stamp);
  const missing = wanted.filter((disk) => !present.includes(disk));
  if (missing.length > 0) return `its run lacks ${missing.join(', ')}`;
  return index.hasFull(first) ? null : `its FULL of ${first.fullStamp.replace('T', ' ')} is on no target`;
}

function readable(rows: readonly ArchiveRow[]): ArchiveRow[] {
  return rows.filter((row) => row.complete && row.generation === 3 && row.header?.foreign !== true);
}

/** Reachable first, then folders of this host, then by number. */
function nearest(copies: readonly ArchiveRow[], deadTargets: ReadonlySet<number>): ArchiveRow {
  const distance = (row: ArchiveRow): number =>
    (deadTargets.has(row.targetNumber) ? 100_000 : 0) +
    (row.transport === 'vmfs' ? 0 : 10_000) +
    row.targetNumber;
  return readable(copies).reduce((best, row) => (distance(row) < distance(best) ? row : best));
}

/** Other VMs and disks that the wild cards of the line let in, in one line; undefined without any. */
function othersOf(
  line: RestoreLine,
  filter: ArchiveFilter,
  row: ArchiveRow,
  index: MatchIndex,
): string | undefined {
  if (line.vm !== null && line.uuid !== null && line.scsiId !== null) return undefined;
  const others = index
    .series(filter)
    .filter((one) => one.vm !== row.vm || one.uuid !== row.uuid || one.scsiId !== row.scsiId)
    .map((one) => `${one.vm} ${one.uuid} ${one.scsiId}-${one.disk}`);
  if (others.length === 0) return undefined;
  const more = others.length > NAMED ? ` and ${others.length - NAMED} more` : '';
  return `several match, the newest is taken; the others: ${others.slice(0, NAMED).join(', ')}${more}`;
}

function withoutArchive(
  line: RestoreLine,
  filter: ArchiveFilter,
  until: Stamp,
  passedOver: readonly string[],
  { index, deadTargets }: MatchContext,
): Decision {
  if (passedOver.length > 0) return decide(line, 'no match', `none can be restored: ${passedOver[0]}`);
  // What a target holds that could not be listed is not known: it may be there all the same.
  const dead = [...deadTargets].sort((a, b) => a - b).join(', ');
  const unknown = dead === '' ? '' : ` (target ${dead} could not be listed now)`;
  const [newest] = index.listArchives(filter, { limit: 1 });
  if (newest !== undefined) {
    const day = until.slice(0, 10);
    return decide(
      line,
      'too new',
      `the newest is of ${newest.stamp.replace('T', ' ')}, none of ${day} or before${unknown}`,
    );
  }
  const { uuid, scsiId, ...named } = filter;
  const [other] = uuid === undefined && scsiId === undefined ? [] : index.listArchives(named, { limit: 1 });
  if (other === undefined)
    return decide(line, 'no match', `no backup of ${line.disk}${ofVm(line)} is in the index${unknown}`);
  const there = `SCSI id ${other.scsiId}, UUID ${other.uuid}`;
  return decide(
    line,
    'no match',
    `no backup of ${line.disk}${ofVm(line)} has this UUID and SCSI id; one has ${there}${unknown}`,
  );
}

const ofVm = ({ vm }: RestoreLine): string => (vm === null ? '' : ` of ${vm}`);

/** A newer archive of the same VM folder and disk that was restored to this goal before. */
function newerThere(
  row: ArchiveRow,
  goal: string,
  restored: Pick<RestoredLog, 'entries'>,
): string | undefined {
  const last = restored.entries.findLast((entry) => entry.goal === goal);
  if (last === undefined) return undefined;
  const [, date, clock] =
    /\.delta(?:\.gpg)?-(\d{4}[.-]\d\d[.-]\d\d)-(\d{4})-\d{6}-\d{4}\.phd$/.exec(last.archive) ?? [];
  if (date === undefined || clock === undefined) return undefined;
  const stamp = `${date.replaceAll('.', '-')}T${clock.slice(0, 2)}:${clock.slice(2)}`;
  return stamp > row.stamp ? last.archive : undefined;
}
