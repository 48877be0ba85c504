/** Runs programs as processes and measures them; jobs in which programs take turns. */
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import type { Samples } from './samples.ts';

export interface Command {
  program: string;
  args: readonly string[];
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** Standard output goes there instead of being kept. */
  stdoutFile?: string;
}

export interface ProcessRun {
  seconds: number;
  peakBytes: number | null;
  status: number | null;
  stdout: string;
  stderr: string;
}

/** VmHWM only ever grows, so what is missed is what a process takes in its last moments. */
const PEAK_EVERY_MS = 20;
const KEPT_OUTPUT_BYTES = 4 * 1024 * 1024;

/**
 * Runs a command to its end. Time is from before the start to the exit, `syncPath` included: the file system it lies
 * on is synced afterwards. Peak memory is VmHWM of that one process (threads included, children not).
 */
export async function runProcess(command: Command, syncPath?: string): Promise<ProcessRun> {
  const output = command.stdoutFile === undefined ? null : openSync(command.stdoutFile, 'w', 0o600);
  let peakBytes: number | null = null;
  let sampler: NodeJS.Timeout | undefined;
  try {
    const startedMs = performance.now();
    const child = spawn(command.program, command.args, {
      ...(command.cwd === undefined ? {} : { cwd: command.cwd }),
      env: command.env ?? process.env,
      stdio: ['ignore', output ?? 'pipe', 'pipe'],
    });
    const kept = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.setEncoding('utf8').on('data', (text: string) => {
        kept[name] = (kept[name] + text).slice(-KEPT_OUTPUT_BYTES);
      });
    }
    sampler = setInterval(() => {
      peakBytes = peakOf(child.pid) ?? peakBytes;
    }, PEAK_EVERY_MS);
    const status = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    if (syncPath !== undefined) execFileSync('sync', ['-f', syncPath]);
    const seconds = (performance.now() - startedMs) / 1000;
    return { seconds, peakBytes, status, ...kept };
  } finally {
    clearInterval(sampler);
    if (output !== null) closeSync(output);
  }
}

function peakOf(pid: number | undefined): number | undefined {
  try {
    const match = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return match === null ? undefined : Number(match[1]) * 1024;
  } catch {
    return undefined; // it has just ended
  }
}

/** Runs a command that is not measured; throws with its last line if it fails. */
export async function runOrThrow(command: Command): Promise<ProcessRun> {
  const run = await runProcess(command);
  requireSuccess(command, run);
  return run;
}

function requireSuccess(command: Command, run: ProcessRun): void {
  if (run.status === 0) return;
  const lastLine = (run.stderr.trim() || run.stdout.trim()).split('\n').at(-1) ?? '';
  throw new Error(`${command.program} ended with status ${run.status}: ${lastLine}`);
}

/** One program in one job. */
export interface Contender {
  /** As in tables. */
  program: string;
  isOurs: boolean;
  /** Not timed. */
  prepare?: () => Promise<void> | void;
  command: () => Command;
  /** Synced within the time; for restores. */
  syncPath?: () => string;
  /** Not timed: throws if what the program left is wrong. */
  prove?: (run: ProcessRun) => Promise<void> | void;
  /** Peak memory of a shell says nothing about its pipes. */
  ignoresPeak?: boolean;
}

/**
 * Runs each contender once; in odd rounds in reverse order, so that none always runs first. A failure is kept and does
 * not stop the others. Dirty pages of the one before are written out first.
 */
export async function runJob(
  job: string,
  contenders: readonly Contender[],
  round: number,
  samples: Samples,
): Promise<void> {
  for (const contender of round % 2 === 0 ? contenders : [...contenders].reverse()) {
    const { program, isOurs } = contender;
    try {
      await contender.prepare?.();
      execFileSync('sync');
      const command = contender.command();
      process.stderr.write(`round ${round + 1}: ${job}: ${program} ... `);
      const run = await runProcess(command, contender.syncPath?.());
      process.stderr.write(`${run.seconds.toFixed(2)} s\n`);
      requireSuccess(command, run);
      await contender.prove?.(run);
      const peakBytes = contender.ignoresPeak ? null : run.peakBytes;
      samples.add(job, program, isOurs, { seconds: run.seconds, peakBytes });
    } catch (error) {
      const reason = (error as Error).message;
      process.stderr.write(`${job}: ${program}: FAILED: ${reason}\n`);
      samples.fail({ job, program, isOurs, reason });
    }
  }
}

/** Throws unless both files hold the same bytes. */
export async function requireSameFile(one: string, other: string): Promise<void> {
  await runOrThrow({ program: 'cmp', args: [one, other] });
}
