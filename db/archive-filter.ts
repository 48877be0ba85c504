/**
 * Turns a filter into SQL that answers its first page at once, however many archives there are.
 *
 * A name part that fits few names leads from those names to their archives. One that fits many is tested on the
 * newest archives, which mostly fills a page. Where it does not, since those names are old or lie on few targets, the
 * newest archive of each name tells which names can have a place on the page; where they are too many for that, the
 * archives are walked in order of time to the end, target by target.
 */
import type Database from 'better-sqlite3';
import type { ArchiveKind, Stamp } from '../src/model/archive.ts';
import { matchNames, type NameMatch, type NameTable, nameCondition } from './name-match.ts';

/** Archives that are walked in order of time before anything else is tried. */
const WALK_ROWS = 4000;
/** VMs of a target up to this many are looked up one by one. */
const FEW_VMS = 1000;

/** All conditions hold together; one that is absent lets everything through. */
export interface ArchiveFilter {
  /** Any part of the VM name, folded. */
  vmPart?: string;
  /** Any part of the disk name, folded. */
  diskPart?: string;
  /** The whole VM name. */
  vm?: string;
  uuid?: string;
  /** The whole disk name. */
  disk?: string;
  scsiId?: string;
  /** Own stamp, both ends included. */
  from?: Stamp;
  to?: Stamp;
  /** Only these targets. */
  targets?: readonly number[];
  kind?: ArchiveKind;
}

/** Place of an archive in the order of lists: newest first, archives of one VM together. */
export interface ArchiveCursor {
  stamp: Stamp;
  vmId: number;
  diskId: number;
  id: number;
}

export interface ArchivePage {
  after?: ArchiveCursor;
  /** Absent: all. */
  limit?: number;
  /** Walks towards newer archives (the caller turns the page round). */
  backward?: boolean;
  unordered?: boolean;
}

type Values = Record<string, string | number>;

export interface Query {
  sql: string;
  values: Values;
}

/** A filter with what its name conditions found. */
interface Search {
  filter: ArchiveFilter;
  vm: NameMatch;
  disk: NameMatch;
  /** Targets to look at. */
  targets: readonly number[];
  page: ArchivePage;
}

const COLUMNS = 'SELECT id, stamp, vm_id, disk_id, target_number, kind FROM archives a';

/** Archives in the order of lists. Columns: id, stamp, vm_id, disk_id, target_number, kind. */
export function archiveQuery(
  database: Database.Database,
  filter: ArchiveFilter,
  allTargets: readonly number[],
  page: ArchivePage = {},
): Query {
  const isWhole = page.limit === undefined || page.unordered === true;
  const match = (table: NameTable): NameMatch => {
    const found = matchNames(database, table, filter);
    return isWhole && found.kind === 'many' && found.ids !== null ? { kind: 'few', ids: found.ids } : found;
  };
  const { targets: wanted } = filter;
  const targets = wanted === undefined ? allTargets : allTargets.filter((one) => wanted.includes(one));
  const search: Search = { filter, vm: match('vm'), disk: match('disk'), targets, page };
  const { vm, disk } = search;
  if (targets.length === 0 || vm.kind === 'few' || disk.kind === 'few') return byNames(search);
  if (isWhole || (vm.kind === 'any' && disk.kind === 'any')) return byTime(database, search);
  return amongNewest(database, search) ?? byNewestOfNames(database, search) ?? byTime(database, search);
}

/** From names to their archives, by the shorter list of names. */
function byNames(search: Search): Query {
  const { vm, disk, targets } = search;
  const count = (match: NameMatch): number =>
    match.kind === 'few' ? match.ids.length : Number.POSITIVE_INFINITY;
  const { conditions, values } = rowConditions(search);
  conditions.push(...nameConditions(search, values));
  if (targets.length === 0) conditions.push('0');
  const { filter } = search;
  if (filter.targets !== undefined) {
    conditions.push('target_number IN (SELECT value FROM json_each(@targets))');
    values.targets = JSON.stringify(targets);
  }
  if (filter.kind !== undefined) {
    conditions.push('kind = @kind');
    values.kind = filter.kind;
  }
  const isAny = vm.kind !== 'few' && disk.kind !== 'few';
  const indexed = isAny
    ? ''
    : `INDEXED BY ${count(vm) <= count(disk) ? 'archives_by_vm' : 'archives_by_disk'}`;
  return { sql: `${COLUMNS} ${indexed} WHERE ${allOf(conditions)} ${tailOf(search.page, values)}`, values };
}

