/** `phd config check|get|set`. */
import type { Command } from 'commander';
import { PhdError } from '../errors.ts';
import type { Cli } from './cli.ts';
import { registerCopies } from './copies-command.ts';

const KEYS = `
Keys, with their defaults (for others: phd target add, phd passphrase set):
  datastores: []                      folders in which VMs lie
  backup.target                       (the lowest number that may be written)
  backup.codec: gzip                  of FULLs: gzip, zstd or lzop
  backup.level                        of the codec (gzip 1, zstd 3, lzop 1)
  backup.encrypt: false               true needs passphrases
  backup.fullAboveChangedPercent: 50  more changed blocks than this make a FULL
  backup.fullOffline: refused         allowed: FULLs may have gone to tape
  index.maxAgeMinutes: 15             an older index is renewed for a restore
  jobs.atOnce: 1                      jobs at the same time, 1 to 4
  jobs.keepDays: 90                   ended jobs are kept so many days
  jobs.keepCount: 1000                and so many of them
  jobs.restoreQueue: true             false: the daemon starts no restores
  replication.enabled: false          the daemon runs passes of phd replicate
  replication.everyMinutes: 60        so often
  replication.defaultVolume           folder for lines of phd replicate load
  replication.inPlace: true           false: replicas are written whole
  replication.assumeOff: false        true: overwrite where nobody can tell
  verifyPlan.enabled: false           the daemon verifies archives again
  verifyPlan.everyDays: 30            each so often
  verifyPlan.window                   only at this time: 22:00-06:00
  verifyPlan.bandwidthLimitBytesPerSecond (that of each target)

Examples:
  phd config set datastores '[ /srv/vms, /vmfs/volumes ]'
  phd config set backup.codec zstd
  phd config get jobs.atOnce
  phd config set jobs.atOnce --remove`;

export function registerConfig(program: Command, cli: Cli): void {
  const config = program
    .command('config')
    .description('check, read and change the configuration')
    .addHelpText('after', KEYS);
  registerCopies(config, cli);
  config
    .command('check')
    .description(
      'name every fault of phd.yaml, secrets that cannot be read included, and keys that are not known; status 2 for a fault',
    )
    .option('--json', 'JSON lines')
    .action(async ({ json: isJson = false }: { json?: boolean }) => {
      const { checkConfig, configDoubts, openPlaces, readConfig, unknownConfigKeys } = await import(
        '../engine/configuration.ts'
      );
      const places = await openPlaces(cli.env);
      const warnings = await unknownConfigKeys(places);
      const faults = await checkConfig(places, cli.env);
      if (faults.length === 0) {
        const { jobFaults } = await import('../backup-jobs/job.ts');
        const config = await readConfig(places);
        faults.push(...jobFaults(config).map(({ text }) => text));
        if (faults.length === 0) warnings.push(...configDoubts(config));
      }
      for (const message of warnings) {
        cli.warn(`warning: ${message}`);
        if (isJson) cli.printJson({ event: 'warning', code: null, message });
      }
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
      const { openPlaces, setSetting, unknownConfigKeys } = await import('../engine/configuration.ts');
      const places = await openPlaces(cli.env);
      await setSetting(places, key, value ?? null);
      for (const unknown of await unknownConfigKeys(places))
        if (value !== undefined && unknown.includes(`: ${key}: `)) cli.warn(`warning: ${unknown}`);
    });
}
