/** `phd restore`: one archive, or all disks of a VM, into a folder. */
import path from 'node:path';
import type { Command } from 'commander';
import { placeText } from '../engine/archive-place.ts';
import type { EngineContext } from '../engine/context.ts';
import { formatBytes } from '../engine/display-text.ts';
import type { RestoreRequest, RestoreResult } from '../engine/restore.ts';
import type { ArchiveRef } from '../engine/restore-source.ts';
import type { VmxFit } from '../engine/restore-vmx.ts';
import { PhdError } from '../errors.ts';
import type { Cli } from './cli.ts';
import { withHooks } from './operation-hooks.ts';
import { REWRITE_HELP, vmxFit } from './vmx-command.ts';

interface Words {
  vm?: string;
  date?: string;
  disk?: string;
  to: string;
  name?: string;
  full?: string;
  inPlace?: boolean;
  verify?: boolean;
  vmx?: boolean;
  rewrite?: string;
  displayName?: string;
  assumeOff?: boolean;
  salvage?: boolean;
  acceptUnproved?: boolean;
  background?: boolean;
  json?: boolean;
}

const EXAMPLES = `
A disk NAME.vmdk becomes NAME-flat.vmdk and its descriptor NAME.vmdk; a raw
image keeps its name. A disk of that name is replaced once the new one is
proved. A restore that was broken off goes on when it is called again.

Examples:
  phd restore --vm database --to /srv/restored --vmx
  phd restore --vm database --date 2026-11-19 --disk d_1.vmdk --to /srv/restored
  phd restore 1:FOLDER/FILE --to /srv/restored          as phd list names it
  phd restore /mnt/usb/FOLDER/FILE --to /srv/restored
  phd restore --vm database --to /srv/vms/database --in-place     roll back`;

export function registerRestore(program: Command, cli: Cli): void {
  program
    .command('restore')
    .summary('restore disks')
    .description('restore an archive, or the disks of a VM, into a folder; every block is proved')
    .argument('[ARCHIVE]', 'path of a file, or N:folder/file on target N')
    .option('--vm <NAME_OR_UUID>', 'the newest complete run of this VM')
    .option(
      '--date <D>',
      'its newest run on or before YYYY-MM-DD or YYYY-MM-DDTHH:MM, local time of the backup',
    )
    .option('--disk <NAME>', 'only this disk of the run, as phd list prints it')
    .requiredOption('--to <FOLDER>', 'folder to restore into, made if missing')
    .option('--name <DISK>', 'another name for the disk')
    .option('--full <ARCHIVE>', 'the FULL to use instead of the one that is found')
    .option('--in-place', 'write only differing blocks over the disk that is there')
    .option('--verify', 'read the finished disk again and compare')
    .option('--vmx', 'also restore VMX, NVRAM and logs')
    .option('--rewrite <HOW>', `with --vmx: ${REWRITE_HELP}`)
    .option('--display-name <NAME>', 'with --rewrite: another name in the VMX')
    .option('--assume-off', 'over an existing disk: go on although it cannot be known that its VM is off')
    .option('--salvage', 'zero-fill what is good nowhere, into a file named .damaged')
    .option('--accept-unproved', 'restore an archive that has no digests to prove it by')
    .option('--background', 'queue it, one job for each disk, for phd daemon: see phd jobs')
    .option('--json', 'JSON lines')
    .addHelpText('after', EXAMPLES)
    .action(async (archive: string | undefined, words: Words) => {
      checkWords(archive, words);
      await cli.withContext(async (context) => {
        const refs = await refsOf(cli, context, archive, words);
        if (refs.length > 1 && words.name !== undefined) {
          throw new PhdError('USAGE', `--name needs a single disk; this run has ${refs.length}`);
        }
        if (words.background) return await queueRestores(cli, archive, refs, words);
        const { withGate } = await import('../queue/gate.ts');
        await withGate(context.places, 'restore', (check) => restoreAll(cli, context, refs, words, check));
      });
    });
}

