/** Reads a device of a machine by `dd`; sectors that cannot be read become zeros, and are remembered. */
import { createHash, type Hash } from 'node:crypto';
import { BLOCK_BYTES } from '../../archive/geometry.ts';
import { PhdError, throwIfAborted } from '../../errors.ts';
import type { AccountHooks, DiskReader, RegionDigests } from '../../model/disk-reader.ts';
import { shellQuoted } from '../../storage/shell-word.ts';
import { digestsOfBytes, digestsThere, sourceSha256 } from './device-digests.ts';
import type { DeviceFacts } from './device-facts.ts';
import type { Machine } from './machine.ts';

/** What a failing device may take to answer. */
const READ_TIMEOUT_MS = 10 * 60_000;
const CHUNK_BYTES = 65_536;
/** Commands under way at once: servers allow ten sessions a connection. */
const AT_ONCE = 4;
const TRIES = 3;
/** More than this is no device with faults any more, but one that died. */
const MAX_UNREADABLE_UNITS = 20_000;
/** What dd says of sectors that cannot be read, and not of a device that is gone. */
const MEDIUM_ERROR =
  /input\/output error|i\/o error|no data available|multibyte or wide character|illegal byte/i;

/** From first to last sector, both counted from 0 in units of the device's sector. */
export interface UnreadableRange {
  first: number;
  last: number;
}

export class DeviceReader implements DiskReader {
  readonly digests: DiskReader['digests'];
  readonly #machine: Machine;
  readonly #facts: DeviceFacts;
  readonly #unreadable = new Set<number>();
  readonly #waiting: (() => void)[] = [];
  #underWay = 0;
  #pass: ImagePass | null = null;

  constructor(machine: Machine, facts: DeviceFacts) {
    this.#machine = machine;
    this.#facts = facts;
    this.digests = facts.hasher === null ? null : (region, signal) => this.#digests(region, signal);
  }

  async read(firstBlock: number, target: Buffer, signal?: AbortSignal): Promise<void> {
    if (firstBlock === 0 && this.#pass?.nextBlock !== 0) this.#pass = new ImagePass();
    const pass = this.#pass;
    await this.readBytes(firstBlock * BLOCK_BYTES, target, signal);
    pass?.add(firstBlock, target);
  }

  /** Any whole sectors. Throws as `read` does. */
  async readBytes(offsetBytes: number, target: Buffer, signal?: AbortSignal): Promise<void> {
    await this.#limited(async () => {
      const isKnownBad = this.#hasUnreadable(offsetBytes, target.length);
      for (let tries = 0; tries < (isKnownBad ? 0 : 2); tries += 1)
        if (await this.#dd(offsetBytes, target, unitOf(offsetBytes), '', signal)) return;
      await this.#carefully(offsetBytes, target, signal);
    });
  }

  /** SHA-256 of what was last read from begin to end; null if it was not. */
  imageSha256(): string | null {
    return this.#pass?.digest(this.#facts.sizeBytes) ?? null;
  }

  /** SHA-256 of the device, made by the machine in a reading of its own; null where it cannot. */
  async sourceSha256(hooks: AccountHooks): Promise<string | null> {
    if (this.#unreadable.size > 0) return null;
    return await sourceSha256(this.#machine, this.#facts, hooks);
  }

  unreadable(): UnreadableRange[] {
    const ranges: UnreadableRange[] = [];
    for (const sector of [...this.#unreadable].sort((a, b) => a - b)) {
      const last = ranges.at(-1);
      if (last?.last === sector - 1) last.last = sector;
      else ranges.push({ first: sector, last: sector });
    }
    return ranges;
  }

  /** In sectors of the device. */
  get unreadableCount(): number {
    return this.#unreadable.size;
  }

  async #limited<T>(work: () => Promise<T>): Promise<T> {
    if (this.#underWay >= AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#underWay += 1;
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#underWay -= 1;
    }
  }

  #hasUnreadable(offsetBytes: number, bytes: number): boolean {
    if (this.#unreadable.size === 0) return false;
    const { sectorBytes } = this.#facts;
    for (let at = offsetBytes / sectorBytes; at < (offsetBytes + bytes) / sectorBytes; at += 1)
      if (this.#unreadable.has(at)) return true;
    return false;
  }

  /** False if a sector in it cannot be read. Throws SOURCE_CHANGED (shorter), IO (gone), TARGET_*, CANCELLED. */
  async #dd(
    offsetBytes: number,
    target: Buffer,
    unitBytes: number,
    flags: string,
    signal?: AbortSignal,
  ): Promise<boolean> {
    const { realPath } = this.#facts;
    const count = Math.ceil(target.length / unitBytes);
    const command = `dd if=${shellQuoted(realPath)} bs=${unitBytes} skip=${offsetBytes / unitBytes} count=${count}${flags}`;
    const { status, stdout, stderr } = await this.#machine.run(command, {
      // What is not asked for stays there: the last unit may reach further.
      maxBytes: count * unitBytes,
      timeoutMs: READ_TIMEOUT_MS,
      signal,
    });
    if (status === 0 && stdout.length >= target.length) {
      stdout.copy(target, 0, 0, target.length);
      return true;
    }
    if (MEDIUM_ERROR.test(stderr)) return false;
    const place = `${realPath} on ${this.#machine.name}`;
    if (status === 0)
      throw new PhdError('SOURCE_CHANGED', `${place} has become shorter than ${this.#facts.sizeBytes} bytes`);
    const words = stderr.trim().split('\n')[0]?.slice(0, 200) || `dd ended with status ${status}`;
    throw new PhdError('IO', `cannot read ${place}: ${words}`);
  }

