/** Locks that other ESX hosts hold on a VMFS volume, asked of VMware's own program. */
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import type { InUse, Use, Watched } from './in-use.ts';

const PROGRAM = 'vmfsfilelockinfo';
const TIMEOUT_MS = 30_000;
const MAX_ANSWER_BYTES = 64 * 1024;
const run = promisify(execFile);

async function findProgram(programPath: string): Promise<string | null> {
  for (const folder of programPath.split(delimiter).filter((part) => part.startsWith('/'))) {
    const path = join(folder, PROGRAM);
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder: the next one is asked.
    }
  }
  return null;
}

/**
 * What `vmfsfilelockinfo -p FILE` said: null = not locked, undefined = not understood.
 * The text either says that no ESX host has the file locked, or names the mode and the owner's MAC address.
 */
export function parseVmfsLock(path: string, answer: string): Use | null | undefined {
  if (/not\s+locked\s+by\s+any/i.test(answer)) return null;
  const mode = /\b(exclusive|multi-?writer|read-?only)\b/i.exec(answer)?.[1];
  if (mode === undefined) return undefined;
  const mac = /\b[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}\b/i.exec(answer)?.[0];
  return {
    path,
    how: `locked on VMFS (${mode.toLowerCase()})`,
    by: mac === undefined ? 'an unknown host' : `host with MAC ${mac.toLowerCase()}`,
    isReadOnly: /read/i.test(mode),
  };
}

/** VMFS locks of the files; nothing where the program does not exist, since then the volume is no VMFS of this host. */
export async function findVmfsLocks(watched: readonly Watched[], programPath: string): Promise<InUse> {
  const result: InUse = { inUse: [], unknown: [] };
  const program = await findProgram(programPath);
  if (program === null) return result;
  for (const { path } of watched) {
    try {
      const { stdout } = await run(program, ['-p', path], {
        timeout: TIMEOUT_MS,
        maxBuffer: MAX_ANSWER_BYTES,
      });
      const use = parseVmfsLock(path, stdout);
      if (use) result.inUse.push(use);
      if (use === undefined)
        result.unknown.push(`the VMFS lock of ${path}: the answer of ${PROGRAM} is not understood`);
    } catch (error) {
      const words = (error as Error).message.split('\n')[0];
      result.unknown.push(`the VMFS lock of ${path} cannot be asked for: ${words}`);
    }
  }
  return result;
}
