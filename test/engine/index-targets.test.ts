import { mkdirSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ArchiveHeader } from '../../db/archive-rows.ts';
import { ArchiveBrowser } from '../../src/engine/browse-archives.ts';
import { type EngineContext, openContext } from '../../src/engine/context.ts';
import { clockFault, indexState } from '../../src/engine/index-state.ts';
import { type IndexOptions, indexTargets } from '../../src/engine/index-targets.ts';
import {
  indexFilter,
  listArchives,
  newestCompleteRun,
  parseDateRange,
} from '../../src/engine/list-archives.ts';
import { PhdError } from '../../src/errors.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

const UUID = '564d1e34-4364-1808-23fd-e56565add965';
const FOLDER = `2026.03.01-web.${UUID}.FULL`;
const FULL = '00-web.vmdk.gz-260301-1000.phd';
const EMPTY = '00-web.vmdk.delta-2026.03.01-1000-260301-1000.phd';
const DAY_MS = 86_400_000;

let home: TempHome;
let context: EngineContext;
let nowMs: number;

beforeEach(async () => {
  home = makeTempHome();
  nowMs = new Date(2026, 2, 2, 12).getTime();
  home.writeConfig(`targets:
  - { number: 1, name: one, transport: vmfs, path: one }
  - { number: 2, name: two, transport: vmfs, path: two }
`);
  home.folder('one');
  home.folder('two');
  context = await openContext({ env: home.env, clock: { now: () => new Date(nowMs) } });
});

afterEach(async () => {
  await context.close();
  home.remove();
});

function put(target: 'one' | 'two', folder: string, file: string, content = 'x'): string {
  return home.write(path.join(target, folder, file), content);
}

function setFolderTime(folder: string, ms: number): void {
  utimesSync(path.join(home.root, 'one', folder), ms / 1000, ms / 1000);
}

const index = (options: IndexOptions = {}) => indexTargets(context, options);
const files = () =>
  listArchives(context, {}, { limit: 100 })
    .map((row) => row.file)
    .sort();

