/** `phd host list`, and the parent of what each kind of host has of its own. */
import type { Command } from 'commander';
import type { EngineContext } from '../engine/context.ts';
import { escapeText } from '../engine/display-text.ts';
import { PhdError } from '../errors.ts';
import type { HostVm } from '../hosts/host.ts';
import type { Cli } from './cli.ts';
import { registerHostDevice } from './host-device-command.ts';
import { registerHostEsx } from './host-esx-command.ts';
import { registerHostRestore } from './host-restore-command.ts';
import { registerHostXen } from './host-xen-command.ts';
import { ACCESS_SETTINGS, addSettings, changeOf, type Setting } from './settings-options.ts';
import { printTable } from './table.ts';

const SETTINGS: Setting[] = [
  { flag: 'type', key: 'type', value: '<type>', help: 'esx, xen or device', kind: 'text' },
  { flag: 'host', key: 'host', value: '<host>', help: 'name or address', kind: 'text' },
  {
    flag: 'port',
    key: 'port',
    value: '<port>',
    help: 'default: 22, for xen 443',
    kind: 'number',
  },
  { flag: 'user', key: 'user', value: '<user>', help: 'user on the host', kind: 'text' },
  ...ACCESS_SETTINGS,
  {
    flag: 'member-tls-pin',
    key: 'memberTlsPins',
    value: '<sha256>',
    help: 'of xen: those of the other members',
    kind: 'list',
  },
  {
    flag: 'device',
    key: 'devices',
    value: '<device>',
    help: 'of device: block devices, /dev/sda',
    kind: 'list',
  },
];

const EXAMPLES = `
Hosts stand in phd.yaml under hosts:. A VM of one is backed up by
phd backup HOST/VM.

Examples:
  phd host list
  phd host list esx01 --json`;

const ADD_EXAMPLES = `
Secrets are never taken on the command line: put them into a file, as by
( umask 077; cat > FILE ), and name it.

Examples:
  phd host add esx01 --type esx --host 192.168.1.20 --user root \\
      --private-key-file secrets/id
  phd host add xen1 --type xen --host 192.168.1.30 --user root \\
      --password-file secrets/xen1 --tls-pin SHA256
  phd host add here --type device --device /dev/sda /dev/sdb`;

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
  registerChanges(host, cli);
  registerHostDevice(host, cli);
  registerHostEsx(host, cli);
  registerHostRestore(host, cli);
  registerHostXen(host, cli);
}

function registerChanges(host: Command, cli: Cli): void {
  const add = host
    .command('add')
    .description('add a host to phd.yaml; its type is needed, for esx and xen also host and user')
    .argument('<name>', 'its VMs are named HOST/VM by it')
    .addHelpText('after', ADD_EXAMPLES)
    .action(async (name: string, options: Record<string, string>) => {
      const settings = changeOf(SETTINGS, options);
      if (settings.type == null)
        throw new PhdError('USAGE', 'host add: --type is missing: esx, xen or device');
      const { openPlaces } = await import('../engine/configuration.ts');
      const { addHost } = await import('../engine/host-configuration.ts');
      await addHost(await openPlaces(cli.env), { name, ...settings });
      cli.print(`host ${name} is added: phd host list ${name} tries it`);
    });
  const edit = host
    .command('edit')
    .description('change settings of a host; an empty value removes a setting')
    .argument('<name>', 'as phd host list shows it')
    .action(async (name: string, options: Record<string, string>) => {
      const change = changeOf(SETTINGS, options);
      if (Object.keys(change).length === 0) throw new PhdError('USAGE', 'host edit: no setting is given');
      const { openPlaces } = await import('../engine/configuration.ts');
      const { editHost } = await import('../engine/host-configuration.ts');
      await editHost(await openPlaces(cli.env), name, change);
      cli.print(`host ${name} is changed`);
    });
  for (const command of [add, edit]) addSettings(command, SETTINGS);
  host
    .command('forget')
    .description('take a host out of the configuration; its archives, and what lies on it, stay')
    .argument('<name>', 'as phd host list shows it')
    .action(async (name: string) => {
      const { openPlaces } = await import('../engine/configuration.ts');
      const { forgetHost } = await import('../engine/host-configuration.ts');
      await forgetHost(await openPlaces(cli.env), name);
      cli.print(`host ${name} is forgotten; its archives are left as they are`);
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
  if (wanted.length === 0) cli.warn(`${context.config.file} names no host: phd host add adds one`);
  for (const name of wanted) {
    try {
      const host = await context.host(name);
      const vms = await host.listVms(cli.signal, (fault) => {
        failures.push(cli.reportItemError(new PhdError('TARGET_LIED', `host ${name}: ${fault}`), {}, isJson));
      });
      for (const twin of twinsOf(vms))
        cli.warn(`host ${name}: several VMs are named ${escapeText(twin)}: they are told by their UUIDs`);
      for (const vm of vms) {
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

/** Names that several VMs bear. */
function twinsOf(vms: readonly HostVm[]): string[] {
  const names = vms.map(({ name }) => name);
  return [...new Set(names.filter((name, at) => names.indexOf(name) !== at))];
}

function cellsOf(host: string, { name, power, uuid, id, place }: HostVm): string[] {
  return [host, name, power, uuid ?? '-', id, place ?? '-'];
}
