/** The VM's small files out of a DELTA: VMX, NVRAM, logs, the disk's descriptor. */
import type { FileEntry } from '../archive/manifest.ts';
import { PhdError } from '../errors.ts';
import { placeText } from './archive-place.ts';
import { gunzip, type OpenDelta } from './delta-reader.ts';

export interface ArchiveFile extends FileEntry {
  bytes: Buffer;
}

/** A hostile manifest gets no more memory than this for one file. */
const MAX_FILE_BYTES = 64 * 2 ** 20;

/** All files in order; the last one comes only after the part was proved whole. Throws ARCHIVE_DAMAGED, PASSPHRASE_*. */
export async function* readArchiveFiles(delta: OpenDelta): AsyncGenerator<ArchiveFile> {
  const { files } = delta.manifest;
  const damaged = (why: string): PhdError =>
    new PhdError('ARCHIVE_DAMAGED', `${placeText(delta.place)}: part files ${why}`);
  if (files.length === 0) return;
  for (const file of files)
    if (file.sizeBytes > MAX_FILE_BYTES) throw damaged(`names a file of ${file.sizeBytes} bytes`);
  const stream = gunzip(delta.content('files'));
  const ready: ArchiveFile[] = [];
  let rest: Buffer = Buffer.alloc(0);
  let at = 0;
  for await (const chunk of stream) {
    rest = Buffer.concat([rest, chunk]);
    while (at < files.length && rest.length >= files[at]!.sizeBytes) {
      const file = files[at]!;
      ready.push({ ...file, bytes: rest.subarray(0, file.sizeBytes) });
      rest = rest.subarray(file.sizeBytes);
      at += 1;
    }
    if (at === files.length && rest.length > 0) throw damaged('is longer than announced');
  }
  while (at < files.length && files[at]!.sizeBytes === 0) {
    ready.push({ ...files[at]!, bytes: Buffer.alloc(0) });
    at += 1;
  }
  if (at < files.length) throw damaged('is cut');
  yield* ready;
}
