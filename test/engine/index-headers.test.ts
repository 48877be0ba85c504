import { rmSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type EngineContext, openContext } from '../../src/engine/context.ts';
import { headerOf } from '../../src/engine/delta-header.ts';
import { indexTargets } from '../../src/engine/index-targets.ts';
import { listArchives, newestRun } from '../../src/engine/list-archives.ts';
import { PhdError } from '../../src/errors.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';
import { FOREIGN_DELTA, smallDelta } from './small-delta.ts';

const UUID = '564d1e34-4364-1808-23fd-e56565add965';
const FOLDER = `2026.03.01-web.${UUID}.FULL`;
const NEXT = `2026.03.02-web.${UUID}`;
const STAMP = '2026-03-01T10:00';
const NEXT_STAMP = '2026-03-02T10:00';
const FULL = '00-web.vmdk.gz-260301-1000.phd';
const EMPTY = '00-web.vmdk.delta-2026.03.01-1000-260301-1000.phd';
const delta = (scsiId: string) => `${scsiId}-web.vmdk.delta-2026.03.02-1000-260301-1000.phd`;
const BOTH = ['00 web.vmdk', '01 web.vmdk'];
const EMPTY_BYTES = smallDelta({ uuid: UUID, stamp: STAMP });
const deltaBytes = (disk: string, runDisks = BOTH) =>
  smallDelta({ uuid: UUID, stamp: NEXT_STAMP, fullStamp: STAMP, disk, runDisks });

let home: TempHome;
let context: EngineContext;
const open = () => openContext({ env: home.env, clock: { now: () => new Date(2026, 2, 3, 12) } });

beforeEach(async () => {
  home = makeTempHome();
  home.writeConfig(`targets:
  - { number: 1, name: one, transport: vmfs, path: one }
  - { number: 2, name: two, transport: vmfs, path: two }
`);
  home.folder('one');
  home.folder('two');
  context = await open();
});

afterEach(async () => {
  await context.close();
  home.remove();
});

const put = (target: string, folder: string, file: string, content: string | Buffer = 'full') =>
  home.write(path.join(target, folder, file), content);
const index = (scope: 'changed' | 'all' = 'changed') => indexTargets(context, { scope });
const rows = () => listArchives(context, {}, { limit: 100 });
const states = () => Object.fromEntries(rows().map((row) => [`${row.targetNumber}:${row.file}`, row.state]));

/** Counts reads of a target, which is taken for one behind a network if asked. */
async function watch(number: number, transport: 'vmfs' | 'ssh' = 'vmfs'): Promise<() => number> {
  const storage = await context.storage(number);
  let reads = 0;
  const read = storage.read.bind(storage);
  Object.assign(storage, {
    transport,
    read: (...words: Parameters<Storage['read']>) => {
      reads++;
      return read(...words);
    },
  });
  return () => reads;
}

