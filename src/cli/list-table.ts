/** The table of `phd list`. */
import { formatBytes } from '../engine/display-text.ts';
import type { ListedRow } from '../engine/list-archives.ts';
import { printTable } from './table.ts';

/** A line an archive, in the order given; the VM is told apart where two bear its name. */
export function listTable(rows: readonly ListedRow[]): string[] {
  const hostsOfName = new Map<string, Set<string>>();
  for (const row of rows) hostsOfName.set(row.vm, (hostsOfName.get(row.vm) ?? new Set()).add(row.uuid));
  return printTable(
    [
      { title: 'DATE' },
      { title: 'TYPE' },
      { title: 'VM' },
      { title: 'SCSI' },
      { title: 'DISK' },
      { title: 'SIZE', align: 'right' },
      { title: 'STATE' },
      { title: 'ARCHIVE' },
    ],
    rows.map((row) => [
      row.stamp.replace('T', ' '),
      `${row.kind === 'full' ? `FULL ${row.codec}` : row.stamp === row.fullStamp ? 'DELTA empty' : 'DELTA'}${row.encrypted ? ' gpg' : ''}`,
      (hostsOfName.get(row.vm)?.size ?? 0) > 1 ? `${row.vm} (${vmMark(row)})` : row.vm,
      row.scsiId,
      row.disk,
      formatBytes(row.sizeBytes),
      stateOf(row),
      `${row.targetNumber}:${row.folder}/${row.file}`,
    ]),
  );
}

/** Tells two VMs of one name apart: host, where it is known, and the last four digits of the UUID. */
function vmMark(row: ListedRow): string {
  const digits = row.uuid.slice(-4) || 'no UUID';
  return row.header?.host ? `${row.header.host} ${digits}` : digits;
}

function stateOf(row: ListedRow): string {
  const verified =
    row.verifyResult === null ? null : `${row.verifyResult} ${row.verifiedAt?.slice(0, 10) ?? ''}`;
  return [row.state, row.isHeld ? 'held' : null, verified].filter((word) => word !== null).join(', ') || '-';
}
