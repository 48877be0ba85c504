/** Lines for all disks that the index knows, out of use until a person takes the `#` away. */
import path from 'node:path';
import { encodeName } from '../archive/names.ts';
import type { EngineContext } from '../engine/context.ts';
import { distinctDiskNames } from '../engine/disk-names.ts';
import { parseVmdksAuto, printRestoreLine } from './vmdks-auto.ts';
import { appendVmdksAuto, readVmdksAuto } from './vmdks-file.ts';

export interface LoadedNames {
  /** Lines that were added. */
  added: string[];
  /** Disks that have a line already, in use or not. */
  knownCount: number;
  /** Disks whose names cannot stand in a line. */
  unfit: string[];
}

/**
 * Appends one line, commented out, for each distinct VM, UUID, SCSI id and disk of the index that the file does not name
 * yet; the path lies on the default volume. Throws CONFIG_INVALID, IO, NO_SPACE.
 */
export async function loadNames(context: EngineContext): Promise<LoadedNames> {
  const { places, config, index, clock } = context;
  const volume = config.replication.defaultVolume ?? config.datastores[0] ?? '/vmfs/volumes';
  const known = knownDisks((await readVmdksAuto(places))?.rawLines ?? []);
  const loaded: LoadedNames = { added: [], knownCount: 0, unfit: [] };
  // Archives of generation 2 cannot be restored, and have no UUID.
  const series = index.series({ kind: 'delta' }).filter(({ uuid }) => uuid !== '');
  const names = namesOf(series);
  const twins = uuidsByName(series);
  for (const one of series) {
    const { vm, uuid, scsiId, disk } = one;
    const goal = path.posix.normalize(
      path.join(volume, folderOf(one, twins), encodeName(names.get(one) ?? disk)),
    );
    const line = printRestoreLine({ vm, uuid, scsiId, disk, goal, days: null });
    if (line === undefined) loaded.unfit.push(`${vm} ${scsiId}-${disk}`);
    else if (known.has(keyOf({ vm, uuid, scsiId, disk }))) loaded.knownCount++;
    else loaded.added.push(`#${line}`);
  }
  if (loaded.added.length > 0)
    await appendVmdksAuto(places, [`# Disks found on ${clock.now().toISOString()}`, ...loaded.added]);
  return loaded;
}

type Series = ReturnType<EngineContext['index']['series']>[number];

function uuidsByName(series: readonly Series[]): Map<string, Set<string>> {
  const uuids = new Map<string, Set<string>>();
  for (const { vm, uuid } of series) uuids.set(vm, (uuids.get(vm) ?? new Set()).add(uuid));
  return uuids;
}

/** VMs of one name have folders of their own, and none that of the name: one of them may live there. */
function folderOf({ vm, uuid }: Series, twins: ReadonlyMap<string, ReadonlySet<string>>): string {
  const isAlone = (twins.get(vm)?.size ?? 1) === 1;
  return isAlone ? encodeName(vm) : encodeName(`${vm} (${uuid})`);
}

/** Disks of a VM go into one folder, and may bear one name. */
function namesOf(series: readonly Series[]): Map<Series, string> {
  const byVm = new Map<string, Series[]>();
  for (const one of series) {
    const ofVm = byVm.get(one.uuid);
    if (ofVm === undefined) byVm.set(one.uuid, [one]);
    else ofVm.push(one);
  }
  const named = new Map<Series, string>();
  for (const ofVm of byVm.values())
    for (const [at, name] of distinctDiskNames(ofVm).entries()) named.set(ofVm[at] as Series, name);
  return named;
}

/** Disks that any line names, whether or not it is commented out. */
function knownDisks(rawLines: readonly string[]): Set<string> {
  const text = rawLines.map((line) => line.replace(/^[\s#]+/, '')).join('');
  return new Set(parseVmdksAuto(text).restores.map(keyOf));
}

function keyOf(one: { vm: string | null; uuid: string | null; scsiId: string | null; disk: string }): string {
  return [one.vm, one.uuid, one.scsiId, one.disk].join('|');
}
