/** What retention must leave alone, through the real program: copies of a VM, other programs' archives, what is read now. */
import { cpSync, readdirSync, renameSync, rmSync, statSync, truncateSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type * as Prune from '../../src/backup-jobs/prune.ts';
import type * as Engine from '../../src/engine/index.ts';
import type * as Scratch from '../../src/engine/scratch.ts';
import { changeImage, makeVmFolder, type TestVm } from '../support/disk-images.ts';
import { fileDigest, flipByte, linesOf, MIB, only, Tale } from '../tales/tale.ts';

const BUILT = new URL('../../dist/src/', import.meta.url).href;
const engine = (await import(`${BUILT}engine/index.js`)) as typeof Engine;
const { planPrune, prune } = (await import(`${BUILT}backup-jobs/prune.js`)) as typeof Prune;
const { archivesBeingRead, claimReading, openScratch } = (await import(
  `${BUILT}engine/scratch.js`
)) as typeof Scratch;

let tale: Tale;
let vm: TestVm;
let flat: string;

beforeEach(async () => {
  tale = new Tale({ config: 'backupJobs:\n  - { name: a, vms: ["CRM"], keep: 1 }\n' });
  vm = await tale.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: 2 * MIB }]);
  flat = only(vm.disks).flatPath;
});
afterEach(() => tale.remove());

/** Backs up on days of November 2026, each day the disk is another; `N:folder/file` of each DELTA. */
async function backUpOn(
  days: readonly number[],
  mode: 'full' | 'delta' = 'full',
  folder = vm.folder,
): Promise<string[]> {
  const clock = { now: () => now };
  let now = new Date(2026, 10, 1);
  const context = await engine.openContext({ env: tale.home.env, clock });
  const archives: string[] = [];
  for (const day of days) {
    now = new Date(2026, 10, day, 9 + archives.length, 0);
    changeImage(flat, 1, `${day} ${archives.length}`);
    const { folder: at, deltaFile } = only((await engine.backup(context, { folder, mode })).disks);
    archives.push(`1:${at}/${deltaFile}`);
  }
  await context.close();
  return archives;
}

async function kept(): Promise<string[]> {
  const run = await tale.phd(['prune', '--dry-run', '--json']);
  return linesOf(run, 'keep').map(({ stamp, reason }) => `${String(stamp).slice(8, 10)} ${reason}`);
}

const archivesLeft = async (): Promise<unknown[]> =>
  linesOf(await tale.phd(['list', '--json', '--mode', 'delta'])).map(
    ({ target, path }) => `${target ?? 1}:${path}`,
  );

