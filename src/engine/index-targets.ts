/**
 * Lists targets into the index: all targets at once, each with its own progress and its own failure. An absent
 * name counts as gone only where the listing was complete; everything else stays, marked with its age. New DELTAs
 * of vmfs targets are opened for what they say of their run; archives of other targets are known by name and by
 * what this host wrote, since a slow line is not asked for each.
 */
import type { ListedArchive } from '../../db/index-db.ts';
import { heldStamp } from '../archive/hold-name.ts';
import {
  CONFIGURATION_FOLDER,
  isPartOfArchive,
  PART_SUFFIX,
  parseArchiveName,
  parseFolderName,
} from '../archive/names.ts';
import { namedTarget } from '../config/named-target.ts';
import { fromErrno, PhdError, throwIfAborted } from '../errors.ts';
import type { TargetConfig } from '../model/config.ts';
import type { Storage, StorageEntry } from '../storage/storage.ts';
import type { EngineContext } from './context.ts';
import { formatAge } from './display-text.ts';
import { withHeaders } from './index-headers.ts';
import { readShownTime } from './shown-time.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const MINUTE_MS = 60 * 1000;
/** Folders of one target that are asked for at once; the target queues what its lines cannot do. */
const FOLDERS_AT_ONCE = 4;

export { clockFault } from './index-state.ts';

export interface IndexOptions {
  /** Numbers of targets; default: all. USAGE for one that is not configured. */
  targets?: readonly number[];
  /**
   * `old`: only targets whose index is older than the setting, and without `targets` no dead server again that was tried
   * within that time, so that it holds up one command and not all; `changed` (default): all, without folders that
   * cannot have changed; `all`: every folder.
   */
  scope?: 'old' | 'changed' | 'all';
  signal?: AbortSignal;
  onEvent?: (event: IndexEvent) => void;
  /** Called as each target ends. */
  onTarget?: (result: TargetIndexResult) => void;
}

export interface IndexEvent {
  targetNumber: number;
  targetName: string;
  foldersDone: number;
  foldersTotal: number;
  archiveCount: number;
}

export interface TargetIndexResult {
  targetNumber: number;
  targetName: string;
  /** `fresh`: not listed, its index is young enough. `partial`: some listing was cut or failed. */
  outcome: 'complete' | 'partial' | 'fresh' | 'failed';
  folderCount: number;
  /** Folders that were not listed again because they cannot have changed. */
  unchangedFolders: number;
  archiveCount: number;
  /** Entries that are no archives: stray, hostile, unreadable names. */
  strayEntries: number;
  /** Folders that are gone. */
  removedFolders: number;
  /** First thing that went wrong, or null. */
  error: PhdError | null;
}

/** Lists the targets; never throws for one target's sake (see `error` of its result). Throws CANCELLED, USAGE. */
export async function indexTargets(
  context: EngineContext,
  options: IndexOptions = {},
): Promise<TargetIndexResult[]> {
  const { config } = context;
  for (const number of options.targets ?? []) namedTarget(config, number);
  const chosen = config.targets.filter((one) => options.targets?.includes(one.number) ?? true);
  const results = await Promise.all(
    chosen.map(async (target) => {
      const result = await indexTarget(context, target, options);
      options.onTarget?.(result);
      return result;
    }),
  );
  throwIfAborted(options.signal);
  context.index.dropUnusedNames();
  return results;
}

/**
 * Takes one folder of a target into the index, such as that of a run just made: an index that is young enough is not
 * listed anew. Returns what went wrong, or null.
 */
export async function indexFolder(
  context: EngineContext,
  storage: Storage,
  name: string,
): Promise<PhdError | null> {
  const result = emptyResult(storage.number, storage.name);
  try {
    await new TargetListing(context, storage, result, {}).listFolder(name, null);
    return result.error;
  } catch (error) {
    return fromErrno(error, `cannot list ${storage.place}/${name}`);
  }
}

