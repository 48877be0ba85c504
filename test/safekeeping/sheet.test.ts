/** The sheet for the drawer, and the bundle for whoever is asked for help: useful, and without any secret. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fileDigest, HOOK_TIMEOUT_MS, MIB, only, systemTool, Tale } from '../tales/tale.ts';

const KEY = 'AAAAC3NzaC1lZDI1NTE5AAAAIJVbH1Rkz6Wm9kPQkDqSyGXv5D0xFqXQJfF0wY8m1q8h';
let tale: Tale;
let flat: string;

beforeAll(async () => {
  tale = new Tale();
  tale.home.write('secrets/system', 'CANARY system\n', 0o600);
  tale.home.write('secrets/ftp', 'CANARY-ftp\n', 0o600);
  tale.home.write('known_hosts', `[vault.example]:2222 ssh-ed25519 ${KEY}\n`);
  tale.home.writeConfig(`# CANARY comment
targets:
  - { number: 1, name: one, transport: vmfs, path: ${tale.home.folder('one')} }
  - { number: 2, name: ftp1, transport: ftp, host: ftp.example, user: u, passwordFile: secrets/ftp, path: /${'long/'.repeat(30)}backups, tls: explicit }
  - { number: 3, name: vault, transport: ssh, host: vault.example, port: 2222, user: b, passwordCommand: echo CANARY, path: /x }
encryption: { systemPassphraseFile: secrets/system }
`);
  const vm = await tale.makeVm('CRM "one"', [
    { name: 'CRM.vmdk', sizeBytes: 2 * MIB },
    { name: 'data.vmdk', sizeBytes: MIB },
  ]);
  ({ flatPath: flat } = vm.disks[0] as { flatPath: string });
  await tale.backup(vm.folder);
  await tale.phd(['verify', '--target', '1']);
  await tale.makeVm('mail', [{ name: 'mail.vmdk', sizeBytes: MIB }]);
  await tale.backup(tale.path('vmfs', 'mail'));
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());

describe('phd sheet', () => {
  it('tells targets, host keys, passphrases and what is proved, in 80 columns and without a secret', async () => {
    const { stdout, status } = await tale.phd(['sheet']);
    expect(status).toBe(0);
    expect(stdout).not.toContain('CANARY');
    expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
    expect(stdout).toContain('  1 one: vmfs');
    expect(stdout).toMatch(/key ssh-ed25519 SHA256:[A-Za-z0-9+/]{43}/);
    expect(stdout).toContain('scp -r -P 2222 b@vault.example:/x/FOLDER .');
    expect(stdout).toMatch(/system {3}since \d{4}-\d\d-\d\d, file /);
    expect(stdout).toMatch(/CRM "one": \d{4}-\d\d-\d\d \d\d:\d\d, proved \d{4}-\d\d-\d\d, 2 disks/);
    expect(stdout).toMatch(/mail: \d{4}-\d\d-\d\d \d\d:\d\d, NOT PROVED, 1 disk/);
  });

  it('its lines restore by hand: the folder it names, the command it prints', async () => {
    const { stdout } = await tale.phd(['sheet']);
    const folder =
      /CRM "one".*\n\s+target 1, ([^\n]+(?:\n {8}[^\n]+)?)/.exec(stdout)?.[1]?.replace(/\n {8}/, '') ?? '';
    const delta = only(
      readdirSync(tale.path('one', folder)).filter((name) => name.includes('CRM.vmdk.delta')),
    );
    const command = /^\s+(USE_RPATH=.*)$/m.exec(stdout)?.[1] ?? '';
    const out = tale.newFolder();
    mkdirSync(out);
    const words = command
      .replace('/srv/vms/NAME', out)
      .replace('DELTA', `'${tale.path('one', folder, delta)}'`);
    await systemTool('sh', ['-c', words]);
    expect(fileDigest(`${out}/CRM-flat.vmdk`)).toBe(fileDigest(flat));
    const full = only(readdirSync(tale.path('one', folder)).filter((name) => name.includes('CRM.vmdk.gz')));
    const unpack = /^\s+(gzip -dc FULL > NAME-flat\.vmdk)$/m.exec(stdout)?.[1] ?? '';
    const byGzip = unpack
      .replace('FULL', `'${tale.path('one', folder, full)}'`)
      .replace('NAME', `${out}/by-gzip`);
    await systemTool('sh', ['-c', byGzip]);
    expect(fileDigest(`${out}/by-gzip-flat.vmdk`)).toBe(fileDigest(flat));
  });
});

describe('phd sheet with several runs of one day, which lie in one folder', () => {
  it('tells each run by itself: what is newer and not proved, then that it was proved', async () => {
    const CRM =
      /CRM "one": [\d-]+ (\d\d:\d\d), proved [\d-]+, (\d) disks, [\s\S]*?(?:newer, not proved: [\d-]+ (\d\d:\d\d)|\n {2}\S)/;
    const [, provedAt] = CRM.exec((await tale.phd(['sheet'])).stdout) ?? [];
    const newer: unknown[] = [];
    for (const _ of [1, 2]) {
      await tale.backup(tale.path('vmfs', 'CRM "one"'));
      const [, shown, disks, unproved] = CRM.exec((await tale.phd(['sheet'])).stdout) ?? [];
      expect([shown, disks]).toEqual([provedAt, '2']);
      expect([undefined, provedAt, ...newer]).not.toContain(unproved);
      newer.push(unproved);
    }
    await tale.phd(['verify', '--target', '1']);
    const [, shown, disks, unproved] = CRM.exec((await tale.phd(['sheet'])).stdout) ?? [];
    expect([shown, disks, unproved]).toEqual([newer[1], '2', undefined]);
  });
});

describe('phd support-bundle', () => {
  it('holds logs, configuration, versions and jobs, and no secret that can be read, wherever it stood', async () => {
    writeFileSync(tale.path('log', 'phd.log'), 'someone typed CANARY system and CANARY-ftp here\n', {
      flag: 'a',
    });
    await tale.phd(['restore', '1:none/none', '--to', tale.newFolder(), '--background']);
    const file = tale.path('bundle.tar.gz');
    const run = await tale.phd(['support-bundle', file]);
    expect(run.status, run.stderr).toBe(0);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const out = tale.home.folder('unpacked');
    execFileSync('tar', ['-xzf', file, '-C', out]);
    const texts = readdirSync(`${out}/phd-support`, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => [entry.name, readFileSync(`${entry.parentPath}/${entry.name}`, 'utf8')] as const);
    const all = new Map(texts);
    expect([...all.keys()]).toEqual(
      expect.arrayContaining(['versions.txt', 'configuration.yaml', 'targets.json', 'jobs.json', 'phd.log']),
    );
    expect([...all.values()].join('\n')).not.toContain('CANARY');
    expect(all.get('phd.log')).toContain('someone typed *** and *** here');
    expect(all.get('versions.txt')).toMatch(/^program: phd \d/);
    const again = await tale.phd(['support-bundle', file]);
    expect(again.stderr).toContain('is there already');
  });

  it('is made with a phd.yaml that is broken, too', async () => {
    const host = new Tale();
    host.home.write('secrets/one', 'CANARY-beside\n', 0o600);
    host.home.write('elsewhere', 'CANARY-named\n', 0o600);
    host.home.write('vmdks.auto', '#USE_SPASS=CANARY words\n', 0o600);
    host.home.writeConfig('targets: 7\nencryption: { systemPassphraseFile: "elsewhere" }\n');
    mkdirSync(host.path('log'), { recursive: true });
    writeFileSync(host.path('log', 'phd.log'), 'CANARY-beside, CANARY-named, CANARY words\n');
    const run = await host.phd(['support-bundle', host.path('b.tar.gz')]);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).toContain('phd.yaml:1');
    const faults = execFileSync('tar', [
      '-xzOf',
      host.path('b.tar.gz'),
      'phd-support/configuration-faults.txt',
    ]);
    expect(faults.toString()).toContain('phd.yaml:1');
    const all = execFileSync('tar', ['-xzOf', host.path('b.tar.gz')]).toString();
    expect(all).not.toContain('CANARY');
    expect(all).toContain('***, ***, ***\n');
    host.remove();
  });
});
