/** A FULL without digests (lzop without its DELTA, or of another program): restored as a stream, and called unproved. */
import fs from 'node:fs/promises';
import { geometryOf } from '../archive/geometry.ts';
import { PhdError, throwIfAborted } from '../errors.ts';
import { placeText } from './archive-place.ts';
import type { OperationHooks } from './backup.ts';
import { gunzip } from './delta-reader.ts';
import { placeDescriptor, prepareDescriptor } from './descriptor-of-disk.ts';
import { nameTaken } from './disk-names.ts';
import { lzopPlain } from './lzop.ts';
import { Progress } from './progress.ts';
import type { RestoreRequest, RestoreResult } from './restore.ts';
import { finishGoal, inspectGoal, openGoal, requireRoom } from './restore-goal.ts';
import type { RestoreSource } from './restore-source.ts';

const CHUNK_BYTES = 1_048_576;

/** Throws FORMAT_UNSUPPORTED unless the operator accepted an unproved result. */
export async function restoreStream(
  source: RestoreSource,
  request: RestoreRequest,
  hooks: OperationHooks,
): Promise<RestoreResult> {
  const startedMs = performance.now();
  const { place, codec, plain } = source.full;
  if (!request.acceptUnproved) {
    throw new PhdError(
      'FORMAT_UNSUPPORTED',
      `${placeText(place)} carries no digests: what it restores cannot be proved; --accept-unproved restores it all the same`,
    );
  }
  if (request.inPlace === true) throw new PhdError('USAGE', '--in-place needs an archive with digests');
  const onWarning = hooks.onWarning ?? (() => undefined);
  const diskName = request.name ?? source.diskName;
  const unpack = (): AsyncIterable<Buffer> =>
    codec === 'lzop' ? lzopPlain(plain) : gunzip(plain.read(0, plain.sizeBytes));
  const diskBytes = await measure(unpack(), hooks);
  const goal = await inspectGoal(
    { folder: request.to, diskName, diskBytes, inPlace: false, assumeOff: request.assumeOff ?? false },
    onWarning,
  );
  if (request.isNameNew && goal.existing) throw nameTaken(goal.flatPath, source.diskName);
  requireRoom(goal, diskBytes);
  if (goal.partPath) await fs.rm(goal.partPath, { force: true });
  const open = await openGoal({ ...goal, hasPart: false }, geometryOf(diskBytes));
  try {
    const progress = new Progress(hooks.onProgress, {
      label: diskName,
      phase: 'restore',
      totalBytes: diskBytes,
    });
    let at = 0;
    for await (const chunk of unpack()) {
      throwIfAborted(hooks.signal);
      if (at + chunk.length > diskBytes)
        throw new PhdError('ARCHIVE_DAMAGED', `${placeText(place)} reads differently the second time`);
      if (open.kind === 'device' || !isZero(chunk)) await open.handle.write(chunk, 0, chunk.length, at);
      at += chunk.length;
      progress.add(chunk.length);
    }
    if (at !== diskBytes)
      throw new PhdError('ARCHIVE_DAMAGED', `${placeText(place)} reads differently the second time`);
    progress.finish();
    await finishGoal(open);
  } finally {
    await open.handle.close();
  }
  const descriptorPath = await placeDescriptor(
    await prepareDescriptor(null, goal, diskBytes, diskName, onWarning),
    onWarning,
  );
  const { blockCount } = geometryOf(diskBytes);
  onWarning(`${goal.flatPath} is unproved: ${placeText(place)} carries no digests`);
  return {
    archive: placeText(place),
    full: placeText(place),
    disk: diskName,
    flatPath: goal.flatPath,
    descriptorPath,
    diskBytes,
    totalBlocks: blockCount,
    fromFull: blockCount,
    fromDelta: 0,
    zero: 0,
    kept: 0,
    writtenBytes: diskBytes,
    besideBytes: 0,
    retried: 0,
    seconds: (performance.now() - startedMs) / 1000,
    unproved: true,
    verified: false,
  };
}

/** Size of the disk: such archives do not tell it, so they are unpacked once to nothing (which checks their CRC as well). */
async function measure(stream: AsyncIterable<Buffer>, hooks: OperationHooks): Promise<number> {
  let bytes = 0;
  for await (const chunk of stream) {
    throwIfAborted(hooks.signal);
    bytes += chunk.length;
  }
  return bytes;
}

const zeroChunk = Buffer.alloc(CHUNK_BYTES);

function isZero(chunk: Buffer): boolean {
  return chunk.length <= CHUNK_BYTES && chunk.equals(zeroChunk.subarray(0, chunk.length));
}