async function indexTarget(
  context: EngineContext,
  target: TargetConfig,
  options: IndexOptions,
): Promise<TargetIndexResult> {
  const result = emptyResult(target.number, target.name);
  const triedMs = context.clock.now().getTime();
  const state = context.index.targets().find((one) => one.number === target.number);
  const ageMs = triedMs - (state?.listedMs ?? Number.NEGATIVE_INFINITY);
  if (options.scope === 'old' && ageMs >= 0 && ageMs < context.config.indexMaxAgeMinutes * MINUTE_MS) {
    result.outcome = 'fresh';
    return result;
  }
  const triedAgoMs = triedMs - (state?.triedMs ?? Number.NEGATIVE_INFINITY);
  const isTriedLately =
    target.transport !== 'vmfs' &&
    triedAgoMs >= 0 &&
    triedAgoMs < context.config.indexMaxAgeMinutes * MINUTE_MS;
  if (options.scope === 'old' && options.targets === undefined && isTriedLately && state?.error != null) {
    result.error = new PhdError('TARGET_UNREACHABLE', `${state.error} (tried ${formatAge(triedAgoMs)} ago)`);
    result.outcome = 'failed';
    return result;
  }
  try {
    const storage = await context.storage(target.number);
    await new TargetListing(context, storage, result, options).run();
  } catch (error) {
    const { code, message } = fromErrno(error, 'cannot be listed');
    result.error = new PhdError(
      code === 'NOT_FOUND' ? 'TARGET_UNREACHABLE' : code,
      `target ${target.number} (${target.name}): ${message.replace(`target ${target.number}: `, '')}`,
      { cause: error },
    );
    result.outcome = 'failed';
  }
  const { outcome } = result;
  // A person who would not wait says nothing about the target.
  if (options.signal?.aborted || outcome === 'fresh') return result;
  context.index.finishTarget({
    number: target.number,
    triedMs,
    outcome,
    error: result.error?.message ?? null,
  });
  return result;
}

function emptyResult(targetNumber: number, targetName: string): TargetIndexResult {
  return {
    targetNumber,
    targetName,
    outcome: 'complete',
    folderCount: 0,
    unchangedFolders: 0,
    archiveCount: 0,
    strayEntries: 0,
    removedFolders: 0,
    error: null,
  };
}

/** When a folder was changed, and how much that may be off. */
interface FolderTime {
  ms: number | null;
  offByMs: number;
}

/** One walk over one target. */
class TargetListing {
  readonly #context: EngineContext;
  readonly #storage: Storage;
  readonly #result: TargetIndexResult;
  readonly #options: IndexOptions;
  readonly #startedMs: number;
  /** Most folders share their words with others. */
  readonly #shownTimes = new Map<string, FolderTime>();
  #foldersDone = 0;

  constructor(context: EngineContext, storage: Storage, result: TargetIndexResult, options: IndexOptions) {
    this.#context = context;
    this.#storage = storage;
    this.#result = result;
    this.#options = options;
    this.#startedMs = context.clock.now().getTime();
  }

