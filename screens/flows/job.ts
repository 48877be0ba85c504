/** One job: what, who, when, how far, how it ended, and the end of its log as it grows. */
import { fromErrno } from '../../src/errors.ts';
import type { Job, JobAttempt } from '../../src/model/job.ts';
import type { Queue } from '../../src/queue/queue.ts';
import type { Desk } from '../desk.ts';
import type { WatchRows } from '../dialogue.ts';
import { FileTail } from '../file-tail.ts';
import { fitted, type Row, span, wrap } from '../frame.ts';
import type { Look } from '../look.ts';
import { adviceFor } from './advice.ts';
import {
  amountText,
  endOf,
  isOver,
  localTime,
  markOfJob,
  mayBeRetried,
  percentText,
  phaseText,
  rateText,
  remainingText,
} from './job-figures.ts';
import { tellFailure } from './tell-failure.ts';

const LOOK_EVERY_MS = 1_000;
const NAME_COLUMNS = 10;

/** What one look at the job found; the last one stays when the queue cannot be read. */
interface Seen {
  job: Job;
  attempts: readonly JobAttempt[];
  fault: string | undefined;
}

/** Shows the job until the person goes back. */
export async function job(desk: Desk, id: number): Promise<void> {
  const queue = await desk.queue();
  const { submitterText } = await import('../../src/queue/submitter.ts');
  const tail = new FileTail(queue.logFileOf(id));
  let seen: Seen = { job: queue.job(id), attempts: queue.db.attempts(id), fault: undefined };
  const look = (): void => {
    seen = lookAt(queue, id, seen);
  };
  for (;;) {
    look();
    const isOpen = !isOver(seen.job);
    const answer = await desk.dialogue.watch({
      title: `Job ${id}: ${seen.job.kind}`,
      rows: (columns, rows) =>
        jobRows(seen, submitterText(seen.job.submitter), tail.lines(), { columns, rows }, desk.look),
      refreshMs: LOOK_EVERY_MS,
      isOver: () => {
        look();
        return isOpen && isOver(seen.job) ? 'changed' : undefined;
      },
      actions: [
        { key: 'enter', id: 'follow', footer: isOpen ? 'progress' : 'result', help: 'its figures' },
        { key: 'l', id: 'log', footer: 'log', help: 'the whole log, following' },
        { key: 'e', id: 'pager', footer: 'pager', help: 'the log in $PAGER' },
        {
          key: 'k',
          id: 'kill',
          footer: 'kill',
          help: 'end it now',
          isOffered: () => !isOver(seen.job),
        },
        {
          key: 'r',
          id: 'retry',
          footer: 'retry',
          help: 'try again; a restore goes on where it was',
          isOffered: () => mayBeRetried(seen.job),
        },
        {
          key: 's',
          id: 'start',
          footer: 'start now',
          help: 'start it without the daemon',
          isOffered: () => seen.job.state === 'waiting',
        },
      ],
    });
    if (answer === undefined) return;
    await tellFailure(desk, 'That did not work', () => act(desk, queue, id, answer));
  }
}

async function act(desk: Desk, queue: Queue, id: number, answer: string): Promise<void> {
  const log = await import('./job-log.ts');
  if (answer === 'follow') await follow(desk, queue, id);
  if (answer === 'log') await log.jobLog(desk, id);
  if (answer === 'pager') await log.jobLogInPager(desk, id);
  if (answer === 'kill') await kill(desk, queue.job(id));
  const { startUnlessDaemon, startWaiting } = await import('./job-actions.ts');
  if (answer === 'start') await startWaiting(desk, queue, queue.job(id));
  if (answer === 'retry') await startUnlessDaemon(desk, queue, [queue.retry(id)]);
}

