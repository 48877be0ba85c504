/** What the parts of a verify run share: the archive, its members checked, its digest compared. */
import type { Geometry } from '../archive/geometry.ts';
import { DiskFiller, groupMembers, type WantedMember } from '../blocks/fill-disk.ts';
import { BlockPool } from '../blocks/pool.ts';
import type { BlockFailure } from '../blocks/tasks.ts';
import { PhdError } from '../errors.ts';
import type { ArchiveName } from '../model/archive.ts';
import type { ByteSource } from '../model/byte-source.ts';
import { type ArchivePlace, placeText } from './archive-place.ts';
import type { OperationHooks } from './backup.ts';
import type { EngineContext } from './context.ts';
import { Progress } from './progress.ts';
import type { Scratch } from './scratch.ts';

export interface VerifyResult {
  archive: string;
  kind: 'full' | 'delta' | 'disk';
  blocks: number;
  bytes: number;
  seconds: number;
}

export interface Verifying {
  ctx: EngineContext;
  place: ArchivePlace;
  name: ArchiveName;
  passphrases: string[];
  scratch: Scratch;
  hooks: OperationHooks;
}

/** The digest kept when the archive was written here finds what recomputed digests would hide. */
export function requireWritten({ ctx, place }: Verifying, sha256: string): void {
  const written = ctx.jobs.written(place.storage.number, place.folder, place.file);
  if (written && (written.sha256 !== sha256 || written.sizeBytes !== place.sizeBytes)) {
    throw new PhdError(
      'DIGEST_MISMATCH',
      `${placeText(place)} is not the file that was written there on ${written.writtenAt}`,
    );
  }
}

export async function checkMembers(
  verifying: Verifying,
  source: ByteSource,
  codec: 'gzip' | 'zstd',
  members: AsyncIterable<WantedMember>,
  geometry: Geometry,
): Promise<number> {
  const { place, hooks } = verifying;
  const progress = new Progress(hooks.onProgress, {
    label: place.file,
    phase: 'verify',
    totalBytes: place.sizeBytes,
  });
  const failures: BlockFailure[] = [];
  let blocks = 0;
  const pool = new BlockPool(geometry.blockBytes, geometry.blockCount);
  const onBatch = (good: number[], bad: BlockFailure[]): void => {
    blocks += good.length;
    if (failures.length < 1000) failures.push(...bad);
  };
  const filler = new DiskFiller(pool, -1, geometry, { codec, check: true, onBatch, signal: hooks.signal });
  try {
    for await (const group of groupMembers(members)) {
      await filler.fill(source, group);
      progress.add(group.reduce((sum, member) => sum + member.memberBytes, 0));
    }
    await filler.settle();
  } finally {
    await filler.settle().catch(() => undefined);
    await pool.close();
  }
  progress.finish();
  requireNone(failures, placeText(place), geometry);
  return blocks;
}

export function requireNone(failures: BlockFailure[], what: string, geometry: Geometry): void {
  const [first] = failures.sort((a, b) => a.block - b.block);
  if (!first) return;
  const others = failures.length > 1 ? ` and ${failures.length - 1} more` : '';
  throw new PhdError(
    'DIGEST_MISMATCH',
    `${what}: block ${first.block} (byte ${first.block * geometry.blockBytes})${others}: ${first.reason}`,
  );
}
