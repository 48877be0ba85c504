/** Names of a VM's disks in one folder: on datastores of their own several may bear one name. */
import path from 'node:path';

/**
 * A name for each disk, in their order: its own, or where an earlier one has that (as descriptor or as flat) with the place on the
 * bus, `disk_01.vmdk`.
 */
export function distinctDiskNames(disks: readonly { scsiId: string; disk: string }[]): string[] {
  const taken = new Set<string>();
  return disks.map(({ scsiId, disk }) => {
    const { name: base, ext } = path.posix.parse(disk);
    let name = disk;
    for (let again = 1; filesOf(name).some((file) => taken.has(file)); again++)
      name = `${base}_${scsiId}${again === 1 ? '' : `_${again}`}${ext}`;
    for (const file of filesOf(name)) taken.add(file);
    return name;
  });
}

/** What lies there of a disk. */
function filesOf(disk: string): string[] {
  return /\.vmdk$/i.test(disk) ? [disk, disk.replace(/(\.vmdk)$/i, '-flat$1')] : [disk];
}
