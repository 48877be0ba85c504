import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { IndexDb, type ListedArchive } from '../../db/index-db.ts';
import { JobsDb } from '../../db/jobs-db.ts';
import { type ArchiveBrowser, type BrowseFilter, openBrowser } from '../../src/engine/browse-archives.ts';
import type { BrowsedList } from '../../src/engine/browsed-list.ts';
import type { ArchiveKind } from '../../src/model/archive.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

const TARGETS = [
  { number: 1, name: 'local', transport: 'vmfs', place: '/backups' },
  { number: 2, name: 'ftp1', transport: 'ftp', place: 'ftp1:/b' },
  { number: 31, name: 'vault', transport: 'ssh', place: 'vault:/b' },
] as const;

let home: TempHome;
let index: IndexDb;
let jobs: JobsDb;
let browser: ArchiveBrowser;

beforeEach(() => {
  home = makeTempHome();
  index = IndexDb.open(path.join(home.root, 'index.db'));
  jobs = new JobsDb(path.join(home.root, 'jobs.db'));
  index.syncTargets(TARGETS);
  browser = openBrowser(home.root);
});

afterEach(() => {
  browser.close();
  index.close();
  jobs.close();
  home.remove();
});

interface Spec {
  target: number;
  vm: string;
  uuid?: string;
  disk: string;
  stamp: string;
  kind?: ArchiveKind;
  sizeBytes?: number;
  scsiId?: string;
}

function fileOf({ scsiId = '00', disk, kind = 'delta', stamp }: Spec): string {
  return `${scsiId}-${disk}.${kind}-${stamp}`;
}

function put(specs: readonly Spec[]): void {
  const folders = new Map<string, { spec: Spec; archives: Map<string, ListedArchive> }>();
  for (const spec of specs) {
    const { kind = 'delta', scsiId = '00', disk, stamp, sizeBytes = 1000 } = spec;
    const key = `${spec.target} ${spec.vm} ${spec.uuid}`;
    const folder = folders.get(key) ?? { spec, archives: new Map() };
    const codec = kind === 'full' ? ('gzip' as const) : null;
    const file = fileOf(spec);
    const name = {
      kind,
      generation: 3,
      scsiId,
      disk,
      codec,
      encrypted: false,
      stamp,
      fullStamp: stamp,
    } as const;
    folder.archives.set(file, { file, name, sizeBytes, complete: true });
    folders.set(key, folder);
  }
  for (const { spec, archives } of folders.values()) {
    index.recordFolder({
      targetNumber: spec.target,
      name: `2026.01.01-${spec.vm}.${spec.uuid ?? 'u'}`,
      modifiedMs: 0,
      listedMs: 0,
      complete: true,
      skipped: 0,
      vm: spec.vm,
      uuid: spec.uuid ?? `uuid of ${spec.vm}`,
      archives: [...archives.values()],
    });
  }
}

function readAll<Row>(list: BrowsedList<Row>): Row[] {
  for (let turns = 0; list.advance(1); turns++) if (turns > 1000) throw new Error('advance never ends');
  expect(list.length.isExact).toBe(true);
  return list.rows(0, list.length.known + 1) as Row[];
}

const STAMP = '2026-01-01T10:00';

