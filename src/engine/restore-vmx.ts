/** VMX, NVRAM and logs of a VM out of a DELTA into a folder; for a copy in another place the VMX is fitted to it. */
import fs from 'node:fs';
import path from 'node:path';
import { parseArchiveName } from '../archive/names.ts';
import { type PlacedFiles, placeVmFiles } from '../datastore/place-vm-files.ts';
import { parseVmx, vmxDisks } from '../datastore/vmx.ts';
import { type RewrittenVmx, rewriteVmx, type VmxRewrite } from '../datastore/vmx-rewrite.ts';
import { PhdError } from '../errors.ts';
import { placePath, placeText } from './archive-place.ts';
import type { OperationHooks } from './backup.ts';
import type { EngineContext } from './context.ts';
import { openDelta } from './delta-reader.ts';
import { distinctDiskNames } from './disk-names.ts';
import { passphrasesForReading } from './passphrase-order.ts';
import { type ArchiveRef, findArchive } from './restore-source.ts';
import { deltaFileName } from './run-place.ts';
import { type ArchiveFile, readArchiveFiles } from './vm-files.ts';

export interface RestoreVmxRequest {
  archive: ArchiveRef;
  to: string;
  /** Fits the VMX to its new place; without it and `fit` it stays as it was. */
  rewrite?: Omit<VmxRewrite, 'pathExists'>;
  /** The same, with its disks found out when it is written. */
  fit?: VmxFit;
}

/** How a VMX is fitted to a new place, as jobs and commands ask for it. */
export interface VmxFit {
  /** `keep`: the VM is moved; `new`: it is a copy. */
  identity: 'keep' | 'new';
  displayName?: string;
  /** UUID of a copy, 32 hex digits; random if not given. */
  newUuid?: string;
  disconnectNetwork: boolean;
  /** Disks that are restored there, by the digits of archive names; others count if they lie there. */
  restored?: { scsiId: string; name: string }[];
}

/** Throws NOT_FOUND if the archive carries no such files; what happens to single files stands in the result. */
export async function restoreVmx(
  ctx: EngineContext,
  request: RestoreVmxRequest,
  hooks: OperationHooks = {},
): Promise<PlacedFiles> {
  const files = await readVmFiles(ctx, request.archive, hooks);
  const rewrite = request.rewrite ?? (request.fit && rewriteFor(files, request.to, request.fit));
  return await placeVmFiles(request.to, files, rewrite && withPaths(rewrite, request.to));
}

/** What a fit means for this VMX in this folder. Throws FORMAT_UNSUPPORTED if it is no VMX in truth. */
export function rewriteFor(
  files: readonly ArchiveFile[],
  folder: string,
  { restored = [], ...fit }: VmxFit,
): NonNullable<RestoreVmxRequest['rewrite']> {
  const diskFiles = new Map<string, string>();
  for (const { slot, scsiId, fileName } of disksOfVmx(files)) {
    const given = restored.find((one) => Number(one.scsiId) === Number(scsiId))?.name;
    const name = given ?? lastPart(fileName);
    if (given !== undefined || fs.existsSync(path.join(folder, name))) diskFiles.set(slot, name);
  }
  return { ...fit, diskFiles };
}

/** Disks that archives of these names restore into one folder, in their order, as a fit is told of them. */
export function disksOfArchives(files: readonly string[]): { scsiId: string; disk: string; name: string }[] {
  const names = files.map((file) => parseArchiveName(file)).filter((name) => name !== undefined);
  const distinct = distinctDiskNames(names);
  return names.map(({ scsiId, disk }, at) => ({ scsiId, disk, name: distinct[at] as string }));
}

/** Last part of a path of any system. */
function lastPart(file: string): string {
  return file.split(/[/\\]/).at(-1) ?? '';
}

/** VMX, NVRAM, logs and descriptors of an archive. Throws NOT_FOUND if it carries none but descriptors. */
export async function readVmFiles(
  ctx: EngineContext,
  archive: ArchiveRef,
  hooks: OperationHooks = {},
): Promise<ArchiveFile[]> {
  const { place, name } = await findArchive(archive, hooks.signal);
  const passphrases = await passphrasesForReading(ctx, name.encrypted, hooks.onWarning);
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

/**
 * What a rewrite would make of the VMX in this folder; null if there is none. Throws FORMAT_UNSUPPORTED if it is no VMX
 * in truth.
 */
export function previewVmx(
  files: readonly ArchiveFile[],
  rewrite: NonNullable<RestoreVmxRequest['rewrite']>,
  folder: string,
): RewrittenVmx | null {
  const vmx = files.find(({ kind }) => kind === 'vmx');
  return vmx === undefined ? null : rewriteVmx(vmx.bytes, withPaths(rewrite, folder));
}

/** Changed lines as people read them: `- ` goes, `+ ` comes. */
export function changeLines(changes: PlacedFiles['changes']): string[] {
  return changes.flatMap(({ before, after }) => [
    ...(before === null ? [] : [`- ${before}`]),
    ...(after === null ? [] : [`+ ${after}`]),
  ]);
}

/** Disks that a VMX connects, by the digits of archive names, with the slot and the file it names. Throws as above. */
export function disksOfVmx(
  files: readonly ArchiveFile[],
): { slot: string; scsiId: string; fileName: string }[] {
  const vmx = files.find(({ kind }) => kind === 'vmx');
  return vmx === undefined ? [] : vmxDisks(parseVmx(vmx.bytes, vmx.name));
}

/** Paths that are relative in a VMX begin in its folder. */
function withPaths(rewrite: Omit<VmxRewrite, 'pathExists'>, folder: string): VmxRewrite {
  return { ...rewrite, pathExists: (file) => fs.existsSync(path.resolve(folder, file)) };
}
