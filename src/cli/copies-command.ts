/** `phd config copy`, `phd config adopt`: copies of the configuration on targets, and a new host that takes one over. */
import type { Command } from 'commander';
import type { EngineContext } from '../engine/context.ts';
import { PhdError } from '../errors.ts';
import type { Adoption } from '../safekeeping/adopt.ts';
import type { FoundCopy } from '../safekeeping/copy-place.ts';
import { type Cli, parseWhole } from './cli.ts';

interface AdoptWords {
  target: string;
  from?: string;
  dryRun?: boolean;
  yes?: boolean;
}

const ADOPT_EXAMPLES = `
On a new host:
  phd target add 1 --name vault --transport ssh --host vault --user backup \\
      --path /srv/backups --private-key-file secrets/id
  phd config adopt --target 1`;

export function registerCopies(config: Command, cli: Cli): void {
  config
    .command('copy')
    .description(
      'put a copy of phd.yaml without secrets, and of vmdks.auto, on every target that may be written; the daemon does it after each change, phd backup on the target it writes to',
    )
    .option('--json', 'JSON lines')
    .action(({ json }: { json?: boolean }) =>
      cli.withContext((context) => copy(cli, context, json ?? false)),
    );
  config
    .command('adopt')
    .description('take over the configuration that another host left on a target; shows it first')
    .requiredOption('--target <N>', 'where the copy lies')
    .option('--from <HOST>', 'whose, where there are several')
    .option('--dry-run', 'only show what would be taken over')
    .option('--yes', 'do not ask')
    .addHelpText('after', ADOPT_EXAMPLES)
    .action((words: AdoptWords) => cli.withContext((context) => adoptFrom(cli, context, words)));
}

async function copy(cli: Cli, context: EngineContext, isJson: boolean): Promise<void> {
  const { keepCopies } = await import('../safekeeping/copies.ts');
  const results = await keepCopies(context, cli.env);
  const failures: PhdError[] = [];
  for (const { targetNumber, error, isNew } of results) {
    if (error !== null) failures.push(cli.reportItemError(error, {}, isJson));
    else if (isJson) cli.printJson({ event: 'done', target: targetNumber, new: isNew });
    else cli.print(`target ${targetNumber}: ${isNew ? 'the copy is written' : 'has this copy already'}`);
  }
  if (results.length === 0) cli.warn('there is no target that may be written: phd target add adds one');
  cli.setStatusOf(failures);
}

/** After a backup: its target gets a copy of what has changed. A copy that fails is told and is no failure of the backup. */
export async function copyAfterBackup(
  cli: Cli,
  context: EngineContext,
  targets: readonly number[],
): Promise<void> {
  try {
    const { keepCopies } = await import('../safekeeping/copies.ts');
    for (const { error } of await keepCopies(context, cli.env, targets))
      if (error) cli.warnOnce(error.message);
  } catch (error) {
    cli.warnOnce((error as Error).message);
  }
}

async function adoptFrom(cli: Cli, context: EngineContext, words: AdoptWords): Promise<void> {
  const number = parseWhole(words.target, '--target', 1, 9999);
  const { adopt, copiesOn, planAdoption } = await import('../safekeeping/adopt.ts');
  const found = chooseCopy(await copiesOn(context, number), number, words.from);
  const adoption = await planAdoption(context, number, found);
  tell(cli, adoption, found);
  if (words.dryRun) return;
  if (!words.yes) {
    const { askYes } = await import('./prompt.ts');
    if (!(await askYes(cli.streams, 'Take this over?')))
      throw new PhdError('CANCELLED', 'nothing is taken over: answer yes, or give --yes');
  }
  await adopt(context, adoption);
  cli.print(`taken over from ${adoption.hostName} into ${context.config.file}`);
}

function chooseCopy(copies: readonly FoundCopy[], target: number, from: string | undefined): FoundCopy {
  const names = copies.map(({ hostName }) => hostName).join(', ');
  if (copies.length === 0)
    throw new PhdError('NOT_FOUND', `target ${target} holds no copy of a configuration`);
  const chosen = from === undefined ? copies : copies.filter(({ hostName }) => hostName === from);
  const [first, second] = chosen;
  if (first === undefined)
    throw new PhdError('NOT_FOUND', `target ${target} holds no copy of ${from}; it has those of ${names}`);
  if (second !== undefined)
    throw new PhdError(
      'USAGE',
      `target ${target} holds copies of several hosts: give --from, one of ${names}`,
    );
  return first;
}

function tell(cli: Cli, { summary, missing }: Adoption, { hostName, time }: FoundCopy): void {
  cli.print(`copy of ${hostName}, made ${time} (UTC):`);
  for (const line of summary) cli.print(`  ${line}`);
  if (missing.length > 0) cli.print('still to be done:');
  for (const line of missing) cli.print(`  ${line}`);
}