describe('a list of archives', () => {
  it('shows equal name and size on several targets as one row with its copies, nearest first', () => {
    put([31, 2, 1].map((target) => ({ target, vm: 'web', disk: 'web.vmdk', stamp: STAMP })));
    const [row, ...others] = readAll(browser.archives({}));
    expect(others).toEqual([]);
    expect(row?.copies.map((copy) => copy.targetNumber)).toEqual([1, 2, 31]);
    expect(readAll(browser.archives({ target: 31 }))).toMatchObject([{ targetNumber: 31 }]);
  });

  it('keeps archives of another size, disk, minute or VM apart', () => {
    const one = { target: 1, vm: 'web', disk: 'web.vmdk', stamp: STAMP };
    put([
      one,
      { ...one, target: 2, sizeBytes: 999 },
      { ...one, target: 31, stamp: '2026-01-01T10:01' },
      { ...one, target: 31, disk: 'other.vmdk' },
      { ...one, target: 2, vm: 'db' },
    ]);
    expect(readAll(browser.archives({}))).toHaveLength(5);
  });

  it('finds the row again by any of its copies', () => {
    const one = { target: 1, vm: 'web', disk: 'web.vmdk', stamp: STAMP };
    put([{ ...one, stamp: '2026-01-02T10:00' }, one, { ...one, target: 31 }]);
    const onVault = readAll(browser.archives({ target: 31 }))[0];
    const all = browser.archives({});
    readAll(all);
    expect(all.indexOf(onVault?.id ?? 0)).toBe(1);
    expect(all.indexOf(987)).toBe(-1);
  });

  it('tells the verify state and how much of the disk changed', () => {
    put([{ target: 1, vm: 'web', disk: 'web.vmdk', stamp: STAMP }]);
    const [before] = readAll(browser.archives({}));
    expect(before).toMatchObject({ verifyResult: null, changedPercent: null, state: 'without FULL' });
    index.recordHeader(before?.id ?? 0, {
      runId: 'r',
      host: 'esx1',
      displayName: 'web',
      diskBytes: 4 * 262_144,
      runDisks: ['00 web.vmdk'],
      changedBlocks: 1,
      unreadableSectors: 0,
      foreign: false,
    });
    jobs.recordVerify({
      targetNumber: 1,
      folder: before?.folder ?? '',
      file: before?.file ?? '',
      sizeBytes: 1000,
      verifiedAt: '2026-01-05T00:00:00Z',
      result: 'good',
      detail: '',
    });
    expect(browser.archives({}).rowAt(0)).toMatchObject({ verifyResult: 'good', changedPercent: 25 });
  });

  it('of one disk of a VM is known whole at its first page', () => {
    put(['00', '01'].map((scsiId) => ({ target: 1, vm: 'web', disk: 'web.vmdk', stamp: STAMP, scsiId })));
    const list = browser.archives({ uuid: 'uuid of web', diskName: 'web.vmdk', scsiId: '01' });
    expect(list.firstPage(24)).toMatchObject([{ scsiId: '01' }]);
    expect(list.length).toEqual({ known: 1, isExact: true });
    expect(list.advance(1)).toBe(false);
  });
});

describe('lists of names', () => {
  it('tell runs, newest archive and targets of a VM under the filter', () => {
    const one = { target: 1, vm: 'web', disk: 'web.vmdk', stamp: STAMP };
    put([
      { ...one, kind: 'full' },
      one,
      { ...one, disk: 'data.vmdk' },
      { ...one, target: 2, stamp: '2026-01-01T10:00' },
      { ...one, target: 31, stamp: '2026-02-01T10:00' },
    ]);
    expect(readAll(browser.vms({}))).toMatchObject([
      { vm: 'web', runCount: 2, newestStamp: '2026-02-01T10:00', targetNumbers: [1, 2, 31] },
    ]);
    expect(readAll(browser.vms({ to: '2026-01-31T00:00', vmfs: 'hide' }))).toMatchObject([
      { runCount: 1, newestStamp: STAMP, targetNumbers: [2] },
    ]);
  });

  it('tell two VMs of one name apart, with their host', () => {
    put([
      { target: 1, vm: 'twin', uuid: 'u1', disk: 'a.vmdk', stamp: STAMP },
      { target: 1, vm: 'twin', uuid: 'u2', disk: 'a.vmdk', stamp: STAMP },
      { target: 1, vm: 'single', disk: 'a.vmdk', stamp: STAMP },
    ]);
    const [first] = readAll(browser.archives({ uuid: 'u2' }));
    const header = {
      runId: '',
      displayName: '',
      diskBytes: 1,
      runDisks: [],
      changedBlocks: 0,
      unreadableSectors: 0,
      foreign: false,
    };
    index.recordHeader(first?.id ?? 0, { ...header, host: 'esx2' });
    expect(readAll(browser.vms({}))).toMatchObject([
      { vm: 'single', isNameRepeated: false, host: null },
      { vm: 'twin', uuid: 'u1', isNameRepeated: true, host: null },
      { vm: 'twin', uuid: 'u2', isNameRepeated: true, host: 'esx2' },
    ]);
    expect(readAll(browser.disks({}))).toMatchObject([{ disk: 'a.vmdk', vmCount: 3, vm: null, runCount: 3 }]);
    expect(readAll(browser.disks({ uuid: 'u2' }))).toMatchObject([{ runCount: 1 }]);
  });

  it('days of a VM count copies once', () => {
    const one = { target: 1, vm: 'web', disk: 'web.vmdk', stamp: STAMP };
    put([one, { ...one, target: 2 }, { ...one, stamp: '2026-01-03T00:00' }]);
    expect(browser.days({ vmName: 'web' })).toEqual([
      { day: '2026-01-03', archiveCount: 1 },
      { day: '2026-01-01', archiveCount: 1 },
    ]);
  });
});

