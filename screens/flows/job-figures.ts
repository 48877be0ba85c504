/** Figures of jobs as people read them, in fixed columns: lists, progress and completion screens share them. */
import { formatBytes, formatCount, formatSeconds } from '../../src/engine/display-text.ts';
import type { Job, JobProgress } from '../../src/model/job.ts';
import type { Mark } from '../frame.ts';

const MB = 1024 * 1024;
const MINUTE = 60;

export function isOver({ state }: Job): boolean {
  return state !== 'waiting' && state !== 'running';
}

export function hasFailed({ state }: Job): boolean {
  return state === 'failed' || state === 'interrupted';
}

export function mayBeRetried(job: Job): boolean {
  return hasFailed(job) || job.state === 'cancelled';
}

export function markOfJob({ state }: Job): Mark {
  if (state === 'failed' || state === 'interrupted') return 'bad';
  if (state === 'done with warnings') return 'warning';
  if (state === 'done') return 'good';
  return state === 'cancelled' ? 'faint' : 'plain';
}

/** `45 %`; of a job that is done 100, of one that has not begun nothing. */
export function percentText(job: Job): string {
  if (job.exitStatus === 0) return '100 %';
  return job.progress === null ? '' : `${Math.floor(job.progress.percent)} %`;
}

/** `14.2 MB/s`, from ten on without the tenth. */
export function rateText(bytesPerSecond: number | undefined): string {
  if (bytesPerSecond === undefined) return '-';
  const rate = bytesPerSecond / MB;
  return `${rate < 10 ? rate.toFixed(1) : Math.round(rate)} MB/s`;
}

/** Rounded so that it changes seldom: to 5 s from a minute on, to a minute from an hour on. Blank if unknown. */
export function remainingText(seconds: number | null | undefined, leastStepSeconds = 1): string {
  if (seconds === null || seconds === undefined) return '';
  const step = seconds < MINUTE ? leastStepSeconds : seconds < MINUTE * MINUTE ? 5 : MINUTE;
  return formatSeconds(Math.round(seconds / step) * step);
}

/** `2300 of 5120 MB`, as wide from its begin to its end. */
export function amountText({ bytes, totalBytes }: JobProgress): string {
  const total = String(Math.ceil(totalBytes / MB));
  return `${String(Math.floor(bytes / MB)).padStart(total.length)} of ${total} MB`;
}

const PHASES: Record<string, string> = {
  restore: 'restoring',
  compare: 'comparing with what is there',
  send: 'sending to the host, and proving there',
  apply: 'putting the blocks into the disk',
  verify: 'reading and proving',
  authenticate: 'proving the encrypted FULL',
  scan: 'looking for changed blocks',
  full: 'writing the FULL',
  delta: 'writing the DELTA',
  checksum: 'reading the source once more for its checksum',
};

export function phaseText({ phase }: JobProgress): string {
  return PHASES[phase] ?? phase;
}

