/** How all of it stands, as lines with a level: daemon, queue, targets, backup jobs, replication, verification, clock. */
import type { EngineContext } from '../engine/context.ts';
import { formatAge, formatCount } from '../engine/display-text.ts';
import { locksHolding, lockText, QUEUE_OFF } from '../queue/gate.ts';
import { isAlive } from '../queue/process-identity.ts';
import type { Queue } from '../queue/queue.ts';

export interface Finding {
  level: 'ok' | 'warning' | 'critical';
  /** What it is about: daemon, target 2, job nightly. */
  about: string;
  text: string;
}

const DAY_MS = 86_400_000;

export async function findingsOf(context: EngineContext, queue: Queue): Promise<Finding[]> {
  queue.settleInterrupted();
  return [
    daemonFinding(context, queue),
    queueFinding(queue),
    ...lockFindings(context, queue),
    ...targetFindings(context),
    ...(await jobFindings(context)),
    ...(await replicationFindings(context, queue)),
    ...(await verifyFindings(context)),
    ...(await clockFindings(context)),
  ];
}

/** Without a daemon nothing runs by itself: wrong where something is to. */
function daemonFinding({ config }: EngineContext, queue: Queue): Finding {
  const isRunning = queue.isDaemonRunning();
  const isNeeded =
    config.replication.enabled ||
    config.verifyPlan.enabled ||
    config.backupJobs.some(({ enabled, full, delta }) => enabled && (full !== null || delta !== null));
  if (isRunning) return { level: 'ok', about: 'daemon', text: 'runs' };
  const text = isNeeded ? 'does not run: what is planned does not happen (phd daemon start)' : 'does not run';
  return { level: isNeeded ? 'critical' : 'ok', about: 'daemon', text };
}

function queueFinding(queue: Queue): Finding {
  const { waiting = 0, running = 0 } = queue.db.counts();
  const failed = queue.db.jobs({ states: ['failed', 'interrupted'] }).filter(({ isSeen }) => !isSeen);
  const text = `${running} running, ${waiting} waiting`;
  if (failed.length === 0) return { level: 'ok', about: 'queue', text };
  return {
    level: 'warning',
    about: 'queue',
    text: `${text}; ${formatCount(failed.length, 'failed job')} not seen yet`,
  };
}

/** A lock that was forgotten keeps all work from being done, and no job fails for it. */
function lockFindings({ config }: EngineContext, queue: Queue): Finding[] {
  const held = locksHolding(queue.db).map(
    (lock): Finding => ({ level: 'warning', about: `lock of ${lock.kind}s`, text: lockText(lock) }),
  );
  if (config.jobs.restoreQueue) return held;
  return [...held, { level: 'warning', about: 'queue', text: QUEUE_OFF }];
}

function targetFindings({ config, index, clock }: EngineContext): Finding[] {
  const states = new Map(index.targets().map((one) => [one.number, one]));
  return config.targets.map(({ number, name }) => {
    const about = `target ${number} ${name}`;
    const state = states.get(number);
    if (state?.error) return { level: 'critical', about, text: state.error };
    if (state?.listedMs == null) return { level: 'warning', about, text: 'was never listed: phd index' };
    const ageMs = clock.now().getTime() - state.listedMs;
    return { level: 'ok', about, text: `listed ${formatAge(ageMs)} ago` };
  });
}

async function jobFindings({ config, places, clock }: EngineContext): Promise<Finding[]> {
  const { readJobState, readRecords } = await import('./run-record.ts');
  const { jobFaults } = await import('./job.ts');
  const records = readRecords(places);
  const faults = jobFaults(config).map(
    ({ text }): Finding => ({ level: 'critical', about: 'backup jobs', text }),
  );
  return [
    ...faults,
    ...config.backupJobs.map(({ name, enabled }): Finding => {
      const about = `backup job ${name}`;
      const { running } = readJobState(places, name);
      const last = records.find(({ job }) => job === name);
      if (running !== null && isAlive(running.process))
        return { level: 'ok', about, text: `runs since ${running.startedAt}` };
      if (running !== null)
        return {
          level: 'critical',
          about,
          text: `its run of ${running.startedAt} was killed before its end: it is reported when the job starts next`,
        };
      if (last === undefined) return { level: enabled ? 'warning' : 'ok', about, text: 'was never run' };
      const failed = last.vms.filter(({ result }) => result === 'failed').length + last.errors.length;
      const age = formatAge(clock.now().getTime() - Date.parse(last.endedAt));
      const text = `${age} ago: ${last.isKilled ? 'killed' : `${formatCount(last.vms.length, 'backup')}, ${formatCount(failed, 'error')}`}`;
      return { level: failed > 0 || last.isKilled ? 'critical' : 'ok', about, text };
    }),
  ];
}

async function replicationFindings(context: EngineContext, queue: Queue): Promise<Finding[]> {
  if (!context.config.replication.enabled) return [];
  const { replicationStatus } = await import('../replication/status.ts');
  const { lastPass, failed, faults } = await replicationStatus(queue);
  const wrong = failed.length + faults;
  return [{ level: wrong > 0 ? 'critical' : 'ok', about: 'replication', text: lastPass }];
}

async function verifyFindings(context: EngineContext): Promise<Finding[]> {
  const { verifyResultCounts } = await import('../safekeeping/verify-results.ts');
  const { damaged, unreadable, neverOrOld, total } = verifyResultCounts(context);
  const findings: Finding[] = [];
  if (damaged > 0)
    findings.push({
      level: 'critical',
      about: 'archives',
      text: `${formatCount(damaged, 'archive')} found damaged: phd list`,
    });
  if (unreadable > 0)
    findings.push({
      level: 'warning',
      about: 'archives',
      text: `${formatCount(unreadable, 'archive')} cannot be opened`,
    });
  const { enabled, everyDays } = context.config.verifyPlan;
  const text = `${neverOrOld} of ${total} not verified within ${everyDays} days`;
  if (enabled) {
    const { readPlanState } = await import('../safekeeping/verify-plan-state.ts');
    const { startedAt } = await readPlanState(context.places);
    const isStale = startedAt === null || context.clock.now().getTime() - Date.parse(startedAt) > 2 * DAY_MS;
    findings.push({ level: isStale && neverOrOld > 0 ? 'warning' : 'ok', about: 'verify plan', text });
  } else findings.push({ level: 'ok', about: 'verify plan', text: `off; ${text}` });
  return findings;
}

async function clockFindings(context: EngineContext): Promise<Finding[]> {
  const { clockFault } = await import('../engine/index-targets.ts');
  const fault = clockFault(context);
  return fault === null ? [] : [{ level: 'critical', about: 'clock', text: fault }];
}
