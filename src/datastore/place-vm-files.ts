/** Puts VMX, NVRAM and logs of an archive into a folder. Names come from the archive and are hostile. */
import { join } from 'node:path';
import { fromErrno, PhdError } from '../errors.ts';
import { makeFolder } from '../make-folder.ts';
import { writeNewFile } from './durable-file.ts';
import { isPlainName, shownName } from './plain-name.ts';
import type { VmFile } from './vm-files.ts';
import { type ChangedLine, rewriteVmx, type VmxRewrite } from './vmx-rewrite.ts';

export interface ArchivedFile {
  kind: VmFile['kind'];
  /** As the archive names it. */
  name: string;
  bytes: Uint8Array;
}

export interface PlacedFiles {
  /** Paths written, each synced and read back. */
  written: string[];
  /** Files that were not written, each with its reason; the others were. */
  failed: { name: string; error: PhdError }[];
  /** Lines of the VMX that differ from the archive's; empty without a rewrite. */
  changes: ChangedLine[];
}

/** The kinds that may be placed, each by the endings it may have: an archive cannot drop a file of another sort. */
const ENDINGS: Partial<Record<VmFile['kind'], RegExp>> = {
  vmx: /\.vmx$/i,
  vmxf: /\.vmxf$/i,
  vmsd: /\.vmsd$/i,
  nvram: /^[^.].*$/,
  log: /\.log$/i,
};

function checkName({ kind, name }: ArchivedFile): void {
  if (isPlainName(name) && !name.startsWith('.') && ENDINGS[kind]?.test(name)) return;
  throw new PhdError(
    'ARCHIVE_DAMAGED',
    `the archive names its ${kind} file ${shownName(name)}: no such name is written`,
  );
}

/**
 * Writes the files into the folder (made if missing), never over existing ones. Descriptors are left out: they come
 * with their disks. With `rewrite` the VMX is fitted to the new place and the archive's own is kept as `NAME.vmx.original`.
 * @throws PhdError only if the folder cannot be made; what happens to single files stands in the result
 */
export async function placeVmFiles(
  folder: string,
  files: readonly ArchivedFile[],
  rewrite?: VmxRewrite,
): Promise<PlacedFiles> {
  const placed: PlacedFiles = { written: [], failed: [], changes: [] };
  try {
    await makeFolder(folder);
  } catch (error) {
    throw fromErrno(error, `cannot make the folder ${folder}`);
  }
  for (const file of files.filter(({ kind }) => kind !== 'descriptor')) {
    try {
      checkName(file);
      const path = join(folder, file.name);
      if (file.kind === 'vmx' && rewrite) {
        const { text, changes } = rewriteVmx(file.bytes, rewrite);
        await writeNewFile(`${path}.original`, file.bytes);
        placed.written.push(`${path}.original`);
        await writeNewFile(path, Buffer.from(text));
        placed.changes = changes;
      } else await writeNewFile(path, file.bytes);
      placed.written.push(path);
    } catch (error) {
      placed.failed.push({
        name: file.name,
        error: fromErrno(error, `cannot write ${shownName(file.name)}`),
      });
    }
  }
  return placed;
}
