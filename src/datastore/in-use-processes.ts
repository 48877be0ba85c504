/** Processes that have a file open or locked, as /proc shows them. */
import { readdir, readFile, stat } from 'node:fs/promises';
import type { InUse, Use, Watched } from './in-use.ts';
import { shownName } from './plain-name.ts';

/** The access mode among the open flags: 0 read, 1 write, 2 both. */
const O_ACCMODE = 3;

function errnoOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? '';
}

/** Processes and descriptors vanish while one looks: that is an answer, not a failure. */
function isGone(error: unknown): boolean {
  return ['ENOENT', 'ESRCH', 'ENOTDIR', 'ENXIO'].includes(errnoOf(error));
}

async function processName(pid: number): Promise<string> {
  const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
  return name.trim() === '' ? `process ${pid}` : `process ${pid} (${shownName(name.trim())})`;
}

async function openMode(pid: number, fd: string): Promise<number> {
  const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'utf8').catch(() => '');
  const flags = /^flags:\s*([0-7]+)/m.exec(info)?.[1];
  return flags === undefined ? 2 : Number.parseInt(flags, 8) & O_ACCMODE;
}

/** The watched files that an open file of a process is; null if the system does not show it. */
async function watchedBehind(link: string, watched: readonly Watched[]): Promise<Watched[] | null> {
  try {
    const found = await stat(link, { bigint: true });
    const inode = `${found.dev}:${found.ino}`;
    const isSameDevice = ({ device, stat: own }: Watched) =>
      device !== null && found.isBlockDevice() && found.rdev === own.rdev;
    return watched.filter((file) => file.inode === inode || isSameDevice(file));
  } catch (error) {
    return isGone(error) ? [] : null;
  }
}

/** Open files of one process among the watched ones; `isHidden` if some of its files are not shown. */
async function openersIn(
  pid: number,
  watched: readonly Watched[],
): Promise<{ uses: Use[]; isHidden: boolean }> {
  const uses: Use[] = [];
  let isHidden = false;
  let descriptors: string[];
  try {
    descriptors = await readdir(`/proc/${pid}/fd`);
  } catch (error) {
    return { uses, isHidden: !isGone(error) };
  }
  for (const fd of descriptors) {
    const files = await watchedBehind(`/proc/${pid}/fd/${fd}`, watched);
    isHidden ||= files === null;
    for (const { path } of files ?? []) {
      const isReadOnly = (await openMode(pid, fd)) === 0;
      const how = isReadOnly ? 'open for reading' : 'open for writing';
      uses.push({ path, how, by: await processName(pid), isReadOnly });
    }
  }
  return { uses, isHidden };
}

/** Every process that has one of the files open, whatever name it opened. */
export async function findOpeners(watched: readonly Watched[], ownPids: ReadonlySet<number>): Promise<InUse> {
  const result: InUse = { inUse: [], unknown: [] };
  if (watched.length === 0) return result;
  let names: string[];
  try {
    names = await readdir('/proc');
  } catch (error) {
    return { inUse: [], unknown: [`open files cannot be seen: ${errnoOf(error)} at /proc`] };
  }
  const hidden: number[] = [];
  for (const pid of names.filter((name) => /^\d+$/.test(name)).map(Number)) {
    if (ownPids.has(pid)) continue;
    const { uses, isHidden } = await openersIn(pid, watched);
    result.inUse.push(...uses);
    if (isHidden) hidden.push(pid);
  }
  if (hidden.length > 0) {
    const who = hidden.length === 1 ? await processName(hidden[0]!) : `${hidden.length} processes`;
    result.unknown.push(`open files of ${who} cannot be seen by this user`);
  }
  return result;
}

/** `device:inode` in the kernel's spelling for each watched file, under every device number it may use. */
async function lockKeys(watched: readonly Watched[]): Promise<Map<string, Watched>> {
  const keys = new Map<string, Watched>();
  const mounts = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  const devices = new Set(mounts.split('\n').map((line) => line.split(' ')[2] ?? ''));
  for (const file of watched) {
    const own = statDevice(file.stat.dev);
    keys.set(`${own}:${file.stat.ino}`, file);
    // Some file systems (btrfs) give stat another number than the one the lock table has; then any mounted one counts.
    if (!devices.has(own)) for (const device of devices) keys.set(`${device}:${file.stat.ino}`, file);
  }
  return keys;
}

function statDevice(dev: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  return `${major}:${(dev & 0xffn) | ((dev >> 12n) & ~0xffn)}`;
}

/** A line of /proc/locks: `1: POSIX  ADVISORY  WRITE 4711 08:01:12345 0 EOF`; device in hex, inode decimal. */
const LOCK_LINE =
  /^\d+:\s+(->\s+)?(\S+)\s+\S+\s+(READ|WRITE|RW|NONE|UNLCK)\s+(-?\d+)\s+([0-9a-f]+):([0-9a-f]+):(\d+)\s/i;
const LOCK_KINDS: Record<string, string> = { POSIX: 'POSIX', OFDLCK: 'OFD', FLOCK: 'flock', LEASE: 'lease' };

/** Locks (POSIX, OFD, flock, leases) on the files. */
export async function findLocks(watched: readonly Watched[], ownPids: ReadonlySet<number>): Promise<InUse> {
  const result: InUse = { inUse: [], unknown: [] };
  let table: string;
  try {
    table = await readFile('/proc/locks', 'utf8');
  } catch (error) {
    return { inUse: [], unknown: [`locks cannot be seen: ${errnoOf(error)} at /proc/locks`] };
  }
  const keys = await lockKeys(watched);
  for (const line of table.split('\n')) {
    const match = LOCK_LINE.exec(line);
    if (!match || match[1] !== undefined) continue;
    const [, , kind, access, pid, major, minor, inode] = match;
    const device = `${Number.parseInt(major!, 16)}:${Number.parseInt(minor!, 16)}`;
    const file = keys.get(`${device}:${inode}`);
    if (!file || ownPids.has(Number(pid))) continue;
    const isReadOnly = access === 'READ';
    result.inUse.push({
      path: file.path,
      how: `locked for ${isReadOnly ? 'reading' : 'writing'} (${LOCK_KINDS[kind!] ?? kind})`,
      by: Number(pid) > 0 ? await processName(Number(pid)) : 'a process that is not named',
      isReadOnly,
    });
  }
  return result;
}
