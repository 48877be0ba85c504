/** The results as Markdown. */
import os from 'node:os';
import type { InPlaceFigures } from './archive-round.ts';
import type { BrowseResult } from './browse-lists.ts';
import type { Verdict } from './goals.ts';
import type { GrowthRow, Operation } from './growth.ts';
import type { FilterResult } from './name-filter.ts';
import type { Failure, Measured } from './samples.ts';

export interface Machine {
  cpu: string;
  cores: number;
  memoryBytes: number;
  kernel: string;
  node: string;
}

export interface BenchResults {
  startedAt: string;
  machine: Machine;
  diskBytes: number;
  usedBytes: number | null;
  runs: number;
  versions: Record<string, string>;
  missing: { name: string; reason: string }[];
  measured: Measured[];
  failures: Failure[];
  verdicts: Verdict[];
  archiveBytes: Record<string, number>;
  inPlace: InPlaceFigures[];
  growth: GrowthRow[];
  filter: FilterResult | null;
  notes: string[];
}

export function describeMachine(): Machine {
  const cpus = os.cpus();
  return {
    cpu: cpus[0]?.model ?? 'unknown',
    cores: cpus.length,
    memoryBytes: os.totalmem(),
    kernel: `${os.type()} ${os.release()} ${os.arch()}`,
    node: process.version,
  };
}

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const OPERATIONS: Operation[] = ['FULL', 'DELTA', 'restore', 'verify'];

/** All tables; a section without figures is left out. */
export function printReport(results: BenchResults): string {
  const sections = [
    printHead(results),
    printVerdicts(results.verdicts),
    printMeasured(results),
    printGrowth(results.growth),
    printFilter(results.filter),
    printTroubles(results),
    results.notes.length === 0 ? '' : `## Notes\n\n${results.notes.map((note) => `- ${note}`).join('\n')}`,
  ];
  return `${sections.filter((section) => section !== '').join('\n\n')}\n`;
}

function printHead({ machine, diskBytes, usedBytes, runs, startedAt, versions }: BenchResults): string {
  const used = usedBytes === null ? '' : ` with ${(usedBytes / MIB).toFixed(0)} MiB in use`;
  const programs = Object.values(versions).map((one) => `- ${one}`);
  return [
    '# Benchmark',
    '',
    `${startedAt}, ${machine.cpu}, ${machine.cores} cores, ${(machine.memoryBytes / GIB).toFixed(0)} GiB, ${machine.kernel}, Node ${machine.node}.`,
    `Disk of ${(diskBytes / GIB).toFixed(2)} GiB${used}, ${runs} rounds, medians.`,
    '',
    ...programs,
  ].join('\n');
}

function printVerdicts(verdicts: readonly Verdict[]): string {
  if (verdicts.length === 0) return '';
  const rows = verdicts.map((one) => {
    const reached = one.reached === null ? `not measured: ${one.why}` : `${figure(one.reached)}${one.unit}`;
    const answer = one.isMet === null ? '-' : one.isMet ? 'yes' : 'no: goal missed';
    return [one.goal, one.limit, reached, answer];
  });
  return `## Goals\n\n${table(['what', 'goal', 'reached', 'met'], rows)}`;
}

function printMeasured({ measured, archiveBytes }: BenchResults): string {
  if (measured.length === 0) return '';
  const rows = measured.map((one) => {
    const packed = one.job === 'FULL backup' ? archiveBytes[one.program] : undefined;
    return [
      one.job,
      one.program,
      one.medianSeconds.toFixed(2),
      `${one.leastSeconds.toFixed(2)} .. ${one.mostSeconds.toFixed(2)}`,
      ratioToOurs(one, measured),
      one.peakBytes === null ? '-' : (one.peakBytes / MIB).toFixed(0),
      packed === undefined ? '-' : (packed / MIB).toFixed(0),
    ];
  });
  const heads = ['job', 'program', 'median s', 'least .. most s', 'ours / this', 'peak MiB', 'archive MiB'];
  return `## Times\n\n${table(heads, rows)}`;
}

/** Median of our first program of the job, by that of this one. */
function ratioToOurs(one: Measured, measured: readonly Measured[]): string {
  const ours = measured.find(
    (other) => other.job === one.job && other.isOurs && other.program !== one.program,
  );
  if (one.isOurs || ours === undefined) return '-';
  return `${(ours.medianSeconds / one.medianSeconds).toFixed(2)} (${ours.program})`;
}

function printGrowth(growth: readonly GrowthRow[]): string {
  if (growth.length === 0) return '';
  const rows = growth.map((row) => [
    `${figure(row.diskBytes / GIB)}${row.isSparse ? ' (sparse)' : ''}`,
    figure(row.usedBytes / GIB),
    ...OPERATIONS.map((one) => row.seconds[one]?.toFixed(2) ?? '-'),
    ...OPERATIONS.map((one) => ((row.peakBytes[one] ?? Number.NaN) / MIB).toFixed(0).replace('NaN', '-')),
  ]);
  const heads = [
    'disk GiB',
    'used GiB',
    ...OPERATIONS.map((one) => `${one} s`),
    ...OPERATIONS.map((one) => `${one} MiB`),
  ];
  return `## Growth: time and peak memory\n\n${table(heads, rows)}`;
}

function printFilter(filter: FilterResult | null): string {
  if (filter === null) return '';
  const rows = filter.rows.map((row) => [
    row.list,
    String(row.letters),
    String(row.queries),
    row.medianMs.toFixed(1),
    row.worstMs.toFixed(1),
    JSON.stringify(row.worstPart).replaceAll('|', '\\|'),
  ]);
  return [
    `## First page by part of a name: ${filter.archiveCount} archives of ${filter.vmCount} VMs`,
    '',
    `Filled in ${filter.fillSeconds.toFixed(0)} s, ${(filter.indexBytes / MIB).toFixed(0)} MiB; first query after opening ${filter.firstQueryMs.toFixed(1)} ms.`,
    '',
    table(['list', 'letters', 'queries', 'median ms', 'worst ms', 'worst part'], rows),
    '',
    printBrowse(filter.browse),
  ].join('\n');
}

function printBrowse({ openMs, rows, peakBytes }: BrowseResult): string {
  const lines = rows.map(({ list, what, times, medianMs, worstMs, worstCpuMs }) => [
    list,
    what,
    String(times),
    medianMs.toFixed(1),
    worstMs.toFixed(1),
    worstCpuMs.toFixed(1),
  ]);
  return [
    '## Lists of the console over the same index',
    '',
    `Opened with a first page in ${openMs.toFixed(0)} ms; peak memory of the process ${(peakBytes / MIB).toFixed(0)} MiB.`,
    '',
    table(['list', 'what', 'times', 'median ms', 'worst ms', 'worst CPU ms'], lines),
  ].join('\n');
}

function printTroubles({ missing, failures }: BenchResults): string {
  const lines = [
    ...missing.map(({ name, reason }) => `- ${name} cannot be had: ${reason}`),
    ...failures.map(({ job, program, reason }) => `- ${job}: ${program}: ${reason}`),
  ];
  return lines.length === 0 ? '' : `## Not measured, or failed\n\n${lines.join('\n')}`;
}

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(heads), line(heads.map(() => '---')), ...rows.map(line)].join('\n');
}

/** Three digits that say something. */
function figure(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
