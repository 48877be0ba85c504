/** `phd host setup`, `check`, `remove` and `storage`: what ESX hosts have of their own. */
import type { Command } from 'commander';
import type { EngineContext } from '../engine/context.ts';
import { escapeText, formatBytes } from '../engine/display-text.ts';
import { PhdError } from '../errors.ts';
import type { EsxSetup, SetupStep } from '../hosts/esx/esx-setup.ts';
import type { EsxStorage } from '../hosts/esx/esx-storage.ts';
import type { CheckLine } from '../hosts/host.ts';
import type { Cli } from './cli.ts';
import { printTable } from './table.ts';

const SETUP_HELP = `
Lets the private key of the host's entry in phd.yaml in, from this machine's
address alone, and for commands as this program uses them: no shell, no SFTP,
no forwarding. A role of ESX does not bind SSH, so a key is root there: keep it.

Examples:
  phd host setup esx01              prints the steps
  phd host setup esx01 --run        does them, and logs in by the key alone`;

export function registerHostEsx(host: Command, cli: Cli): void {
  registerSetup(host, cli);
  registerStorage(host, cli);
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
    .summary('try what a backup from hosts needs')
    .description(
      'try login, programs, list, way of reading, key, or members and storage of a pool, and look for snapshots left; nothing is changed',
    )
    .argument('<HOST...>', 'hosts of type esx or xen')
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
  const lines =
    (await context.host(name)).config.type === 'xen'
      ? await checkXen(cli, context, name)
      : await (await setupOf(context, name)).check(cli.signal);
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

async function checkXen(cli: Cli, context: EngineContext, name: string): Promise<CheckLine[]> {
  const { xenHost } = await import('../engine/restore-to-xen.ts');
  const { checkPool } = await import('../hosts/xen/xen-check.ts');
  return await checkPool(await xenHost(context, name), cli.signal);
}
