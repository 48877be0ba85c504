import { rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type ArchiveFilter, archiveQuery } from '../../db/archive-filter.ts';
import { type ArchiveRow, cursorOf } from '../../db/archive-rows.ts';
import { fold } from '../../db/fold.ts';
import { IndexDb, type ListedArchive, type ListedFolder } from '../../db/index-db.ts';
import type { ArchiveKind } from '../../src/model/archive.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

const TARGETS = [
  { number: 1, name: 'local', transport: 'vmfs', place: '/backups' },
  { number: 2, name: 'ftp1', transport: 'ftp', place: 'ftp1:/b' },
  { number: 3, name: 'vault', transport: 'ssh', place: 'vault:/b' },
] as const;

let home: TempHome;
let index: IndexDb;

beforeEach(() => {
  home = makeTempHome();
  index = IndexDb.open(path.join(home.root, 'index.db'));
  index.syncTargets(TARGETS);
});

afterEach(() => {
  index.close();
  home.remove();
});

function archive(
  disk: string,
  stamp: string,
  kind: ArchiveKind,
  more: Partial<ListedArchive> = {},
): ListedArchive {
  const codec = kind === 'full' ? 'gzip' : null;
  return {
    file: `00-${disk}.${kind}-${stamp}.phd`,
    name: { kind, generation: 3, scsiId: '00', disk, codec, encrypted: false, stamp, fullStamp: stamp },
    sizeBytes: 1000,
    complete: true,
    ...more,
  };
}

function folder(
  targetNumber: number,
  vm: string,
  archives: ListedArchive[],
  more: Partial<ListedFolder> = {},
): ListedFolder {
  return {
    targetNumber,
    name: `2026.01.01-${vm}`,
    modifiedMs: 1000,
    listedMs: 2000,
    complete: true,
    skipped: 0,
    vm,
    uuid: `564d0000-0000-0000-0000-${Buffer.from(vm.padEnd(6, '0')).toString('hex').slice(0, 12)}`,
    archives,
    ...more,
  };
}

const names = (rows: { vm: string }[]): string[] => rows.map((row) => row.vm);

describe('a folder that is listed again', () => {
  it('loses the archives that a complete listing no longer shows', () => {
    index.recordFolder(
      folder(1, 'a', [
        archive('a.vmdk', '2026-01-01T10:00', 'full'),
        archive('b.vmdk', '2026-01-01T10:00', 'full'),
      ]),
    );
    index.recordFolder(folder(1, 'a', [archive('b.vmdk', '2026-01-01T10:00', 'full')]));
    expect(index.listArchives({}, { limit: 9 }).map((row) => row.disk)).toEqual(['b.vmdk']);
  });

  it('keeps them if the listing may be cut', () => {
    index.recordFolder(folder(1, 'a', [archive('a.vmdk', '2026-01-01T10:00', 'full')]));
    index.recordFolder(folder(1, 'a', [], { complete: false }));
    expect(index.countArchives({})).toBe(1);
    expect(index.folderStates(1).get('2026.01.01-a')?.complete).toBe(false);
  });

  it('counts as complete only if each of its archives was', () => {
    index.recordFolder(folder(1, 'a', [archive('a.vmdk', '2026-01-01T10:00', 'full', { complete: false })]));
    expect(index.folderStates(1).get('2026.01.01-a')).toMatchObject({ complete: false, archiveCount: 1 });
    index.recordFolder(folder(1, 'a', [archive('a.vmdk', '2026-01-01T10:00', 'full')]));
    expect(index.folderStates(1).get('2026.01.01-a')?.complete).toBe(true);
  });

  it('keeps what was read from an archive while its size stays, and forgets it when the size changes', () => {
    index.recordFolder(folder(1, 'a', [archive('a.vmdk', '2026-01-01T10:00', 'delta')]));
    const [row] = index.listArchives({}, { limit: 1 }) as [ArchiveRow];
    const header = {
      runId: 'r',
      host: 'esx1',
      displayName: 'A',
      diskBytes: 5,
      runDisks: ['00 a.vmdk'],
      changedBlocks: 2,
      unreadableSectors: 0,
      foreign: false,
    };
    index.recordHeader(row.id, header);
    index.recordFolder(folder(1, 'a', [archive('a.vmdk', '2026-01-01T10:00', 'delta')]));
    expect(index.archivesById([row.id])[0]?.header).toEqual(header);
    index.recordFolder(folder(1, 'a', [archive('a.vmdk', '2026-01-01T10:00', 'delta', { sizeBytes: 7 })]));
    expect(index.archivesById([row.id])[0]).toMatchObject({ header: null, sizeBytes: 7 });
  });

  it('goes with its archives and names when the target no longer has it', () => {
    index.recordFolder(folder(1, 'a', [archive('a.vmdk', '2026-01-01T10:00', 'full')]));
    index.recordFolder(folder(1, 'b', [archive('b.vmdk', '2026-01-01T10:00', 'full')]));
    expect(index.keepFolders(1, ['2026.01.01-b'])).toBe(1);
    index.dropUnusedNames();
    expect(names(index.distinctVms({}, { limit: 9 }))).toEqual(['b']);
    expect(index.distinctDisks({ diskPart: 'a.vm' }, { limit: 9 })).toEqual([]);
    expect(index.distinctDisks({ diskPart: 'b.vm' }, { limit: 9 }).map((row) => row.disk)).toEqual([
      'b.vmdk',
    ]);
  });
});

