/** Runs `phd` as a process, as an administrator does, and what may happen to it there. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { PHD } from './farm.ts';

export interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  ms: number;
}

export interface RunOptions {
  env: NodeJS.ProcessEnv;
  /** Words before `node`: strace and its options. */
  under?: string[];
  /** SIGKILL for the whole process group after so long. */
  killAfterMs?: number;
}

export function phd(words: string[], { env, under = [], killAfterMs }: RunOptions): Promise<Ended> {
  const startedMs = performance.now();
  const [program = process.execPath, ...rest] = [...under, process.execPath, PHD, ...words];
  const child = spawn(program, rest, { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const timer =
    killAfterMs === undefined ? undefined : setTimeout(() => killGroup(child.pid as number), killAfterMs);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      resolve({ status, signal, stdout, stderr, ms: performance.now() - startedMs });
    });
  });
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** The lines that a person sees as the cause: one for each failure, the last thing said. */
export function errorLines(ended: Ended): string[] {
  return ended.stderr.split('\n').filter((line) => line !== '' && !/^\s*\d+(\.\d+)?%/.test(line));
}

/** True if two files are byte for byte the same. */
export function sameFile(one: string, other: string): boolean {
  return readFileSync(one).equals(readFileSync(other));
}
