/** `phd passphrase set|test|archives`. A passphrase is asked for without echo, or read as one line of standard input. */
import type { Command } from 'commander';
import { PhdError } from '../errors.ts';
import { type Cli, parseChoice, parseWhole } from './cli.ts';
import { askSecret } from './prompt.ts';

const KINDS = ['system', 'master'] as const;

const HELP = `
It is asked for without echo, or read as one line of standard input, and kept in
a file of mode 0600 that phd.yaml names. The system passphrase is that of this
host; the master passphrase, if there is one, opens the same archives.

Examples:
  phd passphrase set
  phd passphrase set master
  phd passphrase archives --vm crm
  phd passphrase test < /run/secrets/system`;

export function registerPassphrase(program: Command, cli: Cli): void {
  const passphrase = program
    .command('passphrase')
    .description('set and test the passphrases of archives')
    .addHelpText('after', HELP);
  passphrase
    .command('set')
    .description('keep a new passphrase; the one before stays as a former one, for older archives')
    .argument('[kind]', 'system or master', 'system')
    .action(async (word: string) => {
      const kind = parseChoice(word, 'passphrase', KINDS);
      const { openPlaces, setPassphrase } = await import('../engine/configuration.ts');
      const places = await openPlaces(cli.env);
      const first = await askSecret(cli.streams, `New ${kind} passphrase: `);
      if (cli.streams.stdin.isTTY && first !== (await askSecret(cli.streams, 'Once more: '))) {
        throw new PhdError('USAGE', 'the two passphrases differ; nothing was changed');
      }
      cli.print(`the ${kind} passphrase is kept in ${await setPassphrase(places, kind, first)}`);
    });
  passphrase
    .command('test')
    .description('compare a passphrase with the one in use')
    .argument('[kind]', 'system or master', 'system')
    .action(async (word: string) => {
      const kind = parseChoice(word, 'passphrase', KINDS);
      const { openPlaces, requirePassphrase, testPassphrase } = await import('../engine/configuration.ts');
      const places = await openPlaces(cli.env);
      await requirePassphrase(places, kind);
      await testPassphrase(places, cli.env, kind, await askSecret(cli.streams, `The ${kind} passphrase: `));
      cli.print(`this is the ${kind} passphrase in use`);
    });
  passphrase
    .command('archives')
    .description('try the passphrases on every encrypted run: which archives open with which')
    .option('--vm <PART>', 'VM names that hold this part, in any case')
    .option('--date <D>', 'YYYY-MM-DD, YYYY-MM-DDTHH:MM or a range D..D')
    .option('--target <N>', 'number of a target (default: all)')
    .option('--json', 'JSON lines')
    .action((words: ArchivesWords) => tryArchives(cli, words));
}

interface ArchivesWords {
  vm?: string;
  date?: string;
  target?: string;
  json?: boolean;
}

/** One line for each run; the status tells of those that nothing opens. */
async function tryArchives(cli: Cli, { vm, date, target, json }: ArchivesWords): Promise<void> {
  const { parseDateRange } = await import('../engine/list-archives.ts');
  const filter = {
    ...(vm === undefined ? {} : { vm }),
    ...(date === undefined ? {} : parseDateRange(date)),
    ...(target === undefined ? {} : { target: parseWhole(target, '--target', 1, 9999) }),
  };
  await cli.withContext(async (context) => {
    const { requireTargets } = await import('../engine/request-check.ts');
    const { openingPassphrases } = await import('../engine/opening-passphrases.ts');
    requireTargets(context, [filter.target]);
    const runs = await openingPassphrases(context, filter, { signal: cli.signal });
    for (const { row, opens, fault } of runs) {
      const archive = `${row.targetNumber}:${row.folder}/${row.file}`;
      if (fault !== null) cli.warn(fault.message);
      if (json) cli.printJson({ archive, vm: row.vm, time: row.stamp, opens, code: fault?.code ?? null });
      else if (fault === null) cli.print(`${opens.length === 0 ? 'NOTHING' : opens.join(', ')}  ${archive}`);
    }
    if (runs.length === 0) cli.warn('no archive of the index is encrypted: phd index looks again');
    cli.setStatusOf(
      runs.flatMap(({ opens, fault, row }) => {
        if (fault !== null) return [fault];
        const text = `no passphrase at hand opens ${row.folder}/${row.file}`;
        return opens.length > 0 ? [] : [new PhdError('PASSPHRASE_WRONG', text)];
      }),
    );
  });
}
