/** Which VMs and disk names pass the name conditions of a filter. */
import type Database from 'better-sqlite3';
import type { ArchiveFilter } from './archive-filter.ts';
import { fold, trigramQuery } from './fold.ts';

/** Names up to this many are looked up one by one. */
const NARROW_LIMIT = 1000;
/** Up to this many, the newest archive of each is looked up. */
const LISTED_LIMIT = 14_000;

/** Names that pass: a short list of ids, a condition to test on each row (its ids if listed), or anything. */
export type NameMatch =
  | { kind: 'few'; ids: number[] }
  | { kind: 'many'; part: string; ids: number[] | null }
  | { kind: 'any' };

export type NameTable = 'vm' | 'disk';

/** Which VMs or disks pass the name conditions of the filter. */
export function matchNames(database: Database.Database, table: NameTable, filter: ArchiveFilter): NameMatch {
  const exact = table === 'vm' ? filter.vm : filter.disk;
  const uuid = table === 'vm' ? filter.uuid : undefined;
  const part = fold((table === 'vm' ? filter.vmPart : filter.diskPart) ?? '');
  const conditions: string[] = [];
  const values: Record<string, string> = {};
  if (exact !== undefined) {
    conditions.push('n.name = @exact');
    values.exact = exact;
  }
  if (uuid !== undefined) {
    conditions.push('n.uuid = @uuid');
    values.uuid = uuid.toLowerCase();
  }
  const isExact = conditions.length > 0;
  let from = `${table}s n`;
  if (part !== '') {
    conditions.push('instr(n.folded, @part) > 0');
    values.part = part;
    if (!isExact && Array.from(part).length >= 3) {
      from = `${table}s_trigrams t CROSS JOIN ${table}s n ON n.id = t.rowid`;
      conditions.push(`${table}s_trigrams MATCH @trigrams`);
      values.trigrams = trigramQuery(part);
    }
  }
  if (conditions.length === 0) return { kind: 'any' };
  const limit = isExact ? '' : `LIMIT ${LISTED_LIMIT + 1}`;
  const sql = `SELECT json_group_array(id) FROM (SELECT n.id FROM ${from} WHERE ${conditions.join(' AND ')} ${limit})`;
  const ids = JSON.parse(database.prepare(sql).pluck().get(values) as string) as number[];
  if (isExact || ids.length <= NARROW_LIMIT) return { kind: 'few', ids };
  // In order of id, neighbours in the indexes over archives are looked up after one another.
  return { kind: 'many', part, ids: ids.length > LISTED_LIMIT ? null : ids.sort((a, b) => a - b) };
}

/** Condition on a row `a` of archives that its name passes, undefined if any does; fills `values`. */
export function nameCondition(
  table: NameTable,
  match: NameMatch,
  values: Record<string, string | number>,
): string | undefined {
  const column = `${table}_id`;
  if (match.kind === 'few') {
    const [id] = match.ids;
    if (id !== undefined && match.ids.length === 1) {
      // One name: the index over its archives gives them in order, and the first page ends the walk.
      values[column] = id;
      return `a.${column} = @${column}`;
    }
    values[column] = JSON.stringify(match.ids);
    return `a.${column} IN (SELECT value FROM json_each(@${column}))`;
  }
  if (match.kind === 'any') return undefined;
  values[column] = match.part;
  return `(SELECT instr(folded, @${column}) FROM ${table}s WHERE id = a.${column}) > 0`;
}
