/** `phd replicate run|load|log|enable|disable|status`. */
import type { Command } from 'commander';
import { formatBytes, formatCount } from '../engine/display-text.ts';
import { PhdError } from '../errors.ts';
import type { Decision } from '../replication/match.ts';
import type { PassEnd, PassOptions } from '../replication/pass.ts';
import type { PassPlan } from '../replication/plan.ts';
import type { Cli } from './cli.ts';
import { withQueue } from './queued-jobs.ts';

interface RunWords {
  dryRun?: boolean;
  retryFailed?: boolean;
  assumeOff?: boolean;
  confirmClock?: boolean;
  json?: boolean;
}

const EXAMPLES = `
vmdks.auto, beside phd.yaml, says which disks are restored and where to:
  RESTORE:VM|UUID or *|SCSI id or *|DISK|/VOLUME/FOLDER/DISK|days, such as -3

Examples:
  phd replicate load          a line for each disk on the targets, commented out
  phd replicate run --dry-run     what each line would do now, and why
  phd replicate run
  phd replicate enable        the daemon runs a pass each hour from now on`;

export function registerReplicate(program: Command, cli: Cli): void {
  const replicate = program
    .command('replicate')
    .summary('restore the newest backups again and again')
    .description('restore the newest backups again and again, as vmdks.auto says')
    .addHelpText('after', EXAMPLES);
  replicate
    .command('run')
    .description('one pass: list the targets, restore what is new, wait for it')
    .option('--dry-run', 'tell what each line would do and why; restore nothing')
    .option('--retry-failed', 'only lines that failed in the last pass')
    .option('--assume-off', 'overwrite disks although it cannot be known that their VM is off')
    .option('--confirm-clock', 'the clock is right although archives are of the future')
    .option('--json', 'JSON lines')
    .action((words: RunWords) => run(cli, words));
  replicate
    .command('load')
    .description('append a line, commented out, for each disk on the targets')
    .option('--json', 'JSON lines')
    .action((words: { json?: boolean }) => load(cli, words.json ?? false));
  replicate
    .command('log')
    .description('print what was restored')
    .option('--clear', 'forget it: the next pass restores everything again')
    .option('--json', 'JSON lines')
    .action((words: { clear?: boolean; json?: boolean }) => log(cli, words));
  for (const [name, isOn] of [
    ['enable', true],
    ['disable', false],
  ] as const) {
    replicate
      .command(name)
      .description(isOn ? 'let the daemon run a pass each hour' : 'let the daemon run none')
      .option('--json', 'a JSON line')
      .action((words: { json?: boolean }) => switchTo(cli, isOn, words.json ?? false));
  }
  replicate
    .command('status')
    .description('tell whether it is enabled, and how the last pass went')
    .option('--json', 'a JSON line')
    .action((words: { json?: boolean }) => status(cli, words.json ?? false));
}

