/** A VM folder as the source of a backup: which disks it has, which files go with them, what cannot be backed up. */
import type { Dirent } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { v5 as uuidV5 } from 'uuid';
import { fromErrno, PhdError } from '../errors.ts';
import { nearNames } from '../model/near-names.ts';
import { readSmallFile } from './descriptor-file.ts';
import { shownName } from './plain-name.ts';
import { type DiskClaim, openSourceDisk, type SourceDisk, unsupported } from './source-disk.ts';
import { claimsWithoutVmx } from './unlisted-disks.ts';
import { collectVmFiles, type VmFile } from './vm-files.ts';
import { MAX_VMX_BYTES, parseVmx, type Vmx, vmxDisks, vmxUuid } from './vmx.ts';

export type { SourceDisk } from './source-disk.ts';
export type { VmFile } from './vm-files.ts';

export interface SourceVm {
  /** Absolute, symbolic links resolved; of a VM on a host, its place there. */
  folder: string;
  /** Machine it lies on; left out: this one. */
  hostName?: string;
  /** Name of the folder. */
  vmName: string;
  /** From the VMX, else the name of the folder. */
  displayName: string;
  /** uuid.bios in lower case, else a UUIDv5 of host and path. */
  uuid: string;
  files: VmFile[];
  disks: SourceDisk[];
  /** Disks that cannot be backed up as they stand, each by name with the reason (SOURCE_UNSUPPORTED). */
  refused: { disk: string; error: PhdError }[];
  /** What was left out or looks odd, a line each. */
  notices: string[];
}

/** The one VMX of a folder; undefined if it has none. Of several only the one named like the folder is taken. */
function chooseVmx(folder: string, entries: readonly Dirent[]): string | undefined {
  const names = entries
    .filter((entry) => entry.isFile() && /^[^.].*\.vmx$/i.test(entry.name))
    .map((entry) => entry.name);
  if (names.length <= 1) return names[0];
  const own = names.find((name) => name === `${basename(folder)}.vmx`);
  if (own !== undefined) return own;
  throw unsupported(
    folder,
    `it holds several VMX files (${names.map(shownName).join(', ')}) and none is named like the folder: move all but one away`,
  );
}

function claimsFromVmx(vmx: Vmx, folder: string): DiskClaim[] {
  return vmxDisks(vmx).map(({ fileName, scsiId }) => ({
    scsiId,
    path: fileName.startsWith('/') ? fileName : join(folder, fileName),
    fileName,
    isNamedByVmx: true,
  }));
}

/** Opens each disk; one that fails is named in `refused` and does not hide the others. */
async function openDisks(claims: readonly DiskClaim[], vm: SourceVm): Promise<void> {
  const seenFlats = new Map<string, string>();
  const seenNames = new Set<string>();
  for (const claim of claims) {
    try {
      const disk = await openSourceDisk(claim);
      const flat = await realpath(disk.flatPath).catch((error) =>
        Promise.reject(fromErrno(error, disk.flatPath)),
      );
      const first = seenFlats.get(flat);
      if (first !== undefined) {
        vm.notices.push(`${shownName(disk.name)} is left out: it is the same flat as ${shownName(first)}`);
        continue;
      }
      const archiveKey = `${disk.scsiId}-${disk.name}`;
      if (seenNames.has(archiveKey))
        throw unsupported(disk.name, `another disk has the same name at ${disk.scsiId}`);
      seenFlats.set(flat, disk.name);
      seenNames.add(archiveKey);
      vm.disks.push(disk);
    } catch (error) {
      const reason = fromErrno(error, shownName(claim.fileName));
      if (reason.code === 'CANCELLED') throw reason;
      const isNamed = reason.code === 'SOURCE_UNSUPPORTED';
      vm.refused.push({
        disk: basename(claim.path),
        error: isNamed ? reason : new PhdError('SOURCE_UNSUPPORTED', reason.message, { cause: reason }),
      });
    }
  }
}

/**
 * Reads a VM folder: the VMX and the disks it connects; without a VMX every descriptor with a flat and every raw
 * image (`.img`, `.raw`, `.dsk`), numbered in order.
 * @param hostName stands in the UUID of a VM that has none
 * @param images paths of further raw images or devices that the operator names
 * @param datastores where a folder that is not there may have been meant
 * @throws PhdError NOT_FOUND, SOURCE_UNSUPPORTED (no single VMX), FORMAT_UNSUPPORTED (no VMX in truth), IO.
 *   A folder without any disk is returned with empty lists.
 */
