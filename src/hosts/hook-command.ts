/** A command of this machine around a backup: its exit status decides, its output is kept line by line. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { shownName } from '../datastore/plain-name.ts';
import { PhdError } from '../errors.ts';

/** Further lines are not kept: a hook that shouts must not fill a log. */
const MAX_LINES = 1000;
/** Between SIGTERM and SIGKILL. */
const GRACE_MS = 5_000;
/** After its end its output may still arrive; a process that it left behind may hold the pipes for ever. */
const LAST_LINES_MS = 2_000;

export interface HookRun {
  /** What messages call it: `beforeVm of job nightly`. */
  what: string;
  command: string;
  /** Added to the environment of this process. */
  env: Record<string, string>;
  timeoutMs: number;
  signal?: AbortSignal;
  onLine: (line: string) => void;
}

/** Runs it by `sh -c` and waits. Throws PROGRAM_FAILED, with its last line, if it ends with another status than 0, or takes too long; CANCELLED. */
export async function runHook({ what, command, env, timeoutMs, signal, onLine }: HookRun): Promise<void> {
  signal?.throwIfAborted();
  const child = spawn('sh', ['-c', command], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own: what it has started ends with it.
    detached: true,
  });
  let lines = 0;
  let last = '';
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      if (lines++ < MAX_LINES) onLine(`${what}: ${line}`);
      if (line.trim() !== '') last = line.trim();
    });
  }
  let why = '';
  const end = (reason: string): void => {
    why ||= reason;
    kill(child.pid, 'SIGTERM');
    setTimeout(() => kill(child.pid, 'SIGKILL'), GRACE_MS).unref();
  };
  const timer = setTimeout(() => end(`took longer than ${timeoutMs / 1000} s`), timeoutMs);
  const onAbort = (): void => end('was cancelled');
  signal?.addEventListener('abort', onAbort);
  const status = await new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(`cannot be started: ${error.message}`));
    child.once('exit', () => {
      const drop = setTimeout(() => {
        child.stdout.destroy();
        child.stderr.destroy();
      }, LAST_LINES_MS);
      child.once('close', () => clearTimeout(drop));
    });
    child.once('close', (code, by) =>
      resolve(code === 0 && why === '' ? '' : by === null ? `ended with status ${code}` : `ended by ${by}`),
    );
  }).finally(() => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  });
  if (signal?.aborted) throw new PhdError('CANCELLED', 'cancelled');
  const words = last === '' ? '' : `: ${shownName(last)}`;
  if (status !== '') throw new PhdError('PROGRAM_FAILED', `${what} ${why || status}${words}`);
}

function kill(pid: number | undefined, name: 'SIGTERM' | 'SIGKILL'): void {
  try {
    if (pid !== undefined) process.kill(-pid, name);
  } catch {
    // It has ended.
  }
}
