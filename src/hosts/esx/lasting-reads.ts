/** Reads of a frozen disk that outlive their line: what was asked is asked again, for the flat does not change meanwhile. */
import { setTimeout as pause } from 'node:timers/promises';
import { fromErrno, PhdError } from '../../errors.ts';
import type { RegionDigests } from '../../model/disk-reader.ts';
import type { EsxShell } from './esx-shell.ts';
import { type BlockRange, PythonHelper } from './python-helper.ts';

/** Before a dead line is tried again: a switch may restart. */
const PAUSES_MS: readonly number[] = [1_000, 5_000, 15_000];

/** Does `work` again after each pause while its line dies; `renew` is told first. Throws what the last one throws, CANCELLED. */
export async function again<Result>(
  work: () => Promise<Result>,
  renew: (pauseMs: number) => Promise<void>,
): Promise<Result> {
  for (const pauseMs of [...PAUSES_MS, null]) {
    try {
      return await work();
    } catch (error) {
      const failure = fromErrno(error, 'cannot read the disk');
      if (failure.code !== 'TARGET_UNREACHABLE' || pauseMs === null) throw failure;
      await renew(pauseMs);
    }
  }
  throw new Error('the last try returns or throws');
}

export async function pauseFor(pauseMs: number, signal?: AbortSignal): Promise<void> {
  await pause(pauseMs, undefined, { signal }).catch(() => {
    throw new PhdError('CANCELLED', 'cancelled');
  });
}

/** The helper on a host, started anew over a new line where the old one died. */
export class LastingHelper {
  readonly #shell: EsxShell;
  #current: Promise<PythonHelper>;
  readonly #stop = new AbortController();

  private constructor(shell: EsxShell, first: PythonHelper) {
    this.#shell = shell;
    this.#current = Promise.resolve(first);
  }

  static async start(shell: EsxShell): Promise<LastingHelper> {
    return new LastingHelper(shell, await PythonHelper.start(shell));
  }

  /** Fills `target`, which is as long as the blocks. Throws TARGET_UNREACHABLE, TARGET_REFUSED, CANCELLED. */
  async read(range: BlockRange, target: Buffer): Promise<void> {
    await this.#ask((helper) => helper.read(range, target));
  }

  /** Digests of the blocks, and the one of all. Throws as above. */
  async digests(range: BlockRange): Promise<RegionDigests> {
    return await this.#ask((helper) => helper.digests(range));
  }

  stop(): void {
    this.#stop.abort();
    this.#current.then(
      (helper) => helper.stop(),
      () => undefined,
    );
  }

  async #ask<Result>(work: (helper: PythonHelper) => Promise<Result>): Promise<Result> {
    let used = this.#current;
    return await again(
      async () => {
        used = this.#current;
        return await work(await used);
      },
      async (pauseMs) => {
        // Many ask at once: whoever learns first that it is dead starts the next for all.
        if (this.#current === used) this.#current = this.#anew(used, pauseMs);
      },
    );
  }

  async #anew(dead: Promise<PythonHelper>, pauseMs: number): Promise<PythonHelper> {
    const helper = await dead.catch(() => null);
    helper?.stop();
    await pauseFor(pauseMs, this.#stop.signal);
    this.#shell.log('the line died: the helper is started anew');
    this.#shell.dropLine();
    const next = PythonHelper.start(this.#shell);
    // Who asked sees it fail; nobody else has to.
    next.catch(() => undefined);
    return await next;
  }
}
