/** Has a file written to its disk while the work goes on, so that the sync at the end is short. */
import type { FileHandle } from 'node:fs/promises';
import { fromErrno } from '../errors.ts';

/** Dirty bytes that start a sync. */
const SYNC_EVERY_BYTES = 128 * 2 ** 20;

export class SyncAhead {
  readonly #handle: FileHandle;
  readonly #path: string;
  #dirtyBytes = 0;
  #running: Promise<void> | undefined;
  #failure: unknown;

  constructor(handle: FileHandle, path: string) {
    this.#handle = handle;
    this.#path = path;
  }

  /** Counts bytes written; never waits. */
  wrote(bytes: number): void {
    this.#dirtyBytes += bytes;
    if (this.#running || this.#dirtyBytes < SYNC_EVERY_BYTES) return;
    this.#dirtyBytes = 0;
    this.#running = this.#handle
      .datasync()
      .catch((error) => {
        this.#failure ??= error;
      })
      .finally(() => {
        this.#running = undefined;
      });
  }

  /**
   * Waits for a sync under way. Throws if any failed: the kernel reports a lost write once and then calls the pages
   * clean, so a later sync that succeeds proves nothing.
   */
  async settle(): Promise<void> {
    await this.#running;
    if (this.#failure) throw fromErrno(this.#failure, `cannot sync ${this.#path}`);
  }
}