describe('targets', () => {
  it('one that moved or left the configuration loses its rows; a new name keeps them', () => {
    for (const number of [1, 2, 3])
      index.recordFolder(folder(number, `vm${number}`, [archive('a.vmdk', '2026-01-01T10:00', 'full')]));
    index.syncTargets([
      { ...TARGETS[0], name: 'renamed' },
      { ...TARGETS[1], place: 'elsewhere' },
    ]);
    expect(index.listArchives({}, { limit: 9 }).map((row) => [row.vm, row.targetName])).toEqual([
      ['vm1', 'renamed'],
    ]);
  });

  it('a failed listing keeps the time of the last complete one, with the reason', () => {
    expect(index.targets()[1]).toMatchObject({ listedMs: null, triedMs: null, outcome: null });
    index.finishTarget({ number: 2, triedMs: 100, outcome: 'complete', error: null });
    index.finishTarget({ number: 2, triedMs: 500, outcome: 'failed', error: 'no route' });
    expect(index.targets()[1]).toMatchObject({
      listedMs: 100,
      triedMs: 500,
      outcome: 'failed',
      error: 'no route',
    });
  });
});

describe('copies and FULLs', () => {
  beforeEach(() => {
    for (const number of [3, 2, 1]) {
      index.recordFolder(folder(number, 'a', [archive('a.vmdk', '2026-01-01T10:00', 'full')]));
    }
    index.recordFolder(folder(2, 'b', [archive('a.vmdk', '2026-01-01T10:00', 'full')]));
    index.recordFolder(
      folder(2, 'a', [
        archive('a.vmdk', '2026-01-01T10:00', 'full'),
        archive('a.vmdk', '2026-01-02T10:00', 'full'),
      ]),
    );
  });
  const uuid = folder(1, 'a', []).uuid;

  it('are found by stamp, disk, SCSI id and UUID: vmfs first, then by rate, then by number', () => {
    const wanted = { uuid, scsiId: '00', disk: 'a.vmdk', fullStamp: '2026-01-01T10:00' };
    expect(index.findFull(wanted).map((row) => row.targetNumber)).toEqual([1, 2, 3]);
    index.recordRate(3, 50_000_000);
    expect(index.findFull(wanted).map((row) => row.targetNumber)).toEqual([1, 3, 2]);
    expect(index.findFull({ ...wanted, scsiId: '01' })).toEqual([]);
    expect(index.findFull({ ...wanted, fullStamp: '2026-01-03T10:00' })).toEqual([]);
  });

  it('one that is still arriving is no FULL to restore from', () => {
    const [first] = index.findFull({ uuid, scsiId: '00', disk: 'a.vmdk', fullStamp: '2026-01-02T10:00' });
    index.markIncomplete(first?.id ?? 0);
    expect(index.findFull({ uuid, scsiId: '00', disk: 'a.vmdk', fullStamp: '2026-01-02T10:00' })).toEqual([]);
  });

  it('an archive of the same name and size on other targets is a copy', () => {
    const row = index.archiveAt(2, '2026.01.01-a', '00-a.vmdk.full-2026-01-01T10:00.phd');
    expect(index.copiesOf(row as ArchiveRow).map((copy) => copy.targetNumber)).toEqual([1, 2, 3]);
    index.recordFolder(folder(1, 'a', [archive('a.vmdk', '2026-01-01T10:00', 'full', { sizeBytes: 9 })]));
    expect(index.copiesOf(row as ArchiveRow).map((copy) => copy.targetNumber)).toEqual([2, 3]);
  });
});

