/** Exports of XenServer's own forms into files: proved as they come, read back, and only then given their name. */
import { createHash } from 'node:crypto';
import { type FileHandle, realpath, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { createNewFile, partOf, removeParts, renameDurably } from '../datastore/durable-file.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { XenExport, XvaPacking } from '../hosts/xen/xen-export.ts';
import type { XenHost } from '../hosts/xen/xen-host.ts';
import { makeFolder } from '../make-folder.ts';
import type { OperationHooks } from './backup.ts';
import { findVm } from './backup-host.ts';
import type { EngineContext } from './context.ts';
import { claimExportFile, claimHostVm } from './host-claim.ts';
import { Progress } from './progress.ts';
import { xenHost } from './restore-to-xen.ts';

export type XenForm = 'xva' | 'vhd' | 'raw' | 'metadata' | 'pool-db';

export interface XenExportRequest {
  /** Name in phd.yaml, of type xen. */
  host: string;
  /** Name or UUID of the VM; null for the database of the pool. */
  vm: string | null;
  as: XenForm;
  /** Of disks a folder; else a file, or a folder that is there. */
  to: string;
  /** Of an XVA. */
  packing: XvaPacking;
}

export interface ExportedFile {
  file: string;
  bytes: number;
  sha256: string;
  /** What was proved of it, in words. */
  proof: string;
}

export interface XenExportResult {
  files: ExportedFile[];
  failed: { file: string; error: PhdError }[];
}

/**
 * A file that fails is in `failed` and does not stop the others. Throws what keeps all from being begun: USAGE, NOT_FOUND,
 * TARGET_*, CANCELLED.
 */
export async function exportFromXen(
  ctx: EngineContext,
  request: XenExportRequest,
  hooks: OperationHooks = {},
): Promise<XenExportResult> {
  const { signal } = hooks;
  const onWarning = hooks.onWarning ?? (() => undefined);
  const host = await xenHost(ctx, request.host);
  const forms = await import('../hosts/xen/xen-export.ts');
  if (request.as === 'pool-db') return await save(ctx, host, request, [forms.poolDatabaseExport()], hooks);
  if (request.vm === null) throw new PhdError('USAGE', `--as ${request.as} needs a VM: name it as HOST/VM`);
  const vm = await findVm(host, { host: request.host, vm: request.vm }, signal);
  const { fileWord } = await import('../hosts/xen/kept-vm.ts');
  const name = fileWord(vm.name);
  if (request.as === 'metadata') {
    const { xenVmNow } = await import('../hosts/xen/xen-vms.ts');
    const { vmRef } = await xenVmNow(host.session, vm.id, 'cannot export it', signal);
    return await save(ctx, host, request, [forms.metadataExport(vmRef, name)], hooks);
  }
  const claim = claimHostVm(ctx.places.stateDir, request.host, vm);
  try {
    return await forms.withExportable(host, vm.id, { signal, onWarning }, async (vmRef) => {
      const all =
        request.as === 'xva'
          ? [forms.xvaExport(vmRef, name, request.packing, await forms.diskSizesBytes(host, vmRef, signal))]
          : await forms.diskExports(host, vmRef, request.as === 'raw' ? 'raw' : 'vhd', signal);
      if (all.length === 0) throw new PhdError('NOT_FOUND', `${vm.name} has no disk`);
      return await save(ctx, host, request, all, hooks);
    });
  } finally {
    claim.release();
  }
}

async function save(
  ctx: EngineContext,
  host: XenHost,
  { as, to }: XenExportRequest,
  exports: readonly XenExport[],
  hooks: OperationHooks,
): Promise<XenExportResult> {
  const isFolder = as === 'vhd' || as === 'raw' || (await isExistingFolder(to));
  const result: XenExportResult = { files: [], failed: [] };
  for (const one of exports) {
    const file = isFolder ? path.join(to, one.fileName) : to;
    try {
      hooks.beforeDisk?.();
      result.files.push(await saveClaimed(ctx, host, one, file, hooks));
    } catch (error) {
      const failure = fromErrno(error, `cannot write ${file}`);
      if (failure.code === 'CANCELLED') throw failure;
      result.failed.push({ file, error: failure });
    }
  }
  return result;
}

async function isExistingFolder(to: string): Promise<boolean> {
  return (await stat(to).catch(() => null))?.isDirectory() ?? false;
}

/** What a killed export left beside the file goes first. */
async function saveClaimed(
  ctx: EngineContext,
  host: XenHost,
  one: XenExport,
  file: string,
  hooks: OperationHooks,
): Promise<ExportedFile> {
  await requireFree(file);
  const folder = path.dirname(path.resolve(file));
  await makeFolder(folder, 0o777);
  const claim = claimExportFile(ctx.places.stateDir, path.join(await realpath(folder), path.basename(file)));
  try {
    await removeParts(file);
    return await saveOne(host, one, file, hooks);
  } finally {
    claim.release();
  }
}

async function saveOne(
  host: XenHost,
  { handler, query, prove, sizeBytes }: XenExport,
  file: string,
  { signal, onProgress }: OperationHooks,
): Promise<ExportedFile> {
  const part = partOf(file);
  const doing = `cannot export ${path.basename(file)}`;
  const progress = new Progress(onProgress, {
    label: path.basename(file),
    phase: 'export',
    totalBytes: sizeBytes ?? 0,
  });
  const proof = prove(path.basename(file));
  const handle = await createNewFile(part);
  try {
    const hash = createHash('sha256');
    let bytes = 0;
    const keep = async (piece: Buffer): Promise<void> => {
      await proof.push(piece);
      hash.update(piece);
      await writeFully(handle, piece, bytes, part);
      bytes += piece.length;
      progress.add(piece.length);
    };
    await host.transfers.download(handler, query, keep, { doing, signal });
    const words = await proof.end();
    progress.finish();
    const sha256 = hash.digest('hex');
    await handle.sync();
    if ((await digestOf(handle)) !== sha256)
      throw new PhdError('DIGEST_MISMATCH', `${part} reads back differently from what was written`);
    await renameDurably(part, file, { replace: false });
    return { file, bytes, sha256, proof: words };
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  } finally {
    proof.stop();
    await handle.close();
  }
}

async function requireFree(file: string): Promise<void> {
  const there = await stat(file).catch((error) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw fromErrno(error, `cannot look at ${file}`);
  });
  if (there !== null)
    throw new PhdError('EXISTS', `${file} is there already: name another file, or move it away`);
}

async function writeFully(handle: FileHandle, piece: Buffer, start: number, file: string): Promise<void> {
  try {
    for (let at = 0; at < piece.length; ) {
      const { bytesWritten } = await handle.write(piece, at, piece.length - at, start + at);
      at += bytesWritten;
    }
  } catch (error) {
    throw fromErrno(error, `cannot write ${file}`);
  }
}

async function digestOf(handle: FileHandle): Promise<string> {
  const hash = createHash('sha256');
  for await (const part of handle.createReadStream({ start: 0, autoClose: false }))
    hash.update(part as Buffer);
  return hash.digest('hex');
}
