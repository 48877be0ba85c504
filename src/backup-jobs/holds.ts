/** A hold keeps a run on its target: a small file beside its archives, so it outlives this machine. */
import { heldStamp, holdName } from '../archive/hold-name.ts';
import { parseArchiveName } from '../archive/names.ts';
import { archiveRef } from '../engine/choose-run.ts';
import type { EngineContext } from '../engine/context.ts';
import { indexFolder } from '../engine/index-targets.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { Stamp } from '../model/archive.ts';
import type { Storage } from '../storage/storage.ts';

/** Holds the run of an archive `N:folder/file`; fine if it is held. Throws USAGE, NOT_FOUND, TARGET_*, NO_SPACE. */
export async function holdArchive(context: EngineContext, archive: string, why: string): Promise<Stamp> {
  const { storage, folder, stamp, file, archivePath } = await placeOfHold(context, archive);
  try {
    const isNew = (await storage.stat(file)) === undefined;
    if (isNew) {
      const text = `The run of ${stamp.replace('T', ' ')} is not removed by retention.\n${why}\n`;
      await storage.write(`${file}.part`, once(Buffer.from(text)), { readBack: 'all' });
      await storage.rename(`${file}.part`, file);
    }
    // Retention may have been at it already: a hold of nothing must not be told as one.
    if ((await storage.stat(archivePath)) === undefined) {
      if (isNew) await storage.remove(file);
      throw new PhdError('NOT_FOUND', `${archive} was removed while it was being held`);
    }
    await showInList(context, storage, folder);
    return stamp;
  } catch (error) {
    throw fromErrno(error, `cannot hold ${storage.place}/${folder}`);
  }
}

/** Throws NOT_FOUND if it is not held, and as above. */
export async function releaseArchive(context: EngineContext, archive: string): Promise<Stamp> {
  const { storage, folder, stamp, file } = await placeOfHold(context, archive);
  if ((await storage.stat(file)) === undefined)
    throw new PhdError('NOT_FOUND', `the run of ${stamp.replace('T', ' ')} of ${archive} is not held`);
  await storage.remove(file);
  await showInList(context, storage, folder);
  return stamp;
}

/** Where that fails the next listing of the target shows it. */
async function showInList(context: EngineContext, storage: Storage, folder: string): Promise<void> {
  const failure = await indexFolder(context, storage, folder);
  if (failure !== null) context.log(failure.message);
}

async function placeOfHold(
  context: EngineContext,
  archive: string,
): Promise<{ storage: Storage; folder: string; stamp: Stamp; file: string; archivePath: string }> {
  const { storage, folder, file } = await archiveRef(context, archive);
  const name = parseArchiveName(file);
  if (storage.number === 0)
    throw new PhdError('USAGE', `${archive}: expected an archive on a target, N:folder/file`);
  const archivePath = `${folder}/${file}`;
  if ((await storage.stat(archivePath)) === undefined)
    throw new PhdError('NOT_FOUND', `there is no ${archive}: see phd list`);
  if (name === undefined) throw new PhdError('USAGE', `${archive}: that is not the name of an archive`);
  return { storage, folder, stamp: name.stamp, file: `${folder}/${holdName(name.stamp)}`, archivePath };
}

/** Stamps that are held in a folder of a target. Throws TARGET_LIED where the folder cannot be listed whole. */
export async function holdsIn(storage: Storage, folder: string, signal?: AbortSignal): Promise<Set<Stamp>> {
  const { entries, complete } = await storage.list(folder, signal);
  if (!complete) throw new PhdError('TARGET_LIED', `the list of ${storage.place}/${folder} was cut`);
  return new Set(entries.flatMap(({ name }) => heldStamp(name) ?? []));
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
