/** From a job to calls of the engine; one request, the same words as on the command line. */
import path from 'node:path';
import type { OperationHooks } from '../engine/backup.ts';
import type { EngineContext } from '../engine/context.ts';
import { defaultTarget } from '../engine/default-target.ts';
import type { ArchiveRef } from '../engine/restore-source.ts';
import { fromErrno, type PhdError, throwIfAborted } from '../errors.ts';
import type { Job } from '../model/job.ts';
import { requireUnlocked } from './gate.ts';
import type { Queue } from './queue.ts';
import { type DiskRestore, type HostRestore, type Requests, readRequest, sourceOf } from './request.ts';
import type { Operation, OperationEnd } from './run-job.ts';

/** The operation of any job, with the context it works in. */
export function jobOperation(queue: Queue, context: EngineContext): Operation {
  return async (job: Job, hooks: OperationHooks) => {
    const guarded = { ...hooks, beforeDisk: () => requireUnlocked(queue.db, job.kind) };
    if (job.kind === 'restore') {
      const request = readRequest('restore', job);
      return 'host' in request
        ? await hostRestoreJob(context, request, guarded)
        : await restoreJob(context, request, guarded);
    }
    if (job.kind === 'backup') return await backupJob(context, readRequest('backup', job), guarded);
    return await verifyJob(context, readRequest('verify', job), guarded);
  };
}

async function restoreJob(
  context: EngineContext,
  request: DiskRestore,
  hooks: OperationHooks,
): Promise<OperationEnd> {
  const { archiveRef } = await import('../engine/choose-run.ts');
  const { restore } = await import('../engine/restore.ts');
  const { archive, full, vmx, vmxRewrite, passphrasesIn, ...rest } = request;
  if (passphrasesIn !== undefined) {
    const { withPassphrasesOf } = await import('../engine/passphrases-in-file.ts');
    return await restoreJob(
      withPassphrasesOf(context, passphrasesIn),
      { ...request, passphrasesIn: undefined },
      hooks,
    );
  }
  const ref = await archiveRef(context, archive);
  const fullRef = full === undefined ? {} : { full: await archiveRef(context, full) };
  const result = await restore(context, { ...rest, archive: ref, ...fullRef }, hooks);
  if (!vmx) return { result, failures: [] };
  const { restoreVmx } = await import('../engine/restore-vmx.ts');
  try {
    const wanted = { archive: ref, to: request.to, ...(vmxRewrite && { fit: vmxRewrite }) };
    const placed = await restoreVmx(context, wanted, hooks);
    return {
      result: { ...result, vmFiles: placed.written },
      failures: placed.failed.map(({ error }) => error),
    };
  } catch (error) {
    throwIfAborted(hooks.signal);
    return { result, failures: [fromErrno(error, 'cannot restore the VMX')] };
  }
}

async function hostRestoreJob(
  context: EngineContext,
  { disks, macs = 'auto', ...where }: HostRestore,
  hooks: OperationHooks,
): Promise<OperationEnd> {
  const { archiveRef } = await import('../engine/choose-run.ts');
  const archives: ArchiveRef[] = [];
  const fulls = new Map<ArchiveRef, ArchiveRef>();
  for (const { archive, full } of disks) {
    const ref = await archiveRef(context, archive);
    archives.push(ref);
    if (full !== undefined) fulls.set(ref, await archiveRef(context, full));
  }
  if ((await context.host(where.host)).config.type === 'xen') {
    const { restoreToXen } = await import('../engine/restore-to-xen.ts');
    const { datastore: repository, ...rest } = where;
    const request = { ...rest, repository, macs, archives, fulls };
    const { failed, ...result } = await restoreToXen(context, request, hooks);
    return endOf(result, failed, hooks);
  }
  const { restoreToHost } = await import('../engine/restore-to-host.ts');
  const { failed, ...result } = await restoreToHost(context, { ...where, archives, fulls }, hooks);
  return endOf(result, failed, hooks);
}

