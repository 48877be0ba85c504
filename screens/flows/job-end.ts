/** How jobs ended: figures and one verdict line for each, what to do about a failure, retry and salvage. */
import { formatCount } from '../../src/engine/display-text.ts';
import type { Job } from '../../src/model/job.ts';
import type { Desk } from '../desk.ts';
import type { ListSource, WatchRows } from '../dialogue.ts';
import { FileTail } from '../file-tail.ts';
import { fitted, type Row, span, wrap } from '../frame.ts';
import type { Look } from '../look.ts';
import { adviceFor } from './advice.ts';
import { endOf, hasFailed, markOfJob, mayBeRetried } from './job-figures.ts';
import { JobWatch } from './job-watch.ts';
import { tellFailure } from './tell-failure.ts';

/** Figures that stand still need no look; this only lets the clock of the screen run. */
const REFRESH_MS = 60_000;
/** The others are in the log. */
const SHOWN_WARNINGS = 2;
const SALVAGED = new Set(['DIGEST_MISMATCH', 'ARCHIVE_DAMAGED']);

/** Shows how these jobs ended; returns the jobs that the person has set going again, none to go back. */
export async function showEnd(desk: Desk, ids: readonly number[]): Promise<readonly number[]> {
  const watch = new JobWatch(await desk.queue(), ids);
  markSeen(watch);
  const [only] = watch.jobs;
  if (only === undefined) return [];
  return watch.jobs.length === 1 ? await showOne(desk, watch, only) : await showAll(desk, watch);
}

/** A failure that was shown is no news in the main menu. */
function markSeen({ queue, jobs }: JobWatch): void {
  try {
    for (const job of jobs) if (!job.isSeen) queue.db.markSeen(job.id);
  } catch {
    // It stays news; the screen itself is what matters here.
  }
}

async function showOne(desk: Desk, watch: JobWatch, job: Job): Promise<readonly number[]> {
  const isSalvageable = await maySalvage(job);
  const warnings = warningsOf(watch, job);
  for (;;) {
    const answer = await desk.dialogue.watch({
      title: `Job ${job.id}: ${job.state}`,
      rows: (columns, rows) => endRows(job, warnings, { columns, rows }, desk.look, isSalvageable),
      refreshMs: REFRESH_MS,
      actions: [
        { key: 'enter', id: 'on', footer: 'go on', help: 'back' },
        { key: 'l', id: 'log', footer: 'log', help: 'the log of the job' },
        { key: 'e', id: 'pager', footer: 'pager', help: 'the log in $PAGER' },
        {
          key: 'r',
          id: 'retry',
          footer: 'retry',
          help: 'try again; a restore goes on where it was',
          isOffered: () => mayBeRetried(job),
        },
        {
          key: 's',
          id: 'salvage',
          footer: 'salvage',
          help: 'restore what is good into NAME.damaged',
          isOffered: () => isSalvageable,
        },
      ],
    });
    if (answer === undefined || answer === 'on') return [];
    const log = await import('./job-log.ts');
    if (answer === 'log') await log.jobLog(desk, job.id);
    if (answer === 'pager') await log.jobLogInPager(desk, job.id);
    const again =
      answer === 'retry'
        ? await retryNow(desk, watch, [job])
        : answer === 'salvage'
          ? await salvage(desk, watch, job)
          : [];
    if (again.length > 0) return again;
  }
}

/** The first warnings of the last attempt, as its log tells them; all stand there. */
function warningsOf({ queue }: JobWatch, { id, warningCount }: Job): string[] {
  if (warningCount === 0) return [];
  const lines = new FileTail(queue.logFileOf(id)).lines();
  const begun = lines.findLastIndex((line) => line.includes(`job ${id}, attempt `));
  return lines
    .slice(begun + 1)
    .flatMap((line) => /^\S+ warning: (.+)$/.exec(line)?.[1] ?? [])
    .slice(0, SHOWN_WARNINGS);
}

