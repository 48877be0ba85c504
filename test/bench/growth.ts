/** Time and peak memory of our side as the disk grows, and on a very large sparse disk. */
import { mkdirSync, rmSync } from 'node:fs';
import { open, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { type BenchDisk, BLOCK_BYTES, makeBenchDisk, makeSparseDisk, putState } from './disk-image.ts';
import { type Command, type ProcessRun, requireSameFile, runOrThrow } from './measure.ts';
import { PhdHome, type WrittenArchive, writtenArchive } from './phd.ts';
import type { Failure } from './samples.ts';

export type Operation = 'FULL' | 'DELTA' | 'restore' | 'verify';

export interface GrowthRow {
  diskBytes: number;
  usedBytes: number;
  isSparse: boolean;
  seconds: Partial<Record<Operation, number>>;
  peakBytes: Partial<Record<Operation, number>>;
}

/** Measures each size that the free space permits; a size that does not fit or fails is named in `failures`. */
export async function measureGrowth(
  folder: string,
  sizes: readonly number[],
  sparseBytes: number,
  failures: Failure[],
): Promise<GrowthRow[]> {
  const rows: GrowthRow[] = [];
  const work = path.join(folder, 'growth');
  const all = [
    ...sizes.map((diskBytes) => ({ diskBytes, isSparse: false })),
    ...(sparseBytes > 0 ? [{ diskBytes: sparseBytes, isSparse: true }] : []),
  ];
  for (const { diskBytes, isSparse } of all) {
    const program = `phd, disk of ${diskBytes / 1024 ** 3} GiB`;
    const job = 'growth';
    try {
      mkdirSync(work, { recursive: true });
      await requireSpace(work, isSparse ? diskBytes / 800 : diskBytes);
      rows.push(await measureOne(work, diskBytes, isSparse));
    } catch (error) {
      const reason = (error as Error).message;
      process.stderr.write(`${job}: ${program}: ${reason}\n`);
      failures.push({ job, program, isOurs: !(error instanceof NoSpace), reason });
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
  return rows;
}

class NoSpace extends Error {}

/** An image, its staged files, its archives and a restored disk, with 40 % of it used. */
async function requireSpace(folder: string, diskBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const neededBytes = diskBytes * 1.6;
  if (bavail * bsize < neededBytes) {
    throw new NoSpace(
      `needs ${(neededBytes / 1024 ** 3).toFixed(0)} GiB free in ${folder}, so it was left out`,
    );
  }
}

async function measureOne(work: string, diskBytes: number, isSparse: boolean): Promise<GrowthRow> {
  const disk = isSparse ? await makeSparseDisk(work, diskBytes) : await makeBenchDisk(work, diskBytes);
  const targetFolder = path.join(work, 'target');
  const out = path.join(work, 'out');
  mkdirSync(targetFolder);
  const target = `- { number: 1, name: local, transport: vmfs, path: ${JSON.stringify(targetFolder)} }`;
  const home = new PhdHome(path.join(work, 'home'), [target], work);
  const usedBytes = disk.usedBlocks * BLOCK_BYTES;
  const row: GrowthRow = { diskBytes, usedBytes, isSparse, seconds: {}, peakBytes: {} };
  const timed = async (operation: Operation, command: Command): Promise<ProcessRun> => {
    await runOrThrow({ program: 'sync', args: [] });
    process.stderr.write(`growth: ${diskBytes / 1024 ** 3} GiB: ${operation} ... `);
    const run = await runOrThrow(command);
    process.stderr.write(`${run.seconds.toFixed(2)} s\n`);
    row.seconds[operation] = run.seconds;
    row.peakBytes[operation] = run.peakBytes ?? Number.NaN;
    return run;
  };
  const backup = home.command('backup', disk.vmFolder, '--json');
  const full = writtenArchive(await timed('FULL', backup), targetFolder);
  let newest: WrittenArchive = full;
  if (!isSparse) {
    await putState(disk.flatPath, disk, 'after');
    newest = writtenArchive(await timed('DELTA', backup), targetFolder);
  }
  await timed('restore', home.command('restore', newest.deltaRef, '--to', out, '--json'));
  const restored = path.join(out, 'bench-flat.vmdk');
  if (isSparse) await requireSameSparse(disk, restored);
  else await requireSameFile(disk.flatPath, restored);
  rmSync(out, { recursive: true });
  await timed('verify', home.command('verify', full.fullRef, '--json'));
  return row;
}

/** Compares where data is, and that nothing else takes room: reading all holes would take longer than the bench. */
async function requireSameSparse(disk: BenchDisk, restored: string): Promise<void> {
  const found = await stat(restored);
  const dataBytes = disk.usedBlocks * BLOCK_BYTES;
  if (found.size !== disk.diskBytes || found.blocks * 512 > 2 * dataBytes + 1024 ** 2) {
    throw new Error(`${restored} has ${found.size} bytes in ${found.blocks} sectors`);
  }
  const blockCount = Math.ceil(disk.diskBytes / BLOCK_BYTES);
  const files = [await open(disk.flatPath, 'r'), await open(restored, 'r')] as const;
  try {
    for (let at = 0; at < disk.usedBlocks; at++) {
      const block = Math.floor((at * (blockCount - 1)) / (disk.usedBlocks - 1));
      const reads = files.map((file) =>
        file.read(Buffer.alloc(BLOCK_BYTES), 0, BLOCK_BYTES, block * BLOCK_BYTES),
      );
      const [one, other] = await Promise.all(reads);
      if (!one?.buffer.equals(other?.buffer ?? Buffer.alloc(0)))
        throw new Error(`${restored}: block ${block} differs`);
    }
  } finally {
    for (const file of files) await file.close();
  }
}
