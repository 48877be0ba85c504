/** A stage for the tales: a home with targets and a datastore, the built program, and what shells and tools see. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import {
  makeVmFolder,
  type TestDiskRequest,
  type TestVm,
  type TestVmRequest,
} from '../support/disk-images.ts';
import { type PeerName, requirePeer, writePeerScript } from '../support/peers.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

export const MIB = 1_048_576;
export const BLOCK = 262_144;
/** A story runs the program some ten times before its first test; machines are slow and shared. */
export const HOOK_TIMEOUT_MS = 600_000;
const PROGRAM = fileURLToPath(new URL('../../dist/src/main.js', import.meta.url));
const execute = promisify(execFile);

export interface Run {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** A JSON line of the program. */
export type Line = Record<string, unknown> & { event?: string };

/** JSON lines of a run; `event` picks some. */
export function linesOf(run: Run, event?: string): Line[] {
  const lines = run.stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
  return event === undefined ? lines : lines.filter((line) => line.event === event);
}

export interface RunOptions {
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  input?: string;
  /** Called with the process right after its start. */
  onStart?: (child: ChildProcess) => void;
}

/** Runs a program to its end; output as text. */
export function runProgram(file: string, words: string[], options: RunOptions = {}): Promise<Run> {
  const child = spawn(file, words, { cwd: options.cwd, env: options.env ?? process.env, stdio: 'pipe' });
  const texts: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on('data', (chunk: Buffer) => texts[0].push(chunk));
  child.stderr.on('data', (chunk: Buffer) => texts[1].push(chunk));
  // What ends a program by force may reset its pipes, too.
  for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe.on('error', () => undefined);
  child.stdin.end(options.input ?? '');
  options.onStart?.(child);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) =>
      resolve({
        status,
        signal,
        stdout: Buffer.concat(texts[0]).toString(),
        stderr: Buffer.concat(texts[1]).toString(),
      }),
    );
  });
}

/** Runs an outside program and returns its output; throws unless it ends with status 0. */
export async function tool(name: PeerName, words: string[], env: NodeJS.ProcessEnv = {}): Promise<Buffer> {
  const found = await requirePeer(name);
  return await systemTool(found.path, words, { ...found.env, ...env });
}

export async function systemTool(
  file: string,
  words: string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<Buffer> {
  const { stdout } = await execute(file, words, { env, encoding: 'buffer', maxBuffer: 256 * MIB });
  return stdout;
}

export const sha256 = (content: string | Uint8Array): string =>
  createHash('sha256').update(content).digest('hex');
export const fileDigest = (file: string): string => sha256(readFileSync(file));

export interface TaleOptions {
  /** Folders of local targets, numbered from 1; default `one`. */
  targets?: string[];
  /** Further lines of phd.yaml. */
  config?: string;
}

export class Tale {
  readonly home: TempHome = makeTempHome();
  readonly datastore = this.home.folder('vmfs');
  #outputs = 0;

  constructor(options: TaleOptions = {}) {
    this.configure(options);
  }

  configure({ targets = ['one'], config = '' }: TaleOptions): void {
    const lines = targets.map((name, at) => {
      this.home.folder(name);
      return `  - { number: ${at + 1}, name: ${name}, transport: vmfs, path: ${name} }\n`;
    });
    this.home.writeConfig(`targets:\n${lines.join('')}datastores: [vmfs]\n${config}`);
  }

  /** Puts programs that the system may lack onto the path of `phd`. */
  async provide(...names: PeerName[]): Promise<void> {
    for (const name of names)
      await writePeerScript(await requirePeer(name), this.home.write(`bin/${name}`, '', 0o755));
  }

  path(...parts: string[]): string {
    return path.join(this.home.root, ...parts);
  }

  /** A folder that does not exist yet, to restore into. */
  newFolder(): string {
    this.#outputs += 1;
    return this.path(`out-${this.#outputs}`);
  }

  makeVm(vmName: string, disks: TestDiskRequest[], more: Partial<TestVmRequest> = {}): Promise<TestVm> {
    return makeVmFolder(this.datastore, { vmName, disks, ...more });
  }

  phd(words: string[], options: RunOptions = {}): Promise<Run> {
    return runProgram(process.execPath, [PROGRAM, ...words], {
      ...options,
      env: { ...this.home.env, PATH: `${this.path('bin')}:${process.env.PATH}`, ...options.env },
    });
  }

  /** `phd backup --json`; its result lines. Throws, with what it said, unless the status is as expected. */
  async backup(folder: string, words: string[] = [], status = 0): Promise<{ run: Run; disks: BackedUp[] }> {
    const run = await this.phd(['backup', folder, '--json', ...words]);
    if (run.status !== status) throw new Error(`backup ended with ${run.status}: ${run.stderr}${run.stdout}`);
    return { run, disks: linesOf(run, 'done') as unknown as BackedUp[] };
  }

  /** `phd restore --json`; its result line. Throws, with what it said, unless all was restored. */
  async restore(words: string[], options: RunOptions = {}): Promise<{ run: Run; disks: Restored[] }> {
    const run = await this.phd(['restore', ...words, '--json'], options);
    if (run.status !== 0) throw new Error(`restore ended with ${run.status}: ${run.stderr}${run.stdout}`);
    return { run, disks: linesOf(run, 'done') as unknown as Restored[] };
  }

  /** Local path of an archive `N:folder/file` on a local target. */
  file(archive: string, target: string = 'one'): string {
    return this.path(target, archive.slice(archive.indexOf(':') + 1));
  }

  /** Every file on a local target, relative to it, without the copies of the configuration. */
  filesOn(target: string): string[] {
    return (readdirSync(this.path(target), { recursive: true, withFileTypes: true }) ?? [])
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(this.path(target), path.join(entry.parentPath, entry.name)))
      .filter((file) => !file.startsWith('phd-configuration/'))
      .sort();
  }

  /** What the program keeps for itself, as text: configuration, databases, logs. */
  ownTexts(): string[] {
    const files = ['state', 'log'].flatMap((folder) =>
      namesIn(this.path(folder)).map((name) => this.path(folder, name)),
    );
    return [this.path('phd.yaml'), ...files]
      .filter((file) => statSync(file).isFile())
      .map((file) => readFileSync(file, 'latin1'));
  }

  /** Loses jobs.db, index.db and the kept maps. */
  loseState(): void {
    if (!existsSync(this.path('state', 'jobs.db'))) throw new Error('there is no jobs.db to lose');
    rmSync(this.path('state'), { recursive: true });
  }

  remove(): void {
    this.home.remove();
  }
}

