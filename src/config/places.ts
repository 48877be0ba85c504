/** Where the program keeps its things: configuration, state, logs. Folders 0700; state never on NFS or SMB. */
import { chmod, stat, statfs } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import { fromErrno, PhdError } from '../errors.ts';
import { makeFolder } from '../make-folder.ts';
import type { Places } from '../model/config.ts';

/** `f_type` of file systems on which SQLite's WAL is not safe (statfs(2)). */
const NETWORK_FILE_SYSTEMS = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'SMB (CIFS)'],
  [0xfe534d42, 'SMB 2'],
]);

/**
 * Chooses the folders: `PHD_HOME` if set, else those of root, else the XDG folders. Nothing is made or read.
 * Throws USAGE if `PHD_HOME` is not an absolute path.
 */
export function choosePlaces(env: NodeJS.ProcessEnv, isRoot: boolean): Places {
  const home = env.PHD_HOME;
  if (home !== undefined && home !== '') {
    if (!path.isAbsolute(home)) throw new PhdError('USAGE', `PHD_HOME=${home} is not an absolute path`);
    return { configDir: home, stateDir: path.join(home, 'state'), logDir: path.join(home, 'log') };
  }
  if (isRoot) return { configDir: '/etc/phd', stateDir: '/var/lib/phd', logDir: '/var/log/phd' };
  const userHome = env.HOME ?? homedir();
  const config = env.XDG_CONFIG_HOME || path.join(userHome, '.config');
  const state = env.XDG_STATE_HOME || path.join(userHome, '.local', 'state');
  return {
    configDir: path.join(config, 'phd'),
    stateDir: path.join(state, 'phd'),
    logDir: path.join(state, 'phd', 'log'),
  };
}

/** Name of the network file system of this type, or undefined for a local one. `type` as statfs(2) gives it. */
export function networkFileSystem(type: number): string | undefined {
  return NETWORK_FILE_SYSTEMS.get(type >>> 0);
}

/**
 * Makes the folders (0700) where they are missing, tightens state and log folders that others may enter, and
 * refuses a state folder on a network file system (CONFIG_INVALID).
 */
export async function preparePlaces(places: Places): Promise<void> {
  for (const folder of [places.configDir, places.stateDir, places.logDir]) {
    try {
      await makeFolder(folder);
    } catch (error) {
      // Without a place for a log the work goes on, and says so when the first line cannot be written.
      if (folder !== places.logDir) throw fromErrno(error, `cannot make folder ${folder}`);
    }
  }
  await Promise.all([closeToOthers(places.stateDir), closeToOthers(places.logDir)]);
  const network = networkFileSystem((await statfs(places.stateDir)).type);
  if (network !== undefined) {
    throw new PhdError(
      'CONFIG_INVALID',
      `state folder ${places.stateDir} lies on ${network}, where SQLite's write-ahead log is not safe: ` +
        'set PHD_HOME to a folder on a local disk',
    );
  }
}

async function closeToOthers(folder: string): Promise<void> {
  const status = await stat(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  if (status === undefined) return;
  const { mode, uid } = status;
  if ((mode & 0o077) === 0) return;
  if (uid !== process.getuid?.()) {
    throw new PhdError(
      'CONFIG_INVALID',
      `folder ${folder} is open to others and not ours: run chmod 700 on it`,
    );
  }
  try {
    await chmod(folder, 0o700);
  } catch (error) {
    // On a volume that is read-only nothing of ours becomes readable either: what must be written there says so itself.
    if ((error as NodeJS.ErrnoException).code !== 'EROFS')
      throw fromErrno(error, `cannot close folder ${folder} to others: run chmod 700 on it`);
  }
}
