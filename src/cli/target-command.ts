/** `phd target list|add|edit|remove|test|speed-test`. Secrets are named by their source; none is taken on the command line. */
import type { Command } from 'commander';
import type { SettingsChange } from '../engine/configuration.ts';
import { formatAge, formatBytes } from '../engine/display-text.ts';
import { PhdError } from '../errors.ts';
import type { TargetConfig } from '../model/config.ts';
import { type Cli, parseWhole } from './cli.ts';
import { openProgress } from './progress.ts';
import { ACCESS_SETTINGS, addSettings, changeOf, type Setting } from './settings-options.ts';
import { printTable } from './table.ts';

const SETTINGS: Setting[] = [
  { flag: 'name', key: 'name', value: '<name>', help: 'name for people', kind: 'text' },
  { flag: 'transport', key: 'transport', value: '<transport>', help: 'vmfs, ftp or ssh', kind: 'text' },
  {
    flag: 'path',
    key: 'path',
    value: '<path>',
    help: 'root folder of the archives',
    kind: 'text',
  },
  { flag: 'host', key: 'host', value: '<host>', help: 'name or address', kind: 'text' },
  { flag: 'port', key: 'port', value: '<port>', help: 'default: 21 for ftp, 22 for ssh', kind: 'number' },
  { flag: 'user', key: 'user', value: '<user>', help: 'user on the host', kind: 'text' },
  ...ACCESS_SETTINGS,
  { flag: 'tls', key: 'tls', value: '<tls>', help: 'of ftp: none or explicit (none)', kind: 'text' },
  {
    flag: 'max-connections',
    key: 'maxConnections',
    value: '<n>',
    help: '1 to 32 (ftp 4, ssh 2)',
    kind: 'number',
  },
  {
    flag: 'bandwidth-limit',
    key: 'bandwidthLimitBytesPerSecond',
    value: '<n>',
    help: 'bytes a second, 1024 or more (no limit)',
    kind: 'number',
  },
  {
    flag: 'read-back',
    key: 'readBack',
    value: '<part>',
    help: 'of uploads: tail or all (tail)',
    kind: 'text',
  },
  { flag: 'read-only', key: 'readOnly', value: '<bool>', help: 'true or false (false)', kind: 'switch' },
];

const EXAMPLES = `
Secrets are never taken on the command line: put them into a file, as by
( umask 077; cat > FILE ), and name it.

Examples:
  phd target add 1 --name local --transport vmfs --path /srv/backups
  phd target add 2 --name ftp1 --transport ftp --host 192.168.1.110 \\
      --user ftpuser --path /backups --password-file secrets/ftp1 --tls explicit
  phd target add 3 --name vault --transport ssh --host vault --user backup \\
      --path /srv/backups --private-key-file secrets/id \\
      --known-hosts-file known_hosts
  phd target test 3`;

export function registerTarget(program: Command, cli: Cli): void {
  const target = program.command('target').description('list, add, edit, remove and test targets');
  target
    .command('list')
    .description('list the targets and the age of their index')
    .option('--json', 'JSON lines')
    .action((options: { json?: boolean }) => listTargets(cli, options.json ?? false));

  const add = target
    .command('add')
    .description(
      'add a target to phd.yaml; name, transport and path are needed, for ftp and ssh also host and user',
    )
    .argument('<number>', '1 to 9999; archives are named N:folder/file by it')
    .addHelpText('after', EXAMPLES)
    .action(async (text: string, options: Record<string, string>) => {
      const number = parseWhole(text, 'number', 1, 9999);
      const settings = changeOf(SETTINGS, options);
      requireSettings(settings);
      const { addTarget, openPlaces } = await import('../engine/configuration.ts');
      await addTarget(await openPlaces(cli.env), { number, ...settings });
      cli.print(`target ${number} is added: phd target test ${number} tries it`);
    });
  const edit = target
    .command('edit')
    .description('change settings of a target; an empty value removes a setting')
    .argument('<number>', '1 to 9999, as phd target list shows it')
    .action(async (text: string, options: Record<string, string>) => {
      const number = parseWhole(text, 'number', 1, 9999);
      const change = changeOf(SETTINGS, options);
      if (Object.keys(change).length === 0) throw new PhdError('USAGE', 'target edit: no setting is given');
      const { editTarget, openPlaces } = await import('../engine/configuration.ts');
      await editTarget(await openPlaces(cli.env), number, change);
      cli.print(`target ${number} is changed`);
    });
  for (const command of [add, edit]) addSettings(command, SETTINGS);
  target
    .command('remove')
    .description('take a target out of the configuration; its archives stay')
    .argument('<number>', '1 to 9999, as phd target list shows it')
    .action(async (text: string) => {
      const number = parseWhole(text, 'number', 1, 9999);
      const { openPlaces, removeTarget } = await import('../engine/configuration.ts');
      for (const user of await removeTarget(await openPlaces(cli.env), number))
        cli.warn(`${user} still names target ${number}: change it, see phd config check`);
      cli.print(`target ${number} is removed; its archives are left as they are`);
    });
  registerTests(target, cli);
}

