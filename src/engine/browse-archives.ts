/**
 * The lists of the console: archives, VMs and disk names under a filter, however many. Needs the two databases alone,
 * no configuration and no target, so that it opens at once.
 */
import path from 'node:path';
import type { ArchiveCursor, ArchiveFilter } from '../../db/archive-filter.ts';
import type { NameFigures, OrderTest } from '../../db/archive-order.ts';
import {
  type ArchiveRow,
  cursorOf,
  type NameCursor,
  type SeriesRow,
  type TargetState,
} from '../../db/archive-rows.ts';
import { IndexDb } from '../../db/index-db.ts';
import { JobsDb } from '../../db/jobs-db.ts';
import { BLOCK_BYTES } from '../archive/geometry.ts';
import type { Stamp } from '../model/archive.ts';
import { BrowsedList, type ListSource, type WholeList } from './browsed-list.ts';
import { IndexOrders, type OrderKind } from './index-orders.ts';
import { staleSince } from './index-state.ts';
import { type Catalogue, indexFilter, type ListedRow, type ListFilter, listedRows } from './list-archives.ts';

/** What is read when a list is opened: enough for an index of some ten thousand archives. */
const OPEN_BUDGET_MS = 15;

/** The order of a million archives takes its share of the console's memory. */
const CACHE_BYTES = 4 * 1024 ** 2;

/** The filter of the console, and the VM or disk that was chosen in the list before. */
export interface BrowseFilter extends ListFilter {
  /** The whole name of a VM, of a disk. */
  vmName?: string;
  uuid?: string;
  diskName?: string;
  scsiId?: string;
}

/** An archive; equal name and size on several targets is one row. */
export interface ArchiveListRow extends ListedRow {
  /** Every copy, this one among them, nearest first: vmfs, measured rate, number. */
  copies: ArchiveRow[];
  /** Since when it was not seen (UTC), because its target was not listed completely since; null: it was seen. */
  staleSinceMs: number | null;
  /** Changed blocks of its disk; null for a FULL and where its header was not read. */
  changedPercent: number | null;
}

interface NameListRow {
  id: number;
  /** Runs under the filter; null: not counted yet. */
  runCount: number | null;
  /** Own stamp of the newest archive under the filter. */
  newestStamp: Stamp | null;
  /** Targets with archives under the filter; null: not looked up yet. */
  targetNumbers: number[] | null;
}

export interface VmListRow extends NameListRow {
  vm: string;
  /** Lower case; empty for archives of generation 2. */
  uuid: string;
  /** Another VM bears this name: show `host` and the last four digits of `uuid`. */
  isNameRepeated: boolean;
  /** Host of origin; null where no header was read. */
  host: string | null;
}

export interface DiskListRow extends NameListRow {
  disk: string;
  /** VMs that have a disk of this name; at most 1,000 are counted. */
  vmCount: number;
  /** Its VM if there is only one. */
  vm: Omit<VmListRow, keyof NameListRow> | null;
}

export interface DayRow {
  /** `YYYY-MM-DD` */
  day: string;
  /** Copies count once. */
  archiveCount: number;
}

/**
 * Opens the index under a state folder for lists; makes it if there is none. Throws IO, FORMAT_UNSUPPORTED; its
 * methods and those of its lists throw IO.
 */
export function openBrowser(stateDir: string, onNotice?: (message: string) => void): ArchiveBrowser {
  const jobs = new JobsDb(path.join(stateDir, 'jobs.db'));
  try {
    const index = IndexDb.open(path.join(stateDir, 'index.db'), onNotice);
    return new ArchiveBrowser({ index, jobs });
  } catch (error) {
    jobs.close();
    throw error;
  }
}

/** Several lists may be open at once; they share what was read. */
export class ArchiveBrowser {
  readonly #catalogue: Catalogue;
  readonly #orders: IndexOrders;

  constructor(catalogue: Catalogue) {
    this.#catalogue = catalogue;
    catalogue.index.limitCache(CACHE_BYTES);
    this.#orders = new IndexOrders(catalogue.index);
  }

  /** Newest first, archives of one VM together. */
  archives(filter: BrowseFilter): BrowsedList<ArchiveListRow> {
    return this.#open(new ArchiveSource(this.#catalogue, this.#orders, this.#inIndex(filter)));
  }

  /** VMs with an archive that passes, by name. */
  vms(filter: BrowseFilter): BrowsedList<VmListRow> {
    return this.#open(new VmSource(this.#catalogue, this.#orders, this.#inIndex(filter), 'vm'));
  }

  /** Disk names with an archive that passes, by name. */
  disks(filter: BrowseFilter): BrowsedList<DiskListRow> {
    return this.#open(new DiskSource(this.#catalogue, this.#orders, this.#inIndex(filter), 'disk'));
  }

  /** Days with archives that pass, newest first. For a filter that names a VM or a disk: all of them are walked. */
  days(filter: BrowseFilter): DayRow[] {
    return this.#catalogue.index.days(this.#inIndex(filter));
  }

