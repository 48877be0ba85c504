/** The day the host died: copies of the configuration on targets, without secrets, and a new host that takes one over. */
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { choosePlaces } from '../../src/config/places.ts';
import { portableConfig, printConfig } from '../../src/config/portable-config.ts';
import { secretIn } from '../../src/config/readable-secrets.ts';
import { areCopiesDue } from '../../src/safekeeping/copies.ts';
import { startVsftpd } from '../support/servers/ftpd.ts';
import type { RunningServer } from '../support/servers/own-namespace.ts';
import { HOOK_TIMEOUT_MS, linesOf, MIB, only, sha256, Tale, until } from '../tales/tale.ts';

const COPIES = 'phd-configuration';
let ftp: RunningServer;
let tale: Tale;
let fresh: Tale;

/** A host with a local target, an FTP server, secrets of all kinds, a vmdks.auto. */
function makeHost(): Tale {
  const host = new Tale();
  host.home.write('secrets/ftp', `${ftp.password}\n`, 0o600);
  host.home.write('secrets/system', 'CANARY system\n', 0o600);
  host.home.writeConfig(`# CANARY comment
targets:
  - { number: 1, name: local, transport: vmfs, path: ${host.home.folder('one')} }
  - { number: 2, name: ftp1, transport: ftp, host: ${ftp.host}, port: ${ftp.port}, user: ${ftp.user}, passwordFile: secrets/ftp, path: /backups }
  - { number: 3, name: vault, transport: ssh, host: vault.example, user: b, passwordCommand: "echo CANARY command", path: /x, readOnly: true }
datastores: [${host.datastore}]
encryption: { systemPassphraseFile: secrets/system }
backup: { codec: zstd }
replication: { enabled: true }
ownNotes: CANARY unknown
`);
  host.home.write(
    'vmdks.auto',
    '#USE_SPASS=CANARY words\n \t#use_mpass=CANARY\u2028CANARY\r\nUSE_SPASS = CANARY\n#ARGS=verify\nRESTORE:crm|*|00|crm.vmdk|/x/crm.vmdk\n',
    0o600,
  );
  return host;
}

const onServer = (): string => path.join(ftp.folder, 'backups');

/** Folder of the newest copy below a target's root. */
function newestCopy(root: string): string {
  const host = path.join(root, COPIES, only(readdirSync(path.join(root, COPIES))));
  return path.join(host, readdirSync(host).sort().at(-1) ?? '');
}

beforeAll(async () => {
  ftp = await startVsftpd();
  mkdirSync(onServer(), { recursive: true });
  const { uid, gid } = statSync(ftp.folder);
  chownSync(onServer(), uid, gid);
  tale = makeHost();
  fresh = new Tale();
}, HOOK_TIMEOUT_MS);
afterEach(() => {
  fresh.remove();
  fresh = new Tale();
});
afterAll(async () => {
  tale.remove();
  fresh.remove();
  await ftp.stop();
});

describe('What may leave a machine', () => {
  it('is what is known, without commands, variables and files from elsewhere', () => {
    const text = `
targets:
  - { number: 1, name: a, transport: ftp, host: h, user: u, path: /p, passwordCommand: "cat /etc/shadow" }
  - { number: 2, name: b, transport: ftp, host: h, user: u, path: /p, passwordFile: /etc/shadow }
  - { number: 3, name: c, transport: ssh, host: h, user: u, path: /p, privateKeyFile: ../../root/.ssh/id_rsa, passwordEnv: AWS_SECRET }
  - { number: 4, name: d, transport: ssh, host: h, user: u, path: /p, privateKeyFile: secrets/id }
encryption: { systemPassphraseFile: secrets/system, formerPassphraseFiles: [secrets/old, /etc/passwd] }
reports: { statusLog: /etc/cron.d/phd, pingUrlFile: /etc/shadow }
backupJobs: [{ name: nightly, vms: ['*'], hooks: { beforeRun: touch /x, afterVm: touch /y } }]
unknown: { deeper: 1 }
`;
    const config = portableConfig(text, 'phd.yaml') as Record<string, never>;
    expect(config).toEqual({
      targets: [
        { number: 1, name: 'a', transport: 'ftp', host: 'h', user: 'u', path: '/p' },
        { number: 2, name: 'b', transport: 'ftp', host: 'h', user: 'u', path: '/p' },
        { number: 3, name: 'c', transport: 'ssh', host: 'h', user: 'u', path: '/p' },
        {
          number: 4,
          name: 'd',
          transport: 'ssh',
          host: 'h',
          user: 'u',
          path: '/p',
          privateKeyFile: 'secrets/id',
        },
      ],
      encryption: { systemPassphraseFile: 'secrets/system' },
      reports: {},
      backupJobs: [{ name: 'nightly', vms: ['*'] }],
    });
    expect(portableConfig(printConfig(config), 'again')).toEqual(config);
  });

  it('is searched for secrets, each line of a key for itself', () => {
    const secrets = [
      { what: 'short', secret: 'abc' },
      { what: 'a key', secret: '-----BEGIN KEY-----\nAAAAB3NzaC1\n-----END KEY-----\n' },
      { what: 'quoted', secret: 'say "x"' },
    ];
    expect(secretIn(JSON.stringify({ a: 'say "x"' }), secrets)).toBe('quoted');
    expect(secretIn('abc -----BEGIN KEY-----', secrets)).toBeUndefined();
    expect(secretIn('x: AAAAB3NzaC1', secrets)).toBe('a key');
  });
});