/** A walk in order of time: one range for each target and kind; targets that hold few of the VMs by these. */
function byTime(database: Database.Database, search: Search): Query {
  const { conditions, values } = rowConditions(search);
  conditions.push(...nameConditions(search, values));
  const branches = search.targets.flatMap((target) => {
    const vms = fewVmsOfTarget(database, target, search);
    if (vms?.length === 0) return [];
    if (vms !== undefined) values[`vms${target}`] = JSON.stringify(vms);
    return kindsOf(search).map((kind) => {
      const range = allOf([`target_number = ${target}`, `kind = '${kind}'`, ...conditions]);
      return vms === undefined
        ? `${COLUMNS} INDEXED BY archives_by_time WHERE ${range}`
        : `${COLUMNS} INDEXED BY archives_by_vm
           WHERE vm_id IN (SELECT value FROM json_each(@vms${target})) AND ${range}`;
    });
  });
  if (branches.length === 0) branches.push(`${COLUMNS} WHERE 0`);
  return { sql: `${branches.join(' UNION ALL ')} ${tailOf(search.page, values)}`, values };
}

/** The page, if the newest archives (behind the cursor) fill it; else undefined. */
function amongNewest(database: Database.Database, search: Search): Query | undefined {
  const { limit = 0 } = search.page;
  const any: NameMatch = { kind: 'any' };
  const page = { ...search.page, limit: WALK_ROWS };
  const walk = byTime(database, { ...search, vm: any, disk: any, page });
  const values: Values = { ...walk.values, pageRows: limit };
  const conditions = nameConditions(search, values);
  const sql = `SELECT id FROM (${walk.sql}) a WHERE ${allOf(conditions)} LIMIT @pageRows`;
  const ids = database.prepare(sql).pluck().all(values) as number[];
  if (ids.length < limit) return undefined;
  const found: Values = { ids: JSON.stringify(ids) };
  const chosen = `${COLUMNS} WHERE id IN (SELECT value FROM json_each(@ids))`;
  return { sql: `${chosen} ${tailOf(search.page, found)}`, values: found };
}

/**
 * The archives of those names alone that can have a place on the page: with `limit` names whose newest archive (behind
 * the cursor) is at least so young, no older archive has one. Undefined if the names are too many to be listed.
 */
function byNewestOfNames(database: Database.Database, search: Search): Query | undefined {
  const { vm, disk, filter, page } = search;
  const listed = (match: NameMatch) => (match.kind === 'many' && match.ids !== null ? match.ids : undefined);
  const [vms, disks] = [listed(vm), listed(disk)];
  const isByVm = vms !== undefined && vms.length <= (disks?.length ?? Number.POSITIVE_INFINITY);
  const table = isByVm ? 'vm' : 'disk';
  const ids = isByVm ? vms : disks;
  if (ids === undefined) return undefined;
  const { conditions, values } = rowConditions(search);
  conditions.push(`a.${table}_id = names.value`);
  conditions.push(...nameConditions({ ...search, [table]: { kind: 'any' } }, values));
  if (filter.targets !== undefined) conditions.push(`target_number IN (${search.targets.join()})`);
  if (filter.kind !== undefined) conditions.push(`kind = '${filter.kind}'`);
  const order = page.backward ? 'ASC' : 'DESC';
  const newest = `SELECT stamp FROM archives a INDEXED BY archives_by_${table} WHERE ${allOf(conditions)}
    ORDER BY stamp ${order} LIMIT 1`;
  const sql = `SELECT json_group_array(value) AS ids, json_group_array(stamp) AS stamps FROM
    (SELECT value, (${newest}) AS stamp FROM json_each(@names) names) WHERE stamp IS NOT NULL`;
  const found = database.prepare(sql).get({ ...values, names: JSON.stringify(ids) }) as Record<
    string,
    string
  >;
  const holders = JSON.parse(found.ids ?? '[]') as number[];
  const stamps = JSON.parse(found.stamps ?? '[]') as Stamp[];
  const sorted = [...stamps].sort();
  const { limit = 0 } = page;
  const last = page.backward ? sorted[limit - 1] : sorted[sorted.length - limit];
  const isIn = (stamp: Stamp): boolean =>
    last === undefined || (page.backward ? stamp <= last : stamp >= last);
  const few: NameMatch = { kind: 'few', ids: holders.filter((_, at) => isIn(stamps[at] ?? '')) };
  const bound = last === undefined ? {} : page.backward ? { to: last } : { from: last };
  return byNames({ ...search, [table]: few, filter: { ...filter, ...bound } });
}

