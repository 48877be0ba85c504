/** `phd host setup`, `check`, `remove`, `storage` and `restore`: what ESX hosts have of their own. */
import type { Command } from 'commander';
import type { EngineContext } from '../engine/context.ts';
import { escapeText, formatBytes } from '../engine/display-text.ts';
import type { ArchiveRef } from '../engine/restore-source.ts';
import type { HostRestoreResult } from '../engine/restore-to-host.ts';
import { PhdError } from '../errors.ts';
import type { EsxSetup, SetupStep } from '../hosts/esx/esx-setup.ts';
import type { EsxStorage } from '../hosts/esx/esx-storage.ts';
import type { Cli } from './cli.ts';
import { withHooks } from './operation-hooks.ts';
import { printTable } from './table.ts';

interface Words {
  datastore: string;
  name?: string;
  date?: string;
  json?: boolean;
}

const SETUP_HELP = `
Lets the private key of the host's entry in phd.yaml in, from this machine's
address alone, and for commands as this program uses them: no shell, no SFTP,
no forwarding. A role of ESX does not bind SSH, so a key is root there: keep it.

Examples:
  phd host setup esx01              prints the steps
  phd host setup esx01 --run        does them, and logs in by the key alone`;

const RESTORE_HELP = `
Of hosts of type esx. Each disk is restored and proved here first, which
takes its data's size in the state folder, then sent and proved there. A
folder that exists is never written into.

Examples:
  phd host restore esx01 web --datastore datastore1
  phd host restore esx01 web --datastore datastore1 --name web-test
  phd host restore esx01 1:FOLDER/FILE --datastore datastore1`;

export function registerHostEsx(host: Command, cli: Cli): void {
  registerSetup(host, cli);
  registerStorage(host, cli);
  host
    .command('restore')
    .summary('put a VM onto an ESX host')
    .description('put a VM, or one disk, onto a datastore of an ESX host and register it')
    .argument('<HOST>', 'a host of type esx')
    .argument('<WHAT...>', 'name or UUID of a VM, or archives of one run: N:folder/file or paths')
    .requiredOption('--datastore <NAME>', 'datastore to put it on')
    .option('--name <NAME>', 'of its folder and of the VM (default: its own)')
    .option('--date <D>', 'of a VM: its newest run on or before this date')
    .option('--json', 'JSON lines')
    .addHelpText('after', RESTORE_HELP)
    .action(async (name: string, what: string[], words: Words) => {
      await cli.withContext(async (context) => {
        const { withGate } = await import('../queue/gate.ts');
        await withGate(context.places, 'restore', (check) =>
          restoreThere(cli, context, { name, what }, words, check),
        );
      });
    });
}

function registerSetup(host: Command, cli: Cli): void {
  host
    .command('setup')
    .summary('let a restricted key into an ESX host')
    .description('print, or do, the steps that let the key of this program into an ESX host')
    .argument('<HOST>', 'a host of type esx')
    .option('--run', 'do them, and prove that the key logs in')
    .option('--from <ADDRESS>', 'address of this machine as the host sees it (default: asked there)')
    .addHelpText('after', SETUP_HELP)
    .action(async (name: string, { run = false, from }: { run?: boolean; from?: string }) => {
      await cli.withContext(async (context) => {
        const setup = await setupOf(context, name);
        const steps = await setup.steps(from ?? null);
        await doSteps(cli, setup, steps, run);
        if (!run) return cli.print(`for the shell of ${name}; phd host setup ${name} --run does it`);
        await setup.proveKey();
        cli.print(`${name}: the key alone logs in`);
        cli.print(await setup.rebootWords(cli.signal));
      });
    });
  host
    .command('remove')
    .summary('undo what setup did on an ESX host')
    .description('take the key of this program out of an ESX host; phd.yaml keeps its entry')
    .argument('<HOST>', 'a host of type esx')
    .action(async (name: string) => {
      await cli.withContext(async (context) => {
        const setup = await setupOf(context, name);
        await doSteps(cli, setup, setup.undoSteps(), true);
      });
    });
  host
    .command('check')
    .summary('try what a backup from ESX hosts needs')
    .description(
      'try login, programs, list, way of reading, key, and look for snapshots left; nothing is changed',
    )
    .argument('<HOST...>', 'hosts of type esx')
    .option('--json', 'JSON lines')
    .action(async (names: string[], { json = false }: { json?: boolean }) => {
      await cli.withContext(async (context) => {
        const failures: PhdError[] = [];
        for (const name of names) {
          try {
            failures.push(...(await checkOne(cli, context, name, json)));
          } catch (error) {
            if (cli.signal.aborted) throw error;
            failures.push(cli.reportItemError(error, {}, json));
          }
        }
        cli.setStatusOf(failures);
      });
    });
}

async function setupOf(context: EngineContext, name: string): Promise<EsxSetup> {
  const { EsxHost } = await import('../hosts/esx/esx-host.ts');
  const { EsxSetup } = await import('../hosts/esx/esx-setup.ts');
  const host = await context.host(name);
  if (host instanceof EsxHost) return new EsxSetup(host, context.hostAccess(host.config));
  throw new PhdError('USAGE', `host ${name} is of type ${host.config.type}: this is for type esx`);
}

