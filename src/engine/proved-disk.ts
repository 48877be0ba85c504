/** A disk of an archive restored and proved here for a moment, so that it can be sent to a host. */
import { type FileHandle, open } from 'node:fs/promises';
import { throwIfAborted } from '../errors.ts';
import type { OperationHooks } from './backup.ts';
import type { EngineContext } from './context.ts';
import { Progress } from './progress.ts';
import { restore } from './restore.ts';
import type { ArchiveRef } from './restore-source.ts';
import { openScratch } from './scratch.ts';

export interface ProvedDisk {
  file: FileHandle;
  sizeBytes: number;
  /** Bytes that are through, for the progress of the sending. */
  onBytes: (bytes: number) => void;
}

/** Restores into the state folder, calls `work`, takes the disk away. Throws what `restore` and `work` throw. */
export async function withProvedDisk<Result>(
  ctx: EngineContext,
  { archive, full, disk }: { archive: ArchiveRef; full: ArchiveRef | undefined; disk: string },
  hooks: OperationHooks,
  work: (proved: ProvedDisk) => Promise<Result>,
): Promise<Result> {
  const scratch = await openScratch(ctx.places.stateDir);
  try {
    const here = await restore(ctx, { archive, ...(full && { full }), to: scratch.file('disk') }, hooks);
    throwIfAborted(hooks.signal);
    const file = await open(here.flatPath, 'r');
    try {
      const { diskBytes: sizeBytes } = here;
      const progress = new Progress(hooks.onProgress, { label: disk, phase: 'send', totalBytes: sizeBytes });
      const result = await work({ file, sizeBytes, onBytes: (bytes) => progress.add(bytes) });
      progress.finish();
      return result;
    } finally {
      await file.close();
    }
  } finally {
    await scratch.remove();
  }
}
