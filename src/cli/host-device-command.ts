/** `phd host devices` and `phd host checklist`: machines whose block devices are imaged. */
import type { Command } from 'commander';
import type { EngineContext } from '../engine/context.ts';
import { escapeText, formatBytes } from '../engine/display-text.ts';
import { PhdError } from '../errors.ts';
import type { DeviceHost, SurveyedDevice } from '../hosts/device/device-host.ts';
import type { Cli } from './cli.ts';
import { printTable } from './table.ts';

const DEVICES_HELP = `
Of hosts of type device. A device that is in use is imaged only with
--assume-off; where LVM lies on it, name the device of a snapshot instead.

Examples:
  phd host devices
  phd host devices oldbox --json`;

const CHECKLIST_HELP = `
The same list lies in each archive of the machine, as NAME.checklist.log
beside the VMX that phd restore --vmx and phd vmx write.

Examples:
  phd host checklist oldbox`;

export function registerHostDevice(host: Command, cli: Cli): void {
  host
    .command('devices')
    .description('size, model, serial, partitions and use of the devices of machines')
    .argument('[NAME...]', 'hosts of type device (default: all)')
    .option('--json', 'JSON lines')
    .addHelpText('after', DEVICES_HELP)
    .action(async (names: string[], { json = false }: { json?: boolean }) => {
      await cli.withContext(async (context) => {
        await eachHost(cli, context, names, json, async (one) => {
          const surveyed = await one.survey(cli.signal);
          printDevices(cli, one.config.name, surveyed, json);
          return surveyed.flatMap(({ error }) => (error === null ? [] : [error]));
        });
      });
    });
  host
    .command('checklist')
    .description('what to look at when a machine of devices starts as a VM')
    .argument('[NAME...]', 'hosts of type device (default: all)')
    .option('--json', 'JSON lines')
    .addHelpText('after', CHECKLIST_HELP)
    .action(async (names: string[], { json = false }: { json?: boolean }) => {
      await cli.withContext(async (context) => {
        const { checkListText } = await import('../hosts/device/guest-checklist.ts');
        await eachHost(cli, context, names, json, async (one) => {
          const { name } = one.config;
          const { family, items, failed } = await one.checkList(cli.signal);
          if (json) for (const item of items) cli.printJson({ event: 'check', host: name, family, ...item });
          else {
            cli.print(`${name} as a VM (${family} by its partitions)`);
            for (const line of checkListText(items)) cli.print(line);
          }
          return failed;
        });
      });
    });
}

/** A host that fails does not stop the others. Throws USAGE for one of another type. */
async function eachHost(
  cli: Cli,
  context: EngineContext,
  names: readonly string[],
  isJson: boolean,
  work: (host: DeviceHost) => Promise<PhdError[]>,
): Promise<void> {
  const { DeviceHost } = await import('../hosts/device/device-host.ts');
  const all = context.config.hosts.filter(({ type }) => type === 'device').map(({ name }) => name);
  const wanted = names.length > 0 ? names : all;
  if (wanted.length === 0)
    cli.warn(`${context.config.file} names no host of type device: phd host add NAME --type device adds one`);
  const failures: PhdError[] = [];
  for (const name of wanted) {
    try {
      const host = await context.host(name);
      if (!(host instanceof DeviceHost))
        throw new PhdError('USAGE', `host ${name} is of type ${host.config.type}: this is for type device`);
      for (const error of await work(host)) failures.push(cli.reportItemError(error, {}, isJson));
    } catch (error) {
      if (cli.signal.aborted) throw error;
      failures.push(cli.reportItemError(error, {}, isJson));
    }
  }
  cli.setStatusOf(failures);
}

function printDevices(cli: Cli, host: string, surveyed: readonly SurveyedDevice[], isJson: boolean): void {
  const rows: string[][] = [];
  for (const { path, facts, table } of surveyed) {
    if (facts === null) continue;
    const { sizeBytes, sectorBytes, model, serial, uses } = facts;
    if (isJson) {
      const { kind, partitions, isEfi, notices } = table;
      cli.printJson({
        event: 'device',
        host,
        path,
        sizeBytes,
        sectorBytes,
        model,
        serial,
        uses,
        table: kind,
        isEfi,
        partitions,
        notices,
      });
    }
    const parts = table.partitions
      .map(({ number, type, content }) => `${number} ${content ?? type}`)
      .join(', ');
    const row = [
      host,
      path,
      formatBytes(sizeBytes),
      model ?? '-',
      serial ?? '-',
      table.kind,
      parts || '-',
      uses.join('; ') || 'no',
    ];
    rows.push(row.map(escapeText));
  }
  if (isJson || rows.length === 0) return;
  const titles = ['HOST', 'DEVICE', 'SIZE', 'MODEL', 'SERIAL', 'TABLE', 'PARTITIONS', 'IN USE'].map(
    (title) => ({ title }),
  );
  for (const line of printTable(titles, rows)) cli.print(line);
}