/** With the jobs that were queued together with it and have not ended either. */
async function follow(desk: Desk, queue: Queue, id: number): Promise<void> {
  const { groupId } = queue.job(id);
  const others = groupId === null || isOver(queue.job(id)) ? [] : queue.db.jobs({ groupId });
  const open = others.filter((one) => !isOver(one)).map((one) => one.id);
  const { followJobs } = await import('./job-progress.ts');
  await followJobs(desk, open.length > 1 ? open.sort((a, b) => a - b) : [id]);
}

async function kill(desk: Desk, { id, title, kind }: Job): Promise<void> {
  const isSure = await desk.dialogue.confirm({
    title: `Kill job ${id}`,
    lines: [`${kind} ${title}`, 'Retry goes on from what it has proved so far.'],
    question: 'Kill it?',
    isDestructive: true,
  });
  if (!isSure) return;
  const { killJobs } = await import('./job-kill.ts');
  await killJobs(desk, [id]);
}

function lookAt(queue: Queue, id: number, before: Seen): Seen {
  try {
    queue.requirePresent();
    queue.settleInterrupted();
    const now = queue.job(id);
    if (isOver(now) && !now.isSeen) queue.db.markSeen(id);
    return { job: now, attempts: queue.db.attempts(id), fault: undefined };
  } catch (error) {
    return { ...before, fault: fromErrno(error, 'the queue cannot be read').message };
  }
}

/** Facts above, the end of the log in all rows that are left. */
function jobRows(
  { job: one, attempts, fault }: Seen,
  by: string,
  log: readonly string[],
  size: { columns: number; rows: number },
  look: Look,
): WatchRows {
  const room = size.columns - NAME_COLUMNS;
  const fact = (name: string, text: string): Row[] =>
    text === '' ? [] : [[span(name.padEnd(NAME_COLUMNS), 'faint'), span(fitted(text, room, look).trimEnd())]];
  const rows: Row[] = [
    ...(fault === undefined ? [] : [[span(fitted(fault, size.columns, look).trimEnd(), 'bad')]]),
    [span('State'.padEnd(NAME_COLUMNS), 'faint'), span(one.state, markOfJob(one))],
    ...fact('What', one.title),
    ...fact('By', by),
    ...fact('Queued', localTime(one.createdAt)),
    ...attempts.slice(-3).flatMap((attempt) => fact(`Attempt ${attempt.attempt}`, attemptText(attempt))),
    ...fact('Progress', one.state === 'running' ? progressText(one) : ''),
    ...endLines(one, size.columns, look),
    [],
  ];
  const free = Math.max(0, size.rows - rows.length);
  const shown = log.slice(-free).flatMap((text) => wrap(text, size.columns, look));
  return {
    rows: [...rows, ...shown.slice(Math.max(0, shown.length - free)).map((text): Row => [span(text)])],
  };
}

function attemptText({ state, startedAt, endedAt, owner }: JobAttempt): string {
  const end = endedAt === null ? '' : ` to ${localTime(endedAt).slice(11)}`;
  return `${state}, ${localTime(startedAt)}${end}, process ${owner.pid}`;
}

function progressText(one: Job): string {
  const { progress } = one;
  if (progress === null) return 'beginning';
  const left = remainingText(progress.remainingSeconds);
  const figures = [percentText(one), amountText(progress), rateText(progress.bytesPerSecond)];
  return `${phaseText(progress)}: ${figures.join(', ')}${left === '' ? '' : `, remaining ${left}`}`;
}

function endLines(one: Job, columns: number, look: Look): Row[] {
  if (!isOver(one)) return [];
  const { verdict, mark } = endOf(one);
  const lines = (text: string): Row[] => wrap(text, columns, look).map((text_) => [span(text_)]);
  return [
    [span(fitted(verdict, columns, look).trimEnd(), mark)],
    ...(one.errorMessage === null ? [] : lines(`${one.errorCode ?? 'IO'}: ${one.errorMessage}`)),
    ...(one.exitStatus === 0 ? [] : lines(adviceFor(one.errorCode))),
  ];
}
