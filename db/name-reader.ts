/** Reads VMs and disk names out of the index: pages of those that have an archive under a filter, and what lists tell of them. */
import { type ArchiveFilter, archiveQuery } from './archive-filter.ts';
import { ArchiveReader } from './archive-reader.ts';
import type { DiskDetails, DiskRow, NameCursor, Page, SqlRow, VmDetails, VmRow } from './archive-rows.ts';
import { fold, trigramQuery } from './fold.ts';
import { columnsOf } from './json-columns.ts';
import { matchNames, nameCondition } from './name-match.ts';

/** Ranges of time with up to this many archives are walked to find their VMs; larger ones are tested VM by VM. */
const SMALL_RANGE = 5000;

/** More names than this are tested one by one in order rather than looked up. */
const MANY_NAMES = 10_000;

/** Newest archives of a VM among which its host is looked for. */
const HEADERS_LOOKED_AT = 20;
/** VMs of one disk name that are told at most. */
export const VMS_COUNTED = 1000;

export class NameReader extends ArchiveReader {
  /** One page of VMs that have an archive which passes the filter, by name. */
  distinctVms(filter: ArchiveFilter, page: Page<NameCursor>): (VmRow & { cursor: NameCursor })[] {
    return this.#names('vm', filter, page).map((row) => ({
      id: Number(row.id),
      vm: String(row.name),
      uuid: String(row.uuid),
      newestStamp: String(row.newest),
      cursor: { folded: String(row.folded), id: Number(row.id) },
    }));
  }

  /** One page of disk names that have an archive which passes the filter, by name. */
  distinctDisks(filter: ArchiveFilter, page: Page<NameCursor>): (DiskRow & { cursor: NameCursor })[] {
    return this.#names('disk', filter, page).map((row) => ({
      id: Number(row.id),
      disk: String(row.name),
      newestStamp: String(row.newest),
      cursor: { folded: String(row.folded), id: Number(row.id) },
    }));
  }

  /** What lists tell of VMs beyond their figures; VMs that are gone are left out. */
  vmDetails(ids: readonly number[]): VmDetails[] {
    return this.guard(() => {
      const rows = this.statement(
        `SELECT v.id, v.name AS vm, v.uuid,
           EXISTS (SELECT 1 FROM vms o WHERE o.name = v.name AND o.id <> v.id) AS is_repeated,
           (SELECT h.host FROM (SELECT id FROM archives INDEXED BY archives_by_vm WHERE vm_id = v.id
              ORDER BY stamp DESC LIMIT ${HEADERS_LOOKED_AT}) a JOIN headers h ON h.archive_id = a.id
              WHERE h.host IS NOT NULL LIMIT 1) AS host,
           (SELECT stamp FROM archives INDEXED BY archives_by_vm WHERE vm_id = v.id
              ORDER BY stamp DESC LIMIT 1) AS newest
         FROM json_each(?) ids JOIN vms v ON v.id = ids.value`,
      ).all(JSON.stringify(ids)) as SqlRow[];
      return rows.map((row) => ({
        id: Number(row.id),
        vm: String(row.vm),
        uuid: String(row.uuid),
        isNameRepeated: row.is_repeated === 1,
        host: row.host === null ? null : String(row.host),
        newestStamp: row.newest === null ? null : String(row.newest),
      }));
    });
  }

  /** What lists tell of disk names beyond their figures; names that are gone are left out. */
  diskDetails(ids: readonly number[]): DiskDetails[] {
    return this.guard(() => {
      const rows = this.statement(
        `SELECT d.id, d.name AS disk,
           (SELECT json_group_array(vm_id) FROM (SELECT DISTINCT vm_id FROM present INDEXED BY present_by_disk
              WHERE disk_id = d.id LIMIT ${VMS_COUNTED})) AS vms,
           (SELECT stamp FROM archives INDEXED BY archives_by_disk WHERE disk_id = d.id
              ORDER BY stamp DESC LIMIT 1) AS newest
         FROM json_each(?) ids JOIN disks d ON d.id = ids.value`,
      ).all(JSON.stringify(ids)) as SqlRow[];
      return rows.map((row) => ({
        id: Number(row.id),
        disk: String(row.disk),
        vmIds: JSON.parse(String(row.vms)) as number[],
        newestStamp: row.newest === null ? null : String(row.newest),
      }));
    });
  }

  /** Ids of the VMs or disk names that hold a part; undefined if all do. */
  nameIds(table: 'vm' | 'disk', part: string): number[] | undefined {
    const folded = fold(part);
    if (folded === '') return undefined;
    return this.guard(() => {
      const isLong = Array.from(folded).length >= 3;
      const from = isLong
        ? `${table}s_trigrams t CROSS JOIN ${table}s n ON n.id = t.rowid WHERE ${table}s_trigrams MATCH @trigrams AND`
        : `${table}s n WHERE`;
      const sql = `SELECT json_group_array(n.id) AS ids FROM ${from} instr(n.folded, @folded) > 0`;
      const values = { folded, ...(isLong ? { trigrams: trigramQuery(folded) } : {}) };
      return columnsOf<{ ids: number[] }>(this.statement(sql).get(values)).ids;
    });
  }

  /** Ids of the names that the filter names whole (VM, UUID, disk); undefined if it names none. */
  exactNames(table: 'vm' | 'disk', filter: ArchiveFilter): number[] | undefined {
    const { vm, uuid, disk } = filter;
    const exact = table === 'vm' ? { vm, uuid } : { disk };
    return this.guard(() => {
      const match = matchNames(this.database, table, exact);
      return match.kind === 'few' ? match.ids : undefined;
    });
  }

  #names(table: 'vm' | 'disk', filter: ArchiveFilter, page: Page<NameCursor>): SqlRow[] {
    return this.guard(() => {
      const names = table === 'vm' ? 'vms' : 'disks';
      const column = table === 'vm' ? 'vm_id' : 'disk_id';
      const sign = page.backward ? '<' : '>';
      const order = page.backward ? 'DESC' : 'ASC';
      const conditions: string[] = [];
      const values: Record<string, string | number> = { limit: page.limit };
      const match = matchNames(this.database, table, filter);
      if (match.kind === 'few') {
        conditions.push('n.id IN (SELECT value FROM json_each(@ids))');
        values.ids = JSON.stringify(match.ids);
      } else if (match.kind === 'many') {
        conditions.push('instr(n.folded, @part) > 0');
        values.part = match.part;
      }
      if (page.after !== undefined) {
        conditions.push(`(n.folded, n.id) ${sign} (@folded, @id)`);
        values.folded = page.after.folded;
        values.id = page.after.id;
      }
      const own =
        table === 'vm'
          ? { vmPart: undefined, vm: undefined, uuid: undefined }
          : { diskPart: undefined, disk: undefined };
      const rest: ArchiveFilter = { ...filter, ...own };
      conditions.push(...this.#otherName(table, rest, values));
      const inRange = this.#namesInSmallRange(rest, column);
      if (inRange !== undefined) {
        conditions.push('n.id IN (SELECT value FROM json_each(@inRange))');
        values.inRange = JSON.stringify(inRange);
      }
      const archives = `FROM archives a INDEXED BY archives_by_${table} WHERE a.${column} = n.id
        ${this.#rowTests(rest, values)}`;
      conditions.push(`EXISTS (SELECT 1 ${archives})`);
      const sql = `SELECT n.*, (SELECT max(stamp) ${archives}) AS newest FROM ${names} n
        WHERE ${conditions.join(' AND ')} ORDER BY n.folded ${order}, n.id ${order} LIMIT @limit`;
      const rows = this.database.prepare(sql).all(values) as SqlRow[];
      return page.backward ? rows.reverse() : rows;
    });
  }

  /** Condition on VMs `n` by the names of their disks, or on disks by those of their VMs. */
  #otherName(table: 'vm' | 'disk', rest: ArchiveFilter, values: Record<string, string | number>): string[] {
    const other = table === 'vm' ? 'disk' : 'vm';
    const match = matchNames(this.database, other, rest);
    if (match.kind === 'any') return [];
    const from =
      match.kind === 'few'
        ? `present p WHERE p.${other}_id IN (SELECT value FROM json_each(@other))`
        : `present p CROSS JOIN ${other}s o ON o.id = p.${other}_id WHERE instr(o.folded, @other) > 0`;
    const ids = this.database
      .prepare(`SELECT DISTINCT p.${table}_id FROM ${from} LIMIT ${MANY_NAMES + 1}`)
      .pluck()
      .all({ other: match.kind === 'few' ? JSON.stringify(match.ids) : match.part }) as number[];
    if (ids.length > MANY_NAMES) return [];
    values.other = JSON.stringify(ids);
    return ['n.id IN (SELECT value FROM json_each(@other))'];
  }

  /** Names of the archives that pass `rest`, if they are so few that walking them is quicker than asking each name. */
  #namesInSmallRange(rest: ArchiveFilter, column: 'vm_id' | 'disk_id'): number[] | undefined {
    if (Object.values(rest).every((value) => value === undefined)) return undefined;
    const query = archiveQuery(this.database, rest, this.numbers(), {
      limit: SMALL_RANGE + 1,
      unordered: true,
    });
    const rows = this.database.prepare(query.sql).all(query.values) as Record<string, number>[];
    return rows.length > SMALL_RANGE ? undefined : [...new Set(rows.map((row) => row[column] ?? 0))];
  }

  /** Conditions of the filter on one archive `a`, beginning with AND; fills `values`. */
  #rowTests(filter: ArchiveFilter, values: Record<string, string | number>): string {
    const tests: string[] = [];
    const add = (test: string, name: string, value: string | undefined) => {
      if (value === undefined) return;
      tests.push(test);
      values[name] = value;
    };
    add('a.stamp >= @from', 'from', filter.from);
    add('a.stamp <= @to', 'to', filter.to);
    add('a.kind = @kind', 'kind', filter.kind);
    add('a.scsi_id = @scsiId', 'scsiId', filter.scsiId);
    const targets = filter.targets === undefined ? undefined : JSON.stringify(filter.targets);
    add('a.target_number IN (SELECT value FROM json_each(@targets))', 'targets', targets);
    for (const table of ['vm', 'disk'] as const) {
      const test = nameCondition(table, matchNames(this.database, table, filter), values);
      if (test !== undefined) tests.push(test);
    }
    return tests.map((test) => ` AND ${test}`).join('');
  }
}
