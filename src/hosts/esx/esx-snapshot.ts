/** Snapshots of a VM on an ESX host: ours are told by their name, made, found again, and removed until they are gone. */
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { fromErrno, PhdError } from '../../errors.ts';
import { shellQuoted } from '../../storage/shell-word.ts';
import { ownerOf } from '../owner.ts';
import type { EsxShell } from './esx-shell.ts';

const PREFIX = 'phd-backup';
const OF_PROGRAM = new RegExp(`^${PREFIX}-([0-9a-f]{12})-[0-9a-f]{8}$`);
/** The guest may take long to flush; the host gives up itself before that. */
const CREATE_TIMEOUT_MS = 20 * 60_000;
/** What a guest wrote in a day may take hours to merge. */
const REMOVE_TIMEOUT_MS = 12 * 3_600_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;

export interface Snapshot {
  /** Null: the host is of a release (before 5) that tells none. */
  id: string | null;
  name: string;
}

/**
 * Of `vim-cmd vmsvc/snapshot.get`: all snapshots of the tree, in its order, each after a branch of it. Names and descriptions may
 * hold lines that look like others': below a branch the first name counts, up to the id all is of that name, then all is of the
 * description. A host that tells ids tells one for each.
 */
export function parseSnapshots(text: string): Snapshot[] {
  const found: Snapshot[] = [];
  const names: Snapshot[] = [];
  const lines = text.split(/\r?\n/);
  const hasBranches = lines.some((line) => BRANCH.test(line));
  let mayBegin = !hasBranches;
  let name: string | undefined;
  for (const line of lines) {
    // A name may hold what JavaScript takes for the end of a line.
    const named = /^-*\s*Snapshot Name\s*: ?(.*)$/s.exec(line)?.[1];
    if (named !== undefined) names.push({ id: null, name: named });
    const id = /^-*\s*Snapshot Id\s*: ?(\d+)\s*$/.exec(line)?.[1];
    if (name === undefined) {
      mayBegin ||= BRANCH.test(line);
      if (mayBegin) name = named;
    } else if (id === undefined) name += `\n${line}`;
    else {
      found.push({ id, name });
      name = undefined;
      mayBegin = !hasBranches;
    }
  }
  return found.length > 0 ? found : names;
}

const BRANCH = /^-*\|-(ROOT|CHILD)\s*$/;

/** Bears a name that nobody can have known before; what stands before it is of a description. */
function bears({ name }: Snapshot, known: string): boolean {
  return name === known || name.endsWith(`: ${known}`);
}

export interface RemovedSnapshots {
  /** Names. */
  removed: string[];
  left: string[];
  /** Why the first of those that are left could not go. */
  failure: PhdError | null;
}

/** Snapshots of one home of this program: another one, on this machine or elsewhere, has other names. */
export class OwnSnapshots {
  readonly #shell: EsxShell;
  readonly owner: string;

  /** `home`: what tells this home of the program from others on this machine. */
  constructor(shell: EsxShell, home: string) {
    this.#shell = shell;
    this.owner = ownerOf(home);
  }

  /** Throws NOT_FOUND if the host knows no such VM, TARGET_*, CANCELLED. */
  async all(vmId: string, signal?: AbortSignal): Promise<Snapshot[]> {
    const result = await this.#shell.run(`vim-cmd vmsvc/snapshot.get ${vmId}`, { signal });
    if (result.status === 0) return parseSnapshots(result.stdout.toString('utf8'));
    const refusal = this.#shell.refusal(`cannot ask for the snapshots of VM ${vmId}`, result);
    if (!/unable to find a vm/i.test(result.stderr)) throw refusal;
    throw new PhdError('NOT_FOUND', refusal.message, { cause: refusal });
  }

  isOwn({ name }: Snapshot): boolean {
    return OF_PROGRAM.exec(name)?.[1] === this.owner;
  }

  /** Made by this program, here or elsewhere. */
  isOfProgram({ name }: Snapshot): boolean {
    return OF_PROGRAM.test(name);
  }

  /** Whether the one of this name, made by this process, stands. Throws as `all`. */
  async stands(vmId: string, name: string, signal?: AbortSignal): Promise<boolean> {
    return (await this.all(vmId, signal)).some((one) => bears(one, name));
  }

  newName(): string {
    return `${PREFIX}-${this.owner}-${randomBytes(4).toString('hex')}`;
  }

