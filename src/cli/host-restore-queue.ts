/** `phd host restore --background`. */
import { PATH_TARGET } from '../engine/archive-place.ts';
import { type ArchiveRef, findArchive } from '../engine/restore-source.ts';
import { type HostRestore, queuedArchive } from '../queue/request.ts';
import type { Cli } from './cli.ts';
import { queueJobs } from './queued-jobs.ts';

/** One job for the whole VM. `what` are the words that the archives were named by. Throws USAGE, NOT_FOUND. */
export async function queueHostRestore(
  cli: Cli,
  what: readonly string[],
  archives: readonly ArchiveRef[],
  place: Pick<HostRestore, 'host' | 'datastore' | 'name' | 'macs'>,
  isJson: boolean,
): Promise<void> {
  const disks: HostRestore['disks'] = [];
  for (const [at, ref] of archives.entries()) {
    const { storage, folder, file } = ref;
    const isPath = storage.number === PATH_TARGET;
    if (isPath) await findArchive(ref, cli.signal);
    disks.push({
      archive: isPath ? queuedArchive(what[at] ?? '') : `${storage.number}:${folder}/${file}`,
    });
  }
  await queueJobs(cli, 'restore', [{ ...place, disks }], isJson);
}
