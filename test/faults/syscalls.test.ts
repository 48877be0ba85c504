/** System calls that fail or lie (strace), full file systems (tmpfs): an honest status, one clear line, nothing partial. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeVmFolder, type TestVm } from '../support/disk-images.ts';
import { needs } from '../support/needs.ts';
import { requirePeer } from '../support/peers.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';
import { archivesUnder, CAMPAIGN } from './farm.ts';
import { type Ended, errorLines, phd, sameFile } from './processes.ts';

const DISK_BYTES = 6 * 2 ** 20;
const isRoot = process.getuid?.() === 0;
const strace = await requirePeer('strace');

let home: TempHome;
let vm: TestVm;
const mounts: string[] = [];

beforeEach(async () => {
  home = makeTempHome();
  home.writeConfig(
    'targets:\n  - { number: 1, name: local, transport: vmfs, path: one }\ndatastores: [ store, out ]\n',
  );
  home.folder('one');
  vm = await makeVmFolder(home.folder('store'), {
    vmName: 'vm',
    disks: [{ name: 'd.vmdk', sizeBytes: DISK_BYTES }],
  });
});
afterEach(() => {
  for (const mount of mounts.splice(0)) execFileSync('umount', [mount]);
  home.remove();
});

const target = (): string => path.join(home.root, 'one');
const out = (): string => path.join(home.root, 'out');
const env = (): NodeJS.ProcessEnv => ({ ...home.env, UV_THREADPOOL_SIZE: '1', UV_USE_IO_URING: '0' });
const finalNames = (folder: string): string[] =>
  archivesUnder(folder).filter((name) => !name.endsWith('.part'));

/** Words before a command that make a system call on a path end as told. */
function inject(what: string, paths: string[]): string[] {
  const call = what.split(':')[0] as string;
  const only = paths.flatMap((one) => ['-P', one]);
  return [
    strace.path,
    '-f',
    '-qq',
    '-o',
    '/dev/null',
    '-e',
    `trace=${call}`,
    ...only,
    '-e',
    `inject=${what}`,
  ];
}

function expectHonest(ended: Ended, what: string): void {
  const lines = errorLines(ended);
  expect(ended.status, `${what}: ${ended.stdout}${ended.stderr}`).not.toBe(0);
  expect(ended.status, `${what}: ${ended.stderr}`).not.toBeNull();
  expect(lines.length, `${what}: ${ended.stderr}`).toBeGreaterThan(0);
  expect(ended.stderr, what).not.toMatch(/^\s+at .*:\d+:\d+\)?$/m);
}

async function backUp(): Promise<{ full: string; empty: string }> {
  const ended = await phd(['backup', vm.folder, '--full'], { env: home.env });
  expect(ended.status, ended.stderr).toBe(0);
  const names = finalNames(target());
  return {
    full: names.find((name) => /\.gz-/.test(name)) as string,
    empty: names.find((name) => /\.delta-/.test(name)) as string,
  };
}

/** `PHD_CAMPAIGN=1` fails every call in both ways, else they take turns. */
const errnosOf = (at: number): string[] =>
  CAMPAIGN >= 1 ? ['EIO', 'ENOSPC'] : at % 2 === 0 ? ['EIO'] : ['ENOSPC'];

describe('a system call that fails', () => {
  const BACKUP_FAULTS = ['write', 'fsync', 'rename', 'mkdir'].flatMap((call, at) =>
    errnosOf(at).map((errno) => `${call}:error=${errno}`),
  );

  it.each(BACKUP_FAULTS)('backup, target: %s', async (fault) => {
    const names = await backUp();
    const kept = new Map(finalNames(target()).map((name) => [name, readFileSync(path.join(target(), name))]));
    const folder = path.join(target(), path.dirname(names.full));
    for (const when of ['1', '1+']) {
      const under = inject(`${fault}:when=${when}`, [target(), folder, ...nextNames(names)]);
      const ended = await phd(['backup', vm.folder, '--full'], { env: env(), under });
      if (ended.status !== 0) expectHonest(ended, `${fault} ${when}`);
      for (const [name, bytes] of kept)
        expect(readFileSync(path.join(target(), name)).equals(bytes), name).toBe(true);
      const verified = await phd(['verify', '--target', '1'], { env: home.env });
      expect(verified.status, `${fault} ${when}: ${verified.stdout}${verified.stderr}`).toBe(0);
    }

    function nextNames(known: { full: string; empty: string }): string[] {
      const minutes = Array.from({ length: 4 }, (_, at) => at + 1);
      return [known.full, known.empty].flatMap((name) =>
        minutes.flatMap((minute) => {
          const moved = laterBy(name, minute);
          return [moved, `${moved}.part`].map((one) => path.join(target(), one));
        }),
      );
    }
  });

  it.each(
    ['pwritev', 'fsync', 'rename', 'ftruncate', 'openat'].flatMap((call, at) =>
      errnosOf(at).map((errno) => `${call}:error=${errno}`),
    ),
  )('restore, datastore: %s', async (fault) => {
    const { full } = await backUp();
    mkdirSync(out());
    const flat = path.join(out(), 'd-flat.vmdk');
    const words = ['restore', `1:${full}`, '--to', out()];
    const under = inject(`${fault}:when=1`, [`${flat}.part`, flat]);
    const ended = await phd(words, { env: env(), under });
    expectHonest(ended, fault);
    expect(finalNames(out())).toEqual([]);
    if (fault.endsWith('ENOSPC')) expect(ended.status, ended.stderr).toBe(6);
    const next = await phd(words, { env: home.env });
    expect(next.status, next.stderr).toBe(0);
    expect(sameFile(flat, vm.disks[0]!.flatPath)).toBe(true);
  });

  it('a disk that says it wrote and did not is found by reading it again', async () => {
    const { full } = await backUp();
    mkdirSync(out());
    const flat = path.join(out(), 'd-flat.vmdk');
    const under = inject('pwritev:retval=262144:when=1', [`${flat}.part`]);
    const ended = await phd(['restore', `1:${full}`, '--to', out(), '--verify'], { env: env(), under });
    expect(ended.status, ended.stderr).toBe(3);
    expect(finalNames(out())).toEqual([]);
  });
});