describe('a new DELTA on a vmfs target is opened while indexing', () => {
  it('and tells its run; its FULL bears the same, once each, encrypted or not', async () => {
    put('one', FOLDER, FULL);
    put('one', FOLDER, EMPTY, EMPTY_BYTES);
    put(
      'one',
      NEXT,
      delta('00').replace('.delta', '.delta.gpg'),
      smallDelta({ uuid: UUID, stamp: NEXT_STAMP, fullStamp: STAMP, encrypted: true }),
    );
    const reads = await watch(1);
    await index();
    const header = {
      runId: expect.any(String),
      host: 'esx1',
      displayName: 'Web',
      diskBytes: 1_048_576,
      runDisks: ['00 web.vmdk'],
      foreign: false,
      unreadableSectors: 0,
    };
    expect(rows().map((row) => [row.kind, row.stamp, row.header])).toEqual(
      expect.arrayContaining([
        ['delta', NEXT_STAMP, { ...header, changedBlocks: 3 }],
        ['delta', STAMP, { ...header, changedBlocks: 0 }],
        ['full', STAMP, { ...header, changedBlocks: null }],
      ]),
    );
    expect(reads()).toBe(2);
    await index('all');
    expect(reads()).toBe(2);
    put(
      'one',
      FOLDER,
      EMPTY,
      smallDelta({ uuid: UUID, stamp: STAMP, runDisks: Array(20).fill('00 web.vmdk') }),
    );
    await index('all');
    expect(reads()).toBe(3);
  });

  it('one without its end is arriving or cut, until it is whole', async () => {
    put('one', FOLDER, EMPTY, EMPTY_BYTES.subarray(0, -1));
    put('two', FOLDER, EMPTY, EMPTY_BYTES.subarray(0, 700));
    await index();
    expect(Object.values(states())).toEqual(['arriving or cut', 'arriving or cut']);
    put('one', FOLDER, EMPTY, EMPTY_BYTES);
    await index();
    expect(states()[`1:${EMPTY}`]).toBe('without FULL');
  });

  it('one of another program is foreign and never taken as the newest', async () => {
    put('one', FOLDER, EMPTY, EMPTY_BYTES);
    put('one', NEXT, delta('00'), FOREIGN_DELTA);
    await index();
    expect(states()).toEqual({ [`1:${EMPTY}`]: 'without FULL', [`1:${delta('00')}`]: 'foreign' });
    const passedOver: string[] = [];
    const found = await newestRun(context, { vm: 'web' }, (stamp, why) => passedOver.push(`${stamp} ${why}`));
    expect(found.map((row) => row.file)).toEqual([EMPTY]);
    expect(passedOver).toEqual([`${NEXT_STAMP} made by another program`]);
  });

  it('one that cannot be read stays as it is, unread', async () => {
    put('one', FOLDER, EMPTY, EMPTY_BYTES);
    const storage = await context.storage(1);
    Object.assign(storage, {
      // biome-ignore lint/correctness/useYield: it fails before its first piece
      read: async function* () {
        throw new PhdError('IO', 'input/output error');
      },
    });
    const [one] = await index();
    expect(one).toMatchObject({ outcome: 'complete', archiveCount: 1 });
    expect(rows()).toMatchObject([{ header: null, complete: true, state: 'without FULL' }]);
  });
});

describe('the state of a row', () => {
  it('is partial for each archive of a run that lacks disks, on any target', async () => {
    put('one', NEXT, delta('00'), deltaBytes('00 web.vmdk'));
    await index();
    expect(states()).toEqual({ [`1:${delta('00')}`]: 'partial' });
    put('two', NEXT, `${delta('01')}.part`, deltaBytes('01 web.vmdk'));
    await index();
    expect(states()[`1:${delta('00')}`]).toBe('partial');
    put('two', NEXT, delta('01'), deltaBytes('01 web.vmdk'));
    await index();
    expect(states()).toMatchObject({
      [`1:${delta('00')}`]: 'without FULL',
      [`2:${delta('01')}`]: 'without FULL',
    });
  });

  it('is "without DELTA" for a FULL until its empty DELTA lies whole in its folder', async () => {
    put('one', FOLDER, FULL);
    put('one', NEXT, EMPTY, EMPTY_BYTES);
    await index();
    expect(states()[`1:${FULL}`]).toBe('without DELTA');
    put('one', FOLDER, EMPTY, EMPTY_BYTES.subarray(0, -1));
    await index();
    expect(states()[`1:${FULL}`]).toBe('without DELTA');
    put('one', FOLDER, EMPTY, EMPTY_BYTES);
    await index();
    expect(states()[`1:${FULL}`]).toBeNull();
  });
});

describe('archives behind a network', () => {
  it('are not opened while indexing; what was written here is known all the same, at its size', async () => {
    put('one', NEXT, delta('00'), deltaBytes('00 web.vmdk'));
    put('one', NEXT, delta('01'), deltaBytes('01 web.vmdk'));
    const reads = await watch(1, 'ssh');
    const runDisks = BOTH.map((one) => ({ scsiId: one.slice(0, 2), disk: one.slice(3) }));
    const header = headerOf({
      runId: 'r',
      host: 'h',
      displayName: 'Web',
      diskBytes: 9,
      runDisks,
      changedBlocks: 1,
      unreadableSectors: 0,
    });
    const place = { targetNumber: 1, folder: NEXT };
    const { length } = deltaBytes('00 web.vmdk');
    context.index.recordWritten({ ...place, file: delta('00'), sizeBytes: length }, header);
    context.index.recordWritten({ ...place, file: delta('01'), sizeBytes: length + 1 }, header);
    await index();
    expect(reads()).toBe(0);
    expect(
      rows()
        .map((row) => [row.scsiId, row.header])
        .sort(),
    ).toEqual([
      ['00', header],
      ['01', null],
    ]);
    await index('all');
    expect(rows().find((row) => row.scsiId === '00')?.header).toEqual(header);
  });
});

