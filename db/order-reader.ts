/** Reads the index in the order of lists, page by page, as the orders in memory want it (archive-order.ts, name-order.ts). */
import { type ArchiveCursor, archiveQuery } from './archive-filter.ts';
import type { OrderPage, OrderSource } from './archive-order.ts';
import type { NameCursor } from './archive-rows.ts';
import { columnsOf } from './json-columns.ts';
import type { NamePage, NameSource } from './name-order.ts';
import { NameReader } from './name-reader.ts';

export class OrderReader extends NameReader implements OrderSource, NameSource {
  /** The next archives in the order of lists, as columns. */
  orderPage(after: ArchiveCursor | undefined, limit: number): OrderPage {
    return this.guard(() => {
      const page = { limit, ...(after === undefined ? {} : { after }) };
      const query = archiveQuery(this.database, {}, this.numbers(), page);
      const sql = `SELECT json_group_array(id) AS ids, json_group_array(2 * target_number + (kind = 'full')) AS slots,
        json_group_array(stamp) AS stamps, json_group_array(vm_id) AS vmIds, json_group_array(disk_id) AS diskIds
        FROM (${query.sql})`;
      return columnsOf<OrderPage>(this.statement(sql).get(query.values));
    });
  }

  /** File name and size of each archive as one text, by id. */
  filesOf(ids: readonly number[]): Map<number, string> {
    return this.guard(() => {
      const sql = `SELECT a.id, a.file || ' ' || a.size_bytes FROM json_each(?) ids JOIN archives a ON a.id = ids.value`;
      return new Map(this.statement(sql).raw().all(JSON.stringify(ids)) as [number, string][]);
    });
  }

  /** The next VMs or disk names in the order of lists. */
  namePage(table: 'vm' | 'disk', after: NameCursor | undefined, limit: number): NamePage {
    return this.guard(() => {
      const where = after === undefined ? '' : 'WHERE (folded, id) > (@folded, @id)';
      const sql = `SELECT json_group_array(id) AS ids, json_group_array(folded) AS folded
        FROM (SELECT id, folded FROM ${table}s ${where} ORDER BY folded, id LIMIT @limit)`;
      return columnsOf<NamePage>(this.statement(sql).get({ ...after, limit }));
    });
  }

  /** Those of the archives that have this SCSI id, in the order they were given. */
  withScsiId(ids: Uint32Array, scsiId: string): Uint32Array {
    return this.guard(() => {
      const sql = `SELECT a.id FROM json_each(?) ids CROSS JOIN archives a ON a.id = ids.value WHERE a.scsi_id = ?`;
      const found = this.statement(sql)
        .pluck()
        .all(JSON.stringify([...ids]), scsiId) as number[];
      return Uint32Array.from(found);
    });
  }
}