/** `2026-11-20 09:12:05` local time, from UTC; blank for null. */
export function localTime(iso: string | null): string {
  if (iso === null) return '';
  const time = new Date(iso);
  if (Number.isNaN(time.getTime())) return iso;
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${day} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

/** How a job ended: one verdict, then its figures. */
export interface JobEnd {
  verdict: string;
  mark: Mark;
  /** Name and value, in the order they are read. */
  figures: [string, string][];
}

type Result = Record<string, unknown>;

/** The verdict and figures of a job that has ended. */
export function endOf(job: Job): JobEnd {
  const mark = markOfJob(job);
  const result = readResult(job);
  const figures = figuresOf(job, result);
  if (job.exitStatus !== 0) {
    const word = job.state === 'failed' ? 'FAILED' : job.state.toUpperCase();
    return { verdict: job.kind === 'restore' ? `${word}: NOT RESTORED` : word, mark, figures };
  }
  const warned =
    job.warningCount > 0 ? `, WITH ${formatCount(job.warningCount, 'warning').toUpperCase()}` : '';
  return { verdict: `${goodVerdict(job, result)}${warned}`, mark, figures };
}

function goodVerdict({ kind }: Job, result: Result): string {
  if (kind === 'backup') return 'BACKED UP, READ BACK AND COMPARED';
  if (kind === 'verify') return 'VERIFIED: ALL BLOCKS GOOD';
  if (result.unproved === true) return 'RESTORED, BUT UNPROVED';
  return result.verified === true
    ? 'RESTORED: ALL BLOCKS PROVED, DISK READ AGAIN'
    : 'RESTORED: ALL BLOCKS PROVED';
}

function readResult({ result }: Job): Result {
  if (result === null) return {};
  try {
    const value: unknown = JSON.parse(result);
    return typeof value === 'object' && value !== null ? (value as Result) : {};
  } catch {
    return {};
  }
}

function figuresOf(job: Job, result: Result): [string, string][] {
  if (job.kind === 'restore')
    return Array.isArray(result.disks) ? hostFigures(result, result.disks) : restoreFigures(result);
  if (job.kind === 'backup') return backupFigures(result);
  const count = (name: string): [string, string][] =>
    typeof result[name] === 'number' ? [[NAMES[name] as string, String(result[name])]] : [];
  return ['goodCount', 'failedCount', 'blocks'].flatMap(count);
}

const NAMES: Record<string, string> = {
  goodCount: 'Archives good',
  failedCount: 'Archives bad',
  blocks: 'Blocks checked',
};

function restoreFigures(result: Result): [string, string][] {
  const { totalBlocks, fromFull, fromDelta, zero, kept, retried, flatPath, diskBytes, seconds } = result;
  const number = (value: unknown): number => (typeof value === 'number' ? value : 0);
  if (typeof totalBlocks !== 'number') return [];
  const processed = number(fromFull) + number(fromDelta) + number(zero) + number(kept);
  const spent = number(seconds);
  const rate = spent > 0 ? number(diskBytes) / spent : undefined;
  return [
    ['Disk', String(flatPath ?? '')],
    ['Blocks total', String(totalBlocks)],
    ['processed', String(processed)],
    ['from FULL', String(number(fromFull))],
    ['from DELTA', String(number(fromDelta))],
    ['zero', String(number(zero))],
    ...(number(kept) > 0 ? ([['right already', String(number(kept))]] as [string, string][]) : []),
    ...(number(kept) > 0 ? ([['written', writtenText(result)]] as [string, string][]) : []),
    ['retried', String(number(retried))],
    ['Size and time', `${formatBytes(number(diskBytes))} in ${formatSeconds(spent)}, ${rateText(rate)}`],
  ];
}

/** Of a VM that was put onto a host. */
function hostFigures(result: Result, disks: readonly Result[]): [string, string][] {
  const { folder, repository, vmId, vm, seconds } = result;
  const id = vmId ?? vm;
  return [
    typeof repository === 'string' ? ['Repository', repository] : ['Folder', String(folder ?? '')],
    ...disks.map((one): [string, string] => [
      String(one.disk),
      `${formatBytes(Number(one.diskBytes))}, proved: ${one.proof}`,
    ]),
    ['Registered', typeof id === 'string' ? `as VM ${id}, powered off` : 'no'],
    ['Time', formatSeconds(typeof seconds === 'number' ? seconds : 0)],
  ];
}

function writtenText({ writtenBytes, besideBytes }: Result): string {
  const bytes = (value: unknown): number => (typeof value === 'number' ? value : 0);
  const beside = bytes(besideBytes) > 0 ? `, ${formatBytes(bytes(besideBytes))} beside it first` : '';
  return `${formatBytes(bytes(writtenBytes))}${beside}`;
}

function backupFigures({ disks }: Result): [string, string][] {
  if (!Array.isArray(disks)) return [];
  return disks.map((one: Result) => [
    String(one.disk),
    `${one.mode === 'full' ? 'FULL' : 'DELTA'}, ${formatBytes(Number(one.archiveBytes))}, ` +
      `${Number(one.changedPercent).toFixed(1)} % changed, ${formatSeconds(Number(one.seconds))}`,
  ]);
}
