/** Where disks can be restored to: the volumes of the datastores, their folders, and where a VM lies now. */
import type { Dirent, Stats } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { readSmallFile } from '../datastore/descriptor-file.ts';
import { syncFolder } from '../datastore/goal-disk.ts';
import { checkInUse } from '../datastore/in-use.ts';
import { isPlainName } from '../datastore/plain-name.ts';
import { uuidOfVm } from '../datastore/source-vm.ts';
import { MAX_VMX_BYTES, parseVmx } from '../datastore/vmx.ts';
import { fromErrno, PhdError, throwIfAborted } from '../errors.ts';

export interface Volume {
  /** Absolute, as the configuration and the datastore name it. */
  path: string;
  /** Room for this user; null if it cannot be told. */
  freeBytes: number | null;
  totalBytes: number | null;
  /** Why nothing can be restored there, or null. */
  fault: string | null;
}

export interface FolderEntry {
  name: string;
  path: string;
  /** It holds a VMX, a descriptor or a flat. */
  holdsVm: boolean;
}

/** A larger folder is no datastore that people walk through. */
const MAX_ENTRIES = 20_000;
const VM_FILE = /\.(vmx|vmdk)$/i;
const FLAT_FILE = /^[^.].*(-flat\.vmdk|\.img|\.raw|\.dsk)$/i;

/**
 * Volumes of the datastores, in their order. A folder in a datastore is a volume of its own if it is another file
 * system or holds folders of VMs; else the datastore is the volume. Never throws for one datastore's sake.
 */
export async function listVolumes(datastores: readonly string[]): Promise<Volume[]> {
  const volumes: Volume[] = [];
  const seen = new Set<string>();
  for (const datastore of datastores) {
    for (const place of await placesOf(datastore)) {
      const real = await fs.realpath(place).catch(() => place);
      if (seen.has(real)) continue;
      seen.add(real);
      volumes.push(await volumeAt(place));
    }
  }
  return volumes;
}

async function placesOf(datastore: string): Promise<string[]> {
  let folders: FolderEntry[];
  let own: Stats;
  try {
    own = await fs.stat(datastore);
    folders = await subFolders(datastore);
  } catch {
    // The volume says what is wrong with it.
    return [datastore];
  }
  const inner: string[] = [];
  for (const { path: place, holdsVm } of folders) {
    const found = await fs.stat(place).catch(() => undefined);
    if (found === undefined || holdsVm) continue;
    if (found.dev !== own.dev || (await holdsVmFolders(place))) inner.push(place);
  }
  const isVolumeItself = inner.length === 0 || folders.some(({ holdsVm }) => holdsVm);
  return isVolumeItself ? [datastore, ...inner] : inner;
}

async function holdsVmFolders(place: string): Promise<boolean> {
  return (await subFolders(place).catch(() => [])).some(({ holdsVm }) => holdsVm);
}

async function volumeAt(place: string): Promise<Volume> {
  try {
    if (!(await fs.stat(place)).isDirectory()) throw new PhdError('NOT_FOUND', `${place} is no folder`);
    const { bavail, blocks, bsize } = await fs.statfs(place);
    return { path: place, freeBytes: bavail * bsize, totalBytes: blocks * bsize, fault: null };
  } catch (error) {
    const { message } = fromErrno(error, `cannot look at ${place}`);
    return { path: place, freeBytes: null, totalBytes: null, fault: message };
  }
}

