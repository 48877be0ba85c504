/** Words of the benchmark's command line. */
import path from 'node:path';
import { parseArgs } from 'node:util';

export const PARTS = ['backup', 'restore', 'transport', 'memory', 'index', 'replication'] as const;
export type Part = (typeof PARTS)[number];

export interface BenchOptions {
  /** Size of the disk that we and the peers back up. */
  diskBytes: number;
  /** Rounds; every program runs once in each. */
  runs: number;
  parts: ReadonlySet<Part>;
  jsonFile: string;
  /** Folder for images and archives; null: the user's cache folder. */
  folder: string | null;
  /** Disk sizes of the growth table. */
  growthBytes: number[];
  /** Size of the sparse disk, 0 for none. */
  sparseBytes: number;
  /** Archives on each target of the index bench. */
  archiveCount: number;
  /** Archives in the index that is filtered. */
  rowCount: number;
  /** Archives on the target of the replication pass. */
  passArchiveCount: number;
}

export const USAGE = `npm run bench -- [options]
  --size SIZE      disk of the comparison with the peers (1G)
  --runs N         rounds (3)
  --only LIST      parts: ${PARTS.join(',')} (all)
  --sizes LIST     disks of the growth table (1G,4G,16G)
  --sparse SIZE    sparse disk of the memory table (2T, 0 for none)
  --quick          256M disk, one run, growth 64M,256M, sparse 64G, small indexes
  --archives N     archives on each target of the index bench (20000)
  --rows N         archives in the index that is filtered (1000000)
  --pass N         archives on the target of the replication pass (100000)
  --folder DIR     where images and archives lie meanwhile (the user's cache folder)
  --json FILE      results (dist/bench.json); the plot lies beside it as .svg`;

const FACTORS: Record<string, number> = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3, T: 1024 ** 4 };

/** `256M` in bytes. Throws for anything else than a whole number with K, M, G, T or nothing. */
export function parseSize(text: string): number {
  const match = /^(\d{1,6})([KMGT]?)$/.exec(text);
  if (match === null) throw new Error(`${JSON.stringify(text)} is no size: expected one like 256M or 1G`);
  return Number(match[1]) * (FACTORS[match[2] ?? ''] ?? 1);
}

/** Reads the words; throws with one line for what makes no sense. */
export function parseOptions(words: readonly string[], projectFolder: string): BenchOptions {
  const { values } = parseArgs({
    args: [...words],
    options: {
      size: { type: 'string' },
      runs: { type: 'string' },
      only: { type: 'string' },
      sizes: { type: 'string' },
      sparse: { type: 'string' },
      archives: { type: 'string' },
      rows: { type: 'string' },
      pass: { type: 'string' },
      folder: { type: 'string' },
      json: { type: 'string' },
      quick: { type: 'boolean', default: false },
    },
  });
  const usual = values.quick
    ? {
        size: '256M',
        runs: '1',
        sizes: '64M,256M',
        sparse: '64G',
        archives: '600',
        rows: '20000',
        pass: '2000',
      }
    : {
        size: '1G',
        runs: '3',
        sizes: '1G,4G,16G',
        sparse: '2T',
        archives: '20000',
        rows: '1000000',
        pass: '100000',
      };
  const parts = values.only?.split(',') ?? PARTS;
  for (const part of parts) {
    if (!(PARTS as readonly string[]).includes(part)) {
      throw new Error(`--only ${part}: expected ${PARTS.join(', ')}`);
    }
  }
  return {
    diskBytes: wholeDisk(parseSize(values.size ?? usual.size)),
    runs: wholeNumber(values.runs ?? usual.runs, '--runs'),
    parts: new Set(parts as Part[]),
    jsonFile: path.resolve(values.json ?? path.join(projectFolder, 'dist', 'bench.json')),
    folder: values.folder === undefined ? null : path.resolve(values.folder),
    growthBytes: (values.sizes ?? usual.sizes).split(',').map(parseSize).map(wholeDisk),
    sparseBytes: parseSize(values.sparse ?? usual.sparse),
    archiveCount: wholeNumber(values.archives ?? usual.archives, '--archives'),
    rowCount: wholeNumber(values.rows ?? usual.rows, '--rows'),
    passArchiveCount: wholeNumber(values.pass ?? usual.pass, '--pass'),
  };
}

/** Below 64 MiB a file system over real files says nothing. */
function wholeDisk(bytes: number): number {
  const least = 64 * 1024 ** 2;
  if (bytes < least || bytes % 4096 !== 0) throw new Error('a disk of the bench has 64M or more');
  return bytes;
}

function wholeNumber(text: string, what: string): number {
  const value = Number(text);
  if (!/^\d{1,9}$/.test(text) || value < 1)
    throw new Error(`${what} ${text}: expected a whole number from 1`);
  return value;
}
