/** The file `vmdks.auto` beside phd.yaml: read with its mode, lengthened without touching what stands in it. */
import { open, stat } from 'node:fs/promises';
import path from 'node:path';
import { fromErrno, PhdError } from '../errors.ts';
import type { Places } from '../model/config.ts';
import { parseVmdksAuto, textToAppend, type VmdksAuto } from './vmdks-auto.ts';

const MAX_FILE_BYTES = 16 * 1024 * 1024;

/** What a new file begins with. */
export const FIRST_TEXT = `## vmdks.auto: disks that are restored here again and again.
##
## RESTORE:VM|UUID|SCSI|DISK|PATH|DAYS
##   VM     folder name of the VM, as phd list prints it
##   UUID   of the VM, or * for any
##   SCSI   two digits as in the names of archives (00 = SCSI 0:0), or * for any
##   DISK   name of the disk
##   PATH   complete path of the disk to write, inside a datastore
##   DAYS   may be left out; -3 takes no backup younger than three days
##
## A # before a line puts it out of use. Settings have one # directly before their name, ## puts them out of use:
##USE_DAYS=-1
##ARGS=verify
`;

export function vmdksFile(places: Places): string {
  return path.join(places.configDir, 'vmdks.auto');
}

/**
 * Reads the file; undefined if there is none. Throws CONFIG_INVALID if it holds passphrases and is open to others, or
 * is too large; IO.
 */
export async function readVmdksAuto(places: Places): Promise<VmdksAuto | undefined> {
  const file = vmdksFile(places);
  try {
    const handle = await open(file, 'r');
    try {
      const { size, mode } = await handle.stat();
      if (size > MAX_FILE_BYTES)
        throw new PhdError('CONFIG_INVALID', `${file} is larger than ${MAX_FILE_BYTES} bytes`);
      const read = parseVmdksAuto(await handle.readFile('utf8'));
      if (read.hasPassphrases && (mode & 0o077) !== 0)
        throw new PhdError(
          'CONFIG_INVALID',
          `${file} holds passphrases and is open to others: run chmod 600 on it`,
        );
      return read;
    } finally {
      await handle.close();
    }
  } catch (error) {
    const failure = fromErrno(error, `cannot read ${file}`);
    if (failure.code === 'NOT_FOUND') return undefined;
    throw failure;
  }
}

/** Adds lines at the end, durably; a file that is not there is made (0600) with its explanation. Throws IO, NO_SPACE. */
export async function appendVmdksAuto(places: Places, lines: readonly string[]): Promise<void> {
  const file = vmdksFile(places);
  try {
    const isThere = await stat(file).then(
      () => true,
      () => false,
    );
    const handle = await open(file, 'a+', 0o600);
    try {
      const before = isThere ? await handle.readFile('latin1') : '';
      const head = isThere ? '' : FIRST_TEXT;
      await handle.appendFile(head + textToAppend(before, lines));
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fromErrno(error, `cannot write ${file}`);
  }
}
