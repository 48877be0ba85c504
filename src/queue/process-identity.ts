/** Tells a process from another that was given its number later: pid, its start time, the boot it belongs to. */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fromErrno, PhdError } from '../errors.ts';
import type { ProcessIdentity } from '../model/job.ts';

/** Fields of /proc/PID/stat after the name, which ends at the last bracket and may hold any character (proc(5)). */
const STATE_AT = 0;
const START_TICKS_AT = 22 - 3;
const LOOK_EVERY_MS = 50;

/** The process that bears this number now; undefined if there is none, or only the remains of one (a zombie). */
export function identityOf(pid: number): ProcessIdentity | undefined {
  const stat = readProc(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (['Z', 'X', 'x'].includes(fields[STATE_AT] ?? '')) return undefined;
  return { pid, startTicks: fields[START_TICKS_AT] ?? '', bootId: bootId() };
}

/** Identity of this process. Throws IO where /proc cannot be read. */
export function ownIdentity(): ProcessIdentity {
  const own = identityOf(process.pid);
  if (own === undefined) throw new PhdError('IO', 'cannot read /proc/self/stat: the queue needs /proc');
  return own;
}

/** Whether this very process still exists; one that was merely stopped does. */
export function isAlive(identity: ProcessIdentity): boolean {
  const present = identityOf(identity.pid);
  return present?.startTicks === identity.startTicks && present.bootId === identity.bootId;
}

/**
 * Signals this process, or the whole group it leads; false if it is gone, so that no other that was given its number
 * is ever hit. Throws IO (not ours to signal).
 */
export function signalProcess(
  identity: ProcessIdentity,
  signal: NodeJS.Signals,
  whom: 'alone' | 'group' = 'alone',
): boolean {
  if (!isAlive(identity)) return false;
  try {
    process.kill(whom === 'group' ? -identity.pid : identity.pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw fromErrno(error, `cannot signal process ${identity.pid}`);
  }
}

/** Waits until the process is gone; false if it is still there after `timeoutMs`. */
export async function waitUntilGone(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const startedMs = performance.now();
  while (isAlive(identity)) {
    if (performance.now() - startedMs >= timeoutMs) return false;
    await delay(LOOK_EVERY_MS);
  }
  return true;
}

let knownBootId: string | undefined;

function bootId(): string {
  knownBootId ??= readProc('/proc/sys/kernel/random/boot_id')?.trim() ?? '';
  return knownBootId;
}

function readProc(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw fromErrno(error, `cannot read ${file}`);
  }
}
