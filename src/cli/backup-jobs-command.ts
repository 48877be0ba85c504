/** `phd preview`, `phd hold`, `phd prune`, and the jobs that `phd backup --job` and `--due` run. */
import type { Command } from 'commander';
import type { BackupJob } from '../backup-jobs/job.ts';
import type { Preview } from '../backup-jobs/preview.ts';
import { previewLines } from '../backup-jobs/preview-text.ts';
import type { RunRecord } from '../backup-jobs/run-record.ts';
import type { EngineContext } from '../engine/context.ts';
import { formatBytes, formatCount } from '../engine/display-text.ts';
import { PhdError } from '../errors.ts';
import { type Cli, parseWhole } from './cli.ts';
import { copyAfterBackup } from './copies-command.ts';
import { withQueue } from './queued-jobs.ts';

const PREVIEW_EXAMPLES = `
Examples:
  phd preview
  phd preview nightly --json
  phd preview --nau /snapshots/NAUbackup/weekend.cfg
  phd preview --nau 'vdi-export=DEV-.*'`;

const HOLD_EXAMPLES = `
A hold is a small file beside the archives: it is heeded by every host that
removes old backups from that target.

Examples:
  phd hold 1:FOLDER/FILE          as phd list names an archive; its whole run
  phd hold 1:FOLDER/FILE --release`;

export function registerBackupJobs(program: Command, cli: Cli): void {
  program
    .command('preview')
    .summary('what backup jobs would do')
    .description(
      'say what the backup jobs of phd.yaml would do, VM by VM, with the reason; what is wrong in them; and which VMs no job takes',
    )
    .argument('[JOB]', 'only this one')
    .option('--nau <FILE>', 'a configuration file of NAUbackup, or one selector, over the VMs of all hosts')
    .option('--json', 'JSON lines')
    .addHelpText('after', PREVIEW_EXAMPLES)
    .action(async (job: string | undefined, words: { nau?: string; json?: boolean }) => {
      if (job !== undefined && words.nau !== undefined)
        throw new PhdError('USAGE', 'name a job, or --nau FILE');
      await cli.withContext(async (context) => {
        if (words.nau === undefined) await preview(cli, context, job ?? null, words.json ?? false);
        else await previewNau(cli, context, words.nau, words.json ?? false);
      });
    });
  program
    .command('hold')
    .summary('keep a backup from being removed')
    .description('keep the run of an archive from being removed by retention, until it is released')
    .argument('<ARCHIVE>', 'N:folder/file on target N')
    .option('--release', 'let it go again')
    .addHelpText('after', HOLD_EXAMPLES)
    .action((archive: string, { release }: { release?: boolean }) =>
      cli.withContext((context) => holdRun(cli, context, archive, release ?? false)),
    );
  program
    .command('prune')
    .summary('remove backups that need not stay')
    .description(
      'remove runs that the keep rules of backup jobs do not keep; never a FULL that a DELTA needs, the newest good copy, or what is held',
    )
    .argument('[JOB]', 'only this one')
    .option('--dry-run', 'only say what would go and what would stay, and why')
    .option('--target <N>', 'only on this target')
    .option('--json', 'JSON lines')
    .action((job: string | undefined, words: { dryRun?: boolean; target?: string; json?: boolean }) =>
      cli.withContext((context) => pruneJobs(cli, context, job ?? null, words)),
    );
}

/** `phd backup --job NAME`. */
export async function runNamedJob(
  cli: Cli,
  name: string,
  mode: 'full' | 'delta',
  isJson: boolean,
): Promise<void> {
  let isOpen = false;
  try {
    await cli.withContext(async (context) => {
      isOpen = true;
      const { namedJob } = await import('../backup-jobs/job.ts');
      const record = await runOne(cli, context, namedJob(context.config, name), mode, { isJson });
      setStatusOf(cli, [record]);
    });
  } catch (error) {
    // Of what cannot be read of phd.yaml nobody can be told.
    if (isOpen || (error instanceof PhdError && error.code === 'CONFIG_INVALID')) throw error;
    // A job of cron on a machine whose state folder is full, say: nobody sees what it prints.
    const { reportNotBegun } = await import('../reports/report.ts');
    const hooks = { env: cli.env, onWarning: (message: string) => cli.warn(message) };
    await reportNotBegun({ job: name, mode }, error as Error, hooks);
    throw error;
  }
}

/** `phd backup --due`: one after the other; one that fails stops no other. */
export async function runDueJobs(cli: Cli, isJson: boolean): Promise<void> {
  await cli.withContext(async (context) => {
    const { dueJobs } = await import('../backup-jobs/due-jobs.ts');
    const { due, faults } = await dueJobs(context.places, context.config, context.clock.now());
    const records: RunRecord[] = [];
    const failures = faults.map((line) =>
      cli.reportItemError(new PhdError('CONFIG_INVALID', line), {}, isJson),
    );
    for (const { job, mode } of due) {
      try {
        records.push(await runOne(cli, context, job, mode, { isJson, stopsWithDaemon: true }));
      } catch (error) {
        if (cli.signal.aborted) throw error;
        failures.push(cli.reportItemError(error, {}, isJson));
        context.log(`backup job ${job.config.name}: ${(error as Error).message}`);
      }
    }
    if (due.length === 0 && !isJson) cli.print('no backup job is due');
    setStatusOf(cli, records, failures);
  });
}

