/** A VM of the archives put onto an ESX host: each disk proved here, sent, proved there; its VMX fitted; registered. */
import path from 'node:path';
import { parseArchiveName } from '../archive/names.ts';
import { isPlainName, shownName } from '../datastore/plain-name.ts';
import { parseVmx, vmxUuid } from '../datastore/vmx.ts';
import { rewriteVmx } from '../datastore/vmx-rewrite.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { EsxHost } from '../hosts/esx/esx-host.ts';
import type { EsxImport } from '../hosts/esx/esx-import.ts';
import type { OperationHooks } from './backup.ts';
import type { EngineContext } from './context.ts';
import { distinctDiskNames } from './disk-names.ts';
import { escapeText } from './display-text.ts';
import { claimHostPlace } from './host-claim.ts';
import { neededRoom, requireHostRoom } from './host-room.ts';
import { withProvedDisk } from './proved-disk.ts';
import type { ArchiveRef } from './restore-source.ts';
import { readVmFiles, rewriteFor } from './restore-vmx.ts';
import type { ArchiveFile } from './vm-files.ts';

/** Files of the archive that are put beside the disks as they are. */
const PLACED_KINDS: ReadonlySet<ArchiveFile['kind']> = new Set(['nvram', 'vmxf']);

export interface HostRestoreRequest {
  /** Name in phd.yaml, of type esx. */
  host: string;
  /** Archives of one run. */
  archives: readonly ArchiveRef[];
  /** FULLs that were chosen; those of other archives are looked for. */
  fulls?: ReadonlyMap<ArchiveRef, ArchiveRef>;
  datastore: string;
  /** Of the folder and the VM; default: as in the archive. */
  name?: string;
}

export interface HostRestoreResult {
  /** `/vmfs/volumes/datastore1/web` */
  folder: string;
  disks: { disk: string; diskBytes: number; proof: string }[];
  failed: { disk: string; error: PhdError }[];
  /** Id of the VM there; null: it was not registered, and `onWarning` said why. */
  vmId: string | null;
  seconds: number;
}

/**
 * Each disk is restored here first, into the state folder, and sent when it is proved. A disk that fails is in `failed`; the VM
 * is registered only if none did. Throws what keeps all from being begun: USAGE, NOT_FOUND, EXISTS, LOCKED (another restore to
 * this place runs), VM_RUNNING, NO_SPACE (the data of all disks does not fit), TARGET_*, CANCELLED; then nothing of it stays on
 * the host.
 */
export async function restoreToHost(
  ctx: EngineContext,
  request: HostRestoreRequest,
  hooks: OperationHooks = {},
): Promise<HostRestoreResult> {
  const startedMs = performance.now();
  const [first] = request.archives;
  if (first === undefined) throw new PhdError('NOT_FOUND', 'there is no archive to restore');
  const host = await esxHost(ctx, request.host);
  const files = await vmFiles(ctx, first, hooks);
  const name = request.name ?? nameOf(files, first);
  const { goalPlace } = await import('../hosts/esx/esx-goal.ts');
  const place = await goalPlace(host, request.datastore, name, hooks.signal);
  const claim = claimHostPlace(ctx.places.stateDir, place);
  try {
    const result = await restoreInto(ctx, { host, files, name }, request, hooks);
    return { ...result, seconds: (performance.now() - startedMs) / 1000 };
  } finally {
    claim.release();
  }
}

interface Goal {
  host: EsxHost;
  files: readonly ArchiveFile[];
  name: string;
}