describe('when the index changes', () => {
  it('a list shows it after refresh and advance, and finds its selection again', () => {
    put([{ target: 1, vm: 'm', disk: 'm.vmdk', stamp: STAMP }]);
    const list = browser.vms({});
    const [selected] = readAll(list);
    expect(list.refresh()).toBe(false);
    put([{ target: 1, vm: 'a', disk: 'a.vmdk', stamp: STAMP }]);
    const { revision } = list;
    expect(list.refresh()).toBe(true);
    expect(list.length).toEqual({ known: 1, isExact: false });
    expect(readAll(list).map((row) => row.vm)).toEqual(['a', 'm']);
    expect(list.revision).toBeGreaterThan(revision);
    expect(list.indexOf(selected?.id ?? 0)).toBe(1);
  });

  it('a row that is gone is null until then', () => {
    put([{ target: 1, vm: 'm', disk: 'm.vmdk', stamp: STAMP }]);
    const list = browser.archives({});
    readAll(list);
    index.keepFolders(1, []);
    expect(list.rows(0, 9)).toEqual([null]);
    list.refresh();
    expect(readAll(list)).toEqual([]);
  });

  it('a list of few rows, fetched without the order of all, shows it as well', () => {
    const one = { target: 1, vm: 'web', disk: 'web.vmdk', stamp: STAMP };
    put([one]);
    const list = browser.archives({ vmName: 'web' });
    list.firstPage(9);
    put([one, { ...one, stamp: '2026-01-02T10:00' }]);
    expect(list.refresh()).toBe(true);
    expect(readAll(list)).toHaveLength(2);
  });
});

describe('more rows than one page of the order holds', () => {
  const vmCount = 125;
  const archiveCount = vmCount * 20;

  beforeEach(() => {
    put(
      Array.from({ length: archiveCount }, (_, n) => {
        const vm = `vm${n % vmCount}`;
        const day = String(10 + (Math.floor(n / vmCount) % 10));
        const one = { vm, disk: `disk${Math.floor(n / vmCount / 10)}.vmdk`, stamp: `2026-01-${day}T10:00` };
        return [1, 2].map((target) => ({ ...one, target }));
      }).flat(),
    );
  });

  it('the first page, the last one and a place are there before all is read, and the same after', () => {
    const cold = openBrowser(home.root);
    const list = cold.archives({});
    const first = list.firstPage(30);
    const last = list.lastPage(30);
    const idsOf = (rows: ({ copies: { id: number }[] } | null)[]) => rows.map((row) => row?.copies[0]?.id);
    const all = readAll(list);
    expect(all).toHaveLength(archiveCount);
    expect(idsOf(first)).toEqual(idsOf(all.slice(0, 30)));
    expect(idsOf(last)).toEqual(idsOf(all.slice(-30)));
    expect(idsOf(list.rows(1234, 5))).toEqual(idsOf(all.slice(1234, 1239)));
    expect(all.every((row) => row.copies.length === 2)).toBe(true);
    expect(list.rowAt(archiveCount)).toBeUndefined();
    cold.close();
  });

  it('a VM list grows from its first page to all VMs', () => {
    const list = browser.vms({});
    expect(list.firstPage(5).map((row) => row?.vm)).toEqual(['vm0', 'vm1', 'vm10', 'vm100', 'vm101']);
    expect(readAll(list)).toHaveLength(vmCount);
    expect(list.lastPage(1)).toMatchObject([{ vm: 'vm99', runCount: 10, targetNumbers: [1, 2] }]);
  });
});

