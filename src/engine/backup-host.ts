/** Backup of one VM of a host: found, held still, backed up, let go. */
import { namedTarget } from '../config/named-target.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { FrozenVm, Host, HostVm } from '../hosts/host.ts';
import { nearNames } from '../model/near-names.ts';
import {
  type BackupRequest,
  type BackupResult,
  backup,
  backupSource,
  type OperationHooks,
  type SourceRequest,
} from './backup.ts';
import type { EngineContext } from './context.ts';
import { escapeText } from './display-text.ts';
import { claimHostVm } from './host-claim.ts';

export interface HostBackupRequest extends SourceRequest {
  /** Name in phd.yaml. */
  host: string;
  /** Name, uuid or id of the VM there. */
  vm: string;
  /** Asks the guest to flush its file systems. */
  quiesce?: boolean;
  /** Commands run on this machine, before the snapshot and as soon as it stands or has failed. */
  preFreeze?: string;
  postThaw?: string;
}

/** Backs up a VM, of a host or in a local folder. Throws as these do. */
export async function backupVm(
  ctx: EngineContext,
  request: HostBackupRequest | BackupRequest,
  hooks: OperationHooks = {},
): Promise<BackupResult> {
  return 'host' in request ? await backupHostVm(ctx, request, hooks) : await backup(ctx, request, hooks);
}

/**
 * Backs up a VM of a host as `backupSource` does. A VM that could not be let go is named in `failed`, and loudly.
 * Throws also USAGE (no such host, several VMs of this name), NOT_FOUND, LOCKED, VM_RUNNING, HOST_KEY_REFUSED.
 */
export async function backupHostVm(
  ctx: EngineContext,
  request: HostBackupRequest,
  hooks: OperationHooks = {},
): Promise<BackupResult> {
  const { signal } = hooks;
  const onWarning = hooks.onWarning ?? (() => undefined);
  if (request.target !== undefined) namedTarget(ctx.config, request.target);
  const host = await ctx.host(request.host);
  const vm = await findVm(host, request, signal);
  const lock = claimHostVm(ctx.places.stateDir, host.config.name, vm);
  try {
    const { quiesce, assumeOff, preFreeze, postThaw } = request;
    const frozen = await host.freeze(vm, { quiesce, assumeOff, preFreeze, postThaw, onWarning, signal });
    const [ended] = await Promise.allSettled([backupSource(ctx, frozen.source, request, hooks)]);
    const unreleased = await letGo(frozen, vm, host, onWarning);
    if (ended.status === 'rejected') throw ended.reason;
    const failed = unreleased === null ? [] : [{ disk: vm.name, error: unreleased }];
    return { ...ended.value, failed: [...ended.value.failed, ...failed] };
  } finally {
    lock.release();
  }
}

/** As `chooseVm`; one that is not there may be one that the host cannot tell of. */
export async function findVm(
  host: Host,
  wanted: { host: string; vm: string },
  signal?: AbortSignal,
): Promise<HostVm> {
  const faults: string[] = [];
  const vms = await host.listVms(signal, (fault) => void faults.push(fault));
  try {
    return chooseVm(vms, wanted);
  } catch (error) {
    const failure = fromErrno(error, wanted.vm);
    if (failure.code !== 'NOT_FOUND' || faults.length === 0) throw failure;
    throw new PhdError('NOT_FOUND', [failure.message, ...faults].join('; '));
  }
}

/** The one VM of a list that is meant. Throws NOT_FOUND, USAGE. */
export function chooseVm(vms: readonly HostVm[], { host, vm }: { host: string; vm: string }): HostVm {
  const uuid = vm.toLowerCase();
  const found = vms.filter((one) => one.name === vm);
  const named = found.length > 0 ? found : vms.filter((one) => one.uuid === uuid || one.id === vm);
  const [first, second] = named;
  if (first === undefined) {
    const near = nearNames(
      vm,
      vms.map(({ name }) => name),
    );
    const proposal = near.length === 0 ? `see phd host list ${host}` : `is ${near.join(' or ')} meant?`;
    throw new PhdError('NOT_FOUND', `host ${host} has no VM ${vm}: ${proposal}`);
  }
  if (second !== undefined) {
    const which = named.map((one) => one.uuid ?? one.id).join(', ');
    throw new PhdError('USAGE', `host ${host} has ${named.length} VMs named ${vm}: name one by ${which}`);
  }
  return first;
}

async function letGo(
  frozen: FrozenVm,
  vm: HostVm,
  host: Host,
  onWarning: (message: string) => void,
): Promise<PhdError | null> {
  try {
    await frozen.release();
    return null;
  } catch (error) {
    const failure = fromErrno(error, `cannot let go of ${vm.name}`);
    const words = `${host.config.name}/${escapeText(vm.name)} could not be let go as it was: ${failure.message}`;
    onWarning(words);
    return new PhdError(failure.code, words, { cause: error });
  }
}
