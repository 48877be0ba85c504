/**
 * What lies on the disks of the demo: ext4 file systems with real files, made and changed by e2fsprogs. Where those
 * programs are missing, the same files lie on the raw disk one after the other.
 */
import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { fromErrno, PhdError } from '../errors.ts';

const run = promisify(execFile);
/** Where Debian keeps mkfs and debugfs; not in the PATH of ordinary users. */
const SYSTEM_FOLDERS = ['/usr/sbin', '/sbin'];
const PIECE_BYTES = 4096;

export interface DiskContent {
  /** What the disks hold, in the words of the summary. */
  description: string;
  /** Fills a new flat of this size with the files of a folder. */
  fill(flatPath: string, sizeBytes: number, tree: string, signal?: AbortSignal): Promise<void>;
  /** Writes a further file into the content, and takes one away. */
  change(flatPath: string, added: string, removed: string, signal?: AbortSignal): Promise<void>;
  /** What a file system check says of a restored flat; null if there is none. Throws IO if it is not clean. */
  check(flatPath: string, signal?: AbortSignal): Promise<string | null>;
}

/** ext4 if mkfs.ext4, debugfs and e2fsck are there, else plain files. */
export function chooseContent(env: NodeJS.ProcessEnv): DiskContent {
  const programs = ['mkfs.ext4', 'debugfs', 'e2fsck'].map((name) => ({ name, file: findProgram(name, env) }));
  const missing = programs.filter(({ file }) => file === undefined).map(({ name }) => name);
  if (missing.length > 0) return plainFiles(missing);
  const [mkfs, debugfs, e2fsck] = programs.map(({ file }) => file as string) as [string, string, string];
  return ext4(mkfs, debugfs, e2fsck);
}

function findProgram(name: string, env: NodeJS.ProcessEnv): string | undefined {
  const folders = [...(env.PATH ?? '').split(':').filter(path.isAbsolute), ...SYSTEM_FOLDERS];
  return folders
    .map((folder) => path.join(folder, name))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

function ext4(mkfs: string, debugfs: string, e2fsck: string): DiskContent {
  return {
    description: 'ext4 file systems with files',
    async fill(flatPath, sizeBytes, tree, signal) {
      await makeHole(flatPath, sizeBytes);
      await call(mkfs, ['-q', '-F', '-E', 'lazy_itable_init=0', '-d', tree, flatPath], signal);
    },
    async change(flatPath, added, removed, signal) {
      await debug(debugfs, flatPath, `rm /${removed}`, signal);
      await debug(debugfs, flatPath, `write ${added} /${path.basename(added)}`, signal);
    },
    async check(flatPath, signal) {
      await call(e2fsck, ['-f', '-n', flatPath], signal);
      return 'e2fsck: clean';
    },
  };
}

/** One debugfs command on the image. debugfs ends with status 0 even if it failed: anything beyond its banner counts. */
async function debug(
  debugfs: string,
  flatPath: string,
  command: string,
  signal?: AbortSignal,
): Promise<void> {
  const said = await call(debugfs, ['-w', '-R', command, flatPath], signal);
  const complaint = said
    .split('\n')
    .find((line) => line !== '' && !/^(debugfs \d|Allocated inode:)/.test(line));
  if (complaint) throw new PhdError('IO', `debugfs could not change ${flatPath} (${command}): ${complaint}`);
}

/** Both outputs of a program that ended with status 0. */
async function call(program: string, words: string[], signal?: AbortSignal): Promise<string> {
  try {
    const { stdout, stderr } = await run(program, words, {
      signal,
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    });
    return stderr + stdout;
  } catch (error) {
    const [firstLine] = ((error as { stderr?: string }).stderr ?? '').trim().split('\n');
    const translated = fromErrno(error, `${path.basename(program)} failed`);
    if (translated.code === 'CANCELLED' || !firstLine) throw translated;
    throw new PhdError('IO', `${path.basename(program)} failed: ${firstLine}`, { cause: error });
  }
}

function plainFiles(missing: readonly string[]): DiskContent {
  return {
    description: `real files one after the other, without a file system (${missing.join(', ')} missing)`,
    async fill(flatPath, sizeBytes, tree) {
      await makeHole(flatPath, sizeBytes);
      await writeInTurn(flatPath, await filesUnder(tree), 0, sizeBytes);
    },
    async change(flatPath, added) {
      const { size } = await fs.stat(flatPath);
      const middle = Math.floor(size / 2 / PIECE_BYTES) * PIECE_BYTES;
      await writeInTurn(flatPath, [added], middle, size);
      await writeAt(flatPath, Buffer.alloc(16 * PIECE_BYTES), 0);
    },
    check: async () => null,
  };
}

async function writeInTurn(flatPath: string, files: string[], from: number, end: number): Promise<void> {
  let at = from;
  for (const file of files) {
    const bytes = await fs.readFile(file);
    if (at + bytes.length > end) return;
    await writeAt(flatPath, bytes, at);
    at += Math.ceil(bytes.length / PIECE_BYTES) * PIECE_BYTES;
  }
}

async function writeAt(flatPath: string, bytes: Buffer, at: number): Promise<void> {
  const flat = await fs.open(flatPath, 'r+');
  try {
    await flat.writev([bytes], at);
  } finally {
    await flat.close();
  }
}

async function filesUnder(tree: string): Promise<string[]> {
  const entries = await fs.readdir(tree, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
}

async function makeHole(flatPath: string, sizeBytes: number): Promise<void> {
  const flat = await fs.open(flatPath, 'wx', 0o600);
  try {
    await flat.truncate(sizeBytes);
  } finally {
    await flat.close();
  }
}
