/** `phd backup`: VM folders onto a target. */
import path from 'node:path';
import type { Command } from 'commander';
import type { BackupRequest, BackupResult, DiskBackup } from '../engine/backup.ts';
import type { HostBackupRequest } from '../engine/backup-host.ts';
import type { EngineContext } from '../engine/context.ts';
import { formatBytes } from '../engine/display-text.ts';
import { PhdError } from '../errors.ts';
import { type Cli, parseChoice, parseWhole } from './cli.ts';
import { copyAfterBackup } from './copies-command.ts';
import { withHooks } from './operation-hooks.ts';

interface Words {
  target?: string;
  full?: boolean;
  delta?: boolean;
  codec?: string;
  level?: string;
  encrypt?: boolean;
  image?: string[];
  assumeOff?: boolean;
  quiesce?: boolean;
  preFreeze?: string;
  postThaw?: string;
  job?: string;
  due?: boolean;
  background?: boolean;
  json?: boolean;
}

/** How all VMs of one command are backed up. */
type How = Omit<BackupRequest, 'folder'> & Pick<HostBackupRequest, 'quiesce' | 'preFreeze' | 'postThaw'>;
type Source = BackupRequest | HostBackupRequest;

const EXAMPLES = `
Without --full and --delta each disk gets a DELTA if there is a FULL of it and
at most half has changed since, else a FULL with its empty DELTA.

Examples:
  phd backup /srv/vms/database
  phd backup /srv/vms/* --target 2
  phd backup /srv/vms/mail --full --codec zstd --encrypt
  phd backup /srv/vms/mail --image /dev/vg0/mail-data
  phd backup esx01/web esx01/mail --quiesce
  phd backup --job nightly`;

const MAX_LEVEL = { gzip: 9, zstd: 19, lzop: 9 } as const;

export function registerBackup(program: Command, cli: Cli): void {
  program
    .command('backup')
    .summary('back up VMs')
    .description('back up all disks of VMs: a FULL the first time, then DELTAs against it')
    .argument(
      '[VM...]',
      'folder of a VM on a datastore, or HOST/VM of a host in phd.yaml (a folder of that name: ./HOST/VM)',
    )
    .option(
      '--target <N>',
      'target to write to (default: backup.target, else the lowest number that may be written)',
    )
    .option('--full', 'make FULLs, whatever has changed')
    .option('--delta', 'make DELTAs, also if more than half has changed')
    .option('--codec <CODEC>', 'of FULLs: gzip, zstd or lzop (default: backup.codec, which is gzip)')
    .option('--level <L>', 'of the codec: gzip 1-9 (1), zstd 1-19 (3), lzop 1-9 (1)')
    .option('--encrypt', 'encrypt with the configured passphrases (default: backup.encrypt, which is false)')
    .option('--no-encrypt', 'do not encrypt, whatever is configured')
    .option('--image <FILE...>', 'further raw images or devices to take as disks')
    .option('--assume-off', 'take the VM as off, although something has a disk open or that cannot be seen')
    .option('--job <NAME>', 'run this backup job of phd.yaml now: DELTAs, with --full FULLs')
    .option('--due', 'run the backup jobs that are due, as the daemon does')
    .option('--quiesce', 'ask the guests of hosts to flush their file systems first')
    .option('--pre-freeze <COMMAND>', 'of hosts: run here just before the snapshot; its status decides')
    .option('--post-thaw <COMMAND>', 'of hosts: run here as soon as the snapshot stands or has failed')
    .option('--background', 'queue it, one job for each VM, for phd daemon: see phd jobs')
    .option('--json', 'JSON lines')
    .addHelpText('after', EXAMPLES)
    .action(async (names: string[], words: Words) => {
      if (words.job !== undefined || words.due) return await runJobs(cli, names, words);
      if (names.length === 0)
        throw new PhdError('USAGE', 'name VMs, or a job with --job: see phd backup --help');
      const request = requestOf(words);
      if (words.background) return await queueBackups(cli, names, request, words.json ?? false);
      await cli.withContext(async (context) => {
        const { withGate } = await import('../queue/gate.ts');
        await withGate(context.places, 'backup', (check) =>
          backUpAll(cli, context, names, request, words.json ?? false, check),
        );
      });
    });
}

/** Backs up one VM after the other; `check` throws once a lock keeps the next disk from being begun. */
async function backUpAll(
  cli: Cli,
  context: EngineContext,
  names: readonly string[],
  how: How,
  isJson: boolean,
  check: () => void,
): Promise<void> {
  const { backupVm } = await import('../engine/backup-host.ts');
  const failures: PhdError[] = [];
  const targets = new Set<number>();
  for (const name of names) {
    try {
      check();
      const result = await withHooks(cli, isJson, (hooks) =>
        backupVm(context, sourceNamed(context, name, how), { ...hooks, beforeDisk: check }),
      );
      failures.push(...report(cli, result, isJson));
      if (result.disks.length > 0) targets.add(result.targetNumber);
    } catch (error) {
      if (cli.signal.aborted) throw error;
      failures.push(cli.reportItemError(error, {}, isJson));
    }
  }
  await copyAfterBackup(cli, context, [...targets]);
  cli.setStatusOf(failures);
}