async function restoreInto(
  ctx: EngineContext,
  { host, files: all, name }: Goal,
  request: HostRestoreRequest,
  hooks: OperationHooks,
): Promise<Omit<HostRestoreResult, 'seconds'>> {
  const { archives, datastore, fulls = new Map() } = request;
  const { EsxImport, isPlaceableName } = await import('../hosts/esx/esx-import.ts');
  const files = all.filter((file) => {
    if (isPlaceableName(file.name) || !PLACED_KINDS.has(file.kind)) return true;
    hooks.onWarning?.(`${shownName(file.name)} is left out: no file of such a name is written`);
    return false;
  });
  const target = await EsxImport.begin(host, datastore, name, hooks.signal);
  const abandon = (): Promise<void> =>
    target.abandon().catch((failure: Error) => hooks.onWarning?.(failure.message));
  try {
    const needed = await neededRoom(ctx, archives, fulls, hooks.signal);
    await requireHostRoom(host, datastore, needed, hooks);
    const disks: HostRestoreResult['disks'] = [];
    const failed: HostRestoreResult['failed'] = [];
    const names = diskNames(archives);
    for (const [at, archive] of archives.entries()) {
      const disk = names[at]!.name;
      try {
        hooks.beforeDisk?.();
        disks.push(await sendDisk(ctx, { archive, full: fulls.get(archive), disk, files, target }, hooks));
      } catch (error) {
        const failure = fromErrno(error, disk);
        if (['CANCELLED', 'TARGET_UNREACHABLE'].includes(failure.code)) throw failure;
        failed.push({ disk, error: failure });
      }
    }
    if (disks.length === 0) {
      await abandon();
      return { folder: target.folder, disks, failed, vmId: null };
    }
    const good = names.filter(({ name: one }) => disks.some(({ disk }) => disk === one));
    const isWhole = failed.length === 0;
    const vmId = await placeVm({ host, target, files, name, good, isWhole }, request, hooks);
    if (isWhole)
      await target.finish().catch((error: Error) => {
        const state = vmId === null ? 'whole' : 'whole and registered';
        hooks.onWarning?.(`${error.message}: the VM is ${state}, remove ${target.mark} by hand`);
      });
    return { folder: target.folder, disks, failed, vmId };
  } catch (error) {
    await abandon();
    throw error;
  }
}

/** Why a VM of this name cannot be put onto a datastore, or null. Throws CANCELLED. */
export async function hostGoalFault(
  ctx: EngineContext,
  { host: hostName, datastore, name }: { host: string; datastore: string; name: string },
  signal?: AbortSignal,
): Promise<PhdError | null> {
  const { lookAtGoal } = await import('../hosts/esx/esx-goal.ts');
  try {
    await lookAtGoal(await esxHost(ctx, hostName), datastore, name, signal);
    return null;
  } catch (error) {
    const failure = fromErrno(error, `cannot look at ${name} on ${hostName}`);
    if (failure.code === 'CANCELLED') throw failure;
    return failure;
  }
}

/** Throws USAGE if phd.yaml has no such host, or of another type. */
export async function esxHost(ctx: EngineContext, name: string): Promise<EsxHost> {
  const { EsxHost } = await import('../hosts/esx/esx-host.ts');
  const host = await ctx.host(name);
  if (host instanceof EsxHost) return host;
  throw new PhdError('USAGE', `host ${name} is of type ${host.config.type}: this is for type esx`);
}

/** Empty for an archive that carries none: its disks can be sent all the same. */
async function vmFiles(
  ctx: EngineContext,
  archive: ArchiveRef,
  hooks: OperationHooks,
): Promise<ArchiveFile[]> {
  try {
    return await readVmFiles(ctx, archive, hooks);
  } catch (error) {
    if (!(error instanceof PhdError) || error.code !== 'NOT_FOUND') throw error;
    hooks.onWarning?.(`${error.message}: the disks are sent, and no VM is registered`);
    return [];
  }
}