async function run(cli: Cli, words: RunWords): Promise<void> {
  const isJson = words.json ?? false;
  if (words.dryRun && words.retryFailed)
    throw new PhdError('USAGE', '--dry-run and --retry-failed do not go together');
  await cli.withContext((context) =>
    withQueue(cli, async (queue) => {
      const { runPass, writersOf } = await import('../replication/pass.ts');
      const assumeOff = (words.assumeOff ?? false) || context.config.replication.assumeOff;
      const confirmClock = words.confirmClock ?? false;
      const note = (text: string): void => context.log(`replication: ${text}`);
      const onWarning = (message: string): void => cli.warnOnce(message);
      if (words.dryRun) {
        const { planPass } = await import('../replication/plan.ts');
        const { readPassState } = await import('../replication/pass-state.ts');
        const { confirmedStamp } = await readPassState(context.places);
        const { signal } = cli;
        const find = (goals: ReadonlySet<string>) => writersOf(queue, goals);
        const options = { onlyGoals: null, assumeOff, confirmClock, confirmedStamp, signal, onWarning };
        const plan = await planPass(context, { ...options, writersOf: find });
        printPlan(cli, plan, isJson, true);
        cli.setStatus(plan.faults.length > 0 ? 2 : 0);
        return;
      }
      const options: PassOptions = {
        env: cli.env,
        retryFailed: words.retryFailed ?? false,
        assumeOff,
        confirmClock,
        signal: cli.signal,
        onPlan: (plan) => {
          for (const { lineNumber, message } of plan.faults) note(`${plan.file}:${lineNumber}: ${message}`);
          printPlan(cli, plan, isJson, false);
        },
        onEnd: (end) => printEnd(cli, end, isJson),
        onWarning: (message) => {
          note(message);
          onWarning(message);
        },
      };
      const { plan, restored, failed, heldCount, exitStatus } = await runPass(context, queue, options).catch(
        (error: unknown) => {
          note(error instanceof Error ? error.message : String(error));
          throw error;
        },
      );
      const counts = countsOf(plan);
      const held = heldCount === 0 ? '' : `, ${formatCount(heldCount, 'job')} held by a lock`;
      const summary = `${formatCount(restored, 'disk')} restored, ${failed.length} failed, ${counts['already restored'] ?? 0} up to date${held}`;
      for (const { goal, message } of failed) note(`${goal}: ${message}`);
      note(summary);
      if (isJson) {
        const lines = plan.decisions.length;
        const faults = plan.faults.length;
        cli.printJson({
          event: 'pass',
          lines,
          faults,
          restored,
          failed: failed.length,
          held: heldCount,
          counts,
        });
      } else cli.print(summary);
      cli.setStatus(exitStatus);
    }),
  );
}

function countsOf(plan: PassPlan): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { kind } of plan.decisions) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

/** People are spared the lines with nothing to do, unless they ask what would be done. */
function printPlan(cli: Cli, plan: PassPlan, isJson: boolean, isWhole: boolean): void {
  for (const { lineNumber, message } of plan.faults) {
    cli.warn(`${plan.file}:${lineNumber}: ${message}`);
    if (isJson)
      cli.printJson({
        event: 'line',
        line: lineNumber,
        decision: 'fault',
        reason: message,
        code: 'CONFIG_INVALID',
      });
  }
  for (const decision of plan.decisions) {
    const { line, kind, reason, warnings, fault } = decision;
    const place = `${plan.file}:${line.lineNumber}`;
    for (const warning of warnings) cli.warn(`${place}: ${warning}`);
    // Once is enough: what a pass could not do is told as a failure, to who asks what it would do as its answer.
    const isFailure = fault !== null && (isJson || !isWhole);
    if (isFailure) cli.warn(`${place}: ${fault.message}`);
    if (isJson) cli.printJson(jsonOf(decision));
    else if (!isFailure && (isWhole || kind !== 'already restored'))
      cli.print(`line ${line.lineNumber}: ${kind}: ${reason}${kind === 'restore' ? ` to ${line.goal}` : ''}`);
  }
}

function jsonOf({ line, kind, reason, row, warnings, fault, job }: Decision): Record<string, unknown> {
  const { lineNumber, vm, uuid, scsiId, disk, goal, days } = line;
  const archive = row === null ? null : `${row.targetNumber}:${row.folder}/${row.file}`;
  const code = fault?.code ?? null;
  return {
    event: 'line',
    line: lineNumber,
    vm,
    uuid,
    scsiId,
    disk,
    goal,
    days,
    decision: kind,
    reason,
    archive,
    job,
    warnings,
    code,
  };
}

function printEnd(cli: Cli, { job, archive, goal, entry, code, message }: PassEnd, isJson: boolean): void {
  if (isJson) {
    const event = entry === null ? 'error' : 'done';
    cli.printJson({
      event,
      job,
      archive,
      goal,
      bytes: entry?.bytes ?? 0,
      result: entry?.result ?? null,
      code,
      message,
    });
  }
  if (entry === null) cli.warn(`${goal}: ${message} (job ${job}: phd jobs log ${job})`);
  else if (!isJson) cli.print(`${goal} ${entry.result}, ${formatBytes(entry.bytes)}, from ${archive}`);
}

