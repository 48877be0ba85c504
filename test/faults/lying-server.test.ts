/**
 * A server that lies or dies while `phd backup` or `phd restore` is at work: never a false success, nothing that
 * bears the name of an archive or of a disk without being one, and all is well once the server is. Some faults here;
 * `PHD_CAMPAIGN=10` has them all.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { EngineContext } from '../../src/engine/context.ts';
import { changeImage, makeVmFolder, type TestVm } from '../support/disk-images.ts';
import { type Lie, type LyingServer, startLyingServer } from '../support/servers/lying-ftpd.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';
import { archivesUnder, CAMPAIGN, loadEngine } from './farm.ts';
import { type Ended, errorLines, phd } from './processes.ts';

let home: TempHome;
let vm: TestVm;
let server: LyingServer;
/** What the server held before a lie. */
let kept: Map<string, Buffer>;
let full: string;
let outs = 0;

const isArchive = (name: string): boolean => name.endsWith('.phd');
const flat = (): Buffer => readFileSync((vm.disks[0] as TestVm['disks'][number]).flatPath);

beforeAll(async () => {
  home = makeTempHome();
  server = await startLyingServer('none');
  home.write('secrets/ftp', 'a password\n');
  home.writeConfig(`targets:
  - { number: 2, name: far, transport: ftp, host: 127.0.0.1, port: ${server.port}, user: u, passwordFile: secrets/ftp, path: /, timeoutSeconds: 2, maxConnections: 2 }
datastores: [ store ]
`);
  vm = await makeVmFolder(home.folder('store'), {
    vmName: 'vm',
    disks: [{ name: 'd.vmdk', sizeBytes: 3 * 2 ** 20 }],
  });
  const made = await phd(['backup', vm.folder, '--full'], { env: home.env });
  expect(made.status, made.stderr).toBe(0);
  kept = new Map(server.files);
  full = [...kept.keys()].find((name) => name.includes('.gz-')) as string;
});
afterAll(async () => {
  await server.stop();
  home.remove();
});
beforeEach(() => {
  server.lie = 'none';
});

async function withContext<T>(work: (context: EngineContext) => Promise<T>): Promise<T> {
  const engine = await loadEngine();
  const context = await engine.openContext({ env: home.env });
  try {
    return await work(context);
  } finally {
    await context.close();
  }
}

/** Archives that were added, by name. */
const addedArchives = (): string[] =>
  [...server.files.keys()].filter((name) => isArchive(name) && !kept.has(name));

/** Restores by the library what was added; all must be what was backed up. */
async function expectAddedRestorable(what: string): Promise<void> {
  const engine = await loadEngine();
  await withContext(async (context) => {
    for (const name of addedArchives()) {
      outs += 1;
      const to = path.join(home.root, `out-${outs}`);
      const result = await engine.restore(context, {
        archive: await engine.archiveRef(context, `2:${name.slice(1)}`),
        to,
      });
      expect(readFileSync(result.flatPath).equals(flat()), `${what}: ${name}`).toBe(true);
    }
  });
}

function expectClear(ended: Ended, what: string): void {
  const lines = errorLines(ended);
  expect(lines.length, `${what}: ${ended.stderr}`).toBeGreaterThan(0);
  expect(ended.stderr, what).not.toMatch(/^\s+at .*:\d+:\d+\)?$/m);
  expect(lines.join('\n'), what).toMatch(/127\.0\.0\.1|target 2|\.phd/);
}

/** Lie, and statuses of a backup that meets it; 0 where the program finds a way. */
const IN_BACKUP: [Lie, number[], 'rare'?][] = [
  ['short store', [4]],
  ['changed store', [4], 'rare'],
  ['lost store', [4]],
  ['wrong size', [4], 'rare'],
  ['full disk', [6]],
  ['death in write', [4]],
  ['cut write', [0]],
  ['cut write for good', [0, 4], 'rare'],
  ['thrown out', [4], 'rare'],
  ['always busy', [4], 'rare'],
  ['no rename', [4]],
  ['no delete', [4], 'rare'],
  ['broken list', [4]],
  ['cut list', [0], 'rare'],
];

const wanted = <T extends readonly unknown[]>(faults: T[]): T[] =>
  faults.filter((fault) => CAMPAIGN >= 10 || fault[2] !== 'rare');

