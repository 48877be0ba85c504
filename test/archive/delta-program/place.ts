/** A temporary target with archives of one VM, and runs of their programs under real shells. */
import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { type PeerName, requirePeer, writePeerScript } from '../../support/peers.ts';
import {
  MemoryDisk,
  type ReferenceCodec,
  type ReferenceDelta,
  type ReferenceFile,
  type ReferenceFull,
  type ReferenceIdentity,
  writeDelta,
  writeFull,
} from '../../support/reference-writer.ts';

export interface Run {
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  env?: Record<string, string>;
  /** Lines for the menu; without it standard input is empty. */
  input?: string;
  cwd?: string;
  path?: string;
}

/** Looks a program of the system up as a shell does. */
export function locate(program: string): string {
  const folder = (process.env.PATH ?? '').split(delimiter).find((each) => existsSync(join(each, program)));
  if (!folder) throw new Error(`${program} is needed for this test and is not installed`);
  return join(folder, program);
}

/** A folder that holds links to exactly these programs. */
export function linkFolder(folder: string, programs: Record<string, string>): string {
  mkdirSync(folder, { recursive: true });
  for (const [name, goal] of Object.entries(programs)) symlinkSync(goal, join(folder, name));
  return folder;
}

/** Puts programs that a system may lack into a folder, as links or as scripts with their libraries. */
async function peerFolder(folder: string, names: PeerName[]): Promise<string> {
  mkdirSync(folder, { recursive: true });
  for (const name of names) {
    const found = await requirePeer(name);
    if (found.root === null) symlinkSync(found.path, join(folder, name));
    else await writePeerScript(found, join(folder, name));
  }
  return folder;
}

export type ShellName = 'dash' | 'bash --posix' | 'busybox ash';
export const SHELLS: ShellName[] = ['dash', 'bash --posix', 'busybox ash'];

/** Content that does not pack away; the same for the same seed. */
export function noise(bytes: number, seed: number): Buffer {
  const out = Buffer.alloc(bytes);
  let state = (seed * 2_654_435_761 + 1) >>> 0;
  for (let at = 0; at < bytes; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    out[at] = state >>> 24;
  }
  return out;
}

const BLOCK = 4096;

/** A disk of 601 blocks (three regions) with a short last block, half of it zero; and what became of it. */
export function sampleDisks(): { before: MemoryDisk; after: MemoryDisk } {
  const before = new MemoryDisk(600 * BLOCK + 1536, BLOCK);
  for (let block = 0; block < before.blockCount; block++) {
    if (block < 30 || block % 5 === 0) before.set(block, noise(BLOCK, block));
  }
  const after = before.copy();
  after.set(0, noise(BLOCK, 9001)).set(5, null).set(7, noise(BLOCK, 9002)).set(8, noise(BLOCK, 9003));
  after.set(301, noise(BLOCK, 9004)).set(600, noise(BLOCK, 9005)).set(599, noise(BLOCK, 9006));
  return { before, after };
}

export interface PlaceOptions {
  codec?: ReferenceCodec;
  passphrases?: string[];
  identity?: ReferenceIdentity;
  files?: ReferenceFile[];
  before?: MemoryDisk;
  after?: MemoryDisk;
  createType?: string;
}

export class Place {
  readonly root = mkdtempSync(join(tmpdir(), 'phd-delta-program-'));
  readonly out = join(this.root, 'out');
  readonly tmp = join(this.root, 'tmp');
  full!: ReferenceFull;
  delta!: ReferenceDelta;
  empty!: ReferenceDelta;
  fullPath = '';
  deltaPath = '';
  emptyPath = '';
  before!: MemoryDisk;
  after!: MemoryDisk;
  private busybox!: { program: string; folder: string };
  private peers = '';

  static async make(options: PlaceOptions = {}): Promise<Place> {
    const place = new Place();
    const sample = sampleDisks();
    place.before = options.before ?? sample.before;
    place.after = options.after ?? sample.after;
    place.full = await writeFull(place.before, options);
    place.delta = await writeDelta(place.full, place.after, options);
    place.empty = await writeDelta(place.full, null, options);
    const fullFolder = join(place.root, 'target', place.full.folderName);
    const deltaFolder = join(place.root, 'target', '2026.04.30-VM');
    for (const folder of [place.out, place.tmp, fullFolder, deltaFolder])
      mkdirSync(folder, { recursive: true });
    place.fullPath = join(fullFolder, place.full.fileName);
    place.deltaPath = join(deltaFolder, place.delta.fileName);
    place.emptyPath = join(fullFolder, place.empty.fileName);
    place.put();
    place.peers = await peerFolder(join(place.root, 'peers'), ['gpg', 'zstd', 'lzop']);
    const busybox = await requirePeer('busybox');
    const applets = execFileSync(busybox.path, ['--list'], { encoding: 'utf8' }).trim().split('\n');
    const links = Object.fromEntries(applets.map((applet) => [applet, busybox.path]));
    place.busybox = { program: busybox.path, folder: linkFolder(join(place.root, 'busybox'), links) };
    return place;
  }

  /** Writes the archives as they were made, whatever a test has done to them. */
  put(): void {
    writeFileSync(this.fullPath, this.full.bytes);
    writeFileSync(this.deltaPath, this.delta.bytes);
    writeFileSync(this.emptyPath, this.empty.bytes);
  }

  emptyOut(): void {
    rmSync(this.out, { recursive: true, force: true });
    mkdirSync(this.out);
  }

  get flat(): string {
    return join(this.out, this.full.identity.disk.replace(/\.vmdk$/, '-flat.vmdk'));
  }

  /** True if the flat is, byte for byte, the disk. */
  isRestored(disk: MemoryDisk, flat = this.flat): boolean {
    return existsSync(flat) && readFileSync(flat).equals(disk.bytes());
  }

  /** What lies in the output folder. */
  outNames(): string[] {
    return readdirSync(this.out).sort();
  }

  command(shell: ShellName): [string, ...string[]] {
    if (shell === 'busybox ash') return [this.busybox.program, 'ash'];
    const [name, ...options] = shell.split(' ');
    return [locate(name!), ...options];
  }

  /** PATH of nothing but busybox applets (and the packers that busybox has not), or that of the system. */
  path(shell: ShellName): string {
    const own =
      shell === 'busybox ash'
        ? [this.busybox.folder]
        : ['/usr/local/bin', '/usr/bin', '/bin', '/usr/sbin', '/sbin'];
    return [...own, this.peers].join(delimiter);
  }

  /** Runs an archive as a program and waits for its end. */
  run(shell: ShellName, archive: string, words: string[], options: RunOptions = {}): Promise<Run> {
    const [program, ...args] = this.command(shell);
    const child = spawn(program, [...args, archive, ...words], {
      cwd: options.cwd ?? this.out,
      env: {
        PATH: options.path ?? this.path(shell),
        HOME: this.root,
        TMPDIR: this.tmp,
        USE_RPATH: this.out,
        ...options.env,
      },
      stdio: 'pipe',
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input ?? '');
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (status) => resolve({ status, stdout, stderr }));
    });
  }

  /** Leftovers of runs in the temporary folder. */
  leftovers(): string[] {
    return readdirSync(this.tmp);
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** The bytes with the bit `bit` of byte `offset` turned. */
export function flip(bytes: Buffer, offset: number, bit = 0): Buffer {
  const copy = Buffer.from(bytes);
  copy[offset] = copy[offset]! ^ (1 << bit);
  return copy;
}

export const blocksOnDisk = (path: string): number => statSync(path).blocks;
