/** `phd host list`, and the parent of what each kind of host has of its own. */
import type { Command } from 'commander';
import type { EngineContext } from '../engine/context.ts';
import type { PhdError } from '../errors.ts';
import type { HostVm } from '../hosts/host.ts';
import type { Cli } from './cli.ts';
import { printTable } from './table.ts';

const EXAMPLES = `
Hosts stand in phd.yaml under hosts:. A VM of one is backed up by
phd backup HOST/VM.

Examples:
  phd host list
  phd host list esx01 --json`;

export function registerHost(program: Command, cli: Cli): void {
  const host = program
    .command('host')
    .summary('hosts and their VMs')
    .description('machines that run VMs, or are one');
  host
    .command('list')
    .summary('list the VMs of hosts')
    .description('list the VMs of all hosts of phd.yaml, or of those named')
    .argument('[HOST...]', 'names of hosts')
    .option('--json', 'JSON lines')
    .addHelpText('after', EXAMPLES)
    .action(async (names: string[], { json }: { json?: boolean }) => {
      await cli.withContext((context) => listHosts(cli, context, names, json ?? false));
    });
}

async function listHosts(
  cli: Cli,
  context: EngineContext,
  names: readonly string[],
  isJson: boolean,
): Promise<void> {
  const failures: PhdError[] = [];
  const rows: string[][] = [];
  const wanted = names.length > 0 ? names : context.config.hosts.map(({ name }) => name);
  if (wanted.length === 0) cli.print(`${context.config.file} names no host: add one to its list hosts:`);
  for (const name of wanted) {
    try {
      const host = await context.host(name);
      for (const vm of await host.listVms(cli.signal)) {
        if (isJson) cli.printJson({ event: 'vm', host: name, ...vm });
        rows.push(cellsOf(name, vm));
      }
    } catch (error) {
      if (cli.signal.aborted) throw error;
      failures.push(cli.reportItemError(error, {}, isJson));
    }
  }
  if (!isJson && rows.length > 0) {
    const titles = ['HOST', 'VM', 'POWER', 'UUID', 'ID', 'PLACE'].map((title) => ({ title }));
    for (const line of printTable(titles, rows)) cli.print(line);
  }
  cli.setStatusOf(failures);
}

function cellsOf(host: string, { name, power, uuid, id, place }: HostVm): string[] {
  return [host, name, power, uuid ?? '-', id, place ?? '-'];
}
