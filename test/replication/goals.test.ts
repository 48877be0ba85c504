/** Where lines may write: each is judged alone, and what is wrong with one is no matter of another. */
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type MountTables, parseMountTables } from '../../src/engine/unmounted-volume.ts';
import { checkGoals } from '../../src/replication/goals.ts';
import { parseVmdksAuto } from '../../src/replication/vmdks-auto.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

let home: TempHome;
beforeEach(() => {
  home = makeTempHome();
  home.folder('vmfs/one');
  home.folder('vmfs/two');
});
afterEach(() => home.remove());

const at = (...parts: string[]): string => path.join(home.root, ...parts);

/** Why each of these goals is refused; null where it is not. */
async function judge(
  goals: readonly string[],
  datastores = [at('vmfs')],
  mounts?: MountTables,
): Promise<(string | null)[]> {
  const { restores } = parseVmdksAuto(goals.map((goal) => `RESTORE:a|*|*|a.vmdk|${goal}\n`).join(''));
  expect(restores).toHaveLength(goals.length);
  const faults = await checkGoals(restores, datastores, mounts);
  return restores.map((line) => faults.get(line)?.message ?? null);
}

it('inside a datastore a folder may be missing, a volume may not', async () => {
  expect(
    await judge([
      at('vmfs/one/new/a.vmdk'),
      at('vmfs/gone/new/a.vmdk'),
      at('vmfs/two/a.vmdk'),
      at('vmfs/a.vmdk'),
    ]),
  ).toEqual([
    null,
    expect.stringContaining(`${at('vmfs/gone')} is not there: is its volume mounted?`),
    null,
    null,
  ]);
});

it('a datastore that vanished is named, and lines onto another go on; one that comes back is taken again', async () => {
  const goals = [at('san/a/a.vmdk'), at('vmfs/one/a.vmdk')];
  const datastores = [at('san'), at('vmfs')];
  expect(await judge(goals, datastores)).toEqual([`${at('san')} is not there: is its volume mounted?`, null]);
  mkdirSync(at('san'));
  expect(await judge(goals, datastores)).toEqual([null, null]);
  rmSync(at('san'), { recursive: true });
  writeFileSync(at('san'), 'a file now');
  expect((await judge(goals, datastores))[1]).toBeNull();
});

it('two lines onto one disk: by its name, by its flat, by another way to its folder; the first one stays', async () => {
  symlinkSync(at('vmfs/one'), at('vmfs/also-one'));
  const faults = await judge([
    at('vmfs/one/a.vmdk'),
    at('vmfs/one/a.vmdk'),
    at('vmfs/one/a-flat.vmdk'),
    at('vmfs/also-one/a.vmdk'),
    at('vmfs/one/b.vmdk'),
    at('vmfs/two/a.vmdk'),
  ]);
  expect(faults.map((fault) => fault !== null)).toEqual([false, true, true, true, false, false]);
  expect(faults[3]).toContain('line 1 restores onto');
});

it('outside every datastore, and by a link out of one', async () => {
  symlinkSync('/etc', at('vmfs/way-out'));
  const faults = await judge(['/etc/a.vmdk', at('vmfs/way-out/a.vmdk'), `${at('vmfs')}-2/a.vmdk`]);
  for (const fault of faults) expect(fault).toMatch(/lies outside every datastore|is not there/);
  expect(await judge([at('vmfs/one/a.vmdk')], [])).toEqual([
    expect.stringContaining('no datastore is configured'),
  ]);
});

it('10,000 lines are judged in a moment', async () => {
  const startedMs = performance.now();
  const faults = await judge(Array.from({ length: 10_000 }, (_, n) => at(`vmfs/one/vm${n}/a.vmdk`)));
  expect(faults.every((fault) => fault === null)).toBe(true);
  expect(performance.now() - startedMs).toBeLessThan(10_000);
});

it('a volume of /etc/fstab that is not mounted is no place to write to, although its folder is there', async () => {
  const fstab = [
    '# /dev/sdz /never ext4 defaults 0 0',
    `/dev/sda1 / ext4 defaults 0 1`,
    `/dev/sdb1 ${at('vmfs/one')} ext4 defaults 0 2`,
    `server:/two ${at('vmfs/two/')} nfs _netdev 0 0`,
    '/dev/sdc1 none swap sw 0 0',
  ].join('\n');
  const info = (point: string): string => `36 35 98:0 / ${point} rw,noatime shared:1 - ext4 /dev/x rw`;
  const goals = [at('vmfs/one/new/a.vmdk'), at('vmfs/two/a.vmdk'), at('vmfs/a.vmdk')];
  const judged = (...mounted: string[]) =>
    judge(goals, [at('vmfs')], parseMountTables(fstab, ['/', ...mounted].map(info).join('\n')));
  const words = (name: string) =>
    expect.stringContaining(`${at('vmfs', name)} stands in /etc/fstab and is not mounted`);
  expect(await judged()).toEqual([words('one'), words('two'), null]);
  expect(await judged(at('vmfs/one'))).toEqual([null, words('two'), null]);
  expect(await judged(at('vmfs/one'), at('vmfs/two'))).toEqual([null, null, null]);
  // Where nobody can tell what is mounted, nothing is refused for it.
  expect(await judge(goals, [at('vmfs')], parseMountTables(fstab, ''))).toEqual([null, null, null]);
});