/** Result line of a backup. */
export interface BackedUp extends Line {
  archive: string;
  full: string;
  disk: string;
  mode: 'full' | 'delta';
  changedBlocks: number;
  archiveBytes: number;
  uuid: string;
  runId: string;
  message: string;
}

/** Result line of a restore. */
export interface Restored extends Line {
  archive: string;
  full: string;
  disk: string;
  flatPath: string;
  descriptorPath: string | null;
  totalBlocks: number;
  fromFull: number;
  fromDelta: number;
  zero: number;
  kept: number;
  writtenBytes: number;
  besideBytes: number;
  retried: number;
  unproved: boolean;
  verified: boolean;
}

/** The one disk of a result. */
export function only<T>(disks: readonly T[]): T {
  const [first] = disks;
  if (first === undefined || disks.length !== 1) throw new Error(`one disk expected, not ${disks.length}`);
  return first;
}

/** Turns one bit of a byte of a file. */
export function flipByte(file: string, offset: number): void {
  const bytes = readFileSync(file);
  bytes.writeUInt8((bytes[offset] ?? 0) ^ 1, offset);
  writeFileSync(file, bytes);
}

/** Names in a folder; none if it is not there. */
export function namesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).sort() : [];
}

/** Where the gzip members of the blocks of a FULL lie, read by its own description: extra field 'P' 'B'. */
export function membersOf(full: string): { offset: number; bytes: number }[] {
  const content = readFileSync(full);
  const members: { offset: number; bytes: number }[] = [];
  // The head has no payload: header, extra field, two bytes of an empty deflate stream, CRC and size.
  let at = 12 + content.readUInt16LE(10) + 2 + 8;
  while (content[at + 13] === 'B'.charCodeAt(0)) {
    const bytes = content.readUInt32LE(at + 16);
    members.push({ offset: at, bytes });
    at += bytes;
  }
  return members;
}

/** A block of a FULL whose packed bytes are many, so that a turned bit lies in its content. */
export function fullBlock(full: string): { block: number; middle: number } {
  const members = membersOf(full);
  const block = members.findIndex(({ bytes }) => bytes > 10_000);
  const member = members[block];
  if (member === undefined) throw new Error(`${full} has no block with much content`);
  return { block, middle: member.offset + Math.floor(member.bytes / 2) };
}

/** Calls `isSo` until it is true; throws after a while. For what another process does. */
export async function until(isSo: () => boolean | Promise<boolean>, limitMs = 60_000): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error('it did not come to pass');
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
