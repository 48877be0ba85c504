/** A VM of the archives put onto an ESX host (a simulated one): what lies there is the disk, or nothing stays of it. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type * as Library from '../../src/engine/index.ts';
import type * as RestoreToHost from '../../src/engine/restore-to-host.ts';
import { OwnSnapshots } from '../../src/hosts/esx/esx-snapshot.ts';
import { randomLooking } from '../support/disk-images.ts';
import { type SimulatedEsx, STORE_UUID, startSimulatedEsx } from '../support/servers/esx/simulated-esx.ts';
import { BLOCK, fileDigest, HOOK_TIMEOUT_MS, only, sha256, Tale } from '../tales/tale.ts';

const BUILT = new URL('../../dist/src/', import.meta.url).href;
const phd = (await import(`${BUILT}engine/index.js`)) as typeof Library;
const { restoreToHost } = (await import(`${BUILT}engine/restore-to-host.js`)) as typeof RestoreToHost;

const UUID = '564d3333222233334444555566667777';
const SIZE = 12 * BLOCK + 8_192;

describe('A VM put onto an ESX host', () => {
  const tale = new Tale();
  const content = Buffer.alloc(SIZE);
  let esx: SimulatedEsx;
  let context: Library.EngineContext;
  let archive: Library.ArchiveRef;

  beforeAll(async () => {
    for (const block of [1, 2, 5, 11]) randomLooking(`w ${block}`, BLOCK).copy(content, block * BLOCK);
    randomLooking('w end', 8_192).copy(content, 12 * BLOCK);
    esx = await startSimulatedEsx({ python: true });
    esx.addVm({ id: 3, name: 'web', uuid: UUID, disks: [{ name: 'web.vmdk', content }] });
    tale.home.write('esx.key', esx.privateKey);
    tale.home.write('esx.known', `[127.0.0.1]:${esx.server.port} ${esx.hostKey}\n`);
    tale.configure({
      config: `hosts:\n  - { name: esx, type: esx, host: 127.0.0.1, port: ${esx.server.port}, user: ${esx.server.user}, privateKeyFile: esx.key, knownHostsFile: esx.known, timeoutSeconds: 10 }\n`,
    });
    context = await phd.openContext({ env: tale.home.env });
    const { disks } = await phd.backupHostVm(context, { host: 'esx', vm: 'web' });
    const { folder, deltaFile } = only(disks);
    archive = { storage: await context.storage(1), folder, file: deltaFile };
  }, HOOK_TIMEOUT_MS);
  afterAll(async () => {
    await context?.close();
    await esx?.stop();
    tale.remove();
  });
  afterEach(() => esx.clearFaults());

  async function put(
    name: string | undefined,
    more: { datastore?: string; archives?: Library.ArchiveRef[] } = {},
    beforeDisk: () => void = () => undefined,
  ) {
    const warnings: string[] = [];
    const request = { host: 'esx', archives: [archive], datastore: 'datastore1', ...more };
    const result = await restoreToHost(
      context,
      { ...request, ...(name === undefined ? {} : { name }) },
      { onWarning: (text) => void warnings.push(text), beforeDisk },
    );
    return { ...result, warnings };
  }

  it('is made by the host, filled, proved there, fitted and registered', async () => {
    esx.takeLog();
    const run = await tale.phd([
      'host',
      'restore',
      'esx',
      'web',
      '--datastore',
      'datastore1',
      '--name',
      "web's [copy]",
    ]);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stdout).toContain(
      "ALL BLOCKS PROVED: esx:/vmfs/volumes/datastore1/web's [copy]/web.vmdk, 3.0 MB (digests by python3",
    );
    const folder = esx.store("web's [copy]");
    expect(fileDigest(`${folder}/web-flat.vmdk`)).toBe(sha256(content));
    expect(readdirSync(folder).sort()).toEqual([
      "web's [copy].vmx",
      'web-flat.vmdk',
      'web.nvram',
      'web.vmdk',
    ]);
    const vmx = readFileSync(`${folder}/web's [copy].vmx`, 'utf8');
    expect(vmx).toContain('displayName = "web\'s [copy]"');
    expect(vmx).toContain('scsi0:0.fileName = "web.vmdk"');
    // The VM it was is still there, so this is another one.
    expect(run.stderr).toContain('web on esx has the UUID of this VM');
    const vms = await (await context.host('esx')).listVms();
    const there = only(vms.filter(({ name }) => name === "web's [copy]"));
    expect(run.stdout).toContain(`registered on esx as VM ${there.id}, powered off`);
    expect(there.uuid).not.toBe('564d3333-2222-3333-4444-555566667777');
  });

  it('zeros are not sent, and a host without python proves by its dd and sha256sum', async () => {
    rmSync(esx.path('bin', 'python3'));
    const { disks, failed, vmId } = await put('plain');
    expect(failed).toEqual([]);
    expect(only(disks).proof).toBe('digests by sha256sum on the host');
    expect(vmId).not.toBe(null);
    expect(fileDigest(esx.store('plain', 'web-flat.vmdk'))).toBe(sha256(content));
  });

  it('a VM that runs is refused with the owner of its lock; a folder, datastore or name that will not do as well', async () => {
    const before = createHash('sha256')
      .update(readFileSync(esx.store('web', 'web-flat.vmdk')))
      .digest('hex');
    await expect(put('web')).rejects.toMatchObject({
      code: 'VM_RUNNING',
      message: expect.stringMatching(
        /web-flat\.vmdk is locked on VMFS \(exclusive\) by host with MAC 00:50:56:aa:bb:cc/,
      ),
    });
    expect(fileDigest(esx.store('web', 'web-flat.vmdk'))).toBe(before);
    mkdirSync(esx.store('taken'));
    await expect(put('taken')).rejects.toMatchObject({ code: 'EXISTS' });
    await expect(put('new', { datastore: 'datastore9' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    for (const name of ['../web', 'a/b', '.hidden', '-rf'])
      await expect(put(name), name).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('archives are named one by one where a run lacks disks; those of several runs, or two VMs, are refused', async () => {
    const name = `1:${archive.folder}/${archive.file}`;
    const to = ['--datastore', 'datastore1', '--name', 'single'];
    const one = await tale.phd(['host', 'restore', 'esx', name, ...to, '--json']);
    expect(one.status, one.stderr).toBe(0);
    expect(fileDigest(esx.store('single', 'web-flat.vmdk'))).toBe(sha256(content));
    for (const what of [
      [name, '1:other/00-web.vmdk.gz-261127-0029.phd'],
      ['web', 'mail'],
    ]) {
      const run = await tale.phd(['host', 'restore', 'esx', ...what, ...to]);
      expect([run.status, run.stderr], what.join()).toEqual([2, expect.stringMatching(/of one run/)]);
    }
  });

  it('nothing stays where it fails or the line is cut', async () => {
    esx.setFault('no-space');
    const { failed, disks } = await put('small');
    expect(disks).toEqual([]);
    expect(only(failed).error).toMatchObject({
      code: 'NO_SPACE',
      message: expect.stringContaining('VMK_NO_SPACE'),
    });
    esx.clearFaults();
    for (const step of ['before vmkfstools -c', 'before dd of blocks', 'before solo/registervm']) {
      esx.setFault('cut', step);
      await expect(put('small'), step).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
      expect(esx.isFault('cut'), step).toBe(false);
      expect(existsSync(esx.store('small')), step).toBe(false);
    }
  });

  it('what cannot fit is refused before a byte is sent; what fits thin alone is warned of', async () => {
    const dataBytes = 4 * BLOCK + 8_192;
    esx.setFault('free', String(dataBytes - 1));
    esx.takeLog();
    await expect(put('big')).rejects.toMatchObject({
      code: 'NO_SPACE',
      message:
        'esx:datastore1 has 1.0 MB free, the data of the disks needs 1.0 MB: make room, or choose another datastore',
    });
    expect(esx.takeLog().join()).not.toMatch(/vmkfstools/);
    expect(existsSync(esx.store('big'))).toBe(false);
    esx.setFault('free', String(dataBytes));
    const thin = await put('thin');
    expect(thin.failed).toEqual([]);
    expect(thin.warnings.join()).toMatch(/esx:datastore1 has 1\.0 MB free, the disks are 3\.0 MB: .*thin/);
    esx.clearFaults();
    esx.setFault('no-filesystem-list');
    const unknown = await put('unknown');
    expect(unknown.failed).toEqual([]);
    expect(unknown.warnings.join()).toMatch(/whether the disks fit is not known: .*Unknown command/);
  });

  it('one restore to a place at a time, by whichever name of its datastore', async () => {
    for (const [name, datastore] of [
      ['race', 'datastore1'],
      ['two names', STORE_UUID],
    ] as const) {
      const both = await Promise.allSettled([put(name), put(name, { datastore })]);
      const codes = both.map((one) => (one.status === 'fulfilled' ? 'done' : one.reason.code)).sort();
      expect(codes).toEqual(['LOCKED', 'done']);
      expect(fileDigest(esx.store(name, 'web-flat.vmdk'))).toBe(sha256(content));
    }
  });

  it('a file that somebody else has put into the folder meanwhile stays', async () => {
    for (const [folder, file] of [
      ['shared', 'web.nvram'],
      ['shared disk', 'web-flat.vmdk'],
    ] as const) {
      const put1 = put(folder, {}, () => {
        writeFileSync(esx.store(folder, file), 'of somebody else');
        esx.own();
      });
      const ended = await put1.then(
        ({ failed, warnings }) => ({ error: only(failed).error, warnings }),
        (error: Library.PhdError) => ({ error, warnings: [] }),
      );
      expect(ended.error).toMatchObject({ code: 'EXISTS', message: expect.stringContaining(file) });
      expect(readdirSync(esx.store(folder))).toEqual([file]);
      expect(readFileSync(esx.store(folder, file), 'utf8')).toBe('of somebody else');
    }
  });

  it('a VM whose registration was answered to nobody is kept, one that was refused is gone, one whose mark stays is told', async () => {
    esx.setFault('cut', 'after solo/registervm');
    const lost = await put('lost answer');
    expect(esx.isFault('cut')).toBe(false);
    const vms = await (await context.host('esx')).listVms();
    expect(only(vms.filter(({ name }) => name === 'lost answer')).id).toBe(lost.vmId);
    expect(fileDigest(esx.store('lost answer', 'web-flat.vmdk'))).toBe(sha256(content));
    esx.setFault('register-status', 'once');
    await expect(put('refused')).rejects.toMatchObject({ code: 'TARGET_REFUSED' });
    expect(existsSync(esx.store('refused'))).toBe(false);
    const there = (await (await context.host('esx')).listVms()).map(({ name }) => name);
    expect(there).not.toContain('refused');
    const mark = esx.store('marked', 'phd-restore.unfinished');
    const marked = await put('marked', {}, () => {
      rmSync(mark);
      mkdirSync(mark);
    });
    expect(marked.vmId).not.toBe(null);
    expect(marked.warnings.join()).toMatch(
      /the VM is whole and registered, remove .*phd-restore\.unfinished/,
    );
    expect(fileDigest(esx.store('marked', 'web-flat.vmdk'))).toBe(sha256(content));
  });

  it('names that cannot be written there are told before a byte is sent', async () => {
    esx.takeLog();
    await expect(put('x'.repeat(252))).rejects.toMatchObject({ code: 'USAGE' });
    expect(esx.takeLog().join()).not.toMatch(/vmkfstools|dd of/);
    esx.addVm({ id: 900, name: 'odd', disks: [{ name: 'odd.vmdk', content }] });
    const vmx = readFileSync(esx.store('odd', 'odd.vmx'), 'utf8');
    writeFileSync(esx.store('odd', 'odd.vmx'), vmx.replace('"odd.nvram"', '"-rf.nvram"'));
    renameSync(esx.store('odd', 'odd.nvram'), esx.store('odd', '-rf.nvram'));
    esx.own();
    const { disks } = await phd.backupHostVm(context, { host: 'esx', vm: 'odd' });
    const { folder, deltaFile } = only(disks);
    const odd = await put('odd again', {
      archives: [{ storage: archive.storage, folder, file: deltaFile }],
    });
    expect(odd.warnings.join()).toContain('-rf.nvram is left out: no file of such a name is written');
    expect(odd.vmId).not.toBe(null);
    expect(readdirSync(esx.store('odd again')).sort()).toEqual([
      'odd again.vmx',
      'odd-flat.vmdk',
      'odd.vmdk',
    ]);
  });

  it('what a killed one left half is taken away by the next', async () => {
    const { owner } = new OwnSnapshots(undefined as never, context.places.stateDir);
    mkdirSync(esx.store('half'));
    writeFileSync(esx.store('half', 'phd-restore.unfinished'), `${owner}\n`);
    writeFileSync(esx.store('half', 'web-flat.vmdk'), 'half');
    esx.own();
    const { failed } = await put('half');
    expect(failed).toEqual([]);
    expect(fileDigest(esx.store('half', 'web-flat.vmdk'))).toBe(sha256(content));
    // One that was registered before the mark was gone is a VM of people.
    writeFileSync(esx.store('half', 'phd-restore.unfinished'), `${owner}\n`);
    await expect(put('half')).rejects.toMatchObject({
      code: 'EXISTS',
      message: expect.stringContaining('its VM is registered'),
    });
    expect(fileDigest(esx.store('half', 'web-flat.vmdk'))).toBe(sha256(content));
  });
});
