/** Setting an ESX host up, checking it, undoing that; its storage: by the built program, against a simulated host. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseBlocks, parseTable } from '../../src/hosts/esx/esx-storage.ts';
import { HostLine } from '../../src/hosts/host-line.ts';
import { randomLooking } from '../support/disk-images.ts';
import { type SimulatedEsx, startSimulatedEsx } from '../support/servers/esx/simulated-esx.ts';
import { BLOCK, HOOK_TIMEOUT_MS, linesOf, Tale } from '../tales/tale.ts';

describe('Setting up an ESX host', () => {
  const tale = new Tale();
  let esx: SimulatedEsx;
  beforeAll(async () => {
    esx = await startSimulatedEsx({ python: true });
    esx.addVm({
      id: 3,
      name: 'web',
      disks: [{ name: 'web.vmdk', content: randomLooking('web', 3 * BLOCK) }],
    });
    tale.home.write('esx.key', esx.privateKey);
    tale.home.write('esx.known', `[127.0.0.1]:${esx.server.port} ${esx.hostKey}\n`);
    tale.configure({
      config: `hosts:\n  - { name: esx, type: esx, host: 127.0.0.1, port: ${esx.server.port}, user: ${esx.server.user}, privateKeyFile: esx.key, knownHostsFile: esx.known, timeoutSeconds: 10 }\n`,
    });
  }, HOOK_TIMEOUT_MS);
  afterAll(async () => {
    await esx?.stop();
    tale.remove();
  });
  const keysFile = (): string => esx.path('etc', 'ssh', `keys-${esx.server.user}`, 'authorized_keys');

  it('its storage is told: volumes with what they lie on, devices, paths to LUNs, NFS and its options', async () => {
    const run = await tale.phd(['host', 'storage', 'esx', '--json']);
    expect(run.stderr).toBe('');
    expect(linesOf(run)[0]).toMatchObject({
      volumes: [
        {
          name: 'datastore1',
          type: 'VMFS-6',
          sizeBytes: 499_826_818_048,
          freeBytes: 123_456_789_504,
          on: ['naa.600508b1001c0001:3'],
        },
        { name: 'nfs backups', type: 'NFS', sizeBytes: 1_099_511_627_776, on: ['192.168.1.110:/export/bkp'] },
        { name: '', type: 'vfat' },
      ],
      devices: [{ id: 'naa.600508b1001c0001', sizeBytes: 476_940 * 1_048_576, vendor: 'HP', isSsd: false }],
      paths: [{ runtimeName: 'vmhba1:C0:T0:L1', lun: 1, state: 'active', device: 'naa.600508b1001c0001' }],
      nfs: [{ volume: 'nfs backups', isAccessible: true, isReadOnly: false }],
      nfsOptions: [
        { path: '/NFS/HeartbeatTimeout', value: '5' },
        { path: '/NFS/MaxVolumes', value: '64', default: '8' },
      ],
    });
    const text = await tale.phd(['host', 'storage', 'esx']);
    expect(text.stdout).toMatch(/^datastore1 +VMFS-6 +/m);
    expect(text.stdout).toMatch(/^vmhba1:C0:T0:L1 +1 +sas +active +naa/m);
    const good = await tale.phd(['host', 'storage', '--iscsi', 'IQN.1998-01.com.vmware:esx01']);
    expect([good.status, good.stdout]).toEqual([
      0,
      expect.stringContaining('iqn.1998-01.com.vmware:esx01: a good iqn name'),
    ]);
    const bad = await tale.phd(['host', 'storage', '--iscsi', 'eui.12']);
    expect([bad.status, bad.stderr]).toEqual([
      2,
      expect.stringContaining('expected eui. and 16 hexadecimal digits'),
    ]);
  });

  it('the key is let in from here alone, a backup and a restore run by it, a shell does not; remove undoes it', async () => {
    const shown = await tale.phd(['host', 'setup', 'esx']);
    expect(shown.status, shown.stderr).toBe(0);
    expect(shown.stdout).toContain('from="127.0.0.1",command="case $SSH_ORIGINAL_COMMAND in ');
    expect(shown.stdout).not.toContain('PRIVATE');
    const done = await tale.phd(['host', 'setup', 'esx', '--run']);
    expect(done.status, done.stderr).toBe(0);
    expect(done.stdout).toContain('the key alone logs in\nit survives a restart of the host');
    expect(esx.takeLog()).toContain('auto-backup');
    await tale.phd(['host', 'setup', 'esx', '--run']);
    expect(readFileSync(keysFile(), 'utf8').trim().split('\n')).toHaveLength(1);

    esx.forgetFirstKey();
    const check = await tale.phd(['host', 'check', 'esx', '--json']);
    expect(check.status, check.stderr).toBe(0);
    expect(linesOf(check).map(({ what, state }) => [what, state])).toEqual(
      ['login', 'programs', 'VMs', 'blocks', 'key', 'snapshots'].map((what) => [what, 'good']),
    );
    const backup = await tale.phd(['backup', 'esx/web', '--json']);
    expect(backup.status, backup.stderr).toBe(0);
    const restore = await tale.phd([
      'host',
      'restore',
      'esx',
      'web',
      '--datastore',
      'datastore1',
      '--name',
      'again',
    ]);
    expect(restore.status, restore.stderr).toBe(0);

    const line = await HostLine.open(
      {
        name: 'esx',
        type: 'esx',
        host: '127.0.0.1',
        port: esx.server.port,
        user: esx.server.user,
        password: null,
        privateKeyFile: '/key',
        privateKeyPassphrase: null,
        knownHostsFile: null,
        tlsPin: null,
        memberTlsPins: [],
        legacyAlgorithms: false,
        timeoutMs: 10_000,
        devices: [],
      },
      {
        password: async () => null,
        privateKey: async () => esx.privateKey,
        privateKeyPassphrase: async () => null,
        askHostKey: async () => true,
        log: () => undefined,
        home: '/home/of/phd',
        scratch: () => Promise.reject(new Error('none is needed here')),
      },
    );
    for (const command of ['id', 'scp -f /etc/passwd', '/bin/sh', 'vim-cmdx', 'reboot']) {
      const { status, stderr } = await line.run(command);
      expect([status, stderr], command).toEqual([126, 'this key runs commands of phd only\n']);
    }
    line.close();

    const removed = await tale.phd(['host', 'remove', 'esx']);
    expect(removed.status, removed.stderr).toBe(0);
    expect(readFileSync(keysFile(), 'utf8')).toBe('');
    const after = await tale.phd(['host', 'check', 'esx']);
    expect([after.status, after.stdout]).toEqual([4, expect.stringMatching(/^failed {3}login: /)]);
  }, 120_000);
});

describe('Tables and blocks of esxcli', () => {
  it('answers that are cut or odd give no rows, never an error', () => {
    expect(parseTable('')).toEqual([]);
    expect(parseTable('---- ---\nno head')).toEqual([]);
    expect(parseTable('A     B\n----  ----\nx')).toEqual([{ A: 'x', B: '' }]);
    expect(
      parseBlocks('  Path: /a: b\n\nnaa.1\n   Size: 3\n').map(({ title, values }) => [title, [...values]]),
    ).toEqual([
      ['', [['Path', '/a: b']]],
      ['naa.1', [['Size', '3']]],
    ]);
  });
});
