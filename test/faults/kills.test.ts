/**
 * SIGKILL at random moments of backup and restore. `PHD_CAMPAIGN=10` runs ten times as many.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineContext } from '../../src/engine/context.ts';
import { changeImage, makeVmFolder, type TestVm } from '../support/disk-images.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';
import { archivesUnder, CAMPAIGN, loadEngine, randomOf, seedOf } from './farm.ts';
import { phd, sameFile } from './processes.ts';

const DISK_BYTES = 64 * 2 ** 20;
const KILLS = Math.round(6 * CAMPAIGN);
const seed = seedOf('kills');

let home: TempHome;
let vm: TestVm;
const random = randomOf(seed);

beforeAll(async () => {
  home = makeTempHome();
  home.writeConfig(
    'targets:\n  - { number: 1, name: local, transport: vmfs, path: one }\ndatastores: [ store ]\n',
  );
  home.folder('one');
  vm = await makeVmFolder(home.folder('store'), {
    vmName: 'vm',
    disks: [{ name: 'd.vmdk', sizeBytes: DISK_BYTES }],
  });
});
afterAll(() => home.remove());

const target = (): string => path.join(home.root, 'one');
const flat = (): string => vm.disks[0]!.flatPath;

async function withContext<T>(work: (context: EngineContext) => Promise<T>): Promise<T> {
  const engine = await loadEngine();
  const context = await engine.openContext({ env: home.env });
  try {
    return await work(context);
  } finally {
    await context.close();
  }
}

/** Everything that bears an archive's name verifies; returns how many there are. */
async function verifyAll(): Promise<number> {
  const engine = await loadEngine();
  return await withContext(async (context) => {
    const storage = await context.storage(1);
    const names = archivesUnder(target()).filter((name) => !name.endsWith('.part'));
    for (const name of names) {
      const ref = { storage, folder: path.dirname(name), file: path.basename(name) };
      await engine.verifyArchive(context, ref);
    }
    return names.length;
  });
}

function scratchFolders(): string[] {
  const folder = readdirSync(home.root, { recursive: true }).map(String);
  return folder.filter((name) => /(^|\/)scratch\/[^/]+$/.test(name));
}

async function emptyTarget(): Promise<void> {
  for (const name of readdirSync(target())) rmSync(path.join(target(), name), { recursive: true });
  expect((await phd(['index', '--force'], { env: home.env })).status).toBe(0);
}

/** Kills spread over the time that an undisturbed run takes, its end a little more often. */
const momentOf = (runMs: number): number => runMs * (0.15 + 0.9 * random());

describe('a backup that is killed', () => {
  it.each(['full', 'delta'] as const)(
    'leaves no %s that is taken for good, and the next run succeeds by itself',
    async (mode) => {
      await emptyTarget();
      const env = home.env;
      const first = await phd(['backup', vm.folder, '--full'], { env });
      expect(first.status, first.stderr).toBe(0);
      const words = ['backup', vm.folder, `--${mode}`];
      let killed = 0;
      let runMs = first.ms;
      for (let round = 0; round < KILLS; round += 1) {
        if (round % 4 === 0) await changeImage(flat(), 20, `${seed} ${mode} ${round}`);
        const before = archivesUnder(target()).length;
        const ended = await phd(words, { env, killAfterMs: momentOf(runMs) });
        if (ended.signal === 'SIGKILL') killed += 1;
        else {
          expect(ended.status, ended.stderr).toBe(0);
          runMs = ended.ms;
        }
        expect(await verifyAll(), `round ${round}`).toBeGreaterThanOrEqual(before > 0 ? 2 : 0);
        if (round % 3 !== 0) continue;
        const next = await phd(words, { env });
        expect(next.status, next.stderr).toBe(0);
        runMs = next.ms;
        expect(archivesUnder(target()).filter((name) => name.endsWith('.part'))).toEqual([]);
        expect(scratchFolders()).toEqual([]);
      }
      const last = await phd(words, { env });
      expect(last.status, last.stderr).toBe(0);
      await verifyAll();
      process.stdout.write(`backup --${mode}: ${killed} of ${KILLS} killed\n`);
      expect(killed).toBeGreaterThan(0);
      expect((await phd(['index', '--force'], { env })).status).toBe(0);
      const out = path.join(home.root, `out-${mode}`);
      const restored = await phd(['restore', '--vm', 'vm', '--to', out], { env });
      expect(restored.status, restored.stderr).toBe(0);
      expect(sameFile(path.join(out, 'd-flat.vmdk'), flat())).toBe(true);
    },
    600_000,
  );
});

describe('a restore that is killed', () => {
  it('leaves no disk that is taken for restored; the next run goes on and completes it', async () => {
    await emptyTarget();
    const env = home.env;
    for (const mode of ['--full', '--delta']) {
      const made = await phd(['backup', vm.folder, mode], { env });
      expect(made.status, made.stderr).toBe(0);
      await changeImage(flat(), 20, `${seed} restore`);
    }
    const made = await phd(['backup', vm.folder, '--delta'], { env });
    expect(made.status, made.stderr).toBe(0);
    expect((await phd(['index', '--force'], { env })).status).toBe(0);
    const out = path.join(home.root, 'out');
    const words = ['restore', '--vm', 'vm', '--to', out];
    const restoredFlat = path.join(out, 'd-flat.vmdk');
    let runMs = (await phd(words, { env })).ms;
    let killed = 0;
    for (let round = 0; round < KILLS; round += 1) {
      rmSync(out, { recursive: true, force: true });
      const ended = await phd(words, { env, killAfterMs: momentOf(runMs) });
      if (ended.signal === 'SIGKILL') killed += 1;
      else expect(ended.status, ended.stderr).toBe(0);
      if (existsSync(restoredFlat)) expect(sameFile(restoredFlat, flat()), `round ${round}`).toBe(true);
      rmSync(restoredFlat, { force: true });
      rmSync(path.join(out, 'd.vmdk'), { force: true });
      const next = await phd(words, { env });
      expect(next.status, next.stderr).toBe(0);
      expect(sameFile(restoredFlat, flat()), `round ${round}`).toBe(true);
      expect(archivesUnder(out)).toEqual(['d-flat.vmdk', 'd.vmdk']);
      expect(scratchFolders()).toEqual([]);
      runMs = (runMs + next.ms) / 2;
    }
    process.stdout.write(`restore: ${killed} of ${KILLS} killed\n`);
    expect(killed).toBeGreaterThan(0);
  }, 600_000);
});
