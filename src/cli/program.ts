/** The command line: all commands, and what stands before them. */
import { Command } from 'commander';
import { PROGRAM } from '../engine/version.ts';
import { registerBackup } from './backup-command.ts';
import { registerBackupJobs } from './backup-jobs-command.ts';
import { Cli, type CliStreams, parserWords } from './cli.ts';
import { registerConfig } from './config-command.ts';
import { CONSOLE_OPTIONS, type ConsoleWords } from './console-words.ts';
import { registerDaemon } from './daemon-command.ts';
import { registerDemo } from './demo-command.ts';
import { registerExplain } from './explain-command.ts';
import { noSuchCommand } from './help-command.ts';
import { registerHost } from './host-command.ts';
import { registerIndex } from './index-command.ts';
import { registerJobs } from './jobs-command.ts';
import { registerList } from './list-command.ts';
import { registerLocks } from './locks-command.ts';
import { registerLog } from './log-command.ts';
import { registerPassphrase } from './passphrase-command.ts';
import { registerPlan } from './plan-command.ts';
import { registerReplicate } from './replicate-command.ts';
import { registerRestore } from './restore-command.ts';
import { registerSheet } from './sheet-command.ts';
import { registerStatus } from './status-command.ts';
import { registerStub } from './stub-command.ts';
import { registerTarget } from './target-command.ts';
import { registerVerify } from './verify-command.ts';
import { registerVmx } from './vmx-command.ts';

/** The console, which this room does not know. */
export interface ConsoleDoor {
  /** Runs until it is left; returns the exit status. */
  open(env: NodeJS.ProcessEnv, streams: CliStreams, words: ConsoleWords): Promise<number>;
  /** All menus and keys, line by line. */
  printedKeys(): Promise<readonly string[]>;
}

/** Every command file, in the order of the help. */
const REGISTRARS: ((program: Command, cli: Cli) => void)[] = [
  registerBackup,
  registerIndex,
  registerList,
  registerRestore,
  registerPlan,
  registerVerify,
  registerReplicate,
  (program, cli) => registerVmx(program, cli),
  (program, cli) =>
    registerStub(program, cli, async (flatPath, type, adapterType) =>
      (await import('../engine/index.ts')).writeStub(flatPath, type, adapterType),
    ),
  registerTarget,
  registerHost,
  registerBackupJobs,
  registerConfig,
  registerStatus,
  registerSheet,
  registerPassphrase,
  registerJobs,
  registerLocks,
  registerDaemon,
  registerLog,
  registerExplain,
];

function registerKeys(program: Command, cli: Cli, door: ConsoleDoor): void {
  program
    .command('keys')
    .description('print all menus and keys of the console')
    .action(async () => {
      for (const line of await door.printedKeys()) cli.print(line);
    });
}

/** Runs one command line; returns its exit status. */
export async function runProgram(
  words: readonly string[],
  env: NodeJS.ProcessEnv,
  streams: CliStreams,
  signal: AbortSignal,
  door: ConsoleDoor,
): Promise<number> {
  const cli = new Cli(env, streams, signal);
  let said: ConsoleWords = {};
  const program = new Command('phd')
    .description('Backs up and restores virtual machine disks')
    .version(PROGRAM, '--version', 'print name and version');
  for (const [word, help, says] of CONSOLE_OPTIONS) {
    program.option(word, help);
    program.on(`option:${word.slice(2)}`, () => {
      said = { ...said, ...says };
    });
  }
  program
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void streams.stdout.write(text),
      writeErr: (text) => void streams.stderr.write(text),
      outputError: (text, write) => write(`phd: ${parserWords(text)}\n`),
    })
    .showHelpAfterError(false)
    .showSuggestionAfterError(true)
    .allowExcessArguments(true)
    .action(async () => {
      const [word] = program.args;
      if (word === undefined) {
        cli.setStatus(await door.open(env, streams, said));
        return;
      }
      throw noSuchCommand(program, word);
    });
  for (const register of REGISTRARS) register(program, cli);
  registerKeys(program, cli, door);
  registerDemo(program, cli, (home) => door.open(home, streams, said));
  return cli.run(program, words);
}
