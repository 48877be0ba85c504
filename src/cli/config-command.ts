/** `phd config check|get|set`. */
import type { Command } from 'commander';
import { PhdError } from '../errors.ts';
import type { Cli } from './cli.ts';

export function registerConfig(program: Command, cli: Cli): void {
  const config = program.command('config').description('check, read and change the configuration');
  config
    .command('check')
    .description('name every fault of phd.yaml, secrets that cannot be read included')
    .action(async () => {
      const { checkConfig, openPlaces } = await import('../engine/configuration.ts');
      const places = await openPlaces(cli.env);
      const faults = await checkConfig(places, cli.env);
      for (const fault of faults) cli.warn(fault);
      cli.setStatusOf(faults.map((fault) => new PhdError('CONFIG_INVALID', fault)));
      if (faults.length === 0) cli.print(`the configuration in ${places.configDir} is valid`);
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