async function doSteps(
  cli: Cli,
  setup: EsxSetup,
  steps: readonly SetupStep[],
  isRun: boolean,
): Promise<void> {
  for (const step of steps) {
    if (isRun) await setup.run(step, cli.signal);
    cli.print(isRun ? `done: ${step.title}` : `# ${step.title}`);
    if (!isRun) cli.print(step.command);
  }
}

async function checkOne(
  cli: Cli,
  context: EngineContext,
  name: string,
  isJson: boolean,
): Promise<PhdError[]> {
  const lines = await (await setupOf(context, name)).check(cli.signal);
  for (const { what, state, text } of lines) {
    if (isJson) cli.printJson({ event: 'check', host: name, what, state, message: text });
    else cli.print(`${state.padEnd(8)} ${what}: ${escapeText(text)}`);
  }
  const failed = lines.filter(({ state }) => state === 'failed');
  return failed.map(({ what }) => new PhdError('TARGET_REFUSED', `host ${name}: ${what} failed`));
}

function registerStorage(host: Command, cli: Cli): void {
  host
    .command('storage')
    .summary('volumes, devices, LUN paths, NFS of an ESX host')
    .description('show volumes, the devices below them, paths to LUNs, NFS mounts and options of an ESX host')
    .argument('[HOST]', 'a host of type esx')
    .option('--iscsi <NAME>', 'check an iqn., eui. or naa. name; without HOST only that')
    .option('--json', 'JSON lines')
    .action(async (name: string | undefined, { json = false, iscsi }: { json?: boolean; iscsi?: string }) => {
      if (iscsi !== undefined) await checkIscsi(cli, iscsi, json);
      else if (name === undefined)
        throw new PhdError('USAGE', 'name a HOST, or a name to check with --iscsi');
      if (name === undefined) return;
      await cli.withContext(async (context) => {
        const { EsxHost } = await import('../hosts/esx/esx-host.ts');
        const { readEsxStorage } = await import('../hosts/esx/esx-storage.ts');
        const one = await context.host(name);
        if (!(one instanceof EsxHost))
          throw new PhdError('USAGE', `host ${name} is of type ${one.config.type}: this is for type esx`);
        const storage = await readEsxStorage(one.shell, cli.signal);
        if (json) return cli.printJson({ event: 'storage', host: name, ...storage });
        printStorage(cli, storage);
      });
    });
}

/** Throws USAGE with what is wrong with the name. */
async function checkIscsi(cli: Cli, text: string, isJson: boolean): Promise<void> {
  const { checkIscsiName } = await import('../hosts/iscsi-name.ts');
  const checked = checkIscsiName(text);
  if ('fault' in checked)
    throw new PhdError('USAGE', `${escapeText(text)} is no iSCSI name: ${checked.fault}`);
  if (isJson) cli.printJson({ event: 'iscsi', ...checked });
  else
    cli.print(
      `${checked.name}: a good ${checked.form} name${checked.authority ? ` of ${checked.authority}` : ''}`,
    );
}

function printStorage(cli: Cli, storage: EsxStorage): void {
  const { volumes, devices, paths, nfs, nfsOptions, notices } = storage;
  const section = (titles: string[], rows: string[][]): void => {
    if (rows.length === 0) return;
    const columns = titles.map((title) => ({ title }));
    for (const line of printTable(columns, rows)) cli.print(line);
    cli.print('');
  };
  section(
    ['VOLUME', 'TYPE', 'SIZE', 'FREE', 'ON', 'MOUNT POINT'],
    volumes.map((one) => [
      one.name,
      one.type,
      formatBytes(one.sizeBytes),
      formatBytes(one.freeBytes),
      one.on.join(', ') || '-',
      one.mountPoint,
    ]),
  );
  section(
    ['DEVICE', 'SIZE', 'VENDOR', 'MODEL', 'SSD', 'STATUS', 'NAME'],
    devices.map((one) => [
      one.id,
      one.sizeBytes === null ? '-' : formatBytes(one.sizeBytes),
      one.vendor,
      one.model,
      one.isSsd ? 'yes' : 'no',
      one.status,
      one.displayName,
    ]),
  );
  section(
    ['PATH', 'LUN', 'TRANSPORT', 'STATE', 'DEVICE'],
    paths.map((one) => [one.runtimeName, String(one.lun ?? '-'), one.transport, one.state, one.device]),
  );
  section(
    ['NFS VOLUME', 'HOST', 'SHARE', 'ACCESSIBLE', 'READ-ONLY'],
    nfs.map((one) => [
      one.volume,
      one.host,
      one.share,
      one.isAccessible ? 'yes' : 'no',
      one.isReadOnly ? 'yes' : 'no',
    ]),
  );
  section(
    ['NFS OPTION', 'VALUE', 'DEFAULT', 'MEANING'],
    nfsOptions.map((one) => [one.path, one.value, one.default, one.description]),
  );
  for (const notice of notices) cli.warn(notice);
}

async function restoreThere(
  cli: Cli,
  context: EngineContext,
  { name, what }: { name: string; what: string[] },
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