/** Restores one disk after the other; `check` throws once a lock keeps the next from being begun. */
async function restoreAll(
  cli: Cli,
  context: EngineContext,
  refs: readonly ArchiveRef[],
  words: Words,
  check: () => void,
): Promise<void> {
  const failures: PhdError[] = [];
  const names = await namesOf(cli, refs, words);
  for (const [at, ref] of refs.entries()) {
    try {
      check();
      await restoreOne(cli, context, ref, words, names[at]);
    } catch (error) {
      if (cli.signal.aborted) throw error;
      failures.push(cli.reportItemError(error, { archive: placeText(ref) }, words.json ?? false));
    }
  }
  if (words.vmx && words.rewrite === undefined && names.some((name) => name !== words.name))
    cli.warn('the VMX names the disks as before: --rewrite moved fits it to the names here');
  if (words.vmx) failures.push(...(await vmxOf(cli, context, refs, words)));
  cli.setStatusOf(failures);
}

/** One job for each disk, so that one that fails can be retried alone; the first brings the VMX. */
async function queueRestores(
  cli: Cli,
  archive: string | undefined,
  refs: readonly ArchiveRef[],
  words: Words,
): Promise<void> {
  const { PATH_TARGET } = await import('../engine/archive-place.ts');
  const { findArchive } = await import('../engine/restore-source.ts');
  for (const ref of refs) if (ref.storage.number === PATH_TARGET) await findArchive(ref, cli.signal);
  const { queuedArchive } = await import('../queue/request.ts');
  const { queueJobs } = await import('./queued-jobs.ts');
  const { inPlace, verify, assumeOff, salvage, acceptUnproved, full, vmx } = words;
  const fit = await fitOf(refs, words);
  const names = await namesOf(cli, refs, words);
  const requests = refs.map((ref, at) => ({
    archive: archive === undefined ? placeText(ref) : queuedArchive(archive),
    ...(full === undefined ? {} : { full: queuedArchive(full) }),
    to: path.resolve(words.to),
    name: names[at],
    isNameNew: names[at] !== words.name || undefined,
    inPlace,
    verify,
    assumeOff,
    salvage,
    acceptUnproved,
    vmx: at === 0 ? vmx : undefined,
    vmxRewrite: at === 0 ? fit : undefined,
  }));
  await queueJobs(cli, 'restore', requests, words.json ?? false);
}

/** What each disk is called there where that is not its own name. Two disks of a VM may bear one name, and go to one folder. */
async function namesOf(
  cli: Cli,
  refs: readonly ArchiveRef[],
  { name }: Words,
): Promise<(string | undefined)[]> {
  if (refs.length < 2) return [name];
  const { disksOfArchives } = await import('../engine/restore-vmx.ts');
  return disksOfArchives(refs.map(({ file }) => file)).map(({ scsiId, disk, name: given }) => {
    if (given === disk) return undefined;
    cli.warn(`two disks are called ${disk}: that of ${scsiId} becomes ${given}`);
    return given;
  });
}

function checkWords(archive: string | undefined, words: Words): void {
  if (words.to === '') throw new PhdError('USAGE', '--to is empty: name the folder to restore into');
  if ((archive === undefined) === (words.vm === undefined)) {
    throw new PhdError('USAGE', 'name either an ARCHIVE or a VM with --vm: see phd restore --help');
  }
  if (words.rewrite !== undefined && !words.vmx) throw new PhdError('USAGE', '--rewrite goes with --vmx');
  vmxFit(words);
  if (archive !== undefined && (words.date !== undefined || words.disk !== undefined)) {
    throw new PhdError('USAGE', '--date and --disk go with --vm');
  }
}

async function refsOf(
  cli: Cli,
  context: EngineContext,
  archive: string | undefined,
  words: Words,
): Promise<ArchiveRef[]> {
  const { archiveRef, refsOfVm } = await import('../engine/choose-run.ts');
  if (archive !== undefined) return [await archiveRef(context, archive)];
  const { indexTargets } = await import('../engine/index-targets.ts');
  for (const { error } of await indexTargets(context, { scope: 'old', signal: cli.signal }))
    if (error) cli.warn(error.message);
  return await refsOfVm(
    context,
    { vm: words.vm as string, disk: words.disk, onOrBefore: words.date },
    (message) => cli.warn(message),
  );
}

