/** `phd plan list|run|remove`: the restore plans that the console saves. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import type { EngineContext } from '../engine/context.ts';
import { formatBytes } from '../engine/display-text.ts';
import type { PlannedGoal } from '../engine/planned-restore.ts';
import type { RestorePlan } from '../engine/restore-plan.ts';
import { type ErrorCode, PhdError } from '../errors.ts';
import type { PlannedEntry } from '../queue/planned-jobs.ts';
import type { Queue } from '../queue/queue.ts';
import type { DiskRestore } from '../queue/request.ts';
import type { Cli } from './cli.ts';
import { tellWhatHolds, withQueue } from './queued-jobs.ts';
import { printTable } from './table.ts';

const LOOK_EVERY_MS = 500;

interface Words {
  dryRun?: boolean;
  withoutFaulty?: boolean;
  assumeOff?: boolean;
  background?: boolean;
}

interface LookedEntry extends PlannedEntry {
  goals: PlannedGoal[];
  fault: PhdError | null;
}

export function registerPlan(program: Command, cli: Cli): void {
  const plan = program.command('plan').description('list, run and remove restore plans over several VMs');
  plan
    .command('list')
    .description('list the plans that were saved')
    .action(() => listThem(cli));
  plan
    .command('run')
    .description('restore the VMs of a plan, one job for each disk')
    .argument('<NAME>')
    .option('--dry-run', 'tell what would be restored, room and changes of the VMX; write nothing')
    .option('--without-faulty', 'leave out VMs that cannot be restored, instead of restoring none')
    .option('--assume-off', 'restore although it cannot be known that the VMs are off')
    .option('--background', 'only queue the jobs: see phd jobs')
    .action((name: string, words: Words) => run(cli, name, words));
  plan
    .command('remove')
    .description('delete a plan; archives and VMs stay as they are')
    .argument('<NAME>')
    .action(async (name: string) => {
      const { openPlaces } = await import('../engine/configuration.ts');
      const { readPlan, removePlan } = await import('../engine/restore-plan.ts');
      const places = await openPlaces(cli.env);
      await readPlan(places, name).catch((error: unknown) => {
        if (error instanceof PhdError && error.code === 'CONFIG_INVALID') return;
        throw error;
      });
      await removePlan(places, name);
      cli.print(`plan ${name} is removed`);
    });
}

async function listThem(cli: Cli): Promise<void> {
  const { openPlaces } = await import('../engine/configuration.ts');
  const { listPlans } = await import('../engine/restore-plan.ts');
  const plans = await listPlans(await openPlaces(cli.env));
  const lines = printTable(
    [{ title: 'PLAN' }, { title: 'VMS', align: 'right' }, { title: 'AS OF' }, { title: 'VM' }],
    plans.map(({ name, plan, fault }) => [
      name,
      String(plan?.vms.length ?? ''),
      plan?.onOrBefore?.replace('T', ' ') ?? (plan === null ? '' : 'newest'),
      fault ?? plan?.vms.map(({ vm }) => vm).join(', ') ?? '',
    ]),
  );
  for (const line of lines) cli.print(line);
}

async function run(cli: Cli, name: string, words: Words): Promise<void> {
  await cli.withContext(async (context) => {
    const { readPlan, savePlan } = await import('../engine/restore-plan.ts');
    const { indexTargets } = await import('../engine/index-targets.ts');
    const { chooseVmx, planRequests, vmxChanges } = await import('../queue/planned-jobs.ts');
    const plan = await readPlan(context.places, name);
    for (const { error } of await indexTargets(context, { scope: 'old', signal: cli.signal })) {
      if (error) cli.warn(error.message);
    }
    const entries = await lookAt(cli, context, plan);
    await printPlan(cli, context, entries);
    const failures = entries.flatMap(({ fault }) => (fault === null ? [] : [fault]));
    const good = entries.filter(({ fault }) => fault === null);
    if (good.length === 0 || (failures.length > 0 && !words.withoutFaulty)) {
      if (good.length > 0) cli.warn('nothing is restored: --without-faulty leaves the faulty VMs out');
      cli.setStatusOf(failures);
      return;
    }
    for (const folder of chooseVmx(good, plan.vmx)) cli.warn(`the VMX in ${folder} stays as it is`);
    for (const line of await vmxChanges(context, good, cli.signal)) cli.print(line);
    const requests = planRequests(good, { verify: plan.verify, assumeOff: words.assumeOff ?? false });
    if (words.dryRun) return cli.setStatusOf(failures);
    await withQueue(cli, async (queue) => {
      const ids = await submit(cli, queue, requests);
      await savePlan(context.places, name, { ...plan, lastGroup: ids[0] });
      if (words.background) await tellWhatHolds(cli, queue, 'restore');
      else failures.push(...(await waitForAll(cli, queue, ids)));
    });
    cli.setStatusOf(failures);
  });
}

/** Runs, FULLs and goals of all VMs; faults are reported as they are found. */
async function lookAt(cli: Cli, context: EngineContext, plan: RestorePlan): Promise<LookedEntry[]> {
  const { planGoals, planVm } = await import('../engine/planned-restore.ts');
  const entries: LookedEntry[] = [];
  for (const { vm, uuid, to } of plan.vms) {
    const wanted = { vm, uuid, ...(plan.onOrBefore === undefined ? {} : { onOrBefore: plan.onOrBefore }) };
    const planned = await planVm(context, wanted, cli.signal, () => undefined);
    for (const warning of planned.warnings) cli.warn(`${vm}: ${warning}`);
    const goals = await planGoals(planned, to);
    const fault = planned.fault ?? goals.find((goal) => goal.fault !== null)?.fault ?? null;
    if (fault !== null) cli.warn(`${vm}: ${fault.message}`);
    entries.push({ vm, to, planned, goals, fault });
  }
  return entries;
}