  /**
   * Makes one and waits until it stands; nothing calls that off, for the host would go on. Throws SOURCE_UNSUPPORTED (it could not be
   * removed again alone), LOCKED, NO_SPACE, TARGET_*; it may stand all the same.
   */
  async create(vmId: string, name: string, isQuiesced: boolean): Promise<void> {
    const words = `${shellQuoted(name)} ${shellQuoted('made for a backup; removed when that ends')} 0 ${isQuiesced ? 1 : 0}`;
    const doing = `cannot make a snapshot of VM ${vmId}`;
    if ((await this.all(vmId)).some(({ id }) => id === null))
      throw new PhdError(
        'SOURCE_UNSUPPORTED',
        `host ${this.#shell.config.name}: ${doing}: it has snapshots, and this release tells no ids of them: ours could not be removed without them`,
      );
    const result = await this.#shell.run(`vim-cmd vmsvc/snapshot.create ${vmId} ${words}`, {
      timeoutMs: CREATE_TIMEOUT_MS,
    });
    if (result.status !== 0) throw this.#shell.refusal(doing, result);
    if (await this.#settled(vmId, (all) => all.some((one) => bears(one, name)), CREATE_TIMEOUT_MS)) return;
    throw this.#shell.refusal(`${doing}: the host says nothing of it afterwards`, result);
  }

  /**
   * Removes those that are ours and sees that they are gone. One that cannot go must not keep another there: all are tried, the first
   * failure is told. `made`: name of the one that this process made, if any. Throws as above where the host cannot be asked.
   */
  async removeOwn(vmId: string, made: string | null, signal?: AbortSignal): Promise<RemovedSnapshots> {
    const all = await this.all(vmId, signal);
    const result: RemovedSnapshots = { removed: [], left: [], failure: null };
    const isOurs = (one: Snapshot): boolean => this.isOwn(one) || (made !== null && bears(one, made));
    for (const one of all.filter(isOurs)) {
      try {
        await this.#remove(vmId, one, all, signal);
        result.removed.push(one.name);
      } catch (error) {
        const failure = fromErrno(error, one.name);
        if (['CANCELLED', 'TARGET_UNREACHABLE', 'NOT_FOUND'].includes(failure.code)) throw failure;
        result.left.push(one.name);
        result.failure ??= failure;
      }
    }
    return result;
  }

  async #remove(
    vmId: string,
    { id, name }: Snapshot,
    all: readonly Snapshot[],
    signal?: AbortSignal,
  ): Promise<void> {
    // Without a word the old command removes the first one of the tree: it must be the only one.
    if (id === null && all.length > 1)
      throw new PhdError(
        'TARGET_REFUSED',
        `host ${this.#shell.config.name}: VM ${vmId} has ${all.length} snapshots, and this release tells no ids of them: remove ${name} by hand`,
      );
    // A description may hold lines that look like a snapshot; no id is taken on the word of two.
    if (id !== null && all.filter((one) => one.id === id).length > 1)
      throw new PhdError(
        'TARGET_LIED',
        `host ${this.#shell.config.name}: VM ${vmId} has two snapshots of id ${id}: remove ${name} by hand`,
      );
    const doing = `cannot remove snapshot ${name} of VM ${vmId}`;
    const result = await this.#shell.run(
      `vim-cmd vmsvc/snapshot.remove ${vmId}${id === null ? '' : ` ${id}`}`,
      {
        timeoutMs: REMOVE_TIMEOUT_MS,
        signal,
      },
    );
    if (result.status !== 0) throw this.#shell.refusal(doing, result);
    const isGone = (now: Snapshot[]): boolean => !now.some((one) => one.name === name);
    if (await this.#settled(vmId, isGone, REMOVE_TIMEOUT_MS, signal)) return;
    throw this.#shell.refusal(`${doing}: it is still there`, result);
  }

  /** Waits until the VM has no task: one whose asker is gone goes on all the same. Throws TARGET_*. */
  async idle(vmId: string): Promise<void> {
    const endMs = performance.now() + REMOVE_TIMEOUT_MS;
    for (
      let pauseMs = FIRST_PAUSE_MS;
      await this.#isBusy(vmId);
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
    ) {
      if (performance.now() > endMs) return;
      await pause(pauseMs);
    }
  }

  async #isBusy(vmId: string, signal?: AbortSignal): Promise<boolean> {
    const tasks = await this.#shell.run(`vim-cmd vmsvc/get.tasklist ${vmId}`, { signal });
    return tasks.status === 0 && /vim\.Task:/.test(tasks.stdout.toString('utf8'));
  }

  /** Old hosts answer before the work is done: asks again as long as the VM has a task. */
  async #settled(
    vmId: string,
    isAsWanted: (all: Snapshot[]) => boolean,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<boolean> {
    const endMs = performance.now() + timeoutMs;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      if (isAsWanted(await this.all(vmId, signal))) return true;
      // The task may have ended between the two questions.
      if (!(await this.#isBusy(vmId, signal))) return isAsWanted(await this.all(vmId, signal));
      if (performance.now() > endMs) return false;
      await pause(pauseMs, undefined, { signal }).catch(() => {
        throw new PhdError('CANCELLED', 'cancelled');
      });
    }
  }
}
