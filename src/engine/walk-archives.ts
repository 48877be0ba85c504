/** Every archive of the index, page by page, newest first. */
import type { ArchiveCursor, ArchiveFilter } from '../../db/archive-filter.ts';
import type { ArchiveRow } from '../../db/archive-rows.ts';
import type { EngineContext } from './context.ts';

const PAGE = 1000;

export function* walkArchives({ index }: EngineContext, filter: ArchiveFilter): Generator<ArchiveRow[]> {
  let after: ArchiveCursor | undefined;
  for (;;) {
    const rows = index.listArchives(filter, { limit: PAGE, ...(after ? { after } : {}) });
    yield rows;
    const last = rows.at(-1);
    if (!last || rows.length < PAGE) return;
    after = { stamp: last.stamp, vmId: last.vmId, diskId: last.diskId, id: last.id };
  }
}