describe('Copies of the configuration', () => {
  it('go to each target that may be written, tell no secret, and are proved by sha256sum', async () => {
    const run = await tale.phd(['config', 'copy', '--json']);
    expect(run.status, run.stderr).toBe(0);
    expect(linesOf(run, 'done').map(({ target }) => target)).toEqual([1, 2]);
    for (const root of [tale.path('one'), onServer()]) {
      const folder = newestCopy(root);
      expect(readdirSync(folder).sort()).toEqual(['SHA256SUMS', 'phd.yaml', 'vmdks.auto']);
      const texts = readdirSync(folder).map((name) => readFileSync(path.join(folder, name), 'utf8'));
      expect(texts.join('')).not.toMatch(new RegExp(`CANARY|${ftp.password}`));
      const sums = readFileSync(path.join(folder, 'SHA256SUMS'), 'utf8').trim().split('\n');
      for (const line of sums) {
        const [digest, name = ''] = line.split('  ');
        expect(sha256(readFileSync(path.join(folder, name)))).toBe(digest);
      }
      expect(sums).toHaveLength(2);
    }
    expect((await tale.phd(['config', 'copy'])).stdout).toMatch(/^target 1: has this copy already$/m);
  });

  it('are no archives and no strays of the index', async () => {
    const rows = linesOf(await tale.phd(['index', '--target', '1', '--json']), 'done');
    expect(only(rows)).toMatchObject({ targetNumber: 1, archiveCount: 0, strayEntries: 0 });
  });

  it('are made anew after a change, by the daemon; five are kept', async () => {
    for (const level of [1, 2, 3, 4, 5, 6]) {
      await tale.phd(['config', 'set', 'backup.level', String(level)]);
      if (level < 6) await tale.phd(['config', 'copy']);
    }
    const before = newestCopy(tale.path('one'));
    await tale.phd(['daemon', 'start']);
    try {
      const isWhole = (folder: string): boolean => existsSync(path.join(folder, 'SHA256SUMS'));
      await until(() => newestCopy(tale.path('one')) !== before && isWhole(newestCopy(tale.path('one'))));
      await until(
        () =>
          isWhole(newestCopy(onServer())) &&
          readFileSync(path.join(newestCopy(onServer()), 'phd.yaml'), 'utf8').includes('level: 6'),
      );
    } finally {
      await tale.phd(['daemon', 'stop', '--now']);
    }
    await tale.phd(['config', 'copy']);
    expect(readdirSync(path.dirname(newestCopy(tale.path('one'))))).toHaveLength(5);
  });

  it('go along with a backup, where no daemon runs', async () => {
    const vm = await tale.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: MIB }]);
    await tale.phd(['config', 'set', 'backup.codec', 'gzip']);
    await tale.phd(['config', 'set', 'backup.level', '1']);
    await tale.backup(vm.folder);
    expect(readFileSync(path.join(newestCopy(tale.path('one')), 'phd.yaml'), 'utf8')).toContain(
      'codec: gzip',
    );
  });

  it('are refused where a secret stands in the configuration itself; whose is said, not what', async () => {
    const host = makeHost();
    host.home.write('secrets/system', 'in-the-open\n', 0o600);
    await host.phd(['config', 'set', 'backup.encrypt', 'true']);
    await host.phd(['target', 'edit', '1', '--name', 'in-the-open']);
    const run = await host.phd(['config', 'copy']);
    expect(run.status).toBe(2);
    expect(run.stderr).toContain('no copy is kept: the system passphrase stands in phd.yaml itself');
    expect(run.stderr).not.toContain('in-the-open');
    expect(readdirSync(host.path('one'))).toEqual([]);
    const places = choosePlaces({ PHD_HOME: host.path() }, false);
    const inMinutes = (minutes: number): Date => new Date(Date.now() + minutes * 60_000);
    expect(await areCopiesDue(places, inMinutes(30))).toBe(false);
    expect(await areCopiesDue(places, inMinutes(90))).toBe(true);
    await host.phd(['config', 'set', 'backup.level', '2']);
    expect(await areCopiesDue(places, inMinutes(0))).toBe(true);
    host.remove();
  });

  it('on a target that does not take them hold up no other, and are told', async () => {
    const host = makeHost();
    await host.phd(['target', 'edit', '2', '--port', '1']);
    const run = await host.phd(['config', 'copy']);
    expect(run.status).not.toBe(0);
    expect(run.stderr).toContain('target 2: the copy of the configuration is not kept');
    expect(run.stdout).toContain('target 1: the copy is written');
    host.remove();
  });
});