async function load(cli: Cli, isJson: boolean): Promise<void> {
  await cli.withContext(async (context) => {
    const { indexTargets } = await import('../engine/index-targets.ts');
    const { loadNames } = await import('../replication/load-names.ts');
    const { vmdksFile } = await import('../replication/vmdks-file.ts');
    const results = await indexTargets(context, { signal: cli.signal });
    const errors = results.map(({ error }) => error).filter((error): error is PhdError => error !== null);
    for (const { message } of errors) cli.warn(message);
    const { added, knownCount, unfit } = await loadNames(context);
    const file = vmdksFile(context.places);
    for (const name of unfit) cli.warn(`${name}: this name cannot stand in ${file}`);
    if (isJson)
      cli.printJson({ event: 'loaded', file, added: added.length, known: knownCount, unfit: unfit.length });
    else
      cli.print(
        `${formatCount(added.length, 'line')} added to ${file}, commented out; ${knownCount} there already`,
      );
    cli.setStatusOf(errors);
  });
}

async function log(cli: Cli, words: { clear?: boolean; json?: boolean }): Promise<void> {
  const { openPlaces } = await import('../engine/configuration.ts');
  const { clearRestoredLog, readRestoredLog, restoredLogFile } = await import(
    '../replication/restored-log.ts'
  );
  const places = await openPlaces(cli.env);
  const { entries, damagedLines } = await readRestoredLog(places);
  if (words.clear) {
    await clearRestoredLog(places);
    if (words.json) cli.printJson({ event: 'cleared', entries: entries.length });
    else cli.print(`${formatCount(entries.length, 'entry').replace('entrys', 'entries')} forgotten`);
    return;
  }
  for (const entry of entries) {
    const { time, archive, goal, bytes, result } = entry;
    if (words.json) cli.printJson({ ...entry });
    else cli.print(`${time}  ${archive}  ${goal}  ${bytes}  ${result}`);
  }
  if (entries.length === 0) cli.warn('nothing was restored by replication yet');
  if (damagedLines.length > 0)
    cli.warn(`${restoredLogFile(places)}: no entry in line ${damagedLines.join(', ')}`);
}

async function switchTo(cli: Cli, isOn: boolean, isJson: boolean): Promise<void> {
  const { openPlaces, readReplicationSettings, setSetting } = await import('../engine/configuration.ts');
  const places = await openPlaces(cli.env);
  await setSetting(places, 'replication.enabled', String(isOn));
  const { enabled, everyMinutes } = await readReplicationSettings(places);
  await withQueue(cli, (queue) => {
    if (isJson) cli.printJson({ enabled, everyMinutes });
    else
      cli.print(
        enabled ? `replication is enabled: a pass every ${everyMinutes} min` : 'replication is disabled',
      );
    if (isOn && !queue.isDaemonRunning()) cli.warn('no daemon runs: phd daemon start lets it begin');
  });
}

async function status(cli: Cli, isJson: boolean): Promise<void> {
  const { replicationStatus } = await import('../replication/status.ts');
  await withQueue(cli, async (queue) => {
    const now = await replicationStatus(queue);
    if (isJson) return cli.printJson({ ...now });
    cli.print(`replication is ${now.enabled ? `enabled, every ${now.everyMinutes} min` : 'disabled'}`);
    const faults = now.faults === 0 ? '' : `, ${formatCount(now.faults, 'line')} that cannot be read`;
    cli.print(
      now.lines === null
        ? `there is no ${now.file}: phd replicate load makes it`
        : `${formatCount(now.lines, 'line')} in ${now.file}${faults}`,
    );
    cli.print(`${now.lastPass}${now.waiting === 0 ? '' : `; ${formatCount(now.waiting, 'job')} under way`}`);
    for (const { goal, message } of now.failed) cli.print(`failed: ${goal}: ${message}`);
    if (now.enabled && !now.daemon) cli.warn('no daemon runs: phd daemon start lets it begin');
    if (now.enabled && !now.restoreQueue) {
      const { QUEUE_OFF } = await import('../queue/gate.ts');
      cli.warn(`${QUEUE_OFF}: the daemon runs no pass`);
    }
  });
}
