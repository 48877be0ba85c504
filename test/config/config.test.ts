import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { editConfig, getConfigValue, parseKey, setConfigValue } from '../../src/config/edit-config.ts';
import { loadConfig, parseConfig } from '../../src/config/load-config.ts';
import { choosePlaces, networkFileSystem, preparePlaces } from '../../src/config/places.ts';
import { readPassphrases, readSecret } from '../../src/config/secrets.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

let home: TempHome;
let file: string;

beforeEach(() => {
  home = makeTempHome();
  file = path.join(home.root, 'phd.yaml');
});

afterEach(() => home.remove());

const places = () => ({ configDir: home.root, stateDir: `${home.root}/state`, logDir: `${home.root}/log` });

describe('places', () => {
  it('PHD_HOME holds everything; then root has the system folders, others the XDG folders', () => {
    expect(choosePlaces({ PHD_HOME: '/x' }, true)).toEqual({
      configDir: '/x',
      stateDir: '/x/state',
      logDir: '/x/log',
    });
    expect(choosePlaces({}, true)).toEqual({
      configDir: '/etc/phd',
      stateDir: '/var/lib/phd',
      logDir: '/var/log/phd',
    });
    expect(choosePlaces({ HOME: '/home/me' }, false).configDir).toBe('/home/me/.config/phd');
    expect(choosePlaces({ HOME: '/home/me', XDG_STATE_HOME: '/s' }, false).stateDir).toBe('/s/phd');
    expect(() => choosePlaces({ PHD_HOME: 'relative' }, false)).toThrow(
      expect.objectContaining({ code: 'USAGE' }),
    );
  });

  it('folders are made closed to others', async () => {
    home.folder('state');
    await preparePlaces(places());
    for (const folder of ['state', 'log'])
      expect(statSync(path.join(home.root, folder)).mode & 0o777).toBe(0o700);
  });

  it('NFS and SMB are known by their numbers, also where those are negative', () => {
    expect([0x6969, 0x517b, 0xff534d42 | 0, 0xfe534d42 | 0].map(networkFileSystem)).toEqual([
      'NFS',
      'SMB',
      'SMB (CIFS)',
      'SMB 2',
    ]);
    expect(networkFileSystem(0xef53)).toBeUndefined();
  });
});