describe('every filter shows what the index finds', () => {
  const specs: fc.Arbitrary<Spec> = fc.record({
    target: fc.constantFrom(1, 2, 31),
    vm: fc.constantFrom('web', 'Web-2', 'B\u00fcro', 'BURO', 'x'),
    disk: fc.constantFrom('web.vmdk', 'data.dsk', 'raw'),
    stamp: fc.constantFrom(
      '1899-12-31T00:00',
      STAMP,
      '2026-01-01T23:59',
      '2026-01-02T00:00',
      '9999-12-31T23:59',
    ),
    kind: fc.constantFrom<ArchiveKind>('full', 'delta'),
    sizeBytes: fc.constantFrom(1, 2),
    scsiId: fc.constantFrom('00', '01'),
  });
  const filters: fc.Arbitrary<BrowseFilter> = fc.record(
    {
      vm: fc.constantFrom('', 'w', 'buro', 'nothing', 'web'),
      disk: fc.constantFrom('', 'W', 'raw'),
      from: fc.constantFrom(STAMP, '2026-01-02T00:00'),
      to: fc.constantFrom(STAMP, '2026-01-01T23:59'),
      target: fc.constantFrom(null, 1, 31),
      transport: fc.constantFrom('all', 'ftp'),
      mode: fc.constantFrom('all', 'full', 'delta'),
      vmName: fc.constantFrom('web', 'x'),
      scsiId: fc.constantFrom('00', '01'),
    },
    { requiredKeys: [] },
  );

  it('archives, VMs and disk names, whether read whole or not', () => {
    fc.assert(
      fc.property(fc.array(specs, { maxLength: 40 }), filters, (rows, filter) => {
        index.syncTargets([]);
        index.syncTargets(TARGETS);
        index.dropUnusedNames();
        put(rows);
        const passes = indexPasses(filter);
        const expected = index.listArchives({}, { limit: 1000 }).filter(passes);
        const identity = (row: { vmId: number; file: string; sizeBytes: number }) =>
          `${row.vmId} ${row.file} ${row.sizeBytes}`;
        const archives = [...new Set(expected.map(identity))];
        const fresh = openBrowser(home.root);
        try {
          const narrow = fresh.archives({ ...filter, vmName: filter.vmName ?? 'web' });
          const ofVm = expected.filter((row) => row.vm === (filter.vmName ?? 'web')).map(identity);
          expect(readAll(narrow).map(identity).sort()).toEqual([...new Set(ofVm)].sort());
          expect(readAll(fresh.archives(filter)).map(identity).sort()).toEqual(archives.sort());
          const vms = new Set(expected.map((row) => row.vmId));
          expect(new Set(readAllOrPaged(fresh.vms(filter)).map((row) => row.id))).toEqual(vms);
          const disks = new Set(expected.map((row) => row.diskId));
          expect(new Set(readAllOrPaged(fresh.disks(filter)).map((row) => row.id))).toEqual(disks);
        } finally {
          fresh.close();
        }
      }),
      { numRuns: 60 },
    );
  });

  function indexPasses(filter: BrowseFilter): (row: ReturnType<IndexDb['listArchives']>[number]) => boolean {
    const wanted = {
      vmPart: filter.vm ?? '',
      diskPart: filter.disk ?? '',
      ...(filter.vmName === undefined ? {} : { vm: filter.vmName }),
      ...(filter.from === undefined ? {} : { from: filter.from }),
      ...(filter.to === undefined ? {} : { to: filter.to }),
      ...(filter.scsiId === undefined ? {} : { scsiId: filter.scsiId }),
      ...(filter.mode === undefined || filter.mode === 'all' ? {} : { kind: filter.mode }),
    };
    const ids = new Set(index.listArchives(wanted, { limit: 1000 }).map((row) => row.id));
    return (row) =>
      ids.has(row.id) &&
      (filter.target == null || row.targetNumber === filter.target) &&
      (filter.transport !== 'ftp' || row.transport === 'ftp');
  }

  /** A list of names by SCSI id is fetched page by page. */
  function readAllOrPaged<Row>(list: BrowsedList<Row>): Row[] {
    for (let turns = 0; list.advance(1); turns++) if (turns > 1000) throw new Error('advance never ends');
    return list.rows(0, 1000) as Row[];
  }
});
