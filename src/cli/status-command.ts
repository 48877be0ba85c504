/** `phd status`, for people and for monitoring; `phd report test`. */
import type { Command } from 'commander';
import type { Finding } from '../backup-jobs/findings.ts';
import type { Cli } from './cli.ts';
import { withQueue } from './queued-jobs.ts';

const LEVELS = { ok: 0, warning: 1, critical: 2 } as const;

const EXAMPLES = `
Exit status, as Nagios and its kin read it: 0 all is well, 1 something should be
looked at, 2 something is wrong. It asks no target: it tells what is known here.

Examples:
  phd status
  phd status --json
  phd status --short          one line`;

export function registerStatus(program: Command, cli: Cli): void {
  program
    .command('status')
    .summary('how all of it stands')
    .description('tell how daemon, jobs, targets, backup jobs, replication and verification stand')
    .option('--short', 'one line, the worst first')
    .option('--json', 'one JSON object')
    .addHelpText('after', EXAMPLES)
    .action((words: { short?: boolean; json?: boolean }) =>
      cli.withContext((context) =>
        withQueue(cli, async (queue) => {
          const { findingsOf } = await import('../backup-jobs/findings.ts');
          const findings = await findingsOf(context, queue);
          const worst = findings.reduce<Finding['level']>(
            (level, one) => (LEVELS[one.level] > LEVELS[level] ? one.level : level),
            'ok',
          );
          if (words.json) cli.printJson({ status: worst, time: queue.now(), findings });
          else if (words.short) cli.print(shortText(worst, findings));
          else
            for (const { level, about, text } of findings) cli.print(`${level.padEnd(8)}  ${about}: ${text}`);
          cli.setStatus(LEVELS[worst]);
        }),
      ),
    );
  program
    .command('report')
    .description('reports of backup jobs: see reports: in phd.yaml')
    .command('test')
    .description('write to the status log, ping and mail once, as after a run')
    .action(() =>
      cli.withContext(async (context) => {
        const { testReports } = await import('../reports/report.ts');
        const tested = await testReports(context, {
          env: cli.env,
          onWarning: (message) => cli.warn(message),
        });
        const failures = tested.flatMap(({ way, error }) => {
          if (error === null) cli.print(`ok  ${way}`);
          return error === null ? [] : [cli.reportItemError(error, {}, false)];
        });
        if (tested.length === 0) cli.warn('no report is configured: see reports: in the README');
        cli.setStatusOf(failures);
      }),
    );
}

function shortText(worst: Finding['level'], findings: readonly Finding[]): string {
  const wrong = findings
    .filter(({ level }) => level !== 'ok')
    .sort((a, b) => LEVELS[b.level] - LEVELS[a.level]);
  const words = wrong.map(({ about, text }) => `${about}: ${text}`).join('; ');
  return `PHD ${worst.toUpperCase()}${words === '' ? '' : `: ${words}`}`;
}
