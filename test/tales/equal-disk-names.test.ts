/** A VM whose disks lie on two datastores and bear one name: restored into one folder, each is there under a name of its own. */
import { appendFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { distinctDiskNames } from '../../src/engine/disk-names.ts';
import { fileDigest, HOOK_TIMEOUT_MS, linesOf, MIB, only, sha256, Tale, until } from './tale.ts';

let tale: Tale;
let digests: string[];

beforeAll(async () => {
  tale = new Tale();
  const vm = await tale.makeVm('loc', [{ name: 'loc.vmdk', sizeBytes: 2 * MIB }]);
  const second = await tale.makeVm('loc on two', [{ name: 'loc.vmdk', sizeBytes: 2 * MIB }]);
  appendFileSync(
    vm.vmxPath,
    `scsi0:1.present = "TRUE"\nscsi0:1.fileName = "${second.folder}/loc.vmdk"\nscsi0:1.deviceType = "scsi-hardDisk"\n`,
  );
  digests = [vm, second].map(({ disks }) => fileDigest(only(disks).flatPath));
  expect((await tale.backup(vm.folder)).disks).toHaveLength(2);
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());

describe('Two disks of one name', () => {
  it('are restored side by side, and the VMX names both', async () => {
    const to = tale.newFolder();
    const words = ['--vm', 'loc', '--to', to, '--vmx', '--rewrite', 'moved'];
    const run = await tale.phd(['restore', ...words]);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).toContain('two disks are called loc.vmdk: that of 01 becomes loc_01.vmdk');
    expect(fileDigest(`${to}/loc-flat.vmdk`)).toBe(digests[0]);
    expect(fileDigest(`${to}/loc_01-flat.vmdk`)).toBe(digests[1]);
    const vmx = readFileSync(`${to}/loc.vmx`, 'utf8');
    expect(vmx).toContain('scsi0:0.fileName = "loc.vmdk"');
    expect(vmx).toContain('scsi0:1.fileName = "loc_01.vmdk"');
  });

  it('stay as they are where the same command is run again', async () => {
    const to = tale.newFolder();
    for (const kept of [false, true]) {
      const { disks } = await tale.restore(['--vm', 'loc', '--to', to, '--assume-off']);
      expect(disks.map((disk) => disk.kept === disk.totalBlocks)).toEqual([false, kept]);
    }
    expect(fileDigest(`${to}/loc_01-flat.vmdk`)).toBe(digests[1]);
  });

  it('go into the queue under these names', async () => {
    const to = tale.newFolder();
    const queued = await tale.phd(['restore', '--vm', 'loc', '--to', to, '--background', '--json']);
    expect(queued.status, queued.stderr).toBe(0);
    const ids = linesOf(queued).map(({ job }) => String(job));
    await tale.phd(['jobs', 'start', ...ids]);
    await until(async () =>
      linesOf(await tale.phd(['jobs', 'list', '--json'])).every(({ state }) => /^done/.test(String(state))),
    );
    expect(fileDigest(`${to}/loc-flat.vmdk`)).toBe(digests[0]);
    expect(fileDigest(`${to}/loc_01-flat.vmdk`)).toBe(digests[1]);
  });

  it('go into a plan under these names', async () => {
    const to = tale.newFolder();
    const [{ uuid } = {}] = linesOf(await tale.phd(['list', '--json']));
    tale.home.write('plans/both.yaml', `vms: [{ vm: loc, uuid: "${uuid}", to: ${to} }]\nvmx: moved\n`);
    const run = await tale.phd(['plan', 'run', 'both']);
    expect(run.status, run.stderr).toBe(0);
    const flats = readdirSync(to).filter((name) => name.includes('-flat'));
    expect(flats.sort()).toEqual(['loc-flat.vmdk', 'loc_01-flat.vmdk']);
    expect(readFileSync(`${to}/loc.vmx`, 'utf8')).toContain('scsi0:1.fileName = "loc_01.vmdk"');
  });

  it('replace no disk that bears the made up name already, in place or not', async () => {
    const to = tale.newFolder();
    mkdirSync(to);
    writeFileSync(`${to}/loc_01-flat.vmdk`, Buffer.alloc(2 * MIB, 1));
    for (const more of [[], ['--in-place']]) {
      const run = await tale.phd(['restore', '--vm', 'loc', '--to', to, '--assume-off', ...more]);
      expect(run.status).toBe(1);
      expect(run.stderr).toMatch(
        /loc_01-flat\.vmdk is there already, and another disk of this VM is called loc\.vmdk/,
      );
    }
    expect(fileDigest(`${to}/loc-flat.vmdk`)).toBe(digests[0]);
    expect(fileDigest(`${to}/loc_01-flat.vmdk`)).toBe(sha256(Buffer.alloc(2 * MIB, 1)));
  });

  it('never share a file, whatever they are called', () => {
    const disk = fc.constantFrom(
      'a.vmdk',
      'a-flat.vmdk',
      'a_01.vmdk',
      'a_01-flat.vmdk',
      'a_01_2.vmdk',
      'raw',
      'raw_01',
    );
    const disks = fc.array(fc.record({ scsiId: fc.constantFrom('00', '01'), disk }), { maxLength: 8 });
    fc.assert(
      fc.property(disks, (some) => {
        const names = distinctDiskNames(some);
        const files = names.flatMap((name) =>
          name.endsWith('.vmdk') ? [name, name.replace('.vmdk', '-flat.vmdk')] : [name],
        );
        expect(new Set(files).size).toBe(files.length);
        expect(names[0]).toBe(some[0]?.disk);
        // A name that was made up is no other disk's own.
        for (const [at, name] of names.entries())
          if (name !== some[at]?.disk) expect(some.map(({ disk: own }) => own)).not.toContain(name);
      }),
    );
  });
});
