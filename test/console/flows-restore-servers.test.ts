import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { closeAll } from '../support/console-pty.ts';
import { changeImage } from '../support/disk-images.ts';
import { startVsftpd } from '../support/servers/ftpd.ts';
import { type RunningServer, TEST_PASSWORD, TEST_USER } from '../support/servers/own-namespace.ts';
import { startSshServer } from '../support/servers/sshd.ts';
import { fileDigest, HOOK_TIMEOUT_MS, MIB, Tale } from '../tales/tale.ts';
import { atMainMenu, go, toArchives } from './flows-restore-stage.ts';

const TALE_MS = 180_000;

let tale: Tale;
const servers: RunningServer[] = [];
let digest: string;

beforeAll(async () => {
  tale = new Tale();
  const ftp = await startVsftpd();
  servers.push(ftp);
  const ssh = await startSshServer();
  servers.push(ssh);
  tale.home.write('pw', `${TEST_PASSWORD}\n`);
  tale.home.write('key', ssh.privateKey);
  const account = `host: 127.0.0.1, user: ${TEST_USER}`;
  tale.home.writeConfig(`targets:
  - { number: 1, name: ftp1, transport: ftp, ${account}, port: ${ftp.port}, passwordFile: pw, path: '', tls: none }
  - { number: 2, name: vault, transport: ssh, ${account}, port: ${ssh.port}, privateKeyFile: key, knownHostsFile: known, path: '' }
datastores: [vmfs]
`);
  const vm = await tale.makeVm('far', [{ name: 'far.vmdk', sizeBytes: 4 * MIB }]);
  const [disk] = vm.disks;
  const flat = disk?.flatPath ?? '';
  await tale.backup(vm.folder, ['--target', '1', '--full']);
  await changeImage(flat, 3, 'a day');
  await tale.backup(vm.folder, ['--target', '1', '--delta']);
  digest = fileDigest(flat);
  // The same archives on the other server, as a copy that was made by hand.
  execFileSync('cp', ['-a', `${ftp.folder}/.`, ssh.folder]);
  rmSync(vm.folder, { recursive: true });
}, HOOK_TIMEOUT_MS);

afterEach(closeAll);
afterAll(async () => {
  await closeAll();
  for (const server of servers) await server.stop();
  tale.remove();
});

it(
  'from FTP and SSH: an unknown host key is asked for, both FULLs are proved, the disk comes back byte for byte',
  async () => {
    const one = await atMainMenu(tale);
    one.press('e');
    await one.waitFor('Unknown host key');
    expect(one.text).toMatch(/ssh-ed25519 SHA256:/);
    await go(one, [[['y'], /^Restore$/m], [['esc'], 'Main menu'], ...toArchives('far')]);
    expect(one.text).toMatch(/ 1\+1 .* DELTA/);
    await go(one, [
      ['1\r', /> {3}1 1\+1/],
      [['enter'], 'Is this the archive?'],
    ]);
    expect(one.text).toMatch(
      new RegExp(`target 1 \\(ftp1\\) \\(also on 2\\), ftp, host 127\\.0\\.0\\.1, user ${TEST_USER}`),
    );
    await go(one, [
      [['y'], 'Which FULL for far.vmdk'],
      [['end'], /> {3}2 \* 2 vault +ssh/],
    ]);
    expect(one.text).toMatch(/ {3}1 \* 1 ftp1 +ftp/);
    await go(one, [
      [['enter'], 'is on no volume of the datastores now'],
      [['l'], 'Restore to this name:'],
      [['enter'], /FULL \* +2:/],
    ]);
    expect(one.text).toContain('the folder is made');
    await go(one, [
      [['r'], 'RESTORED: ALL BLOCKS PROVED'],
      [['enter'], 'VMX for this place'],
      [['u'], 'far.vmx restored'],
      [['enter'], 'no vim-cmd'],
      [['enter'], /^Search by$/m],
    ]);
    await one.assertRepaintIsEqual();
    expect(fileDigest(path.join(tale.datastore, 'far', 'far-flat.vmdk'))).toBe(digest);
  },
  TALE_MS,
);

it(
  'a server that dies while its archive is shown: the copy on the other one stands in',
  async () => {
    const one = await atMainMenu(tale);
    await go(one, [...toArchives('far'), ['1\r', /> {3}1 1\+1/]]);
    await servers[0]?.stop();
    await go(one, [
      [['enter'], 'Is this the archive?'],
      [['y'], /another copy\s+is taken/],
      [['enter'], /Which FULL for far.vmdk|Location to restore to/],
    ]);
  },
  TALE_MS,
);
