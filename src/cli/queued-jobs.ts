/** What the commands share that queue jobs or look at them. */
import type { Job } from '../model/job.ts';
import type { Queue } from '../queue/queue.ts';
import type { Requests } from '../queue/request.ts';
import type { Cli } from './cli.ts';

/** Opens the queue of this home, runs `work` and closes it, whatever happens. */
export async function withQueue<T>(cli: Cli, work: (queue: Queue) => T | Promise<T>): Promise<T> {
  const { openPlaces } = await import('../engine/configuration.ts');
  const { Queue } = await import('../queue/queue.ts');
  const queue = new Queue(await openPlaces(cli.env));
  try {
    return await work(queue);
  } finally {
    queue.close();
  }
}

/** `--background`: queues one job for each request and says what will become of them. */
export async function queueJobs<Kind extends keyof Requests>(
  cli: Cli,
  kind: Kind,
  requests: readonly Requests[Kind][],
  isJson: boolean,
): Promise<void> {
  const { submitterOf } = await import('../queue/submitter.ts');
  await withQueue(cli, async (queue) => {
    const jobs = queue.submit(kind, requests, submitterOf(cli.env));
    for (const job of jobs) {
      if (isJson) cli.printJson(queuedLine(job));
      else cli.print(`job ${job.id} queued: ${job.kind} ${job.title}`);
    }
    await tellWhatHolds(cli, queue, kind);
  });
}

/** Warns if jobs of this kind will wait for a person: no daemon, a lock. */
export async function tellWhatHolds(cli: Cli, queue: Queue, kind?: keyof Requests): Promise<void> {
  const { lockText, locksHolding, QUEUE_OFF } = await import('../queue/gate.ts');
  const { readJobSettings } = await import('../engine/configuration.ts');
  if (!queue.isDaemonRunning()) cli.warn('no daemon runs: queued jobs wait for phd daemon start');
  for (const lock of locksHolding(queue.db, kind)) cli.warn(`${lockText(lock)}: jobs wait`);
  const isHeld = kind === 'restore' && !(await readJobSettings(queue.places)).restoreQueue;
  if (isHeld)
    cli.warn(`${QUEUE_OFF}: jobs wait for phd config set jobs.restoreQueue true, or phd jobs start`);
}

function queuedLine(job: Job): Record<string, unknown> {
  const { archive = null } = JSON.parse(job.request) as { archive?: string };
  return {
    event: 'queued',
    job: job.id,
    group: job.groupId,
    kind: job.kind,
    archive,
    disk: null,
    bytes: 0,
    totalBytes: 0,
    percent: 0,
    bytesPerSecond: 0,
    remainingSeconds: null,
    code: null,
    message: null,
  };
}
