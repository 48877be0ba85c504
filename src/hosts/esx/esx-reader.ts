/** Reads a frozen flat on an ESX host, by the python there or by `dd`, and has its blocks hashed there. */
import { createHash } from 'node:crypto';
import {
  BLOCK_BYTES,
  blockSizeBytes,
  DIGEST_BYTES,
  type Geometry,
  geometryOf,
  ZERO_MARK,
} from '../../archive/geometry.ts';
import { PhdError } from '../../errors.ts';
import type { DiskReader, RegionDigests } from '../../model/disk-reader.ts';
import { shellWord } from '../../storage/shell-word.ts';
import type { EsxShell } from './esx-shell.ts';
import { again, type LastingHelper, pauseFor } from './lasting-reads.ts';
import type { BlockRange } from './python-helper.ts';

/** How a host reads and hashes: best first. */
export type ReadWay = 'python3' | 'sha256sum' | 'dd';

/** What people are told of it. */
export const WAY_WORDS: Record<ReadWay, string> = {
  python3: 'its python3 hashes blocks and answers zeros with one byte',
  sha256sum:
    'dd and sha256sum hash blocks there, a process for each: slow, but unchanged blocks do not cross the line',
  dd: 'it has neither python3 nor sha256sum: every block crosses the line',
};

/** The best way a host has. Throws TARGET_*, CANCELLED. */
export async function readWay(shell: EsxShell, signal?: AbortSignal): Promise<ReadWay> {
  const probe =
    'if [ "$(echo \'import hashlib; print(6 * 7)\' | python3 - 2>/dev/null)" = 42 ]; then echo python3; ' +
    'elif [ "$(printf "" | sha256sum 2>/dev/null | cut -c1-8)" = e3b0c442 ]; then echo sha256sum; else echo dd; fi';
  const answer = (await shell.output(probe, 'cannot run commands', { signal })).toString('utf8').trim();
  return answer === 'python3' || answer === 'sha256sum' ? answer : 'dd';
}

/** One flat; with a helper all goes through it. */
export class EsxReader implements DiskReader {
  readonly #shell: EsxShell;
  readonly #path: string;
  readonly #geometry: Geometry;
  readonly #helper: LastingHelper | null;
  readonly digests: DiskReader['digests'];
  readonly confirm: (signal?: AbortSignal) => Promise<void>;

  constructor(
    shell: EsxShell,
    path: string,
    sizeBytes: number,
    way: ReadWay,
    {
      helper,
      confirm = async () => undefined,
    }: { helper: LastingHelper | null; confirm?: (signal?: AbortSignal) => Promise<void> },
  ) {
    this.#shell = shell;
    this.#path = path;
    this.#geometry = geometryOf(sizeBytes);
    this.#helper = helper;
    this.confirm = (signal) => this.#lasting(() => confirm(signal), signal);
    if (helper !== null)
      this.digests = (region) => helper.digests(this.#range(region.firstBlock, region.count));
    else if (way === 'dd') this.digests = null;
    else this.digests = (region, signal) => this.#lasting(() => this.#hashed(region, signal), signal);
  }

  async read(firstBlock: number, target: Buffer, signal?: AbortSignal): Promise<void> {
    const count = Math.ceil(target.length / BLOCK_BYTES);
    if (this.#helper !== null) return await this.#helper.read(this.#range(firstBlock, count), target);
    await this.#lasting(() => this.#readByDd(firstBlock, count, target, signal), signal);
  }

  /** A command that died with its line is run again over a new one. */
  async #lasting<Result>(work: () => Promise<Result>, signal?: AbortSignal): Promise<Result> {
    return await again(work, async (pauseMs) => {
      await pauseFor(pauseMs, signal);
      this.#shell.dropLine();
    });
  }

  async #readByDd(
    firstBlock: number,
    count: number,
    target: Buffer,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    await this.#shell.stream(this.#dd(firstBlock, count), signal, async (running) => {
      running.stdin.end();
      let at = 0;
      for await (const part of running.stdout as AsyncIterable<Buffer>) {
        if (at + part.length > target.length) break;
        part.copy(target, at);
        at += part.length;
      }
      const { status, stderr } = await running.ended;
      if (status === 0 && at === target.length) return;
      const words = at === target.length || status !== 0 ? stderr : `it gave ${at} bytes of ${target.length}`;
      throw this.#shell.refusal(`cannot read ${this.#path}`, {
        status,
        stdout: Buffer.alloc(0),
        stderr: words,
      });
    });
  }

  #range(firstBlock: number, count: number): BlockRange {
    const { diskBytes, blockBytes } = this.#geometry;
    return { path: this.#path, sizeBytes: diskBytes, firstBlock, count, blockBytes };
  }

  #dd(firstBlock: number | string, count: number): string {
    return `dd if=${shellWord(this.#path)} bs=${BLOCK_BYTES} skip=${firstBlock} count=${count}`;
  }

  async #hashed(
    { firstBlock, count }: { firstBlock: number; count: number },
    signal?: AbortSignal,
  ): Promise<RegionDigests> {
    const script =
      `i=${firstBlock}; while [ $i -lt ${firstBlock + count} ]; do ` +
      `${this.#dd('$i', 1)} 2>/dev/null | sha256sum; i=$((i + 1)); done; ` +
      `${this.#dd(firstBlock, count)} 2>/dev/null | sha256sum`;
    const doing = `cannot hash blocks of ${this.#path}`;
    const text = (await this.#shell.output(script, doing, { signal })).toString('latin1');
    const found = [...text.matchAll(/^([0-9a-f]{64})\b/gm)].map(([, hex]) => Buffer.from(hex ?? '', 'hex'));
    if (found.length !== count + 1 || found.some((digest) => digest.equals(NOTHING)))
      throw new PhdError(
        'TARGET_REFUSED',
        `host ${this.#shell.config.name}: ${doing}: ${found.length} answers`,
      );
    const digests = Buffer.concat(
      found.slice(0, count).map((digest, at) => {
        const bytes = blockSizeBytes(this.#geometry, firstBlock + at);
        return digest.equals(digestOfZeros(bytes)) ? ZERO_MARK : digest;
      }),
    );
    const isZero = digests.equals(Buffer.alloc(count * DIGEST_BYTES));
    return { digests, regionDigest: isZero ? ZERO_MARK : found[count]! };
  }
}

/** What hashes to this was not read. */
const NOTHING = createHash('sha256').digest();
const zeroDigests = new Map<number, Buffer>();

function digestOfZeros(bytes: number): Buffer {
  const known = zeroDigests.get(bytes) ?? createHash('sha256').update(Buffer.alloc(bytes)).digest();
  zeroDigests.set(bytes, known);
  return known;
}