async function runOne(
  cli: Cli,
  context: EngineContext,
  job: BackupJob,
  mode: 'full' | 'delta',
  { isJson, stopsWithDaemon = false }: { isJson: boolean; stopsWithDaemon?: boolean },
): Promise<RunRecord> {
  return await withQueue(cli, async (queue) => {
    const { runBackupJob } = await import('../backup-jobs/run-backup-job.ts');
    const { submitterOf } = await import('../queue/submitter.ts');
    const record = await runBackupJob(context, queue, job, {
      mode,
      submitter: submitterOf(cli.env),
      env: cli.env,
      signal: cli.signal,
      stopsWithDaemon,
      onLine: (line) => {
        if (!isJson) cli.print(line);
      },
    });
    if (isJson) cli.printJson({ event: 'run', ...record });
    else cli.print(summaryOf(record));
    context.log(`backup job ${summaryOf(record)}`);
    // The daemon keeps copies of the configuration itself.
    if (!queue.isDaemonRunning()) {
      const targets = record.vms.flatMap(({ target, code }) =>
        target === null || code !== null ? [] : [target],
      );
      await copyAfterBackup(cli, context, [...new Set(targets)]);
    }
    return record;
  });
}

function summaryOf({ job, vms, errors, warnings, removedRuns }: RunRecord): string {
  const failed = vms.filter(({ result }) => result === 'failed').length;
  const warned = vms.filter(({ result }) => result === 'warnings').length;
  const bytes = vms.reduce((sum, { archiveBytes }) => sum + archiveBytes, 0);
  const removed = removedRuns === 0 ? '' : `, ${formatCount(removedRuns, 'old run')} removed`;
  const vmCount = new Set(vms.map(({ vm, from }) => JSON.stringify([from, vm]))).size;
  // A VM counts once for each target.
  const done = vms.length - failed;
  const what =
    vmCount === vms.length
      ? `${done} of ${formatCount(vmCount, 'VM')} backed up`
      : `${done} of ${formatCount(vms.length, 'backup')} of ${formatCount(vmCount, 'VM')} done`;
  return `${job}: ${what}, ${formatBytes(bytes)}${removed}, ${formatCount(errors.length + failed, 'error')}, ${formatCount(warnings.length + warned, 'warning')}`;
}

/** The status of the worst that went wrong; an error that is no VM's is status 1. */
function setStatusOf(cli: Cli, records: readonly RunRecord[], failures: readonly PhdError[] = []): void {
  const failed = records.flatMap(({ vms, errors }) => [
    ...vms.flatMap(({ code, message }) =>
      code === null ? [] : [new PhdError(code as PhdError['code'], message ?? '')],
    ),
    ...errors.map((line) => new PhdError('IO', line)),
  ]);
  cli.setStatusOf([...failures, ...failed]);
}

async function preview(
  cli: Cli,
  context: EngineContext,
  only: string | null,
  isJson: boolean,
): Promise<void> {
  const { namedJob } = await import('../backup-jobs/job.ts');
  if (only !== null) namedJob(context.config, only);
  const { previewJobs } = await import('../backup-jobs/preview.ts');
  const found = await previewJobs(context, only, cli.signal);
  const faults = [
    ...found.errors,
    ...found.jobs.flatMap(({ name, errors }) => errors.map((line) => `${name}: ${line}`)),
  ];
  if (isJson) {
    for (const { vms, excluded, ...job } of found.jobs) {
      cli.printJson({ event: 'job', ...job });
      for (const vm of [...vms, ...excluded]) cli.printJson({ event: 'vm', ...vm });
    }
    for (const { name, from } of found.uncovered) cli.printJson({ event: 'uncovered', vm: name, from });
  } else tellPreview(cli, found);
  cli.setStatusOf(
    faults.map((line) => cli.reportItemError(new PhdError('CONFIG_INVALID', line), {}, isJson)),
  );
}

function tellPreview(cli: Cli, found: Preview): void {
  for (const line of previewLines(found)) cli.print(line);
  for (const { name, warnings } of found.jobs)
    for (const warning of warnings) cli.warn(`${name}: ${warning}`);
}

