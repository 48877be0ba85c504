/**
 * Folders with the folders above them. Not by `recursive` of node:fs: where a file system answers ENOENT for a name in
 * a folder that exists (/proc, automounter maps), that tries again without end.
 */
import { mkdirSync, statSync } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/** One that is there already, or a link to one, is left as it is. `mode` less the umask. Throws errors of node:fs. */
export async function makeFolder(path: string, mode = 0o700): Promise<void> {
  try {
    await mkdir(path, mode);
  } catch (error) {
    if (codeOf(error) === 'ENOENT' && dirname(path) !== path) {
      await makeFolder(dirname(path), mode);
      await mkdir(path, mode).catch(async (again: unknown) => {
        if (!(await isFolder(path))) throw again;
      });
    } else if (!(await isFolder(path))) throw error;
  }
}

export function makeFolderSync(path: string, mode = 0o700): void {
  try {
    mkdirSync(path, mode);
  } catch (error) {
    if (codeOf(error) === 'ENOENT' && dirname(path) !== path) {
      makeFolderSync(dirname(path), mode);
      try {
        mkdirSync(path, mode);
      } catch (again) {
        if (!isFolderSync(path)) throw again;
      }
    } else if (!isFolderSync(path)) throw error;
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

async function isFolder(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

function isFolderSync(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
