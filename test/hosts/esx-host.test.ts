/**
 * Hot backup from an ESX host, through the built program and the real library, against a simulated host (its header says
 * what is real of it): what a restore gives is the disk at the moment of the snapshot, and no snapshot of ours stays.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type * as Library from '../../src/engine/index.ts';
import { OwnSnapshots, parseSnapshots } from '../../src/hosts/esx/esx-snapshot.ts';
import { listEsxVms, parseVmTable, pathOfPlace } from '../../src/hosts/esx/vm-list.ts';
import { randomLooking } from '../support/disk-images.ts';
import { type SimulatedEsx, startSimulatedEsx } from '../support/servers/esx/simulated-esx.ts';
import { BLOCK, fileDigest, HOOK_TIMEOUT_MS, linesOf, only, sha256, Tale } from '../tales/tale.ts';

const BUILT = new URL('../../dist/src/', import.meta.url).href;
const phd = (await import(`${BUILT}engine/index.js`)) as typeof Library;

const UUIDS = ['564d1111222233334444555566667777', '564d2222222233334444555566667777'];
const SHOWN_UUID = '564d1111-2222-3333-4444-555566667777';
const ODD_NAME = `it's [old], "odd"  & $(id)`;
const SIZE = 12 * BLOCK + 8_192;

/** Blocks 2 to 9 are zeros. */
function diskContent(seed: string): Buffer {
  const content = Buffer.alloc(SIZE);
  for (const block of [0, 1, 10, 11]) randomLooking(`${seed} ${block}`, BLOCK).copy(content, block * BLOCK);
  randomLooking(`${seed} end`, 8_192).copy(content, 12 * BLOCK);
  return content;
}

function written(content: Buffer, block: number, bytes: Buffer): Buffer {
  const copy = Buffer.from(content);
  bytes.copy(copy, block * BLOCK);
  return copy;
}

function hostLines(esx: SimulatedEsx, tale: Tale, name: string): string {
  tale.home.write(`${name}.key`, esx.privateKey);
  tale.home.write(`${name}.known`, `[127.0.0.1]:${esx.server.port} ${esx.hostKey}\n`);
  return `  - { name: ${name}, type: esx, host: 127.0.0.1, port: ${esx.server.port}, user: ${esx.server.user}, privateKeyFile: ${name}.key, knownHostsFile: ${name}.known, timeoutSeconds: 10 }\n`;
}

