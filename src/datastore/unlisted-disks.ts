/** Disks of a folder that has no VMX to list them. */
import type { Dirent } from 'node:fs';
import { join } from 'node:path';
import { fromErrno } from '../errors.ts';
import { readVmdkFile } from './descriptor-file.ts';
import { shownName } from './plain-name.ts';
import type { DiskClaim } from './source-disk.ts';
import { unsupported } from './source-disk.ts';

const RAW_IMAGE = /\.(img|raw|dsk)$/i;

/** What the walk notes beside the disks it finds. */
interface Findings {
  refused: { disk: string; error: ReturnType<typeof unsupported> }[];
  notices: string[];
}

/**
 * Every `.vmdk` that is a descriptor or a sparse disk, and every raw image, in order of names; a flat that no
 * descriptor names is refused by name, since leaving it out in silence would lose a disk.
 */
export async function claimsWithoutVmx(
  folder: string,
  entries: readonly Dirent[],
  findings: Findings,
): Promise<DiskClaim[]> {
  const claims: DiskClaim[] = [];
  const flats: string[] = [];
  const named = new Set<string>();
  for (const { name } of entries.filter((entry) => entry.isFile() || entry.isSymbolicLink())) {
    const claim = { scsiId: '', slot: null, path: join(folder, name), fileName: name, isNamedByVmx: false };
    if (RAW_IMAGE.test(name)) claims.push(claim);
    if (!/\.vmdk$/i.test(name)) continue;
    try {
      const file = await readVmdkFile(claim.path);
      if (file.kind === 'other') flats.push(name);
      else claims.push(claim);
      if (file.kind === 'descriptor')
        for (const extent of file.descriptor.extents) named.add(extent.fileName ?? '');
    } catch (error) {
      findings.refused.push({
        disk: name,
        error: unsupported(name, fromErrno(error, shownName(name)).message),
      });
    }
  }
  const orphans = flats.filter((name) => !named.has(name));
  for (const name of orphans) {
    findings.refused.push({
      disk: name,
      error: unsupported(name, 'no descriptor names it: make one with phd stub'),
    });
  }
  return claims.filter((claim) => !named.has(claim.fileName));
}
