/** One archive on one target, as the operations name it. */
import type { ByteSource } from '../model/byte-source.ts';
import type { Storage } from '../storage/storage.ts';

export interface ArchivePlace {
  storage: Storage;
  folder: string;
  file: string;
  sizeBytes: number;
}

/** `N:folder/file`, as lists print it and commands take it. */
export function placeText(place: ArchivePlace): string {
  return `${place.storage.number}:${place.folder}/${place.file}`;
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
