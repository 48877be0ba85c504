/** VMX, NVRAM and logs of a VM out of a DELTA into a folder; for a copy in another place the VMX is fitted to it. */
import fs from 'node:fs';
import { type PlacedFiles, placeVmFiles } from '../datastore/place-vm-files.ts';
import { parseVmx, vmxDisks } from '../datastore/vmx.ts';
import { type RewrittenVmx, rewriteVmx, type VmxRewrite } from '../datastore/vmx-rewrite.ts';
import { PhdError } from '../errors.ts';
import { placePath, placeText } from './archive-place.ts';
import type { OperationHooks } from './backup.ts';
import type { EngineContext } from './context.ts';
import { openDelta } from './delta-reader.ts';
import { passphrasesToRead } from './passphrase-order.ts';
import { type ArchiveRef, findArchive } from './restore-source.ts';
import { deltaFileName } from './run-place.ts';
import { type ArchiveFile, readArchiveFiles } from './vm-files.ts';

export interface RestoreVmxRequest {
  archive: ArchiveRef;
  to: string;
  /** Fits the VMX to its new place; undefined leaves it as it was. */
  rewrite?: Omit<VmxRewrite, 'pathExists'>;
}

/** Throws NOT_FOUND if the archive carries no such files; what happens to single files stands in the result. */
export async function restoreVmx(
  ctx: EngineContext,
  request: RestoreVmxRequest,
  hooks: OperationHooks = {},
): Promise<PlacedFiles> {
  const files = await readVmFiles(ctx, request.archive, hooks);
  return await placeVmFiles(request.to, files, request.rewrite && withPaths(request.rewrite));
}

/** VMX, NVRAM, logs and descriptors of an archive. Throws NOT_FOUND if it carries none but descriptors. */
export async function readVmFiles(
  ctx: EngineContext,
  archive: ArchiveRef,
  hooks: OperationHooks = {},
): Promise<ArchiveFile[]> {
  const { place, name } = await findArchive(archive, hooks.signal);
  const passphrases = passphrasesToRead(await ctx.passphrases());
  let deltaPlace = place;
  if (name.kind === 'full') {
    const file = deltaFileName({ ...name, codec: name.codec ?? 'gzip', fullStamp: name.stamp });
    const entry = await place.storage.stat(placePath({ folder: place.folder, file }), hooks.signal);
    if (entry?.kind !== 'file')
      throw new PhdError('NOT_FOUND', `${placeText(place)} has no empty DELTA: the VMX is kept there`);
    deltaPlace = { ...place, file, sizeBytes: entry.sizeBytes };
  }
  const delta = await openDelta(deltaPlace, passphrases, hooks.signal);
  const files = [];
  for await (const file of readArchiveFiles(delta)) files.push(file);
  if (!files.some((file) => file.kind !== 'descriptor')) {
    throw new PhdError('NOT_FOUND', `${placeText(deltaPlace)} carries no VMX`);
  }
  return files;
}

/** What a rewrite would make of the VMX; null if there is none. Throws FORMAT_UNSUPPORTED if it is no VMX in truth. */
export function previewVmx(
  files: readonly ArchiveFile[],
  rewrite: NonNullable<RestoreVmxRequest['rewrite']>,
): RewrittenVmx | null {
  const vmx = files.find(({ kind }) => kind === 'vmx');
  return vmx === undefined ? null : rewriteVmx(vmx.bytes, withPaths(rewrite));
}

/** Disks that a VMX connects, by the digits of archive names, with the slot and the file it names. Throws as above. */
export function disksOfVmx(
  files: readonly ArchiveFile[],
): { slot: string; scsiId: string; fileName: string }[] {
  const vmx = files.find(({ kind }) => kind === 'vmx');
  return vmx === undefined ? [] : vmxDisks(parseVmx(vmx.bytes, vmx.name));
}

function withPaths(rewrite: Omit<VmxRewrite, 'pathExists'>): VmxRewrite {
  return { ...rewrite, pathExists: (path) => fs.existsSync(path) };
}