/** Folders in a folder, by name; hidden ones and those that cannot be looked into are left out. Throws NOT_FOUND, IO. */
export async function subFolders(folder: string): Promise<FolderEntry[]> {
  const entries = await entriesOf(folder);
  const found: FolderEntry[] = [];
  for (const entry of entries) {
    if (entry.name.startsWith('.') || !(entry.isDirectory() || entry.isSymbolicLink())) continue;
    const place = path.join(folder, entry.name);
    const names = await fs.readdir(place).catch(() => undefined);
    if (names === undefined) continue;
    found.push({ name: entry.name, path: place, holdsVm: names.some((name) => VM_FILE.test(name)) });
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Flats and raw images in a folder, by name, each with its size. Throws NOT_FOUND, IO. */
export async function flatsIn(folder: string): Promise<{ name: string; path: string; sizeBytes: number }[]> {
  const found = [];
  for (const entry of await entriesOf(folder)) {
    if (!entry.isFile() || !FLAT_FILE.test(entry.name)) continue;
    const place = path.join(folder, entry.name);
    const stat = await fs.stat(place).catch(() => undefined);
    if (stat !== undefined) found.push({ name: entry.name, path: place, sizeBytes: stat.size });
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function entriesOf(folder: string): Promise<Dirent[]> {
  try {
    const entries = await fs.readdir(folder, { withFileTypes: true });
    if (entries.length <= MAX_ENTRIES) return entries;
  } catch (error) {
    throw fromErrno(error, `cannot list ${folder}`);
  }
  throw new PhdError('IO', `${folder} holds more than ${MAX_ENTRIES} entries: that is no folder of VMs`);
}

/** Why this cannot be the name of a new folder, or undefined. */
export function folderNameFault(name: string): string | undefined {
  if (name.trim() === '') return 'a name is needed';
  if (!isPlainName(name))
    return 'a plain name is needed: no slashes, no control characters, at most 255 bytes';
  return name.startsWith('.') ? 'names that begin with a dot are hidden' : undefined;
}

/** Makes a folder, durably. Throws USAGE (name), EXISTS, NO_SPACE, IO. */
export async function makeFolder(parent: string, name: string): Promise<string> {
  const fault = folderNameFault(name);
  if (fault !== undefined) throw new PhdError('USAGE', `no folder is made: ${fault}`);
  const folder = path.join(parent, name);
  try {
    await fs.mkdir(folder, { mode: 0o700 });
  } catch (error) {
    throw fromErrno(error, `cannot make the folder ${folder}`);
  }
  await syncFolder(parent);
  return folder;
}

/** Folder of the VM with this UUID on the volumes as it is now, or null. Looks into the VMX of each VM folder. */
export async function findVm(
  volumes: readonly Volume[],
  uuid: string,
  hostName: string,
  signal?: AbortSignal,
): Promise<string | null> {
  for (const volume of volumes) {
    for (const folder of await subFolders(volume.path).catch(() => [])) {
      throwIfAborted(signal);
      if (folder.holdsVm && (await isVm(folder.path, uuid, hostName))) return folder.path;
    }
  }
  return null;
}

/** Folders and files that cannot be read are not the VM that is looked for. */
async function isVm(folder: string, uuid: string, hostName: string): Promise<boolean> {
  try {
    const root = await fs.realpath(folder);
    for (const name of (await fs.readdir(root)).filter((one) => /^[^.].*\.vmx$/i.test(one))) {
      const vmx = parseVmx(await readSmallFile(path.join(root, name), MAX_VMX_BYTES), name);
      if (uuidOfVm(vmx, hostName, root) === uuid) return true;
    }
  } catch {
    return false;
  }
  return false;
}

export interface VmLockState {
  state: 'off' | 'in use' | 'unknown';
  /** In words, one line. */
  words: string;
}

/** Whether anything has the VM's files open or locked, as far as that can be seen. Throws IO. */
export async function vmLockState(folder: string): Promise<VmLockState> {
  const names = (await entriesOf(folder)).map(({ name }) => name).filter((name) => VM_FILE.test(name));
  const { inUse, unknown } = await checkInUse(names.map((name) => path.join(folder, name)));
  const [use] = inUse;
  if (use !== undefined) {
    return { state: 'in use', words: `${path.basename(use.path)} is ${use.how} by ${use.by}` };
  }
  const [doubt] = unknown;
  if (doubt !== undefined) return { state: 'unknown', words: `cannot be known: ${doubt}` };
  return { state: 'off', words: 'off: no file of it is open or locked' };
}
