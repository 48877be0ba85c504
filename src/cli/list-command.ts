/** `phd list`: archives in the index, with every filter. */
import type { Command } from 'commander';
import type { EngineContext } from '../engine/context.ts';
import { formatAge, formatCount } from '../engine/display-text.ts';
import { GPG_MASTER_OFFSET } from '../engine/gpg-offset.ts';
import type { ListedRow, ListFilter } from '../engine/list-archives.ts';
import { type Cli, parseChoice, parseWhole } from './cli.ts';
import { listTable } from './list-table.ts';

/** Rows of one read, and of one table: its columns are as wide as these rows need. */
const PAGE_ROWS = 1000;
const MINUTE_MS = 60_000;

const HELP = `
STATE: arriving or cut (its end is missing), foreign (listed, not restored),
without DELTA (a FULL alone), without FULL (a DELTA alone), partial (its run
lacks disks), incomplete (sectors could not be read); then result and date of
the last verify run.

An encrypted FULL opens without phd. With the system passphrase: gpg -d FULL
With the master passphrase: tail -c +${GPG_MASTER_OFFSET} FULL | gpg -d

Examples:
  phd list --vm data --mode full
  phd list --date 2026-11-01..2026-11-20 --target 2
  phd list --json --mode full`;

interface ListOptions {
  vm?: string;
  disk?: string;
  date?: string;
  transport: string;
  vmfs: string;
  target?: string;
  mode: string;
  json?: boolean;
}

export function registerList(program: Command, cli: Cli): void {
  program
    .command('list')
    .description('list archives in the index, newest first')
    .option('--vm <PART>', 'VM names that hold this part, in any case')
    .option('--disk <PART>', 'disk names that hold this part, in any case')
    .option('--date <D>', 'YYYY-MM-DD, YYYY-MM-DDTHH:MM or a range D..D')
    .option('--transport <T>', 'all, ssh or ftp', 'all')
    .option('--vmfs <V>', 'archives on vmfs targets: show, only or hide', 'show')
    .option('--target <N>', 'number of a target, % for all (default: all)')
    .option('--mode <M>', 'all, full or delta', 'all')
    .option('--json', 'JSON lines')
    .addHelpText('after', HELP)
    .action(async (options: ListOptions) => {
      const { listArchives, parseDateRange } = await import('../engine/list-archives.ts');
      const filter = filterOf(options, parseDateRange);
      await cli.withContext(async (context) => {
        const { requireTargets } = await import('../engine/request-check.ts');
        requireTargets(context, [filter.target ?? undefined]);
        let isEmpty = true;
        for (let after: ListedRow | undefined; ; ) {
          const cursor = after && {
            stamp: after.stamp,
            vmId: after.vmId,
            diskId: after.diskId,
            id: after.id,
          };
          const rows = listArchives(context, filter, {
            limit: PAGE_ROWS,
            ...(cursor ? { after: cursor } : {}),
          });
          if (options.json) for (const row of rows) cli.printJson(jsonOf(row));
          else if (rows.length > 0) for (const line of listTable(rows)) cli.print(line);
          after = rows.at(-1);
          if (after !== undefined) isEmpty = false;
          if (rows.length < PAGE_ROWS || cli.signal.aborted) break;
        }
        if (isEmpty) cli.warn(whyNothing(context));
        if (!isEmpty || context.index.targets().some(({ triedMs }) => triedMs !== null))
          await tellAges(context, cli);
      });
    });
}

function filterOf(
  options: ListOptions,
  parseDateRange: (text: string) => { from: string; to: string },
): ListFilter {
  return {
    ...(options.vm === undefined ? {} : { vm: options.vm }),
    ...(options.disk === undefined ? {} : { disk: options.disk }),
    ...(options.date === undefined ? {} : parseDateRange(options.date)),
    transport: parseChoice(options.transport, '--transport', ['all', 'ssh', 'ftp']),
    vmfs: parseChoice(options.vmfs, '--vmfs', ['show', 'only', 'hide']),
    target:
      options.target === undefined || options.target === '%'
        ? null
        : parseWhole(options.target, '--target', 1, 9999),
    mode: parseChoice(options.mode, '--mode', ['all', 'full', 'delta']),
  };
}

/** Keys as the README lists them; null where no header was read, nothing is amiss, or the key does not apply. */
function jsonOf(row: ListedRow): Record<string, unknown> {
  return {
    target: row.targetNumber,
    targetName: row.targetName,
    transport: row.transport,
    path: `${row.folder}/${row.file}`,
    vm: row.vm,
    displayName: row.header?.displayName ?? null,
    uuid: row.uuid === '' ? null : row.uuid,
    host: row.header?.host ?? null,
    disk: row.disk,
    scsiId: row.scsiId,
    mode: row.kind,
    codec: row.codec,
    encrypted: row.encrypted,
    runId: row.header?.runId ?? null,
    time: row.stamp,
    fullTime: row.fullStamp,
    archiveBytes: row.sizeBytes,
    diskBytes: row.header?.diskBytes ?? null,
    complete: row.complete,
    held: row.isHeld,
    foreign: row.foreign,
    verifiedAt: row.verifiedAt,
    verifyResult: row.verifyResult,
    state: row.state,
    gpgMasterOffset: row.encrypted && row.kind === 'full' ? GPG_MASTER_OFFSET : null,
  };
}

/** Says in a line each which targets were never listed, do not answer or have an old index, and if the clock is wrong. */
async function tellAges(context: EngineContext, cli: Cli): Promise<void> {
  const { clockFault } = await import('../engine/index-targets.ts');
  const nowMs = context.clock.now().getTime();
  const never: string[] = [];
  const old: string[] = [];
  for (const { number, name, listedMs, triedMs, error } of context.index.targets()) {
    const who = `${number} (${name})`;
    const age = listedMs === null ? null : formatAge(nowMs - listedMs);
    if (error !== null) {
      const tried = triedMs === null ? '' : ` ${formatAge(nowMs - triedMs)} ago`;
      const known = age === null ? 'it was never listed' : `its index is ${age} old`;
      cli.warn(`target ${who} could not be listed${tried}, ${known}: see phd target list`);
    } else if (listedMs === null) never.push(who);
    else if (nowMs - listedMs > context.config.indexMaxAgeMinutes * MINUTE_MS) old.push(`${who} ${age}`);
  }
  if (never.length > 0) cli.warn(`never listed: target ${never.join(', ')}: run phd index`);
  if (old.length > 0) cli.warn(`age of the index: target ${old.join(', ')}: phd index renews it`);
  const fault = clockFault(context);
  if (fault !== null) cli.warn(fault);
}

/** Why there is no row, in one line. */
function whyNothing(context: EngineContext): string {
  const { targets, file } = context.config;
  if (targets.length === 0)
    return `there is nothing to list: ${file} names no target; phd target add adds one`;
  const states = context.index.targets();
  if (states.every(({ listedMs, triedMs }) => listedMs === null && triedMs === null))
    return 'there is nothing to list yet: the index was never made, run phd index';
  const count = context.index.countArchives({});
  if (count === 0) return 'there are no archives on the targets, as far as the index knows';
  return `nothing matches; the index holds ${formatCount(count, 'archive')} in all`;
}
