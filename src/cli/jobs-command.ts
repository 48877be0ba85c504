/** `phd jobs list|show|log|kill|retry|remove-pending|purge`, and `phd job run`, the process of one job. */
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { formatBytes, formatCount, formatSeconds } from '../engine/display-text.ts';
import { PhdError } from '../errors.ts';
import { JOB_KINDS, JOB_STATES, type Job } from '../model/job.ts';
import type { Queue } from '../queue/queue.ts';
import { type Cli, parseChoice, parseWhole } from './cli.ts';
import { copyFrom } from './log-command.ts';
import { tellWhatHolds, withQueue } from './queued-jobs.ts';
import { printTable } from './table.ts';

const FOLLOW_EVERY_MS = 500;
const MAX_ID = 999_999_999_999;

export function registerJobs(program: Command, cli: Cli): void {
  const jobs = program
    .command('jobs')
    .description('list, watch, start, kill, retry and remove queued jobs')
    .addHelpText(
      'after',
      `
Backup, restore and verify queue jobs with --background; the daemon runs them.

Examples:
  phd jobs list --state failed
  phd jobs log -f 12
  phd jobs retry --failed`,
    );
  registerList(jobs, cli);
  jobs
    .command('show')
    .description('tell all about jobs; failed ones count as seen from then on')
    .argument('<ID...>')
    .option('--json', 'JSON lines')
    .action((ids: string[], words: { json?: boolean }) =>
      eachJob(cli, ids, words.json, (queue, id) => showJob(cli, queue, id, words.json ?? false)),
    );
  jobs
    .command('log')
    .description('print the log of a job')
    .argument('<ID>')
    .option('-f, --follow', 'go on until the job ends')
    .action((id: string, words: { follow?: boolean }) => printLog(cli, idOf(id), words.follow ?? false));
  jobs
    .command('kill')
    .description('end jobs that wait or run')
    .argument('<ID...>')
    .option('--json', 'JSON lines')
    .action((ids: string[], words: { json?: boolean }) =>
      eachJob(cli, ids, words.json, async (queue, id) => {
        const job = await queue.kill(id);
        if (words.json) cli.printJson(jsonOf(queue, job));
        else cli.print(`job ${id} is ${job.state}`);
      }),
    );
  jobs
    .command('start')
    .description('start waiting jobs now, one after the other, whether or not a daemon runs')
    .argument('<ID...>')
    .action((ids: string[]) => startJobs(cli, ids.map(idOf)));
  registerRetry(jobs, cli);
  registerRemoval(jobs, cli);
  registerWorker(program, cli);
}

function registerList(jobs: Command, cli: Cli): void {
  jobs
    .command('list')
    .description('list jobs, newest first')
    .option('--state <STATE>', `only those: ${JOB_STATES.join(', ')}`)
    .option('--kind <KIND>', 'only those: restore, backup, verify')
    .option('--group <G>', 'only those queued together under this number')
    .option('--json', 'JSON lines')
    .action((words: { state?: string; kind?: string; group?: string; json?: boolean }) =>
      withQueue(cli, (queue) => {
        queue.settleInterrupted();
        const found = queue.db.jobs({
          ...(words.state === undefined ? {} : { states: [parseChoice(words.state, '--state', JOB_STATES)] }),
          ...(words.kind === undefined ? {} : { kinds: [parseChoice(words.kind, '--kind', JOB_KINDS)] }),
          ...(words.group === undefined ? {} : { groupId: idOf(words.group) }),
        });
        if (words.json) for (const job of found) cli.printJson(jsonOf(queue, job));
        else if (found.length > 0) for (const line of tableOf(found)) cli.print(line);
        const isAll = [words.state, words.kind, words.group].every((word) => word === undefined);
        if (found.length === 0) cli.warn(isAll ? 'no job waits, runs or is kept' : 'there is no such job');
      }),
    );
}

function registerRemoval(jobs: Command, cli: Cli): void {
  const command = (
    name: string,
    description: string,
    what: string,
    remove: (queue: Queue) => number[],
  ): Command =>
    jobs
      .command(name)
      .description(description)
      .option('--json', 'a JSON line')
      .action((words: { json?: boolean }) =>
        withQueue(cli, (queue) => {
          const removed = remove(queue);
          if (words.json) cli.printJson({ removed });
          else cli.print(`${formatCount(removed.length, what)} removed`);
        }),
      );
  command('remove-pending', 'remove all jobs that wait', 'waiting job', (queue) => queue.removePending());
  command(
    'purge',
    'remove all jobs that have ended, failed ones too, with their logs',
    'ended job',
    (queue) => {
      queue.settleInterrupted();
      return queue.purge();
    },
  );
}

