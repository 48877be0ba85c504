/** Disks of a folder that has no VMX to list them. */
import type { Dirent } from 'node:fs';
import { join } from 'node:path';
import { fromErrno } from '../errors.ts';
import type { Descriptor } from './descriptor.ts';
import { readVmdkFile } from './descriptor-file.ts';
import { shownName } from './plain-name.ts';
import { type DiskClaim, unsupported } from './source-disk.ts';

const RAW_IMAGE = /\.(img|raw|dsk)$/i;

/** What the descriptors of a folder say about its other files. */
interface Relations {
  /** Files that are extents of some disk. */
  extents: Set<string>;
  /** Disk that a snapshot stands on -> name of the snapshot. */
  parents: Map<string, string>;
}

function noteRelations(name: string, descriptor: Descriptor, relations: Relations): void {
  for (const { fileName } of descriptor.extents)
    if (fileName !== null && fileName !== name) relations.extents.add(fileName);
  const parent = descriptor.parentFileNameHint?.split(/[/\\]/).at(-1);
  if (parent) relations.parents.set(parent, name);
}

/**
 * Every `.vmdk` that is a descriptor or a sparse disk, and every raw image, in order of names. Refused by name:
 * a flat that no descriptor names (left out in silence it would be lost), and a disk that a snapshot stands on.
 */
export async function claimsWithoutVmx(
  folder: string,
  entries: readonly Dirent[],
  refused: { disk: string; error: ReturnType<typeof unsupported> }[],
): Promise<DiskClaim[]> {
  const claims: DiskClaim[] = [];
  const flats: string[] = [];
  const relations: Relations = { extents: new Set(), parents: new Map() };
  const refuse = (name: string, reason: string) =>
    refused.push({ disk: name, error: unsupported(name, reason) });
  for (const { name } of entries.filter((entry) => entry.isFile() || entry.isSymbolicLink())) {
    const claim = { scsiId: '', path: join(folder, name), fileName: name, isNamedByVmx: false };
    if (RAW_IMAGE.test(name)) claims.push(claim);
    if (!/\.vmdk$/i.test(name)) continue;
    try {
      const file = await readVmdkFile(claim.path);
      if (file.kind === 'other') flats.push(name);
      else claims.push(claim);
      if (file.kind !== 'other' && file.descriptor) noteRelations(name, file.descriptor, relations);
    } catch (error) {
      refuse(name, fromErrno(error, shownName(name)).message);
    }
  }
  for (const name of flats) {
    if (!relations.extents.has(name)) refuse(name, 'no descriptor names it: make one with phd stub');
  }
  const own = claims.filter(({ fileName }) => !relations.extents.has(fileName));
  for (const { fileName } of own) {
    const snapshot = relations.parents.get(fileName);
    if (snapshot)
      refuse(
        fileName,
        `the snapshot ${shownName(snapshot)} stands on it, so its flat is not the newest state`,
      );
  }
  return own.filter(({ fileName }) => !relations.parents.has(fileName));
}
