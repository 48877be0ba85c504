/** Lock and swap files that hypervisors leave beside a running VM. */
import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fromErrno } from '../errors.ts';
import type { InUse, Use } from './in-use.ts';

/** The host name stands somewhere in an NFS lock file (84 bytes, binary); the longest readable run is taken. */
async function lockOwner(path: string): Promise<string> {
  const text = await readFile(path, 'latin1').catch(() => '');
  const runs = text.slice(0, 4_096).match(/[A-Za-z0-9][A-Za-z0-9._-]{2,}/g) ?? [];
  const longest = runs.sort((a, b) => b.length - a.length)[0];
  return longest === undefined ? 'an unknown host' : `host ${longest}`;
}

async function usesIn(folder: string, names: readonly string[], entries: readonly string[]): Promise<Use[]> {
  const uses: Use[] = [];
  for (const entry of entries) {
    const path = join(folder, entry);
    if (names.some((name) => entry === `${name}.lck`)) {
      uses.push({ path, how: 'a lock (.lck) made', by: 'a hypervisor', isReadOnly: false });
    } else if (entry.startsWith('.lck-')) {
      uses.push({ path, how: 'an NFS lock made', by: await lockOwner(path), isReadOnly: false });
    } else if (/\.vswp$/i.test(entry)) {
      const how = 'a swap file left';
      uses.push({ path, how, by: 'a VM that runs, or ended without clean-up', isReadOnly: false });
    }
  }
  return uses;
}

/** `NAME.lck` of each path, and every `.lck-*` and `.vswp` in the folders of the paths. */
export async function findLockFiles(paths: readonly string[]): Promise<InUse> {
  const result: InUse = { inUse: [], unknown: [] };
  const folders = new Map<string, string[]>();
  for (const path of paths)
    folders.set(dirname(path), [...(folders.get(dirname(path)) ?? []), basename(path)]);
  for (const [folder, names] of folders) {
    try {
      result.inUse.push(...(await usesIn(folder, names, await readdir(folder))));
    } catch (error) {
      const reason = fromErrno(error, `lock files in ${folder} cannot be seen`);
      if (reason.code !== 'NOT_FOUND') result.unknown.push(reason.message);
    }
  }
  return result;
}