function registerRetry(jobs: Command, cli: Cli): void {
  jobs
    .command('retry')
    .description('let jobs that failed, were cancelled or interrupted wait for another attempt')
    .argument('[ID...]')
    .option('--failed', 'all that failed or were interrupted')
    .option('--group <G>', 'of this group all that failed or were interrupted')
    .option('--json', 'JSON lines')
    .action(async (ids: string[], words: { failed?: boolean; group?: string; json?: boolean }) => {
      const ways = [ids.length > 0, words.failed, words.group !== undefined].filter(Boolean);
      if (ways.length !== 1) throw new PhdError('USAGE', 'name jobs, or --failed, or --group');
      const failed = (queue: Queue): string[] =>
        queue.db
          .jobs({
            states: ['failed', 'interrupted'],
            ...(words.group === undefined ? {} : { groupId: idOf(words.group) }),
          })
          .map(({ id }) => String(id));
      let waiting = 0;
      const retry = (queue: Queue, id: number): void => {
        queue.settleInterrupted();
        const job = queue.retry(id);
        waiting++;
        if (words.json) cli.printJson(jsonOf(queue, job));
        else cli.print(`job ${id} waits for attempt ${job.attempt + 1}`);
      };
      await eachJob(cli, ids.length > 0 ? ids : failed, words.json, retry);
      if (waiting > 0) await withQueue(cli, (queue) => tellWhatHolds(cli, queue));
    });
}

/** Not for people: started in sessions of their own, with a job's log as their output (queue/worker.ts). */
function registerWorker(program: Command, cli: Cli): void {
  const job = program.command('job', { hidden: true });
  job
    .command('run-in-turn')
    .argument('<ID...>')
    .action(async (ids: string[]) => {
      process.on('SIGHUP', () => undefined);
      const { runInTurn } = await import('../queue/start-now.ts');
      const print = (line: string): void => cli.print(line);
      await withQueue(cli, (queue) => runInTurn(queue, ids.map(idOf), cli.env, cli.signal, print));
    });
  job
    .command('run')
    .argument('<ID>')
    .action(async (text: string) => {
      process.on('SIGHUP', () => undefined);
      const { jobOperation } = await import('../queue/job-operation.ts');
      const { runJob } = await import('../queue/run-job.ts');
      await cli.withContext((context) =>
        withQueue(cli, async (queue) => {
          const id = idOf(text);
          const print = (line: string): void => cli.print(line);
          const operation = jobOperation(queue, context);
          cli.setStatus(await runJob(queue, id, operation, { signal: cli.signal, print }));
          const { kind, title, attempt, state } = queue.job(id);
          context.log(`job ${id}, attempt ${attempt}: ${kind} ${title}: ${state}`);
        }),
      );
    });
}

function idOf(text: string): number {
  return parseWhole(text, 'job', 1, MAX_ID);
}

/** Does the same to each job; one that fails does not stop the others. */
async function eachJob(
  cli: Cli,
  ids: readonly string[] | ((queue: Queue) => string[]),
  isJson: boolean | undefined,
  work: (queue: Queue, id: number) => void | Promise<void>,
): Promise<void> {
  await withQueue(cli, async (queue) => {
    const failures: PhdError[] = [];
    const chosen = typeof ids === 'function' ? ids(queue) : ids;
    if (chosen.length === 0) cli.warn('no such job');
    for (const id of chosen) {
      try {
        await work(queue, idOf(id));
      } catch (error) {
        const job = /^\d{1,12}$/.test(id) ? { job: Number(id) } : {};
        failures.push(cli.reportItemError(error, job, isJson ?? false));
      }
    }
    cli.setStatusOf(failures);
  });
}

async function startJobs(cli: Cli, ids: readonly number[]): Promise<void> {
  const [{ startNow }, { requireUnlocked }] = await Promise.all([
    import('../queue/start-now.ts'),
    import('../queue/gate.ts'),
  ]);
  await withQueue(cli, async (queue) => {
    for (const id of ids) {
      const { state, kind } = queue.job(id);
      if (state !== 'waiting')
        throw new PhdError('USAGE', `job ${id} is ${state}: only one that waits can be started`);
      requireUnlocked(queue.db, kind);
    }
    await startNow(queue, ids, cli.env);
    for (const id of ids) cli.print(`job ${id} starts: phd jobs log -f ${id} follows it`);
  });
}

async function printLog(cli: Cli, id: number, isFollowed: boolean): Promise<void> {
  await withQueue(cli, async (queue) => {
    queue.job(id);
    queue.db.markSeen(id);
    let shownBytes = 0;
    for (;;) {
      queue.settleInterrupted();
      const isOver = !isFollowed || !['waiting', 'running'].includes(queue.job(id).state);
      shownBytes = await copyFrom(queue.logFileOf(id), shownBytes, cli);
      if (isOver) break;
      await delay(FOLLOW_EVERY_MS, undefined, { signal: cli.signal });
    }
    // A job that was begun has one, be it empty, unless it could not be written.
    if (queue.job(id).startedAt !== null && !existsSync(queue.logFileOf(id)))
      cli.warn(`there is no ${queue.logFileOf(id)}: it was removed, or could not be written`);
  });
}

