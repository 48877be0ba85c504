/** `phd index`: lists the targets into the index. */
import type { Command } from 'commander';
import { formatAge, formatCount } from '../engine/display-text.ts';
import type { IndexEvent, TargetIndexResult } from '../engine/index-targets.ts';
import { PhdError } from '../errors.ts';
import { type Cli, parseWhole } from './cli.ts';
import { printTable } from './table.ts';

const TELL_EVERY_MS = 1000;

export function registerIndex(program: Command, cli: Cli): void {
  program
    .command('index')
    .description('list the targets into the index')
    .option('--target <N>', 'only this target')
    .option('--force', 'list every folder, also those that cannot have changed')
    .option('--json', 'JSON lines')
    .addHelpText(
      'after',
      '\nTargets are only read. A restore by name does it by itself where the index\nis older than index.maxAgeMinutes (15).',
    )
    .action(async (options: { target?: string; force?: boolean; json?: boolean }) => {
      const target =
        options.target === undefined ? undefined : parseWhole(options.target, '--target', 1, 9999);
      await cli.withContext(async (context) => {
        if (target === undefined && context.config.targets.length === 0) throw noTarget(context.config.file);
        const { clockFault, indexTargets } = await import('../engine/index-targets.ts');
        const results = await indexTargets(context, {
          ...(target === undefined ? {} : { targets: [target] }),
          scope: options.force ? 'all' : 'changed',
          signal: cli.signal,
          onEvent: eventPrinter(cli, options.json ?? false),
        });
        if (options.json) for (const result of results) cli.printJson(jsonOf(result));
        else for (const line of tableOf(results)) cli.print(line);
        for (const result of results) {
          if (result.error === null) continue;
          const listedMs = context.index
            .targets()
            .find((one) => one.number === result.targetNumber)?.listedMs;
          const age =
            listedMs == null
              ? ''
              : `; its index is ${formatAge(context.clock.now().getTime() - listedMs)} old`;
          cli.warn(`${result.error.message}${age}`);
        }
        const fault = clockFault(context);
        if (fault !== null) cli.warn(fault);
        cli.setStatusOf(results.map((one) => one.error).filter((error): error is PhdError => error !== null));
      });
    });
}

function noTarget(file: string): PhdError {
  return new PhdError(
    'CONFIG_INVALID',
    `there is nothing to index: ${file} names no target; phd target add adds one`,
  );
}

function tableOf(results: readonly TargetIndexResult[]): string[] {
  return printTable(
    [
      { title: 'TARGET' },
      { title: 'NAME' },
      { title: 'INDEX' },
      { title: 'FOLDERS', align: 'right' },
      { title: 'UNCHANGED', align: 'right' },
      { title: 'REMOVED', align: 'right' },
      { title: 'ARCHIVES', align: 'right' },
      { title: 'SKIPPED', align: 'right' },
    ],
    results.map((one) => [
      String(one.targetNumber),
      one.targetName,
      one.outcome,
      String(one.folderCount),
      String(one.unchangedFolders),
      String(one.removedFolders),
      String(one.archiveCount),
      String(one.strayEntries),
    ]),
  );
}

function jsonOf(result: TargetIndexResult): Record<string, unknown> {
  const { error, ...rest } = result;
  return {
    event: error === null ? 'done' : 'error',
    ...rest,
    code: error?.code ?? null,
    message: error?.message ?? null,
  };
}

/** Progress of each target, at most once a second each, on standard error. */
function eventPrinter(cli: Cli, isJson: boolean): (event: IndexEvent) => void {
  const toldMs = new Map<number, number>();
  return (event) => {
    const nowMs = performance.now();
    if (nowMs - (toldMs.get(event.targetNumber) ?? nowMs) < TELL_EVERY_MS) {
      if (!toldMs.has(event.targetNumber)) toldMs.set(event.targetNumber, nowMs);
      return;
    }
    toldMs.set(event.targetNumber, nowMs);
    if (isJson) cli.streams.stderr.write(`${JSON.stringify({ event: 'progress', ...event })}\n`);
    else {
      const { targetName, foldersDone, foldersTotal, archiveCount } = event;
      cli.warn(
        `${targetName}: ${foldersDone} of ${formatCount(foldersTotal, 'folder')}, ${formatCount(archiveCount, 'archive')}`,
      );
    }
  };
}