/** VMs of one target with a disk that passes both conditions, or undefined if they are many or anything passes. */
function fewVmsOfTarget(
  database: Database.Database,
  target: number,
  { vm, disk }: Search,
): number[] | undefined {
  if (vm.kind !== 'many' && disk.kind !== 'many') return undefined;
  const values: Values = { target, limit: FEW_VMS + 1 };
  let from = 'present p';
  let where = 'p.target_number = @target';
  for (const [table, match] of [
    ['vm', vm],
    ['disk', disk],
  ] as const) {
    if (match.kind !== 'many') continue;
    from += ` CROSS JOIN ${table}s ${table} ON ${table}.id = p.${table}_id`;
    where += ` AND instr(${table}.folded, @${table}) > 0`;
    values[table] = match.part;
  }
  const sql = `SELECT DISTINCT p.vm_id FROM ${from} WHERE ${where} LIMIT @limit`;
  const ids = database.prepare(sql).pluck().all(values) as number[];
  return ids.length > FEW_VMS ? undefined : ids;
}

function kindsOf({ filter }: Search): readonly ArchiveKind[] {
  return filter.kind === undefined ? ['full', 'delta'] : [filter.kind];
}

const allOf = (conditions: readonly string[]): string => conditions.join(' AND ') || '1';

function nameConditions({ vm, disk }: Search, values: Values): string[] {
  const conditions = [nameCondition('vm', vm, values), nameCondition('disk', disk, values)];
  return conditions.filter((one) => one !== undefined);
}

/** Order and limit of the page; fills `values`. */
function tailOf(page: ArchivePage, values: Values): string {
  const order = page.backward ? 'ASC' : 'DESC';
  const sorted = page.unordered
    ? ''
    : `ORDER BY stamp ${order}, vm_id ${order}, disk_id ${order}, id ${order}`;
  if (page.limit === undefined) return sorted;
  values.limit = page.limit;
  return `${sorted} LIMIT @limit`;
}

/** What the filter and the cursor say of a row, without names, target and kind. */
function rowConditions({ filter, page }: Search): { conditions: string[]; values: Values } {
  const conditions: string[] = [];
  const values: Values = {};
  if (filter.from !== undefined) {
    conditions.push('stamp >= @from');
    values.from = filter.from;
  }
  if (filter.to !== undefined) {
    conditions.push('stamp <= @to');
    values.to = filter.to;
  }
  if (filter.scsiId !== undefined) {
    conditions.push('scsi_id = @scsiId');
    values.scsiId = filter.scsiId;
  }
  const { after } = page;
  if (after !== undefined) {
    const sign = page.backward ? '>' : '<';
    conditions.push(`(stamp, vm_id, disk_id, id) ${sign} (@cursorStamp, @cursorVm, @cursorDisk, @cursorId)`);
    values.cursorStamp = after.stamp;
    values.cursorVm = after.vmId;
    values.cursorDisk = after.diskId;
    values.cursorId = after.id;
  }
  return { conditions, values };
}
