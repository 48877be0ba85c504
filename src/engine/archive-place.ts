/** One archive on one target, as the operations name it. */
import type { ByteSource } from '../model/byte-source.ts';
import type { Storage } from '../storage/storage.ts';

/** Number of the target that stands for a file named by its path. */
export const PATH_TARGET = 0;

export interface ArchivePlace {
  storage: Storage;
  folder: string;
  file: string;
  sizeBytes: number;
}

/** `N:folder/file`, as lists print it and commands take it; of a file that was named by its path that path. */
export function placeText({ storage, folder, file }: Omit<ArchivePlace, 'sizeBytes'>): string {
  if (storage.number === PATH_TARGET) return `${storage.place}/${placePath({ folder, file })}`;
  return `${storage.number}:${folder}/${file}`;
}

export function placePath(place: { folder: string; file: string }): string {
  return place.folder === '' ? place.file : `${place.folder}/${place.file}`;
}

/** The stored bytes of an archive. */
export function storedBytes(place: ArchivePlace, signal?: AbortSignal): ByteSource {
  return {
    sizeBytes: place.sizeBytes,
    read: (offsetBytes, lengthBytes) =>
      place.storage.read(placePath(place), { offsetBytes, lengthBytes }, signal),
  };
}

/** A range of another source as a source of its own. */
export function sliceSource(source: ByteSource, offsetBytes: number, sizeBytes: number): ByteSource {
  return { sizeBytes, read: (offset, length) => source.read(offsetBytes + offset, length) };
}
