/** `phd demo`: backup, loss and restore of a small farm in a temporary home, with a summary of what was proved. */
import type { Command } from 'commander';
import type { DemoReport, DemoStep } from '../demo/run-demo.ts';
import { formatBytes } from '../engine/display-text.ts';
import type { ListedRow } from '../engine/list-archives.ts';
import type { Cli } from './cli.ts';
import { withHooks } from './operation-hooks.ts';
import { printTable } from './table.ts';

export function registerDemo(program: Command, cli: Cli): void {
  program
    .command('demo')
    .summary('show backup and restore on a small farm')
    .description(
      'make a farm of three VMs in a temporary home, back it up, delete a VM, restore it, prove it bit for bit',
    )
    .option('--keep', 'keep the temporary home and say where it is')
    .action(async ({ keep = false }: { keep?: boolean }) => {
      const { runDemo } = await import('../demo/run-demo.ts');
      const steps: DemoStep[] = [];
      let rows: readonly ListedRow[] = [];
      const report = await withHooks(cli, false, ({ signal, onWarning }) =>
        runDemo(cli.env, keep, {
          signal,
          onWarning,
          onHome: (home) => {
            if (keep) cli.print(`The home is ${home} and is kept: PHD_HOME=${home} phd list`);
          },
          onStep: (step) => {
            steps.push(step);
            cli.streams.stderr.write(`${step.name}: ${step.result}\n`);
          },
          onList: (listed) => {
            rows = listed;
          },
        }),
      );
      printReport(cli, steps, rows, report);
    });
}

function printReport(
  cli: Cli,
  steps: readonly DemoStep[],
  rows: readonly ListedRow[],
  report: DemoReport,
): void {
  const listed = printTable(
    [{ title: 'ARCHIVE' }, { title: 'SIZE', align: 'right' }],
    rows.map((row) => [`${row.targetNumber}:${row.folder}/${row.file}`, formatBytes(row.sizeBytes)]),
  );
  const table = printTable(
    [
      { title: 'STEP' },
      { title: 'RESULT' },
      { title: 'DISKS', align: 'right' },
      { title: 'TIME s', align: 'right' },
    ],
    steps.map(({ name, result, bytes, seconds }) => [
      name,
      result,
      bytes === null ? '' : formatBytes(bytes),
      seconds.toFixed(2),
    ]),
  );
  const proofs = report.proved.map(
    ({ disk, bytes, digest, check }) =>
      `${disk}, ${formatBytes(bytes)}: SHA-256 ${digest} before and after${check === null ? '' : `, ${check}`}`,
  );
  const total = steps.reduce((sum, { seconds }) => sum + seconds, 0);
  for (const line of [...listed, '', ...table, '', `Disks hold ${report.content}.`, ...proofs])
    cli.print(line);
  cli.print(`PROVED: the deleted VM is back, bit for bit; ${total.toFixed(1)} s in all`);
}