describe('A new host', () => {
  async function reach(): Promise<void> {
    fresh.home.write('mine', `${ftp.password}\n`, 0o600);
    fresh.home.writeConfig(
      `targets: [{ number: 1, name: first, transport: ftp, host: ${ftp.host}, port: ${ftp.port}, user: ${ftp.user}, passwordFile: mine, path: /backups }]\n`,
    );
  }

  it('takes over what another left: its own way to the target stays, replication stays off, the rest is named', async () => {
    await tale.phd(['config', 'copy']);
    await reach();
    const dry = await fresh.phd(['config', 'adopt', '--target', '1', '--dry-run']);
    expect(dry.status, dry.stderr).toBe(0);
    expect(dry.stdout).toContain('target 2 ftp1: ftp');
    expect(dry.stdout).toContain('vmdks.auto: 1 line, replication stays off');
    expect(dry.stdout).toContain('target 3 (vault) has no password or key');
    expect(dry.stdout).toMatch(/system passphrase .* goes into .*secrets\/system/);
    expect(readFileSync(fresh.path('phd.yaml'), 'utf8')).toContain('name: first');
    const refused = await fresh.phd(['config', 'adopt', '--target', '1']);
    expect(refused.stderr).toContain('nothing is taken over');
    const run = await fresh.phd(['config', 'adopt', '--target', '1', '--yes']);
    expect(run.status, run.stderr).toBe(0);
    const targets = linesOf(await fresh.phd(['target', 'list', '--json']));
    expect(targets.map(({ number, name }) => [number, name])).toEqual([
      [1, 'local'],
      [2, 'ftp1'],
      [3, 'vault'],
    ]);
    expect((await fresh.phd(['config', 'get', 'targets[1].passwordFile'])).stdout).toContain('mine');
    expect((await fresh.phd(['config', 'get', 'replication.enabled'])).stdout.trim()).toBe('false');
    expect(readFileSync(fresh.path('vmdks.auto'), 'utf8')).toContain('RESTORE:crm|*|00|crm.vmdk|/x/crm.vmdk');
    expect(readFileSync(fresh.path('phd.yaml.before'), 'utf8')).toContain('name: first');
    expect((await fresh.phd(['index', '--target', '2'])).status).toBe(0);
  });

  it('is told where there is no copy, and whose there are', async () => {
    fresh.configure({});
    const none = await fresh.phd(['config', 'adopt', '--target', '1', '--yes']);
    expect(none.stderr).toContain('target 1 holds no copy of a configuration');
    await reach();
    const other = await fresh.phd(['config', 'adopt', '--target', '1', '--from', 'nobody', '--yes']);
    expect(other.stderr).toMatch(/holds no copy of nobody; it has those of \S+/);
  });

  it.each([
    ['a flipped byte', (text: string) => text.replace('local', 'lokal')],
    ['a configuration that is none', () => 'targets: 7\n'],
    ['a bomb of aliases', () => `a: &a [x,x]\n${'b'.repeat(3)}: [${'*a,'.repeat(200)}]\n`],
  ])('refuses %s and changes nothing', async (what, change) => {
    const root = fresh.home.folder('one');
    fresh.configure({});
    await fresh.phd(['config', 'copy']);
    const folder = newestCopy(root);
    const changed = change(readFileSync(path.join(folder, 'phd.yaml'), 'utf8').replace('one', 'local'));
    writeFileSync(path.join(folder, 'phd.yaml'), changed);
    if (what !== 'a flipped byte')
      writeFileSync(path.join(folder, 'SHA256SUMS'), `${sha256(changed)}  phd.yaml\n`);
    const before = readFileSync(fresh.path('phd.yaml'), 'utf8');
    const run = await fresh.phd(['config', 'adopt', '--target', '1', '--yes']);
    expect(run.status).not.toBe(0);
    expect(run.stderr).not.toContain('fault in the program');
    expect(readFileSync(fresh.path('phd.yaml'), 'utf8')).toBe(before);
  });

  it('names whom passwords go to, leaves backup jobs off, and refuses to send a passphrase away', async () => {
    const root = fresh.home.folder('one');
    fresh.home.write('secrets/mine', 'of this host\n', 0o600);
    fresh.configure({
      config:
        'hosts: [{ name: pool, type: xen, host: pool.example, user: root, passwordFile: secrets/mine }]\n',
    });
    const own = readFileSync(fresh.path('phd.yaml'), 'utf8');
    fresh.home.write('secrets/system', 'my own words\n', 0o600);
    const folder = path.join(root, COPIES, 'evil', '20260101-000000-aaaa');
    mkdirSync(folder, { recursive: true });
    const adopt = (password: string, sums = 1, ask = '--yes'): ReturnType<Tale['phd']> => {
      const text = `targets: [{ number: 2, name: evil, transport: ftp, host: evil.example, user: u, path: /p, passwordFile: ${password} }]
encryption: { systemPassphraseFile: secrets/system }
reports: { mail: { host: mx.example, from: a@b.example, to: c@d.example } }
backupJobs: [{ name: nightly, vms: ['*'], full: '0 1 * * *', keep: 1 }]
`;
      writeFileSync(path.join(folder, 'phd.yaml'), text);
      writeFileSync(path.join(folder, 'SHA256SUMS'), `${sha256(text)}  phd.yaml\n`.repeat(sums));
      return fresh.phd(['config', 'adopt', '--target', '1', ask]);
    };
    const refused = await adopt('secrets/../secrets/system');
    expect(refused.status).toBe(2);
    expect(refused.stderr).toMatch(
      /target 2 \(evil\) would be sent .*secrets\/system, which holds a passphrase/,
    );
    expect((await adopt('secrets/ftp', 2)).status).toBe(3);
    expect((await adopt('secrets/mine', 1, '--dry-run')).stdout).toMatch(
      /evil\.example.*secrets\/mine, A FILE THAT IS HERE/,
    );
    expect(readFileSync(fresh.path('phd.yaml'), 'utf8')).toBe(own);
    fresh.home.write('secrets/ftp', 'of another server\n', 0o600);
    const taken = await adopt('secrets/ftp');
    expect(taken.status, taken.stderr).toBe(0);
    expect(taken.stdout).toMatch(/target 2 evil: ftp .*evil\.example.*, password from file .*secrets\/ftp/);
    expect(taken.stdout).toMatch(/secrets\/ftp, A FILE THAT IS HERE ALREADY/);
    expect(taken.stdout).toContain('mail to c@d.example by mx.example');
    expect(taken.stdout).toContain('backup job nightly, which stays off');
    expect(taken.stdout).toContain('backups are not encrypted');
    expect((await fresh.phd(['config', 'get', 'backupJobs[0].enabled'])).stdout.trim()).toBe('false');
    await fresh.phd(['config', 'set', 'backupJobs[0].enabled', 'true']);
    expect((await fresh.phd(['config', 'get', 'backupJobs[0].enabled'])).stdout.trim()).toBe('true');
  });

  it('passes over a copy that was cut before its list of digests', async () => {
    fresh.configure({});
    await fresh.phd(['config', 'copy']);
    const whole = newestCopy(fresh.path('one'));
    mkdirSync(path.join(path.dirname(whole), '99991231-235959-ffff'));
    writeFileSync(path.join(path.dirname(whole), '99991231-235959-ffff', 'phd.yaml'), 'targets: []\n');
    const run = await fresh.phd(['config', 'adopt', '--target', '1', '--yes']);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stdout).toContain(path.basename(whole));
    rmSync(path.join(path.dirname(whole), '99991231-235959-ffff'), { recursive: true });
  });
});
