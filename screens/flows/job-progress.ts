/** Progress of jobs that run elsewhere. The screen may be left, closed or killed at any time: they go on. */
import { STOP_MENU } from '../../menus/tree.ts';
import { formatCount, formatSeconds } from '../../src/engine/display-text.ts';
import type { Job, JobProgress } from '../../src/model/job.ts';
import type { Desk } from '../desk.ts';
import type { WatchRows } from '../dialogue.ts';
import { fitted, type Row, span } from '../frame.ts';
import type { Look } from '../look.ts';
import {
  amountText,
  isOver,
  markOfJob,
  percentText,
  phaseText,
  rateText,
  remainingText,
} from './job-figures.ts';
import { JobWatch } from './job-watch.ts';
import { tellFailure } from './tell-failure.ts';

type RequestWords = typeof import('../../src/queue/request.ts');

const LOOK_EVERY_MS = 1_000;
/** Nobody is missed who starts the jobs before this. */
const START_MS = 8_000;
/** From this on the words for the times fit into the line. */
const WIDE_COLUMNS = 74;
const SLOW_STEP_SECONDS = 5;

/** Shows these jobs until they have ended or are left to themselves, then how they ended. */
export async function followJobs(desk: Desk, ids: readonly number[]): Promise<void> {
  const { showEnd } = await import('./job-end.ts');
  let followed = ids;
  while (followed.length > 0) {
    const isEnded = await watchJobs(desk, followed);
    if (!isEnded) return;
    followed = await showEnd(desk, followed);
  }
}

/** True once all have ended, false when they were left running. */
async function watchJobs(desk: Desk, ids: readonly number[]): Promise<boolean> {
  const { whyWaiting } = await import('./job-waiting.ts');
  // A phd.yaml that was broken meanwhile must not hide the job; whoever needs it tells of it.
  const restoreQueue = await desk.context().then(
    ({ config }) => config.jobs.restoreQueue,
    () => true,
  );
  const requests = await import('../../src/queue/request.ts');
  const watch = new JobWatch(await desk.queue(), ids);
  const startedMs = performance.now();
  const isStuck = (): boolean =>
    watch.running === undefined && watch.waiting.length > 0 && performance.now() - startedMs > START_MS;
  for (;;) {
    if (watch.fault === undefined && watch.jobs.every(isOver)) return true;
    const answer = await desk.dialogue.watch({
      title: titleOf(watch),
      rows: (columns, rows) =>
        progressRows(
          watch,
          requests,
          { columns, rows },
          desk.look,
          whyWaiting(watch, isStuck(), restoreQueue),
        ),
      refreshMs: LOOK_EVERY_MS,
      isOver: () => {
        watch.look();
        return watch.jobs.every(isOver) && watch.fault === undefined ? 'ended' : undefined;
      },
      actions: [
        { key: 'l', id: 'log', footer: 'log', help: 'the log of the job that runs' },
        {
          key: 's',
          id: 'start',
          footer: 'start now',
          help: 'start what waits, without the daemon',
          isOffered: isStuck,
        },
      ],
      interrupt: 'stop',
    });
    if (answer === 'ended') return true;
    if (answer === 'log') await showLog(desk, watch);
    else if (answer === 'start') await startWaiting(desk, watch);
    else if (answer === undefined || !(await isStaying(desk, watch))) {
      desk.dialogue.notice('It goes on without this screen: see Background status.');
      return false;
    }
  }
}

async function showLog(desk: Desk, watch: JobWatch): Promise<void> {
  const job = watch.running ?? watch.jobs.at(-1);
  if (job === undefined) return;
  const { jobLog } = await import('./job-log.ts');
  await jobLog(desk, job.id);
}

async function startWaiting(desk: Desk, watch: JobWatch): Promise<void> {
  const { startNow } = await import('../../src/queue/start-now.ts');
  const ids = watch.waiting.map(({ id }) => id);
  await tellFailure(desk, 'Not started', () => startNow(watch.queue, ids, desk.env));
}

/** What ^C asks; true if the person goes on watching. */
async function isStaying(desk: Desk, watch: JobWatch): Promise<boolean> {
  const chosen = await desk.dialogue.menu(STOP_MENU, { at: 'leave' });
  if (chosen === 'leave') return false;
  if (chosen !== 'cancel') return true;
  const open = watch.jobs.filter((job) => !isOver(job));
  const isSure = await desk.dialogue.confirm({
    title: 'Cancel',
    lines: [
      `${formatCount(open.length, 'job')} will be ended.`,
      'What is written so far stays as a .part: retry goes on from it.',
    ],
    question: 'Cancel now?',
    isDestructive: true,
  });
  if (isSure) {
    const { killJobs } = await import('./job-kill.ts');
    await killJobs(
      desk,
      open.map(({ id }) => id),
    );
  }
  return true;
}

