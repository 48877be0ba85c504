/**
 * All archives of the index in the order of lists, as columns of numbers in memory: about 21 bytes an archive, so
 * that any filter over a million of them is one walk of some milliseconds and any row can be jumped to. Read page by
 * page, since no walk over so many rows fits into one turn of the event loop.
 */
import type { Stamp } from '../src/model/archive.ts';
import type { ArchiveCursor } from './archive-filter.ts';

/** Rows of one page: some three milliseconds, and little garbage. */
const PAGE_ROWS = 2000;
const MINUTE_MS = 60_000;
const EPOCH_MS = Date.UTC(1900, 0, 1);
/** Distance to a copy that one byte can tell; a copy farther off (hundreds of archives of one disk and minute) is a row. */
const MAX_DISTANCE = 255;

/** Columns of consecutive archives in the order of lists. */
export interface OrderPage {
  ids: number[];
  /** Twice the number of the target, plus 1 for a FULL. */
  slots: number[];
  stamps: Stamp[];
  vmIds: number[];
  diskIds: number[];
}

export interface OrderSource {
  orderPage(after: ArchiveCursor | undefined, limit: number): OrderPage;
  /** File name and size of each archive as one text, by id. */
  filesOf(ids: readonly number[]): Map<number, string>;
}

/** What an archive must satisfy; a table gives 1 for each id that passes, undefined lets all pass. */
export interface OrderTest {
  targets?: readonly number[];
  kind?: 'full' | 'delta';
  from?: Stamp;
  to?: Stamp;
  vms?: Uint8Array;
  disks?: Uint8Array;
}

/** Of each VM, or disk name, over the archives that pass; all by id. */
export interface NameFigures {
  /** 0: no archive passes. */
  runCounts: Uint32Array;
  newest(id: number): Stamp;
  targets(id: number): number[];
}

/** Minutes since 1900, so that every stamp from then to the year 9999 keeps its order in 32 bits; older ones are 0. */
function minutesOf(stamp: Stamp): number {
  const [year, month, day, hour, minute] = stamp.split(/\D/).map(Number);
  const ms = Date.UTC(year ?? 0, (month ?? 1) - 1, day ?? 1, hour ?? 0, minute ?? 0);
  return Math.max(0, (ms - EPOCH_MS) / MINUTE_MS);
}

function stampOf(minutes: number): Stamp {
  return new Date(EPOCH_MS + minutes * MINUTE_MS).toISOString().slice(0, 16);
}

/** Which slots pass. */
function slotTable({ targets, kind }: OrderTest): Uint8Array {
  const table = new Uint8Array(65_536);
  if (targets === undefined) table.fill(1);
  for (const target of targets ?? []) table.fill(1, 2 * target, 2 * target + 2);
  if (kind !== undefined) {
    for (let slot = kind === 'full' ? 0 : 1; slot < table.length; slot += 2) table[slot] = 0;
  }
  return table;
}

/** Clears the mask where the table has no 1 for the value of the column. */
function keep(mask: Uint8Array, column: Uint16Array | Uint32Array, table: Uint8Array): void {
  for (let at = 0; at < mask.length; at++) if (table[column[at] as number] !== 1) mask[at] = 0;
}

export class ArchiveOrder {
  /** Archives read so far. */
  length = 0;
  isComplete = false;
  /** True if some archive lies on several targets. */
  hasCopies = false;
  ids: Uint32Array = new Uint32Array(PAGE_ROWS);
  readonly #source: OrderSource;
  #slots: Uint16Array = new Uint16Array(PAGE_ROWS);
  #minutes: Uint32Array = new Uint32Array(PAGE_ROWS);
  #vmIds: Uint32Array = new Uint32Array(PAGE_ROWS);
  #diskIds: Uint32Array = new Uint32Array(PAGE_ROWS);
  /** Distance back to the next copy of the same archive, 0: none before it. */
  #copyBack: Uint8Array = new Uint8Array(PAGE_ROWS);
  #maskBuffer: Uint8Array = new Uint8Array(0);
  #cursor: ArchiveCursor | undefined;
  /** Copies are known before this place: all archives of one disk and minute are there. */
  #closed = 0;
  #lastStamp: Stamp = '';
  #lastMinutes = 0;

  constructor(source: OrderSource) {
    this.#source = source;
  }

