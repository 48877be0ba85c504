/** Snapshots of a VM in a pool: ours are told by their name, made, found again, and removed with their disks. */
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { shownName } from '../../datastore/plain-name.ts';
import { fromErrno, PhdError } from '../../errors.ts';
import { ownerOf } from '../owner.ts';
import { isQuiesceRefusal, xenCodeOf } from './xen-error.ts';
import { NO_REF, nothing, ref, type VmRecord, vbdRecord, vdiRecord, vmRecord } from './xen-records.ts';
import type { XenSession } from './xen-session.ts';

/** Begins names of ours; also the key of the mark on a snapshot that bears the name of its VM. */
export const SNAPSHOT_MARK = 'phd-backup';
const OF_PROGRAM = new RegExp(`^${SNAPSHOT_MARK}-([0-9a-f]{12})-[0-9a-f]{8}$`);
const CREATE_TIMEOUT_MS = 20 * 60_000;
const REMOVE_TIMEOUT_MS = 60 * 60_000;
const IDLE_PAUSE_MS = 1_000;
/** Pauses before a dead line is tried again: a switch that restarts must not leave a snapshot there. */
const RELEASE_PAUSES_MS = [0, 2_000, 10_000, 30_000];

export interface XenSnapshot {
  snapshotRef: string;
  record: VmRecord;
}

export class XenSnapshots {
  readonly #session: XenSession;
  readonly #owner: string;

  /** `home`: what tells this home of the program from others. */
  constructor(session: XenSession, home: string) {
    this.#session = session;
    this.#owner = ownerOf(home);
  }

  /** Made by this home. */
  isOwn(record: VmRecord): boolean {
    const { name_label: name, is_a_snapshot: isSnapshot } = record;
    return isSnapshot && (OF_PROGRAM.exec(name)?.[1] === this.#owner || markOf(record) === this.#owner);
  }

  /** Made by this program, here or elsewhere. */
  isOfProgram(record: VmRecord): boolean {
    const { name_label: name, is_a_snapshot: isSnapshot } = record;
    return isSnapshot && (OF_PROGRAM.test(name) || markOf(record) !== null);
  }

  /**
   * A VM of this name, so that it can be exported as one; it is marked first, and known by that from then on. A VM that was made of
   * such an export bears the mark of the snapshot it was, and so do its snapshots: it is theirs only if it names them.
   */
  async showAs(snapshotRef: string, vm: string): Promise<void> {
    const doing = `cannot name the snapshot of ${shownName(vm)}`;
    const call = (method: string, ...words: unknown[]): Promise<unknown> =>
      this.#session.call(method, [snapshotRef, ...words], nothing, doing);
    const { uuid } = await this.#session.call('VM.get_record', [snapshotRef], vmRecord, doing);
    await call('VM.remove_from_other_config', SNAPSHOT_MARK);
    await call('VM.add_to_other_config', SNAPSHOT_MARK, `${this.#owner} ${uuid}`);
    await call('VM.set_is_a_template', false);
    await call('VM.set_name_label', vm);
  }

  /** Nothing calls it off, for the host would go on. Throws what xenError makes of answers, TARGET_*; it may stand all the same. */
  async create(
    vmRef: string,
    vm: string,
    quiesce: boolean,
    onWarning: (text: string) => void,
  ): Promise<string> {
    const name = `${SNAPSHOT_MARK}-${this.#owner}-${randomBytes(4).toString('hex')}`;
    const doing = `cannot make a snapshot of ${shownName(vm)}`;
    const make = (method: string): Promise<string> =>
      this.#session.call(method, [vmRef, name], ref, doing, { timeoutMs: CREATE_TIMEOUT_MS });
    if (!quiesce) return await make('VM.snapshot');
    try {
      return await make('VM.snapshot_with_quiesce');
    } catch (error) {
      if (!isQuiesceRefusal(error)) throw error;
      onWarning(`${(error as Error).message}: the snapshot is made without that`);
      return await make('VM.snapshot');
    }
  }

  /** Waits until no snapshot of the VM is being made: one whose line died may still come. */
  async idle(vmRef: string, vm: string): Promise<void> {
    const endMs = performance.now() + CREATE_TIMEOUT_MS;
    const doing = `cannot see what is done to ${shownName(vm)}`;
    for (;;) {
      const { current_operations: under } = await this.#session.call(
        'VM.get_record',
        [vmRef],
        vmRecord,
        doing,
      );
      const words = typeof under === 'object' && under !== null ? Object.values(under) : [];
      if (!words.some((one) => String(one).startsWith('snapshot')) || performance.now() > endMs) return;
      await pause(IDLE_PAUSE_MS);
    }
  }