async function restoreOne(
  cli: Cli,
  context: EngineContext,
  ref: ArchiveRef,
  words: Words,
  name: string | undefined,
): Promise<void> {
  const { restore } = await import('../engine/restore.ts');
  const { archiveRef } = await import('../engine/choose-run.ts');
  const request: RestoreRequest = {
    archive: ref,
    ...(words.full === undefined ? {} : { full: await archiveRef(context, words.full) }),
    to: words.to,
    ...(name === undefined ? {} : { name, isNameNew: name !== words.name }),
    inPlace: words.inPlace,
    verify: words.verify,
    assumeOff: words.assumeOff,
    salvage: words.salvage,
    acceptUnproved: words.acceptUnproved,
  };
  const result = await withHooks(
    cli,
    words.json ?? false,
    (hooks) => restore(context, request, hooks),
    (disk) => ({ archive: placeText(ref), disk }),
  );
  report(cli, result, words.json ?? false);
}

function report(cli: Cli, result: RestoreResult, isJson: boolean): void {
  if (isJson) {
    const { seconds, diskBytes, ...rest } = result;
    const rate = diskBytes / Math.max(0.001, seconds);
    cli.printJson({
      event: 'done',
      ...rest,
      bytes: diskBytes,
      totalBytes: diskBytes,
      percent: 100,
      seconds,
      bytesPerSecond: rate,
      remainingSeconds: 0,
      code: null,
      message: null,
    });
    return;
  }
  const { totalBlocks, fromFull, fromDelta, zero, kept, retried } = result;
  cli.print(
    `Total blocks: ${totalBlocks}, from FULL ${fromFull}, from DELTA ${fromDelta}, zero ${zero}, kept ${kept}, retried ${retried}`,
  );
  if (kept > 0) {
    const beside = result.besideBytes > 0 ? `, ${formatBytes(result.besideBytes)} beside it first` : '';
    cli.print(`Written: ${formatBytes(result.writtenBytes)} to the disk${beside}`);
  }
  const rate = formatBytes(result.diskBytes / Math.max(0.001, result.seconds));
  const proof = result.unproved
    ? 'UNPROVED'
    : result.verified
      ? 'ALL BLOCKS PROVED, DISK READ AGAIN'
      : 'ALL BLOCKS PROVED';
  cli.print(
    `${proof}: ${result.flatPath} restored, ${formatBytes(result.diskBytes)} in ${result.seconds.toFixed(1)} s (${rate}/s)`,
  );
}

/** The rewrite of the VMX, told which disks are restored beside it. */
async function fitOf(refs: readonly ArchiveRef[], words: Words): Promise<VmxFit | undefined> {
  const fit = vmxFit(words);
  if (fit === undefined) return undefined;
  const { disksOfArchives } = await import('../engine/restore-vmx.ts');
  const disks = disksOfArchives(refs.map(({ file }) => file));
  return { ...fit, restored: disks.map(({ scsiId, name }) => ({ scsiId, name: words.name ?? name })) };
}

async function vmxOf(
  cli: Cli,
  context: EngineContext,
  refs: readonly ArchiveRef[],
  words: Words,
): Promise<PhdError[]> {
  const [ref] = refs;
  if (ref === undefined) return [];
  const item = { archive: placeText(ref) };
  try {
    const fit = await fitOf(refs, words);
    const { changeLines, restoreVmx } = await import('../engine/restore-vmx.ts');
    const request = { archive: ref, to: words.to, ...(fit && { fit }) };
    const placed = await restoreVmx(context, request, { signal: cli.signal });
    if (!words.json) for (const line of changeLines(placed.changes)) cli.print(line);
    if (!words.json) for (const file of placed.written) cli.print(`${file} restored`);
    return placed.failed.map(({ error }) => cli.reportItemError(error, item, words.json ?? false));
  } catch (error) {
    if (cli.signal.aborted) throw error;
    // A VM without VMX had none to restore: its disks are what was asked for.
    if (error instanceof PhdError && error.code === 'NOT_FOUND') {
      cli.warn(error.message);
      return [];
    }
    return [cli.reportItemError(error, item, words.json ?? false)];
  }
}
