import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { requirePeer } from '../../support/peers.ts';
import { locate, Place, SHELLS } from './place.ts';

const VMX = Buffer.from('displayName = "RedHat VM1"\nscsi0:0.fileName = "RedHat_VM1.vmdk"\n');
const DESCRIPTOR = Buffer.from(
  '# Disk DescriptorFile\r\nversion=1\r\nCID=0badcafe\r\nparentCID=ffffffff\r\ncreateType="vmfs"\r\n\r\n' +
    'RW 4803 VMFS "an older name-flat.vmdk"\r\n\r\nddb.adapterType = "buslogic"\r\nddb.uuid = "60 00"\r\n',
);
const FILES = [
  { kind: 'vmx' as const, name: 'RedHat VM1.vmx', content: VMX },
  { kind: 'nvram' as const, name: 'nvram', content: Buffer.from([0, 1, 2, 255]) },
  { kind: 'log' as const, name: 'vmware.log', content: Buffer.alloc(0) },
  { kind: 'descriptor' as const, name: 'RedHat_VM1.vmdk', content: DESCRIPTOR },
];

describe.each(SHELLS)('the menu under %s', (shell) => {
  let place: Place;
  beforeAll(async () => {
    place = await Place.make({ files: FILES, passphrases: ['system', 'master'] });
  });
  afterAll(() => place.remove());
  afterEach(() => {
    expect(place.leftovers()).toEqual([]);
    place.emptyOut();
  });
  const menu = (lines: string[], env: Record<string, string> = { USE_SPASS: 'system' }) =>
    place.run(shell, place.deltaPath, [], { input: lines.map((line) => `${line}\n`).join(''), env });

  it('shows host, VM, disk, delta blocks and the FULL that was found, and quits', async () => {
    const run = await menu(['q']);
    expect(run).toMatchObject({ status: 0, stderr: '' });
    for (const word of [
      'esx1',
      'RedHat VM1',
      'RedHat_VM1.vmdk',
      'Delta blocks: 7',
      place.full.fileName,
      'found:',
    ]) {
      expect(run.stdout).toContain(word);
    }
  });

  it('R restores after a yes, with the disk that was named, and its own descriptor with the new name', async () => {
    const run = await menu(['R', '', join(place.out, 'new name.vmdk'), 'yes', 'Q']);
    expect(run, run.stderr).toMatchObject({ status: 0 });
    expect(place.isRestored(place.after, join(place.out, 'new name-flat.vmdk'))).toBe(true);
    expect(readFileSync(join(place.out, 'new name.vmdk'), 'latin1')).toBe(
      DESCRIPTOR.toString('latin1').replace('an older name-flat.vmdk', 'new name-flat.vmdk'),
    );
  });

  it('R without yes, or left by q, does nothing', async () => {
    expect((await menu(['R', '', '', 'no', 'R', 'q', 'R', '', 'q', 'Q'])).status).toBe(0);
    expect(place.outNames()).toEqual([]);
  });

  it('A restores with all defaults after one yes', async () => {
    expect((await menu(['auto', 'yes', 'Q'])).status).toBe(0);
    expect(place.isRestored(place.after)).toBe(true);
  });

  it('R writes over an existing disk only after a second yes', async () => {
    writeFileSync(place.flat, Buffer.alloc(place.after.diskBytes, 7));
    await menu(['R', '', '', 'yes', 'no', 'Q']);
    expect(readFileSync(place.flat)[0]).toBe(7);
    expect((await menu(['R', '', '', 'yes', 'yes', 'Q'])).status).toBe(0);
    expect(place.isRestored(place.after)).toBe(true);
  });

  it('D, M and N verify delta blocks, FULL and a restored disk', async () => {
    writeFileSync(place.flat, place.after.bytes());
    const run = await menu(['D', 'M', '', 'yes', 'N', '', 'Q']);
    expect(run, run.stderr).toMatchObject({ status: 0 });
    for (const what of ['DELTA FILE', 'FULL BACKUP', 'VMDK FILE'])
      expect(run.stdout).toContain(`CHECKSUMS ALL GOOD IN ${what}`);
  });

  it('V writes VMX, NVRAM and logs to a folder and asks before it replaces', async () => {
    const goal = join(place.out, 'vm files');
    expect((await menu(['V', '', goal, 'Q'])).status).toBe(0);
    expect(readdirSync(goal).sort()).toEqual(['RedHat VM1.vmx', 'nvram', 'vmware.log']);
    expect(readFileSync(join(goal, 'RedHat VM1.vmx')).equals(VMX)).toBe(true);
    expect(readFileSync(join(goal, 'nvram')).equals(FILES[1]!.content)).toBe(true);
    writeFileSync(join(goal, 'nvram'), 'mine');
    await menu(['V', '2', goal, 'no', 'Q']);
    expect(readFileSync(join(goal, 'nvram'), 'utf8')).toBe('mine');
  });

  it('C makes a stub of either type', async () => {
    writeFileSync(place.flat, place.after.bytes());
    const stub = join(place.out, 'RedHat_VM1.vmdk');
    expect((await menu(['C', '', '', '', 'Q'])).status).toBe(0);
    expect(readFileSync(stub, 'utf8')).toContain(`RW 4803 FLAT "RedHat_VM1-flat.vmdk" 0`);
    expect((await menu(['C', place.flat, 'vmfs', stub, 'yes', 'Q'])).status).toBe(0);
    expect(readFileSync(stub, 'utf8')).toContain(`RW 4803 VMFS "RedHat_VM1-flat.vmdk"`);
  });

  it('P takes the passphrases', async () => {
    const run = await menu(['P', 'master', '', 'R', '', '', 'yes', 'Q'], {});
    expect(run, run.stderr).toMatchObject({ status: 0 });
    expect(run.stdout).toContain('PASSPHRASES SET');
    expect(place.isRestored(place.after)).toBe(true);
    expect((await menu(['P', 'wrong', ''], {})).status).toBe(7);
  });

  it('H helps, ignore toggles, F takes FTP settings without showing the password', async () => {
    // Busybox wget would show the password in the process list, so the program asks.
    const consent = shell === 'busybox ash' ? ['yes'] : [];
    const run = await menu([
      'h',
      'IGNORE',
      'F',
      '127.0.0.1',
      'user',
      'pass-canary',
      '/backups',
      'yes',
      ...consent,
      'nonsense',
      'Q',
    ]);
    expect(run.status).toBe(0);
    expect(run.stdout).toContain('apt-get install');
    expect(run.stdout).toContain('IGNORE is ON');
    expect(run.stdout + run.stderr).not.toContain('pass-canary');
    expect(run.stderr).toContain('No such command');
  });

  it('leaves after an error when there is no terminal, and at the end of input', async () => {
    expect((await menu(['R', '/no/such/full', 'Q'])).status).toBe(1);
    expect((await menu([])).status).toBe(0);
  });
});