async function printPlan(cli: Cli, context: EngineContext, entries: readonly LookedEntry[]): Promise<void> {
  const { roomOf } = await import('../engine/planned-restore.ts');
  const { listVolumes } = await import('../engine/volumes.ts');
  const table = printTable(
    [{ title: 'VM' }, { title: 'RUN' }, { title: 'ROOM', align: 'right' }, { title: 'GOES TO' }],
    entries.map(({ vm, to, planned, goals }) => [
      vm,
      planned.stamp?.replace('T', ' ') ?? '-',
      formatBytes(goals.reduce((sum, { preview }) => sum + (preview?.neededBytes ?? 0), 0)),
      to,
    ]),
  );
  for (const line of table) cli.print(line);
  const goals = entries.flatMap((entry) => entry.goals);
  for (const { path, neededBytes, freeBytes } of await roomOf(
    goals,
    await listVolumes(context.config.datastores),
  )) {
    const line = `${formatBytes(neededBytes)} needed of ${formatBytes(freeBytes)} free at ${path}`;
    if (neededBytes > freeBytes) cli.warn(`it may not fit: ${line}`);
    else cli.print(line);
  }
}

async function submit(cli: Cli, queue: Queue, requests: readonly DiskRestore[]): Promise<number[]> {
  const { submitterOf } = await import('../queue/submitter.ts');
  const jobs = queue.submit('restore', requests, submitterOf(cli.env));
  for (const { id, title } of jobs) cli.print(`job ${id} queued: ${title}`);
  return jobs.map(({ id }) => id);
}

/** Starts the jobs and tells how each ended. They go on when this is interrupted. */
async function waitForAll(cli: Cli, queue: Queue, ids: readonly number[]): Promise<PhdError[]> {
  const { startNow } = await import('../queue/start-now.ts');
  await startNow(queue, ids, cli.env);
  const failures: PhdError[] = [];
  for (const id of ids) {
    for (;;) {
      queue.settleInterrupted();
      const job = queue.job(id);
      if (job.state !== 'waiting' && job.state !== 'running') {
        if (job.errorMessage !== null) {
          const code = (job.errorCode ?? 'IO') as ErrorCode;
          failures.push(cli.reportError(new PhdError(code, `job ${id}: ${job.errorMessage}`)));
        } else cli.print(`job ${id} ${job.state}: ${job.title}`);
        break;
      }
      await delay(LOOK_EVERY_MS, undefined, { signal: cli.signal }).catch(() => {
        cli.warn('the jobs go on: see phd jobs');
        throw new PhdError('CANCELLED', 'cancelled');
      });
    }
  }
  return failures;
}
