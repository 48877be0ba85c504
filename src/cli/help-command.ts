/** `phd help [COMMAND...]`: the same as `phd COMMAND --help`. */
import type { Command } from 'commander';
import { PhdError } from '../errors.ts';
import { nearNames } from '../model/near-names.ts';

const FIRST_STEPS = `
First steps:
  phd demo                                      see it work, in a temporary home
  mkdir -p /srv/backups                         make a target's folder yourself
  phd target add 1 --name local --transport vmfs --path /srv/backups
  phd config set datastores '[ /srv/vms ]'      where VMs live on this host
  phd backup /srv/vms/database                  a FULL first, then DELTAs
  phd list                                      what there is
  phd restore --vm database --to /srv/restored  the newest complete run

The configuration is phd.yaml in $PHD_HOME, else in /etc/phd (root) or
~/.config/phd: see phd config --help.
Exit status: 0 done and proved, 1 failed, 2 wrong usage or configuration,
3 damaged data, 4 target not reached, 5 locked or in use, 6 no room,
7 passphrase, 130 cancelled.`;

/** Registered last: it looks for its words among all other commands. */
export function registerHelp(program: Command): void {
  program
    .addHelpText('after', FIRST_STEPS)
    .command('help')
    .summary('show the help of a command')
    .description('show the help of a command, as --help does')
    .argument('[COMMAND...]', 'words of the command, such as target add')
    .action((words: string[]) => {
      let command = program;
      for (const word of words) {
        const next = command.commands.find((one) => one.name() === word);
        if (next === undefined) throw noSuchCommand(command, word);
        command = next;
      }
      command.outputHelp();
    });
}

/**
 * Throws USAGE for a slip that the parser would not name: where the words before the first option name no command it
 * speaks of the option, and where an option is mistyped of the one that is then missing.
 */
export function requireCommand(program: Command, words: readonly string[]): void {
  let command = program;
  for (const word of words) {
    if (word.startsWith('-') || command.commands.length === 0 || command.registeredArguments.length > 0) {
      requireOptions(command, words);
      return;
    }
    // Groups have a help of their own, which is no command of theirs.
    if (word === 'help') return;
    const next = command.commands.find((one) => one.name() === word);
    if (next === undefined) throw noSuchCommand(command, word);
    command = next;
  }
}

function requireOptions(command: Command, words: readonly string[]): void {
  const given = words.filter((word) => word.startsWith('--')).map((word) => word.replace(/=.*/s, ''));
  const isMissing = command.options.some(({ mandatory, long }) => mandatory && !given.includes(long ?? ''));
  const known = command
    .createHelp()
    .visibleOptions(command)
    .map(({ long }) => long ?? '');
  const slip = given.find((word) => !known.includes(word));
  if (!isMissing || slip === undefined || slip === '--') return;
  const near = nearNames(slip, known);
  throw new PhdError(
    'USAGE',
    `unknown option '${slip}'${near.length === 0 ? '' : `; did you mean ${near.join(' or ')}?`}`,
  );
}

/** Throws USAGE where more words stand than the command takes: one that was not heeded might have mattered. */
export function refuseExcess(command: Command): void {
  const takes = command.registeredArguments;
  if (takes.at(-1)?.variadic === true) return;
  const excess = command.args.slice(takes.length);
  if (excess.length === 0) return;
  const path = pathOf(command);
  const what =
    takes.length === 0
      ? `${path} takes options only`
      : `${path} takes ${takes.map((one) => one.name()).join(' and ')}`;
  throw new PhdError(
    'USAGE',
    `${excess.map((word) => JSON.stringify(word)).join(' ')}: ${what}; see ${path} --help`,
  );
}

/** `phd target add` */
function pathOf(command: Command): string {
  const path: string[] = [];
  for (let one: Command | null = command; one !== null; one = one.parent) path.unshift(one.name());
  return path.join(' ');
}

/** USAGE, with the command that is near. */
export function noSuchCommand(parent: Command, word: string): PhdError {
  const near = nearNames(
    word,
    parent
      .createHelp()
      .visibleCommands(parent)
      .map((one) => one.name()),
  );
  const words = near.length === 0 ? '' : `did you mean ${near.join(' or ')}? `;
  return new PhdError(
    'USAGE',
    `there is no command ${JSON.stringify(word)}: ${words}${words === '' ? 'see' : 'See'} ${pathOf(parent)} --help`,
  );
}
