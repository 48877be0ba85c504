/** Which of the passphrases at hand open which archives: each run is tried once, since all its archives share theirs. */
import type { ArchiveRow } from '../../db/archive-rows.ts';
import { openRandomMessage } from '../crypt/random-read.ts';
import { fromErrno, PhdError, throwIfAborted } from '../errors.ts';
import { type ArchivePlace, placeText, storedBytes } from './archive-place.ts';
import type { EngineContext, Passphrases } from './context.ts';
import { openDelta } from './delta-reader.ts';
import { indexFilter, type ListFilter } from './list-archives.ts';

export interface OpeningPassphrases {
  /** The archive that was tried. */
  row: ArchiveRow;
  /** `system`, `master`, or `former 1` in the order of the configuration; none: nothing at hand opens it. */
  opens: string[];
  /** Why it could not be told; null if it could. */
  fault: PhdError | null;
}

export interface OpeningOptions {
  signal?: AbortSignal;
  /** Called before each run with how many there are. */
  onRun?: (done: number, total: number) => void;
}

const PAGE = 1_000;

/**
 * Tries every encrypted run that passes the filter, newest first; former passphrases only where neither of those in use
 * opens it. A run that cannot be read costs itself only. Throws CONFIG_INVALID (a passphrase that cannot be read),
 * CANCELLED, IO.
 */
export async function openingPassphrases(
  context: EngineContext,
  filter: ListFilter,
  { signal, onRun }: OpeningOptions = {},
): Promise<OpeningPassphrases[]> {
  const known = namedPassphrases(await context.passphrases());
  const runs = encryptedRuns(context, filter);
  const results: OpeningPassphrases[] = [];
  for (const row of runs) {
    throwIfAborted(signal);
    onRun?.(results.length, runs.length);
    try {
      results.push({ row, opens: await opensRun(context, row, known, signal), fault: null });
    } catch (error) {
      throwIfAborted(signal);
      const fault = fromErrno(error, `${row.targetNumber}:${row.folder}/${row.file}`);
      results.push({ row, opens: [], fault });
    }
  }
  return results;
}

interface NamedPassphrase {
  name: string;
  passphrase: string;
  isInUse: boolean;
}

function namedPassphrases({ system, master, former }: Passphrases): NamedPassphrase[] {
  const inUse = [
    { name: 'system', passphrase: system },
    { name: 'master', passphrase: master },
  ].flatMap(({ name, passphrase }) => (passphrase === null ? [] : [{ name, passphrase, isInUse: true }]));
  const before = former.map((passphrase, at) => ({ name: `former ${at + 1}`, passphrase, isInUse: false }));
  return [...inUse, ...before];
}

/** One whole archive of each encrypted run, DELTAs before FULLs. */
function encryptedRuns(context: EngineContext, filter: ListFilter): ArchiveRow[] {
  const wanted = indexFilter(context, filter);
  const runs = new Map<string, ArchiveRow>();
  let after: Parameters<typeof context.index.listArchives>[1]['after'];
  for (;;) {
    const page = context.index.listArchives(wanted, {
      limit: PAGE,
      ...(after === undefined ? {} : { after }),
    });
    for (const row of page) {
      if (!row.encrypted || !row.complete || row.generation !== 3 || row.header?.foreign) continue;
      const run = `${row.vmId} ${row.stamp}`;
      const held = runs.get(run);
      if (held === undefined || (held.kind === 'full' && row.kind === 'delta')) runs.set(run, row);
    }
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE) return [...runs.values()];
    after = { stamp: last.stamp, vmId: last.vmId, diskId: last.diskId, id: last.id };
  }
}

async function opensRun(
  context: EngineContext,
  { targetNumber, folder, file, sizeBytes, kind }: ArchiveRow,
  known: readonly NamedPassphrase[],
  signal?: AbortSignal,
): Promise<string[]> {
  const storage = await context.storage(targetNumber);
  const place = { storage, folder, file, sizeBytes };
  const opens: string[] = [];
  for (const { name, passphrase, isInUse } of known) {
    if (!isInUse && opens.length > 0) break;
    if (await isOpenedBy(place, kind, passphrase, signal)) opens.push(name);
  }
  return opens;
}

async function isOpenedBy(
  place: ArchivePlace,
  kind: ArchiveRow['kind'],
  passphrase: string,
  signal?: AbortSignal,
): Promise<boolean> {
  try {
    if (kind === 'full') await openRandomMessage(storedBytes(place, signal), [passphrase], placeText(place));
    else await (await openDelta(place, [passphrase], signal)).random('maps');
    return true;
  } catch (error) {
    if (error instanceof PhdError && error.code === 'PASSPHRASE_WRONG') return false;
    throw error;
  }
}
