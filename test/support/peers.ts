/**
 * Outside programs the tests run against (servers, packers, shells), without installing anything: what the
 * system has is used as it is; the rest is taken with `apt-get download`, unpacked with `dpkg -x` into a cache
 * folder and run from there with its own library path.
 *
 * Needs a Debian or a system derived from it, and a way to its package mirror; any user may do it. Cache:
 * `PHD_PEERS_CACHE`, else `~/.cache/phd-peers`.
 */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { access, mkdir, mkdtemp, readdir, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Where a program lies in one package. */
interface PeerSource {
  package: string;
  /** Path of the program inside the package. */
  file: string;
  /** Packages that hold further files it needs (not shared libraries: those are found by `ldd`). */
  with?: string[];
}

/** Sources in order of preference: releases differ in how they cut packages. */
const SOURCES = {
  vsftpd: [{ package: 'vsftpd', file: 'usr/sbin/vsftpd' }],
  proftpd: [{ package: 'proftpd-core', file: 'usr/sbin/proftpd' }],
  'pure-ftpd': [{ package: 'pure-ftpd', file: 'usr/sbin/pure-ftpd' }],
  'pure-pw': [{ package: 'pure-ftpd', file: 'usr/bin/pure-pw' }],
  sshd: [{ package: 'openssh-server', file: 'usr/sbin/sshd', with: ['openssh-sftp-server'] }],
  ssh: [{ package: 'openssh-client', file: 'usr/bin/ssh' }],
  openssl: [{ package: 'openssl', file: 'usr/bin/openssl' }],
  'qemu-img': [{ package: 'qemu-utils', file: 'usr/bin/qemu-img' }],
  '7z': [
    { package: 'p7zip-full', file: 'usr/lib/p7zip/7z' },
    { package: '7zip', file: 'usr/lib/7zip/7z' },
  ],
  busybox: [
    { package: 'busybox-static', file: 'bin/busybox' },
    { package: 'busybox-static', file: 'usr/bin/busybox' },
  ],
  aiosmtpd: [
    { package: 'python3-aiosmtpd', file: 'usr/bin/aiosmtpd', with: ['python3-public', 'python3-attr'] },
    { package: 'python3-aiosmtpd', file: 'usr/bin/aiosmtpd', with: ['python3-atpublic', 'python3-attr'] },
  ],
  // Runs aiosmtpd; Debian has it wherever apt has its usual tools.
  python3: [{ package: 'python3-minimal', file: 'usr/bin/python3' }],
  lzop: [{ package: 'lzop', file: 'usr/bin/lzop' }],
  strace: [{ package: 'strace', file: 'usr/bin/strace' }],
  'libfaketime.so.1': [
    { package: 'libfaketime', file: 'usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1' },
    { package: 'libfaketime', file: 'usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1' },
  ],
  shellcheck: [{ package: 'shellcheck', file: 'usr/bin/shellcheck' }],
  pigz: [{ package: 'pigz', file: 'usr/bin/pigz' }],
  zstd: [{ package: 'zstd', file: 'usr/bin/zstd' }],
  gpg: [{ package: 'gpg', file: 'usr/bin/gpg', with: ['gpg-agent', 'gpgconf'] }],
  curl: [{ package: 'curl', file: 'usr/bin/curl' }],
  sfdisk: [
    { package: 'fdisk', file: 'sbin/sfdisk' },
    { package: 'fdisk', file: 'usr/sbin/sfdisk' },
  ],
  'mkfs.ext4': [
    { package: 'e2fsprogs', file: 'sbin/mkfs.ext4' },
    { package: 'e2fsprogs', file: 'usr/sbin/mkfs.ext4' },
  ],
  'mkfs.vfat': [
    { package: 'dosfstools', file: 'sbin/mkfs.vfat' },
    { package: 'dosfstools', file: 'usr/sbin/mkfs.vfat' },
  ],
  'fsck.vfat': [
    { package: 'dosfstools', file: 'sbin/fsck.vfat' },
    { package: 'dosfstools', file: 'usr/sbin/fsck.vfat' },
  ],
  'mkfs.xfs': [
    { package: 'xfsprogs', file: 'sbin/mkfs.xfs' },
    { package: 'xfsprogs', file: 'usr/sbin/mkfs.xfs' },
  ],
  dialog: [{ package: 'dialog', file: 'usr/bin/dialog', with: ['ncurses-term'] }],
  whiptail: [{ package: 'whiptail', file: 'usr/bin/whiptail', with: ['ncurses-term'] }],
} satisfies Record<string, PeerSource[]>;

export type PeerName = keyof typeof SOURCES;
/** Asked for by a bench alone. */
const BENCH_ONLY = new Set<string>(['dialog', 'whiptail']);
/** What the tests need. */
export const PEER_NAMES = (Object.keys(SOURCES) as PeerName[]).filter((name) => !BENCH_ONLY.has(name));

export interface Peer {
  /** Path of the program itself. */
  path: string;
  /** Environment to run it with. */
  env: NodeJS.ProcessEnv;
  /** Folder its package was unpacked into; null if the system's own is used. */
  root: string | null;
}

export interface PeerOptions {
  /** Takes the package even where the system has the program. */
  ignoreSystem?: boolean;
  /** Cache folder, instead of the usual one. */
  cache?: string;
}

/** dpkg-query's own placeholders. */
const INSTALLED_FORMAT = ['$', '{db:Status-Abbrev} $', '{Package}\\n'].join('');
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

export function peersCache(): string {
  return process.env.PHD_PEERS_CACHE || path.join(homedir(), '.cache', 'phd-peers');
}

const answers = new Map<string, Promise<Peer | undefined>>();
const reasons = new Map<PeerName, string>();

/** The program, or undefined if it cannot be had (`missingPeers` then names it with the reason). */
export function peer(name: PeerName, options: PeerOptions = {}): Promise<Peer | undefined> {
  const cache = options.cache ?? peersCache();
  const key = `${name} ${options.ignoreSystem ?? false} ${cache}`;
  let answer = answers.get(key);
  if (answer === undefined) {
    answer = provision(name, cache, options.ignoreSystem ?? false);
    answers.set(key, answer);
  }
  return answer;
}

/** As `peer`, for tests that cannot do without it: throws with the name and the reason. */
export async function requirePeer(name: PeerName, options: PeerOptions = {}): Promise<Peer> {
  const found = await peer(name, options);
  if (found === undefined) throw new Error(`${name} cannot be had: ${reasons.get(name) ?? 'unknown reason'}`);
  return found;
}

/** Names and reasons of those that cannot be had, after trying all. */
export async function missingPeers(
  names: readonly PeerName[] = PEER_NAMES,
  options: PeerOptions = {},
): Promise<{ name: PeerName; reason: string }[]> {
  const missing: { name: PeerName; reason: string }[] = [];
  for (const name of names) {
    if ((await peer(name, options)) === undefined) {
      missing.push({ name, reason: reasons.get(name) ?? 'unknown reason' });
    }
  }
  return missing;
}

async function provision(name: PeerName, cache: string, ignoreSystem: boolean): Promise<Peer | undefined> {
  if (!ignoreSystem) {
    const path_ = await onSystem(name);
    if (path_ !== undefined) return { path: path_, env: process.env, root: null };
  }
  const failures: string[] = [];
  for (const source of SOURCES[name] as readonly PeerSource[]) {
    try {
      const root = await unpacked(source, cache);
      const program = path.join(root, source.file);
      await access(program);
      return { path: program, env: unpackedEnvironment(root), root };
    } catch (error) {
      failures.push(firstLine(error));
    }
  }
  reasons.set(name, failures.join('; '));
  return undefined;
}

async function onSystem(name: string): Promise<string | undefined> {
  const folders = [...(process.env.PATH ?? '').split(':').filter(path.isAbsolute), ...SYSTEM_FOLDERS];
  for (const folder of folders) {
    if (existsSync(path.join(folder, name))) return path.join(folder, name);
  }
  return undefined;
}

/** Library folders come before the system's; programs of the package after them. */
function unpackedEnvironment(root: string): NodeJS.ProcessEnv {
  const triplet = `${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-gnu`;
  const libraries = ['usr/lib', `usr/lib/${triplet}`, 'lib', `lib/${triplet}`];
  const programs = ['usr/bin', 'usr/sbin', 'bin', 'sbin', 'usr/lib/openssh'];
  const at = (folders: string[]): string[] =>
    folders.map((folder) => path.join(root, folder)).filter((folder) => existsSync(folder));
  return {
    ...process.env,
    LD_LIBRARY_PATH: at(libraries).join(':'),
    PATH: [process.env.PATH ?? '', ...at(programs)].join(':'),
  };
}

const inProgress = new Map<string, Promise<string>>();

/** Folder with the package and what it needs; made beside its final name and renamed, so never half there. */
function unpacked(source: PeerSource, cache: string): Promise<string> {
  const target = path.join(cache, `${releaseName()}-${process.arch}`, source.package);
  let work = inProgress.get(target);
  if (work === undefined) {
    work = unpackInto(source, target, cache);
    inProgress.set(target, work);
    work.catch(() => inProgress.delete(target));
  }
  return work;
}

async function unpackInto(source: PeerSource, target: string, cache: string): Promise<string> {
  if (existsSync(target)) return target;
  await mkdir(path.dirname(target), { recursive: true });
  const work = await mkdtemp(`${target}.new-`);
  try {
    const apt = new Apt(cache, path.join(work, '.deb'));
    await mkdir(path.join(work, '.deb'));
    await apt.unpack([source.package, ...(source.with ?? [])], work);
    await addLibraries(apt, source, work);
    await rm(path.join(work, '.deb'), { recursive: true });
    await rename(work, target).catch((error: NodeJS.ErrnoException) => {
      // Another process was first; its folder is as good as this one.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
    return target;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Adds packages with shared libraries until `ldd` finds all that the program asks for. */
async function addLibraries(apt: Apt, source: PeerSource, root: string): Promise<void> {
  const program = path.join(root, source.file);
  let missing = await missingLibraries(program, root);
  if (missing.length === 0) return;
  const candidates = await apt.sharedLibraryPackages(source.package);
  const tried = new Set<string>();
  while (missing.length > 0) {
    const named = missing.flatMap((library) => packagesOfLibrary(library, candidates));
    const next = (named.some((one) => !tried.has(one)) ? named : candidates).filter((one) => !tried.has(one));
    if (next.length === 0)
      throw new Error(`${source.package} needs ${missing.join(', ')}, which no package of its own has`);
    for (const one of next) tried.add(one);
    await apt.unpack(next, root);
    missing = await missingLibraries(program, root);
  }
}

async function missingLibraries(program: string, root: string): Promise<string[]> {
  const { stdout } = await run('ldd', [await realpath(program)], { env: unpackedEnvironment(root) }).catch(
    (error: { stdout?: string; stderr?: string }) => {
      if (/not a dynamic executable|statically linked/.test(`${error.stdout}${error.stderr}`))
        return { stdout: '' };
      throw error;
    },
  );
  return [...stdout.matchAll(/^\s*(\S+) => not found$/gm)].map((match) => match[1] ?? '');
}

/** Debian names a library package after its soname: libfoo.so.3 is in libfoo3, libfoo-1.2.so.3 in libfoo-1.2-3. */
function packagesOfLibrary(library: string, candidates: readonly string[]): string[] {
  const match = /^(.*?)\.so(?:\.(.+))?$/.exec(library);
  if (match === null) return [];
  const stem = (match[1] ?? '').toLowerCase().replaceAll('_', '-');
  const version = match[2] ?? '';
  const wanted = [`${stem}${version}`, `${stem}-${version}`, stem];
  return candidates.filter((one) => wanted.includes(one) || wanted.includes(one.replace(/t64$/, '')));
}

/** apt, for downloads only; falls back to package lists of its own where the system has none. */
class Apt {
  readonly #cache: string;
  readonly #downloads: string;
  #options: string[] = process.getuid?.() === 0 ? ['-o', 'APT::Sandbox::User=root'] : [];
  #hasOwnLists = false;

  constructor(cache: string, downloads: string) {
    this.#cache = cache;
    this.#downloads = downloads;
  }

  async unpack(packages: readonly string[], root: string): Promise<void> {
    const known = new Set(await readdir(this.#downloads));
    await this.#withLists(() =>
      run('apt-get', [...this.#options, '-q', 'download', ...packages], { cwd: this.#downloads }),
    );
    for (const file of await readdir(this.#downloads)) {
      if (!known.has(file)) await run('dpkg', ['-x', path.join(this.#downloads, file), root]);
    }
  }

  /** Packages named lib... that the package depends on, directly or not, and that are not installed. */
  async sharedLibraryPackages(name: string): Promise<string[]> {
    const only = ['recommends', 'suggests', 'conflicts', 'breaks', 'replaces', 'enhances'].map(
      (one) => `--no-${one}`,
    );
    const { stdout } = await run('apt-cache', [...this.#options, 'depends', '--recurse', ...only, name], {
      maxBuffer: 64 * 1024 * 1024,
    });
    const libraries = [...new Set(stdout.split('\n').filter((line) => /^lib[a-z0-9.+-]+$/.test(line)))];
    const installed = await run('dpkg-query', ['-W', '-f', INSTALLED_FORMAT]);
    const present = new Set([...installed.stdout.matchAll(/^ii +(\S+)$/gm)].map((match) => match[1]));
    return libraries.filter((one) => !present.has(one));
  }

  async #withLists<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (this.#hasOwnLists) throw error;
      this.#hasOwnLists = true;
      const own = path.join(this.#cache, `apt-${process.pid}`);
      await mkdir(path.join(own, 'lists', 'partial'), { recursive: true });
      await mkdir(path.join(own, 'archives', 'partial'), { recursive: true });
      this.#options = [
        ...this.#options,
        ...['-o', `Dir::State::Lists=${own}/lists`, '-o', `Dir::Cache=${own}`],
      ];
      await run('apt-get', [...this.#options, '-q', 'update']);
      return await work();
    }
  }
}

function releaseName(): string {
  try {
    const text = readFileSync('/etc/os-release', 'utf8');
    return /^VERSION_CODENAME=(\w+)/m.exec(text)?.[1] ?? /^ID=(\w+)/m.exec(text)?.[1] ?? 'unknown';
  } catch {
    return 'unknown';
  }
}

function firstLine(error: unknown): string {
  const text = (error as { stderr?: string }).stderr || (error as Error).message;
  return (
    text
      .trim()
      .split('\n')
      .filter((line) => !line.startsWith('W:'))[0] ?? text
  );
}

/** A shell script that runs the peer with its environment, for callers that can only name one file. */
export async function writePeerScript(found: Peer, file: string): Promise<void> {
  const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  const libraries = found.env.LD_LIBRARY_PATH;
  const setting = found.root === null || !libraries ? '' : `LD_LIBRARY_PATH=${quote(libraries)} `;
  await writeFile(file, `#!/bin/sh\n${setting}exec ${quote(found.path)} "$@"\n`, { mode: 0o755 });
}
