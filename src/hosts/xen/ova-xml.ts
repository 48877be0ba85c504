/** `ova.xml` out of what XenAPI gives as the metadata of a VM: a tar with that one member. */
import { Readable } from 'node:stream';
import tar from 'tar-stream';
import { PhdError } from '../../errors.ts';
import type { TransferOptions, XenTransfers } from './xen-transfer.ts';

const MAX_BYTES = 16 * 1024 * 1024;

/** Throws TARGET_*, CANCELLED. */
export async function readOvaXml(
  transfers: XenTransfers,
  vmRef: string,
  options: TransferOptions,
): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  await transfers.download(
    '/export_metadata',
    { ref: vmRef, export_snapshots: 'false' },
    (part) => {
      bytes += part.length;
      if (bytes > MAX_BYTES)
        throw new PhdError('TARGET_LIED', `${options.doing}: more than ${MAX_BYTES} bytes of metadata`);
      parts.push(part);
    },
    options,
  );
  const found = await memberOf(Buffer.concat(parts), 'ova.xml');
  if (found === null) throw new PhdError('TARGET_LIED', `${options.doing}: the metadata holds no ova.xml`);
  return found;
}

/** Null where the archive is no tar, is cut, or holds no such member. */
async function memberOf(archive: Buffer, wanted: string): Promise<Buffer | null> {
  const extract = tar.extract();
  Readable.from([archive]).pipe(extract);
  let found: Buffer | null = null;
  try {
    for await (const entry of extract) {
      const parts: Buffer[] = [];
      for await (const part of entry as AsyncIterable<Buffer>) parts.push(part);
      if (entry.header.name === wanted) found = Buffer.concat(parts);
    }
  } catch {
    return null;
  }
  return found;
}