  /** Halves what fails until single sectors are left; those that fail three times become zeros. */
  async #carefully(offsetBytes: number, target: Buffer, signal?: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    const { sectorBytes } = this.#facts;
    const isSingle = target.length <= sectorBytes;
    const sector = offsetBytes / sectorBytes;
    if (isSingle && this.#unreadable.has(sector)) {
      target.fill(0);
      return;
    }
    for (let tries = 0; tries < (isSingle ? TRIES : 1); tries += 1)
      if (
        !this.#hasUnreadable(offsetBytes, target.length) &&
        (await this.#sectors(offsetBytes, target, signal))
      )
        return;
    if (isSingle) {
      if (this.#unreadable.size >= MAX_UNREADABLE_UNITS) {
        const words = `more than ${MAX_UNREADABLE_UNITS} sectors cannot be read: it is about to die, rescue it with a tool made for that`;
        throw new PhdError('IO', `${this.#facts.realPath} on ${this.#machine.name}: ${words}`);
      }
      this.#unreadable.add(sector);
      target.fill(0);
      return;
    }
    const half = Math.ceil(target.length / sectorBytes / 2) * sectorBytes;
    await this.#carefully(offsetBytes, target.subarray(0, half), signal);
    await this.#carefully(offsetBytes + half, target.subarray(half), signal);
  }

  /** Past the cache where dd can, since the cache reads whole pages and loses the good sectors beside a bad one. */
  async #sectors(offsetBytes: number, target: Buffer, signal?: AbortSignal): Promise<boolean> {
    const unit = unitOf(offsetBytes, target.length);
    try {
      if (await this.#dd(offsetBytes, target, unit, ' iflag=direct', signal)) return true;
    } catch (error) {
      if (!(error instanceof PhdError) || error.code !== 'IO') throw error;
      return await this.#dd(offsetBytes, target, unit, '', signal);
    }
    return false;
  }

  async #digests(
    region: { firstBlock: number; count: number },
    signal?: AbortSignal,
  ): Promise<RegionDigests> {
    const { sizeBytes } = this.#facts;
    const offset = region.firstBlock * BLOCK_BYTES;
    const bytes = Math.min(region.count * BLOCK_BYTES, sizeBytes - offset);
    if (!this.#hasUnreadable(offset, bytes)) {
      const made = await this.#limited(() => digestsThere(this.#machine, this.#facts, region, signal));
      if (made) return made;
    }
    const content = Buffer.alloc(bytes);
    await this.readBytes(offset, content, signal);
    return digestsOfBytes(content);
  }
}

/** The largest unit of dd that the offset is a multiple of, and the length if it is given. */
function unitOf(offsetBytes: number, bytes = CHUNK_BYTES): number {
  let unit = CHUNK_BYTES;
  while (offsetBytes % unit !== 0 || bytes % unit !== 0) unit /= 2;
  return unit;
}

/** One reading of the whole device in order, hashed as it comes; reads end out of order. */
class ImagePass {
  nextBlock = 0;
  #bytes = 0;
  readonly #hash: Hash = createHash('sha256');
  readonly #early = new Map<number, Buffer>();

  add(firstBlock: number, bytes: Buffer): void {
    if (firstBlock < this.nextBlock) return;
    if (firstBlock > this.nextBlock) {
      this.#early.set(firstBlock, Buffer.from(bytes));
      return;
    }
    for (let part: Buffer | undefined = bytes; part !== undefined; part = this.#early.get(this.nextBlock)) {
      this.#early.delete(this.nextBlock);
      this.#hash.update(part);
      this.#bytes += part.length;
      this.nextBlock += Math.ceil(part.length / BLOCK_BYTES);
    }
  }

  digest(sizeBytes: number): string | null {
    return this.#bytes === sizeBytes ? this.#hash.copy().digest('hex') : null;
  }
}
