/** Verifies a disk against what an archive says it must be. */
import fs from 'node:fs/promises';
import { blockSizeBytes, type Geometry, geometryOf } from '../archive/geometry.ts';
import { compareDisk } from '../blocks/check-disk.ts';
import { BlockPool } from '../blocks/pool.ts';
import type { BlockFailure } from '../blocks/tasks.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { placeText } from './archive-place.ts';
import type { OperationHooks } from './backup.ts';
import type { EngineContext } from './context.ts';
import { expectedRegions } from './expected-disk.ts';
import { Progress } from './progress.ts';
import { countSources } from './restore-blocks.ts';
import { type ArchiveRef, openRestoreSource } from './restore-source.ts';
import { openScratch } from './scratch.ts';
import { requireNone, type VerifyResult } from './verifying.ts';

/** Compares a disk with what an archive says it must be. Throws DIGEST_MISMATCH naming the first block that differs. */
export async function verifyDisk(
  ctx: EngineContext,
  flatPath: string,
  against: ArchiveRef,
  hooks: OperationHooks = {},
  chosenFull?: ArchiveRef,
): Promise<VerifyResult> {
  const startedMs = performance.now();
  const scratch = await openScratch(ctx.places.stateDir);
  try {
    const source = await openRestoreSource(ctx, against, scratch, hooks, { chosenFull });
    const { fullMap } = source;
    if (!fullMap)
      throw new PhdError(
        'FORMAT_UNSUPPORTED',
        `${against.file} carries no digests: no disk can be verified against it`,
      );
    const geometry = geometryOf(source.diskBytes, fullMap.end.geometry.blockBytes);
    await countSources(source, geometry, () => undefined);
    const failures = await compareFlat(flatPath, geometry, expectedRegions(fullMap, source.maps), hooks);
    requireNone(failures, flatPath, geometry);
    return {
      archive: placeText((source.delta ?? source.full).place),
      kind: 'disk',
      blocks: geometry.blockCount,
      bytes: geometry.diskBytes,
      seconds: (performance.now() - startedMs) / 1000,
    };
  } finally {
    await scratch.remove();
  }
}

/** Blocks that differ, at most some 1,000. Throws DIGEST_MISMATCH (another size), NOT_FOUND, IO, CANCELLED. */
export async function compareFlat(
  flatPath: string,
  geometry: Geometry,
  regions: ReturnType<typeof expectedRegions>,
  hooks: OperationHooks,
): Promise<BlockFailure[]> {
  const handle = await fs.open(flatPath, 'r').catch((error) => {
    throw fromErrno(error, `cannot read ${flatPath}`);
  });
  const pool = new BlockPool(geometry.blockBytes, geometry.blockCount);
  try {
    const { size } = await handle.stat();
    if (size !== geometry.diskBytes && size !== 0) {
      throw new PhdError(
        'DIGEST_MISMATCH',
        `${flatPath} has ${size} bytes, the archive says ${geometry.diskBytes}`,
      );
    }
    const progress = new Progress(hooks.onProgress, {
      label: flatPath,
      phase: 'verify',
      totalBytes: geometry.diskBytes,
    });
    const failures: BlockFailure[] = [];
    const note = (blocks: number[], bad: BlockFailure[]): void => {
      if (failures.length < 1000) failures.push(...bad);
      progress.add(blocks.reduce((sum, block) => sum + blockSizeBytes(geometry, block), 0));
    };
    await compareDisk(pool, { fd: handle.fd, geometry }, regions, note, hooks.signal);
    progress.finish();
    return failures;
  } finally {
    await pool.close();
    await handle.close();
  }
}
