/** What is to be reached, as ratios of two programs in one run or as limits, and what was. */
import { type InPlaceFigures, JOBS } from './archive-round.ts';
import type { BrowseResult } from './browse-lists.ts';
import type { GrowthRow } from './growth.ts';
import type { FilterResult } from './name-filter.ts';
import { IDLE_PASS, IDLE_PASS_PROGRAM, type IdlePassResult } from './replication-pass.ts';
import { median, type Samples } from './samples.ts';
import { TRANSPORT_JOB } from './transport.ts';

export interface Verdict {
  goal: string;
  /** As it stands in the table. */
  limit: string;
  /** null: could not be measured. */
  reached: number | null;
  unit: '' | ' MiB' | ' ms' | ' s';
  isMet: boolean | null;
  /** Why it could not be measured; empty if it was. */
  why: string;
}

interface RatioGoal {
  job: string;
  ours: string;
  against: string;
  atMost: number;
}

const RATIOS: RatioGoal[] = [
  { job: JOBS.full, ours: 'phd gzip', against: 'restic', atMost: 1 },
  { job: JOBS.full, ours: 'phd zstd', against: 'restic', atMost: 0.55 },
  { job: JOBS.delta, ours: 'phd gzip', against: 'restic', atMost: 0.25 },
  { job: JOBS.restore, ours: 'phd gzip', against: 'restic restore', atMost: 0.6 },
  { job: JOBS.restore, ours: 'phd gzip', against: 'zcat FULL', atMost: 0.15 },
  { job: JOBS.verify, ours: 'phd gzip', against: 'restic check --read-data', atMost: 0.8 },
  { job: JOBS.selfExtractor, ours: 'dash DELTA', against: 'zcat FULL', atMost: 1 },
  { job: JOBS.selfExtractor, ours: 'busybox sh DELTA', against: 'zcat FULL', atMost: 1 },
  { job: TRANSPORT_JOB, ours: 'phd, SFTP only', against: 'scp of the FULL', atMost: 1 },
];
const IN_PLACE_AT_MOST = 1.1;
const MEMORY_AT_MOST_BYTES = 256 * 1024 ** 2;
const FILTER_AT_MOST_MS = 50;
const STEP_AT_MOST_MS = 10;
const IDLE_PASS_AT_MOST_SECONDS = 2;

/** Ratios of medians for the jobs that were run. */
export function ratioVerdicts(samples: Samples, jobs: ReadonlySet<string>): Verdict[] {
  return RATIOS.filter((one) => jobs.has(one.job)).map(({ job, ours, against, atMost }) => {
    const mine = samples.find(job, ours);
    const theirs = samples.find(job, against);
    const missing = [...(mine ? [] : [ours]), ...(theirs ? [] : [against])];
    const reached = mine && theirs ? mine.medianSeconds / theirs.medianSeconds : null;
    return verdict(
      `${job}: ${ours} / ${against}`,
      atMost,
      reached,
      '',
      `no figures of ${missing.join(' and ')}`,
    );
  });
}

export function inPlaceVerdicts(figures: readonly InPlaceFigures[]): Verdict[] {
  const ratio = (bytes: (one: InPlaceFigures) => number | null): number | null => {
    const known = figures.map((one) => ({ bytes: bytes(one), of: one.differingBytes }));
    const ratios = known.filter((one) => one.bytes !== null).map((one) => (one.bytes ?? 0) / one.of);
    return ratios.length === 0 ? null : median(ratios);
  };
  const goal = `${JOBS.inPlace}: bytes written / differing blocks`;
  return [
    verdict(
      `${goal}, as the program says`,
      IN_PLACE_AT_MOST,
      ratio((one) => one.writtenBytes),
      '',
      'it failed',
    ),
    verdict(
      `${goal}, as strace counts`,
      IN_PLACE_AT_MOST,
      ratio((one) => one.observedBytes),
      '',
      'no strace',
    ),
  ];
}

/** The worst process of all our operations, at every size. */
export function memoryVerdict(rows: readonly GrowthRow[]): Verdict {
  const peaks = rows.flatMap((row) => Object.values(row.peakBytes)).filter((one) => !Number.isNaN(one));
  const largest = Math.max(0, ...rows.map((row) => row.diskBytes));
  const reached = peaks.length === 0 ? null : Math.max(...peaks) / 1024 ** 2;
  const goal = `peak memory, disks up to ${largest / 1024 ** 3} GiB`;
  return verdict(goal, MEMORY_AT_MOST_BYTES / 1024 ** 2, reached, ' MiB', 'no disk was measured');
}

export function filterVerdict(filter: FilterResult): Verdict {
  const worst = Math.max(...filter.rows.map((row) => row.worstMs));
  const goal = `first page of ${filter.archiveCount} archives by part of a name, worst`;
  return verdict(goal, FILTER_AT_MOST_MS, worst, ' ms', '');
}

/** The console's lists: a step, and a letter of a filter. */
export function browseVerdicts({ rows }: BrowseResult): Verdict[] {
  const worst = (isWanted: (what: string) => boolean): number =>
    Math.max(...rows.filter(({ what }) => isWanted(what)).map(({ worstMs }) => worstMs));
  const isLetter = (what: string): boolean => what.startsWith('letter');
  const isReading = (what: string): boolean => what.startsWith('slice');
  return [
    verdict(
      'step in a list, worst',
      STEP_AT_MOST_MS,
      worst((what) => !isLetter(what) && !isReading(what)),
      ' ms',
      '',
    ),
    verdict('letter of a filter in a list, worst', FILTER_AT_MOST_MS, worst(isLetter), ' ms', ''),
  ];
}

/** The pass that finds nothing to do: how long it takes, and whether it opened any archive. */
export function idlePassVerdicts(pass: IdlePassResult, samples: Samples): Verdict[] {
  const found = samples.find(IDLE_PASS, IDLE_PASS_PROGRAM);
  const what = `${IDLE_PASS}: ${pass.lineCount} lines, ${pass.archiveCount} archives`;
  return [
    verdict(
      `${what}, median`,
      IDLE_PASS_AT_MOST_SECONDS,
      found?.medianSeconds ?? null,
      ' s',
      'every pass failed',
    ),
    verdict(`${what}, archives opened`, 0, pass.archivesRead, '', ''),
  ];
}

function verdict(
  goal: string,
  atMost: number,
  reached: number | null,
  unit: Verdict['unit'],
  why: string,
): Verdict {
  return {
    goal,
    limit: `<= ${atMost}${unit}`,
    reached,
    unit,
    isMet: reached === null ? null : reached <= atMost,
    why: reached === null ? why : '',
  };
}