describe('every filter finds what a plain walk over all rows finds', () => {
  const vms = [
    'web',
    'Web-2',
    'B\u00fcro',
    'BURO',
    'stra\u00dfe',
    'db_%',
    "o'hara",
    '\u4e2d\u6587vm',
    'a"b',
    'x',
  ];
  const vmParts = ['', 'w', 'WEB', 'buro', 'STRASSE', '%', '_', "'", '"b', '\u4e2d', 'nothing', 'web-2'];
  const stamps = ['2026-01-01T10:00', '2026-01-01T23:59', '2026-01-02T00:00', '2026-02-01T00:00'];
  const rows = fc.array(
    fc.record({
      target: fc.constantFrom(1, 2, 3),
      vm: fc.constantFrom(...vms),
      disk: fc.constantFrom('web.vmdk', 'data.dsk', 'raw'),
      stamp: fc.constantFrom(...stamps),
      kind: fc.constantFrom<ArchiveKind>('full', 'delta'),
    }),
    { maxLength: 40 },
  );
  const filters: fc.Arbitrary<ArchiveFilter> = fc.record(
    {
      vmPart: fc.constantFrom(...vmParts),
      diskPart: fc.constantFrom('', 'W', 'vmdk', 'raw', 'zzz'),
      vm: fc.constantFrom(...vms),
      from: fc.constantFrom(...stamps),
      to: fc.constantFrom(...stamps),
      targets: fc.subarray([1, 2, 3]),
      kind: fc.constantFrom<ArchiveKind>('full', 'delta'),
      scsiId: fc.constantFrom('00', '01'),
    },
    { requiredKeys: [] },
  );

  function passes(row: ArchiveRow, filter: ArchiveFilter): boolean {
    return (
      fold(row.vm).includes(fold(filter.vmPart ?? '')) &&
      fold(row.disk).includes(fold(filter.diskPart ?? '')) &&
      (filter.vm === undefined || row.vm === filter.vm) &&
      (filter.from === undefined || row.stamp >= filter.from) &&
      (filter.to === undefined || row.stamp <= filter.to) &&
      (filter.targets === undefined || filter.targets.includes(row.targetNumber)) &&
      (filter.kind === undefined || row.kind === filter.kind) &&
      (filter.scsiId === undefined || row.scsiId === filter.scsiId)
    );
  }

  it('in lists, counts, pages both ways, VM names and disk names', () => {
    fc.assert(
      fc.property(rows, fc.array(filters, { minLength: 1, maxLength: 8 }), (specs, wanted) => {
        index.syncTargets([]);
        index.syncTargets(TARGETS);
        index.dropUnusedNames();
        const byFolder = new Map<
          string,
          { target: number; vm: string; archives: Map<string, ListedArchive> }
        >();
        for (const { target, vm, disk, stamp, kind } of specs) {
          const key = `${target} ${vm}`;
          const entry = byFolder.get(key) ?? { target, vm, archives: new Map() };
          const one = archive(disk, stamp, kind);
          entry.archives.set(one.file, one);
          byFolder.set(key, entry);
        }
        for (const { target, vm, archives } of byFolder.values()) {
          index.recordFolder(folder(target, vm, [...archives.values()]));
        }
        const all = index.listArchives({}, { limit: 1000 });
        for (const filter of wanted) {
          const expected = all.filter((row) => passes(row, filter));
          const ids = expected.map((row) => row.id);
          expect(index.listArchives(filter, { limit: 1000 }).map((row) => row.id)).toEqual(ids);
          expect(index.countArchives(filter)).toBe(ids.length);
          expect([...index.archiveIds(filter)]).toEqual(ids);
          expect(index.archivesById(ids).map((row) => row.id)).toEqual(ids);
          expect(walk(filter, false)).toEqual(ids);
          expect(walk(filter, true)).toEqual(ids);
          const vmNames = new Set(expected.map((row) => row.vm));
          expect(new Set(names(index.distinctVms(filter, { limit: 1000 })))).toEqual(vmNames);
          const disks = new Set(expected.map((row) => row.disk));
          expect(new Set(index.distinctDisks(filter, { limit: 1000 }).map((row) => row.disk))).toEqual(disks);
        }
      }),
      { numRuns: 60 },
    );
  });

  function walk(filter: ArchiveFilter, backward: boolean): number[] {
    const ids: number[] = [];
    let after: ArchiveRow | undefined;
    for (;;) {
      const page = index.listArchives(filter, {
        limit: 3,
        backward,
        ...(after ? { after: cursorOf(after) } : {}),
      });
      const found = page.map((row) => row.id);
      if (backward) ids.unshift(...found);
      else ids.push(...found);
      after = backward ? page[0] : page.at(-1);
      if (page.length < 3) return ids;
    }
  }
});

