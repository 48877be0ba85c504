/** `phd verify`: archives, all or the newest of a target, or a disk against an archive. */
import path from 'node:path';
import type { Command } from 'commander';
import type { EngineContext } from '../engine/context.ts';
import { formatBytes, formatCount } from '../engine/display-text.ts';
import type { VerifyChoice } from '../engine/verify-choice.ts';
import type { VerifyResult } from '../engine/verifying.ts';
import { PhdError } from '../errors.ts';
import type { Queue } from '../queue/queue.ts';
import { type Cli, parseWhole } from './cli.ts';
import { withHooks } from './operation-hooks.ts';
import { withQueue } from './queued-jobs.ts';

interface Words {
  target?: string;
  newest?: boolean;
  olderThan?: string;
  disk?: string;
  against?: string;
  full?: string;
  plan?: boolean;
  dryRun?: boolean;
  background?: boolean;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  phd verify 1:FOLDER/FILE                              as phd list names it
  phd verify --target 1 --newest --older-than 30
  phd verify --target 1 --older-than 2026-11-20
  phd verify --plan --dry-run
  phd verify --disk /srv/restored/a-flat.vmdk --against 1:FOLDER/FILE`;

export function registerVerify(program: Command, cli: Cli): void {
  program
    .command('verify')
    .summary('verify archives and disks')
    .description(
      'verify every block of archives, or of a disk against an archive; lists show result and date',
    )
    .argument('[ARCHIVE...]', 'path of a file, or N:folder/file on target N')
    .option('--target <N>', 'all archives of this target')
    .option('--newest', 'of the target only the newest of each disk')
    .option('--older-than <D>', 'of the target only those not verified since this date, or for so many days')
    .option('--disk <FLAT>', 'verify this disk')
    .option('--against <ARCHIVE>', 'with --disk: what it must be')
    .option('--full <ARCHIVE>', 'with --disk: the FULL to use')
    .option('--plan', 'what is due by verifyPlan in phd.yaml, longest ago first')
    .option('--dry-run', 'with --plan: only say what is due')
    .option('--background', 'queue it as one job: see phd jobs')
    .option('--json', 'JSON lines')
    .addHelpText('after', EXAMPLES)
    .action(async (archives: string[], words: Words) => {
      checkWords(archives, words);
      if (words.plan) return await verifyByPlan(cli, words);
      if (words.background) return await queueVerify(cli, archives, words);
      await cli.withContext(async (context) => {
        const { inForeground } = await import('../queue/foreground.ts');
        await inForeground(context.places, 'verify', () => verifyNow(cli, context, archives, words));
      });
    });
}

async function verifyNow(cli: Cli, context: EngineContext, archives: string[], words: Words): Promise<void> {
  if (words.disk !== undefined) return await verifyOneDisk(cli, context, words);
  const failures: PhdError[] = [];
  const chosen = words.target === undefined ? archives : await archivesOf(context, words);
  if (chosen.length === 0) cli.warn(`there is nothing to verify on target ${words.target}`);
  for (const archive of chosen) {
    try {
      const { verifyArchive } = await import('../engine/verify.ts');
      const { archiveRef } = await import('../engine/choose-run.ts');
      const ref = await archiveRef(context, archive);
      report(
        cli,
        await withHooks(
          cli,
          words.json ?? false,
          (hooks) => verifyArchive(context, ref, hooks),
          () => ({ archive }),
        ),
        words,
      );
    } catch (error) {
      if (cli.signal.aborted) throw error;
      failures.push(cli.reportItemError(error, { archive }, words.json ?? false));
    }
  }
  cli.setStatusOf(failures);
}

function checkWords(archives: string[], words: Words): void {
  const { target, disk, plan } = words;
  const kinds = [archives.length > 0, target !== undefined, disk !== undefined, plan].filter(Boolean).length;
  if (kinds !== 1)
    throw new PhdError(
      'USAGE',
      'name archives, or --target, or --plan, or --disk with --against: see phd verify --help',
    );
  if ((words.disk === undefined) !== (words.against === undefined)) {
    throw new PhdError('USAGE', '--disk and --against belong together');
  }
  if (words.dryRun && !plan) throw new PhdError('USAGE', '--dry-run goes with --plan');
  if (plan && words.background)
    throw new PhdError('USAGE', '--plan is run by the daemon anyway: verifyPlan.enabled');
  if (words.target === undefined && (words.newest || words.olderThan !== undefined)) {
    throw new PhdError('USAGE', '--newest and --older-than go with --target');
  }
}

/** What the daemon does by itself where `verifyPlan.enabled` is true; asked for, it is done whether or not it is. */
async function verifyByPlan(cli: Cli, { json, dryRun }: Words): Promise<void> {
  const { openPlaces, readVerifyPlanSettings } = await import('../engine/configuration.ts');
  const { bandwidthLimitBytesPerSecond } = await readVerifyPlanSettings(await openPlaces(cli.env));
  await cli.withContext(
    async (context) => {
      if (dryRun) return await showPlan(cli, context, json ?? false);
      await withQueue(cli, async (queue) => {
        const { inForeground } = await import('../queue/foreground.ts');
        await inForeground(context.places, 'verify', () => runPlan(cli, context, queue, json ?? false));
      });
    },
    { bandwidthLimitBytesPerSecond },
  );
}

async function runPlan(cli: Cli, context: EngineContext, queue: Queue, isJson: boolean): Promise<void> {
  const { runVerifyPlan } = await import('../safekeeping/verify-plan.ts');
  const { submitterOf } = await import('../queue/submitter.ts');
  const end = await withHooks(
    cli,
    isJson,
    (hooks) =>
      runVerifyPlan(context, queue, submitterOf(cli.env), {
        ...hooks,
        onGood: (archive) => {
          if (!isJson) cli.print(`good  ${archive}`);
        },
        onFailure: (archive, error) => cli.reportItemError(error, { archive }, isJson),
      }),
    (archive) => ({ archive }),
  );
  const { goodCount, failures, leftCount, why } = end;
  if (isJson) cli.printJson({ event: 'plan', goodCount, failedCount: failures.length, leftCount, why });
  else {
    const left = leftCount === 0 ? '' : `, ${leftCount} left`;
    cli.print(`${goodCount} good, ${failures.length} failed${left}${why === null ? '' : `: ${why}`}`);
  }
  cli.setStatusOf(failures.map(({ error }) => error));
}

async function showPlan(cli: Cli, context: EngineContext, isJson: boolean): Promise<void> {
  const { planDue } = await import('../safekeeping/verify-plan.ts');
  const { readPlanState } = await import('../safekeeping/verify-plan-state.ts');
  const due = await planDue(context, await readPlanState(context.places), {
    signal: cli.signal,
    onWarning: (message) => cli.warnOnce(message),
  });
  for (const one of due) {
    if (isJson) cli.printJson({ event: 'due', archive: one.archive, verifiedAt: one.verifiedAt || null });
    else cli.print(`${one.verifiedAt.slice(0, 10) || 'never     '}  ${one.archive}`);
  }
  const { enabled, everyDays } = context.config.verifyPlan;
  if (isJson) return;
  const words = `${formatCount(due.length, 'archive')} not verified within ${everyDays} days`;
  cli.print(enabled ? words : `${words}; the plan is off: phd config set verifyPlan.enabled true`);
}

/** Archives of a target from the index, oldest verified first. */
async function archivesOf(context: EngineContext, words: Words): Promise<string[]> {
  const { archivesToVerify } = await import('../engine/verify-choice.ts');
  return await archivesToVerify(context, await choiceOf(words));
}

async function choiceOf(words: Words): Promise<VerifyChoice> {
  return {
    target: parseWhole(words.target as string, '--target', 1, 9999),
    newest: words.newest ?? false,
    ...(await ageOf(words.olderThan)),
  };
}

/** A date counts from its first minute, local time. */
async function ageOf(
  text: string | undefined,
): Promise<Pick<VerifyChoice, 'olderThanDays' | 'verifiedBefore'>> {
  if (text === undefined) return { olderThanDays: null };
  if (/^\d+$/.test(text)) return { olderThanDays: parseWhole(text, '--older-than', 0, 36_500) };
  if (!text.includes('-'))
    throw new PhdError(
      'USAGE',
      `--older-than ${JSON.stringify(text)}: expected a number of days, YYYY-MM-DD or YYYY-MM-DDTHH:MM`,
    );
  const { firstMomentOf } = await import('../engine/list-archives.ts');
  return { olderThanDays: null, verifiedBefore: firstMomentOf(text).toISOString() };
}

/** What a target holds is looked up when the job runs. */
async function queueVerify(cli: Cli, archives: readonly string[], words: Words): Promise<void> {
  await cli.withContext(async (context) => {
    const { requireTargets } = await import('../engine/request-check.ts');
    requireTargets(context, [words.target === undefined ? undefined : (await choiceOf(words)).target]);
    const { archiveRef } = await import('../engine/choose-run.ts');
    for (const one of [...archives, words.against, words.full])
      if (one !== undefined) await archiveRef(context, one);
  });
  const { queuedArchive } = await import('../queue/request.ts');
  const { queueJobs } = await import('./queued-jobs.ts');
  const request =
    words.disk !== undefined
      ? {
          disk: path.resolve(words.disk),
          against: queuedArchive(words.against as string),
          full: words.full === undefined ? undefined : queuedArchive(words.full),
        }
      : words.target === undefined
        ? { archives: archives.map(queuedArchive) }
        : await choiceOf(words);
  await queueJobs(cli, 'verify', [request], words.json ?? false);
}

async function verifyOneDisk(cli: Cli, context: EngineContext, words: Words): Promise<void> {
  const { verifyDisk } = await import('../engine/verify-disk.ts');
  const { archiveRef } = await import('../engine/choose-run.ts');
  const against = await archiveRef(context, words.against as string);
  const full = words.full === undefined ? undefined : await archiveRef(context, words.full);
  const result = await withHooks(cli, words.json ?? false, (hooks) =>
    verifyDisk(context, words.disk as string, against, hooks, full),
  );
  report(cli, result, words, words.disk);
}

function report(cli: Cli, result: VerifyResult, words: Words, disk?: string): void {
  const { archive, bytes, blocks, seconds } = result;
  if (words.json) {
    cli.printJson({
      event: 'done',
      archive,
      disk: disk ?? null,
      bytes,
      totalBytes: bytes,
      percent: 100,
      bytesPerSecond: bytes / Math.max(0.001, seconds),
      remainingSeconds: 0,
      blocks,
      seconds,
      code: null,
      message: null,
    });
    return;
  }
  const what = disk === undefined ? archive : `${disk} against ${archive}`;
  cli.print(
    `GOOD ${what}: ${formatCount(blocks, 'block')}, ${formatBytes(bytes)} in ${seconds.toFixed(1)} s`,
  );
}
