/** A VM of the archives put into a pool of XenServer: each disk proved here, sent, read back there; then the VM is made. */
import { parseArchiveName } from '../archive/names.ts';
import { fromErrno, PhdError, throwIfAborted } from '../errors.ts';
import type { KeptVm } from '../hosts/xen/kept-vm.ts';
import type { XenHost } from '../hosts/xen/xen-host.ts';
import type { ImportedDisk, XenImport } from '../hosts/xen/xen-import.ts';
import type { OperationHooks } from './backup.ts';
import type { EngineContext } from './context.ts';
import { escapeText } from './display-text.ts';
import { withProvedDisk } from './proved-disk.ts';
import type { ArchiveRef } from './restore-source.ts';
import { readVmFiles } from './restore-vmx.ts';

const PROOF = 'read back and compared';

export interface XenRestoreRequest {
  /** Name in phd.yaml, of type xen. */
  host: string;
  /** Archives of one run. */
  archives: readonly ArchiveRef[];
  /** FULLs that were chosen; those of other archives are looked for. */
  fulls?: ReadonlyMap<ArchiveRef, ArchiveRef>;
  /** Name or UUID of a storage repository; null: the pool's default. */
  repository: string | null;
  /** Of the VM; default: as in the archive. */
  name?: string;
  /** `auto`: kept unless a card in the pool has one of them. */
  macs: 'keep' | 'new' | 'auto';
}

export interface XenRestoreResult {
  repository: string;
  disks: { disk: string; diskBytes: number; vdi: string; proof: string }[];
  failed: { disk: string; error: PhdError }[];
  /** UUID of the VM, which is off; null: none was made, and `onWarning` said why. */
  vm: string | null;
  seconds: number;
}

/**
 * Throws what keeps all from being begun: USAGE, NOT_FOUND, NO_SPACE, TARGET_*, CANCELLED; then nothing of it stays in the pool. A
 * disk that fails is in `failed`; the VM is made only if none did, else the good disks stay, unattached.
 */
export async function restoreToXen(
  ctx: EngineContext,
  request: XenRestoreRequest,
  hooks: OperationHooks = {},
): Promise<XenRestoreResult> {
  const startedMs = performance.now();
  const [first] = request.archives;
  if (first === undefined) throw new PhdError('NOT_FOUND', 'there is no archive to restore');
  const host = await xenHost(ctx, request.host);
  const { chooseRepository } = await import('../hosts/xen/xen-storage.ts');
  const { XenImport: Import } = await import('../hosts/xen/xen-import.ts');
  const repository = await chooseRepository(host.session, request.repository, hooks.signal);
  const kept = await keptVmOf(ctx, first, hooks);
  const target = new Import(host, repository);
  const result: XenRestoreResult = {
    repository: repository.name,
    disks: [],
    failed: [],
    vm: null,
    seconds: 0,
  };
  try {
    const sent = new Map<ArchiveRef, ImportedDisk>();
    for (const archive of request.archives) {
      const disk = parseArchiveName(archive.file)?.disk ?? archive.file;
      try {
        hooks.beforeDisk?.();
        const { made, diskBytes } = await sendDisk(
          ctx,
          { archive, full: request.fulls?.get(archive), disk, kept, target },
          hooks,
        );
        sent.set(archive, made);
        result.disks.push({ disk, diskBytes, vdi: made.uuid, proof: PROOF });
      } catch (error) {
        const failure = fromErrno(error, disk);
        if (['CANCELLED', 'TARGET_UNREACHABLE'].includes(failure.code)) throw failure;
        result.failed.push({ disk, error: failure });
      }
    }
    if (result.failed.length === 0) result.vm = await makeVm(host, { target, kept, sent }, request, hooks);
    await target.finish();
    if (result.failed.length > 0) {
      await target.clearFailed().catch((failure: Error) => hooks.onWarning?.(failure.message));
      if (result.disks.length > 0)
        hooks.onWarning?.(
          `no VM is made: disks are missing; those that are there stay on ${repository.name}, unattached`,
        );
    }
    return { ...result, seconds: (performance.now() - startedMs) / 1000 };
  } catch (error) {
    await target.abandon().catch((failure: Error) => hooks.onWarning?.(failure.message));
    throw error;
  }
}

/** Throws USAGE if phd.yaml has no such host, or of another type. */
export async function xenHost(ctx: EngineContext, name: string): Promise<XenHost> {
  const { XenHost: Xen } = await import('../hosts/xen/xen-host.ts');
  const host = await ctx.host(name);
  if (host instanceof Xen) return host;
  throw new PhdError('USAGE', `host ${name} is of type ${host.config.type}: this is for type xen`);
}

