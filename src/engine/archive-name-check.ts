/** An archive renamed to stand for another is refused: what it holds decides, not its name. */
import { listedName } from '../archive/names.ts';
import { PhdError } from '../errors.ts';
import type { ArchiveName, Stamp } from '../model/archive.ts';
import { type ArchivePlace, placeText } from './archive-place.ts';

/** What head or manifest say of themselves. */
interface Held {
  scsiId: string;
  disk: string;
  stamp: Stamp;
  /** Of a DELTA. */
  fullStamp?: Stamp;
}

/** Throws ARCHIVE_DAMAGED if the name tells of another disk or time than the archive itself. */
export function requireNamedRightly(place: ArchivePlace, name: ArchiveName, held: Held): void {
  const isRight =
    held.stamp === name.stamp &&
    (held.fullStamp ?? name.fullStamp) === name.fullStamp &&
    Number(held.scsiId) === Number(name.scsiId) &&
    listedName(held.disk) === name.disk;
  if (isRight) return;
  throw new PhdError(
    'ARCHIVE_DAMAGED',
    `${placeText(place)}: its name and its content (disk ${held.scsiId} ${held.disk}, ${held.stamp}) disagree; it was renamed`,
  );
}