/** What a job of phd.yaml says is not said again on the command line. */
async function runJobs(cli: Cli, names: readonly string[], words: Words): Promise<void> {
  const { full, due, job, json, ...others } = words;
  if (names.length > 0 || Object.keys(others).length > 0 || (due && (job !== undefined || full)))
    throw new PhdError('USAGE', '--job NAME goes with --full and --json alone, --due with --json');
  const { runDueJobs, runNamedJob } = await import('./backup-jobs-command.ts');
  if (job === undefined) await runDueJobs(cli, json ?? false);
  else await runNamedJob(cli, job, full ? 'full' : 'delta', json ?? false);
}

/** `HOST/VM` where phd.yaml names that host, else a folder. */
function sourceNamed(
  { config }: EngineContext,
  name: string,
  { quiesce, preFreeze, postThaw, ...how }: How,
): Source {
  const [, host = '', vm = ''] = /^([^/]+)\/(.+)$/s.exec(name) ?? [];
  if (config.hosts.some((one) => one.name === host)) {
    const { images, ...rest } = how;
    if (images !== undefined) throw new PhdError('USAGE', '--image goes with VM folders, not with hosts');
    return {
      ...rest,
      host,
      vm,
      ...(quiesce === undefined ? {} : { quiesce }),
      ...(preFreeze === undefined ? {} : { preFreeze }),
      ...(postThaw === undefined ? {} : { postThaw }),
    };
  }
  return { ...how, folder: name };
}

async function queueBackups(cli: Cli, names: readonly string[], how: How, isJson: boolean): Promise<void> {
  let sources: Source[] = [];
  await cli.withContext(async (context) => {
    const { requireTargets, requireVmFolders } = await import('../engine/request-check.ts');
    requireTargets(context, [how.target]);
    sources = names.map((name) => sourceNamed(context, name, how));
    await requireVmFolders(
      context,
      sources.flatMap((source) => ('folder' in source ? [source.folder] : [])),
    );
  });
  const { queueJobs } = await import('./queued-jobs.ts');
  const requests = sources.map((source) => {
    if ('host' in source) return source;
    const { images, folder } = source;
    return { ...source, folder: path.resolve(folder), images: images?.map((image) => path.resolve(image)) };
  });
  await queueJobs(cli, 'backup', requests, isJson);
}

function requestOf(words: Words): How {
  if (words.full && words.delta) throw new PhdError('USAGE', '--full and --delta exclude each other');
  const codec =
    words.codec === undefined ? undefined : parseChoice(words.codec, '--codec', ['gzip', 'zstd', 'lzop']);
  return {
    mode: words.full ? 'full' : words.delta ? 'delta' : 'auto',
    ...(words.target === undefined ? {} : { target: parseWhole(words.target, '--target', 1, 9999) }),
    ...(codec === undefined ? {} : { codec }),
    ...(words.level === undefined
      ? {}
      : { level: parseWhole(words.level, '--level', 1, MAX_LEVEL[codec ?? 'gzip']) }),
    ...(words.encrypt === undefined ? {} : { encrypt: words.encrypt }),
    ...(words.image === undefined ? {} : { images: words.image }),
    ...(words.quiesce === undefined ? {} : { quiesce: words.quiesce }),
    ...(words.preFreeze === undefined ? {} : { preFreeze: words.preFreeze }),
    ...(words.postThaw === undefined ? {} : { postThaw: words.postThaw }),
    assumeOff: words.assumeOff ?? false,
  };
}

function report(cli: Cli, result: BackupResult, isJson: boolean): PhdError[] {
  for (const one of result.disks) {
    const archive = `${result.targetNumber}:${one.folder}/${one.deltaFile}`;
    const full = `${result.targetNumber}:${one.fullFolder}/${one.fullFile}`;
    if (isJson) {
      cli.printJson({
        event: 'done',
        archive,
        full,
        vm: result.vm,
        uuid: result.uuid,
        runId: result.runId,
        disk: one.disk,
        mode: one.mode,
        bytes: one.diskBytes,
        totalBytes: one.diskBytes,
        archiveBytes: one.archiveBytes,
        changedBlocks: one.changedBlocks,
        percent: 100,
        seconds: one.seconds,
        bytesPerSecond: one.diskBytes / Math.max(0.001, one.seconds),
        remainingSeconds: 0,
        code: null,
        message: one.reason,
        ...(one.account === null ? {} : one.account),
      });
      continue;
    }
    const kind = one.mode === 'full' ? 'FULL ' : 'DELTA';
    const rate = formatBytes(one.diskBytes / Math.max(0.001, one.seconds));
    cli.print(`${kind} ${one.mode === 'full' ? full : archive}`);
    cli.print(
      `      disk ${one.disk}, ${formatBytes(one.diskBytes)} as ${formatBytes(one.archiveBytes)} in ${one.seconds.toFixed(1)} s (${rate}/s): ${one.reason}`,
    );
    if (one.account !== null) for (const line of accountLines(one.account)) cli.print(`      ${line}`);
  }
  return result.failed.map(({ disk, error }) => cli.reportItemError(error, { disk }, isJson));
}

/** Checksums of a device and of its image, and whether something is missing. */
function accountLines({ checksum, unreadableSectors }: NonNullable<DiskBackup['account']>): string[] {
  const { kind, source, image } = checksum;
  const what = kind === 'sha256' ? 'SHA-256' : 'SHA-256 of the block digests';
  const lines =
    source === image
      ? [`${what} ${source}: source and image agree`]
      : [`${what} of the image ${image ?? 'not made'}; of the source ${source ?? 'not made'}: not compared`];
  if (unreadableSectors > 0) lines.push(`INCOMPLETE: ${unreadableSectors} sectors could not be read`);
  return lines;
}
