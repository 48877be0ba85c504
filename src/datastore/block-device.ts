/** Block devices as Linux shows them in /sys. */
import { constants } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { fromErrno, PhdError } from '../errors.ts';

/** /sys counts in these, whatever the device's own sectors are. */
const SYS_SECTOR_BYTES = 512;

/** `major:minor` from a device number as stat gives it (Linux encoding). */
export function deviceNumber(rdev: bigint): string {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

/**
 * Size of a block device in bytes.
 * @throws PhdError NOT_FOUND, IO (no block device, or the system does not tell)
 */
export async function deviceSizeBytes(path: string): Promise<number> {
  const doing = `cannot tell the size of the device ${path}`;
  try {
    const { rdev, mode } = await stat(path, { bigint: true });
    if ((Number(mode) & constants.S_IFMT) !== constants.S_IFBLK) {
      throw new PhdError('IO', `${doing}: it is not a block device`);
    }
    const text = await readFile(`/sys/dev/block/${deviceNumber(rdev)}/size`, 'utf8');
    if (!/^\d+\s*$/.test(text)) throw new PhdError('IO', `${doing}: the system answers ${text.trim()}`);
    return Number(text) * SYS_SECTOR_BYTES;
  } catch (error) {
    throw fromErrno(error, doing);
  }
}

/**
 * True if the system holds the device (mounted, in a volume group or array, opened exclusively).
 * O_EXCL without O_CREAT on a block device answers EBUSY then; without it even a mounted device opens for writing.
 */
export async function isDeviceHeld(path: string): Promise<boolean> {
  try {
    const device = await open(path, constants.O_RDONLY | constants.O_EXCL);
    await device.close();
    return false;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') return true;
    throw fromErrno(error, `cannot open the device ${path}`);
  }
}
