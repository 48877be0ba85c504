/** Background status: every job, live; opens one of them. */
import { fromErrno } from '../../src/errors.ts';
import type { Job } from '../../src/model/job.ts';
import type { Queue } from '../../src/queue/queue.ts';
import type { Desk } from '../desk.ts';
import type { Line, ListAction, ListAnswer, ListColumn, ListSource } from '../dialogue.ts';
import { hasFailed, markOfJob, percentText, rateText, remainingText } from './job-figures.ts';
import { tellFailure } from './tell-failure.ts';

const REFRESH_MS = 1_000;

const ACTIONS: readonly ListAction[] = [
  { key: 'l', id: 'locks', footer: 'locks', help: 'keep jobs from starting, or let them' },
  { key: 's', id: 'start', footer: 'start now', help: 'start the waiting job of the marker at once' },
  { key: 'd', id: 'delete', footer: 'delete ended', help: 'delete all completed and failed jobs' },
  { key: 'r', id: 'remove', footer: 'remove pending', help: 'remove all jobs that wait' },
  {
    key: 'f',
    id: 'retry',
    footer: 'retry failed',
    help: 'retry the failed jobs that were queued together with the one of the marker',
  },
];

export async function background(desk: Desk): Promise<void> {
  const [queue, { subjectOf }] = [await desk.queue(), await import('../../src/queue/request.ts')];
  const source = new JobSource(queue);
  let at: string | undefined;
  try {
    for (;;) {
      const answer = await desk.dialogue.list<Job>({
        title: 'Background status',
        source,
        idOf,
        columns: columnsWith(subjectOf),
        markOf: markOfJob,
        actions: ACTIONS,
        at,
        empty: 'no jobs',
        refreshMs: REFRESH_MS,
        note: () => noteOf(desk, source),
      });
      if (answer === undefined || answer.kind === 'quit') return;
      at = answer.row === undefined ? at : idOf(answer.row);
      source.find('');
      await act(desk, queue, answer);
      source.refresh();
    }
  } finally {
    source.markSeen();
    await desk.refreshState();
  }
}

async function act(
  desk: Desk,
  queue: Queue,
  answer: Exclude<ListAnswer<Job>, { kind: 'quit' }>,
): Promise<void> {
  if (answer.kind === 'row') {
    const { job } = await import('./job.ts');
    return await job(desk, answer.row.id);
  }
  if (answer.id === 'locks') return await (await import('./locks.ts')).locks(desk);
  const { deleteEnded, removePending, retryGroup, startWaiting } = await import('./job-actions.ts');
  await tellFailure(desk, 'That did not work', async () => {
    if (answer.id === 'delete') await deleteEnded(desk, queue);
    if (answer.id === 'remove') await removePending(desk, queue);
    if (answer.row === undefined) return;
    if (answer.id === 'retry') await retryGroup(desk, queue, answer.row);
    if (answer.id === 'start') await startWaiting(desk, queue, answer.row);
  });
}

function idOf({ id }: Job): string {
  return String(id);
}

function columnsWith(subjectOf: (job: Job) => string): ListColumn<Job>[] {
  const live = (job: Job): Job['progress'] => (job.state === 'running' ? job.progress : null);
  return [
    { title: 'Job', columns: 5, align: 'right', text: idOf },
    { title: 'State', columns: 12, text: stateText },
    { title: 'Done', columns: 5, align: 'right', text: percentText },
    { title: 'Rate', columns: 8, align: 'right', from: 66, text: (job) => rateOf(live(job)?.bytesPerSecond) },
    {
      title: 'Left',
      columns: 7,
      align: 'right',
      text: (job) => remainingText(live(job)?.remainingSeconds),
    },
    { title: 'By', columns: 8, from: 70, text: ({ submitter }) => `${submitter.user}@${submitter.host}` },
    { title: 'What', columns: 0, text: (job) => `${job.kind} ${subjectOf(job)}` },
  ];
}

function rateOf(bytesPerSecond: number | undefined): string {
  return bytesPerSecond === undefined ? '' : rateText(bytesPerSecond);
}

function stateText({ state }: Job): string {
  return state === 'done with warnings' ? 'done, warned' : state;
}

function noteOf(desk: Desk, source: JobSource): Line | undefined {
  if (source.fault !== undefined) return { text: source.fault, mark: 'bad' };
  const [lock] = desk.state.locks ?? [];
  if (lock !== undefined) return { text: lock, mark: 'warning' };
  const { jobs, daemon } = desk.state;
  if (daemon !== 'not running' || (jobs?.waiting ?? 0) === 0) return undefined;
  return { text: 'No daemon runs: S starts a waiting job now.', mark: 'warning' };
}

/** The jobs of the queue; a queue that cannot be read keeps what was seen last and tells why. */
class JobSource implements ListSource<Job> {
  readonly #queue: Queue;
  #ids: readonly number[] = [];
  #part = '';
  /** Of the state of the queue that the numbers were read in. */
  #mark = '';
  /** Failures that were on the screen. */
  readonly #shown = new Set<number>();
  fault: string | undefined;

  constructor(queue: Queue) {
    this.#queue = queue;
    this.refresh();
  }

  length(): { known: number; isExact: boolean } {
    return { known: this.#ids.length, isExact: true };
  }

  rows(from: number, limit: number): Job[] {
    const jobs = this.#read(() =>
      this.#ids.slice(from, from + limit).flatMap((id) => this.#queue.db.job(id) ?? []),
    );
    for (const job of jobs ?? []) if (hasFailed(job) && !job.isSeen) this.#shown.add(job.id);
    return jobs ?? [];
  }

  indexOf(id: string): number {
    return this.#ids.indexOf(Number(id));
  }

  find(text: string): void {
    this.#part = text;
    this.refresh();
  }

  refresh(): boolean {
    const ids = this.#read(() => {
      this.#queue.requirePresent();
      this.#queue.settleInterrupted();
      const mark = `${this.#queue.db.changeMark()} ${this.#part}`;
      if (mark === this.#mark) return this.#ids;
      this.#mark = mark;
      return this.#queue.db.listed(this.#part);
    });
    if (ids !== undefined) {
      this.#ids = ids;
      this.fault = undefined;
    }
    return true;
  }

  /** What was on the screen is no news any more. */
  markSeen(): void {
    this.#read(() => {
      for (const id of this.#shown) this.#queue.db.markSeen(id);
    });
  }

  #read<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.fault = fromErrno(error, 'the queue cannot be read').message;
      return undefined;
    }
  }
}