describe('Retention leaves alone', () => {
  it('VMs that bear one UUID, for the newest of one is not the newest of the other', async () => {
    cpSync(vm.folder, tale.path('vmfs', 'CRM copy'), { recursive: true });
    tale.configure({ config: 'backupJobs:\n  - { name: a, vms: ["CRM*"], keep: 1 }\n' });
    for (let turn = 0; turn < 2; turn++) {
      const run = await tale.phd(['backup', '--job', 'a', '--full']);
      expect(run.status, run.stderr).toBe(0);
      expect(run.stdout).toMatch(/CRM: CRM copy of .*vmfs bears the same UUID: nothing of it is removed/);
      expect(run.stdout).toMatch(/CRM copy: CRM of .* bears the same UUID/);
    }
    expect(await archivesLeft()).toHaveLength(4);
    expect((await tale.phd(['prune'])).stderr).toMatch(/CRM and CRM copy bear one UUID: nothing of them/);
    expect((await tale.phd(['preview'])).stderr).toMatch(
      /a: CRM: CRM copy of .* bears the same UUID: nothing/,
    );
  });

  it('the runs of each of two such VMs by themselves, where one is in no job', async () => {
    const copy = tale.path('vmfs', 'CRM copy');
    cpSync(vm.folder, copy, { recursive: true });
    await backUpOn([1]);
    await backUpOn([2, 3], 'full', copy);
    await backUpOn([4, 5]);
    await backUpOn([6], 'full', copy);
    expect(await kept()).toEqual(['06 one of the last 1 (1)', '05 one of the last 1 (1)']);
  });

  it('a VM of the same name with a UUID of its own, and says which is which', async () => {
    const twin = await makeVmFolder(tale.path('vmfs', 'store2'), {
      vmName: 'CRM',
      disks: [{ name: 'CRM.vmdk', sizeBytes: 2 * MIB }],
      seed: 'twin',
    });
    await backUpOn([1, 2]);
    await backUpOn([3], 'full', twin.folder);
    const run = await tale.phd(['prune', '--dry-run']);
    const lines = run.stdout
      .trim()
      .split('\n')
      .map((line) => /^(\S+) +CRM \((\S+)\) +2026-11-(\d\d)/.exec(line));
    expect(lines.map((line) => `${line?.[1]} ${line?.[3]}`).sort()).toEqual([
      'keep 02',
      'keep 03',
      'remove 01',
    ]);
    expect(new Set(lines.map((line) => line?.[2])).size).toBe(2);
  });

  it('archives of other programs', async () => {
    const [first = ''] = await backUpOn([1]);
    const folder = tale.path('one', first.slice(2).split('/')[0] as string);
    const full = only(readdirSync(folder).filter((name) => name.includes('.gz-')));
    const foreign = tale.path('one', folder.split('/').at(-1)?.replace('11.01', '10.05') as string);
    cpSync(folder, foreign, { recursive: true });
    for (const name of readdirSync(foreign)) if (name !== full) rmSync(`${foreign}/${name}`);
    renameSync(`${foreign}/${full}`, `${foreign}/${full.replace(/gz-\d{6}/, 'gz-261005')}`);
    await backUpOn([2]);
    await tale.phd(['index']);
    expect(await kept()).toEqual(['02 one of the last 1 (1)', '05 made by another program']);
  });

  it('the newest good copy where a newer FULL has lost its end', async () => {
    const [, second = ''] = await backUpOn([1, 2]);
    const folder = tale.path('one', second.slice(2).split('/')[0] as string);
    const full = `${folder}/${only(readdirSync(folder).filter((name) => name.includes('.gz-')))}`;
    truncateSync(full, Math.floor(statSync(full).size / 2));
    await tale.phd(['index']);
    const listed = linesOf(await tale.phd(['list', '--json', '--mode', 'full']));
    expect(listed.map(({ state }) => state)).toEqual(['arriving or cut', null]);
    expect((await kept()).map((line) => line.slice(0, 2))).toContain('01');
    expect(await kept()).toContain('01 one of the last 1 (1)');
  });

  it('what a restore reads, or waits to read', async () => {
    const [first = '', second = ''] = await backUpOn([1, 2]);
    expect(await kept()).toEqual(['02 one of the last 1 (1)']);
    const job = await tale.phd(['restore', first, '--to', tale.newFolder(), '--background']);
    expect(job.status, job.stderr).toBe(0);
    expect(await kept()).toContain('01 a restore reads it, or waits to');
    expect((await tale.phd(['jobs', 'remove-pending'])).status).toBe(0);
    const scratch = await openScratch(tale.path('state'));
    await claimReading(scratch, [first]);
    expect(await kept()).toContain('01 a restore reads it, or waits to');
    await scratch.remove();

    const context = await engine.openContext({ env: tale.home.env });
    const [, folder = '', file = ''] = /^1:(.*)\/(.*)$/.exec(first) ?? [];
    const claimed: string[][] = [];
    const onProgress = async (): Promise<void> => {
      claimed.push([...(await archivesBeingRead(tale.path('state')))]);
    };
    const to = tale.newFolder();
    const archive = { storage: await context.storage(1), folder, file };
    await engine.restore(context, { archive, to }, { onProgress: () => void onProgress() });
    await context.close();
    expect(claimed.flat()).toContain(first);
    expect(await archivesBeingRead(tale.path('state'))).toEqual(new Set());
    expect((await tale.phd(['prune'])).stdout).toContain('CRM: 1 run removed from target 1');
    expect(await archivesLeft()).toEqual([second]);
  });

  it('no DELTA alone: one whose FULL another home removed while it was made is no backup', async () => {
    const [first = ''] = await backUpOn([1]);
    const folder = tale.path('one', first.slice(2).split('/')[0] as string);
    const context = await engine.openContext({ env: tale.home.env });
    changeImage(flat, 1, 'later');
    const onProgress = (): void => rmSync(folder, { recursive: true, force: true });
    const { disks, failed } = await engine.backup(
      context,
      { folder: vm.folder, mode: 'delta' },
      { onProgress },
    );
    expect(disks).toEqual([]);
    expect(only(failed).error.message).toMatch(
      /the FULL .* was removed from target 1 while a DELTA was made/,
    );
    expect(readdirSync(tale.path('one')).filter((name) => name.includes('CRM'))).toEqual([]);
    const again = await engine.backup(context, { folder: vm.folder });
    expect(only(again.disks).mode).toBe('full');
    await context.close();
  });

  it('(and the preview knows) that a FULL which was found damaged is followed by a FULL', async () => {
    const [first = ''] = await backUpOn([1]);
    expect((await tale.phd(['preview', 'a'])).stdout).toMatch(/CRM \(.*\): DELTA to target 1/);
    const folder = tale.path('one', first.slice(2).split('/')[0] as string);
    const full = `${folder}/${only(readdirSync(folder).filter((name) => name.includes('.gz-')))}`;
    flipByte(full, Math.floor(statSync(full).size / 2));
    expect((await tale.phd(['verify', '--target', '1'])).status).toBe(3);
    const preview = await tale.phd(['preview', 'a']);
    expect(preview.stdout).toMatch(
      /CRM \(.*\): FULL to target 1, .* its FULL of 2026-11-01 09:00 was found damaged/,
    );
    const run = await tale.phd(['backup', '--job', 'a', '--json']);
    expect(run.status, run.stderr).toBe(0);
    // The damaged one has gone, now that there is a better one.
    const left = only(linesOf(await tale.phd(['list', '--json', '--mode', 'full'])));
    expect(String(left.time)).not.toContain('2026-11-01');
  });

  it('a run that is held between the plan and its doing', async () => {
    const [first = ''] = await backUpOn([1, 2]);
    const context = await engine.openContext({ env: tale.home.env });
    const [{ uuid } = {}] = linesOf(await tale.phd(['list', '--json']));
    const rules = { last: 1, daily: 0, weekly: 0, monthly: 0 };
    const plan = await planPrune(context, { targetNumber: 1, uuid: String(uuid) }, rules);
    expect((await tale.phd(['hold', first])).status).toBe(0);
    const warnings: string[] = [];
    expect(await prune(context, plan, (line) => void warnings.push(line))).toBe(0);
    expect(warnings).toEqual([expect.stringContaining('it is held now')]);
    await context.close();
    expect(await archivesLeft()).toHaveLength(2);
  });

  it('nothing of a folder that many runs share; they go without a word of trouble', async () => {
    await backUpOn([1]);
    const day = await backUpOn([2, 2, 2], 'delta');
    expect(new Set(day.map((one) => one.split('/')[0])).size).toBe(1);
    await backUpOn([3]);
    const run = await tale.phd(['prune']);
    expect(run.stderr).toBe('');
    expect(run.stdout).toContain('CRM: 4 runs removed from target 1');
    const [left] = await archivesLeft();
    expect(readdirSync(tale.path('one')).filter((name) => name.includes('CRM'))).toHaveLength(1);
    const to = tale.newFolder();
    await tale.restore([String(left), '--to', to]);
    expect(fileDigest(`${to}/CRM-flat.vmdk`)).toBe(fileDigest(flat));
  });
});