/** Display name of the VMX where it can be a folder, else the disk's name. */
function nameOf(files: readonly ArchiveFile[], { file }: ArchiveRef): string {
  const vmx = files.find(({ kind }) => kind === 'vmx');
  const shown = vmx && parseVmx(vmx.bytes, vmx.name).values.get('displayname')?.trim();
  if (shown && isPlainName(shown) && !/^[.-]|"/.test(shown)) return shown;
  return (parseArchiveName(file)?.disk ?? file).replace(/\.vmdk$/i, '');
}

/** Names on the host: those of the archives, with the place on the bus where two bear one. */
function diskNames(archives: readonly ArchiveRef[]): { scsiId: string; name: string }[] {
  const disks = archives.map(({ file }) => {
    const { disk = file, scsiId = '00' } = parseArchiveName(file) ?? {};
    return { scsiId, disk: `${path.posix.basename(disk).replace(/\.vmdk$/i, '')}.vmdk` };
  });
  const names = distinctDiskNames(disks);
  return disks.map(({ scsiId }, at) => ({ scsiId, name: names[at] as string }));
}

interface DiskToSend {
  archive: ArchiveRef;
  full: ArchiveRef | undefined;
  disk: string;
  files: readonly ArchiveFile[];
  target: EsxImport;
}

async function sendDisk(
  ctx: EngineContext,
  { files, target, ...from }: DiskToSend,
  hooks: OperationHooks,
): Promise<HostRestoreResult['disks'][number]> {
  return await withProvedDisk(ctx, from, hooks, async ({ file, sizeBytes, onBytes }) => {
    const adapterType = adapterOf(files, from.archive);
    const sent = { name: from.disk, adapterType, file, sizeBytes };
    const { proof } = await target.importDisk(sent, { onBytes, signal: hooks.signal });
    return { disk: from.disk, diskBytes: sizeBytes, proof };
  });
}

/** The controller that the VMX gives the disk: vmkfstools takes other words than VMX files do. */
function adapterOf(files: readonly ArchiveFile[], { file }: ArchiveRef): string | null {
  const vmx = files.find(({ kind }) => kind === 'vmx');
  const scsiId = parseArchiveName(file)?.scsiId;
  if (vmx === undefined || scsiId === undefined) return null;
  const { values } = parseVmx(vmx.bytes, vmx.name);
  return values.get(`scsi${scsiId.slice(0, -1)}.virtualdev`) ?? null;
}

interface Placed {
  host: EsxHost;
  target: EsxImport;
  files: readonly ArchiveFile[];
  name: string;
  /** Disks that are there. */
  good: { scsiId: string; name: string }[];
  isWhole: boolean;
}

/** VMX fitted to its place, NVRAM; registered if all disks are there. Id of the VM. */
async function placeVm(
  { host, target, files, name, good, isWhole }: Placed,
  request: HostRestoreRequest,
  { signal, onWarning = () => undefined }: OperationHooks,
): Promise<string | null> {
  const vmx = files.find(({ kind }) => kind === 'vmx');
  if (vmx === undefined) return null;
  const uuid = uuidOf(vmx);
  const twin = (await host.listVms(signal)).find((vm) => uuid !== null && vm.uuid === uuid);
  if (twin)
    onWarning(
      `${escapeText(twin.name)} on ${request.host} has the UUID of this VM: the restored one is a copy with another UUID and other MAC addresses, its network is unplugged`,
    );
  const displayName = request.name === undefined ? {} : { displayName: request.name };
  const fit = {
    identity: twin ? ('new' as const) : ('keep' as const),
    disconnectNetwork: twin !== undefined,
  };
  const rewrite = rewriteFor(files, target.folder, { ...fit, ...displayName, restored: good });
  const { text } = rewriteVmx(vmx.bytes, { ...rewrite, pathExists: () => false });
  const vmxName = `${name}.vmx`;
  for (const file of files.filter(({ kind }) => PLACED_KINDS.has(kind)))
    await target.placeFile(file.name, file.bytes, signal);
  await target.placeFile(vmxName, Buffer.from(text), signal);
  if (isWhole) return await target.register(vmxName, signal);
  onWarning(
    `${escapeText(name)} is not registered on ${request.host}: disks are missing; the next restore to this place begins anew`,
  );
  return null;
}

function uuidOf(vmx: ArchiveFile): string | null {
  return vmxUuid(parseVmx(vmx.bytes, vmx.name).values.get('uuid.bios'));
}
