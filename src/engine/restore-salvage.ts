/** What is left of a restore when blocks are good nowhere and the operator asked for the rest. */
import fs from 'node:fs/promises';
import { blockSizeBytes } from '../archive/geometry.ts';
import { zeroBlocks } from '../blocks/check-disk.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { formatCount } from './display-text.ts';
import { type Filled, syncWork, type Work } from './restore-fill.ts';

/** What could be had, under a name that says so; never "restored". */
export async function salvage(work: Work, filled: Filled): Promise<never> {
  const { open, geometry } = work;
  await zeroBlocks(work.pool, work.disk, filled.bad.keys(), work.hooks.signal);
  await syncWork(open);
  const damagedPath = await freePath(`${open.goal.flatPath}.damaged`);
  const ranges = [...filled.bad.keys()]
    .sort((a, b) => a - b)
    .map((block) => `${block * geometry.blockBytes} ${blockSizeBytes(geometry, block)}\n`);
  await fs.writeFile(`${damagedPath}.ranges`, `# offset bytes, filled with zeros\n${ranges.join('')}`, {
    mode: 0o600,
  });
  await fs.rename(open.workPath, damagedPath);
  throw new PhdError(
    'DIGEST_MISMATCH',
    `${formatCount(filled.bad.size, 'block')} good in no copy: what could be had is ${damagedPath}, the byte ranges filled with zeros are in ${damagedPath}.ranges`,
  );
}

/** What an earlier salvage left stays: `PATH-2` and on are the next names. */
async function freePath(wanted: string): Promise<string> {
  for (let number = 1; ; number++) {
    const file = number === 1 ? wanted : `${wanted}-${number}`;
    const taken = await Promise.all([file, `${file}.ranges`].map(isThere));
    if (!taken.includes(true)) return file;
  }
}

async function isThere(file: string): Promise<boolean> {
  try {
    await fs.lstat(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw fromErrno(error, file);
  }
}