async function backupJob(
  context: EngineContext,
  request: Requests['backup'],
  hooks: OperationHooks,
): Promise<OperationEnd> {
  const { hooks: _, run: __, bandwidthLimitBytesPerSecond: limit, ...how } = request;
  const within = limit === undefined ? context : context.limited(limit);
  const { failed, ...result } = await aroundVm(context, request, hooks, async () => {
    const { backupVm } = await import('../engine/backup-host.ts');
    return await backupVm(within, how, hooks);
  });
  return endOf(result, failed, hooks);
}

/** Disks that failed are told in the log; the job fails by the worst of them. */
function endOf(
  result: unknown,
  failed: readonly { disk: string; error: PhdError }[],
  { onWarning = () => undefined }: OperationHooks,
): OperationEnd {
  for (const { disk, error } of failed) onWarning(`disk ${disk} failed: ${error.message}`);
  return { result, failures: failed.map(({ error }) => error) };
}

/** With the commands before and after a VM: that before decides whether there is a backup, that after is run in any case. */
async function aroundVm<T>(
  { log, config }: EngineContext,
  request: Requests['backup'],
  { signal, onWarning = () => undefined }: OperationHooks,
  work: () => Promise<T>,
): Promise<T> {
  if (request.hooks === undefined) return await work();
  const { runHook } = await import('../hosts/hook-command.ts');
  const { before, after, timeoutMs, job } = request.hooks;
  const target = request.target ?? defaultTarget(config);
  const about: Record<string, string> = {
    PHD_JOB: job,
    PHD_MODE: request.mode === 'full' ? 'full' : 'delta',
    PHD_TARGET: target === null ? '' : String(target),
    ...('host' in request
      ? { PHD_HOST: request.host, PHD_VM: request.vm }
      : { PHD_VM: path.basename(request.folder), PHD_VM_FOLDER: request.folder }),
  };
  const run = async (name: string, command: string | undefined, result: string): Promise<void> => {
    if (command === undefined) return;
    const env = { ...about, PHD_RESULT: result };
    const what = `${name} of ${job}`;
    // The command after is for cleaning up: no cancel keeps it from that.
    const stop = name === 'beforeVm' ? { signal } : {};
    await runHook({ what, command, env, timeoutMs, onLine: log, ...stop });
  };
  try {
    await run('beforeVm', before, '');
    const result = await work();
    await run('afterVm', after, 'done');
    return result;
  } catch (error) {
    const failure = fromErrno(error, sourceOf(request));
    if (!failure.message.startsWith('afterVm of '))
      await run('afterVm', after, failure.code).catch((also: Error) => onWarning(also.message));
    throw failure;
  }
}

async function verifyJob(
  context: EngineContext,
  request: Requests['verify'],
  hooks: OperationHooks,
): Promise<OperationEnd> {
  const { archiveRef } = await import('../engine/choose-run.ts');
  if ('disk' in request) {
    const { verifyDisk } = await import('../engine/verify-disk.ts');
    const against = await archiveRef(context, request.against);
    const full = request.full === undefined ? undefined : await archiveRef(context, request.full);
    return { result: await verifyDisk(context, request.disk, against, hooks, full), failures: [] };
  }
  const { verifyArchive } = await import('../engine/verify.ts');
  const failures: PhdError[] = [];
  let goodCount = 0;
  for (const archive of await archivesOf(context, request)) {
    throwIfAborted(hooks.signal);
    hooks.beforeDisk?.();
    try {
      await verifyArchive(context, await archiveRef(context, archive), hooks);
      goodCount++;
    } catch (error) {
      const failure = fromErrno(error, archive);
      if (failure.code === 'CANCELLED') throw failure;
      hooks.onWarning?.(failure.message);
      failures.push(failure);
    }
  }
  return { result: { goodCount, failedCount: failures.length }, failures };
}

async function archivesOf(
  context: EngineContext,
  request: Exclude<Requests['verify'], { disk: string }>,
): Promise<string[]> {
  if ('archives' in request) return request.archives;
  const { archivesToVerify } = await import('../engine/verify-choice.ts');
  return await archivesToVerify(context, request);
}
