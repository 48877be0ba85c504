/** `phd log`: the program's log, and what is added to it. */
import { createReadStream, watch } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { Command } from 'commander';
import { PhdError } from '../errors.ts';
import type { Cli } from './cli.ts';

export function registerLog(program: Command, cli: Cli): void {
  program
    .command('log')
    .description("print the program's log")
    .option('-f, --follow', 'go on with what is added, until interrupted')
    .action(async (options: { follow?: boolean }) => {
      const { openPlaces } = await import('../engine/configuration.ts');
      const { logFileOf } = await import('../engine/log-file.ts');
      const file = logFileOf(await openPlaces(cli.env));
      let shownBytes = await copyFrom(file, 0, cli);
      if (!options.follow) return;
      for await (const _ of changesOf(file, cli.signal)) {
        const size = await sizeOf(file);
        shownBytes = await copyFrom(file, size < shownBytes ? 0 : shownBytes, cli);
      }
      throw new PhdError('CANCELLED', 'cancelled');
    });
}

/** Copies the file from an offset on to standard output; returns the offset reached. */
export async function copyFrom(file: string, offsetBytes: number, cli: Cli): Promise<number> {
  const endBytes = await sizeOf(file);
  if (endBytes <= offsetBytes) return offsetBytes;
  for await (const chunk of createReadStream(file, { start: offsetBytes, end: endBytes - 1 })) {
    cli.streams.stdout.write(chunk);
  }
  return endBytes;
}

async function sizeOf(file: string): Promise<number> {
  return (await stat(file).catch(() => undefined))?.size ?? 0;
}

/** One item for each change in the folder of the file that may concern it; ends when the signal is given. */
async function* changesOf(file: string, signal: AbortSignal): AsyncGenerator<void> {
  let wake: (() => void) | undefined;
  let isChanged = false;
  const notice = (): void => {
    isChanged = true;
    wake?.();
  };
  const watcher = watch(path.dirname(file), notice);
  signal.addEventListener('abort', notice);
  try {
    while (!signal.aborted) {
      if (!isChanged) await new Promise<void>((resolve) => (wake = resolve));
      isChanged = false;
      if (!signal.aborted) yield;
    }
  } finally {
    watcher.close();
    signal.removeEventListener('abort', notice);
  }
}