  /** Reads on until `deadlineMs` (performance.now); at least one page. True once all is read. */
  advance(deadlineMs: number): boolean {
    while (!this.isComplete) {
      this.#append(this.#source.orderPage(this.#cursor, PAGE_ROWS));
      if (performance.now() >= deadlineMs) break;
    }
    return this.isComplete;
  }

  /** Ids of the archives that pass, copies once: the first of those that pass stands for all. */
  passing(test: OrderTest): Uint32Array {
    if (!this.hasCopies && Object.values(test).every((one) => one === undefined)) {
      return this.ids.subarray(0, this.length);
    }
    const mask = this.#mask(test);
    if (this.hasCopies) this.#dropCopies(mask);
    const { ids } = this;
    let count = 0;
    for (let at = 0; at < mask.length; at++) count += mask[at] as number;
    const found = new Uint32Array(count);
    for (let at = mask.length - 1; count > 0; at--) if (mask[at] === 1) found[--count] = ids[at] as number;
    return found;
  }

  /** Figures of each VM or disk name over the archives that pass. `idLimit` is above every id of a name. */
  figures(test: OrderTest, of: 'vm' | 'disk', idLimit: number): NameFigures {
    const mask = this.#mask(test);
    const names = of === 'vm' ? this.#vmIds : this.#diskIds;
    const [slots, minutes, vmIds, { length }] = [this.#slots, this.#minutes, this.#vmIds, this];
    const runCounts = new Uint32Array(idLimit);
    const newest = new Uint32Array(idLimit);
    const lastMinutes = new Uint32Array(idLimit);
    const lastVm = new Uint32Array(idLimit);
    // By number of the target: 1 for each name it holds.
    const onTarget: (Uint8Array | undefined)[] = [];
    for (let at = 0; at < length; at++) {
      const id = names[at] as number;
      if (mask[at] === 0 || id >= idLimit) continue;
      const minute = minutes[at] as number;
      const vm = vmIds[at] as number;
      const count = runCounts[id] as number;
      if (count === 0) newest[id] = minute;
      if (count === 0 || lastMinutes[id] !== minute || lastVm[id] !== vm) {
        runCounts[id] = count + 1;
        lastMinutes[id] = minute;
        lastVm[id] = vm;
      }
      const target = (slots[at] as number) >> 1;
      let held = onTarget[target];
      if (held === undefined) {
        held = new Uint8Array(idLimit);
        onTarget[target] = held;
      }
      held[id] = 1;
    }
    const targets = Object.keys(onTarget).map(Number);
    return {
      runCounts,
      newest: (id) => stampOf(newest[id] ?? 0),
      targets: (id) => targets.filter((one) => onTarget[one]?.[id] === 1),
    };
  }

  /** Ids of all copies of an archive, itself among them; empty if it is unknown. */
  copiesOf(id: number): number[] {
    const place = this.ids.subarray(0, this.length).indexOf(id);
    if (place < 0) return [];
    let first = place;
    while (this.#copyBack[first] !== 0) first -= this.#copyBack[first] as number;
    const members = new Set([first]);
    for (let at = first + 1; at < Math.min(this.length, first + 4 * MAX_DISTANCE); at++) {
      const back = this.#copyBack[at] as number;
      if (back !== 0 && members.has(at - back)) members.add(at);
      if (!this.#isSameDiskAndMinute(first, at)) break;
    }
    return [...members].map((at) => this.ids[at] as number);
  }

  /** Clears all but the first of the copies that pass; from the end, so that those before are still told. */
  #dropCopies(mask: Uint8Array): void {
    for (let at = mask.length - 1; at >= 0; at--) {
      let back = mask[at] === 1 ? (this.#copyBack[at] as number) : 0;
      for (let other = at - back; back !== 0; other -= back) {
        if (mask[other] === 1) mask[at] = 0;
        back = mask[at] === 1 ? (this.#copyBack[other] as number) : 0;
      }
    }
  }

  /**
   * 1 for each archive that passes; a loop for each condition, which is several times faster than one for all. Good
   * until the next call.
   */
  #mask(test: OrderTest): Uint8Array {
    if (this.#maskBuffer.length !== this.length) this.#maskBuffer = new Uint8Array(this.length);
    const mask = this.#maskBuffer.fill(1);
    if (test.targets !== undefined || test.kind !== undefined) keep(mask, this.#slots, slotTable(test));
    if (test.vms !== undefined) keep(mask, this.#vmIds, test.vms);
    if (test.disks !== undefined) keep(mask, this.#diskIds, test.disks);
    if (test.from !== undefined) mask.fill(0, this.#placeBehind(minutesOf(test.from)));
    if (test.to !== undefined) mask.fill(0, 0, this.#placeBehind(minutesOf(test.to) + 1));
    return mask;
  }

  /** The first place of an archive older than `minutes`. */
  #placeBehind(minutes: number): number {
    let [from, to] = [0, this.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#minutes[middle] as number) >= minutes) from = middle + 1;
      else to = middle;
    }
    return from;
  }

  #append(page: OrderPage): void {
    const count = page.ids.length;
    this.#resize(this.length + count);
    this.ids.set(page.ids, this.length);
    this.#slots.set(page.slots, this.length);
    this.#vmIds.set(page.vmIds, this.length);
    this.#diskIds.set(page.diskIds, this.length);
    for (let at = 0; at < count; at++) this.#minutes[this.length + at] = this.#minutesOf(page.stamps[at]!);
    this.length += count;
    this.isComplete = count < PAGE_ROWS;
    this.#markCopies();
    const last = count - 1;
    if (!this.isComplete) {
      this.#cursor = {
        stamp: page.stamps[last] as Stamp,
        vmId: page.vmIds[last] as number,
        diskId: page.diskIds[last] as number,
        id: page.ids[last] as number,
      };
    } else this.#resize(this.length);
  }

  /** The stamp before was the same one in most rows. */
  #minutesOf(stamp: Stamp): number {
    if (stamp !== this.#lastStamp) {
      this.#lastStamp = stamp;
      this.#lastMinutes = minutesOf(stamp);
    }
    return this.#lastMinutes;
  }

  /** Room for more rows, doubled; at the end exactly what is needed. */
  #resize(needed: number): void {
    if (needed <= this.ids.length && !this.isComplete) return;
    const size = this.isComplete ? needed : Math.max(needed, 2 * this.ids.length);
    const resized = <T extends Uint8Array | Uint16Array | Uint32Array>(old: T): T => {
      const made = new (old.constructor as new (length: number) => T)(size);
      made.set(old.subarray(0, Math.min(this.length, size)));
      return made;
    };
    this.ids = resized(this.ids);
    this.#slots = resized(this.#slots);
    this.#minutes = resized(this.#minutes);
    this.#vmIds = resized(this.#vmIds);
    this.#diskIds = resized(this.#diskIds);
    this.#copyBack = resized(this.#copyBack);
  }

  /**
   * Finds copies (equal file name and size) among archives of one disk and minute, which stand together. Names are
   * read only where two of one kind lie on different targets. The last group waits for the next page.
   */
  #markCopies(): void {
    const groups: [number, number][] = [];
    let start = this.#closed;
    for (let at = start + 1; at <= this.length; at++) {
      if (at < this.length && this.#isSameDiskAndMinute(start, at)) continue;
      if (at === this.length && !this.isComplete) break;
      if (at - start > 1 && this.#mayHoldCopies(start, at)) groups.push([start, at]);
      start = at;
    }
    this.#closed = start;
    if (groups.length === 0) return;
    const files = this.#source.filesOf(groups.flatMap(([from, to]) => [...this.ids.subarray(from, to)]));
    for (const [from, to] of groups) {
      const last = new Map<string, number>();
      for (let at = from; at < to; at++) {
        const file = files.get(this.ids[at] as number);
        if (file === undefined) continue;
        const before = last.get(file);
        if (before !== undefined && at - before <= MAX_DISTANCE) {
          this.#copyBack[at] = at - before;
          this.hasCopies = true;
        }
        last.set(file, at);
      }
    }
  }

  #isSameDiskAndMinute(one: number, other: number): boolean {
    return (
      this.#minutes[one] === this.#minutes[other] &&
      this.#vmIds[one] === this.#vmIds[other] &&
      this.#diskIds[one] === this.#diskIds[other]
    );
  }

  /** True if two archives of one kind lie on different targets. */
  #mayHoldCopies(from: number, to: number): boolean {
    const slots = new Set(this.#slots.subarray(from, to));
    return [...slots].some((slot) => [...slots].some((other) => other !== slot && (other - slot) % 2 === 0));
  }
}
