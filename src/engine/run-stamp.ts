/**
 * One stamp for one run of a VM, whatever its target: by stamps people and lists put the disks of a run together. A file
 * for each stamp that was given away in the last days lies in the state folder.
 */
import fs from 'node:fs';
import path from 'node:path';
import { localStamp } from '../clock.ts';
import { fromErrno } from '../errors.ts';
import { makeFolderSync } from '../make-folder.ts';
import type { Stamp } from '../model/archive.ts';
import { stampAfter } from './run-place.ts';

/** Longer than any clock is set back or ahead by its time zone. */
const KEPT_MS = 3 * 86_400_000;

/** The stamp that is wanted, or the next that no other run of the VM from this home has. Throws IO, NO_SPACE. */
export function reserveStamp(stateDir: string, uuid: string, wanted: Stamp, now: Date): Stamp {
  const folder = path.join(stateDir, 'runs');
  const prefix = `${uuid}@`;
  const oldest = localStamp(new Date(now.getTime() - KEPT_MS));
  try {
    makeFolderSync(folder);
    for (const name of fs.readdirSync(folder))
      if (name.startsWith(prefix) && name.slice(prefix.length) < oldest)
        fs.rmSync(path.join(folder, name), { force: true });
    for (let stamp = wanted; ; stamp = stampAfter(stamp))
      if (isMade(path.join(folder, `${prefix}${stamp}`))) return stamp;
  } catch (error) {
    throw fromErrno(error, `cannot keep the stamp of the run in ${folder}`);
  }
}

/** Of a run that made nothing. Never throws: at worst a minute stays unused. */
export function giveBackStamp(stateDir: string, uuid: string, stamp: Stamp): void {
  try {
    fs.rmSync(path.join(stateDir, 'runs', `${uuid}@${stamp}`), { force: true });
  } catch {
    return;
  }
}

/** False if it was there. */
function isMade(file: string): boolean {
  try {
    fs.closeSync(fs.openSync(file, 'wx', 0o600));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}
