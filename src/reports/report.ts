/** Tells of a run of a backup job, in each way that is configured; what fails is a warning, stands in the log, and never fails the run. */
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '../clock.ts';
import { readSecret } from '../config/secrets.ts';
import { openPlaces, readConfig } from '../engine/configuration.ts';
import type { EngineContext } from '../engine/context.ts';
import { fromErrno, type PhdError } from '../errors.ts';
import { sendMail } from './mail.ts';
import { type PingKind, ping } from './ping.ts';
import { subjectOf, textOf } from './report-text.ts';
import { isFailed, type RunReport } from './run-report.ts';
import { logBegin, logEnd } from './status-log.ts';

/** What reports need of the engine: they are made also where it cannot be opened. */
export type ReportContext = Pick<EngineContext, 'config' | 'hostName' | 'log'>;

export interface ReportHooks {
  env: NodeJS.ProcessEnv;
  onWarning: (message: string) => void;
  /** Between tries; default: real time. */
  wait?: (milliseconds: number) => Promise<void>;
}

/** At the begin of a run. Never throws. */
export async function reportBegin(
  context: ReportContext,
  run: Pick<RunReport, 'job' | 'mode' | 'startedAt'>,
  hooks: ReportHooks,
): Promise<void> {
  const { statusLog } = context.config.reports;
  await each(context, hooks, [
    async () => statusLog !== null && (await logBegin(statusLog, context.hostName, run)),
    () => pingIfAny(context, 'start', `${run.job} begins`, hooks),
  ]);
}

/** At its end, or when it is found to have been killed. Never throws. */
export async function reportEnd(
  context: ReportContext,
  report: RunReport,
  hooks: ReportHooks,
): Promise<void> {
  const { statusLog } = context.config.reports;
  const host = context.hostName;
  await each(context, hooks, [
    async () => statusLog !== null && (await logEnd(statusLog, host, report)),
    () => pingIfAny(context, isFailed(report) ? 'fail' : 'success', subjectOf(report, host), hooks),
    () => mailIfAny(context, report, hooks),
  ]);
}

/** Where not even the databases can be opened. Never throws. */
export async function reportNotBegun(
  run: Pick<RunReport, 'job' | 'mode'>,
  error: Error,
  hooks: ReportHooks,
): Promise<void> {
  const now = systemClock.now().toISOString();
  try {
    const config = await readConfig(await openPlaces(hooks.env));
    if (!config.backupJobs.some(({ name }) => name === run.job)) return;
    const report = {
      ...run,
      runId: '',
      startedAt: now,
      endedAt: now,
      vms: [],
      removedRuns: 0,
      errors: [`it was not begun: ${error.message}`],
      warnings: [],
      isKilled: false,
    };
    await reportEnd({ config, hostName: hostname(), log: () => undefined }, report, hooks);
  } catch (failure) {
    hooks.onWarning(`it could not be reported either: ${(failure as Error).message}`);
  }
}

/** A way of telling, tried. */
export interface TestedWay {
  /** `status log /var/log/phd.log`, `health ping`, `mail to ...` */
  way: string;
  error: PhdError | null;
}

/** Each way that is configured once, with a run that did nothing; one that fails stops no other. */
export async function testReports(context: EngineContext, hooks: ReportHooks): Promise<TestedWay[]> {
  const { statusLog, mail, pingUrl } = context.config.reports;
  const now = context.clock.now().toISOString();
  const nothing = { vms: [], removedRuns: 0, errors: [], warnings: ['This is a test.'], isKilled: false };
  const report: RunReport = {
    runId: 'test',
    job: 'test',
    mode: 'delta',
    startedAt: now,
    endedAt: now,
    ...nothing,
  };
  const tested: TestedWay[] = [];
  const attempt = async (way: string, work: () => Promise<void>): Promise<void> => {
    const error = await work().then(
      () => null,
      (failure: unknown) => fromErrno(failure, way),
    );
    tested.push({ way, error });
  };
  if (statusLog !== null)
    await attempt(`status log ${statusLog}`, () => logEnd(statusLog, context.hostName, report));
  if (pingUrl !== null) await attempt('health ping', () => pingIfAny(context, 'success', 'test', hooks));
  if (mail !== null)
    await attempt(`mail to ${mail.to.join(', ')} by ${mail.host}:${mail.port}`, () =>
      mailIfAny(context, report, hooks, true),
    );
  return tested;
}

async function each(
  { log }: ReportContext,
  { onWarning }: ReportHooks,
  ways: readonly (() => Promise<unknown>)[],
): Promise<void> {
  for (const way of ways) {
    try {
      await way();
    } catch (error) {
      const { message } = error as Error;
      onWarning(message);
      log(`report: ${message}`);
    }
  }
}

async function pingIfAny(
  { config }: ReportContext,
  kind: PingKind,
  body: string,
  { env, wait = waitFor }: ReportHooks,
): Promise<void> {
  const { pingUrl } = config.reports;
  if (pingUrl === null) return;
  await ping(await readSecret(pingUrl, 'address of the health ping', env), kind, body, wait);
}

async function mailIfAny(
  { config, hostName }: ReportContext,
  report: RunReport,
  { env, onWarning, wait = waitFor }: ReportHooks,
  isTest = false,
): Promise<void> {
  const { mail } = config.reports;
  if (mail === null || (!isTest && mail.when === 'failure' && !isFailed(report))) return;
  const password = mail.password && (await readSecret(mail.password, 'password of the mail server', env));
  const letter = {
    subject: subjectOf(report, hostName),
    text: textOf(report, hostName),
    json: `${JSON.stringify(report, null, 2)}\n`,
  };
  await sendMail(mail, letter, { password, wait, onWarning });
}

async function waitFor(milliseconds: number): Promise<void> {
  await delay(milliseconds);
}