/** Null, with a warning, for an archive that was not made of a VM of a pool. */
async function keptVmOf(
  ctx: EngineContext,
  archive: ArchiveRef,
  hooks: OperationHooks,
): Promise<KeptVm | null> {
  const { findKeptVm } = await import('../hosts/xen/kept-vm.ts');
  try {
    const kept = findKeptVm(await readVmFiles(ctx, archive, hooks));
    if (kept === null)
      hooks.onWarning?.('the archive is not of a VM of XenServer: its disks are sent, and no VM is made');
    return kept;
  } catch (error) {
    if (!(error instanceof PhdError) || !['NOT_FOUND', 'ARCHIVE_DAMAGED'].includes(error.code)) throw error;
    hooks.onWarning?.(`${error.message}: the disks are sent, and no VM is made`);
    return null;
  }
}

interface DiskToSend {
  archive: ArchiveRef;
  full: ArchiveRef | undefined;
  disk: string;
  kept: KeptVm | null;
  target: XenImport;
}

async function sendDisk(
  ctx: EngineContext,
  { kept, target, ...from }: DiskToSend,
  hooks: OperationHooks,
): Promise<{ made: ImportedDisk; diskBytes: number }> {
  return await withProvedDisk(ctx, from, hooks, async ({ file, sizeBytes, onBytes }) => {
    const name = (await keptDiskOf(kept, from.archive))?.vdi?.name_label ?? from.disk;
    const made = await target.importDisk({ name, file, sizeBytes }, { onBytes, signal: hooks.signal });
    return { made, diskBytes: sizeBytes };
  });
}

/** The drive that an archive's disk was, by its place on the bus. */
async function keptDiskOf(
  kept: KeptVm | null,
  { file }: ArchiveRef,
): Promise<KeptVm['vbds'][number] | undefined> {
  const { devicePosition, diskAt } = await import('../hosts/xen/kept-vm.ts');
  const scsiId = parseArchiveName(file)?.scsiId;
  return kept?.vbds.find(({ vbd, vdi }) => {
    const position = devicePosition(vbd.userdevice);
    return vdi !== null && position !== null && diskAt(position)?.scsiId === scsiId;
  });
}

/** Disks that the VM had and the archives of this restore have not. */
async function tellMissing(
  kept: KeptVm,
  archives: readonly ArchiveRef[],
  onWarning: (message: string) => void,
): Promise<void> {
  const there = await Promise.all(archives.map((archive) => keptDiskOf(kept, archive)));
  const had = kept.vbds.filter(({ vdi }) => vdi !== null);
  const missing = had.filter((one) => !there.includes(one));
  if (missing.length === 0) return;
  const { devicePosition, diskAt } = await import('../hosts/xen/kept-vm.ts');
  const names = missing.map(({ vbd, vdi }) => {
    const position = devicePosition(vbd.userdevice);
    const place = position === null ? null : diskAt(position);
    return `${escapeText(vdi?.name_label ?? '')} (${place?.name.replace(/\.vmdk$/, '') ?? escapeText(vbd.userdevice)})`;
  });
  onWarning(
    `the VM had ${had.length} disks and gets ${had.length - missing.length} of them: without ${names.join(', ')}`,
  );
}

interface SentVm {
  target: XenImport;
  kept: KeptVm | null;
  sent: ReadonlyMap<ArchiveRef, ImportedDisk>;
}

async function makeVm(
  host: XenHost,
  { target, kept, sent }: SentVm,
  request: XenRestoreRequest,
  { onWarning = () => undefined, signal }: OperationHooks,
): Promise<string | null> {
  if (kept === null) return null;
  const { placeVifs, takenMacs } = await import('../hosts/xen/new-vm.ts');
  const { vmRecord } = await import('../hosts/xen/xen-records.ts');
  const name = request.name ?? kept.vm.name_label;
  const taken = await takenMacs(host, kept, signal);
  const isKept = request.macs === 'keep' || (request.macs === 'auto' && taken.length === 0);
  if (taken.length > 0)
    onWarning(
      `${host.config.name} has network cards with the MAC addresses of ${escapeText(name)} (${taken.join(', ')}): ${isKept ? 'they are kept all the same: do not start both' : 'the restored VM gets new ones'}`,
    );
  const vifs = await placeVifs(host, kept, isKept, onWarning, signal);
  await tellMissing(kept, [...sent.keys()], onWarning);
  const disks: { userdevice: string; bootable: boolean; mode: string; vdiRef: string }[] = [];
  for (const [archive, { vdiRef }] of sent) {
    const known = (await keptDiskOf(kept, archive))?.vbd;
    const free = String(disks.length);
    const { userdevice = free, bootable = disks.length === 0, mode = 'RW' } = known ?? {};
    disks.push({ userdevice, bootable, mode, vdiRef });
  }
  throwIfAborted(signal);
  const vmRef = await target.createVm({ kept, name, disks, vifs });
  const made = await host.session.call(
    'VM.get_record',
    [vmRef],
    vmRecord,
    `cannot see VM ${escapeText(name)}`,
  );
  return made.uuid.toLowerCase();
}
