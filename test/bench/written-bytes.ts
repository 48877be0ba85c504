/** Counts what a process and its threads write to some files, as the kernel sees it. */
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { Peer } from '../support/peers.ts';
import { type Command, runOrThrow } from './measure.ts';

const WRITES = 'write,pwrite64,writev,pwritev,pwritev2';

/** Runs the command under strace. Returns the sum of all successful writes to `files`, under the names they have then. */
export async function countWrites(
  strace: Peer,
  command: Command,
  files: readonly string[],
  folder: string,
): Promise<number> {
  const logs = mkdtempSync(path.join(folder, 'strace-'));
  try {
    await runOrThrow({
      ...command,
      program: strace.path,
      args: [
        '-ff',
        '-qq',
        '--seccomp-bpf',
        '-y',
        '-s',
        '0',
        '-e',
        `trace=${WRITES}`,
        '-o',
        path.join(logs, 'log'),
        command.program,
        ...command.args,
      ],
    });
    const texts = readdirSync(logs).map((name) => readFileSync(path.join(logs, name), 'utf8'));
    const real = files.map((file) => path.join(realpathSync(path.dirname(file)), path.basename(file)));
    return texts.flatMap((text) => real.map((file) => sumOfWrites(text, file))).reduce((a, b) => a + b, 0);
  } finally {
    rmSync(logs, { recursive: true, force: true });
  }
}

/** Sum of the results of the writes to `file` in the log of one thread (`strace -y`: descriptors bear their path). */
export function sumOfWrites(log: string, file: string): number {
  let sum = 0;
  for (const line of log.split('\n')) {
    const match = /^\w+\(\d+<(.*?)>[,)].* = (\d+)$/.exec(line);
    if (match?.[1] === file) sum += Number(match[2]);
  }
  return sum;
}
