/** `phd passphrase set|test`. A passphrase is asked for without echo, or read as one line of standard input. */
import type { Command } from 'commander';
import { PhdError } from '../errors.ts';
import { type Cli, parseChoice } from './cli.ts';
import { askSecret } from './prompt.ts';

const KINDS = ['system', 'master'] as const;

const HELP = `
It is asked for without echo, or read as one line of standard input, and kept in
a file of mode 0600 that phd.yaml names. The system passphrase is that of this
host; the master passphrase, if there is one, opens the same archives.

Examples:
  phd passphrase set
  phd passphrase set master
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
      const { openPlaces, testPassphrase } = await import('../engine/configuration.ts');
      const places = await openPlaces(cli.env);
      await testPassphrase(places, cli.env, kind, await askSecret(cli.streams, `The ${kind} passphrase: `));
      cli.print(`this is the ${kind} passphrase in use`);
    });
}
