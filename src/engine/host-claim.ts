/** What one process of this home holds on a host at a time: a second would take what the first has begun for left over. */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { ExclusiveLock } from '../../db/exclusive-lock.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { HostVm } from '../hosts/host.ts';
import { makeFolderSync } from '../make-folder.ts';
import { escapeText } from './display-text.ts';

/**
 * The place of a VM on a volume, `/vmfs/volumes/5f0a1b2c-00000001-aaaa-005056aabbcc/web`, by whichever host it is reached. Throws
 * LOCKED if another process of this home restores to it, IO.
 */
export function claimHostPlace(stateDir: string, place: string): ExclusiveLock {
  return claim(stateDir, place, `another restore to ${escapeText(place)} is running`);
}

/**
 * A VM, by whichever name of its host in phd.yaml: snapshots of ours that stand there are then nobody's. Throws LOCKED if another
 * process of this home backs it up or exports it, IO.
 */
export function claimHostVm(stateDir: string, hostName: string, vm: HostVm): ExclusiveLock {
  const words = `another backup or export of ${hostName}/${escapeText(vm.name)} is running`;
  return claim(stateDir, `${vm.uuid ?? hostName}\0${vm.id}`, words);
}

/** A file that is exported into, by the real path of its folder. Throws LOCKED, IO. */
export function claimExportFile(stateDir: string, file: string): ExclusiveLock {
  return claim(stateDir, file, `another export to ${escapeText(file)} is running`);
}

/** The kernel frees it with this process. */
function claim(stateDir: string, what: string, words: string): ExclusiveLock {
  const folder = path.join(stateDir, 'runs');
  try {
    makeFolderSync(folder);
  } catch (error) {
    throw fromErrno(error, `cannot make ${folder}`);
  }
  // Names of hosts and VMs may be no names of files.
  const digest = createHash('sha256').update(what).digest('hex').slice(0, 32);
  const lock = ExclusiveLock.tryTake(path.join(folder, `host-${digest}.lock`));
  if (lock !== undefined) return lock;
  throw new PhdError('LOCKED', `${words}: wait for its end`);
}
