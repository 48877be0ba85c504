/**
 * Steps, filters and memory of the console's lists over an index that is there. A program of its own, so that its
 * memory is that of the lists alone: `node browse-lists.js FOLDER` with index.db in FOLDER prints one JSON line.
 */
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type ArchiveBrowser, type BrowseFilter, openBrowser } from '../../src/engine/browse-archives.ts';
import type { BrowsedList } from '../../src/engine/browsed-list.ts';
import { vmName } from './archive-names.ts';
import { median } from './samples.ts';

const PAGE_ROWS = 24;
const STEPS = 200;
const SLICE_MS = 8;
const LISTS = ['vms', 'archives', 'disks'] as const;

export interface BrowseRow {
  list: (typeof LISTS)[number];
  what: string;
  times: number;
  medianMs: number;
  worstMs: number;
  /** The most processor time of one: what is left of the worst where other programs hold the processor. */
  worstCpuMs: number;
}

export interface BrowseResult {
  /** Open, first list and its first page in a process that is warm but knows nothing of the index. */
  openMs: number;
  rows: BrowseRow[];
  peakBytes: number;
}

/** Measures all three lists; throws if one does not show what it must. */
export function measureBrowsing(folder: string): BrowseResult {
  const startedMs = performance.now();
  const browser = openBrowser(folder);
  browser.vms({}).firstPage(PAGE_ROWS);
  const openMs = performance.now() - startedMs;
  const rows = LISTS.flatMap((list) => measureList(browser, list));
  browser.close();
  return { openMs, rows, peakBytes: process.resourceUsage().maxRSS * 1024 };
}

function measureList(browser: ArchiveBrowser, kind: BrowseRow['list']): BrowseRow[] {
  const open = (filter: BrowseFilter): BrowsedList<{ id: number }> => browser[kind](filter);
  const list = open({});
  const slices: Timed[] = [];
  for (let isMore = true; isMore; ) slices.push(time(() => (isMore = list.advance(SLICE_MS))));
  const { known, isExact } = list.length;
  if (!isExact || known < STEPS) throw new Error(`the list of ${kind} has ${known} rows`);
  const places = Array.from({ length: STEPS }, (_, n) => (n * 7919 * 31) % known);
  const ids = places.map((place) => list.rowAt(place)?.id ?? 0);
  const steps: Record<string, (n: number) => unknown> = {
    Down: (n) => list.rowAt((places[n] as number) + 1 < known ? (places[n] as number) + 1 : 0),
    'page at any row': (n) => list.rows(places[n] as number, PAGE_ROWS)[0],
    End: () => list.lastPage(PAGE_ROWS)[0],
    'place of a row': (n) => list.indexOf(ids[n] as number) === places[n],
  };
  const timed = Object.entries(steps).map(([what, step]) => {
    const times = places.map((_, n) =>
      time(() => {
        if (!step(n)) throw new Error(`${kind}, ${what}: not the right row`);
      }),
    );
    return rowOf(kind, what, times);
  });
  const keys = partsAsTyped().map(({ part, occurs }) =>
    time(() => {
      const filtered = open(kind === 'disks' ? { disk: part } : { vm: part });
      const [first] = filtered.firstPage(PAGE_ROWS);
      if ((first !== undefined) !== occurs) throw new Error(`${kind}, part ${part}: wrong answer`);
    }),
  );
  return [
    rowOf(kind, `slice of reading (${SLICE_MS} ms asked)`, slices),
    ...timed,
    rowOf(kind, 'letter of a filter, first page and count', keys),
  ];
}

/** Names letter by letter, and one that is none. */
function partsAsTyped(): { part: string; occurs: boolean }[] {
  const names = Array.from({ length: 12 }, (_, n) => vmName(n * 83 + 7));
  const typed = names.flatMap((name) =>
    Array.from(name).map((_, at) => ({
      part: Array.from(name)
        .slice(0, at + 1)
        .join(''),
      occurs: true,
    })),
  );
  return [...typed, { part: 'qx', occurs: false }, { part: 'qxz', occurs: false }];
}

interface Timed {
  ms: number;
  cpuMs: number;
}

function rowOf(list: BrowseRow['list'], what: string, timed: readonly Timed[]): BrowseRow {
  const times = timed.map(({ ms }) => ms);
  return {
    list,
    what,
    times: times.length,
    medianMs: median(times),
    worstMs: Math.max(...times),
    worstCpuMs: Math.max(...timed.map(({ cpuMs }) => cpuMs)),
  };
}

function time(work: () => void): Timed {
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  work();
  const ms = performance.now() - startedMs;
  const { user, system } = process.cpuUsage(cpu);
  return { ms, cpuMs: (user + system) / 1000 };
}

const [, script, folder] = process.argv;
if (script !== undefined && realpathSync(script) === fileURLToPath(import.meta.url)) {
  if (folder === undefined) throw new Error('usage: browse-lists.js FOLDER');
  process.stdout.write(`${JSON.stringify(measureBrowsing(folder))}\n`);
}
