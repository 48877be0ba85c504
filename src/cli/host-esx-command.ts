/** `phd host restore`: a VM of the archives onto an ESX host. */
import type { Command } from 'commander';
import type { EngineContext } from '../engine/context.ts';
import { formatBytes } from '../engine/display-text.ts';
import type { ArchiveRef } from '../engine/restore-source.ts';
import type { HostRestoreResult } from '../engine/restore-to-host.ts';
import type { Cli } from './cli.ts';
import { withHooks } from './operation-hooks.ts';

interface Words {
  datastore: string;
  name?: string;
  date?: string;
  json?: boolean;
}

const RESTORE_HELP = `
Of hosts of type esx. Each disk is restored and proved here first, which
takes its data's size in the state folder, then sent and proved there. A
folder that exists is never written into.

Examples:
  phd host restore esx01 web --datastore datastore1
  phd host restore esx01 web --datastore datastore1 --name web-test
  phd host restore esx01 1:FOLDER/FILE --datastore datastore1`;

export function registerHostEsx(host: Command, cli: Cli): void {
  host
    .command('restore')
    .summary('put a VM onto an ESX host')
    .description('put a VM, or one disk, onto a datastore of an ESX host and register it')
    .argument('<HOST>', 'a host of type esx')
    .argument('<WHAT>', 'N:folder/file, path of a file, or name or UUID of a VM')
    .requiredOption('--datastore <NAME>', 'datastore to put it on')
    .option('--name <NAME>', 'of its folder and of the VM (default: its own)')
    .option('--date <D>', 'of a VM: its newest run on or before this date')
    .option('--json', 'JSON lines')
    .addHelpText('after', RESTORE_HELP)
    .action(async (name: string, what: string, words: Words) => {
      await cli.withContext(async (context) => {
        const { withGate } = await import('../queue/gate.ts');
        await withGate(context.places, 'restore', (check) =>
          restoreThere(cli, context, { name, what }, words, check),
        );
      });
    });
}

async function restoreThere(
  cli: Cli,
  context: EngineContext,
  { name, what }: { name: string; what: string },
  { datastore, name: vmName, date, json = false }: Words,
  check: () => void,
): Promise<void> {
  const { restoreToHost } = await import('../engine/restore-to-host.ts');
  const archives = await archivesNamed(cli, context, what, date);
  const request = { host: name, archives, datastore, ...(vmName === undefined ? {} : { name: vmName }) };
  const result = await withHooks(cli, json, (hooks) =>
    restoreToHost(context, request, { ...hooks, beforeDisk: check }),
  );
  report(cli, name, result, json);
  cli.setStatusOf(result.failed.map(({ disk, error }) => cli.reportItemError(error, { disk }, json)));
}

async function archivesNamed(
  cli: Cli,
  context: EngineContext,
  what: string,
  date: string | undefined,
): Promise<ArchiveRef[]> {
  const { archiveRef, refsOfVm } = await import('../engine/choose-run.ts');
  if (what.includes('/')) return [await archiveRef(context, what)];
  const { indexTargets } = await import('../engine/index-targets.ts');
  for (const { error } of await indexTargets(context, { scope: 'old', signal: cli.signal }))
    if (error) cli.warn(error.message);
  return await refsOfVm(context, { vm: what, onOrBefore: date }, (message) => cli.warn(message));
}

function report(cli: Cli, host: string, result: HostRestoreResult, isJson: boolean): void {
  const { folder, disks, vmId, seconds } = result;
  for (const { disk, diskBytes, proof } of disks) {
    if (isJson) cli.printJson({ event: 'done', host, folder, disk, bytes: diskBytes, proof, vmId, seconds });
    else cli.print(`ALL BLOCKS PROVED: ${host}:${folder}/${disk}, ${formatBytes(diskBytes)} (${proof})`);
  }
  if (!isJson && vmId !== null) cli.print(`registered on ${host} as VM ${vmId}, powered off`);
}
