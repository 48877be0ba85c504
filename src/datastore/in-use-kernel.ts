/** What the kernel itself does with a file or device: mounts, swap, loop devices, device-mapper, arrays. */
import { readdir, readFile, stat } from 'node:fs/promises';
import type { InUse, Use, Watched } from './in-use.ts';

async function readSys(path: string): Promise<string | null> {
  try {
    return (await readFile(path, 'utf8')).replace(/\n$/, '');
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).code;
    // A loop device that is free has no backing file; a device may vanish while one looks.
    if (errno === 'ENOENT' || errno === 'ENXIO' || errno === 'ENODEV') return null;
    throw error;
  }
}

async function listSys(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** mountinfo and swaps write blank, tab, newline and backslash as `\ooo`. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

interface Mount {
  /** major:minor */
  device: string;
  mountPoint: string;
  isReadOnly: boolean;
}

async function readMounts(): Promise<Mount[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').filter((line) => line !== '');
  return lines.map((line) => {
    const fields = line.split(' ');
    const isReadOnly = (fields.at(-1) ?? '').split(',').includes('ro');
    return { device: fields[2] ?? '', mountPoint: unescapeOctal(fields[4] ?? ''), isReadOnly };
  });
}

/** A device, its partitions, and all that is built on them: `major:minor` -> name. */
async function devicesAbove(device: string, found = new Map<string, string>()): Promise<Map<string, string>> {
  if (found.has(device)) return found;
  const root = `/sys/dev/block/${device}`;
  const name = /^DEVNAME=(.+)$/m.exec((await readSys(`${root}/uevent`)) ?? '')?.[1] ?? device;
  found.set(device, (await readSys(`${root}/dm/name`)) ?? name);
  for (const entry of await listSys(root)) {
    const partition = await readSys(`${root}/${entry}/partition`).catch(() => null);
    const number = partition === null ? null : await readSys(`${root}/${entry}/dev`);
    if (number) await devicesAbove(number, found);
  }
  for (const holder of await listSys(`${root}/holders`)) {
    const number = await readSys(`${root}/holders/${holder}/dev`);
    if (number) await devicesAbove(number, found);
  }
  return found;
}

/** Mounts of a device and of all that is built on it, and the holders themselves. */
async function usesOfDevice(path: string, device: string, mounts: readonly Mount[]): Promise<Use[]> {
  const uses: Use[] = [];
  const above = await devicesAbove(device);
  for (const [number, name] of above) {
    for (const mount of mounts.filter((candidate) => candidate.device === number)) {
      uses.push({ path, how: 'mounted', by: mount.mountPoint, isReadOnly: mount.isReadOnly });
    }
    const isPartition = (await readSys(`/sys/dev/block/${number}/partition`)) !== null;
    if (number !== device && !isPartition) {
      uses.push({ path, how: 'held by a volume or array', by: name, isReadOnly: false });
    }
  }
  return uses;
}

async function isSameFile(path: string, file: Watched): Promise<boolean> {
  try {
    const found = await stat(path, { bigint: true });
    return `${found.dev}:${found.ino}` === file.inode;
  } catch {
    return path === file.path;
  }
}

async function loopUses(watched: readonly Watched[], mounts: readonly Mount[]): Promise<Use[]> {
  const uses: Use[] = [];
  for (const name of (await listSys('/sys/block')).filter((entry) => entry.startsWith('loop'))) {
    const backing = await readSys(`/sys/block/${name}/loop/backing_file`);
    if (backing === null) continue;
    const isReadOnly = (await readSys(`/sys/block/${name}/ro`)) === '1';
    for (const file of watched) {
      if (!(await isSameFile(backing, file))) continue;
      uses.push({ path: file.path, how: 'attached as a loop device', by: `/dev/${name}`, isReadOnly });
      const device = await readSys(`/sys/block/${name}/dev`);
      if (device) uses.push(...(await usesOfDevice(file.path, device, mounts)));
    }
  }
  return uses;
}

async function swapUses(watched: readonly Watched[]): Promise<Use[]> {
  const uses: Use[] = [];
  for (const line of ((await readSys('/proc/swaps')) ?? '').split('\n').slice(1)) {
    const path = unescapeOctal(line.split(/\s/)[0] ?? '');
    if (path === '') continue;
    for (const file of watched) {
      if (await isSameFile(path, file))
        uses.push({ path: file.path, how: 'used as swap space', by: 'this system', isReadOnly: false });
    }
  }
  return uses;
}

/** Mounts, swap, loop devices and holders (device-mapper, arrays) of the files and devices. */
export async function findHolders(watched: readonly Watched[]): Promise<InUse> {
  const result: InUse = { inUse: [], unknown: [] };
  try {
    const mounts = await readMounts();
    for (const { path, device } of watched) {
      if (device !== null) result.inUse.push(...(await usesOfDevice(path, device, mounts)));
    }
    result.inUse.push(...(await loopUses(watched, mounts)), ...(await swapUses(watched)));
  } catch (error) {
    result.unknown.push(`mounts and loop devices cannot be seen: ${(error as Error).message}`);
  }
  return result;
}