async function previewNau(cli: Cli, context: EngineContext, source: string, isJson: boolean): Promise<void> {
  const { readFile, stat } = await import('node:fs/promises');
  const { findJobVms } = await import('../backup-jobs/job-vms.ts');
  const { nauLists, nauSelector, parseNau } = await import('../backup-jobs/nau-config.ts');
  const read = async (): Promise<string> => {
    if (!(await stat(source)).isFile()) throw new PhdError('USAGE', `${source} is not a file`);
    return await readFile(source, 'utf8');
  };
  const text = await read().catch((error: NodeJS.ErrnoException) => {
    if (error instanceof PhdError) throw error;
    // What is no file is a selector, as with the old script.
    if (error.code === 'ENOENT' && !source.includes('/')) return nauSelector(source);
    throw new PhdError('NOT_FOUND', `cannot read ${source}: ${error.code}`);
  });
  const found = await findJobVms(context, null, cli.signal);
  const config = parseNau(text);
  const lists = nauLists(config, found.vms);
  const kinds = [
    ['vdi-export', lists.vdiExport],
    ['vm-export', lists.vmExport],
    ['metadata-export', lists.metadataExport],
  ] as const;
  if (isJson) cli.printJson({ event: 'settings', ...config.settings });
  else for (const [key, value] of Object.entries(config.settings)) cli.print(`${key.padEnd(16)} = ${value}`);
  for (const [kind, list] of kinds) {
    if (!isJson)
      cli.print(
        `${kind} (${list.length}): ${list.map(({ vm, keep }) => `${vm.name}${keep === null ? '' : `:${keep}`}`).join(', ')}`,
      );
    else
      for (const { vm, keep, by } of list)
        cli.printJson({
          event: kind,
          vm: vm.name,
          from: vm.from,
          keep: keep ?? config.settings.maxBackups,
          by,
        });
  }
  if (!isJson && lists.excluded.length > 0)
    cli.print(`excluded (${lists.excluded.length}): ${lists.excluded.map(({ vm }) => vm.name).join(', ')}`);
  for (const warning of lists.warnings) cli.warn(warning);
  const errors = [...found.faults, ...lists.errors];
  cli.setStatusOf(
    errors.map((line) => cli.reportItemError(new PhdError('CONFIG_INVALID', line), {}, isJson)),
  );
}

async function holdRun(
  cli: Cli,
  context: EngineContext,
  archive: string,
  isReleased: boolean,
): Promise<void> {
  const { holdArchive, releaseArchive } = await import('../backup-jobs/holds.ts');
  const { submitterOf, submitterText } = await import('../queue/submitter.ts');
  const stamp = isReleased
    ? await releaseArchive(context, archive)
    : await holdArchive(context, archive, `Held by ${submitterText(submitterOf(cli.env))}.`);
  cli.print(`the run of ${stamp.replace('T', ' ')} is ${isReleased ? 'held no more' : 'held'}`);
}

async function pruneJobs(
  cli: Cli,
  context: EngineContext,
  only: string | null,
  words: { dryRun?: boolean; target?: string; json?: boolean },
): Promise<void> {
  const { namedJob, openJob } = await import('../backup-jobs/job.ts');
  const { pruneTasks } = await import('../backup-jobs/prune-tasks.ts');
  const { planPrune, prune } = await import('../backup-jobs/prune.ts');
  const target = words.target === undefined ? null : parseWhole(words.target, '--target', 1, 9999);
  if (only !== null) namedJob(context.config, only);
  const jobs = context.config.backupJobs.map(openJob);
  const { tasks: all, errors } = await pruneTasks(context, jobs, target, cli.signal);
  const tasks = all.filter(({ job }) => only === null || job === only);
  const failures = errors.map((line) =>
    cli.reportItemError(new PhdError('IO', line), {}, words.json ?? false),
  );
  const uuidsOf = (name: string): Set<string> =>
    new Set(tasks.flatMap(({ vm, uuid }) => (vm === name ? [uuid] : [])));
  for (const { vm, uuid, targetNumber, rules } of tasks) {
    // VMs of one name are told apart.
    const shown = uuidsOf(vm).size > 1 ? `${vm} (${uuid})` : vm;
    try {
      const plan = await planPrune(context, { targetNumber, uuid }, rules, cli.signal);
      for (const { run, keep, reason } of plan.lines) {
        if (words.json)
          cli.printJson({
            event: keep ? 'keep' : 'remove',
            vm,
            uuid,
            target: targetNumber,
            stamp: run.stamp,
            folder: run.folder,
            reason,
          });
        else
          cli.print(
            `${keep ? 'keep  ' : 'remove'}  ${shown}  ${run.stamp.replace('T', ' ')}  target ${targetNumber}  ${reason}`,
          );
      }
      if (words.dryRun) continue;
      const count = await prune(
        context,
        plan,
        (message) => failures.push(cli.reportItemError(new PhdError('IO', message), {}, words.json ?? false)),
        cli.signal,
      );
      if (!words.json)
        cli.print(`${shown}: ${formatCount(count, 'run')} removed from target ${targetNumber}`);
    } catch (error) {
      if (cli.signal.aborted) throw error;
      failures.push(cli.reportItemError(error, {}, words.json ?? false));
    }
  }
  if (tasks.length === 0) cli.print('no backup job has keep rules for VMs that are there');
  cli.setStatusOf(failures);
}
