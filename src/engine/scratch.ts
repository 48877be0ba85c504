/** Temporary folders of operations, under the state folder; what dead processes left is swept at the next start. */
import fs from 'node:fs/promises';
import path from 'node:path';
import { fromErrno } from '../errors.ts';
import type { ScratchFolder } from '../hosts/open-host.ts';
import { makeFolder } from '../make-folder.ts';

export type Scratch = ScratchFolder;

/** Name of the file that tells what is read. */
const READING = 'reading.json';

/** Makes a folder of its own for one operation. Throws IO, NO_SPACE. */
export async function openScratch(stateDir: string): Promise<Scratch> {
  const parent = path.join(stateDir, 'scratch');
  try {
    await makeFolder(parent);
    await sweep(parent);
    const folder = await fs.mkdtemp(path.join(parent, `${process.pid}-`));
    return {
      file: (name) => path.join(folder, name),
      remove: () => fs.rm(folder, { recursive: true, force: true }),
    };
  } catch (error) {
    throw fromErrno(error, `cannot make a temporary folder in ${parent}`);
  }
}

/** Of the archives that an operation reads, as `N:folder/file`: nothing is to remove them meanwhile. Throws IO, NO_SPACE. */
export async function claimReading(scratch: Scratch, archives: readonly string[]): Promise<void> {
  const file = scratch.file(READING);
  try {
    await fs.writeFile(`${file}.part`, JSON.stringify(archives), { mode: 0o600 });
    await fs.rename(`${file}.part`, file);
  } catch (error) {
    throw fromErrno(error, `cannot write ${file}`);
  }
}

/** What operations of this home read now, as `N:folder/file`; those of dead processes count for nothing. Throws IO. */
export async function archivesBeingRead(stateDir: string): Promise<Set<string>> {
  const parent = path.join(stateDir, 'scratch');
  const found = new Set<string>();
  for (const name of await namesIn(parent)) {
    if (!isAlive(Number.parseInt(name, 10))) continue;
    const text = await fs.readFile(path.join(parent, name, READING), 'utf8').catch(ifGone);
    if (text !== undefined) for (const archive of JSON.parse(text) as string[]) found.add(archive);
  }
  return found;
}

async function namesIn(parent: string): Promise<string[]> {
  return (await fs.readdir(parent).catch(ifGone)) ?? [];
}

/** An operation may end while it is looked at. */
function ifGone(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw fromErrno(error, 'cannot see what is read');
}

async function sweep(parent: string): Promise<void> {
  for (const name of await fs.readdir(parent)) {
    const pid = Number.parseInt(name, 10);
    if (Number.isInteger(pid) && isAlive(pid)) continue;
    await fs.rm(path.join(parent, name), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
