/** Verifies archives to the last byte; what was found is kept with its date. */
import { fromErrno } from '../errors.ts';
import { type ArchivePlace, placeText } from './archive-place.ts';
import type { OperationHooks } from './backup.ts';
import type { EngineContext } from './context.ts';
import { passphrasesForReading } from './passphrase-order.ts';
import { type ArchiveRef, findArchive } from './restore-source.ts';
import { openScratch } from './scratch.ts';
import { verifyDelta } from './verify-delta.ts';
import { verifyFull } from './verify-full.ts';
import type { Verifying, VerifyResult } from './verifying.ts';

/**
 * Verifies one archive: every stored byte, every block. The outcome is kept with its date for lists. Returns only if
 * all is good; throws ARCHIVE_DAMAGED, DIGEST_MISMATCH, PASSPHRASE_*, TARGET_*, NOT_FOUND, CANCELLED.
 */
export async function verifyArchive(
  ctx: EngineContext,
  ref: ArchiveRef,
  hooks: OperationHooks = {},
): Promise<VerifyResult> {
  const { place, name } = await findArchive(ref, hooks.signal);
  const startedMs = performance.now();
  const scratch = await openScratch(ctx.places.stateDir);
  try {
    const passphrases = await passphrasesForReading(ctx, name.encrypted, hooks.onWarning);
    const verifying: Verifying = { ctx, place, name, passphrases, scratch, hooks };
    const blocks = name.kind === 'full' ? await verifyFull(verifying) : await verifyDelta(verifying);
    keep(ctx, place, 'good', '');
    return {
      archive: placeText(place),
      kind: name.kind,
      blocks,
      bytes: place.sizeBytes,
      seconds: (performance.now() - startedMs) / 1000,
    };
  } catch (error) {
    const translated = fromErrno(error, placeText(place));
    if (['ARCHIVE_DAMAGED', 'DIGEST_MISMATCH'].includes(translated.code))
      keep(ctx, place, 'damaged', translated.message);
    else if (['PASSPHRASE_MISSING', 'PASSPHRASE_WRONG', 'FORMAT_UNSUPPORTED'].includes(translated.code)) {
      keep(ctx, place, 'unreadable', translated.message);
    }
    throw translated;
  } finally {
    await scratch.remove();
  }
}

function keep(
  ctx: EngineContext,
  place: ArchivePlace,
  result: 'good' | 'damaged' | 'unreadable',
  detail: string,
): void {
  const { storage, folder, file, sizeBytes } = place;
  if (storage.number === 0) return;
  ctx.jobs.recordVerify({
    targetNumber: storage.number,
    folder,
    file,
    sizeBytes,
    verifiedAt: ctx.clock.now().toISOString(),
    result,
    detail,
  });
}
