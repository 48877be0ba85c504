/** The folder on a datastore that a VM is to be put into: looked at before, cleared of what a restore of ours left half. */
import path from 'node:path';
import { parseVmfsLock } from '../../datastore/in-use-vmfs.ts';
import { isPlainName, shownName } from '../../datastore/plain-name.ts';
import { fromErrno, PhdError } from '../../errors.ts';
import { shellQuoted, shellWord } from '../../storage/shell-word.ts';
import { listFolder, readSmall } from './esx-files.ts';
import type { EsxHost } from './esx-host.ts';

/** Holds the owner of a restore that has not come to its end. */
export const UNFINISHED_MARK = 'phd-restore.unfinished';

export interface EsxGoal {
  /** `/vmfs/volumes/datastore1/web` */
  folder: string;
  /** A restore of ours left it half: the next clears it away. */
  isUnfinished: boolean;
}

/**
 * The folder by the path of its volume itself, for a datastore has two names. Throws USAGE (a name that can be no folder),
 * NOT_FOUND (no such datastore), TARGET_*, CANCELLED.
 */
export async function goalPlace(
  host: EsxHost,
  datastore: string,
  name: string,
  signal?: AbortSignal,
): Promise<string> {
  for (const [what, word] of [
    ['datastore', datastore],
    ['name', name],
  ] as const) {
    const fault = goalNameFault(word);
    if (fault !== undefined)
      throw new PhdError(
        'USAGE',
        `${shownName(word)} cannot be the ${what} of a VM on host ${host.config.name}: ${fault}`,
      );
  }
  return `${await volumeOf(host, datastore, signal)}/${name}`;
}

/** Looks, and changes nothing. Throws as `goalPlace`, VM_RUNNING (there is a VM that runs, with the lock's owner), EXISTS. */
export async function lookAtGoal(
  host: EsxHost,
  datastore: string,
  name: string,
  signal?: AbortSignal,
): Promise<EsxGoal> {
  await goalPlace(host, datastore, name, signal);
  const folder = `/vmfs/volumes/${datastore}/${name}`;
  const probe = `if [ -e ${shellWord(folder)} ] || [ -L ${shellWord(folder)} ]; then echo taken; fi`;
  const answer = await host.shell.output(probe, 'cannot look at its datastores', { signal });
  if (answer.toString('utf8').trim() !== 'taken') return { folder, isUnfinished: false };
  await requireUnfinished(host, folder, signal);
  return { folder, isUnfinished: true };
}

/** A datastore by the path that its name and its UUID both lead to. Throws NOT_FOUND, TARGET_*, CANCELLED. */
async function volumeOf(
  { config, shell }: EsxHost,
  datastore: string,
  signal?: AbortSignal,
): Promise<string> {
  const volume = shellWord(`/vmfs/volumes/${datastore}`);
  const probe = `if [ -d ${volume} ]; then readlink -f ${volume}; fi`;
  const said = (await shell.output(probe, 'cannot look at its datastores', { signal })).toString('utf8');
  if (said.startsWith('/')) return said.trim();
  throw new PhdError(
    'NOT_FOUND',
    `host ${config.name} has no datastore ${shownName(datastore)}: see phd host storage ${config.name}`,
  );
}

/** Why this cannot be the folder of a VM there, or undefined. */
function goalNameFault(name: string): string | undefined {
  if (name.trim() === '') return 'a name is needed';
  // The VMX bears it too.
  if (!isPlainName(`${name}.vmx`) || name.includes('"'))
    return 'a plain name is needed: no slashes, quotes or control characters, at most 251 bytes';
  return /^[.-]/.test(name) ? 'a name begins with neither a dot nor a dash' : undefined;
}

/** A folder that is none of ours, or whose VM is registered, stays. Throws VM_RUNNING, EXISTS. */
async function requireUnfinished(host: EsxHost, folder: string, signal?: AbortSignal): Promise<void> {
  const { shell, config, snapshots } = host;
  const files = await listFolder(shell, folder, signal).catch((error) => {
    // Not a folder: then it is none of ours either.
    if (fromErrno(error, folder).code === 'TARGET_REFUSED') return [];
    throw error;
  });
  for (const { name } of files.filter((one) => /-(flat|delta|sesparse)\.vmdk$/i.test(one.name))) {
    const file = `${folder}/${name}`;
    const { status, stdout } = await shell.run(`vmfsfilelockinfo -p ${shellWord(file)}`, { signal });
    const use = status === 0 ? parseVmfsLock(file, stdout.toString('utf8')) : undefined;
    if (use)
      throw new PhdError(
        'VM_RUNNING',
        `host ${config.name}: ${shownName(file)} is ${use.how} by ${use.by}: stop that VM and remove it, or choose another name`,
      );
  }
  const mark = files.some(({ name }) => name === UNFINISHED_MARK)
    ? (await readSmall(shell, `${folder}/${UNFINISHED_MARK}`, signal)).toString('utf8').trim()
    : '';
  const words = `host ${config.name}: ${shownName(folder)} exists`;
  if (mark !== snapshots.owner) throw new PhdError('EXISTS', `${words}: choose another name`);
  if ((await registeredId(host, folder, signal)) !== null)
    throw new PhdError(
      'EXISTS',
      `${words}, and its VM is registered: remove that VM, or choose another name`,
    );
}

/**
 * Id of the VM that is registered in a folder, or null. A datastore has two names, so folders are compared as the host resolves
 * them. Throws TARGET_*, CANCELLED.
 */
export async function registeredId(
  host: EsxHost,
  folder: string,
  signal?: AbortSignal,
): Promise<string | null> {
  const base = path.posix.basename(folder);
  const alike = (await host.listVms(signal))
    .map(({ id, vmxPath }) => ({ id, dir: path.posix.dirname(vmxPath) }))
    .filter(({ dir }) => path.posix.basename(dir) === base);
  if (alike.length === 0) return null;
  const script = `wanted=$(readlink -f ${shellQuoted(folder)})
for one in ${alike.map(({ dir }) => shellQuoted(dir)).join(' ')}; do
if [ "$(readlink -f "$one")" = "$wanted" ]; then echo same; else echo other; fi; done
`;
  const said = await host.shell.script(script, 'cannot look whether its VM is registered', { signal });
  const at = said.toString('utf8').trim().split('\n').indexOf('same');
  return alike[at]?.id ?? null;
}

/** Takes away the files of a VM, the mark and the folder; a folder that holds anything else stays. Throws TARGET_*. */
export async function clearUnfinished(
  { shell }: EsxHost,
  folder: string,
  signal?: AbortSignal,
): Promise<void> {
  const files = await listFolder(shell, folder, signal);
  const known = files.filter(
    ({ name }) => name === UNFINISHED_MARK || /\.(vmdk|vmx|vmxf|nvram)$/i.test(name),
  );
  const words = known.map(({ name }) => shellWord(path.posix.join(folder, name)));
  await shell.output(
    `rm -f ${words.join(' ')} && rmdir ${shellWord(folder)}`,
    `cannot take away what a restore left in ${shownName(folder)}`,
    { signal },
  );
  shell.log(`what a restore that was broken off left in ${shellQuoted(folder)} was taken away`);
}
