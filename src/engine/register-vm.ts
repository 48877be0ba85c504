/** Makes a restored VM known to its host, where the host can: ESX has `vim-cmd`. */
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { PhdError } from '../errors.ts';

const PROGRAM = 'vim-cmd';
const TIMEOUT_MS = 60_000;
const run = promisify(execFile);

/** Path of `vim-cmd` in these folders (PATH), or null. */
export async function findRegistrar(searchPath: string): Promise<string | null> {
  for (const folder of searchPath.split(':').filter((one) => path.isAbsolute(one))) {
    const file = path.join(folder, PROGRAM);
    const isThere = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return file;
  }
  return null;
}

/** The command as a person would type it; the path is quoted for any shell. */
export function registerCommand(vmxPath: string): string {
  return `${PROGRAM} solo/registervm '${vmxPath.replaceAll("'", "'\\''")}'`;
}

/** Registers the VM; returns what the program said (the number of the VM). Throws PROGRAM_FAILED with its last line. */
export async function registerVm(registrar: string, vmxPath: string): Promise<string> {
  try {
    const { stdout } = await run(registrar, ['solo/registervm', vmxPath], { timeout: TIMEOUT_MS });
    return stdout.trim();
  } catch (error) {
    const { stderr = '', stdout = '', message } = error as Error & { stderr?: string; stdout?: string };
    const said = (stderr.trim() || stdout.trim() || message).split('\n').at(-1);
    throw new PhdError('PROGRAM_FAILED', `${PROGRAM} did not register ${vmxPath}: ${said}`, {
      cause: error,
    });
  }
}
