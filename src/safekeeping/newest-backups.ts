/** Of each VM its newest backup, and its newest one of which every archive was verified, by the index alone. */
import type { EngineContext } from '../engine/context.ts';
import { type ListedRow, listedRows } from '../engine/list-archives.ts';
import { walkArchives } from '../engine/walk-archives.ts';
import type { Stamp } from '../model/archive.ts';

export interface RunOfVm {
  stamp: Stamp;
  targetNumber: number;
  folder: string;
  disks: number;
  /** Of its DELTAs and the FULLs that they need. */
  storedBytes: number;
  isEncrypted: boolean;
  /** The oldest date of its archives, UTC; null: not all are verified good. */
  verifiedAt: string | null;
}

export interface VmBackup {
  vm: string;
  uuid: string;
  newest: RunOfVm;
  /** Null: none was proved whole. */
  proved: RunOfVm | null;
}

interface Found {
  vm: string;
  uuid: string;
  /** By target, folder, stamp: the DELTAs of a run. A folder may hold several runs, e.g. that of their FULL. */
  runs: Map<string, ListedRow[]>;
  /** By target, disk, stamp. */
  fulls: Map<string, ListedRow>;
}

/** By name. A run that lacks disks, or whose FULL is not on its target, counts for nothing. */
export function newestBackups(context: EngineContext): VmBackup[] {
  const vms = new Map<string, Found>();
  for (const page of walkArchives(context, {})) for (const row of listedRows(context, page)) take(row, vms);
  return [...vms.values()].flatMap(backupOf).sort((a, b) => (a.vm < b.vm ? -1 : 1));
}

function take(row: ListedRow, vms: Map<string, Found>): void {
  const { generation, uuid, vm, kind, state, targetNumber, folder, stamp } = row;
  if (generation === 2 || uuid === '') return;
  const found = vms.get(uuid) ?? { vm, uuid, runs: new Map(), fulls: new Map() };
  vms.set(uuid, found);
  if (kind === 'full') found.fulls.set(fullKey(row, row.stamp), row);
  else if (state === null) {
    const key = `${targetNumber} ${stamp} ${folder}`;
    found.runs.set(key, [...(found.runs.get(key) ?? []), row]);
  }
}

function backupOf({ vm, uuid, runs, fulls }: Found): VmBackup[] {
  const all = [...runs.values()]
    .flatMap((rows) => runOf(rows, fulls))
    .sort((a, b) => (a.stamp > b.stamp ? -1 : 1));
  const [newest] = all;
  if (newest === undefined) return [];
  return [{ vm, uuid, newest, proved: all.find(({ verifiedAt }) => verifiedAt !== null) ?? null }];
}

function runOf(deltas: readonly ListedRow[], fulls: ReadonlyMap<string, ListedRow>): RunOfVm[] {
  const [first] = deltas;
  const needed = deltas.map((row) => fulls.get(fullKey(row, row.fullStamp)));
  if (first === undefined || needed.includes(undefined)) return [];
  const all = [...deltas, ...(needed as ListedRow[])];
  const dates = all.map(({ verifyResult, verifiedAt }) => (verifyResult === 'good' ? verifiedAt : null));
  return [
    {
      stamp: first.stamp,
      targetNumber: first.targetNumber,
      folder: first.folder,
      disks: deltas.length,
      storedBytes: all.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      isEncrypted: all.some(({ encrypted }) => encrypted),
      verifiedAt: dates.includes(null) ? null : ((dates as string[]).sort()[0] ?? null),
    },
  ];
}

function fullKey({ targetNumber, scsiId, disk }: ListedRow, stamp: Stamp): string {
  return `${targetNumber} ${scsiId} ${disk} ${stamp}`;
}