function registerTests(target: Command, cli: Cli): void {
  target
    .command('test')
    .description('try all that a target must be able to do, and clean up')
    .argument('<number>', '1 to 9999, as phd target list shows it')
    .option('--large', 'also write a file of more than 4 GiB')
    .option('--json', 'JSON lines')
    .action(async (text: string, options: { large?: boolean; json?: boolean }) => {
      const number = parseWhole(text, 'number', 1, 9999);
      await cli.withContext(async (context) => {
        const { testTarget } = await import('../engine/target-checks.ts');
        const result = await testTarget(context, number, {
          largeFile: options.large ?? false,
          signal: cli.signal,
          onStep: (step) => {
            if (options.json) cli.printJson({ event: 'step', target: number, ...step });
            else cli.print(`${step.ok ? 'ok    ' : 'FAILED'}  ${step.name.padEnd(11)}  ${step.detail}`);
          },
        });
        for (const warning of result.warnings) cli.warn(warning);
        const failed = result.steps.find((step) => !step.ok);
        if (failed !== undefined) {
          throw new PhdError(
            'TARGET_REFUSED',
            `target ${number} failed its test at "${failed.name}": ${failed.detail}`,
          );
        }
      });
    });
  target
    .command('speed-test')
    .description('write 200 MB of zeros to a target and read them back')
    .argument('<number>', '1 to 9999, as phd target list shows it')
    .option('--json', 'JSON lines')
    .action(async (text: string, options: { json?: boolean }) => {
      const number = parseWhole(text, 'number', 1, 9999);
      const view = await openProgress(cli.streams, options.json ?? false);
      await cli.withContext(async (context) => {
        const { speedTestTarget } = await import('../engine/target-checks.ts');
        const result = await speedTestTarget(context, number, {
          signal: cli.signal,
          onProgress: (figures) => view.show(figures),
        }).finally(() => view.end());
        if (options.json) cli.printJson({ event: 'done', target: number, ...result });
        else {
          cli.print(`up    ${formatBytes(result.upBytesPerSecond)}/s`);
          cli.print(`down  ${formatBytes(result.downBytesPerSecond)}/s`);
          for (const advice of result.advice) cli.print(advice);
        }
      });
    });
}

/** Throws USAGE with all that a new target lacks. */
function requireSettings(settings: SettingsChange): void {
  const { transport } = settings;
  const needed = [
    'name',
    'transport',
    'path',
    ...(transport === 'ftp' || transport === 'ssh' ? ['host', 'user'] : []),
  ];
  const missing = needed.filter((key) => !(key in settings)).map((key) => `--${key}`);
  if (missing.length > 0) throw new PhdError('USAGE', `target add: ${missing.join(', ')} missing`);
}

async function listTargets(cli: Cli, isJson: boolean): Promise<void> {
  await cli.withContext(async (context) => {
    const nowMs = context.clock.now().getTime();
    const states = new Map(context.index.targets().map((one) => [one.number, one]));
    const rows = context.config.targets.map((one) => ({ target: one, state: states.get(one.number) }));
    if (isJson) {
      for (const { target, state } of rows) {
        const { number, name, transport, host, port, user, path, readOnly } = target;
        const listedAt = state?.listedMs == null ? null : new Date(state.listedMs).toISOString();
        cli.printJson({
          number,
          name,
          transport,
          host,
          port,
          user,
          path,
          readOnly,
          listedAt,
          error: state?.error ?? null,
        });
      }
      return;
    }
    if (rows.length === 0) return cli.warn(`${context.config.file} names no target; phd target add adds one`);
    const columns = ['TARGET', 'NAME', 'TRANSPORT', 'PLACE', 'INDEX'].map((title) => ({ title }));
    const cells = rows.map(({ target, state }) => [
      String(target.number),
      target.name,
      target.readOnly ? `${target.transport}, read only` : target.transport,
      printPlace(target),
      `${state?.listedMs == null ? 'never listed' : `${formatAge(nowMs - state.listedMs)} old`}${state?.error ? `; ${state.error.replace(`target ${target.number} (${target.name}): `, '')}` : ''}`,
    ]);
    for (const line of printTable(columns, cells)) cli.print(line);
  });
}

function printPlace(target: TargetConfig): string {
  if (target.host === null) return target.path;
  const port = target.port === null ? '' : `:${target.port}`;
  return `${target.user ?? ''}@${target.host}${port}${target.path.startsWith('/') ? '' : '/'}${target.path}`;
}
