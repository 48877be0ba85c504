/**
 * Turns a filter into SQL that answers its first page at once, however many archives there are.
 *
 * A name part that fits few names (NARROW_LIMIT) leads from those names to their archives. One that fits many is
 * tested while the archives are walked in order of time, which fills a page soon because it fits many. Which of
 * the two is decided for each target, since VMs are spread unevenly over targets.
 */
import type Database from 'better-sqlite3';
import type { ArchiveKind, Stamp } from '../src/model/archive.ts';
import { fold, trigramQuery } from './fold.ts';

/** Names up to this many are looked up one by one. */
const NARROW_LIMIT = 1000;
/** Up to this many, the targets that hold them are found by looking each name up. */
const LISTED_LIMIT = 10_000;

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

type Values = Record<string, string | number>;

export interface Query {
  sql: string;
  values: Values;
}

/** Names that pass the filter: a short list of ids, a condition to test on each row (its ids if listed), or anything. */
export type NameMatch =
  | { kind: 'few'; ids: number[] }
  | { kind: 'many'; part: string; ids: number[] | null }
  | { kind: 'any' };

const TABLES = { vm: 'vms', disk: 'disks' } as const;

/** Which VMs or disks pass the name conditions of the filter. */
export function matchNames(
  database: Database.Database,
  table: 'vm' | 'disk',
  filter: ArchiveFilter,
): NameMatch {
  const names = TABLES[table];
  const exact = table === 'vm' ? filter.vm : filter.disk;
  const uuid = table === 'vm' ? filter.uuid : undefined;
  const part = fold((table === 'vm' ? filter.vmPart : filter.diskPart) ?? '');
  const conditions: string[] = [];
  const values: Values = {};
  if (exact !== undefined) {
    conditions.push('n.name = @exact');
    values.exact = exact;
  }
  if (uuid !== undefined) {
    conditions.push('n.uuid = @uuid');
    values.uuid = uuid.toLowerCase();
  }
  const isExact = conditions.length > 0;
  let from = `${names} n`;
  if (part !== '') {
    conditions.push('instr(n.folded, @part) > 0');
    values.part = part;
    if (!isExact && Array.from(part).length >= 3) {
      from = `${names}_trigrams t CROSS JOIN ${names} n ON n.id = t.rowid`;
      conditions.push(`${names}_trigrams MATCH @trigrams`);
      values.trigrams = trigramQuery(part);
    }
  }
  if (conditions.length === 0) return { kind: 'any' };
  const limit = isExact ? '' : `LIMIT ${LISTED_LIMIT + 1}`;
  const sql = `SELECT n.id FROM ${from} WHERE ${conditions.join(' AND ')} ${limit}`;
  const ids = database.prepare(sql).pluck().all(values) as number[];
  if (isExact || ids.length <= NARROW_LIMIT) return { kind: 'few', ids };
  return { kind: 'many', part, ids: ids.length > LISTED_LIMIT ? null : ids };
}

/**
 * Ids of archives in the order of lists; `limit` undefined for all of them. Columns: id, stamp, vm_id, disk_id,
 * target_number, kind.
 * `backward` walks towards newer archives (the caller turns the page round).
 */
export function archiveQuery(
  database: Database.Database,
  filter: ArchiveFilter,
  allTargets: readonly number[],
  page: { after?: ArchiveCursor; limit?: number; backward?: boolean; unordered?: boolean } = {},
): Query {
  const vm = matchNames(database, 'vm', filter);
  const disk = matchNames(database, 'disk', filter);
  const targets =
    filter.targets === undefined ? allTargets : allTargets.filter((one) => filter.targets?.includes(one));
  const kinds = filter.kind === undefined ? (['full', 'delta'] as const) : [filter.kind];
  const { conditions, values } = rowConditions(filter, page.after, page.backward ?? false);
  for (const [column, match] of [
    ['vm_id', vm],
    ['disk_id', disk],
  ] as const) {
    if (match.kind === 'few') {
      conditions.push(`${column} IN (SELECT value FROM json_each(@${column}))`);
      values[column] = JSON.stringify(match.ids);
    } else if (match.kind === 'many') {
      const names = column === 'vm_id' ? 'vms' : 'disks';
      conditions.push(`(SELECT instr(folded, @${column}) FROM ${names} WHERE id = a.${column}) > 0`);
      values[column] = match.part;
    }
  }
  const order = page.backward ? 'ASC' : 'DESC';
  const sorted = page.unordered
    ? ''
    : `ORDER BY stamp ${order}, vm_id ${order}, disk_id ${order}, id ${order}`;
  const tail = `${sorted} ${page.limit === undefined ? '' : 'LIMIT @limit'}`;
  if (page.limit !== undefined) values.limit = page.limit;
  const columns = 'SELECT id, stamp, vm_id, disk_id, target_number, kind FROM archives a';
  const narrow = narrowIndex(vm, disk);
  if (narrow !== undefined || targets.length === 0) {
    values.targets = JSON.stringify(targets);
    values.kinds = JSON.stringify(kinds);
    const where = [
      ...conditions,
      'target_number IN (SELECT value FROM json_each(@targets))',
      'kind IN (SELECT value FROM json_each(@kinds))',
    ].join(' AND ');
    const indexed = narrow === undefined ? '' : `INDEXED BY ${narrow}`;
    return { sql: `${columns} ${indexed} WHERE ${where} ${tail}`, values };
  }
  const where = conditions.map((condition) => ` AND ${condition}`).join('');
  const holders = holdersOfNames(database, vm, disk);
  const branches = targets.flatMap((target) => {
    const vms = fewVmsOfTarget(database, target, vm, disk, holders);
    if (vms?.length === 0) return [];
    if (vms !== undefined) values[`vms${target}`] = JSON.stringify(vms);
    return kinds.map((kind) => {
      const range = `target_number = ${target} AND kind = '${kind}'${where}`;
      return vms === undefined
        ? `${columns} INDEXED BY archives_by_time WHERE ${range}`
        : `${columns} INDEXED BY archives_by_vm
           WHERE vm_id IN (SELECT value FROM json_each(@vms${target})) AND ${range}`;
    });
  });
  if (branches.length === 0) branches.push(`${columns} WHERE 0`);
  return { sql: `${branches.join(' UNION ALL ')} ${tail}`, values };
}