async function showJob(cli: Cli, queue: Queue, id: number, isJson: boolean): Promise<void> {
  const { submitterText } = await import('../queue/submitter.ts');
  queue.settleInterrupted();
  const job = queue.job(id);
  queue.db.markSeen(id);
  if (isJson) return cli.printJson({ ...jsonOf(queue, job), attempts: queue.db.attempts(id) });
  const facts: [string, string | null][] = [
    ['Job', `${job.id}${job.groupId === null ? '' : ` of group ${job.groupId}`}`],
    ['State', job.state],
    ['What', `${job.kind} ${job.title}`],
    ['Submitted', `${job.createdAt} by ${submitterText(job.submitter)}`],
    ['Progress', progressText(job)],
    ['Result', job.errorMessage],
    ['Warnings', job.warningCount === 0 ? null : String(job.warningCount)],
    ['Exit status', job.exitStatus === null ? null : String(job.exitStatus)],
    ['Log', queue.logFileOf(id)],
  ];
  for (const [name, value] of facts) if (value !== null) cli.print(`${name.padEnd(11)} ${value}`);
  if (job.errorMessage === null && job.result !== null)
    for (const line of resultLines(job.result)) cli.print(line);
  for (const one of queue.db.attempts(id)) {
    const end = one.endedAt === null ? '' : ` to ${one.endedAt}`;
    cli.print(`Attempt ${one.attempt}   ${one.state}, ${one.startedAt}${end}, process ${one.owner.pid}`);
  }
}

/** What the job has found, a line for each fact; disks one after the other. */
function resultLines(result: string): string[] {
  const linesOf = (value: unknown, indent: string): string[] => {
    if (typeof value !== 'object' || value === null) return [`${indent}${String(value)}`];
    return Object.entries(value)
      .filter(([, one]) => one !== null && (!Array.isArray(one) || one.length > 0))
      .flatMap(([name, one]) =>
        typeof one === 'object'
          ? [`${indent}${name}:`, ...linesOf(one, `${indent}  `)]
          : [`${indent}${name}: ${String(one)}`],
      );
  };
  try {
    return ['Result', ...linesOf(JSON.parse(result), '  ')];
  } catch {
    return [`Result      ${result}`];
  }
}

function tableOf(jobs: readonly Job[]): string[] {
  return printTable(
    [
      { title: 'JOB', align: 'right' },
      { title: 'STATE' },
      { title: 'KIND' },
      { title: '%', align: 'right' },
      { title: 'RATE', align: 'right' },
      { title: 'LEFT', align: 'right' },
      { title: 'SUBMITTED' },
      { title: 'BY' },
      { title: 'WHAT' },
    ],
    jobs.map((job) => {
      const progress = job.state === 'running' ? job.progress : null;
      return [
        String(job.id),
        job.state,
        job.kind,
        job.exitStatus === 0 ? '100' : (job.progress?.percent.toFixed(0) ?? '-'),
        progress === null ? '-' : `${formatBytes(Math.round(progress.bytesPerSecond))}/s`,
        progress?.remainingSeconds == null ? '-' : formatSeconds(progress.remainingSeconds),
        `${job.createdAt.slice(0, 16).replace('T', ' ')}Z`,
        `${job.submitter.user}@${job.submitter.host}`,
        job.title,
      ];
    }),
  );
}

function progressText({ progress }: Job): string | null {
  if (progress === null) return null;
  const { phase, label, percent, bytes, totalBytes, bytesPerSecond, remainingSeconds } = progress;
  const left = remainingSeconds === null ? '' : `, remaining ${formatSeconds(remainingSeconds)}`;
  return `${phase} ${label}: ${percent.toFixed(0)} %, ${formatBytes(bytes)} of ${formatBytes(totalBytes)}, ${formatBytes(Math.round(bytesPerSecond))}/s${left}`;
}

/** Keys are stable; what is not known yet is null. */
function jsonOf(queue: Queue, job: Job): Record<string, unknown> {
  const { progress } = job;
  return {
    job: job.id,
    group: job.groupId,
    kind: job.kind,
    state: job.state,
    title: job.title,
    request: JSON.parse(job.request),
    submitter: job.submitter,
    createdAt: job.createdAt,
    startedAt: job.startedAt,
    endedAt: job.endedAt,
    attempt: job.attempt,
    pid: job.owner?.pid ?? null,
    phase: progress?.phase ?? null,
    label: progress?.label ?? null,
    percent: job.exitStatus === 0 ? 100 : (progress?.percent ?? 0),
    bytes: progress?.bytes ?? 0,
    totalBytes: progress?.totalBytes ?? 0,
    bytesPerSecond: progress?.bytesPerSecond ?? 0,
    remainingSeconds: job.exitStatus === 0 ? 0 : (progress?.remainingSeconds ?? null),
    exitStatus: job.exitStatus,
    code: job.errorCode,
    message: job.errorMessage,
    warnings: job.warningCount,
    result: job.result === null ? null : JSON.parse(job.result),
    seen: job.isSeen,
    log: queue.logFileOf(job.id),
  };
}
