#!/usr/bin/env node
/** Entry of the program: signals and streams; the console at once, everything else by the command line. */
import { realpathSync, writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { CliStreams } from './cli/cli.ts';
import { type ConsoleWords, consoleWords } from './cli/console-words.ts';
import type { ConsoleDoor } from './cli/program.ts';
import { fromErrno, type PhdError } from './errors.ts';

const DOOR: ConsoleDoor = {
  async open(env, streams, words) {
    const { openConsole } = await import('../screens/console.ts');
    return await openConsole({ env, streams, words });
  },
  async printedKeys() {
    return (await import('../screens/flows/help.ts')).printedKeys();
  },
};

/** Runs one command line; returns its exit status. */
export async function main(
  words: readonly string[],
  env: NodeJS.ProcessEnv,
  streams: CliStreams,
  signal: AbortSignal,
): Promise<number> {
  const said = consoleWords(words);
  if (said !== undefined) return await openDirectly(env, streams, said);
  const { runProgram } = await import('./cli/program.ts');
  return await runProgram(words, env, streams, signal, DOOR);
}

/** Without the command line's own code, so that the first paint waits for nothing it does not need. */
async function openDirectly(
  env: NodeJS.ProcessEnv,
  streams: CliStreams,
  words: ConsoleWords,
): Promise<number> {
  try {
    return await DOOR.open(env, streams, words);
  } catch (error) {
    const failure = fromErrno(error, 'the console cannot be opened');
    streams.stderr.write(`phd: ${failure.message}\n`);
    return failure.exitStatus;
  }
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
  // Node's own status for work that waits for what can never come; it would end without a word.
  process.on('exit', () => {
    if (process.exitCode !== 13) return;
    writeSync(2, 'phd: fault in the program: it ended before its work was done\n');
    process.exitCode = 1;
  });
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