/** VMs by target that pass the one name condition whose names are listed; undefined if there is no such one. */
function holdersOfNames(
  database: Database.Database,
  vm: NameMatch,
  disk: NameMatch,
): Map<number, Set<number>> | undefined {
  const [table, match] = disk.kind === 'any' ? (['vm', vm] as const) : (['disk', disk] as const);
  if (match.kind !== 'many' || match.ids === null || (table === 'disk' && vm.kind !== 'any'))
    return undefined;
  const sql = `SELECT target_number, vm_id FROM json_each(?) names
    CROSS JOIN present p INDEXED BY present_by_${table} ON p.${table}_id = names.value`;
  const holders = new Map<number, Set<number>>();
  for (const [target, vmId] of database.prepare(sql).raw().all(JSON.stringify(match.ids)) as [
    number,
    number,
  ][]) {
    const vms = holders.get(target) ?? new Set();
    holders.set(target, vms.add(vmId));
  }
  return holders;
}

/** VMs of one target with a disk that passes both conditions, or undefined if they are many. */
function fewVmsOfTarget(
  database: Database.Database,
  target: number,
  vm: NameMatch,
  disk: NameMatch,
  holders: Map<number, Set<number>> | undefined,
): number[] | undefined {
  if (vm.kind !== 'many' && disk.kind !== 'many') return undefined;
  if (holders !== undefined) {
    const vms = holders.get(target) ?? new Set();
    return vms.size > NARROW_LIMIT ? undefined : [...vms];
  }
  const values: Values = { target, limit: NARROW_LIMIT + 1 };
  let from = 'present p';
  let where = 'p.target_number = @target';
  for (const [table, match] of [
    ['vm', vm],
    ['disk', disk],
  ] as const) {
    if (match.kind !== 'many') continue;
    from += ` CROSS JOIN ${TABLES[table]} ${table} ON ${table}.id = p.${table}_id`;
    where += ` AND instr(${table}.folded, @${table}) > 0`;
    values[table] = match.part;
  }
  const sql = `SELECT DISTINCT p.vm_id FROM ${from} WHERE ${where} LIMIT @limit`;
  const ids = database.prepare(sql).pluck().all(values) as number[];
  return ids.length > NARROW_LIMIT ? undefined : ids;
}

/** Index over the shorter list of names, undefined if neither is short. */
function narrowIndex(vm: NameMatch, disk: NameMatch): string | undefined {
  const vms = vm.kind === 'few' ? vm.ids.length : Number.POSITIVE_INFINITY;
  const disks = disk.kind === 'few' ? disk.ids.length : Number.POSITIVE_INFINITY;
  if (vms === Number.POSITIVE_INFINITY && disks === Number.POSITIVE_INFINITY) return undefined;
  return vms <= disks ? 'archives_by_vm' : 'archives_by_disk';
}

function rowConditions(
  filter: ArchiveFilter,
  after: ArchiveCursor | undefined,
  backward: boolean,
): { conditions: string[]; values: Values } {
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
  if (after !== undefined) {
    const sign = backward ? '>' : '<';
    conditions.push(`(stamp, vm_id, disk_id, id) ${sign} (@cursorStamp, @cursorVm, @cursorDisk, @cursorId)`);
    values.cursorStamp = after.stamp;
    values.cursorVm = after.vmId;
    values.cursorDisk = after.diskId;
    values.cursorId = after.id;
  }
  return { conditions, values };
}
