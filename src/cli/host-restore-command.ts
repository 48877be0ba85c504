/** `phd host restore`: a VM of the archives put onto an ESX host or into a pool of XenServer. */
import type { Command } from 'commander';
import type { EngineContext } from '../engine/context.ts';
import { escapeText, formatBytes } from '../engine/display-text.ts';
import type { ArchiveRef } from '../engine/restore-source.ts';
import type { HostRestoreResult } from '../engine/restore-to-host.ts';
import type { XenRestoreRequest } from '../engine/restore-to-xen.ts';
import { PhdError } from '../errors.ts';
import type { Cli } from './cli.ts';
import { withHooks } from './operation-hooks.ts';

interface Words {
  datastore?: string;
  sr?: string;
  preserveMacs?: boolean;
  newMacs?: boolean;
  name?: string;
  date?: string;
  background?: boolean;
  json?: boolean;
}

const RESTORE_HELP = `
Each disk is restored and proved here first, which takes its data's size in
the state folder, then sent and proved there. On ESX a folder that exists is
never written into; on XenServer the VM is a new one, and its MAC addresses
are kept unless the pool has one of them.

Examples:
  phd host restore esx01 web --datastore datastore1
  phd host restore esx01 web --datastore datastore1 --name web-test
  phd host restore esx01 1:FOLDER/FILE --datastore datastore1
  phd host restore esx01 web --datastore datastore1 --background
  phd host restore xen1 web --sr "Local storage" --new-macs`;

export function registerHostRestore(host: Command, cli: Cli): void {
  host
    .command('restore')
    .summary('put a VM onto an ESX host or into a pool')
    .description('put a VM, or one disk, onto an ESX host or into a pool of XenServer and register it')
    .argument('<HOST>', 'a host of type esx or xen')
    .argument('<WHAT...>', 'name or UUID of a VM, or archives of one run: N:folder/file or paths')
    .option('--datastore <NAME>', 'esx: datastore to put it on')
    .option('--sr <SR>', "xen: name or UUID of a storage repository (default: the pool's)")
    .option('--preserve-macs', 'xen: MAC addresses are kept, whoever has them')
    .option('--new-macs', 'xen: MAC addresses are made anew')
    .option('--name <NAME>', 'of its folder and of the VM (default: its own)')
    .option('--date <D>', 'of a VM: its newest run on or before this date')
    .option('--background', 'queue it, for phd daemon: see phd jobs')
    .option('--json', 'JSON lines')
    .addHelpText('after', RESTORE_HELP)
    .action(async (name: string, what: string[], words: Words) => {
      await cli.withContext(async (context) => {
        if (words.background) return await queueThere(cli, context, { name, what }, words);
        const { withGate } = await import('../queue/gate.ts');
        await withGate(context.places, 'restore', async (check) =>
          (await context.host(name)).config.type === 'xen'
            ? restoreIntoPool(cli, context, { name, what }, words, check)
            : restoreThere(cli, context, { name, what }, words, check),
        );
      });
    });
}

async function queueThere(
  cli: Cli,
  context: EngineContext,
  { name: host, what }: { name: string; what: string[] },
  words: Words,
): Promise<void> {
  const { queueHostRestore } = await import('./host-restore-queue.ts');
  const isXen = (await context.host(host)).config.type === 'xen';
  if (!isXen) await (await import('../engine/restore-to-host.ts')).esxHost(context, host);
  const datastore = isXen ? await repositoryOf(context, host, words) : datastoreOf(host, words);
  const { name, date, json = false } = words;
  const macs = isXen ? { macs: macsOf(words) } : {};
  const place = { host, datastore, ...macs, ...(name === undefined ? {} : { name }) };
  const archives = await archivesNamed(cli, context, what, date);
  await queueHostRestore(cli, what, archives, place, json);
}

/** The pool's default is taken now: it may be another one when the job runs. */
async function repositoryOf(context: EngineContext, host: string, words: Words): Promise<string> {
  if (words.datastore !== undefined)
    throw new PhdError('USAGE', `${host} is of type xen: name its storage by --sr`);
  const { xenHost } = await import('../engine/restore-to-xen.ts');
  const { chooseRepository } = await import('../hosts/xen/xen-storage.ts');
  return (await chooseRepository((await xenHost(context, host)).session, words.sr ?? null)).uuid;
}

function macsOf({ preserveMacs = false, newMacs = false }: Words): XenRestoreRequest['macs'] {
  if (preserveMacs && newMacs)
    throw new PhdError('USAGE', '--preserve-macs and --new-macs exclude each other');
  return preserveMacs ? 'keep' : newMacs ? 'new' : 'auto';
}