  async run(): Promise<void> {
    const root = await this.#storage.list('', this.#options.signal);
    const entries = root.entries.filter(({ name }) => name !== CONFIGURATION_FOLDER);
    const folders = entries.filter((entry) => entry.kind === 'folder' && isUsableName(entry.name));
    this.#result.strayEntries += entries.length - folders.length;
    this.#result.folderCount = folders.length;
    if (!root.complete) this.#fail(new PhdError('TARGET_LIED', `the list of ${this.#storage.place} was cut`));
    this.#tell();

    const known = this.#context.index.folderStates(this.#storage.number);
    const gone = new Set<string>();
    let next = 0;
    const work = async (): Promise<void> => {
      for (let entry = folders[next++]; entry !== undefined; entry = folders[next++]) {
        throwIfAborted(this.#options.signal);
        const state = known.get(entry.name);
        if (this.#options.scope !== 'all' && state !== undefined && this.#cannotHaveChanged(entry, state)) {
          this.#result.unchangedFolders++;
          this.#result.archiveCount += state.archiveCount;
          this.#result.strayEntries += state.skipped;
        } else if (!(await this.listFolder(entry.name, this.#timeOf(entry).ms))) {
          gone.add(entry.name);
        }
        this.#foldersDone++;
        this.#tell();
      }
    };
    await Promise.all(Array.from({ length: FOLDERS_AT_ONCE }, work)).finally(() => {
      next = folders.length;
    });
    if (!root.complete) return;
    const present = new Set(folders.map((entry) => entry.name).filter((name) => !gone.has(name)));
    if ([...known.keys()].every((name) => present.has(name))) return;
    this.#result.removedFolders = this.#context.index.keepFolders(this.#storage.number, [...present]);
  }

  /**
   * True if the folder has the time it had, and that time was a day old when it was last listed: times of some
   * servers are coarse, so that a younger folder may have changed under the same time.
   */
  #cannotHaveChanged(
    entry: StorageEntry,
    state: { modifiedMs: number | null; listedMs: number; complete: boolean },
  ): boolean {
    const { ms, offByMs } = this.#timeOf(entry);
    return (
      state.complete &&
      ms !== null &&
      ms === state.modifiedMs &&
      state.listedMs - ms > DAY_MS + offByMs &&
      this.#context.clock.now().getTime() - ms > DAY_MS + offByMs
    );
  }

  #timeOf({ modifiedMs, shownTime }: StorageEntry): FolderTime {
    if (modifiedMs !== null || shownTime === undefined) return { ms: modifiedMs, offByMs: 0 };
    let time = this.#shownTimes.get(shownTime);
    if (time === undefined) {
      time = readShownTime(shownTime, this.#startedMs) ?? { ms: null, offByMs: 0 };
      this.#shownTimes.set(shownTime, time);
    }
    return time;
  }

  /** Lists one folder into the index; false if it is gone. A failure leaves the rows it had. */
  async listFolder(name: string, modifiedMs: number | null): Promise<boolean> {
    const listedMs = this.#context.clock.now().getTime();
    let listing: Awaited<ReturnType<Storage['list']>>;
    try {
      listing = await this.#storage.list(name, this.#options.signal);
    } catch (error) {
      const failure = fromErrno(error, `cannot list ${this.#storage.place}/${name}`);
      if (failure.code === 'NOT_FOUND') return false;
      if (failure.code === 'CANCELLED' || failure.code === 'TARGET_UNREACHABLE') throw failure;
      this.#fail(failure);
      return true;
    }
    if (!listing.complete) {
      this.#fail(new PhdError('TARGET_LIED', `the list of ${this.#storage.place}/${name} was cut`));
    }
    const folder = parseFolderName(name);
    let archives = listing.entries
      .map((one) => listedArchive(one, folder !== undefined))
      .filter((one) => one !== null);
    if (this.#storage.transport === 'vmfs') {
      const known = this.#context.index.headersIn(this.#storage.number, name);
      archives = await withHeaders(this.#storage, name, archives, known, this.#options.signal);
    }
    const held = listing.entries.flatMap((one) => heldStamp(one.name) ?? []);
    const skipped = listing.entries.length - archives.length - held.length;
    this.#context.index.recordFolder({
      targetNumber: this.#storage.number,
      name,
      modifiedMs,
      listedMs,
      complete: listing.complete,
      skipped,
      held,
      vm: folder?.vm ?? name,
      uuid: folder?.uuid ?? '',
      archives,
    });
    this.#result.archiveCount += archives.length;
    this.#result.strayEntries += skipped;
    return true;
  }

  #fail(error: PhdError): void {
    this.#result.outcome = 'partial';
    this.#result.error ??= error;
  }

  #tell(): void {
    this.#options.onEvent?.({
      targetNumber: this.#result.targetNumber,
      targetName: this.#result.targetName,
      foldersDone: this.#foldersDone,
      foldersTotal: this.#result.folderCount,
      archiveCount: this.#result.archiveCount,
    });
  }
}

/** Names that the contract of targets can carry: one path part without control characters. */
function isUsableName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !/[\p{Cc}/]/u.test(name);
}

/**
 * The archive that an entry of a folder is, or null. Archives of generation 2 lie in folders of any name (their
 * host's); those of generation 3 only in folders of a run.
 */
function listedArchive(entry: StorageEntry, inRunFolder: boolean): ListedArchive | null {
  if (entry.kind !== 'file' || !Number.isSafeInteger(entry.sizeBytes) || entry.sizeBytes < 0) return null;
  const isPart = isPartOfArchive(entry.name);
  const name = parseArchiveName(isPart ? entry.name.slice(0, -PART_SUFFIX.length) : entry.name);
  if (name === undefined || (name.generation === 3 && !inRunFolder)) return null;
  return { file: entry.name, name, sizeBytes: entry.sizeBytes, complete: !isPart && entry.sizeBytes > 0 };
}