describe('words', () => {
  let place: Place;
  beforeAll(async () => {
    place = await Place.make();
  });
  afterAll(() => place.remove());

  it.each([
    ['autorun alone', ['autorun']],
    ['an unknown word', ['autorun', 'restroe']],
    ['an action without autorun', ['restore']],
  ])('%s is wrong usage', async (_name, words) => {
    expect((await place.run('dash', place.deltaPath, words)).status).toBe(2);
    expect(place.outNames()).toEqual([]);
  });

  it('help needs nothing', async () => {
    expect(await place.run('dash', place.deltaPath, ['--help'])).toMatchObject({ status: 0, stderr: '' });
  });

  it('missing tools are named', async () => {
    const path = join(place.root, 'few');
    mkdirSync(path);
    for (const tool of ['head', 'od', 'tr']) execFileSync('ln', ['-s', locate(tool), path]);
    const run = await place.run('dash', place.deltaPath, ['autorun', 'delta'], { path });
    expect(run.status).toBe(1);
    expect(run.stderr).toMatch(/missing:.* gzip awk .*mktemp/);
  });

  it('a packer or gpg that this archive needs is named at the start', async () => {
    const other = await Place.make({ codec: 'zstd', passphrases: ['system'] });
    const path = join(other.root, 'busybox');
    const run = await other.run('busybox ash', other.deltaPath, ['autorun', 'restore'], { path });
    expect(run.status).toBe(1);
    expect(run.stderr).toContain('needed to restore: gpg zstd');
    expect(run.stderr).toContain('package gnupg');
    other.remove();
  });

  it('is clean for shellcheck', async () => {
    const program = new URL('../../../src/archive/delta-program.sh', import.meta.url).pathname;
    const shellcheck = await requirePeer('shellcheck');
    execFileSync(shellcheck.path, ['-s', 'sh', program], { env: shellcheck.env });
  });

  it('a second restore of the same disk is refused while the first lives, and takes over when it died', async () => {
    writeFileSync(`${place.flat}.part`, 'left over');
    writeFileSync(`${place.flat}.part.pid`, `${process.pid}\n`);
    expect((await place.run('dash', place.deltaPath, ['autorun', 'restore'])).status).toBe(5);
    writeFileSync(`${place.flat}.part.pid`, '4999999\n');
    expect((await place.run('dash', place.deltaPath, ['autorun', 'restore'])).status).toBe(0);
    expect(place.outNames()).toEqual(['RedHat_VM1-flat.vmdk', 'RedHat_VM1.vmdk']);
    place.emptyOut();
  });

  it.each([
    ['is interrupted by a signal and removes what it made', []],
    ['goes on with noabort', ['noabort']],
  ])('restore %s', async (_name, words) => {
    // A decompressor that waits for a line in a FIFO holds the restore in its middle.
    const path = join(place.root, `slow${words.length}`);
    mkdirSync(path);
    const gate = join(path, 'gate');
    execFileSync('mkfifo', [gate]);
    writeFileSync(
      join(path, 'gzip'),
      `#!/bin/sh\n[ ! -e "${place.flat}.part" ] || read -r line <"${gate}"\nexec ${locate('gzip')} "$@"\n`,
      { mode: 0o755 },
    );
    const child = spawn(locate('setsid'), [locate('dash'), place.deltaPath, 'autorun', 'restore', ...words], {
      cwd: place.out,
      env: { PATH: `${path}:${place.path('dash')}`, TMPDIR: place.tmp, USE_RPATH: place.out },
      stdio: 'ignore',
    });
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    while (!existsSync(`${place.flat}.part`)) await new Promise((resolve) => setImmediate(resolve));
    process.kill(-child.pid!, 'SIGINT');
    const opener = spawn(locate('dash'), ['-c', `trap '' PIPE; while :; do echo go >"${gate}"; done`], {
      stdio: 'ignore',
    });
    const status = await ended;
    opener.kill('SIGKILL');
    if (words.length > 0) {
      expect(status).toBe(0);
      expect(place.isRestored(place.after)).toBe(true);
    } else {
      expect(status).toBe(130);
      expect(place.outNames()).toEqual([]);
    }
    expect(place.leftovers()).toEqual([]);
    place.emptyOut();
  });
});

