/** What a person has chosen so far on the way to a restore. */
import type {
  ArchiveBrowser,
  ArchiveListRow,
  DiskListRow,
  VmListRow,
} from '../../../src/engine/browse-archives.ts';
import type { EngineContext } from '../../../src/engine/context.ts';
import type { CheckedArchive, FullCandidate } from '../../../src/engine/full-candidates.ts';
import type { Desk } from '../../desk.ts';

/** How the archives were looked for. */
export type SearchBy = 'vm' | 'disk' | 'vmx';

/** One disk on its way. */
export interface DraftDisk {
  row: ArchiveListRow;
  checked: CheckedArchive;
  /** Undefined for a VMX alone. */
  full: FullCandidate | undefined;
  /** Name it will have. */
  name: string;
}

/** A volume of a host as the place of a VM. */
export interface OntoHost {
  host: string;
  volume: string;
  freeBytes: number;
  /** Of the VM there. */
  name: string;
  /** Null where they are not asked for. */
  macs: 'keep' | 'new' | 'auto' | null;
}

export interface Draft {
  desk: Desk;
  context: EngineContext;
  browser: ArchiveBrowser;
  by: SearchBy;
  vm?: VmListRow;
  disk?: DiskListRow;
  /** `YYYY-MM-DD`; undefined: all. */
  day?: string;
  /** Rows of one disk, or of all disks of a run. */
  rows: ArchiveListRow[];
  disks: DraftDisk[];
  folder?: string;
  /** In place of a folder. */
  onHost?: OntoHost;
  isInPlace: boolean;
  isVerified: boolean;
  assumeOff: boolean;
  salvage: boolean;
}

/** The order of a million archives takes its share of the console's memory; the system keeps the file as well. */
const CACHE_BYTES = 4 * 1024 ** 2;

const browsers = new WeakMap<EngineContext, ArchiveBrowser>();

/** A draft over the index as it is now; what lists have read of it is shared by all. */
export async function newDraft(desk: Desk, by: SearchBy): Promise<Draft> {
  const context = await desk.context();
  return {
    desk,
    context,
    browser: await browserOver(context),
    by,
    rows: [],
    disks: [],
    isInPlace: false,
    isVerified: false,
    assumeOff: false,
    salvage: false,
  };
}

/** Reads configuration and secrets anew, for what a person has put right meanwhile. */
export async function renewContext(draft: Draft): Promise<void> {
  await draft.desk.forgetContext();
  draft.context = await draft.desk.context();
  draft.browser = await browserOver(draft.context);
}

async function browserOver(context: EngineContext): Promise<ArchiveBrowser> {
  const known = browsers.get(context);
  if (known !== undefined) return known;
  const { ArchiveBrowser } = await import('../../../src/engine/browse-archives.ts');
  context.index.limitCache(CACHE_BYTES);
  const browser = new ArchiveBrowser(context);
  browsers.set(context, browser);
  return browser;
}

/** `N:folder/file`, as commands and jobs name an archive. */
export function archiveText(row: { targetNumber: number; folder: string; file: string }): string {
  return `${row.targetNumber}:${row.folder}/${row.file}`;
}

/** The copy that is fetched: the nearest one. */
export function nearestOf(row: ArchiveListRow): ArchiveListRow['copies'][number] {
  return row.copies[0] ?? row;
}

/** `2026-11-20 14:20` */
export function stampText(stamp: string): string {
  return stamp.replace('T', ' ');
}

/** `0:1` from controller and unit digits. */
export function scsiText(scsiId: string): string {
  return `${Number(scsiId.slice(0, -1))}:${scsiId.slice(-1)}`;
}
