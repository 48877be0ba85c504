/** Archives on several targets: FULL here and DELTA there, and a bad block that another copy has good. */
import {
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { changeImage, type TestVm } from '../support/disk-images.ts';
import { startVsftpd } from '../support/servers/ftpd.ts';
import { type RunningServer, TEST_UID } from '../support/servers/own-namespace.ts';
import { type SshServer, startSshServer } from '../support/servers/sshd.ts';
import {
  type BackedUp,
  BLOCK,
  fileDigest,
  flipByte,
  fullBlock,
  HOOK_TIMEOUT_MS,
  MIB,
  namesIn,
  only,
  Tale,
} from './tale.ts';

describe('On two local targets', () => {
  let tale: Tale;
  let vm: TestVm;
  let full: BackedUp;
  let delta: BackedUp;
  let disk: Buffer;
  let diskOfFull: Buffer;
  const onTwo = (file: string): string => file.replace(tale.path('one'), tale.path('two'));

  beforeAll(async () => {
    tale = new Tale({ targets: ['one', 'two'] });
    vm = await tale.makeVm('Shop', [{ name: 'Shop.vmdk', sizeBytes: 8 * MIB }]);
    full = only((await tale.backup(vm.folder)).disks);
    diskOfFull = readFileSync(vm.disks[0]?.flatPath ?? '');
    await changeImage(vm.disks[0]?.flatPath ?? '', 4, 'after the FULL');
    delta = only((await tale.backup(vm.folder)).disks);
    disk = readFileSync(vm.disks[0]?.flatPath ?? '');
    const folder = path.dirname(tale.file(delta.archive));
    mkdirSync(path.dirname(onTwo(folder)), { recursive: true });
    renameSync(folder, onTwo(folder));
    expect((await tale.phd(['index', '--force'])).status).toBe(0);
  }, HOOK_TIMEOUT_MS);
  afterAll(() => tale.remove());

  it('a DELTA on one restores with its FULL on the other', async () => {
    const to = tale.newFolder();
    const { disks } = await tale.restore(['--vm', 'Shop', '--to', to]);
    expect(only(disks)).toMatchObject({ archive: delta.archive.replace(/^1/, '2'), full: full.full });
    expect(readFileSync(path.join(to, 'Shop-flat.vmdk')).equals(disk)).toBe(true);
  });

  it('a bad block of a DELTA comes from its other copy', async () => {
    const near = tale.file(delta.archive);
    cpSync(path.dirname(onTwo(near)), path.dirname(near), { recursive: true });
    await tale.phd(['index', '--force']);
    const [, offset, bytes] = /^part blocks (\d+) (\d+)/m.exec(readFileSync(near, 'latin1')) ?? [];
    flipByte(near, Number(offset) + Math.floor(Number(bytes) / 2));
    const to = tale.newFolder();
    const { run, disks } = await tale.restore([delta.archive, '--to', to]);
    expect(only(disks).retried).toBe(1);
    expect(run.stderr).toMatch(/block \d+ of 1:.* was bad \(.*\) and good in 2:/);
    expect(readFileSync(path.join(to, 'Shop-flat.vmdk')).equals(disk)).toBe(true);
    rmSync(path.dirname(near), { recursive: true });
    await tale.phd(['index', '--force']);
  });

  it('a bad block of the nearest copy comes from the other, with a warning that names block and place', async () => {
    const near = tale.file(full.full);
    cpSync(path.dirname(near), path.dirname(onTwo(near)), { recursive: true });
    await tale.phd(['index', '--force']);
    const { block, middle } = fullBlock(near);
    flipByte(near, middle);
    const to = tale.newFolder();
    const { run, disks } = await tale.restore([full.full, '--to', to]);
    expect(only(disks).retried).toBe(1);
    expect(run.stderr).toContain(`block ${block} of ${full.full} was bad`);
    expect(run.stderr).toContain(`and good in 2:${full.full.slice(2)}`);
    expect(existsSync(path.join(to, 'Shop-flat.vmdk'))).toBe(true);
    const verdict = await tale.phd([
      'verify',
      '--disk',
      path.join(to, 'Shop-flat.vmdk'),
      '--against',
      `2:${full.full.slice(2)}`,
    ]);
    expect(verdict.status, verdict.stderr).toBe(0);
  });

  it('a block that is bad in every copy ends with status 3, names the block, and leaves no disk', async () => {
    const { block, middle } = fullBlock(onTwo(tale.file(full.full)));
    flipByte(onTwo(tale.file(full.full)), middle);
    const to = tale.newFolder();
    const run = await tale.phd(['restore', full.full, '--to', to, '--json']);
    expect(run.status).toBe(3);
    expect(run.stderr).toContain(`block ${block} (byte ${block * BLOCK}) is good in no copy`);
    expect(namesIn(to)).toEqual(['Shop-flat.vmdk.part']);
  });

  it('--salvage gives what is left as NAME.damaged with the ranges that are zero, and status 3', async () => {
    const { block } = fullBlock(onTwo(tale.file(full.full)));
    const to = tale.newFolder();
    const run = await tale.phd(['restore', full.full, '--to', to, '--salvage', '--json']);
    expect(run.status).toBe(3);
    expect(namesIn(to)).toEqual(['Shop-flat.vmdk.damaged', 'Shop-flat.vmdk.damaged.ranges']);
    const ranges = readFileSync(path.join(to, 'Shop-flat.vmdk.damaged.ranges'), 'utf8').split('\n');
    expect(ranges.slice(1)).toEqual([`${block * BLOCK} ${BLOCK}`, '']);
    const wanted = Buffer.from(diskOfFull);
    wanted.fill(0, block * BLOCK, (block + 1) * BLOCK);
    const saved = path.join(to, 'Shop-flat.vmdk.damaged');
    expect(readFileSync(saved).equals(wanted)).toBe(true);
    // Another time it stays.
    writeFileSync(saved, 'saved before');
    const again = await tale.phd(['restore', full.full, '--to', to, '--salvage']);
    expect([again.status, again.stderr]).toEqual([3, expect.stringContaining(`${saved}-2`)]);
    expect(readFileSync(saved, 'utf8')).toBe('saved before');
    expect(readFileSync(`${saved}-2`).equals(wanted)).toBe(true);
  });

  it.each(['gzip', 'zstd'])(
    '--salvage saves what comes before the end of a %s FULL that is cut',
    async (codec) => {
      const cut = await tale.makeVm(`Cut ${codec}`, [{ name: 'Cut.vmdk', sizeBytes: 6 * MIB }]);
      const flat = cut.disks[0]?.flatPath ?? '';
      const { full: archive } = only((await tale.backup(cut.folder, ['--codec', codec])).disks);
      await changeImage(flat, 2, 'after the FULL');
      const later = only((await tale.backup(cut.folder)).disks);
      expect(later).toMatchObject({ mode: 'delta', full: archive });
      const file = tale.file(archive);
      truncateSync(file, Math.floor(statSync(file).size / 2));
      const disk = readFileSync(flat);
      const plain = await tale.phd(['restore', later.archive, '--to', tale.newFolder()]);
      expect([plain.status, plain.stderr]).toEqual([3, expect.stringMatching(/FULL has no end/)]);
      const to = tale.newFolder();
      const run = await tale.phd(['restore', later.archive, '--to', to, '--salvage']);
      expect(run.status).toBe(3);
      expect(namesIn(to)).toEqual(['Cut-flat.vmdk.damaged', 'Cut-flat.vmdk.damaged.ranges']);
      const ranges = readFileSync(path.join(to, 'Cut-flat.vmdk.damaged.ranges'), 'utf8')
        .trim()
        .split('\n')
        .slice(1);
      expect(ranges.length).toBeGreaterThan(0);
      expect(ranges.length).toBeLessThan(disk.length / BLOCK - 2);
      for (const range of ranges) {
        const [at = 0, bytes = 0] = range.split(' ').map(Number);
        disk.fill(0, at, at + bytes);
      }
      expect(readFileSync(path.join(to, 'Cut-flat.vmdk.damaged')).equals(disk)).toBe(true);
    },
  );
});

describe('On an FTP and an SSH server', () => {
  let tale: Tale;
  let ftp: RunningServer;
  let ssh: SshServer;
  let vm: TestVm;
  let full: BackedUp;
  let delta: BackedUp;

  beforeAll(async () => {
    tale = new Tale();
    [ftp, ssh] = await Promise.all([startVsftpd(), startSshServer()]);
    tale.home.write('secrets/ftp', `${ftp.password}\n`);
    tale.home.write('secrets/ssh', ssh.privateKey);
    tale.home.write('known_hosts', `[127.0.0.1]:${ssh.port} ${ssh.hostKey}\n`);
    tale.home.writeConfig(`targets:
  - { number: 2, name: ftp1, transport: ftp, host: 127.0.0.1, port: ${ftp.port}, user: ${ftp.user}, passwordFile: secrets/ftp, path: /, tls: none }
  - { number: 3, name: vault, transport: ssh, host: 127.0.0.1, port: ${ssh.port}, user: ${ssh.user}, privateKeyFile: secrets/ssh, knownHostsFile: known_hosts, path: ${ssh.folder} }
datastores: [vmfs]
`);
    vm = await tale.makeVm('Far', [{ name: 'Far.vmdk', sizeBytes: 4 * MIB }]);
  }, HOOK_TIMEOUT_MS);
  afterAll(async () => {
    await Promise.all([ftp?.stop(), ssh?.stop()]);
    tale.remove();
  });

  it('a FULL goes over FTP, and its DELTA over SSH: the map of the FULL is fetched from there', async () => {
    full = only((await tale.backup(vm.folder, ['--target', '2'])).disks);
    const folder = path.dirname(full.full.slice(2));
    cpSync(path.join(ftp.folder, folder), path.join(ssh.folder, folder), { recursive: true });
    for (const name of ['', ...namesIn(path.join(ssh.folder, folder))])
      chownSync(path.join(ssh.folder, folder, name), TEST_UID, TEST_UID);
    await changeImage(vm.disks[0]?.flatPath ?? '', 2, 'after the FULL');
    delta = only((await tale.backup(vm.folder, ['--target', '3'])).disks);
    expect(delta).toMatchObject({ mode: 'delta', full: `3${full.full.slice(1)}` });
    rmSync(path.join(ssh.folder, folder), { recursive: true });
  });

  it('the pair restores from both servers by the name of the VM, bit for bit', async () => {
    const to = tale.newFolder();
    const { disks } = await tale.restore(['--vm', 'Far', '--to', to, '--verify']);
    expect(only(disks)).toMatchObject({ archive: delta.archive, full: full.full, verified: true });
    expect(only(disks).fromDelta).toBeGreaterThan(0);
    expect(fileDigest(path.join(to, 'Far-flat.vmdk'))).toBe(fileDigest(vm.disks[0]?.flatPath ?? ''));
  });

  it('a server that is gone ends with status 4 and names the target; nothing is left under a final name', async () => {
    await ftp.kill();
    const to = tale.newFolder();
    const run = await tale.phd(['restore', delta.archive, '--to', to]);
    expect(run.status).toBe(4);
    expect(run.stderr).toContain(`127.0.0.1:${ftp.port}`);
    expect(namesIn(to)).toEqual([]);
  });

  it('neither the password nor the key shows in what the program says and keeps', async () => {
    const run = await tale.phd(['log']);
    const texts = [run.stdout, run.stderr, ...tale.ownTexts()];
    expect(texts.length).toBeGreaterThan(4);
    for (const text of texts) {
      expect(text).not.toContain(ftp.password);
      expect(text).not.toContain(ssh.privateKey.split('\n')[2] as string);
    }
  });
});

describe('A run that two targets hold, of which one is not mounted', () => {
  it('is restored from the other, which is said; without another the target is named', async () => {
    const tale = new Tale({ targets: ['one', 'two'] });
    try {
      const vm = await tale.makeVm('Twin', [{ name: 'Twin.vmdk', sizeBytes: MIB }]);
      const { archive } = only((await tale.backup(vm.folder)).disks);
      rmSync(tale.path('two'), { recursive: true });
      cpSync(tale.path('one'), tale.path('two'), { recursive: true, preserveTimestamps: true });
      expect((await tale.phd(['index', '--force'])).status).toBe(0);
      renameSync(tale.path('one'), tale.path('away'));

      const to = tale.newFolder();
      const run = await tale.phd(['restore', '--vm', 'Twin', '--to', to]);
      expect(run.status).toBe(0);
      expect(run.stderr).toMatch(/phd: target 2 is taken for Twin\.vmdk: target 1 has no /);
      expect(fileDigest(path.join(to, 'Twin-flat.vmdk'))).toBe(fileDigest(vm.disks[0]?.flatPath ?? ''));

      const named = await tale.phd(['restore', archive, '--to', tale.newFolder()]);
      expect(named.status).not.toBe(0);
      expect(named.stderr).toContain(`${tale.path('one')} does not exist: make the folder, or mount`);
    } finally {
      tale.remove();
    }
  }, 120_000);
});
