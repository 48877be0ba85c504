/** A VM that goes to two targets within a minute: two runs with two stamps, and no restore puts disks of both together. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type * as Library from '../../src/engine/index.ts';
import type * as Lists from '../../src/engine/list-archives.ts';
import { giveBackStamp, reserveStamp } from '../../src/engine/run-stamp.ts';
import { HOOK_TIMEOUT_MS, Tale } from './tale.ts';

const BUILT = new URL('../../dist/src/engine/', import.meta.url).href;
const phd = (await import(`${BUILT}index.js`)) as typeof Library;
const { listArchives, rowsByRun } = (await import(`${BUILT}list-archives.js`)) as typeof Lists;
const DISKS = ['duo.vmdk', 'duo_1.vmdk'];
const flatOf = (disk: string): string => disk.replace('.vmdk', '-flat.vmdk');
let tale: Tale;
let folder: string;

beforeAll(async () => {
  tale = new Tale({ targets: ['one', 'two'] });
  const sizeBytes = 524_288;
  ({ folder } = await tale.makeVm(
    'duo',
    DISKS.map((name) => ({ name, sizeBytes })),
  ));
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());

function write(content: string): void {
  for (const disk of DISKS) writeFileSync(path.join(folder, flatOf(disk)), Buffer.alloc(524_288, content));
}

async function backup(target: string, ...words: string[]): Promise<void> {
  const run = await tale.phd(['backup', folder, '--target', target, '--json', ...words]);
  expect(run.status).toBe(0);
}

it('has a stamp for each run, and the newest run is restored whole', async () => {
  write('A');
  await backup('1');
  write('B');
  await backup('2', '--full');
  write('C');
  await backup('1');
  write('D');
  await backup('2', '--full');
  const list = await tale.phd(['list', '--vm', 'duo', '--json']);
  const rows = list.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { time: string; runId: string | null });
  const runsOf = new Map<string, Set<string>>();
  for (const { time, runId } of rows)
    if (runId !== null) runsOf.set(time, (runsOf.get(time) ?? new Set()).add(runId));
  expect([...runsOf.values()].map((ids) => ids.size)).toEqual([1, 1, 1, 1]);
  const to = tale.path('restored');
  expect((await tale.phd(['restore', '--vm', 'duo', '--to', to])).status).toBe(0);
  for (const disk of DISKS)
    expect(readFileSync(path.join(to, flatOf(disk))).equals(Buffer.alloc(524_288, 'D'))).toBe(true);
});

it('two homes that made a run of one stamp each: disks of both are never put together', async () => {
  const clock = { now: () => new Date(2026, 10, 1, 9, 0) };
  const other = new Tale();
  const pair = await tale.makeVm(
    'pair',
    DISKS.map((name) => ({ name, sizeBytes: 524_288 })),
  );
  const target = tale.path('three');
  tale.configure({ targets: ['one', 'two', 'three'] });
  other.home.writeConfig(
    `targets: [{ number: 3, name: three, transport: vmfs, path: ${target} }]\ndatastores: [${tale.datastore}]\n`,
  );
  for (const [home, number, content] of [
    [tale, 1, 'E'],
    [other, 3, 'F'],
  ] as const) {
    for (const { flatPath } of pair.disks) writeFileSync(flatPath, Buffer.alloc(524_288, content));
    const context = await phd.openContext({ env: home.home.env, clock });
    const { disks } = await phd.backup(context, { folder: pair.folder, target: number, mode: 'full' });
    expect(disks).toHaveLength(2);
    await context.close();
  }
  // Of one disk of each run alone nothing is left.
  for (const [name, disk] of [
    ['one', DISKS[0]],
    ['three', DISKS[1]],
  ] as const) {
    for (const file of tale
      .filesOn(name)
      .filter((one) => one.includes('261101-0900') && one.includes(`-${disk}.`)))
      rmSync(tale.path(name, file));
  }
  await tale.phd(['index']);
  const words = ['--vm', 'pair', '--date', '2026-11-01', '--to', tale.path('mixed')];
  const run = await tale.phd(['restore', ...words]);
  expect(run.status).toBe(1);
  expect(run.stderr).toMatch(/the run of 2026-11-01 09:00 is not taken: disks missing: .*; disks missing: /);
  const context = await phd.openContext({ env: tale.home.env });
  const rows = listArchives(context, { from: '2026-11-01T09:00', to: '2026-11-01T09:00' }, { limit: 9 });
  expect(
    rowsByRun(rows).map((ofRun) => ofRun.filter(({ kind }) => kind === 'delta').map(({ disk }) => disk)),
  ).toEqual(expect.arrayContaining([[DISKS[0]], [DISKS[1]]]));
  await context.close();
  other.remove();
});

it('a stamp is given away once to a VM, and forgotten after some days', () => {
  const state = tale.path('stamps');
  const now = new Date(2026, 0, 10, 12, 0);
  const first = reserveStamp(state, 'u1', '2026-01-10T12:00', now);
  expect([first, reserveStamp(state, 'u1', first, now), reserveStamp(state, 'u1', first, now)]).toEqual([
    '2026-01-10T12:00',
    '2026-01-10T12:01',
    '2026-01-10T12:02',
  ]);
  expect(reserveStamp(state, 'u2', first, now)).toBe(first);
  giveBackStamp(state, 'u1', '2026-01-10T12:01');
  expect(reserveStamp(state, 'u1', first, now)).toBe('2026-01-10T12:01');
  const later = new Date(2026, 0, 20, 12, 0);
  reserveStamp(state, 'u1', '2026-01-20T12:00', later);
  expect(reserveStamp(state, 'u1', first, later)).toBe(first);
});
