/** What a restore would do to its goal: looked at before the last question is asked; changes nothing. */
import { type GoalDisk, planGoal } from '../datastore/goal-disk.ts';
import { stubNameOf } from '../datastore/stub.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { formatBytes } from './display-text.ts';
import { inspectGoal, isRawImage } from './restore-goal.ts';

export { type StubType, stubNameOf, writeStub } from '../datastore/stub.ts';
export { isRawImage } from './restore-goal.ts';

export interface PreviewRequest {
  folder: string;
  diskName: string;
  /** null: not known, so sizes are not compared. */
  diskBytes: number | null;
  /** At most so many bytes will be written, or exactly; null: not known. */
  neededBytes: number | null;
  isExact: boolean;
  inPlace: boolean;
}

export interface RestorePreview {
  goal: GoalDisk;
  /** Room that is asked for: what is written and 5 %; null where nothing is, or it is not known. */
  neededBytes: number | null;
  /** Why it will be refused, or null. */
  refusal: PhdError | null;
  /** The room may be too small; the restore itself will tell before it writes. */
  mayNotFit: boolean;
  /** What cannot be known of the disk being in use, a line each: it needs a person's word. */
  doubts: string[];
}

/** Throws USAGE (name), NOT_FOUND, EXISTS (a link or device in the way), LOCKED, IO: there is nothing to show then. */
export async function previewRestore(request: PreviewRequest): Promise<RestorePreview> {
  const { folder, diskName, inPlace } = request;
  const named = { folder, diskName, isRawImage: isRawImage(diskName) };
  const seen = await planGoal({ ...named, diskBytes: request.diskBytes ?? -1 }).catch((error) => {
    throw fromErrno(error, `cannot look at ${folder}`);
  });
  const diskBytes = request.diskBytes ?? seen.existing?.sizeBytes ?? 0;
  const needsRoom = !inPlace && seen.existing?.kind !== 'device' && request.neededBytes !== null;
  const neededBytes = needsRoom ? Math.ceil((request.neededBytes ?? 0) * 1.05) : null;
  const preview: RestorePreview = { goal: seen, neededBytes, refusal: null, mayNotFit: false, doubts: [] };
  try {
    await inspectGoal({ folder, diskName, diskBytes, inPlace, assumeOff: true }, (line) =>
      preview.doubts.push(line.replace(/^taken as off: /, '')),
    );
    // What a cut attempt has written is there already: only the engine can tell what is missing.
    preview.mayNotFit = neededBytes !== null && !seen.hasPart && neededBytes > seen.freeBytes;
    if (preview.mayNotFit && request.isExact) preview.refusal = noRoom(seen, neededBytes ?? 0);
  } catch (error) {
    preview.refusal = fromErrno(error, `cannot restore into ${folder}`);
  }
  return preview;
}

function noRoom(goal: GoalDisk, neededBytes: number): PhdError {
  return new PhdError(
    'NO_SPACE',
    `${goal.folder} has ${formatBytes(goal.freeBytes)} free, the restore needs ${formatBytes(neededBytes)}: make room or choose another volume`,
  );
}

/** Why a disk cannot bear this name, or undefined. */
export function diskNameFault(name: string): string | undefined {
  if (/[/\\]/.test(name)) return 'the name of a disk, not a path';
  if (name.trim() === '') return 'a name is needed';
  return isRawImage(name) && /\.vmx$|\.part$/i.test(name) ? 'a name such as server.vmdk' : undefined;
}

/** The flat that a stub would be made for is named so that a name follows, or why not. */
export function stubNameFault(flatName: string): string | undefined {
  try {
    stubNameOf(flatName);
    return undefined;
  } catch (error) {
    return (error as PhdError).message;
  }
}
