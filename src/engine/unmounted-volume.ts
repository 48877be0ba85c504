/** Volumes that the system is to have mounted and has not: what is written there fills the disk below. */
import { readFile } from 'node:fs/promises';

export interface MountTables {
  /** Mount points of /etc/fstab. */
  wanted: readonly string[];
  /** Where something is mounted now. */
  mounted: ReadonlySet<string>;
}

/** As this system has them; what cannot be read wants nothing and refuses nothing. */
export async function readMountTables(): Promise<MountTables> {
  const [fstab, mounts] = await Promise.all(
    ['/etc/fstab', '/proc/self/mountinfo'].map((file) => readFile(file, 'utf8').catch(() => '')),
  );
  return parseMountTables(fstab ?? '', mounts ?? '');
}

export function parseMountTables(fstab: string, mountinfo: string): MountTables {
  const wanted = fieldsOf(fstab).flatMap(([, point = '']) => (point.startsWith('/') ? [point] : []));
  const mounted = new Set(fieldsOf(mountinfo).flatMap(([, , , , point]) => point ?? []));
  return { wanted: mounted.size === 0 ? [] : wanted, mounted };
}

/** The mount point that this folder (a real path) lies at or below and that is not mounted; undefined: none. */
export function unmountedVolume(folder: string, { wanted, mounted }: MountTables): string | undefined {
  const around = wanted.filter(
    (point) => point !== '/' && (folder === point || folder.startsWith(`${point}/`)),
  );
  const deepest = around.reduce<string | undefined>(
    (best, point) => (best === undefined || point.length > best.length ? point : best),
    undefined,
  );
  if (deepest === undefined || mounted.has(deepest)) return undefined;
  // Something else may be mounted between.
  const between = [...mounted].some(
    (point) => point.length > deepest.length && folder.startsWith(`${point}/`),
  );
  return between || mounted.has(folder) ? undefined : deepest;
}

/** Words of each line that is no comment; blanks in paths are written `\040`. */
function fieldsOf(text: string): string[][] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(/\s+/).map(unescapeOctal));
}

function unescapeOctal(word: string): string {
  return word
    .replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
    .replace(/(.)\/+$/, '$1');
}