  /** Removes all of this home. The names of those that went. Throws the first failure, once all were tried. */
  async removeOwn(vmRef: string, vm: string, signal?: AbortSignal): Promise<string[]> {
    const doing = `cannot see the snapshots of ${shownName(vm)}`;
    const { snapshots } = await this.#session.call('VM.get_record', [vmRef], vmRecord, doing, { signal });
    const removed: string[] = [];
    let first: PhdError | null = null;
    for (const snapshotRef of snapshots) {
      try {
        const record = await this.#session.call('VM.get_record', [snapshotRef], vmRecord, doing, { signal });
        if (!this.isOwn(record)) continue;
        await this.#remove(snapshotRef, record, vm);
        removed.push(record.name_label);
      } catch (error) {
        if (xenCodeOf(error) === 'HANDLE_INVALID') continue;
        first ??= fromErrno(error, doing);
      }
    }
    if (first !== null) throw first;
    return removed;
  }

  /**
   * Removes all of this home, over a new line if the old one is dead. `isUncertain`: one was asked for, and may still come. Throws
   * what kept one there.
   */
  async release(vmRef: string, vm: string, { isUncertain }: { isUncertain: boolean }): Promise<void> {
    for (const pauseMs of [...RELEASE_PAUSES_MS, null]) {
      try {
        if (isUncertain) await this.idle(vmRef, vm);
        await this.removeOwn(vmRef, vm);
        return;
      } catch (error) {
        const failure = fromErrno(error, vm);
        if (failure.code === 'TARGET_UNREACHABLE' && pauseMs !== null) {
          await pause(pauseMs);
          continue;
        }
        const { name } = this.#session.config;
        throw new PhdError(
          failure.code,
          `${failure.message}: a snapshot of ${shownName(vm)} may still stand: the next backup of it removes it, phd host check ${name} shows it`,
          { cause: failure },
        );
      }
    }
  }

  /** Its disks first: while one stands the snapshot stands, and is found again. */
  async #remove(snapshotRef: string, record: VmRecord, vm: string): Promise<void> {
    const doing = `cannot remove the snapshot ${record.name_label} of ${shownName(vm)}`;
    const session = this.#session;
    let first: PhdError | null = null;
    for (const vbdRef of record.VBDs) {
      try {
        const vbd = await session.call('VBD.get_record', [vbdRef], vbdRecord, doing);
        if (vbd.type !== 'Disk' || vbd.VDI === NO_REF) continue;
        const vdi = await session.call('VDI.get_record', [vbd.VDI], vdiRecord, doing);
        if (!vdi.is_a_snapshot)
          throw new PhdError('TARGET_LIED', `host ${session.config.name}: ${doing}: its disk is no snapshot`);
        await session.call('VDI.destroy', [vbd.VDI], nothing, doing, { timeoutMs: REMOVE_TIMEOUT_MS });
      } catch (error) {
        // One that is gone already is what is wanted.
        if (xenCodeOf(error) !== 'HANDLE_INVALID') first ??= fromErrno(error, doing);
      }
    }
    if (first !== null) throw first;
    await session.call('VM.destroy', [snapshotRef], nothing, doing, { timeoutMs: REMOVE_TIMEOUT_MS });
  }
}

/** Who has marked this very snapshot; null: nobody. */
function markOf({ uuid, other_config: { [SNAPSHOT_MARK]: mark = '' } }: VmRecord): string | null {
  const [owner = '', of] = mark.split(' ');
  return of === uuid ? owner : null;
}
