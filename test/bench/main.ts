/**
 * The benchmark: `npm run bench -- --help`. Our side is the built program as a process, start-up included, as it runs
 * by default. Results go to standard output as Markdown and to a JSON file; exit status 1 if one of our own commands
 * failed, 0 otherwise, also where a goal is missed.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { JOBS, runRound } from './archive-round.ts';
import { BLOCK_BYTES, makeBenchDisk, putState } from './disk-image.ts';
import {
  browseVerdicts,
  filterVerdict,
  idlePassVerdicts,
  inPlaceVerdicts,
  memoryVerdict,
  ratioVerdicts,
} from './goals.ts';
import { measureGrowth } from './growth.ts';
import { measureIndexing } from './index-targets.ts';
import { runOrThrow } from './measure.ts';
import { measureNameFilter } from './name-filter.ts';
import { type BenchOptions, parseOptions, USAGE } from './options.ts';
import { PeerPrograms } from './peer-programs.ts';
import { drawGrowth } from './plot.ts';
import { measureIdlePass } from './replication-pass.ts';
import { type BenchResults, describeMachine, printReport } from './report.ts';
import { Samples } from './samples.ts';
import { TRANSPORT_JOB, transportRound } from './transport.ts';

const PROJECT_FOLDER = fileURLToPath(new URL('../../../', import.meta.url));

const NOTES = [
  'Files lie in the page cache; dirty pages are written out before each run. Programs take turns, every second round in reverse order.',
  'Ours is the whole process with its start-up; archives are fsynced and read back, every block is checked, as by default.',
  'restic encrypts and deduplicates, borg deduplicates (zstd 3, no encryption); gzip, pigz, zstd, lzop and qemu-img do not sync what they pack.',
  'Restores: all sides are followed by `sync -f` of their output within the time; ours, restic and borg give the second state, the rest unpack the FULL.',
  'Each size of the growth table is run once; the sparse disk holds 8 MiB of data.',
  'Peak memory is VmHWM of the one process, read every 20 ms; lzop and shells run further processes that it leaves out.',
];

async function compareArchives(
  options: BenchOptions,
  folder: string,
  peers: PeerPrograms,
  samples: Samples,
  results: BenchResults,
): Promise<void> {
  process.stderr.write('making the disk ... ');
  const disk = await makeBenchDisk(folder, options.diskBytes);
  process.stderr.write(`${disk.usedBlocks} blocks in use, ${disk.changes.length} change\n`);
  results.usedBytes = disk.usedBlocks * BLOCK_BYTES;
  const beforeImage = path.join(folder, 'before.img');
  const afterImage = path.join(folder, 'after.img');
  for (const image of [beforeImage, afterImage]) {
    await runOrThrow({ program: 'cp', args: ['--sparse=always', disk.flatPath, image] });
  }
  await putState(afterImage, disk, 'after');
  for (let round = 0; round < options.runs; round++) {
    await runRound(
      {
        disk,
        beforeImage,
        afterImage,
        folder: path.join(folder, `round-${round}`),
        round,
        peers,
        samples,
        withBackup: options.parts.has('backup'),
        withRestore: options.parts.has('restore'),
        archiveBytes: results.archiveBytes,
        inPlace: results.inPlace,
      },
      async (pair) => {
        if (!options.parts.has('transport')) return;
        const input = { folder, afterImage, datastore: folder, peers, samples, round };
        await runPart(TRANSPORT_JOB, samples, () => transportRound(input, pair));
      },
    );
  }
  for (const image of [beforeImage, afterImage]) rmSync(image);
  rmSync(disk.vmFolder, { recursive: true });
  results.verdicts.push(...ratioVerdicts(samples, jobsOf(options)));
  if (options.parts.has('restore')) results.verdicts.push(...inPlaceVerdicts(results.inPlace));
}

function jobsOf({ parts }: BenchOptions): Set<string> {
  return new Set<string>([
    ...(parts.has('backup') ? [JOBS.full, JOBS.delta] : []),
    ...(parts.has('restore') ? [JOBS.restore, JOBS.verify, JOBS.selfExtractor] : []),
    ...(parts.has('transport') ? [TRANSPORT_JOB] : []),
  ]);
}

/** A part that cannot be run at all is named and does not stop the others. */
async function runPart(job: string, samples: Samples, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const reason = (error as Error).message;
    process.stderr.write(`${job}: ${reason}\n`);
    samples.fail({ job, program: 'bench', isOurs: true, reason });
  }
}

