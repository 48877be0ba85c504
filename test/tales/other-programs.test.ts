/** Archives of the program in other hands: a FULL under the usual tools, a DELTA under the usual shells. */
import { copyFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { linkFolder, locate } from '../archive/delta-program/place.ts';
import { changeImage, type TestVm } from '../support/disk-images.ts';
import { type PeerName, requirePeer, writePeerScript } from '../support/peers.ts';
import {
  type BackedUp,
  fileDigest,
  HOOK_TIMEOUT_MS,
  MIB,
  only,
  runProgram,
  sha256,
  systemTool,
  Tale,
  tool,
} from './tale.ts';

const KINDS = {
  gzip: [],
  zstd: [],
  lzop: [],
  'encrypted gzip': ['--encrypt'],
  'encrypted zstd': ['--encrypt'],
};
type Kind = keyof typeof KINDS;
const PASSPHRASES = { system: 'the system $(x) "one"', master: 'the master ü one' };

interface Pair {
  full: string;
  delta: string;
  /** Digests of the disk when the FULL and when the DELTA was made. */
  fullDisk: string;
  deltaDisk: string;
}

let tale: Tale;
let vm: TestVm;
let busybox: string;
const pairs = {} as Record<Kind, Pair>;

beforeAll(async () => {
  tale = new Tale({
    config: 'encryption: { systemPassphraseFile: system, masterPassphraseFile: master }\n',
  });
  await tale.provide('lzop');
  for (const [name, text] of Object.entries(PASSPHRASES)) tale.home.write(name, `${text}\n`);
  vm = await tale.makeVm('Mail', [{ name: 'Mail.vmdk', sizeBytes: 6 * MIB + 1536 }]);
  for (const kind of Object.keys(KINDS) as Kind[]) pairs[kind] = await makePair(kind);
  busybox = (await requirePeer('busybox')).path;
}, HOOK_TIMEOUT_MS);
afterAll(async () => {
  await systemTool('gpgconf', ['--homedir', tale.path(), '--kill', 'all']);
  tale.remove();
});

async function makePair(kind: Kind): Promise<Pair> {
  const flat = vm.disks[0]?.flatPath ?? '';
  const codec = kind.split(' ').at(-1) as string;
  const full: BackedUp = only(
    (await tale.backup(vm.folder, ['--full', '--codec', codec, ...KINDS[kind]])).disks,
  );
  const fullDisk = fileDigest(flat);
  await changeImage(flat, 3, `after the FULL in ${kind}`);
  const delta = only((await tale.backup(vm.folder, KINDS[kind])).disks);
  if (delta.mode !== 'delta' || delta.full !== full.full) throw new Error(`no DELTA: ${delta.message}`);
  const deltaDisk = fileDigest(flat);
  return { full: tale.file(full.full), delta: tale.file(delta.archive), fullDisk, deltaDisk };
}

describe('A FULL is opened, byte for byte, by', () => {
  const readers: [string, Kind, (full: string) => Promise<Buffer>][] = [
    ['gzip -dc', 'gzip', (full) => systemTool('gzip', ['-dc', full])],
    ['zcat', 'gzip', (full) => systemTool('zcat', [full])],
    ['pigz -dc', 'gzip', (full) => tool('pigz', ['-dc', full])],
    ['busybox gunzip -c', 'gzip', (full) => systemTool(busybox, ['gunzip', '-c', full])],
    ['7z', 'gzip', (full) => tool('7z', ['e', '-so', '-tgzip', full])],
    ['zstd -dc', 'zstd', (full) => tool('zstd', ['-dc', full])],
    ['lzop -dc', 'lzop', (full) => tool('lzop', ['-dc', full])],
  ];
  it.each(readers)('%s', async (_name, kind, read) => {
    expect(sha256(await read(pairs[kind].full))).toBe(pairs[kind].fullDisk);
  });

  it('gzip -d -S .phd, which leaves the disk in place of the archive', async () => {
    const copy = tale.path('copy.phd');
    copyFileSync(pairs.gzip.full, copy);
    await systemTool('gzip', ['-d', '-S', '.phd', copy]);
    expect(fileDigest(tale.path('copy'))).toBe(pairs.gzip.fullDisk);
  });

  const gpg = (passphraseFile: string, message: string): Promise<Buffer> =>
    tool('gpg', [
      ...['--homedir', tale.path(), '--batch', '--quiet', '--pinentry-mode', 'loopback'],
      ...['--passphrase-file', tale.path(passphraseFile), '-d', message],
    ]);
  const unpack = async (kind: Kind, packed: Buffer): Promise<string> => {
    const file = tale.home.write('packed', packed);
    return sha256(
      kind.endsWith('zstd') ? await tool('zstd', ['-dc', file]) : await systemTool('gzip', ['-dc', file]),
    );
  };
  const encrypted: Kind[] = ['encrypted gzip', 'encrypted zstd'];

  it.each(encrypted)('gpg with the system passphrase, if it is %s', async (kind) => {
    expect(await unpack(kind, await gpg('system', pairs[kind].full))).toBe(pairs[kind].fullDisk);
  });

  it.each(encrypted)('tail -c +49 and gpg with the master passphrase, if it is %s', async (kind) => {
    const rest = tale.home.write('rest', await systemTool('tail', ['-c', '+49', pairs[kind].full]));
    expect(await unpack(kind, await gpg('master', rest))).toBe(pairs[kind].fullDisk);
    await expect(gpg('master', pairs[kind].full)).rejects.toThrow(/gpg/);
  });
});

describe('A DELTA restores itself and its FULL in another folder, byte for byte,', () => {
  let out: string;
  let peers: string;
  let applets: string;

  beforeAll(async () => {
    out = tale.path('restored');
    peers = tale.path('peers');
    mkdirSync(tale.path('tmp'));
    mkdirSync(peers);
    for (const name of ['gpg', 'zstd', 'lzop'] as PeerName[]) {
      await writePeerScript(await requirePeer(name), path.join(peers, name));
    }
    const names = (await systemTool(busybox, ['--list'])).toString().trim().split('\n');
    applets = linkFolder(tale.path('applets'), Object.fromEntries(names.map((name) => [name, busybox])));
  });

  const shells: Record<string, () => { program: string[]; programs: string }> = {
    dash: () => ({ program: [locate('dash')], programs: process.env.PATH ?? '' }),
    'bash --posix': () => ({ program: [locate('bash'), '--posix'], programs: process.env.PATH ?? '' }),
    'busybox ash with nothing but busybox': () => ({ program: [busybox, 'ash'], programs: applets }),
  };
  const cases = Object.keys(shells).flatMap((shell) =>
    (Object.keys(KINDS) as Kind[]).map((kind) => [shell, kind] as const),
  );

  it.each(cases)('under %s, %s', async (shell, kind) => {
    rmSync(out, { recursive: true, force: true });
    mkdirSync(out);
    const { program, programs } = shells[shell]?.() ?? { program: [], programs: '' };
    const { delta, deltaDisk } = pairs[kind];
    const run = await runProgram(
      program[0] ?? '',
      [...program.slice(1), delta, 'autorun', 'restore', 'verify'],
      {
        cwd: out,
        env: {
          PATH: `${programs}:${peers}`,
          HOME: tale.path('tmp'),
          TMPDIR: tale.path('tmp'),
          USE_RPATH: out,
          ...(kind.startsWith('encrypted') ? { USE_SPASS: PASSPHRASES.system } : {}),
        },
      },
    );
    expect(run.status, run.stdout + run.stderr).toBe(0);
    expect(fileDigest(path.join(out, 'Mail-flat.vmdk'))).toBe(deltaDisk);
    expect(readFileSync(path.join(out, 'Mail.vmdk'), 'utf8')).toContain('# A comment that must survive');
  });
});