describe('names are data', () => {
  const HOSTILE = '-$(touch canary)`touch canary`;touch canary\n\x1b[31m\u009b2J\u202e"quote\' %41 ';

  it.each(SHELLS)(
    'quotes, blanks, line ends, commands and escape codes do nothing under %s',
    async (shell) => {
      const identity = { vm: HOSTILE, displayName: HOSTILE, host: HOSTILE, disk: `${HOSTILE}.vmdk` };
      const files = [{ kind: 'vmx' as const, name: `${HOSTILE}.vmx`, content: VMX }];
      const place = await Place.make({ identity, files });
      const run = await place.run(shell, place.deltaPath, ['autorun', 'restore', 'delta']);
      expect(place.isRestored(place.after)).toBe(true);
      // The disk is right, but no descriptor can name it.
      expect(run.status).toBe(1);
      const menu = await place.run(shell, place.deltaPath, [], { input: `V\n\n${place.out}/v\nQ\n` });
      expect(menu.status, menu.stderr).toBe(0);
      expect(readFileSync(join(place.out, 'v', `${HOSTILE}.vmx`)).equals(VMX)).toBe(true);
      for (const text of [run.stdout, run.stderr, menu.stdout, menu.stderr]) {
        expect(text).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
      }
      expect(execFileSync('find', [place.root, '-name', 'canary'], { encoding: 'utf8' })).toBe('');
      place.remove();
    },
  );

  it.each(['../escape.vmdk', '/etc/escape.vmdk', '..', '.'])(
    'a disk or file called %s stays inside its folder',
    async (name) => {
      const files = [{ kind: 'vmx' as const, name, content: VMX }];
      const place = await Place.make({ identity: { disk: name }, files });
      await place.run('dash', place.deltaPath, ['autorun', 'restore']);
      const inside = place.outNames().filter((each) => !each.includes('/'));
      expect(inside.length).toBeGreaterThan(0);
      const menu = await place.run('dash', place.deltaPath, [], { input: `V\n\n${place.out}/v\nQ\n` });
      expect(menu.status).toBe(3);
      expect(existsSync(join(place.root, 'escape.vmdk'))).toBe(false);
      expect(existsSync('/etc/escape.vmdk')).toBe(false);
      rmSync(join(place.out, 'v'), { recursive: true, force: true });
      place.remove();
    },
  );
});
