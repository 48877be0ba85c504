/** A VM that goes to two targets within a minute: two runs with two stamps, and no restore puts disks of both together. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { giveBackStamp, reserveStamp } from '../../src/engine/run-stamp.ts';
import { HOOK_TIMEOUT_MS, Tale } from './tale.ts';

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