  /** Disks of the VMs that pass, by VM and SCSI id. For a filter that names a VM or a disk. */
  series(filter: BrowseFilter): SeriesRow[] {
    return this.#catalogue.index.series(this.#inIndex(filter));
  }

  targets(): TargetState[] {
    return this.#catalogue.index.targets();
  }

  /** Closes the databases, also those it was given. */
  close(): void {
    this.#catalogue.index.close();
    this.#catalogue.jobs.close();
  }

  #inIndex(filter: BrowseFilter): ArchiveFilter {
    const { vmName, uuid, diskName, scsiId } = filter;
    return {
      ...indexFilter({ config: { targets: this.targets() } }, filter),
      ...(vmName === undefined ? {} : { vm: vmName }),
      ...(uuid === undefined ? {} : { uuid }),
      ...(diskName === undefined ? {} : { disk: diskName }),
      ...(scsiId === undefined ? {} : { scsiId }),
    };
  }

  #open<Row, Key>(source: ListSource<Row, Key>): BrowsedList<Row> {
    const list = new BrowsedList(source);
    if (!list.length.isExact) list.advance(OPEN_BUDGET_MS);
    return list as BrowsedList<Row>;
  }
}

/** What the lists have in common: the orders they need, and the test of the filter over them. */
abstract class OrderedSource {
  protected readonly catalogue: Catalogue;
  protected readonly orders: IndexOrders;
  protected readonly filter: ArchiveFilter;
  readonly isNarrow: boolean;
  readonly #wanted: OrderKind[];

  constructor(catalogue: Catalogue, orders: IndexOrders, filter: ArchiveFilter, table?: 'vm' | 'disk') {
    this.catalogue = catalogue;
    this.orders = orders;
    this.filter = filter;
    this.isNarrow = filter.vm !== undefined || filter.uuid !== undefined || filter.disk !== undefined;
    const { vmPart, diskPart } = filter;
    this.#wanted = [
      ...(table === undefined ? [] : [table]),
      'archives',
      ...(vmPart === undefined || table === 'vm' ? [] : (['vm'] as const)),
      ...(diskPart === undefined || table === 'disk' ? [] : (['disk'] as const)),
    ];
  }

  version(): string {
    return this.catalogue.index.version();
  }

  revision(): number {
    return this.orders.revision;
  }

  advance(deadlineMs: number): boolean {
    return this.orders.advance(this.#wanted, deadlineMs);
  }

  refresh(): boolean {
    return this.orders.refresh();
  }

  /** Names are looked up in memory where they are there, else in the index (some 30 ms). */
  protected test(): OrderTest {
    const { index } = this.catalogue;
    const table = (one: 'vm' | 'disk', part: string | undefined): Uint8Array | undefined => {
      const exact = index.exactNames(one, this.filter);
      const names = this.orders.names(one);
      const holding = names === null ? idTable(index.nameIds(one, part ?? '')) : names.holding(part);
      if (exact === undefined) return holding;
      return idTable(exact.filter((id) => holding === undefined || holding[id] === 1));
    };
    const { targets, kind, from, to } = this.filter;
    const vms = table('vm', this.filter.vmPart);
    const disks = table('disk', this.filter.diskPart);
    return { targets, kind, from, to, vms, disks };
  }
}

/** 1 at each id; undefined stands for all. */
function idTable(ids: readonly number[] | undefined): Uint8Array | undefined {
  if (ids === undefined) return undefined;
  const table = new Uint8Array(ids.reduce((a, b) => Math.max(a, b), 0) + 1);
  for (const id of ids) table[id] = 1;
  return table;
}

class ArchiveSource extends OrderedSource implements ListSource<ArchiveListRow, ArchiveCursor> {
  whole(): WholeList | null {
    const order = this.orders.archives;
    if (order === null) return null;
    const ids = order.passing(this.test());
    const { scsiId } = this.filter;
    const passing = scsiId === undefined ? ids : this.catalogue.index.withScsiId(ids, scsiId);
    return { ids: passing, isExact: true };
  }

  page(after: ArchiveCursor | undefined, limit: number, backward: boolean) {
    const page = { limit, backward, ...(after === undefined ? {} : { after }) };
    return this.catalogue.index.listArchives(this.filter, page).map((row) => ({
      id: row.id,
      key: cursorOf(row),
      identity: `${row.vmId} ${row.diskId} ${row.sizeBytes} ${row.file}`,
    }));
  }

  rowsOf(ids: readonly number[]): Map<number, ArchiveListRow> {
    const { index } = this.catalogue;
    const targets = new Map(index.targets().map((one) => [one.number, one]));
    const mayHaveCopies = this.orders.archives?.hasCopies ?? true;
    const rows = listedRows(this.catalogue, index.archivesById(ids)).map((row) => ({
      ...row,
      copies: mayHaveCopies ? index.copiesOf(row) : [row],
      staleSinceMs: staleSince(row, targets.get(row.targetNumber)),
      changedPercent: changedPercentOf(row),
    }));
    return new Map(rows.map((row) => [row.id, row]));
  }

