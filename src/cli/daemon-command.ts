/** `phd daemon run|start|stop|status|unit`. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Command } from 'commander';
import { formatCount } from '../engine/display-text.ts';
import { PhdError } from '../errors.ts';
import type { Chore } from '../queue/daemon.ts';
import type { Queue } from '../queue/queue.ts';
import type { Cli } from './cli.ts';
import { withQueue } from './queued-jobs.ts';

export function registerDaemon(program: Command, cli: Cli): void {
  const daemon = program
    .command('daemon')
    .description('the process that runs queued jobs, one for each home');
  daemon
    .command('run')
    .description('run it here until it is stopped; its jobs go on when it ends')
    .action(() => run(cli));
  daemon
    .command('start')
    .description('start it in the background; returns once it holds its lock')
    .action(() =>
      withQueue(cli, async (queue) => {
        const { startDaemon } = await import('../queue/daemon-control.ts');
        const isNew = await startDaemon(queue, cli.env);
        cli.print(
          `daemon ${isNew ? 'started' : 'runs already'}, process ${queue.db.daemon()?.process.pid ?? '?'}`,
        );
      }),
    );
  daemon
    .command('stop')
    .description('stop it after its running jobs')
    .option('--now', 'kill its running jobs')
    .action((words: { now?: boolean }) => stop(cli, words.now ?? false));
  daemon
    .command('status')
    .description('tell whether it runs; exit status 1 if not')
    .option('--json', 'a JSON line')
    .action((words: { json?: boolean }) => status(cli, words.json ?? false));
  daemon
    .command('unit')
    .description('print a systemd unit for this installation and home')
    .action(async () => {
      const { systemdUnit } = await import('../queue/daemon-control.ts');
      cli.streams.stdout.write(systemdUnit(cli.env));
    });
}

async function run(cli: Cli): Promise<void> {
  const { runDaemon } = await import('../queue/daemon.ts');
  const { tellReady } = await import('../queue/daemon-control.ts');
  const { openLog } = await import('../engine/log-file.ts');
  const { configFileOf, openPlaces, readJobSettings } = await import('../engine/configuration.ts');
  const places = await openPlaces(cli.env);
  const readSettings = () => readJobSettings(places);
  const settings = await readSettings();
  await withQueue(cli, (queue) => {
    const log = openLog(queue.places, queue.clock, (message) => cli.warn(message));
    return runDaemon(queue, {
      settings,
      configFile: configFileOf(places),
      readSettings,
      env: cli.env,
      signal: cli.signal,
      onReady: tellReady,
      chores: [replication, verifyPlan, copies, backupJobs].map((chore) => chore(queue, cli.env)),
      log: (text) => {
        cli.print(`${queue.now()} ${text}`);
        log(`daemon: ${text}`);
      },
    });
  });
}

/** Passes of replication, as the settings say. */
function replication({ places, clock }: Queue, env: NodeJS.ProcessEnv): Chore {
  return {
    name: 'replication',
    isDue: async () => (await import('../replication/status.ts')).isPassDue(places, clock.now().getTime()),
    start: () => startPhd(['replicate', 'run'], env),
  };
}

/** Archives that were not verified for long, as the settings say. */
function verifyPlan(queue: Queue, env: NodeJS.ProcessEnv): Chore {
  return {
    name: 'verify plan',
    isDue: async () => {
      const { readJobSettings, readVerifyPlanSettings } = await import('../engine/configuration.ts');
      const verifyPlan = await readVerifyPlanSettings(queue.places);
      if (!verifyPlan.enabled) return false;
      const jobs = await readJobSettings(queue.places);
      const { isPlanDue } = await import('../safekeeping/verify-plan.ts');
      return await isPlanDue(queue, { verifyPlan, jobs }, queue.clock.now());
    },
    start: () => startPhd(['verify', '--plan'], env),
  };
}

/** Backup jobs of phd.yaml, when they are due. */
function backupJobs(queue: Queue, env: NodeJS.ProcessEnv): Chore {
  return {
    name: 'backup jobs',
    isDue: async () => {
      const { readConfig } = await import('../engine/configuration.ts');
      const config = await readConfig(queue.places);
      if (config.backupJobs.length === 0) return false;
      const { dueJobs } = await import('../backup-jobs/due-jobs.ts');
      return (await dueJobs(queue.places, config, queue.clock.now())).due.length > 0;
    },
    // In a session of its own: what is typed at the daemon's terminal is not meant for it.
    start: () => startPhd(['backup', '--due'], env, { detached: true }),
    goesOn: true,
  };
}

/** Copies of the configuration on targets, after each change. */
function copies(queue: Queue, env: NodeJS.ProcessEnv): Chore {
  return {
    name: 'copy of the configuration',
    isDue: async () => {
      const { areCopiesDue } = await import('../safekeeping/copies.ts');
      return await areCopiesDue(queue.places, queue.clock.now());
    },
    start: () => startPhd(['config', 'copy'], env),
  };
}

function startPhd(
  words: readonly string[],
  env: NodeJS.ProcessEnv,
  { detached = false }: { detached?: boolean } = {},
): ChildProcess {
  const program = process.argv[1] as string;
  return spawn(process.execPath, [program, ...words], { cwd: '/', env, stdio: 'ignore', detached });
}

async function stop(cli: Cli, isNow: boolean): Promise<void> {
  await withQueue(cli, async (queue) => {
    const { stopDaemon } = await import('../queue/daemon-control.ts');
    if (!queue.isDaemonRunning()) return cli.print('no daemon runs');
    const isGone = await stopDaemon(queue, isNow ? 'now' : 'after-jobs');
    if (isGone) return cli.print('daemon stopped');
    const running = queue.db.counts().running ?? 0;
    const { readConfig } = await import('../engine/configuration.ts');
    const { goingJobs } = await import('../backup-jobs/due-jobs.ts');
    const [job] = isNow ? [] : goingJobs(queue.places, await readConfig(queue.places));
    if (job !== undefined)
      return cli.print(`the daemon starts nothing new and stops after what backup job ${job} has begun`);
    if (isNow || running === 0) throw new PhdError('IO', 'the daemon does not answer: see phd log');
    cli.print(`the daemon starts nothing new and stops after ${formatCount(running, 'running job')}`);
  });
}

async function status(cli: Cli, isJson: boolean): Promise<void> {
  await withQueue(cli, async (queue) => {
    const { daemonStatus } = await import('../queue/daemon-control.ts');
    queue.settleInterrupted();
    const { isRunning, record, waitingCount, runningCount } = daemonStatus(queue);
    const { readJobSettings } = await import('../engine/configuration.ts');
    const { restoreQueue } = await readJobSettings(queue.places);
    if (isJson) {
      cli.printJson({
        running: isRunning,
        pid: record?.process.pid ?? null,
        startedAt: record?.startedAt ?? null,
        version: record?.version ?? null,
        stopRequest: record?.stopRequest ?? null,
        waitingJobs: waitingCount,
        runningJobs: runningCount,
        restoreQueue,
      });
    } else {
      const stopping = record?.stopRequest ? ', stops after its jobs' : '';
      const who = record ? `, process ${record.process.pid}, since ${record.startedAt}${stopping}` : '';
      cli.print(isRunning ? `daemon runs${who}` : 'no daemon runs');
      cli.print(`${formatCount(waitingCount, 'job')} waiting, ${runningCount} running`);
    }
    if (!restoreQueue) {
      const { QUEUE_OFF } = await import('../queue/gate.ts');
      cli.warn(`${QUEUE_OFF}: restores wait`);
    }
    cli.setStatus(isRunning ? 0 : 1);
  });
}