/** The name of an archive whose own stamp (and that of its FULL) is some minutes later. */
function laterBy(name: string, minutes: number): string {
  const short = /(\d{6})-(\d{4})\.phd$/.exec(name) as RegExpExecArray;
  const [, date = '', clock = ''] = short;
  const time = new Date(
    Date.UTC(
      2000 + Number(date.slice(0, 2)),
      Number(date.slice(2, 4)) - 1,
      Number(date.slice(4)),
      Number(clock.slice(0, 2)),
      Number(clock.slice(2)) + minutes,
    ),
  ).toISOString();
  const day = time.slice(0, 10);
  const hour = time.slice(11, 16).replace(':', '');
  return name
    .replace(/\d{6}-\d{4}\.phd$/, `${day.slice(2).replaceAll('-', '')}-${hour}.phd`)
    .replace(/\.delta-[\d.]+-\d{4}-/, `.delta-${day.replaceAll('-', '.')}-${hour}-`);
}

function mountTmpfs(folder: string, size: string): void {
  mkdirSync(folder, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder]);
  mounts.push(folder);
}

describe.runIf(needs(isRoot, 'root'))('a file system that is full', () => {
  it.each(['64k', '300k', '1m', '1400k'])('of %s as target: status 6, nothing partial', async (size) => {
    mountTmpfs(target(), size);
    const ended = await phd(['backup', vm.folder, '--full'], { env: home.env });
    expect(ended.status, ended.stderr).toBe(6);
    expect(errorLines(ended).join('\n')).toMatch(/d\.vmdk/);
    expect(archivesUnder(target())).toEqual([]);
  });

  it('that holds older archives keeps them whole', async () => {
    mountTmpfs(target(), '6m');
    const names = await backUp();
    const kept = readFileSync(path.join(target(), names.full));
    writeFileSync(path.join(target(), 'ballast'), Buffer.alloc(5 * 2 ** 20 - kept.length));
    const ended = await phd(['backup', vm.folder, '--full'], { env: home.env });
    expect(ended.status, ended.stderr).toBe(6);
    expect(readFileSync(path.join(target(), names.full)).equals(kept)).toBe(true);
    expect(finalNames(target()).sort()).toEqual([names.full, names.empty, 'ballast'].sort());
    rmSync(path.join(target(), 'ballast'));
    expect((await phd(['verify', '--target', '1'], { env: home.env })).status).toBe(0);
  });

  it.each(['256k', '1m', '2m'])('of %s as datastore: status 6, no disk', async (size) => {
    const { full } = await backUp();
    mountTmpfs(out(), size);
    const ended = await phd(['restore', `1:${full}`, '--to', out()], { env: home.env });
    expect(ended.status, ended.stderr).toBe(6);
    expect(finalNames(out())).toEqual([]);
  });

  it.each(['64k', '200k', '500k'])('of %s as state folder: an error or a good archive', async (size) => {
    const config = readFileSync(path.join(home.root, 'phd.yaml'));
    const small = path.join(home.root, 'small');
    mountTmpfs(small, size);
    const [one, store] = [target(), path.join(home.root, 'store')];
    const text = config.toString().replace('path: one', `path: ${one}`).replace('store,', `${store},`);
    writeFileSync(path.join(small, 'phd.yaml'), text, { mode: 0o600 });
    const smallEnv = { ...home.env, PHD_HOME: small };
    const ended = await phd(['backup', vm.folder, '--full'], { env: smallEnv });
    if (ended.status !== 0) expectHonest(ended, size);
    const left = finalNames(one);
    expect(left.length === 0 || ended.status === 0, `${ended.stderr} ${left.join()}`).toBe(true);
    for (const name of readdirSync(one)) expect(name).not.toMatch(/\.part$/);
    if (left.length === 0) return;
    expect((await phd(['verify', '--target', '1'], { env: home.env })).status).toBe(0);
  });
});