  aliases(id: number): number[] {
    return this.orders.archives?.copiesOf(id) ?? [];
  }
}

function changedPercentOf({ kind, header }: ArchiveRow): number | null {
  if (kind === 'full' || header === null) return null;
  const { changedBlocks, diskBytes } = header;
  if (changedBlocks === null || diskBytes === null) return null;
  return diskBytes === 0 ? 0 : Math.min(100, (100 * changedBlocks * BLOCK_BYTES) / diskBytes);
}

abstract class NameSource extends OrderedSource {
  protected readonly table: 'vm' | 'disk';
  #figures: NameFigures | null = null;
  /** Newest stamps as the walk over names found them, before there are figures. */
  protected readonly newestStamps = new Map<number, Stamp>();

  constructor(catalogue: Catalogue, orders: IndexOrders, filter: ArchiveFilter, table: 'vm' | 'disk') {
    super(catalogue, orders, filter, table);
    this.table = table;
  }

  whole(): WholeList | null {
    const names = this.orders.names(this.table);
    if (names === null || this.orders.archives === null || this.filter.scsiId !== undefined) {
      return this.#byNameAlone();
    }
    const test = this.test();
    const own = this.table === 'vm' ? 'vms' : 'disks';
    const rest = { ...test, [own]: undefined };
    const figures = this.orders.figures(this.table, rest, JSON.stringify(this.#restOfFilter()));
    if (figures === null) return this.#byNameAlone();
    this.#figures = figures;
    const { runCounts } = figures;
    return { ids: names.passing(test[own], runCounts), isExact: true };
  }

  aliases(): number[] {
    return [];
  }

  protected figuresOf(id: number): Omit<NameListRow, 'id'> {
    const figures = this.#figures;
    const runCount = figures?.runCounts[id] ?? 0;
    if (figures === null || runCount === 0) {
      return { runCount: null, newestStamp: this.newestStamps.get(id) ?? null, targetNumbers: null };
    }
    return { runCount, newestStamp: figures.newest(id), targetNumbers: figures.targets(id) };
  }

  /** All names that pass, where the filter asks of nothing else; a name may linger without archives. */
  #byNameAlone(): WholeList | null {
    const names = this.orders.names(this.table);
    const isAlone = Object.values(this.#restOfFilter()).every((value) => value === undefined);
    if (!isAlone || this.isNarrow || names === null) return null;
    const part = this.table === 'vm' ? this.filter.vmPart : this.filter.diskPart;
    return { ids: names.passing(names.holding(part)), isExact: false };
  }

  /** The filter without what it says of the names that are listed. */
  #restOfFilter(): ArchiveFilter {
    const own =
      this.table === 'vm'
        ? { vmPart: undefined, vm: undefined, uuid: undefined }
        : { diskPart: undefined, disk: undefined };
    return { ...this.filter, ...own };
  }
}

class VmSource extends NameSource implements ListSource<VmListRow, NameCursor> {
  page(after: NameCursor | undefined, limit: number, backward: boolean) {
    const page = { limit, backward, ...(after === undefined ? {} : { after }) };
    return this.catalogue.index.distinctVms(this.filter, page).map(({ id, cursor, newestStamp }) => {
      this.newestStamps.set(id, newestStamp);
      return { id, key: cursor, identity: String(id) };
    });
  }

  rowsOf(ids: readonly number[]): Map<number, VmListRow> {
    const rows = this.catalogue.index.vmDetails(ids).map(({ newestStamp, ...row }) => {
      const figures = this.figuresOf(row.id);
      return { ...row, ...figures, newestStamp: figures.newestStamp ?? newestStamp };
    });
    return new Map(rows.map((row) => [row.id, row]));
  }
}

class DiskSource extends NameSource implements ListSource<DiskListRow, NameCursor> {
  page(after: NameCursor | undefined, limit: number, backward: boolean) {
    const page = { limit, backward, ...(after === undefined ? {} : { after }) };
    return this.catalogue.index.distinctDisks(this.filter, page).map(({ id, cursor, newestStamp }) => {
      this.newestStamps.set(id, newestStamp);
      return { id, key: cursor, identity: String(id) };
    });
  }

  rowsOf(ids: readonly number[]): Map<number, DiskListRow> {
    const { index } = this.catalogue;
    const disks = index.diskDetails(ids);
    const single = disks.flatMap(({ vmIds }) => (vmIds.length === 1 ? vmIds : []));
    const vms = new Map(index.vmDetails(single).map(({ newestStamp, ...vm }) => [vm.id, vm]));
    const rows = disks.map(({ vmIds, newestStamp, ...row }) => {
      const figures = this.figuresOf(row.id);
      const [vmId = -1] = vmIds.length === 1 ? vmIds : [];
      return {
        ...row,
        ...figures,
        newestStamp: figures.newestStamp ?? newestStamp,
        vmCount: vmIds.length,
        vm: vms.get(vmId) ?? null,
      };
    });
    return new Map(rows.map((row) => [row.id, row]));
  }
}