function titleOf({ jobs }: JobWatch): string {
  const kinds = new Set(jobs.map(({ kind }) => kind));
  const [kind = 'job'] = kinds;
  const name = kinds.size === 1 ? `${kind[0]?.toUpperCase()}${kind.slice(1)}` : 'Jobs';
  return jobs.length === 1 ? `${name}, job ${jobs[0]?.id}` : `${name}: ${formatCount(jobs.length, 'job')}`;
}

/** Everything stands at a fixed place, so that a second changes only figures. */
function progressRows(
  watch: JobWatch,
  { factsOf, subjectOf }: RequestWords,
  size: { columns: number; rows: number },
  look: Look,
  whyWaiting: string,
): WatchRows {
  const { jobs, running, fault } = watch;
  const shown = running ?? jobs.find((job) => !isOver(job)) ?? jobs.at(-1);
  if (shown === undefined) return { rows: [[span(fault ?? 'The jobs were removed.', 'bad')]] };
  const line = (text: string): Row => [span(fitted(text, size.columns, look).trimEnd())];
  const { progress } = shown;
  const isRunning = shown.state === 'running';
  const state = isRunning ? workText(progress) : isOver(shown) ? shown.state : whyWaiting;
  const rows: Row[] = [
    ...factsOf(shown).map(([name, value]) => line(`${name.padEnd(9)}${value}`)),
    line(jobs.length > 1 ? `${jobs.filter(isOver).length} of ${jobs.length} jobs done` : ''),
    [span('State    '), span(fitted(state, size.columns - 9, look).trimEnd(), isRunning ? 'plain' : 'faint')],
    ...figureLines(isRunning ? progress : null, size.columns, look).map(line),
    fault !== undefined
      ? [span(fitted(fault, size.columns, look).trimEnd(), 'bad')]
      : warningLine(shown.warningCount),
  ];
  const room = size.rows - rows.length - 1;
  if (jobs.length > 1 && room > 1) {
    const around = jobsAround(jobs, shown, room - 1);
    rows.push([], ...around.map((job) => jobLine(job, subjectOf(job), size.columns, look)));
  }
  const isDrawn = jobs.length === 1;
  return isDrawn && progress !== null ? { rows, gauge: progress.percent, rates: watch.rates } : { rows };
}

/** Two lines, since each line that changes costs a move of the cursor; seconds in steps where the line is slow. */
function figureLines(progress: JobProgress | null, columns: number, look: Look): string[] {
  if (progress === null) return ['', ''];
  const { percent, fullPercent, deltaPercent, bytesPerSecond, meanBytesPerSecond } = progress;
  const isShort = columns < WIDE_COLUMNS;
  const step = look.isSlow ? SLOW_STEP_SECONDS : 1;
  const elapsed = formatSeconds(Math.floor((progress.elapsedSeconds ?? 0) / step) * step);
  const left = remainingText(progress.remainingSeconds, step);
  const done =
    fullPercent === undefined
      ? wholePercent(percent)
      : `FULL ${wholePercent(fullPercent)}  DELTA ${wholePercent(deltaPercent)}`;
  const rates = `${rateText(bytesPerSecond).padEnd(11)}mean ${rateText(meanBytesPerSecond).padEnd(11)}`;
  const times = isShort ? `${elapsed.padEnd(9)}${left}` : `elapsed ${elapsed.padEnd(9)}${leftText(left)}`;
  return [`Done     ${done.padEnd(27)}${amountText(progress)}`, `Rate     ${rates}${times}`];
}

function workText(progress: JobProgress | null): string {
  return progress === null ? 'beginning' : phaseText(progress);
}

function leftText(left: string): string {
  return left === '' ? '' : `remaining ${left}`;
}

/** A percent in fixed columns; a dash where there is nothing to do. */
function wholePercent(percent: number | null | undefined): string {
  const figure = percent === null || percent === undefined ? '-' : String(Math.floor(percent));
  return `${figure.padStart(3)} %`;
}

function warningLine(count: number): Row {
  return count === 0 ? [] : [span(`${formatCount(count, 'warning')}: see the log`, 'warning')];
}

/** As many jobs as there is room for, the one under way among them. */
function jobsAround(jobs: readonly Job[], shown: Job, room: number): readonly Job[] {
  const top = Math.max(0, Math.min(jobs.indexOf(shown) - 1, jobs.length - room));
  return jobs.slice(top, top + room);
}

function jobLine(job: Job, subject: string, columns: number, look: Look): Row {
  const head = `${String(job.id).padStart(6)}  ${job.state.padEnd(18)} `;
  const percent = job.state === 'running' ? '' : percentText(job);
  return [
    span(head, markOfJob(job)),
    span(fitted(`${percent.padEnd(6)} ${subject}`, columns - head.length, look).trimEnd()),
  ];
}
