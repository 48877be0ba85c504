/**
 * The offline bundle in an empty root: libc and what Node links to, a shell, /proc, and no network. Needs user or
 * root namespaces (unshare); without them these tests fail and say so.
 */
import { execFile } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomLooking } from '../support/disk-images.ts';

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
const LONG_MS = 400_000;

interface Outcome {
  status: number;
  out: string;
  err: string;
}

function run(program: string, words: string[], env: NodeJS.ProcessEnv = process.env): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(program, words, { env, cwd: PROJECT, maxBuffer: 1 << 26 }, (error, out, err) => {
      const status = error === null ? 0 : typeof error.code === 'number' ? error.code : 255;
      resolve({ status, out, err: err + (status === 255 ? String(error) : '') });
    });
  });
}

async function must(program: string, words: string[]): Promise<string> {
  const { status, out, err } = await run(program, words);
  if (status !== 0) throw new Error(`${program} ${words.join(' ')} ended with ${status}: ${err}`);
  return out;
}

let work: string;
let root: string;
/** Folder of the bundle inside the root. */
let inside: string;

/** Copies a program's shared libraries to where its loader looks for them. */
async function copyLibraries(program: string): Promise<void> {
  const linked = await must('ldd', [program]);
  for (const [, file] of linked.matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm)) {
    mkdirSync(path.join(root, path.dirname(file as string)), { recursive: true });
    copyFileSync(file as string, path.join(root, file as string));
  }
}

const NAMESPACES = [
  '--net',
  '--mount',
  '--pid',
  '--fork',
  ...(process.getuid?.() === 0 ? [] : ['--user', '--map-root-user']),
];

/** Runs a program of the empty root, in it, without network. */
function runInside(words: string[], home = '/home'): Promise<Outcome> {
  const script = 'mount -t proc proc "$1/proc" && root=$1 && shift && exec chroot "$root" "$@"';
  return run('unshare', [...NAMESPACES, 'sh', '-c', script, 'sh', root, ...words], {
    PATH: process.env.PATH,
    PHD_HOME: home,
  });
}

beforeAll(async () => {
  const possible = await run('unshare', [...NAMESPACES, 'true']);
  if (possible.status !== 0) {
    throw new Error(`the bundle cannot be tested: no namespaces of its own (run as root): ${possible.err}`);
  }
  work = mkdtempSync(path.join(tmpdir(), 'phd-bundle-test-'));
  root = path.join(work, 'root');
  for (const folder of ['opt', 'proc', 'tmp', 'home', 'bin'])
    mkdirSync(path.join(root, folder), { recursive: true });
  const bundled = await must(process.execPath, [path.join(PROJECT, 'dist/src/cli/bundle-main.js'), work]);
  const archive = /^(\S+\.tar\.gz): /.exec(bundled)?.[1] as string;
  await must('tar', ['-C', path.join(root, 'opt'), '-xzf', archive]);
  inside = path.join('/opt', path.basename(archive, '.tar.gz'));
  copyFileSync('/bin/sh', path.join(root, 'bin/sh'));
  await copyLibraries('/bin/sh');
  await copyLibraries(path.join(root, inside, 'node'));
}, LONG_MS);

afterAll(() => rmSync(work, { recursive: true, force: true }));

describe('npm run bundle', () => {
  it('holds the packages that npm counts to production, and no others', async () => {
    const npm = await must('npm', ['ls', '--all', '--parseable', '--omit=dev']);
    const wanted = npm
      .split('\n')
      .filter((line) => line.includes('/node_modules/'))
      .map((line) => line.slice(line.indexOf('node_modules/')));
    const listed = await must('find', [path.join(root, inside, 'node_modules'), '-name', 'package.json']);
    const found = listed
      .split('\n')
      .map((line) => path.relative(path.join(root, inside), path.dirname(line)))
      .filter((folder) => /(^|\/)node_modules\/(@[^/]+\/)?[^/@]+$/.test(folder));
    expect(found.sort()).toEqual([...new Set(wanted)].sort());
  });

  it('is one folder with program, Node, start script and pages; no benchmark, no tests', () => {
    expect(readdirSync(path.join(root, inside)).sort()).toEqual(
      ['CHANGELOG.md', 'README.md', 'dist', 'node', 'node_modules', 'package.json', 'phd'].sort(),
    );
    expect(readdirSync(path.join(root, inside, 'dist'))).not.toContain('test');
  });
});

describe('the bundle in an empty root without network', () => {
  it('there is no network: loopback alone, and that is down', async () => {
    const probe = `require('net').connect(80, '192.0.2.1').on('error', (e) => console.log(e.code))`;
    const { out } = await runInside([`${inside}/node`, '-e', probe]);
    expect(out.trim()).toBe('ENETUNREACH');
  });

  it(
    'backs up, deletes and restores a farm, proved bit for bit',
    async () => {
      const { status, out, err } = await runInside([`${inside}/phd`, 'demo']);
      expect({ status, err }).toMatchObject({ status: 0 });
      expect(out).toContain('PROVED: the deleted VM is back, bit for bit');
      expect(out).toContain('mkfs.ext4, debugfs, e2fsck missing');
      expect(readdirSync(path.join(root, 'tmp'))).toEqual([]);
    },
    LONG_MS,
  );

  it(
    'zstd and encryption work there too: native and script packages are complete',
    async () => {
      const home = path.join(root, 'home');
      const image = randomLooking('bundle', 1_500_000);
      mkdirSync(path.join(home, 'vms/alone'), { recursive: true });
      mkdirSync(path.join(home, 'archives'));
      writeFileSync(path.join(home, 'vms/alone/alone.img'), image);
      writeFileSync(path.join(home, 'secret'), 'a passphrase\n', { mode: 0o600 });
      writeFileSync(
        path.join(home, 'phd.yaml'),
        `targets:
  - { number: 1, name: local, transport: vmfs, path: archives }
  - { number: 2, name: far, transport: ftp, host: 192.0.2.1, user: nobody, passwordFile: secret, path: /x, tls: none }
  - { number: 3, name: vault, transport: ssh, host: 192.0.2.1, user: nobody, passwordFile: secret, path: /x, knownHostsFile: known_hosts }
datastores: [ vms ]
encryption: { systemPassphraseFile: secret }
`,
        { mode: 0o600 },
      );
      const words = [
        'backup',
        '/home/vms/alone',
        '--target',
        '1',
        '--codec',
        'zstd',
        '--encrypt',
        '--assume-off',
      ];
      expect(await runInside([`${inside}/phd`, ...words])).toMatchObject({ status: 0 });
      expect(await runInside([`${inside}/phd`, 'index', '--target', '1'])).toMatchObject({ status: 0 });
      const restored = await runInside([
        `${inside}/phd`,
        'restore',
        '--vm',
        'alone',
        '--to',
        '/home/back',
        '--verify',
      ]);
      expect(restored).toMatchObject({ status: 0 });
      expect(restored.out).toContain('ALL BLOCKS PROVED, DISK READ AGAIN');
      expect(readFileSync(path.join(home, 'back/alone.img')).equals(image)).toBe(true);
    },
    LONG_MS,
  );

  it.each([2, 3])(
    'target %i, which needs the network, is refused in one line with status 4',
    async (target) => {
      const { status, err } = await runInside([`${inside}/phd`, 'target', 'test', String(target)]);
      expect({ status, err }).toMatchObject({ status: 4 });
      expect(err.trim().split('\n')).toHaveLength(1);
      expect(err).toMatch(/^phd: .*192\.0\.2\.1/);
    },
    LONG_MS,
  );
});