export async function openSourceVm(
  folder: string,
  hostName: string,
  images: readonly string[] = [],
  datastores: readonly string[] = [],
): Promise<SourceVm> {
  await requireVmFolder(folder, datastores);
  const { root, entries, vmxName, vmx } = await readVmFolder(folder);
  const vmName = basename(root);
  const vm: SourceVm = {
    folder: root,
    vmName,
    displayName: vmx?.values.get('displayname')?.trim() || vmName,
    uuid: uuidOfVm(vmx, hostName, root),
    files: [],
    disks: [],
    refused: [],
    notices: [],
  };
  if (vmx?.values.has('encryption.data') && images.length === 0) {
    // Its disks are named in the part that cannot be read.
    throw new PhdError(
      'SOURCE_UNSUPPORTED',
      `${shownName(vmName)} cannot be backed up: ${shownName(vmxName!)} is encrypted: decrypt the VM, or name raw images with --image`,
    );
  }
  for (const key of vmx?.duplicates ?? []) {
    vm.notices.push(`${shownName(vmxName!)} sets ${shownName(key)} more than once: the first line counts`);
  }
  const listed = vmx ? claimsFromVmx(vmx, root) : await claimsWithoutVmx(root, entries, vm.refused);
  const extra = images.map((path, index) => ({
    scsiId: freeScsiId(listed.length + index),
    path,
    fileName: path,
    isNamedByVmx: true,
  }));
  const numbered = vmx ? listed : listed.map((claim, index) => ({ ...claim, scsiId: freeScsiId(index) }));
  await openDisks([...numbered, ...extra], vm);
  vm.files = await collectVmFiles(root, entries, { vmxName, nvramName: vmx?.values.get('nvram') }, vm);
  return vm;
}

interface VmFolder {
  /** Symbolic links resolved. */
  root: string;
  entries: Dirent[];
  vmxName: string | undefined;
  vmx: Vmx | null;
}

async function readVmFolder(folder: string): Promise<VmFolder> {
  let root: string;
  let entries: Dirent[];
  try {
    root = await realpath(folder);
    entries = (await readdir(root, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    throw fromErrno(error, `cannot read the VM folder ${folder}`);
  }
  const vmxName = chooseVmx(root, entries);
  const vmx =
    vmxName === undefined ? null : parseVmx(await readSmallFile(join(root, vmxName), MAX_VMX_BYTES), vmxName);
  return { root, entries, vmxName, vmx };
}

/** What the archives of a VM folder go by; its disks are not looked at. Throws NOT_FOUND, SOURCE_UNSUPPORTED, IO. */
export async function uuidOfVmFolder(folder: string, hostName: string): Promise<string> {
  const { root, vmx } = await readVmFolder(folder);
  return uuidOfVm(vmx, hostName, root);
}

/** uuid.bios of the VMX in lower case; where it has none, a UUIDv5 of host and (real) folder. */
export function uuidOfVm(vmx: Vmx | null, hostName: string, folder: string): string {
  return vmxUuid(vmx?.values.get('uuid.bios')) ?? uuidV5(`file://${hostName}${folder}`, uuidV5.URL);
}

/**
 * Throws NOT_FOUND unless the folder of a VM is there, with folders of near names beside it and in the datastores;
 * or if it is a file; IO.
 */
export async function requireVmFolder(folder: string, datastores: readonly string[] = []): Promise<void> {
  let isFolder: boolean;
  try {
    isFolder = (await stat(folder)).isDirectory();
  } catch (error) {
    const failure = fromErrno(error, `cannot read the VM folder ${folder}`);
    if (failure.code !== 'NOT_FOUND') throw failure;
    const near = await nearFolders(folder, datastores);
    const words = near.length === 0 ? '' : `; did you mean ${near.join(' or ')}?`;
    throw new PhdError('NOT_FOUND', `there is no folder ${folder}${words}`, { cause: error });
  }
  if (!isFolder) {
    throw new PhdError(
      'NOT_FOUND',
      `${folder} is no folder: name the folder of the VM, as ${dirname(folder)}`,
    );
  }
}

/** Folders that bear a like name, beside the one that is not there and in the datastores. */
async function nearFolders(folder: string, datastores: readonly string[]): Promise<string[]> {
  const wanted = resolve(folder);
  const found = new Map<string, string[]>();
  for (const place of new Set([dirname(wanted), ...datastores])) {
    // A place that cannot be listed has nothing to propose.
    const entries = await readdir(place, { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      if (entry.isDirectory() || entry.isSymbolicLink())
        found.set(entry.name, [...(found.get(entry.name) ?? []), join(place, entry.name)]);
    }
  }
  return nearNames(basename(wanted), found.keys())
    .flatMap((name) => found.get(name) ?? [])
    .slice(0, 3)
    .map(shownName);
}

/** Controller and unit digits of the n-th disk; unit 7 is the controller's own. */
function freeScsiId(index: number): string {
  const controller = Math.floor(index / 15);
  const place = index % 15;
  return `${controller}${place < 7 ? place : place + 1}`;
}