describe('listing targets', () => {
  it('finds archives, counts what is none, and passes over hostile names', async () => {
    put('one', FOLDER, FULL);
    put('one', FOLDER, EMPTY);
    put('one', FOLDER, 'notes.txt');
    put('one', FOLDER, 'a\u001b[2J.vmdk.gz-260301-1000.phd');
    mkdirSync(path.join(home.root, 'one', FOLDER, '01-sub.vmdk.gz-260301-1000.phd'));
    put('one', 'lost+found', FULL);
    writeFileSync(path.join(home.root, 'one', 'stray'), '');
    const [one, two] = await index();
    expect(one).toMatchObject({
      outcome: 'complete',
      folderCount: 2,
      archiveCount: 2,
      strayEntries: 5,
      error: null,
    });
    expect(two).toMatchObject({ outcome: 'complete', archiveCount: 0 });
    expect(files()).toEqual([EMPTY, FULL]);
  });

  it('an archive being written, or empty, is listed as arriving or cut', async () => {
    put('one', FOLDER, `${FULL}.part`);
    put('one', FOLDER, EMPTY, '');
    await index();
    expect(listArchives(context, {}, { limit: 9 }).map((row) => row.complete)).toEqual([false, false]);
  });

  it('DELTAs of the second generation are listed under the name of their folder, as foreign', async () => {
    put('one', 'esx1', '1001-dft01.vmdk.delta-2006.04.19-2001-060402');
    await index();
    expect(listArchives(context, {}, { limit: 9 })).toMatchObject([{ vm: 'esx1', uuid: '', foreign: true }]);
  });

  it('one bad target fails by itself, and its rows stay', async () => {
    put('one', FOLDER, FULL);
    put('two', FOLDER, FULL);
    await index();
    rmSync(path.join(home.root, 'two'), { recursive: true });
    nowMs += DAY_MS;
    put('one', FOLDER, EMPTY);
    const [one, two] = await index();
    expect(one).toMatchObject({ outcome: 'complete', archiveCount: 2 });
    expect(two).toMatchObject({ outcome: 'failed', error: { code: 'TARGET_UNREACHABLE' } });
    expect(files()).toEqual([EMPTY, FULL, FULL]);
    expect(context.index.targets()[1]).toMatchObject({
      listedMs: nowMs - DAY_MS,
      triedMs: nowMs,
      error: expect.stringContaining('two'),
    });
  });

  it('what is gone from a completely listed target is gone from the index', async () => {
    put('one', FOLDER, FULL);
    put('one', `2026.03.01-db.${UUID}`, '00-db.vmdk.gz-260301-1000.phd');
    await index();
    rmSync(path.join(home.root, 'one', FOLDER), { recursive: true });
    const [one] = await index();
    expect(one?.removedFolders).toBe(1);
    expect(files()).toEqual(['00-db.vmdk.gz-260301-1000.phd']);
  });

  it('a list that is cut means unknown: nothing goes, and the age of the index stays', async () => {
    put('one', FOLDER, FULL);
    put('one', FOLDER, EMPTY);
    put('one', `2026.03.01-db.${UUID}`, '00-db.vmdk.gz-260301-1000.phd');
    await index({ targets: [1] });
    const listedMs = nowMs;
    const storage = await context.storage(1);
    const list = storage.list.bind(storage);
    (storage as { list: Storage['list'] }).list = async (folder, signal) => {
      const whole = await list(folder, signal);
      return { entries: whole.entries.slice(0, 1), complete: false };
    };
    nowMs += DAY_MS;
    const [one] = await index({ targets: [1], scope: 'all' });
    expect(one).toMatchObject({ outcome: 'partial', removedFolders: 0, error: { code: 'TARGET_LIED' } });
    expect(files()).toHaveLength(3);
    expect(context.index.targets()[0]?.listedMs).toBe(listedMs);
  });

  it('a folder whose listing fails keeps its rows; the others are listed', async () => {
    put('one', FOLDER, FULL);
    await index({ targets: [1] });
    const other = `2026.03.02-db.${UUID}`;
    put('one', other, '00-db.vmdk.gz-260302-1000.phd');
    const storage = await context.storage(1);
    const list = storage.list.bind(storage);
    (storage as { list: Storage['list'] }).list = async (folder, signal) => {
      if (folder === FOLDER) throw new PhdError('TARGET_REFUSED', 'permission denied');
      return list(folder, signal);
    };
    const [one] = await index({ targets: [1], scope: 'all' });
    expect(one).toMatchObject({ outcome: 'partial', error: { code: 'TARGET_REFUSED' } });
    expect(files()).toEqual([FULL, '00-db.vmdk.gz-260302-1000.phd'].sort());
  });

  it('a rebuilt index has the rows of the one that was deleted', async () => {
    put('one', FOLDER, FULL);
    put('two', FOLDER, EMPTY);
    await index();
    const before = listArchives(context, {}, { limit: 9 }).map(({ id, vmId, diskId, ...row }) => row);
    await context.close();
    for (const suffix of ['', '-wal', '-shm'])
      rmSync(path.join(home.root, 'state', `index.db${suffix}`), { force: true });
    context = await openContext({ env: home.env, clock: { now: () => new Date(nowMs) } });
    await index();
    const after = listArchives(context, {}, { limit: 9 }).map(({ id, vmId, diskId, ...row }) => row);
    expect(after).toHaveLength(2);
    expect(after.map((row) => row.file).sort()).toEqual(before.map((row) => row.file).sort());
    expect(new Set(after.map((row) => JSON.stringify(row)))).toEqual(
      new Set(before.map((row) => JSON.stringify(row))),
    );
  });

  it('is given up when cancelled', async () => {
    put('one', FOLDER, FULL);
    await expect(index({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});

describe('what is not listed again', () => {
  it('a target whose index is younger than the setting, if only old ones are asked for', async () => {
    await index();
    nowMs += 14 * 60_000;
    expect((await index({ scope: 'old' })).map((one) => one.outcome)).toEqual(['fresh', 'fresh']);
    nowMs += 2 * 60_000;
    expect((await index({ scope: 'old' })).map((one) => one.outcome)).toEqual(['complete', 'complete']);
  });

  it('a folder more than a day old that was complete; a manual re-index lists it all the same', async () => {
    put('one', FOLDER, FULL);
    setFolderTime(FOLDER, nowMs - 2 * DAY_MS);
    expect((await index({ targets: [1] }))[0]?.unchangedFolders).toBe(0);
    expect((await index({ targets: [1] }))[0]).toMatchObject({ unchangedFolders: 1, archiveCount: 1 });
    put('one', FOLDER, EMPTY);
    setFolderTime(FOLDER, nowMs - 2 * DAY_MS);
    expect((await index({ targets: [1] }))[0]?.archiveCount).toBe(1);
    expect((await index({ targets: [1], scope: 'all' }))[0]).toMatchObject({
      unchangedFolders: 0,
      archiveCount: 2,
    });
  });

  it('but never a young folder, a changed one, or one with an archive that is arriving', async () => {
    put('one', FOLDER, FULL);
    setFolderTime(FOLDER, nowMs - DAY_MS / 2);
    await index({ targets: [1] });
    expect((await index({ targets: [1] }))[0]?.unchangedFolders).toBe(0);
    setFolderTime(FOLDER, nowMs - 3 * DAY_MS);
    expect((await index({ targets: [1] }))[0]?.unchangedFolders).toBe(0);
    renameSync(
      path.join(home.root, 'one', FOLDER, FULL),
      path.join(home.root, 'one', FOLDER, `${FULL}.part`),
    );
    setFolderTime(FOLDER, nowMs - 4 * DAY_MS);
    await index({ targets: [1] });
    expect((await index({ targets: [1] }))[0]?.unchangedFolders).toBe(0);
  });
});

describe('the state of the index', () => {
  const state = () => indexState(context);

  it('tells of each target when it was listed, how old that is, and what went wrong since', async () => {
    expect(state().targets[0]).toMatchObject({ ageMs: null, isReached: null, isOld: true, error: null });
    await index();
    nowMs += 5 * 60_000;
    expect(state().targets[1]).toMatchObject({ ageMs: 5 * 60_000, isReached: true, isOld: false });
    rmSync(path.join(home.root, 'two'), { recursive: true });
    await index();
    nowMs += 10 * 60_000;
    expect(state().targets).toMatchObject([
      { number: 1, ageMs: 10 * 60_000, isReached: true, isOld: false, error: null },
      { number: 2, ageMs: 15 * 60_000, isReached: false, isOld: true, outcome: 'failed' },
    ]);
    expect(state().targets[1]?.error).toContain('target 2 (two)');
  });

  it('a target of which a listing was cut was reached, but is as old as before', async () => {
    await index({ targets: [1] });
    nowMs += DAY_MS;
    const storage = await context.storage(1);
    (storage as { list: Storage['list'] }).list = async () => ({ entries: [], complete: false });
    await index({ targets: [1] });
    expect(state().targets[0]).toMatchObject({ isReached: true, outcome: 'partial', ageMs: DAY_MS });
  });

  it('rows of a target that is not reached stay, marked with the time they were last seen', async () => {
    put('one', FOLDER, FULL);
    put('two', FOLDER, EMPTY);
    setFolderTime(FOLDER, nowMs - 3 * DAY_MS);
    await index();
    nowMs += DAY_MS;
    await index();
    const seenMs = nowMs;
    const browser = new ArchiveBrowser(context);
    const rows = () => browser.archives({}).firstPage(9);
    expect(rows().map((row) => row?.staleSinceMs)).toEqual([null, null]);
    renameSync(path.join(home.root, 'one'), path.join(home.root, 'away'));
    nowMs += DAY_MS;
    await index();
    expect(
      rows()
        .map((row) => [row?.targetNumber, row?.staleSinceMs])
        .sort(),
    ).toEqual([
      [1, seenMs],
      [2, null],
    ]);
    renameSync(path.join(home.root, 'away'), path.join(home.root, 'one'));
    await index();
    expect(rows().map((row) => row?.staleSinceMs)).toEqual([null, null]);
  });

  it('archives from the future are told and counted; an hour is let pass for the autumn', async () => {
    put('one', FOLDER, FULL);
    put('two', FOLDER, EMPTY);
    await index();
    expect(clockFault(context)).toBeNull();
    nowMs = new Date(2026, 2, 1, 9, 10).getTime();
    expect(state().clock).toMatchObject({ newestStamp: '2026-03-01T10:00', futureArchives: 0 });
    nowMs = new Date(2026, 2, 1, 8, 30).getTime();
    expect(clockFault(context)).toContain('2026-03-01 10:00');
    expect(state().clock).toMatchObject({ futureArchives: 2, fault: expect.stringContaining('2 archives') });
  });

  it('a clock that was set back behind the last listing is told', async () => {
    await index({ targets: [2] });
    nowMs -= DAY_MS;
    expect(state().clock).toMatchObject({ listedAhead: [2], fault: expect.stringContaining('target 2') });
    expect(state().targets[1]).toMatchObject({ ageMs: 0, isOld: true });
    await index({ targets: [2], scope: 'old' });
    expect(state().clock.fault).toBeNull();
  });
});

describe('the newest complete run', () => {
  /** Headers of archives behind a network are not read while indexing. */
  beforeEach(async () => {
    for (const number of [1, 2]) Object.assign(await context.storage(number), { transport: 'ssh' });
  });

  const run = `2026.03.02-web.${UUID}`;
  const delta = (scsiId: string, time = '1100') =>
    `${scsiId}-web.vmdk.delta-2026.03.02-${time}-260301-1000.phd`;
  const header = (runDisks: string[]): ArchiveHeader => ({
    runId: 'r',
    host: 'h',
    displayName: 'web',
    diskBytes: 1,
    runDisks,
    changedBlocks: 0,
    unreadableSectors: 0,
    foreign: false,
  });

  it('passes over runs that lack disks and says so; a header is read once', async () => {
    put('one', FOLDER, FULL);
    put('one', FOLDER, EMPTY);
    put('one', run, delta('00'));
    put('one', run, delta('00', '1200'));
    put('one', run, `${delta('01', '1200')}.part`);
    put('two', run, delta('00'));
    put('two', run, delta('01'));
    await index();
    const partial: string[] = [];
    let reads = 0;
    const find = (onOrBefore?: string) =>
      newestCompleteRun(
        context,
        { vm: 'web', ...(onOrBefore ? { onOrBefore } : {}) },
        async (row) => {
          reads++;
          return header(
            row.stamp.startsWith('2026-03-01') ? ['00 web.vmdk'] : ['00 web.vmdk', '01 web.vmdk'],
          );
        },
        (stamp, why) => partial.push(`${stamp} ${why}`),
      );
    const found = await find();
    expect(found.deltas.map((row) => [row.targetNumber, row.scsiId, row.stamp])).toEqual([
      [1, '00', '2026-03-02T11:00'],
      [2, '01', '2026-03-02T11:00'],
    ]);
    expect(partial).toEqual(['2026-03-02T12:00 disks missing: 01 web.vmdk']);
    expect((await find('2026-03-01T23:59')).stamp).toBe('2026-03-01T10:00');
    expect(reads).toBe(3);
    await find();
    expect(reads).toBe(3);
    await expect(find('2026-02-01T00:00')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('two VMs of one name are never mixed up', async () => {
    put('one', FOLDER, EMPTY);
    put('one', FOLDER.replace(UUID, UUID.replace('564d', '564e')), EMPTY);
    await index();
    const find = (vm: string) => newestCompleteRun(context, { vm }, async () => header(['00 web.vmdk']));
    await expect(find('web')).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining(UUID),
    });
    expect((await find(UUID.toUpperCase())).uuid).toBe(UUID);
    await expect(find('nobody')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('filters in the words of people', () => {
  it.each([
    ['2026-03-01', { from: '2026-03-01T00:00', to: '2026-03-01T23:59' }],
    ['2026-03-01T10:30', { from: '2026-03-01T10:30', to: '2026-03-01T10:30' }],
    ['2026-03-01..2026-03-02T10:00', { from: '2026-03-01T00:00', to: '2026-03-02T10:00' }],
  ])('%s', (text, range) => {
    expect(parseDateRange(text)).toEqual(range);
  });

  it.each([
    '',
    'today',
    '2026-02-30',
    '2026-03-01T24:00',
    '2026-03-02..2026-03-01',
    '2026-03-01..',
    'a..b..c',
  ])('%j is no date', (text) => {
    expect(() => parseDateRange(text)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });

  it('transport and VMFS choose targets', async () => {
    await context.close();
    home.writeConfig(`targets:
  - { number: 1, name: one, transport: vmfs, path: one }
  - { number: 2, name: two, transport: ftp, host: h, user: u, path: / }
  - { number: 3, name: three, transport: ssh, host: h, user: u, path: / }
`);
    context = await openContext({ env: home.env });
    expect(indexFilter(context, {}).targets).toBeUndefined();
    expect(indexFilter(context, { transport: 'ftp' }).targets).toEqual([2]);
    expect(indexFilter(context, { transport: 'ssh', vmfs: 'show' }).targets).toEqual([3]);
    expect(indexFilter(context, { vmfs: 'only' }).targets).toEqual([1]);
    expect(indexFilter(context, { vmfs: 'hide' }).targets).toEqual([2, 3]);
    expect(indexFilter(context, { vmfs: 'hide', target: 1 }).targets).toEqual([]);
  });
});
