/** The package as a library: the same operations, with progress as events and cancel by AbortSignal. */
import { createRequire } from 'node:module';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type * as Library from '../../src/engine/index.ts';
import { changeImage, type TestVm } from '../support/disk-images.ts';
import { fileDigest, MIB, namesIn, only, Tale } from './tale.ts';

let phd: typeof Library;
let tale: Tale;
let vm: TestVm;
let ctx: Library.EngineContext;
let delta: string;

const open = (): Promise<Library.EngineContext> => phd.openContext({ env: tale.home.env });

beforeAll(async () => {
  const exported = createRequire(import.meta.url).resolve('phd');
  phd = (await import(exported)) as typeof Library;
  tale = new Tale();
  vm = await tale.makeVm('Lib', [{ name: 'Lib.vmdk', sizeBytes: 8 * MIB }]);
  ctx = await open();
});
afterAll(async () => {
  await ctx.close();
  tale.remove();
});

describe('Another program', () => {
  it('backs up a VM as FULL, then as DELTA, and sees how it goes', async () => {
    const events: Library.ProgressEvent[] = [];
    const onProgress = (event: Library.ProgressEvent): number => events.push(event);
    const full = await phd.backup(ctx, { folder: vm.folder }, { onProgress });
    expect(full.failed).toEqual([]);
    expect(only(full.disks)).toMatchObject({ mode: 'full', diskBytes: 8 * MIB });
    expect(events.at(-1)).toMatchObject({
      event: 'progress',
      label: 'Lib.vmdk',
      phase: 'full',
      percent: 100,
    });
    for (const event of events) expect(event.bytes).toBeLessThanOrEqual(event.totalBytes);
    await changeImage(vm.disks[0]?.flatPath ?? '', 3, 'after the FULL');
    const result = await phd.backup(ctx, { folder: vm.folder });
    const one = only(result.disks);
    expect(one).toMatchObject({ mode: 'delta', fullFolder: only(full.disks).folder });
    delta = `1:${one.folder}/${one.deltaFile}`;
  });

  it('indexes the targets, one event after the other, and lists', async () => {
    const events: Library.IndexEvent[] = [];
    const results = await phd.index(ctx, {
      scope: 'all',
      onEvent: (event) => void events.push(event),
    });
    expect(results).toMatchObject([{ targetNumber: 1, error: null }]);
    expect(events.at(-1)).toMatchObject({ targetNumber: 1, targetName: 'one' });
    expect(
      phd
        .list(ctx, {}, { limit: 10 })
        .map(({ kind }) => kind)
        .sort(),
    ).toEqual(['delta', 'delta', 'full']);
  });

  it('restores and verifies what it backed up', async () => {
    const to = tale.newFolder();
    const archive = await phd.archiveRef(ctx, delta);
    const phases = new Set<string>();
    const hooks = { onProgress: ({ phase }: Library.ProgressEvent) => void phases.add(phase) };
    const result = await phd.restore(ctx, { archive, to, verify: true }, hooks);
    expect(result).toMatchObject({ verified: true, unproved: false, disk: 'Lib.vmdk' });
    expect([...phases]).toEqual(['restore', 'verify']);
    expect(fileDigest(path.join(to, 'Lib-flat.vmdk'))).toBe(fileDigest(vm.disks[0]?.flatPath ?? ''));
    expect(await phd.verifyArchive(ctx, archive)).toMatchObject({ kind: 'delta', archive: delta });
    expect(await phd.verifyDisk(ctx, result.flatPath, archive)).toMatchObject({ kind: 'disk', blocks: 32 });
  });

  it('gets every failure as a PhdError of a known code', async () => {
    const { PhdError } = phd;
    const archive = await phd.archiveRef(ctx, delta.replace('00-', '07-'));
    const failure = await phd
      .restore(ctx, { archive, to: tale.newFolder() })
      .catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(PhdError);
    expect(failure).toMatchObject({ code: 'NOT_FOUND', exitStatus: 1, retryable: false });
  });
});

describe('A signal', () => {
  let slow: Library.EngineContext;

  beforeAll(async () => {
    tale.home.writeConfig(`targets:
  - { number: 1, name: one, transport: vmfs, path: one, bandwidthLimitBytesPerSecond: 800000 }
`);
    slow = await open();
  });
  afterAll(() => slow.close());

  it('cancels a backup, which leaves the target as it was', async () => {
    const before = tale.filesOn('one');
    const signal = AbortSignal.timeout(700);
    const work = phd.backup(slow, { folder: vm.folder, mode: 'full' }, { signal });
    await expect(work).rejects.toMatchObject({ code: 'CANCELLED', exitStatus: 130 });
    expect(tale.filesOn('one')).toEqual(before);
  });

  it('cancels a restore, which leaves nothing but the .part it will go on with', async () => {
    const to = tale.newFolder();
    const archive = await phd.archiveRef(slow, delta);
    const controller = new AbortController();
    const work = phd.restore(
      slow,
      { archive, to },
      { signal: controller.signal, onProgress: () => controller.abort() },
    );
    await expect(work).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(namesIn(to)).toEqual(['Lib-flat.vmdk.part']);
    const result = await phd.restore(ctx, { archive: await phd.archiveRef(ctx, delta), to });
    expect(result.kept).toBeGreaterThan(0);
    expect(fileDigest(result.flatPath)).toBe(fileDigest(vm.disks[0]?.flatPath ?? ''));
  });

  it('that has fired already begins nothing', async () => {
    const signal = AbortSignal.abort();
    const to = tale.newFolder();
    const archive = await phd.archiveRef(ctx, delta);
    for (const work of [
      () => phd.restore(ctx, { archive, to }, { signal }),
      () => phd.verifyArchive(ctx, archive, { signal }),
      () => phd.backup(ctx, { folder: vm.folder }, { signal }),
    ])
      await expect(work()).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(namesIn(to)).toEqual([]);
  });
});