describe('An ESX host', () => {
  const tale = new Tale();
  let modern: SimulatedEsx;
  let old: SimulatedEsx;
  let context: Library.EngineContext;
  const web = diskContent('web');

  beforeAll(async () => {
    [modern, old] = await Promise.all([startSimulatedEsx({ python: true }), startSimulatedEsx()]);
    for (const [at, esx] of [modern, old].entries()) {
      esx.addVm({
        id: 3,
        name: 'web',
        uuid: UUIDS[at],
        disks: [{ name: 'web.vmdk', content: web }],
        annotation: 'first line\n9      fake   [datastore1] fake\nlast',
      });
      esx.addVm({ id: 7, name: ODD_NAME, folder: ODD_NAME.replace(/["$]/g, '_'), power: 'off', disks: [] });
    }
    modern.addVm({
      id: 8,
      name: 'mixed',
      disks: [
        { name: 'mixed.vmdk', content: diskContent('mixed') },
        { name: 'free.vmdk', content: diskContent('free'), mode: 'independent-persistent' },
        {
          name: 'raw.vmdk',
          content: Buffer.alloc(512),
          descriptor:
            '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="vmfsRawDeviceMap"\nRW 1 VMFSRDM "raw-rdm.vmdk"\n',
        },
      ],
    });
    tale.configure({ config: `hosts:\n${hostLines(modern, tale, 'modern')}${hostLines(old, tale, 'old')}` });
    context = await phd.openContext({ env: tale.home.env });
  }, HOOK_TIMEOUT_MS);
  afterAll(async () => {
    await context?.close();
    await Promise.all([modern?.stop(), old?.stop()]);
    tale.remove();
  });
  afterEach(() => {
    for (const esx of [modern, old]) esx.clearFaults();
  });

  async function backUp(host: string, vm: string, more: Partial<Library.HostBackupRequest> = {}) {
    const warnings: string[] = [];
    const hooks = { onWarning: (text: string) => void warnings.push(text) };
    const result = await phd.backupHostVm(context, { host, vm, ...more }, hooks);
    return { ...result, warnings };
  }

  async function restored(archive: string): Promise<string> {
    const [, folder = '', file = ''] = /^1:(.+)\/([^/]+)$/.exec(archive) ?? [];
    const ref = { storage: await context.storage(1), folder, file };
    return fileDigest((await phd.restore(context, { archive: ref, to: tale.newFolder() })).flatPath);
  }

  it('lists its VMs with power and uuid, whatever they are called, in two commands', async () => {
    modern.takeLog();
    const run = await tale.phd(['host', 'list', 'modern', '--json']);
    expect(run.stderr).toBe('');
    expect(linesOf(run, 'vm')).toMatchObject([
      { id: '3', name: 'web', power: 'on', uuid: SHOWN_UUID, place: '[datastore1] web/web.vmx' },
      { id: '7', name: ODD_NAME, power: 'off', uuid: null },
      { id: '8', name: 'mixed', power: 'on' },
    ]);
    expect(modern.takeLog().filter((line) => line.startsWith('before'))).toEqual([
      'before vmsvc/getallvms',
      'before esxcli vm process list',
    ]);
    old.setFault('no-process-list');
    const asked = await tale.phd(['host', 'list', 'old', '--json']);
    expect(linesOf(asked, 'vm').map(({ power }) => power)).toEqual(['on', 'off']);
  });

  it.each(['modern', 'old'])(
    'FULL and DELTA are the disk at its snapshot, which is gone afterwards: %s',
    async (host) => {
      const esx = host === 'modern' ? modern : old;
      const full = await tale.phd(['backup', `${host}/web`, '--quiesce', '--json']);
      expect(full.status, full.stderr).toBe(0);
      expect(full.stderr.includes('sha256sum')).toBe(host === 'old');
      expect(esx.snapshots(3)).toEqual([]);
      expect(esx.takeLog()).toContain('quiesce=1 memory=0');
      const first = only(linesOf(full, 'done'));
      expect(first.mode).toBe('full');
      expect(await restored(String(first.archive))).toBe(sha256(web));

      const bytes = randomLooking('written', BLOCK);
      esx.guestWrite(3, 5, bytes);
      const result = await backUp(host, 'web', {
        // As soon as the snapshot stands the guest goes on writing: that is not in the backup.
        postThaw: `touch ${tale.path(`${host}-thawed`)}`,
      });
      expect(only(result.disks)).toMatchObject({ mode: 'delta', changedBlocks: 1 });
      expect(result.failed).toEqual([]);
      expect(readdirSync(tale.path()).includes(`${host}-thawed`)).toBe(true);
      const { folder, deltaFile } = only(result.disks);
      expect(await restored(`1:${folder}/${deltaFile}`)).toBe(sha256(written(web, 5, bytes)));
      expect(esx.snapshots(3)).toEqual([]);
      const names = readdirSync(esx.store('web')).filter((name) => /delta|clone/.test(name));
      expect(names).toEqual([]);
    },
  );

  it('what the guest writes while the backup runs is not in it', async () => {
    const later = randomLooking('later', BLOCK);
    const before = await backUp('modern', 'mixed', { mode: 'full' });
    const frozen = await (await context.host('modern')).freeze(
      only((await (await context.host('modern')).listVms()).filter(({ name }) => name === 'mixed')),
      { onWarning: () => undefined },
    );
    modern.guestWrite(8, 3, later);
    const target = Buffer.alloc(SIZE);
    await frozen.source.disks[0]?.reader?.read(0, target);
    expect(target.equals(diskContent('mixed'))).toBe(true);
    await frozen.release();
    await frozen.release();
    expect(modern.snapshots(8)).toEqual([]);
    const after = await backUp('modern', 'mixed');
    expect(after.disks.map(({ disk, mode, changedBlocks }) => [disk, mode, changedBlocks])).toEqual([
      ['mixed.vmdk', 'delta', 1],
    ]);
    for (const { failed } of [before, after])
      expect(failed.map(({ disk, error }) => [disk, error.code, error.message])).toEqual([
        ['free.vmdk', 'SOURCE_UNSUPPORTED', expect.stringContaining('independent')],
        ['raw.vmdk', 'SOURCE_UNSUPPORTED', expect.stringContaining('raw-mapped')],
      ]);
  });

  it('a VM that had snapshots is cloned from the frozen state; theirs stay', async () => {
    modern.addVm({ id: 11, name: 'layers', disks: [{ name: 'layers.vmdk', content: web }] });
    modern.command('vim-cmd', 'vmsvc/snapshot.create', '11', 'before the update', 'by hand', '0', '0');
    const bytes = randomLooking('above', BLOCK);
    modern.guestWrite(11, 4, bytes);
    const { disks, failed, warnings } = await backUp('modern', 'layers');
    expect(failed).toEqual([]);
    expect(warnings.join('\n')).toContain('was cloned on the host');
    const { folder, deltaFile, disk } = only(disks);
    expect(disk).toBe('layers.vmdk');
    expect(await restored(`1:${folder}/${deltaFile}`)).toBe(sha256(written(web, 4, bytes)));
    expect(modern.snapshots(11)).toEqual(['before the update']);
    expect(readdirSync(modern.store('layers')).filter((name) => name.includes('clone'))).toEqual([]);
    modern.setFault('no-space');
    const full = await backUp('modern', 'layers');
    expect(only(full.failed).error.message).toMatch(/cannot clone.*No space left.*0xbad00d8 VMK_NO_SPACE/);
    expect(modern.snapshots(11)).toEqual(['before the update']);
    expect(readdirSync(modern.store('layers')).filter((name) => name.includes('clone'))).toEqual([]);
  });

  it('a snapshot that a dead backup left is removed at the next, never one of others', async () => {
    const host = await context.host('old');
    const vm = only((await host.listVms()).filter(({ id }) => id === '3'));
    await host.freeze(vm, { onWarning: () => undefined });
    const [left] = old.snapshots(3);
    expect(left).toMatch(/^phd-backup-[0-9a-f]{12}-[0-9a-f]{8}$/);
    const foreign = ['phd-backup-000000000000-00000000', 'nightly'];
    for (const name of foreign) old.command('vim-cmd', 'vmsvc/snapshot.create', '3', name, '', '0', '0');
    const check = await tale.phd(['host', 'check', 'old']);
    expect(check.stdout).toContain(`of this program: web (${left}): unless a backup is running`);
    expect(check.stdout).toContain(`of another machine or home of this program: web (${foreign[0]})`);
    const { warnings, failed } = await backUp('old', 'web');
    expect(failed).toEqual([]);
    expect(warnings.join('\n')).toContain(`${left}, left there by a backup that was broken off, was removed`);
    expect(old.snapshots(3)).toEqual(foreign);
    old.removeSnapshots(3);
  });

  it('one that cannot be removed keeps no other there, and none is left with each backup', async () => {
    const host = await context.host('old');
    const vm = only((await host.listVms()).filter(({ id }) => id === '3'));
    const frozen = await host.freeze(vm, { onWarning: () => undefined });
    const ours = only(old.snapshots(3)).replace(/-[^-]+$/, '-bbbbbbbb');
    await frozen.release();
    // What somebody pasted: a whole entry, of one that is not there.
    const pasted = `see\n--|-CHILD\n----Snapshot Name        : ${ours}\n----Snapshot Id        : 99`;
    old.command('vim-cmd', 'vmsvc/snapshot.create', '3', 'nightly', pasted, '0', '0');
    for (let run = 0; run < 2; run++) {
      const { failed, disks } = await backUp('old', 'web');
      expect(disks).toHaveLength(1);
      expect(only(failed).error.message).toContain(`cannot remove snapshot ${ours}`);
      expect(old.snapshots(3)).toEqual(['nightly']);
    }
    old.removeSnapshots(3);
  });

  it('a VM that bears three of ours that cannot go gets no further one', async () => {
    const host = await context.host('old');
    const vm = only((await host.listVms()).filter(({ id }) => id === '3'));
    const frozen = await host.freeze(vm, { onWarning: () => undefined });
    const [ours] = old.snapshots(3);
    await frozen.release();
    for (const end of ['aaaaaaaa', 'bbbbbbbb', 'cccccccc']) {
      const name = String(ours).replace(/-[^-]+$/, `-${end}`);
      old.command('vim-cmd', 'vmsvc/snapshot.create', '3', name, '', '0', '0');
    }
    old.setFault('snapshot-remove');
    old.takeLog();
    await expect(backUp('old', 'web')).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringMatching(
        /web bears 3 snapshots of this program that cannot be removed.*VMK_FS_LOCKED/,
      ),
    });
    expect(old.takeLog().filter((line) => line.includes('snapshot.create'))).toEqual([]);
    old.clearFaults();
    old.removeSnapshots(3);
  });

  it('a snapshot that somebody removes while the disk is read: that is no backup', async () => {
    // Switched off, so that no lock of the host keeps what is written now from being read.
    modern.addVm({ id: 12, name: 'still', power: 'off', disks: [{ name: 'still.vmdk', content: web }] });
    const run = phd.backupHostVm(
      context,
      { host: 'modern', vm: 'still', mode: 'full' },
      {
        beforeDisk: () => {
          modern.removeSnapshots(12);
          modern.guestWrite(12, 6, randomLooking('after the snapshot', BLOCK));
        },
      },
    );
    const { disks, failed } = await run;
    expect(disks).toEqual([]);
    expect(only(failed).error).toMatchObject({
      code: 'SOURCE_CHANGED',
      message: expect.stringContaining('was removed while its disks were read'),
    });
    expect(tale.filesOn('one').filter((file) => /still|\.part/.test(file))).toEqual([]);
    modern.forgetVm(12);
  });

  it('one that somebody removes while its disks are cloned: that is no backup either', async () => {
    modern.addVm({ id: 13, name: 'torn', disks: [{ name: 'torn.vmdk', content: web }] });
    modern.command('vim-cmd', 'vmsvc/snapshot.create', '13', 'before the update', 'by hand', '0', '0');
    modern.setFault('snapshot-gone', '13');
    await expect(backUp('modern', 'torn')).rejects.toMatchObject({
      code: 'SOURCE_CHANGED',
      message: expect.stringContaining('was removed while its disks were read'),
    });
    modern.clearFaults();
    expect(tale.filesOn('one').filter((file) => /torn|\.part/.test(file))).toEqual([]);
    expect(modern.snapshots(13)).toEqual(['before the update']);
    expect(readdirSync(modern.store('torn')).filter((name) => name.includes('clone'))).toEqual([]);
    modern.forgetVm(13);
  });

  it('the live snapshot of another home on this machine stays, though both trust the same file of host keys', async () => {
    const host = await context.host('modern');
    const frozen = await host.freeze(only((await host.listVms()).filter(({ id }) => id === '3')), {
      onWarning: () => undefined,
    });
    const [theirs] = modern.snapshots(3);
    const other = new Tale();
    const lines = hostLines(modern, other, 'modern').replace('modern.known', tale.path('modern.known'));
    other.configure({ config: `hosts:\n${lines}` });
    const run = await other.phd(['backup', 'modern/web']);
    other.remove();
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).not.toContain('was removed');
    expect(modern.snapshots(3)).toEqual([theirs]);
    await frozen.release();
  });

  it('of a release that tells no ids only a snapshot that stands alone is removed', async () => {
    old.setFault('no-ids');
    expect((await backUp('old', 'web')).failed).toEqual([]);
    expect(old.snapshots(3)).toEqual([]);
    const host = await context.host('old');
    await host.freeze(only((await host.listVms()).filter(({ id }) => id === '3')), {
      onWarning: () => undefined,
    });
    old.command('vim-cmd', 'vmsvc/snapshot.create', '3', 'nightly', '', '0', '0');
    const both = old.snapshots(3);
    expect(both).toEqual([expect.stringMatching(/^phd-backup-/), 'nightly']);
    await expect(backUp('old', 'web')).rejects.toMatchObject({
      code: 'SOURCE_UNSUPPORTED',
      message: expect.stringContaining('tells no ids'),
    });
    expect(old.snapshots(3)).toEqual(both);
    old.removeSnapshots(3);
  });

  it('a snapshot that cannot be made or removed is told with what the kernel means; the thaw comes all the same', async () => {
    modern.takeLog();
    modern.setFault('snapshot-create');
    const thawed = tale.path('thawed-too');
    await expect(backUp('modern', 'web', { postThaw: `echo thawed > ${thawed}` })).rejects.toMatchObject({
      code: 'NO_SPACE',
      message: expect.stringContaining('VMK_NO_SPACE'),
    });
    expect(readFileSync(thawed, 'utf8')).toBe('thawed\n');
    modern.clearFaults();
    await expect(backUp('modern', 'web', { preFreeze: 'echo no; exit 4' })).rejects.toThrow(
      /preFreeze ended with status 4/,
    );
    expect(modern.takeLog().filter((line) => line.includes('snapshot.create'))).toHaveLength(2);
    for (const [fault, words] of [
      ['snapshot-remove', /VMK_FS_LOCKED/],
      ['snapshot-stays', /it is still there/],
    ] as const) {
      modern.setFault(fault);
      const { failed, disks } = await backUp('modern', 'web');
      expect(disks).toHaveLength(1);
      expect(only(failed).error.message).toMatch(words);
      modern.clearFaults();
      expect(modern.snapshots(3)).not.toEqual([]);
    }
    const next = await backUp('modern', 'web');
    expect(next.failed).toEqual([]);
    expect(modern.snapshots(3)).toEqual([]);
  });

  it('a snapshot that is gone from the list, and not merged, is told: each backup would leave one more file', async () => {
    modern.addVm({ id: 13, name: 'unmerged', disks: [{ name: 'unmerged.vmdk', content: web }] });
    modern.setFault('snapshot-unmerged');
    const { disks, failed } = await backUp('modern', 'unmerged');
    expect(modern.snapshots(13)).toEqual([]);
    expect(disks).toHaveLength(1);
    expect(only(failed).error).toMatchObject({
      code: 'TARGET_LIED',
      message: expect.stringMatching(/the VM still writes into unmerged-000001\.vmdk: consolidate its disks/),
    });
    modern.clearFaults();
    modern.forgetVm(13);
  });

  it.each([
    'before vmsvc/getallvms',
    'before vmsvc/snapshot.get',
    'before vmsvc/snapshot.create',
    'after vmsvc/snapshot.create',
    'before dd',
    'before dd of blocks',
    'after vmsvc/get.tasklist',
    'before vmsvc/snapshot.remove',
    'after vmsvc/snapshot.remove',
  ])('the line is cut %s: no snapshot of ours stays', async (step) => {
    if (/tasklist|after.*(create|remove)/.test(step)) old.setFault('slow');
    old.setFault('cut', step);
    const outcome = await backUp('old', 'web', { mode: 'full' }).then(
      ({ failed }) => failed[0]?.error,
      (error: Error) => error,
    );
    expect(old.isFault('cut')).toBe(false);
    if (outcome) expect(outcome).toMatchObject({ code: 'TARGET_UNREACHABLE' });
    // A read goes on over a new line: the flat is frozen.
    if (step === 'before dd of blocks') expect(outcome).toBeUndefined();
    expect(old.snapshots(3)).toEqual([]);
  });

  it('the line is cut while the helper on the host reads: it goes on over a new one; a cancelled backup leaves no snapshot', async () => {
    const host = await context.host('modern');
    const vm = only((await host.listVms()).filter(({ id }) => id === '3'));
    const frozen = await host.freeze(vm, { onWarning: () => undefined });
    expect(modern.snapshots(3)).toHaveLength(1);
    const reader = only(frozen.source.disks).reader;
    const [before, after] = [Buffer.alloc(BLOCK), Buffer.alloc(BLOCK)];
    await reader?.read(1, before);
    const region = { firstBlock: 0, count: 3 };
    const digests = await reader?.digests?.(region);
    modern.setFault('cut', 'before vmsvc/getallvms');
    await expect(host.listVms()).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    const [again] = await Promise.all([reader?.digests?.(region), reader?.read(1, after)]);
    expect(after.equals(before)).toBe(true);
    expect(again).toEqual(digests);
    await frozen.release();
    expect(modern.snapshots(3)).toEqual([]);

    const abort = new AbortController();
    modern.takeLog();
    const work = phd.backupHostVm(
      context,
      { host: 'modern', vm: 'web', mode: 'full' },
      { signal: abort.signal, beforeDisk: () => abort.abort() },
    );
    await expect(work).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(modern.takeLog()).toContain('after vmsvc/snapshot.remove');
    expect(modern.snapshots(3)).toEqual([]);
  });

  it('a host key that changed is refused before anything is run there', async () => {
    const other = new Tale();
    other.configure({ config: `hosts:\n${hostLines(modern, other, 'modern')}` });
    other.home.write('modern.known', `[127.0.0.1]:${modern.server.port} ${old.hostKey}\n`);
    modern.takeLog();
    const run = await other.phd(['backup', 'modern/web']);
    other.remove();
    expect(run.status).toBe(4);
    expect(run.stderr).toMatch(/key/);
    expect(modern.takeLog()).toEqual([]);
  });

  it('a VM that was renamed, moved or taken away since it was listed', async () => {
    const host = await context.host('modern');
    const vm = only((await host.listVms()).filter(({ id }) => id === '3'));
    const warnings: string[] = [];
    const options = { onWarning: (text: string) => void warnings.push(text) };
    modern.setState(3, 'name', 'web2');
    await (await host.freeze(vm, options)).release();
    expect(warnings.join()).toContain('was renamed to web2');
    modern.setState(3, 'name', 'web');
    await expect(
      host.freeze({ ...vm, uuid: '564d0000-0000-0000-0000-000000000000' }, options),
    ).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await expect(host.freeze({ ...vm, id: '99' }, options)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(modern.snapshots(3)).toEqual([]);
  });
});

describe('The table of VMs', () => {
  it('is read by its columns; annotations over several lines are no rows', () => {
    const text = [
      'Vmid       Name                File                         Guest OS          Version   Annotation',
      '1      a [x] b.vmx      [ds (1)] dir [y]/a b.vmx      otherGuest   vmx-13    note [ds] x.vmx guest vmx-10',
      '12 apples are more than 3',
      '[ds] c/c.vmx   otherGuest   vmx-10',
      '1      again            [ds] again/again.vmx          otherGuest   vmx-13',
      '23     größer, "kühl"   [ds] g/g.vmx                  otherGuest   vmx-8',
    ].join('\n');
    expect(parseVmTable(text)).toEqual([
      { id: '1', name: 'a [x] b.vmx', place: '[ds (1)] dir [y]/a b.vmx' },
      { id: '23', name: 'größer, "kühl"', place: '[ds] g/g.vmx' },
    ]);
    expect(pathOfPlace('[ds (1)] dir [y]/a b.vmx')).toBe('/vmfs/volumes/ds (1)/dir [y]/a b.vmx');
    for (const place of ['[..] a/a.vmx', '[ds] ../a.vmx', '[a/b] c.vmx', 'c.vmx', '[ds] a//b.vmx'])
      expect(pathOfPlace(place), place).toBe(null);
  });
});

describe('The list of a host', () => {
  const TABLE = [
    'Vmid   Name   File   Guest OS   Version   Annotation',
    '1      good   [ds] good/good.vmx   otherGuest   vmx-13',
    "Skipping invalid VM '7'",
    '8      out    [ds] ../../etc/out.vmx   otherGuest   vmx-13',
  ].join('\n');

  it('names what it cannot tell of, and hides no other VM for it', async () => {
    const shell = { output: async () => Buffer.from(TABLE), script: async () => Buffer.from('') };
    const faults: string[] = [];
    const vms = await listEsxVms(shell as never, undefined, (fault) => void faults.push(fault));
    expect(vms.map(({ name }) => name)).toEqual(['good']);
    expect(faults).toEqual([
      'VM 7 is left out by the host itself: invalid',
      'VM 8 (out) has no place that can be read: [ds] ../../etc/out.vmx',
    ]);
  });
});

describe('Hosts that are opened at once', () => {
  it('are asked about one after the other where their keys are not known', async () => {
    const tale = new Tale();
    const hosts = await Promise.all([startSimulatedEsx(), startSimulatedEsx()]);
    const lines = hosts.map((esx, at) => hostLines(esx, tale, `h${at}`));
    for (const at of hosts.keys()) tale.home.write(`h${at}.known`, '');
    tale.configure({ config: `hosts:\n${lines.join('')}` });
    let asking = 0;
    const seen: number[] = [];
    const context = await phd.openContext({
      env: tale.home.env,
      askHostKey: async () => {
        seen.push(++asking);
        await new Promise((resolve) => setImmediate(resolve));
        asking--;
        return true;
      },
    });
    await Promise.all(['h0', 'h1'].map(async (name) => (await context.host(name)).listVms()));
    expect(seen).toEqual([1, 1]);
    await context.close();
    await Promise.all(hosts.map((esx) => esx.stop()));
    tale.remove();
  });
});

describe('The tree of snapshots', () => {
  const OURS = 'phd-backup-0123456789ab-00000000';
  const namesIn = (lines: string[]) => parseSnapshots(lines.join('\n')).map(({ name }) => name);

  it('is read entry by entry: a description names no snapshot, a line separator in a name ends nothing', () => {
    const text = [
      '|-ROOT',
      '--Snapshot Name        : first',
      '--Snapshot Id        : 1',
      '--Snapshot Desciption  : two lines',
      `--Snapshot Name        : ${OURS}`,
      '--|-CHILD',
      '----Snapshot Name        : of\u2028people\u2029\rhere',
      '----Snapshot Id        : 2',
    ].join('\n');
    expect(parseSnapshots(text)).toEqual([
      { id: '1', name: 'first' },
      { id: '2', name: 'of\u2028people\u2029\rhere' },
    ]);
  });

  it('a name of several lines is one name, whatever its lines look like', () => {
    const shell = undefined as never;
    const snapshots = new OwnSnapshots(shell, '/home/of/phd');
    const ours = snapshots.newName();
    const name = `--Snapshot Name        : ${ours}`;
    const [first] = parseSnapshots(
      ['|-ROOT', '--Snapshot Name        : x', name, '--Snapshot Id        : 4'].join('\n'),
    );
    expect(first).toEqual({ id: '4', name: `x\n${name}` });
    expect(snapshots.isOwn(first!)).toBe(false);
    for (const other of [`${ours}, keep`, `${ours}0`, ours.replace(/-[^-]+$/, '-keep this')])
      expect(snapshots.isOwn({ id: '1', name: other }), other).toBe(false);
    expect(snapshots.isOwn({ id: '1', name: ours })).toBe(true);
    expect(new OwnSnapshots(shell, '/home/of/another').isOwn({ id: '1', name: ours })).toBe(false);
  });

  it('a release that shows no branches, or no ids, is read all the same', () => {
    const entry = (name: string, id: string) => [
      `--Snapshot Name        : ${name}`,
      ...(id ? [`--Snapshot Id        : ${id}`] : []),
    ];
    expect(namesIn([...entry('a', '1'), ...entry(OURS, '2')])).toEqual(['a', OURS]);
    expect(namesIn(['|-ROOT', ...entry('a', ''), '--|-CHILD', ...entry(OURS, '')])).toEqual(['a', OURS]);
  });
});