describe('the newest complete run', () => {
  it('is taken from the good copy where another one is cut', async () => {
    put('one', NEXT, delta('00'), deltaBytes('00 web.vmdk', ['00 web.vmdk']).subarray(0, -1));
    put('two', NEXT, delta('00'), deltaBytes('00 web.vmdk', ['00 web.vmdk']));
    await watch(1, 'ssh');
    await index();
    expect((await newestRun(context, { vm: 'web' })).map((row) => row.targetNumber)).toEqual([2]);
    expect(states()).toMatchObject({
      [`1:${delta('00')}`]: 'arriving or cut',
      [`2:${delta('00')}`]: 'without FULL',
    });
  });

  it('is not one whose DELTAs, read only now, turn out foreign', async () => {
    put('one', NEXT, delta('00'), FOREIGN_DELTA);
    put('one', FOLDER, EMPTY, EMPTY_BYTES);
    await watch(1, 'ssh');
    await index();
    const passedOver: string[] = [];
    const found = await newestRun(context, { vm: 'web' }, (_, why) => passedOver.push(why));
    expect(found.map((row) => row.stamp)).toEqual([STAMP]);
    expect(passedOver).toEqual(['made by another program']);
    expect(states()[`1:${delta('00')}`]).toBe('foreign');
  });
});

describe('an index that is deleted and made anew', () => {
  it('has the rows of one that grew, headers and states included', async () => {
    const contents = fc.constantFrom('whole', 'cut', 'foreign', 'part', 'none');
    const files: [string, string, Buffer][] = [
      [FOLDER, FULL, Buffer.from('full')],
      [FOLDER, EMPTY, EMPTY_BYTES],
      [NEXT, delta('00'), deltaBytes('00 web.vmdk')],
      [NEXT, delta('01'), deltaBytes('01 web.vmdk')],
    ];
    const arrange = (target: string, kinds: readonly string[]) => {
      for (const [at, [folder, file, bytes]] of files.entries()) {
        rmSync(path.join(home.root, target, folder, file), { force: true });
        rmSync(path.join(home.root, target, folder, `${file}.part`), { force: true });
        const kind = kinds[at];
        if (kind === 'whole') put(target, folder, file, bytes);
        if (kind === 'cut') put(target, folder, file, bytes.subarray(0, -1));
        if (kind === 'foreign') put(target, folder, file, FOREIGN_DELTA);
        if (kind === 'part') put(target, folder, `${file}.part`, bytes);
      }
    };
    const plain = () =>
      rows()
        .map(({ id, vmId, diskId, ...row }) => JSON.stringify(row))
        .sort();
    const state = fc.tuple(contents, contents, contents, contents);
    const seen = new Set<string>();
    await fc.assert(
      fc.asyncProperty(state, state, state, async (first, then, other) => {
        arrange('one', first);
        arrange('two', other);
        await index('all');
        arrange('one', then);
        await index('all');
        const grown = plain();
        for (const row of rows()) seen.add(String(row.state));
        await context.close();
        for (const suffix of ['', '-wal', '-shm']) {
          rmSync(path.join(context.places.stateDir, `index.db${suffix}`), { force: true });
        }
        context = await open();
        expect(rows()).toEqual([]);
        await index('all');
        expect(plain()).toEqual(grown);
      }),
      { numRuns: 25 },
    );
    expect([...seen].sort()).toEqual([
      'arriving or cut',
      'foreign',
      'null',
      'partial',
      'without DELTA',
      'without FULL',
    ]);
  }, 60_000);
});
