/** Name and version of this program, as archives and lists tell it. */
import { createRequire } from 'node:module';

/** package.json lies two folders above the source and three above the build. */
function readVersion(): string {
  const require = createRequire(import.meta.url);
  for (const place of ['../../package.json', '../../../package.json']) {
    try {
      const found = require(place) as { name?: string; version?: string };
      if (found.name === 'phd' && found.version) return found.version;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
    }
  }
  throw new Error('package.json of phd is not where it belongs');
}

export const VERSION: string = readVersion();
export const PROGRAM: string = `phd ${VERSION}`;