/** Of a long message what fits is shown, the rest stands in the log; the verdict is always seen. */
function endRows(
  job: Job,
  warnings: readonly string[],
  size: { columns: number; rows: number },
  look: Look,
  isSalvageable: boolean,
): WatchRows {
  const { columns } = size;
  const { verdict, mark, figures } = endOf(job);
  const lines = (text: string): Row[] => wrap(text, columns, look).map((one) => [span(one)]);
  const width = Math.max(0, ...figures.map(([name]) => name.length));
  const body = [
    ...figures.map(([name, value]): Row => {
      const head = `${name.padEnd(width)}  `;
      return [span(head + fitted(value, columns - head.length, look).trimEnd())];
    }),
    ...(job.errorMessage === null ? [] : lines(`${job.errorCode ?? 'IO'}: ${job.errorMessage}`)),
    ...warnings.flatMap((text) => lines(`Warning: ${text}`)),
  ];
  const toDo = [
    ...(job.exitStatus === 0 ? [] : lines(adviceFor(job.errorCode))),
    ...(isSalvageable ? lines('S keeps what is good, with zeros for the rest, as NAME.damaged.') : []),
  ];
  const room = size.rows - toDo.length - 2;
  const head: Row[] = [[span(fitted(job.title, columns, look).trimEnd())], []];
  return {
    rows: [
      ...[...head, ...body].slice(0, Math.max(0, room)),
      ...toDo,
      [],
      [span(fitted(verdict, columns, look).trimEnd(), mark)],
    ],
  };
}

async function showAll(desk: Desk, watch: JobWatch): Promise<readonly number[]> {
  const { subjectOf } = await import('../../src/queue/request.ts');
  let at: string | undefined;
  for (;;) {
    const failed = watch.jobs.filter(mayBeRetried);
    const good = watch.jobs.filter(({ exitStatus }) => exitStatus === 0).length;
    const answer = await desk.dialogue.list<Job>({
      title: `${good} of ${formatCount(watch.jobs.length, 'job')} done${failed.length > 0 ? `, ${failed.length} not` : ''}`,
      source: sourceOf(watch.jobs),
      idOf: ({ id }) => String(id),
      at,
      columns: [
        { title: 'Job', columns: 6, align: 'right', text: ({ id }) => String(id) },
        { title: 'State', columns: 18, text: ({ state }) => state },
        { title: 'What', columns: 16, text: subjectOf },
        { title: '', columns: 0, from: 60, text: ({ title, errorMessage }) => errorMessage ?? title },
      ],
      markOf: markOfJob,
      actions:
        failed.length === 0
          ? []
          : [{ key: 'r', id: 'retry', footer: 'retry failed', help: 'try all again that did not end well' }],
      empty: 'no jobs',
    });
    if (answer === undefined || answer.kind === 'quit') return [];
    if (answer.kind === 'action') {
      const again = await retryNow(desk, watch, failed);
      if (again.length > 0) return again;
      continue;
    }
    at = String(answer.row.id);
    const again = await showOne(desk, watch, answer.row);
    if (again.length > 0) return again;
  }
}

function sourceOf(jobs: readonly Job[]): ListSource<Job> {
  return {
    length: () => ({ known: jobs.length, isExact: true }),
    rows: (from, limit) => jobs.slice(from, from + limit),
    indexOf: (id) => jobs.findIndex((job) => String(job.id) === id),
  };
}

/** Lets these jobs wait again and starts them at once; returns those that could be. */
export async function retryNow(desk: Desk, { queue }: JobWatch, jobs: readonly Job[]): Promise<number[]> {
  const started: number[] = [];
  const { startNow } = await import('../../src/queue/start-now.ts');
  await tellFailure(desk, 'Not retried', async () => {
    for (const { id } of jobs) started.push(queue.retry(id).id);
  });
  await tellFailure(desk, 'Not started', () => startNow(queue, started, desk.env));
  return started;
}

async function maySalvage(job: Job): Promise<boolean> {
  if (job.kind !== 'restore' || !hasFailed(job) || !SALVAGED.has(job.errorCode ?? '')) return false;
  const { readRequest } = await import('../../src/queue/request.ts');
  try {
    const request = readRequest('restore', job);
    return !('host' in request) && !request.salvage && request.inPlace !== true;
  } catch {
    return false;
  }
}

/** The same request once more, keeping what is good; only for a typed word. */
async function salvage(desk: Desk, { queue }: JobWatch, job: Job): Promise<readonly number[]> {
  const isSure = await desk.dialogue.typed({
    title: 'Salvage',
    lines: [
      'Blocks that are good in no copy become zeros. The disk is named NAME.damaged',
      'and a list beside it tells which bytes are missing. It never counts as restored.',
    ],
    word: 'SALVAGE',
  });
  if (!isSure) return [];
  const [{ readRequest }, { submitterOf }, { startNow }] = await Promise.all([
    import('../../src/queue/request.ts'),
    import('../../src/queue/submitter.ts'),
    import('../../src/queue/start-now.ts'),
  ]);
  const started = await tellFailure(desk, 'Not started', async () => {
    const request = { ...readRequest('restore', job), salvage: true };
    const ids = queue.submit('restore', [request], submitterOf(desk.env)).map(({ id }) => id);
    await startNow(queue, ids, desk.env);
    return ids;
  });
  return started ?? [];
}