async function bench(options: BenchOptions, folder: string): Promise<BenchResults> {
  const peers = await PeerPrograms.find();
  const samples = new Samples();
  const results: BenchResults = {
    startedAt: `${new Date().toISOString().slice(0, 16)}Z`,
    machine: describeMachine(),
    diskBytes: options.diskBytes,
    usedBytes: null,
    runs: options.runs,
    versions: peers.versions,
    missing: peers.missing,
    measured: [],
    failures: samples.failures,
    verdicts: [],
    archiveBytes: {},
    inPlace: [],
    growth: [],
    filter: null,
    notes: [...NOTES],
  };
  const { parts } = options;
  if (parts.has('backup') || parts.has('restore') || parts.has('transport')) {
    await runPart('comparison', samples, () => compareArchives(options, folder, peers, samples, results));
  }
  if (parts.has('memory')) {
    results.growth = await measureGrowth(folder, options.growthBytes, options.sparseBytes, samples.failures);
    results.verdicts.push(memoryVerdict(results.growth));
  }
  if (parts.has('index')) {
    await runPart('index', samples, async () => {
      results.notes.push(...(await measureIndexing(folder, options.archiveCount, options.runs, samples)));
    });
    await runPart('name filter', samples, async () => {
      results.filter = measureNameFilter(folder, options.rowCount);
      results.verdicts.push(filterVerdict(results.filter), ...browseVerdicts(results.filter.browse));
    });
  }
  if (parts.has('replication')) {
    await runPart('replication', samples, async () => {
      const pass = await measureIdlePass(folder, options.passArchiveCount, options.runs, samples);
      results.verdicts.push(...idlePassVerdicts(pass, samples));
    });
  }
  results.measured = samples.all();
  return results;
}

/** Removes the folder also when the bench is stopped; what it started dies with it or with its folder. */
async function inFolder<T>(parent: string | null, work: (folder: string) => Promise<T>): Promise<T> {
  const base = parent ?? path.join(process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'phd-bench');
  mkdirSync(base, { recursive: true });
  const folder = mkdtempSync(path.join(base, 'run-'));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      remove();
      process.exit(130);
    });
  }
  try {
    return await work(folder);
  } finally {
    remove();
  }
}

async function main(words: readonly string[]): Promise<number> {
  if (words.includes('--help')) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  let options: BenchOptions;
  try {
    options = parseOptions(words, PROJECT_FOLDER);
  } catch (error) {
    process.stderr.write(`bench: ${(error as Error).message}\n${USAGE}\n`);
    return 2;
  }
  const results = await inFolder(options.folder, (folder) => bench(options, folder));
  mkdirSync(path.dirname(options.jsonFile), { recursive: true });
  writeFileSync(options.jsonFile, `${JSON.stringify(results, null, 2)}\n`);
  process.stdout.write(printReport(results));
  process.stderr.write(`results: ${options.jsonFile}\n`);
  if (results.growth.length > 0) {
    const plotFile = options.jsonFile.replace(/(\.json)?$/, '.svg');
    writeFileSync(plotFile, drawGrowth(results.growth));
    process.stderr.write(`plot: ${plotFile}\n`);
  }
  return results.failures.some((one) => one.isOurs) ? 1 : 0;
}

process.exitCode = await main(process.argv.slice(2));
