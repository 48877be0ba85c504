/** Where lines write: only inside a datastore whose volume is there, each disk by one line alone. */
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { diskNameFault, previewRestore } from '../engine/restore-preview.ts';
import { type MountTables, readMountTables, unmountedVolume } from '../engine/unmounted-volume.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { RestoreLine } from './vmdks-auto.ts';

/** Why a line may not write where it says, by line; lines that may are absent. Changes nothing. `mounts`: not this system's. */
export async function checkGoals(
  lines: readonly RestoreLine[],
  datastores: readonly string[],
  mounts?: MountTables,
): Promise<Map<RestoreLine, PhdError>> {
  const tables = mounts ?? (await readMountTables());
  const real = new Map<string, Promise<string | null>>();
  const realOf = (folder: string): Promise<string | null> => {
    let found = real.get(folder);
    if (found === undefined) {
      found = realpath(folder).catch(() => null);
      real.set(folder, found);
    }
    return found;
  };
  const faults = new Map<RestoreLine, PhdError>();
  const firstOf = new Map<string, number>();
  for (const line of lines) {
    const place = await placeOf(line, datastores, realOf, tables);
    if (place instanceof PhdError) {
      faults.set(line, place);
      continue;
    }
    // A descriptor of one line may be the flat of another.
    const files = [place, place.replace(/\.vmdk$/i, '-flat.vmdk')];
    const first = files.map((file) => firstOf.get(file)).find((number) => number !== undefined);
    if (first === undefined) for (const file of files) firstOf.set(file, line.lineNumber);
    else faults.set(line, new PhdError('CONFIG_INVALID', `line ${first} restores onto ${line.goal} already`));
  }
  return faults;
}

/** The disk by its real path, or why nothing may be written there. */
async function placeOf(
  line: RestoreLine,
  datastores: readonly string[],
  realOf: (folder: string) => Promise<string | null>,
  tables: MountTables,
): Promise<string | PhdError> {
  const name = path.basename(line.goal);
  const folder = path.dirname(line.goal);
  const nameFault = diskNameFault(name);
  if (nameFault !== undefined) return new PhdError('CONFIG_INVALID', `${line.goal}: expected ${nameFault}`);
  if (datastores.length === 0)
    return new PhdError('CONFIG_INVALID', 'no datastore is configured: phd config set datastores names them');
  const named = datastores.find((one) => isWithin(folder, one));
  // Only the last folder is made: where the one above is missing, the volume is.
  const above = datastores.includes(folder) ? folder : path.dirname(folder);
  const there = (await realOf(folder)) ?? (await realOf(above));
  if (there === null) {
    if (named === undefined) return outside(line.goal, datastores);
    const gone = (await realOf(named)) === null ? named : above;
    return new PhdError('NOT_FOUND', `${gone} is not there: is its volume mounted?`);
  }
  const unmounted = unmountedVolume(there, tables);
  if (unmounted !== undefined)
    return new PhdError('NOT_FOUND', `${unmounted} stands in /etc/fstab and is not mounted: mount it first`);
  for (const datastore of datastores) {
    const root = await realOf(datastore);
    if (root !== null && isWithin(there, root)) {
      const isThere = (await realOf(folder)) !== null;
      return path.join(isThere ? there : path.join(there, path.basename(folder)), name);
    }
  }
  return outside(line.goal, datastores);
}

function outside(goal: string, datastores: readonly string[]): PhdError {
  return new PhdError('CONFIG_INVALID', `${goal} lies outside every datastore (${datastores.join(', ')})`);
}

function isWithin(folder: string, root: string): boolean {
  return folder === root || folder.startsWith(root.endsWith('/') ? root : `${root}/`);
}

/** Why a restore would refuse to write this disk now: a running VM, a snapshot, what cannot be known. Null: it would not. */
export async function goalRefusal(
  goal: string,
  diskBytes: number | null,
  assumeOff: boolean,
): Promise<PhdError | null> {
  try {
    const {
      refusal,
      doubts,
      goal: there,
    } = await previewRestore({
      folder: path.dirname(goal),
      diskName: path.basename(goal),
      diskBytes,
      neededBytes: null,
      isExact: false,
      inPlace: false,
    });
    if (refusal !== null || assumeOff || there.existing === null || doubts.length === 0) return refusal;
    return new PhdError(
      'VM_RUNNING',
      `it cannot be known that ${there.flatPath} is not in use (${doubts[0]}): say so with --assume-off, or replication.assumeOff`,
    );
  } catch (error) {
    return fromErrno(error, `cannot look at ${goal}`);
  }
}