describe('VM names', () => {
  it('two VMs of one name are two rows', () => {
    const stamp = '2026-01-01T10:00';
    index.recordFolder(folder(1, 'twin', [archive('a.vmdk', stamp, 'full')], { name: 'f1', uuid: 'u1' }));
    index.recordFolder(folder(1, 'twin', [archive('a.vmdk', stamp, 'full')], { name: 'f2', uuid: 'u2' }));
    expect(index.distinctVms({ vmPart: 'TWIN' }, { limit: 9 }).map((row) => row.uuid)).toEqual(['u1', 'u2']);
    expect(index.series({ uuid: 'u2' })).toEqual([{ vm: 'twin', uuid: 'u2', scsiId: '00', disk: 'a.vmdk' }]);
  });

  it('days of a VM come newest first with their counts', () => {
    index.recordFolder(
      folder(1, 'a', [
        archive('a.vmdk', '2026-01-01T10:00', 'full'),
        archive('a.vmdk', '2026-01-02T10:00', 'delta'),
        archive('a.vmdk', '2026-01-02T12:00', 'delta'),
      ]),
    );
    expect(index.days({ vm: 'a' })).toEqual([
      { day: '2026-01-02', archiveCount: 2 },
      { day: '2026-01-01', archiveCount: 1 },
    ]);
  });
});

