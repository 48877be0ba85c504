/** `phd sheet`, `phd support-bundle`: for the drawer, and for whoever is asked for help. */
import { hostname } from 'node:os';
import path from 'node:path';
import type { Command } from 'commander';
import type { EngineContext } from '../engine/context.ts';
import { formatCount } from '../engine/display-text.ts';
import { PhdError } from '../errors.ts';
import type { Queue } from '../queue/queue.ts';
import type { Cli } from './cli.ts';
import { withQueue } from './queued-jobs.ts';

export function registerSheet(program: Command, cli: Cli): void {
  program
    .command('sheet')
    .summary('one page to keep in a drawer')
    .description(
      'print one page: targets, host keys, which passphrase since when, VMs with their newest proved backup, and how to restore by hand; it holds no secret',
    )
    .action(() =>
      cli.withContext(async (context) => {
        const { printSheet } = await import('../safekeeping/sheet.ts');
        for (const line of await printSheet(context)) cli.print(line);
      }),
    );
  program
    .command('support-bundle')
    .summary('gather what helps to help')
    .description(
      'write a tar.gz of logs, the configuration without secrets, versions and the last jobs; every secret that can be read is taken out',
    )
    .argument('[FILE]', 'default: phd-support-HOST-TIME.tar.gz here')
    .action((file: string | undefined) => withQueue(cli, (queue) => bundle(cli, queue, file)));
}

/** Also with a phd.yaml that is broken: that may be what help is needed for. */
async function bundle(cli: Cli, queue: Queue, file: string | undefined): Promise<void> {
  const { bundleName, writeSupportBundle } = await import('../safekeeping/support-bundle.ts');
  const about = { places: queue.places, clock: queue.clock, hostName: hostname(), queue, env: cli.env };
  const to = path.resolve(file ?? bundleName(about));
  const write = (context: EngineContext | null) => writeSupportBundle({ ...about, context }, to);
  const { entries } = await cli.withContext(write).catch((error: unknown) => {
    if (!(error instanceof PhdError) || error.code !== 'CONFIG_INVALID') throw error;
    cli.warn(error.message);
    return write(null);
  });
  cli.print(`${to}: ${formatCount(entries.length, 'file')}`);
  for (const name of entries) cli.print(`  ${name}`);
  cli.print('Look through it before you give it away: names of VMs, hosts and folders are in it.');
}
