/** `phd config check|get|set`. */
import type { Command } from 'commander';
import { PhdError } from '../errors.ts';
import type { Cli } from './cli.ts';

export function registerConfig(program: Command, cli: Cli): void {
  const config = program.command('config').description('check, read and change the configuration');
  config
    .command('check')
    .description(
      'name every fault of phd.yaml, secrets that cannot be read included, and keys that are not known; status 2 for a fault',
    )
    .option('--json', 'JSON lines')
    .action(async ({ json: isJson = false }: { json?: boolean }) => {
      const { checkConfig, openPlaces, unknownConfigKeys } = await import('../engine/configuration.ts');
      const places = await openPlaces(cli.env);
      const warnings = await unknownConfigKeys(places);
      for (const message of warnings) {
        cli.warn(`warning: ${message}`);
        if (isJson) cli.printJson({ event: 'warning', code: null, message });
      }
      const faults = await checkConfig(places, cli.env);
      cli.setStatusOf(
        faults.map((fault) => cli.reportItemError(new PhdError('CONFIG_INVALID', fault), {}, isJson)),
      );
      if (faults.length > 0) return;
      if (isJson) cli.printJson({ event: 'done', warnings: warnings.length, code: null, message: null });
      else cli.print(`the configuration in ${places.configDir} is valid`);
    });
  config
    .command('get')
    .description('print the value of a key, such as index.maxAgeMinutes or targets[0].path, as JSON')
    .argument('<key>')
    .action(async (key: string) => {
      const { getSetting, openPlaces } = await import('../engine/configuration.ts');
      cli.printJson(await getSetting(await openPlaces(cli.env), key));
    });
  config
    .command('set')
    .description('set a key to a value written as YAML; comments and other keys stay')
    .argument('<key>')
    .argument('[value]')
    .option('--remove', 'take the key out, so that its default holds')
    .action(async (key: string, value: string | undefined, options: { remove?: boolean }) => {
      if ((value === undefined) !== (options.remove ?? false)) {
        throw new PhdError('USAGE', 'config set: give either a value or --remove');
      }
      const { openPlaces, setSetting } = await import('../engine/configuration.ts');
      await setSetting(await openPlaces(cli.env), key, value ?? null);
    });
}
