/**
 * One backup of a VM on a target at a time, and the `.part` files it has there: what a run that was killed left is
 * removed by the next one.
 */
import fs from 'node:fs';
import path from 'node:path';
import { ExclusiveLock } from '../../db/exclusive-lock.ts';
import { isPartOfArchive } from '../archive/names.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { makeFolderSync } from '../make-folder.ts';
import type { Storage } from '../storage/storage.ts';

export class RunClaim {
  readonly #lock: ExclusiveLock;
  readonly #file: string;
  readonly #storage: Storage;
  readonly #unfinished: Set<string>;

  private constructor(lock: ExclusiveLock, file: string, storage: Storage) {
    this.#lock = lock;
    this.#file = file;
    this.#storage = storage;
    this.#unfinished = readUnfinished(file);
  }

  /** Throws LOCKED if another process of this home backs the VM up to that target, IO, NO_SPACE. */
  static take(stateDir: string, vm: { uuid: string; vmName: string }, storage: Storage): RunClaim {
    const folder = path.join(stateDir, 'runs');
    const name = path.join(folder, `${vm.uuid}-${storage.number}`);
    try {
      makeFolderSync(folder);
    } catch (error) {
      throw fromErrno(error, `cannot make ${folder}`);
    }
    const lock = ExclusiveLock.tryTake(`${name}.lock`);
    if (lock === undefined) {
      const words = `another backup of ${vm.vmName} (or of a VM of its UUID) to target ${storage.number} is running: wait for its end`;
      throw new PhdError('LOCKED', words);
    }
    try {
      return new RunClaim(lock, `${name}.parts`, storage);
    } catch (error) {
      lock.release();
      throw fromErrno(error, `cannot read ${name}.parts`);
    }
  }

  /** Removes what a killed run left on the target. What cannot be removed is said, and tried again next time. */
  async removeLeftovers(onWarning: (message: string) => void): Promise<void> {
    for (const partPath of this.#unfinished) {
      try {
        if (await this.#storage.stat(partPath)) await this.#storage.remove(partPath);
        this.settled(partPath);
      } catch (error) {
        const { message } = fromErrno(error, `cannot remove ${partPath}`);
        onWarning(`an interrupted run left ${partPath} on target ${this.#storage.number}: ${message}`);
        return;
      }
    }
  }

  /** To be called before the first byte of a `.part` is sent. Throws IO, NO_SPACE. */
  begun(partPath: string): void {
    this.#unfinished.add(partPath);
    try {
      this.#append('+', partPath);
    } catch (error) {
      throw fromErrno(error, `cannot write ${this.#file}`);
    }
  }

  /** The `.part` has got its name, or is removed. Never throws: at worst the next run looks for it in vain. */
  settled(partPath: string): void {
    this.#unfinished.delete(partPath);
    try {
      this.#append('-', partPath);
    } catch {}
  }

  /** Never throws: a list that stays names only what is settled, or what the next run is to remove. */
  release(): void {
    try {
      if (this.#unfinished.size === 0) fs.rmSync(this.#file, { force: true });
    } catch {}
    this.#lock.release();
  }

  #append(sign: '+' | '-', partPath: string): void {
    fs.appendFileSync(this.#file, `${sign}${Buffer.from(partPath).toString('base64url')}\n`, { mode: 0o600 });
  }
}

/** A line that a kill cut names nothing that was begun; nothing but a `.part` is ever removed. */
function readUnfinished(file: string): Set<string> {
  const unfinished = new Set<string>();
  if (!fs.existsSync(file)) return unfinished;
  for (const [, sign, text = ''] of fs.readFileSync(file, 'latin1').matchAll(/^([+-])([\w-]+)\n/gm)) {
    const partPath = Buffer.from(text, 'base64url').toString();
    if (sign === '-') unfinished.delete(partPath);
    else if (isPartOfArchive(path.posix.basename(partPath))) unfinished.add(partPath);
  }
  return unfinished;
}
