/** Time to the first page and to any row of an index of a million archives, filtered by part of a name. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ArchiveFilter } from '../../db/archive-filter.ts';
import { fold } from '../../db/fold.ts';
import { IndexDb } from '../../db/index-db.ts';
import { runsOfVm, vmName } from './archive-names.ts';
import type { BrowseResult } from './browse-lists.ts';
import { median } from './samples.ts';

const RUNS_OF_A_VM = 4;
export const ARCHIVES_OF_A_VM = 2 * RUNS_OF_A_VM + 2;
export const TARGETS = [1, 2, 3].map((number) => ({
  number,
  name: `target ${number}`,
  transport: 'vmfs' as const,
  place: `/target${number}`,
}));
export const PART_LENGTHS = [1, 2, 3, 5, 10] as const;
const PARTS_OF_A_LENGTH = 30;
const PAGE_ROWS = 50;

export interface FilterRow {
  list: 'VMs' | 'disks' | 'archives by VM' | 'archives by disk';
  letters: number;
  queries: number;
  medianMs: number;
  worstMs: number;
  /** The part that took longest. */
  worstPart: string;
}

export interface FilterResult {
  archiveCount: number;
  vmCount: number;
  fillSeconds: number;
  indexBytes: number;
  /** First query after the file was opened, whatever it asked. */
  firstQueryMs: number;
  rows: FilterRow[];
  /** The console's lists over the same index, in a process of their own. */
  browse: BrowseResult;
}

/** Fills an index as a listing does, opens it anew and asks for first pages. */
export function measureNameFilter(folder: string, rowCount: number): FilterResult {
  const work = path.join(folder, 'filter');
  mkdirSync(work, { recursive: true });
  const file = path.join(work, 'index.db');
  try {
    const vmCount = Math.ceil(rowCount / ARCHIVES_OF_A_VM);
    const startedMs = performance.now();
    fillIndex(file, vmCount);
    const fillSeconds = (performance.now() - startedMs) / 1000;
    const index = IndexDb.open(file);
    try {
      const firstQueryMs = timeMs(() => index.distinctVms({ vmPart: 'e' }, { limit: PAGE_ROWS }));
      const archiveCount = index.countArchives({});
      if (archiveCount !== vmCount * ARCHIVES_OF_A_VM)
        throw new Error(`the index holds ${archiveCount} archives`);
      const rows = PART_LENGTHS.flatMap((letters) => measureLength(index, letters, vmCount));
      const indexBytes = statSync(file).size;
      const browse = browseLists(work);
      return { archiveCount, vmCount, fillSeconds, indexBytes, firstQueryMs, rows, browse };
    } finally {
      index.close();
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function browseLists(folder: string): BrowseResult {
  const script = fileURLToPath(new URL('browse-lists.js', import.meta.url));
  return JSON.parse(execFileSync(process.execPath, [script, folder], { encoding: 'utf8' })) as BrowseResult;
}

/** Writes an index as a listing of three targets does. */
export function fillIndex(file: string, vmCount: number): void {
  const index = IndexDb.open(file);
  index.syncTargets(TARGETS);
  process.stderr.write(`filling an index with ${vmCount * ARCHIVES_OF_A_VM} archives ... `);
  for (let vm = 0; vm < vmCount; vm++) {
    for (const run of runsOfVm(vm, RUNS_OF_A_VM)) {
      index.recordFolder({
        targetNumber: 1 + (vm % TARGETS.length),
        name: run.folder,
        modifiedMs: 0,
        listedMs: 0,
        complete: true,
        skipped: 0,
        vm: run.vm,
        uuid: run.uuid,
        archives: run.archives.map((one) => ({ ...one, sizeBytes: 1000, complete: true })),
      });
    }
  }
  index.close();
  process.stderr.write('done\n');
}

function measureLength(index: IndexDb, letters: number, vmCount: number): FilterRow[] {
  const parts = partsOf(letters, vmCount);
  const page = { limit: PAGE_ROWS };
  const lists: Record<FilterRow['list'], (part: string) => { vm?: string; disk?: string }[]> = {
    VMs: (part) => index.distinctVms({ vmPart: part }, page),
    disks: (part) => index.distinctDisks({ diskPart: part }, page),
    'archives by VM': (part) => index.listArchives({ vmPart: part } satisfies ArchiveFilter, page),
    'archives by disk': (part) => index.listArchives({ diskPart: part } satisfies ArchiveFilter, page),
  };
  return Object.entries(lists).map(([list, ask]) => {
    const timed = parts.map(({ part, occurs }) => {
      let found: { vm?: string; disk?: string }[] = [];
      const ms = timeMs(() => {
        found = ask(part);
      });
      requireAnswer(list, part, occurs, found);
      return { part, ms };
    });
    const worst = timed.reduce((a, b) => (b.ms > a.ms ? b : a));
    return {
      list: list as FilterRow['list'],
      letters,
      queries: timed.length,
      medianMs: median(timed.map((one) => one.ms)),
      worstMs: worst.ms,
      worstPart: worst.part,
    };
  });
}

/** Parts of names that occur, from all over the list, and one in ten that occurs nowhere. */
function partsOf(letters: number, vmCount: number): { part: string; occurs: boolean }[] {
  return Array.from({ length: PARTS_OF_A_LENGTH }, (_, n) => {
    if (n % 10 === 9 && letters >= 3) return { part: 'qxzqxzqxzq'.slice(0, letters), occurs: false };
    const name = Array.from(vmName((n * 7919) % vmCount));
    const from = (n * 5) % Math.max(1, name.length - letters + 1);
    return { part: name.slice(from, from + letters).join(''), occurs: true };
  });
}

function requireAnswer(
  list: string,
  part: string,
  occurs: boolean,
  found: { vm?: string; disk?: string }[],
): void {
  if (found.length > 0 !== occurs) throw new Error(`${list}, part ${part}: ${found.length} rows`);
  const isDisk = list === 'disks' || list === 'archives by disk';
  for (const row of found) {
    const name = (isDisk ? row.disk : row.vm) ?? '';
    if (!fold(name).includes(fold(part))) throw new Error(`${list}, part ${part}: ${name} does not hold it`);
  }
}

function timeMs(work: () => void): number {
  const startedMs = performance.now();
  work();
  return performance.now() - startedMs;
}