describe('phd.yaml', () => {
  it('without a file every setting has its default', async () => {
    expect(await loadConfig(places())).toMatchObject({
      targets: [],
      datastores: [],
      encryption: { system: null, master: null, former: [] },
      backup: { codec: 'gzip', fullAboveChangedPercent: 50, fullOffline: 'refused' },
      indexMaxAgeMinutes: 15,
    });
  });

  it('the least form of each transport is enough, paths are relative to the configuration', async () => {
    home.writeConfig(`targets:
  - { number: 2, name: ftp1, transport: ftp, host: 192.168.1.110, port: 21, user: u, passwordFile: secrets/ftp1, path: /b, tls: none }
  - { number: 1, name: local, transport: vmfs, path: backups }
  - { number: 3, name: vault, transport: ssh, host: vault, user: b, privateKeyFile: secrets/id, knownHostsFile: known_hosts, path: /srv }
datastores: [ /vmfs/volumes ]
encryption: { systemPassphraseFile: secrets/system, masterPassphraseFile: secrets/master }
`);
    const config = await loadConfig(places());
    expect(config.targets.map((one) => one.number)).toEqual([1, 2, 3]);
    expect(config.targets[0]).toMatchObject({
      path: path.join(home.root, 'backups'),
      host: null,
      readOnly: false,
    });
    expect(config.targets[1]?.password).toEqual({ kind: 'file', path: path.join(home.root, 'secrets/ftp1') });
    expect(config.targets[2]).toMatchObject({
      privateKeyFile: path.join(home.root, 'secrets/id'),
      password: null,
    });
    expect(config.encryption.master).toEqual({ kind: 'file', path: path.join(home.root, 'secrets/master') });
  });

  it.each([
    [
      'targets:\n  - { number: one, name: a, transport: vmfs, path: /a }',
      '/phd.yaml:2: targets[0].number: expected number, received string',
    ],
    ['index:\n  maxAgeMinutes: -1', '/phd.yaml:2: index.maxAgeMinutes: expected minutes, 0 or more'],
    [
      'targets:\n  - number: 1\n    name: a\n    transport: nfs\n    path: /a',
      '/phd.yaml:4: targets[0].transport: expected one of "vmfs"|"ftp"|"ssh"',
    ],
    [
      'targets:\n  - { number: 1, name: a, transport: ftp, path: /a, user: u }',
      '/phd.yaml:2: targets[0].host: expected a host name or address',
    ],
    [
      'targets:\n  - { number: 1, name: a, transport: vmfs, path: /a }\n  - { number: 1, name: b, transport: vmfs, path: /b }',
      '/phd.yaml:3: targets[1].number: expected a number of its own: 1 is taken',
    ],
    ['datastores: /vmfs', '/phd.yaml:1: datastores: expected array, received string'],
    ['a: [1', '/phd.yaml:1: '],
    ['- 1', '/phd.yaml:1: (whole file): expected object'],
    [
      'encryption: { systemPassphraseFile: a, systemPassphraseEnv: b }',
      'encryption: expected one of systemPassphraseFile, systemPassphraseEnv',
    ],
    [
      'x: &a [1,1,1,1,1,1,1,1,1]\ny: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nz: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nq: [*c,*c,*c,*c,*c,*c,*c,*c]',
      'alias',
    ],
  ])('%j is refused with file, line, key and what was expected', (text, words) => {
    const { config, faults } = parseConfig(text, '/phd.yaml');
    expect(config).toBeUndefined();
    expect(faults[0]).toContain(words);
    expect(faults[0]).not.toContain('\n');
  });

  it('what is no file, or no text in UTF-8, is refused by name and holds nobody up', async () => {
    const failure = (words: string) => expect.objectContaining({ code: 'CONFIG_INVALID', message: words });
    home.write('phd.yaml', Buffer.from([0x23, 0xff, 0x0a]));
    await expect(loadConfig(places())).rejects.toEqual(failure(`${file} is not text in UTF-8`));
    rmSync(file);
    execFileSync('mkfifo', [file]);
    await expect(loadConfig(places())).rejects.toEqual(failure(`${file} is not a file`));
    rmSync(file);
    home.folder('phd.yaml');
    await expect(loadConfig(places())).rejects.toEqual(failure(`${file} is not a file`));
  });

  it('all faults are named, not only the first', () => {
    expect(parseConfig('datastores: 1\nindex: { maxAgeMinutes: x }', '/f').faults).toHaveLength(2);
  });

  it('a changed value keeps the comment beside it and above it, whatever its kind', async () => {
    const file = home.write(
      'phd.yaml',
      'index:\n  # above\n  maxAgeMinutes: 15 # beside\ndatastores: [ /a ] # of all\nconsole:\n  look: "thin" # quoted\n',
    );
    await setConfigValue(file, ['index', 'maxAgeMinutes'], '30');
    await setConfigValue(file, ['datastores'], '[ /a, /b ]');
    await setConfigValue(file, ['console', 'look'], 'rich');
    expect(readFileSync(file, 'utf8')).toBe(
      'index:\n  # above\n  maxAgeMinutes: 30 # beside\ndatastores: [ /a, /b ] # of all\nconsole:\n  look: "rich" # quoted\n',
    );
  });

  it('an edit keeps comments, order and keys of other programs', async () => {
    home.writeConfig('# head\nfuture: { a: 1 } # mine\ntargets: []\n# tail\n');
    await setConfigValue(file, parseKey('index.maxAgeMinutes'), '30');
    expect(readFileSync(file, 'utf8')).toBe(
      '# head\nfuture: { a: 1 } # mine\ntargets: []\nindex:\n  maxAgeMinutes: 30\n\n# tail\n',
    );
    expect(await getConfigValue(file, parseKey('index.maxAgeMinutes'))).toBe(30);
    expect(await getConfigValue(file, parseKey('backup.codec'))).toBe('gzip');
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  it('an edit that would break the file is refused and changes nothing', async () => {
    home.writeConfig('index: { maxAgeMinutes: 5 }\n');
    await expect(setConfigValue(file, ['index', 'maxAgeMinutes'], 'soon')).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    });
    expect(readFileSync(file, 'utf8')).toBe('index: { maxAgeMinutes: 5 }\n');
  });

  it('an edit may mend a broken setting', async () => {
    home.writeConfig('index: { maxAgeMinutes: soon }\n');
    await editConfig(file, (document) => document.setIn(['index', 'maxAgeMinutes'], 7));
    expect(await getConfigValue(file, ['index', 'maxAgeMinutes'])).toBe(7);
  });

  it.each(['', '1a', 'a..b', 'a[x]', '__proto__[', 'a b'])('%j is no key', (text) => {
    expect(() => parseKey(text)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });

  it('what every object has is no setting', async () => {
    await expect(getConfigValue(file, ['constructor'])).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('secrets', () => {
  it('come from a file, a variable or a command; one line end is dropped, no more', async () => {
    const secret = home.write('s', 'pa ss\n\n');
    const env = { MY_SECRET: 'from env\n' };
    expect(await readSecret({ kind: 'file', path: secret }, 'x', env)).toBe('pa ss\n');
    expect(await readSecret({ kind: 'environment', variable: 'MY_SECRET' }, 'x', env)).toBe('from env');
    expect(await readSecret({ kind: 'command', command: 'printf "a b\\r\\n"; cat' }, 'x', env)).toBe('a b');
  });

  it.each([
    [
      'a file open to others',
      () => ({ kind: 'file' as const, path: home.write('s', 'TOPSECRET', 0o640) }),
      /chmod 600/,
    ],
    ['a missing file', () => ({ kind: 'file' as const, path: '/nowhere/s' }), /no file \/nowhere\/s/],
    ['an empty file', () => ({ kind: 'file' as const, path: home.write('s', '\n') }), /is empty/],
    [
      'a variable that is not set',
      () => ({ kind: 'environment' as const, variable: 'NOPE' }),
      /NOPE is not set/,
    ],
    [
      'a command that fails',
      () => ({ kind: 'command' as const, command: 'echo TOPSECRET; echo TOPSECRET >&2; exit 3' }),
      /status 3/,
    ],
  ])('%s is refused, and never shown', async (_name, source, words) => {
    const failure = await readSecret(source(), 'password of target 2 (ftp1)', {}).catch(
      (error: unknown) => error,
    );
    expect(failure).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringMatching(words) });
    expect(String(failure)).toContain('password of target 2 (ftp1)');
    expect(JSON.stringify(failure, Object.getOwnPropertyNames(failure as object))).not.toContain('TOPSECRET');
  });

  it('passphrases that are not named are null, former ones keep their order', async () => {
    const former = ['one', 'two'].map((text) => ({ kind: 'file' as const, path: home.write(text, text) }));
    expect(await readPassphrases({ system: null, master: null, former }, {})).toEqual({
      system: null,
      master: null,
      former: ['one', 'two'],
    });
  });
});
