/** Snapshots in a folder: disks whose parent is another disk there. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fromErrno } from '../errors.ts';
import { readVmdkFile } from './descriptor-file.ts';

/**
 * File names of the snapshots in a folder that stand directly on a disk: restoring under them would destroy them.
 * Counted by the parent their descriptor names, and by name (`NAME-000001.vmdk`) where it cannot be read.
 * @param diskName file name of the descriptor, `CRM.vmdk`
 */
export async function snapshotsOf(folder: string, diskName: string): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    const reason = fromErrno(error, `cannot look for snapshots in ${folder}`);
    if (reason.code === 'NOT_FOUND') return [];
    throw reason;
  }
  const stem = diskName.replace(/\.vmdk$/i, '');
  const snapshots: string[] = [];
  for (const name of names
    .filter((candidate) => /\.vmdk$/i.test(candidate) && candidate !== diskName)
    .sort()) {
    const isNamedLikeOne = name.startsWith(stem) && /^-\d{6}\.vmdk$/i.test(name.slice(stem.length));
    const parent = await parentOf(join(folder, name));
    if (parent === diskName || (parent === undefined && isNamedLikeOne)) snapshots.push(name);
  }
  return snapshots;
}

/** File name of the parent; null = it has none, undefined = it cannot be known. */
async function parentOf(path: string): Promise<string | null | undefined> {
  try {
    const file = await readVmdkFile(path);
    if (file.kind === 'other') return null;
    if (file.descriptor === null) return undefined;
    return file.descriptor.parentFileNameHint?.split(/[/\\]/).at(-1) ?? null;
  } catch {
    // A descriptor that is broken or a link that leads elsewhere tells nothing: its name decides.
    return undefined;
  }
}