describe('100,000 archives of 10,000 names', () => {
  let largeHome: TempHome;
  let large: IndexDb;
  let file: string;

  beforeAll(() => {
    largeHome = makeTempHome();
    file = path.join(largeHome.root, 'large.db');
    large = IndexDb.open(file);
    large.syncTargets(TARGETS);
    for (let vm = 0; vm < 10_000; vm++) {
      const archives = Array.from({ length: 10 }, (_, at) => {
        const stamp = `2026-${String((vm % 12) + 1).padStart(2, '0')}-${String(at + 10)}T10:00`;
        return archive(`disk${vm}.vmdk`, stamp, at === 0 ? 'full' : 'delta');
      });
      large.recordFolder(folder((vm % 3) + 1, `${vm % 3 === 2 ? 'east' : 'west'}${vm}`, archives));
    }
  });

  afterAll(() => {
    large.close();
    largeHome.remove();
  });

  it('a part that many names hold finds the same on targets that hold many, few and none of them', () => {
    large.recordFolder(
      folder(3, 'westernmost', [archive('x.vmdk', '2026-12-31T10:00', 'full')], { name: 'one' }),
    );
    const west = Array.from({ length: 10_000 }, (_, vm) => vm).filter((vm) => vm % 3 !== 2);
    expect(large.countArchives({ vmPart: 'WEST' })).toBe(west.length * 10 + 1);
    expect(large.countArchives({ vmPart: 'we', kind: 'full' })).toBe(west.length + 1);
    expect(large.countArchives({ vmPart: 'west', targets: [3] })).toBe(1);
    expect(large.countArchives({ vmPart: 'east', targets: [1, 2] })).toBe(0);
    const sevens = west.filter((vm) => String(vm).includes('7'));
    expect(large.countArchives({ vmPart: 'west', diskPart: '7' })).toBe(sevens.length * 10);
    expect(large.listArchives({ vmPart: 'west' }, { limit: 2 }).map((row) => row.vm)).toContain(
      'westernmost',
    );
    const first = large.distinctVms({ diskPart: '7', vmPart: 'w' }, { limit: 1 })[0]?.vm;
    expect(first).toBe(sevens.map((vm) => `west${vm}`).sort()[0]);
  });

  it.each<[string, ArchiveFilter]>([
    ['names that are not among the newest archives', { vmPart: 'west' }],
    ['their FULLs', { vmPart: 'west', kind: 'full' }],
    ['on one target', { vmPart: 'w', targets: [2] }],
    ['in a range of time', { vmPart: 'west', from: '2026-02-01T00:00', to: '2026-03-31T00:00' }],
    ['names that all archives hold', { diskPart: 'disk' }],
    ['parts of both names', { vmPart: 'west', diskPart: '7' }],
    ['both parts in many names', { vmPart: 'west', diskPart: 'disk' }],
  ])('pages of %s are pages of the whole list', (_, filter) => {
    const all = [...large.archiveIds(filter)];
    expect(all.length).toBeGreaterThan(500);
    const idsOf = (rows: ArchiveRow[]) => rows.map((row) => row.id);
    for (const at of [0, 1, 250, all.length - 60, all.length - 20]) {
      const [edge] = large.archivesById(all.slice(at, at + 1));
      const after = edge === undefined ? {} : { after: cursorOf(edge) };
      expect(idsOf(large.listArchives(filter, { limit: 50, ...after }))).toEqual(all.slice(at + 1, at + 51));
      expect(idsOf(large.listArchives(filter, { limit: 50, backward: true, ...after }))).toEqual(
        all.slice(Math.max(0, at - 50), at),
      );
    }
    expect(idsOf(large.listArchives(filter, { limit: 50, backward: true }))).toEqual(all.slice(-50));
  });

  it('no filter walks the table of archives, and a broad one sorts nothing', () => {
    const database = new Database(file, { readonly: true });
    const march = { from: '2026-03-01T00:00', to: '2026-04-01T00:00' };
    const cases: [ArchiveFilter, string][] = [
      [{}, 'archives_by_time'],
      [{ targets: [1, 2] }, 'archives_by_time'],
      [{ vmPart: 'west123' }, 'archives_by_vm'],
      [{ diskPart: 'disk77' }, 'archives_by_disk'],
      [{ targets: [2], kind: 'full', ...march }, 'archives_by_time'],
      [{ diskPart: 'd' }, 'INTEGER PRIMARY KEY'],
      [{ vmPart: 'w' }, 'archives_by_vm'],
      [{ vmPart: 'w', ...march, kind: 'full' }, 'archives_by_vm'],
      [{ vmPart: 'nowhere' }, 'archives_by_vm'],
    ];
    for (const [filter, wanted] of cases) {
      const query = archiveQuery(database, filter, [1, 2, 3], { limit: 50 });
      const steps = database.prepare(`EXPLAIN QUERY PLAN ${query.sql}`).all(query.values) as {
        detail: string;
      }[];
      const plan = steps.map((step) => step.detail).join('\n');
      expect(plan).toContain(wanted);
      expect(plan).not.toMatch(/SCAN a\b/);
      if (wanted === 'archives_by_time') expect(plan).not.toContain('TEMP B-TREE');
    }
    database.close();
  });
});

describe('the file', () => {
  it('is closed to others', () => {
    expect(statSync(path.join(home.root, 'index.db')).mode & 0o777).toBe(0o600);
  });

  it.each(['deleted', 'overwritten with text'])('%s, it is made anew', (how) => {
    const file = path.join(home.root, 'index.db');
    index.recordFolder(folder(1, 'a', [archive('a.vmdk', '2026-01-01T10:00', 'full')]));
    index.close();
    for (const suffix of ['-wal', '-shm']) rmSync(file + suffix, { force: true });
    if (how === 'deleted') rmSync(file);
    else
      writeFileSync(file, 'no database at all, but long enough to be read as the header of one'.repeat(100));
    const notices: string[] = [];
    index = IndexDb.open(file, (notice) => notices.push(notice));
    expect(index.targets()).toEqual([]);
    expect(notices).toHaveLength(how === 'deleted' ? 0 : 1);
    index.syncTargets(TARGETS);
    expect(index.targets()).toHaveLength(3);
  });
});
