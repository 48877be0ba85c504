/** Names of a VM's disks in one folder: on datastores of their own several may bear one name. */
import path from 'node:path';
import { PhdError } from '../errors.ts';

/**
 * A name for each disk, in their order: its own, or where an earlier one has that (as descriptor or as flat) one with the place on
 * the bus, `disk_01.vmdk`, that is no disk's own. Nobody chose such a name: what bears it already is not to be replaced.
 */
export function distinctDiskNames(disks: readonly { scsiId: string; disk: string }[]): string[] {
  const own = new Set(disks.flatMap(({ disk }) => filesOf(disk)));
  const taken = new Set<string>();
  return disks.map(({ scsiId, disk }) => {
    const { name: base, ext } = path.posix.parse(disk);
    const isFree = (name: string): boolean =>
      filesOf(name).every((file) => !taken.has(file) && (name === disk || !own.has(file)));
    let name = disk;
    for (let again = 1; !isFree(name); again++)
      name = `${base}_${scsiId}${again === 1 ? '' : `_${again}`}${ext}`;
    for (const file of filesOf(name)) taken.add(file);
    return name;
  });
}

/** Of a name that nobody chose. */
export function nameTaken(flatPath: string, diskName: string): PhdError {
  return new PhdError(
    'EXISTS',
    `${flatPath} is there already, and another disk of this VM is called ${diskName}, too: restore this one alone, by its archive and --name`,
  );
}

/** What lies there of a disk. */
function filesOf(disk: string): string[] {
  return /\.vmdk$/i.test(disk) ? [disk, disk.replace(/(\.vmdk)$/i, '-flat$1')] : [disk];
}
