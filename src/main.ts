#!/usr/bin/env node
/** Entry of the program: signals, streams, and the list of commands. */
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { registerBackup } from './cli/backup-command.ts';
import { Cli, type CliStreams, parserWords } from './cli/cli.ts';
import { registerConfig } from './cli/config-command.ts';
import { registerDaemon } from './cli/daemon-command.ts';
import { registerDemo } from './cli/demo-command.ts';
import { noSuchCommand } from './cli/help-command.ts';
import { registerIndex } from './cli/index-command.ts';
import { registerJobs } from './cli/jobs-command.ts';
import { registerList } from './cli/list-command.ts';
import { registerLocks } from './cli/locks-command.ts';
import { registerLog } from './cli/log-command.ts';
import { registerPassphrase } from './cli/passphrase-command.ts';
import { registerPlan } from './cli/plan-command.ts';
import { registerReplicate } from './cli/replicate-command.ts';
import { registerRestore } from './cli/restore-command.ts';
import { registerStub } from './cli/stub-command.ts';
import { registerTarget } from './cli/target-command.ts';
import { registerVerify } from './cli/verify-command.ts';
import { registerVmx } from './cli/vmx-command.ts';
import { PROGRAM } from './engine/version.ts';
import { fromErrno, type PhdError } from './errors.ts';

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
      (await import('./engine/index.ts')).writeStub(flatPath, type, adapterType),
    ),
  registerTarget,
  registerConfig,
  registerPassphrase,
  registerJobs,
  registerLocks,
  registerDaemon,
  registerLog,
  registerKeys,
  (program, cli) => registerDemo(program, cli, (env) => openConsoleHere(cli, program, env)),
];

function registerKeys(program: Command, cli: Cli): void {
  program
    .command('keys')
    .description('print all menus and keys of the console')
    .action(async () => {
      const { printedKeys } = await import('../screens/flows/help.ts');
      for (const line of printedKeys()) cli.print(line);
    });
}

/** `phd` without words; the options say how it looks. Returns the exit status. */
async function openConsoleHere(cli: Cli, program: Command, env: NodeJS.ProcessEnv): Promise<number> {
  const { openConsole } = await import('../screens/console.ts');
  const { plain, thin, rich, mono, ascii, utf8, mouse, slow } = program.opts<Record<string, boolean>>();
  const words = {
    plain,
    ...(thin || rich ? { look: rich ? ('rich' as const) : ('thin' as const) } : {}),
    ...(mono ? { mono } : {}),
    ...(ascii || utf8 ? { charset: ascii ? ('ascii' as const) : ('utf8' as const) } : {}),
    ...(mouse === undefined ? {} : { mouse }),
    ...(slow ? { slow } : {}),
  };
  return await openConsole({ env, streams: cli.streams, words });
}

/** Runs one command line; returns its exit status. */
export async function main(
  words: readonly string[],
  env: NodeJS.ProcessEnv,
  streams: CliStreams,
  signal: AbortSignal,
): Promise<number> {
  const cli = new Cli(env, streams, signal);
  const program = new Command('phd')
    .description('Backs up and restores virtual machine disks')
    .version(PROGRAM, '--version', 'print name and version')
    .option('--plain', 'the console as numbered questions, without moving the cursor')
    .option('--thin', 'the look for slow lines: a marker, no frames')
    .option('--rich', 'frames, bar and gauges')
    .option('--mono', 'no colours (so does NO_COLOR)')
    .option('--ascii', 'only ASCII characters')
    .option('--utf8', 'UTF-8, whatever the locale says')
    .option('--mouse', 'mouse on')
    .option('--no-mouse', 'mouse off')
    .option('--slow', 'as over a slow line')
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
        cli.setStatus(await openConsoleHere(cli, program, cli.env));
        return;
      }
      throw noSuchCommand(program, word);
    });
  for (const register of REGISTRARS) register(program, cli);
  return cli.run(program, words);
}

/** Commands that only tell; every other does work that must not end because nobody reads what it says. */
const TELLING: readonly (string | undefined)[] = ['list', 'log', 'jobs', 'keys', 'help', 'config'];

/**
 * A reader that went away (`phd list | head`) ends a command that only tells, without a word. Another goes on to its
 * end and its own status. Returns what befell standard output otherwise, such as a full disk, if anything did.
 */
function surviveStreams(command: string | undefined): () => PhdError | undefined {
  let lost: PhdError | undefined;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    const isGone = error.code === 'EPIPE';
    if (!isGone) lost ??= fromErrno(error, 'cannot write to standard output');
    if (isGone && (command === undefined || TELLING.includes(command))) process.exit(0);
  });
  // There is nowhere left to tell that standard error is lost.
  process.stderr.on('error', () => {});
  return () => lost;
}

async function runProcess(): Promise<void> {
  process.umask(0o077);
  const { stdin, stdout, stderr } = process;
  const words = process.argv.slice(2);
  const lostOutput = surviveStreams(words.find((word) => !word.startsWith('-')));
  const abort = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (abort.signal.aborted) process.exit(130);
      abort.abort();
    });
  }
  const status = await main(words, process.env, { stdin, stdout, stderr }, abort.signal);
  // A failed write is told one turn later.
  await new Promise((told) => setImmediate(told));
  const lost = lostOutput();
  if (lost !== undefined && words.length > 0) stderr.write(`phd: ${lost.message}\n`);
  process.exitCode = status === 0 && lost !== undefined ? lost.exitStatus : status;
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await runProcess();
}
