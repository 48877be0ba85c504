/** `phd demo`: backup, loss and restore of a small farm in a temporary home, with a summary of what was proved. */
import { rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import type { DemoReport, DemoStep } from '../demo/run-demo.ts';
import { formatBytes } from '../engine/display-text.ts';
import type { ListedRow } from '../engine/list-archives.ts';
import { fromErrno } from '../errors.ts';
import type { Cli } from './cli.ts';
import { listTable } from './list-table.ts';
import { withHooks } from './operation-hooks.ts';
import { printTable } from './table.ts';

/** The demo makes in seconds what a farm makes in days. */
const STAMPS =
  'Dates are stamps of runs: a second run within a minute bears the next free one, so some are ahead of the clock.';

/** `openConsole` opens the console over another environment and gives its exit status. */
export function registerDemo(
  program: Command,
  cli: Cli,
  openConsole: (env: NodeJS.ProcessEnv) => Promise<number>,
): void {
  program
    .command('demo')
    .summary('show backup and restore on a small farm')
    .description(
      'make a farm of three VMs in a temporary home, back it up, delete a VM, restore it, prove it bit for bit; ' +
        'on a terminal the console can then be tried on it',
    )
    .option('--keep', 'keep the temporary home and say where it is')
    .action(async ({ keep = false }: { keep?: boolean }) => {
      const { withDemoHome } = await import('../demo/run-demo.ts');
      await withDemoHome(keep, async (home) => {
        if (keep) cli.print(`The home is ${home} and is kept: PHD_HOME=${home} phd list`);
        await showDemo(cli, home);
        if (cli.streams.stdin.isTTY && cli.streams.stdout.isTTY) {
          await offerConsole(cli, home, keep, openConsole);
        }
      });
    });
}

async function showDemo(cli: Cli, home: string): Promise<void> {
  const { runDemo } = await import('../demo/run-demo.ts');
  const steps: DemoStep[] = [];
  let rows: readonly ListedRow[] = [];
  const report = await withHooks(cli, false, ({ signal, onWarning }) =>
    runDemo(cli.env, home, {
      signal,
      onWarning,
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
}

/** The console over the farm, for those who press Enter; jobs and daemon of the farm end with it. */
async function offerConsole(
  cli: Cli,
  home: string,
  isKept: boolean,
  openConsole: (env: NodeJS.ProcessEnv) => Promise<number>,
): Promise<void> {
  const end = isKept ? 'the farm is kept' : 'the farm is removed when you leave';
  cli.print(`Enter opens the console over this farm, q and Enter leaves; ${end}.`);
  if ((await nextLine(cli))?.trim() !== '') return;
  const env = { ...cli.env, PHD_HOME: home };
  // A signal that ends the console ends the process at once.
  const removeNow = (): void => rmSync(home, { recursive: true, force: true });
  if (!isKept) process.once('exit', removeNow);
  cli.setStatus(await openConsole(env));
  await endJobs(env);
  if (isKept) return;
  process.off('exit', removeNow);
  cli.print('The demo farm is removed.');
}

/** One line from the terminal; undefined at the end of input or after ^C. */
function nextLine(cli: Cli): Promise<string | undefined> {
  const lines = createInterface({ input: cli.streams.stdin, terminal: false });
  return new Promise((resolve) => {
    const leave = (): void => lines.close();
    cli.signal.addEventListener('abort', leave, { once: true });
    lines.once('line', (line) => {
      resolve(line);
      lines.close();
    });
    lines.once('close', () => {
      cli.signal.removeEventListener('abort', leave);
      resolve(undefined);
    });
  });
}

/** Nothing may write into the farm while it is removed. */
async function endJobs(env: NodeJS.ProcessEnv): Promise<void> {
  const { openPlaces } = await import('../engine/configuration.ts');
  const { Queue } = await import('../queue/queue.ts');
  const { stopDaemon } = await import('../queue/daemon-control.ts');
  const queue = new Queue(await openPlaces(env));
  try {
    await stopDaemon(queue, 'now');
    for (const { id } of queue.db.jobs({ states: ['waiting', 'running'] })) {
      // One that ends by itself in this moment is what is wanted.
      await queue.kill(id).catch((error: unknown) => {
        if (fromErrno(error, `job ${id}`).code !== 'USAGE') throw error;
      });
    }
  } finally {
    queue.close();
  }
}

function printReport(
  cli: Cli,
  steps: readonly DemoStep[],
  rows: readonly ListedRow[],
  report: DemoReport,
): void {
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
  for (const line of [
    ...listTable(rows),
    STAMPS,
    '',
    ...table,
    '',
    `Disks hold ${report.content}.`,
    ...proofs,
  ])
    cli.print(line);
  cli.print(`PROVED: the deleted VM is back, bit for bit; ${total.toFixed(1)} s in all`);
}