describe('a backup to a server with the fault', () => {
  it.each(wanted(IN_BACKUP))('%s ends with %j', async (lie, statuses) => {
    kept = new Map(server.files);
    server.lie = lie;
    const ended = await phd(['backup', vm.folder, '--full', '--target', '2'], { env: home.env });
    server.lie = 'none';
    expect(statuses, `${ended.status}: ${ended.stderr}`).toContain(ended.status);
    if (ended.status !== 0) expectClear(ended, lie);
    expect(addedArchives()).toHaveLength(ended.status === 0 ? 2 : 0);
    for (const [name, bytes] of kept) expect(server.files.get(name)?.equals(bytes), name).toBe(true);
    const engine = await loadEngine();
    const next = await withContext((context) =>
      engine.backup(context, { folder: vm.folder, mode: 'full', target: 2 }),
    );
    expect(next.failed).toEqual([]);
    expect([...server.files.keys()].filter((name) => name.endsWith('.part'))).toEqual([]);
    await expectAddedRestorable(lie);
  });

  it('a FULL that a cut list does not show is not taken as gone: the DELTA is made, and restores', async () => {
    server.lie = 'cut list';
    await changeImage((vm.disks[0] as TestVm['disks'][number]).flatPath, 1, 'cut list');
    const ended = await phd(['backup', vm.folder, '--target', '2', '--json'], { env: home.env });
    server.lie = 'none';
    expect(ended.status, ended.stderr).toBe(0);
    const line = ended.stdout.split('\n').find((one) => one.includes('"done"')) as string;
    const { archive, mode } = JSON.parse(line) as { archive: string; mode: string };
    expect(mode).toBe('delta');
    // Later than its FULL, though the list did not show that.
    const [, own = '', ofFull = ''] =
      /-\d{2}(\d{2}\.\d{2}\.\d{2}-\d{4})-(\d{6}-\d{4})\.phd$/.exec(archive) ?? [];
    expect(own.replaceAll('.', '') > ofFull, archive).toBe(true);
    const engine = await loadEngine();
    const out = path.join(home.root, 'out-cut-list');
    await withContext(async (context) => {
      await engine.restore(context, { archive: await engine.archiveRef(context, archive), to: out });
    });
    expect(readFileSync(path.join(out, 'd-flat.vmdk')).equals(flat())).toBe(true);
  });
});

const IN_RESTORE: [Lie, number[], 'rare'?][] = [
  ['short read', [4]],
  ['changed read', [3]],
  ['changed first read', [0]],
  ['cut read', [0], 'rare'],
  ['death in read', [4]],
  ['stalled read', [4], 'rare'],
  ['wrong size', [0], 'rare'],
  ['always busy', [4], 'rare'],
  ['broken list', [0], 'rare'],
];

describe('a restore from a server with the fault', () => {
  it.each(wanted(IN_RESTORE))('%s ends with %j', async (lie, statuses) => {
    outs += 1;
    const out = path.join(home.root, `out-${outs}`);
    const words = ['restore', `2:${full.slice(1)}`, '--to', out];
    const disk = await restoredByHand();
    server.lie = lie;
    const ended = await phd(words, { env: home.env });
    server.lie = 'none';
    expect(statuses, `${ended.status}: ${ended.stderr}`).toContain(ended.status);
    const goal = path.join(out, 'd-flat.vmdk');
    if (ended.status === 0) expect(readFileSync(goal).equals(disk), lie).toBe(true);
    else {
      expectClear(ended, lie);
      expect(archivesUnder(out).filter((name) => !name.endsWith('.part'))).toEqual([]);
      const next = await phd(words, { env: home.env });
      expect(next.status, next.stderr).toBe(0);
      expect(readFileSync(goal).equals(disk), `after ${lie}`).toBe(true);
    }
    expect(existsSync(`${goal}.part`)).toBe(false);
  });

  /** The disk of the first FULL, by plain gzip. */
  async function restoredByHand(): Promise<Buffer> {
    const { gunzipSync } = await import('node:zlib');
    return gunzipSync(kept.get(full) as Buffer);
  }
});

describe('an index of a server with the fault', () => {
  it.each(['broken list', 'cut list'] as const)('%s keeps what was known', async (lie) => {
    const rows = async (): Promise<string[]> => {
      const listed = await phd(['list', '--json'], { env: home.env });
      expect(listed.status, listed.stderr).toBe(0);
      return listed.stdout
        .split('\n')
        .flatMap((line) => (line ? [(JSON.parse(line) as { path: string }).path] : []));
    };
    expect((await phd(['index', '--force'], { env: home.env })).status).toBe(0);
    const before = await rows();
    expect(before.length).toBeGreaterThan(2);
    server.lie = lie;
    const ended = await phd(['index', '--force'], { env: home.env });
    server.lie = 'none';
    expect(ended.status, ended.stderr).toBe(4);
    expect(ended.stderr).toMatch(lie === 'cut list' ? /the list of .* was cut/ : /426/);
    expect(await rows()).toEqual(before);
  });
});