/** Throws USAGE. */
function datastoreOf(host: string, { datastore, sr, preserveMacs, newMacs }: Words): string {
  if (sr !== undefined || preserveMacs || newMacs)
    throw new PhdError('USAGE', `--sr and MAC addresses are for hosts of type xen; ${host} is none`);
  if (datastore === undefined) throw new PhdError('USAGE', `name a datastore of ${host} by --datastore`);
  return datastore;
}

async function restoreThere(
  cli: Cli,
  context: EngineContext,
  { name, what }: { name: string; what: string[] },
  words: Words,
  check: () => void,
): Promise<void> {
  const datastore = datastoreOf(name, words);
  const { name: vmName, date, json = false } = words;
  const { restoreToHost } = await import('../engine/restore-to-host.ts');
  const archives = await archivesNamed(cli, context, what, date);
  const request = { host: name, archives, datastore, ...(vmName === undefined ? {} : { name: vmName }) };
  const result = await withHooks(cli, json, (hooks) =>
    restoreToHost(context, request, { ...hooks, beforeDisk: check }),
  );
  report(cli, name, result, json);
  cli.setStatusOf(result.failed.map(({ disk, error }) => cli.reportItemError(error, { disk }, json)));
}

async function restoreIntoPool(
  cli: Cli,
  context: EngineContext,
  { name, what }: { name: string; what: string[] },
  words: Words,
  check: () => void,
): Promise<void> {
  const { name: vmName, date, json = false } = words;
  const macs = macsOf(words);
  const wanted = await repositoryOf(context, name, words);
  const { restoreToXen } = await import('../engine/restore-to-xen.ts');
  const archives = await archivesNamed(cli, context, what, date);
  const request: XenRestoreRequest = {
    host: name,
    archives,
    repository: wanted,
    macs,
    ...(vmName === undefined ? {} : { name: vmName }),
  };
  const result = await withHooks(cli, json, (hooks) =>
    restoreToXen(context, request, { ...hooks, beforeDisk: check }),
  );
  const { repository, disks, failed, vm, seconds } = result;
  for (const { disk, diskBytes, vdi, proof } of disks) {
    if (json)
      cli.printJson({ event: 'done', host: name, repository, disk, bytes: diskBytes, vdi, vm, seconds });
    else
      cli.print(
        `ALL BLOCKS PROVED: ${escapeText(disk)}, ${formatBytes(diskBytes)}, as VDI ${vdi} on ${escapeText(repository)} (${proof})`,
      );
  }
  if (!json && vm !== null) cli.print(`a new VM of ${name}: ${vm}, off`);
  cli.setStatusOf(failed.map(({ disk, error }) => cli.reportItemError(error, { disk }, json)));
}

/** One VM, or archives that lie in one folder. Throws USAGE, NOT_FOUND, TARGET_*. */
async function archivesNamed(
  cli: Cli,
  context: EngineContext,
  what: readonly string[],
  date: string | undefined,
): Promise<ArchiveRef[]> {
  const { archiveRef, refsOfVm } = await import('../engine/choose-run.ts');
  const [vm = ''] = what;
  if (what.some((one) => one.includes('/'))) {
    if (date !== undefined) throw new PhdError('USAGE', '--date goes with a VM, not with archives');
    const refs = await Promise.all(what.map((one) => archiveRef(context, one)));
    if (new Set(refs.map(({ storage, folder }) => `${storage.number}:${folder}`)).size > 1)
      throw new PhdError('USAGE', 'these archives are not of one run: they lie in several folders');
    return refs;
  }
  if (what.length > 1) throw new PhdError('USAGE', 'name one VM, or archives of one run');
  const { indexTargets } = await import('../engine/index-targets.ts');
  for (const { error } of await indexTargets(context, { scope: 'old', signal: cli.signal }))
    if (error) cli.warn(error.message);
  return await refsOfVm(context, { vm, onOrBefore: date }, (message) => cli.warn(message));
}

function report(cli: Cli, host: string, result: HostRestoreResult, isJson: boolean): void {
  const { folder, disks, vmId, seconds } = result;
  for (const { disk, diskBytes, proof } of disks) {
    if (isJson) cli.printJson({ event: 'done', host, folder, disk, bytes: diskBytes, proof, vmId, seconds });
    else cli.print(`ALL BLOCKS PROVED: ${host}:${folder}/${disk}, ${formatBytes(diskBytes)} (${proof})`);
  }
  if (!isJson && vmId !== null) cli.print(`registered on ${host} as VM ${vmId}, powered off`);
}
