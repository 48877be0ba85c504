/** What a plan would do now: the run of each VM, its headers read and its FULLs proved, room on each volume. Reads only. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { fromErrno, PhdError } from '../errors.ts';
import type { EngineContext } from './context.ts';
import { distinctDiskNames, nameTaken } from './disk-names.ts';
import { type CheckedArchive, checkArchive, type FullCandidate } from './full-candidates.ts';
import { newestRun } from './list-archives.ts';
import { previewRestore, type RestorePreview } from './restore-preview.ts';

export interface PlannedDisk {
  checked: CheckedArchive;
  /** What it is called in the folder of the VM. */
  name: string;
  /** The nearest FULL that is proved; null: none is, `fault` says why. */
  full: FullCandidate | null;
  fault: PhdError | null;
}

/** One VM of a plan as its archives tell it. */
export interface PlannedVm {
  /** Own stamp of the run; null if none was found. */
  stamp: string | null;
  disks: PlannedDisk[];
  /** Why the VM cannot be restored. */
  fault: PhdError | null;
  /** Runs that were passed over, targets that could not be asked. */
  warnings: string[];
}

/** A disk with what is at its goal. */
export interface PlannedGoal {
  disk: PlannedDisk;
  preview: RestorePreview | null;
  fault: PhdError | null;
}

/** Needed and free on one file system. */
export interface VolumeRoom {
  /** Folder that names it best. */
  path: string;
  neededBytes: number;
  freeBytes: number;
}

/** The newest complete run of a VM up to a date, and its FULLs. Throws CANCELLED; all else stands in the result. */
export async function planVm(
  context: EngineContext,
  wanted: { vm: string; uuid: string; onOrBefore?: string },
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<PlannedVm> {
  const planned: PlannedVm = { stamp: null, disks: [], fault: null, warnings: [] };
  const { vm, uuid, onOrBefore } = wanted;
  try {
    say(`${vm}: looking for its run`);
    const request = { vm: uuid === '' ? vm : uuid, ...(onOrBefore === undefined ? {} : { onOrBefore }) };
    const rows = await newestRun(context, request, (stamp, why) =>
      planned.warnings.push(`the run of ${stamp.replace('T', ' ')} is not taken: ${why}`),
    );
    planned.stamp = rows[0]?.stamp ?? null;
    for (const { targetNumber, folder, file, disk } of rows) {
      say(`${vm}: checking ${disk}`);
      const checked = await checkArchive(context, `${targetNumber}:${folder}/${file}`, { signal });
      planned.warnings.push(...checked.warnings);
      planned.disks.push(withFull(checked));
    }
    const names = distinctDiskNames(planned.disks.map(({ checked }) => checked));
    for (const [at, disk] of planned.disks.entries()) disk.name = names[at] as string;
    planned.fault = planned.disks.find(({ fault }) => fault !== null)?.fault ?? null;
  } catch (error) {
    const failure = fromErrno(error, `cannot plan ${vm}`);
    if (failure.code === 'CANCELLED') throw failure;
    // The VM is looked for by its UUID; people know its name.
    const message = failure.message.replaceAll(JSON.stringify(uuid), JSON.stringify(vm));
    planned.fault = new PhdError(failure.code, message, { cause: failure });
  }
  return planned;
}

/** Only what can be proved without a person's word runs in a plan. */
function withFull(checked: CheckedArchive): PlannedDisk {
  const full = checked.fulls.find(({ agreement }) => agreement === 'proved') ?? null;
  const why = checked.fulls[0]?.why ?? 'no FULL was found';
  const fault = !checked.isProvable
    ? new PhdError('USAGE', `${checked.disk} carries no digests: restore it alone`)
    : full === null
      ? new PhdError('WRONG_FULL', `${checked.disk}: its FULL is not proved (${why})`)
      : null;
  return { checked, name: checked.disk, full, fault };
}

/** What is at the goal of each disk. Throws nothing: faults stand in the result. */
export async function planGoals(planned: PlannedVm, folder: string): Promise<PlannedGoal[]> {
  return await Promise.all(
    planned.disks.map(async (disk): Promise<PlannedGoal> => {
      const { diskBytes, payloadBytes } = disk.checked;
      const dataBytes = disk.full?.dataBytes ?? null;
      const neededBytes =
        diskBytes === null || dataBytes === null ? diskBytes : Math.min(diskBytes, dataBytes + payloadBytes);
      try {
        const preview = await previewRestore({
          folder,
          diskName: disk.name,
          diskBytes,
          neededBytes,
          isExact: payloadBytes === 0 && dataBytes !== null,
          inPlace: false,
        });
        const { existing, flatPath } = preview.goal;
        const taken =
          disk.name !== disk.checked.disk && existing !== null
            ? nameTaken(flatPath, disk.checked.disk)
            : null;
        return { disk, preview, fault: preview.refusal ?? taken ?? disk.fault };
      } catch (error) {
        return { disk, preview: null, fault: fromErrno(error, `cannot look at ${folder}`) };
      }
    }),
  );
}

/** Room for all disks together, one for each file system, the fullest first, named by the volume if it is one. */
export async function roomOf(
  goals: readonly PlannedGoal[],
  volumes: readonly { path: string }[],
): Promise<VolumeRoom[]> {
  const rooms = new Map<number, VolumeRoom>();
  for (const { preview } of goals) {
    if (preview === null) continue;
    const { folder, freeBytes } = preview.goal;
    const { device, place } = await deviceOf(folder);
    const volume = volumes.find(({ path: one }) => place === one || place.startsWith(`${one}/`));
    const room = rooms.get(device) ?? { path: volume?.path ?? place, neededBytes: 0, freeBytes };
    room.neededBytes += preview.neededBytes ?? 0;
    rooms.set(device, room);
  }
  const left = ({ freeBytes, neededBytes }: VolumeRoom): number => freeBytes - neededBytes;
  return [...rooms.values()].sort((a, b) => left(a) - left(b));
}

/** File system of a folder that may not be there yet, and the nearest parent that is. */
async function deviceOf(folder: string): Promise<{ device: number; place: string }> {
  for (let place = folder; ; place = path.dirname(place)) {
    try {
      return { device: (await stat(place)).dev, place };
    } catch (error) {
      const failure = fromErrno(error, `cannot look at ${place}`);
      if (failure.code !== 'NOT_FOUND' || place === path.dirname(place)) throw failure;
    }
  }
}
