/** Temporary folders of operations, under the state folder; what dead processes left is swept at the next start. */
import fs from 'node:fs/promises';
import path from 'node:path';
import { fromErrno } from '../errors.ts';
import type { ScratchFolder } from '../hosts/open-host.ts';
import { makeFolder } from '../make-folder.ts';

export type Scratch = ScratchFolder;

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
