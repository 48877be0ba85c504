/** Starting, stopping and asking after the daemon from another process; its systemd unit. */
import { spawn } from 'node:child_process';
import { closeSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { fromErrno, PhdError } from '../errors.ts';
import type { DaemonRecord, StopRequest } from '../model/job.ts';
import type { Queue } from './queue.ts';
import { MAIN_FILE, openOutput } from './worker.ts';

/** A daemon with nothing to wait for stops within this. */
const STOP_MS = 10_000;
/** One that kills its jobs first, within this (queue.ts: grace and death of a worker). */
const STOP_NOW_MS = 30_000;
const LOOK_EVERY_MS = 100;
const READY = 'ready';

export interface DaemonStatus {
  isRunning: boolean;
  /** What it wrote of itself; null if none runs or it has just begun. */
  record: DaemonRecord | null;
  waitingCount: number;
  runningCount: number;
}

export function daemonStatus(queue: Queue): DaemonStatus {
  const isRunning = queue.isDaemonRunning();
  const { waiting = 0, running = 0 } = queue.db.counts();
  return {
    isRunning,
    record: isRunning ? (queue.db.daemon() ?? null) : null,
    waitingCount: waiting,
    runningCount: running,
  };
}

/**
 * Starts a daemon in a session of its own and returns once it holds its lock: true, or false if one ran already.
 * Throws IO with what it said if it cannot start.
 */
export async function startDaemon(queue: Queue, env: NodeJS.ProcessEnv): Promise<boolean> {
  if (queue.isDaemonRunning()) return false;
  const logFile = path.join(queue.places.logDir, 'daemon.log');
  const log = openOutput(logFile, 'a');
  const child = spawn(process.execPath, [MAIN_FILE, 'daemon', 'run'], {
    detached: true,
    cwd: '/',
    env,
    stdio: ['ignore', log, log, 'ipc'],
  });
  closeSync(log);
  const isReady = await new Promise<boolean>((resolve, reject) => {
    child.once('message', () => resolve(true));
    child.once('error', (error) => reject(fromErrno(error, 'cannot start the daemon')));
    child.once('exit', () => resolve(false));
  });
  if (isReady) {
    if (child.connected) child.disconnect();
    child.unref();
    return true;
  }
  if (queue.isDaemonRunning()) return false;
  throw new PhdError('IO', `the daemon ended at once: ${await lastLine(logFile)}`);
}

/** Told by the daemon to the one who started it; nobody may be listening. */
export function tellReady(): void {
  if (!process.connected) return;
  process.send?.(READY, undefined, undefined, () => {
    if (process.connected) process.disconnect();
  });
}

/**
 * Asks the daemon to stop, after its jobs or now (they are cancelled). Returns whether it is gone, which after its jobs
 * may take hours: then it goes by itself.
 */
export async function stopDaemon(queue: Queue, request: StopRequest): Promise<boolean> {
  if (!queue.isDaemonRunning()) return true;
  const waitMs = request === 'now' ? STOP_NOW_MS : STOP_MS;
  const startedMs = performance.now();
  while (queue.isDaemonRunning()) {
    // Again if need be: a daemon that has just begun has not written its record yet.
    if (queue.db.daemon()?.stopRequest !== request) queue.db.requestStop(request);
    const isBusy = request === 'after-jobs' && (queue.db.counts().running ?? 0) > 0;
    if (isBusy || performance.now() - startedMs > waitMs) return false;
    await delay(LOOK_EVERY_MS);
  }
  return true;
}

/** The systemd unit for this installation and home. */
export function systemdUnit(env: NodeJS.ProcessEnv): string {
  const home = env.PHD_HOME ? `Environment=${unitQuote(`PHD_HOME=${env.PHD_HOME}`)}\n` : '';
  const command = [process.execPath, MAIN_FILE]
    .map((word) => unitQuote(word).replaceAll('$', '$$$$'))
    .join(' ');
  return readUnit().replace(/^ExecStart=phd /m, () => `${home}ExecStart=${command} `);
}

/** The unit lies beside this file; from the build, in the source. */
function readUnit(): string {
  for (const place of ['./phd.service', '../../../src/queue/phd.service']) {
    try {
      return readFileSync(fileURLToPath(new URL(place, import.meta.url)), 'utf8');
    } catch (error) {
      const failure = fromErrno(error, 'cannot read the unit');
      if (failure.code !== 'NOT_FOUND') throw failure;
    }
  }
  throw new PhdError('NOT_FOUND', 'phd.service is not where it belongs: install phd again');
}

/** systemd.syntax(7): quotes and backslashes, and the percent sign of its specifiers. */
function unitQuote(text: string): string {
  return `"${text.replace(/[\\"]/g, '\\$&').replaceAll('%', '%%')}"`;
}

async function lastLine(file: string): Promise<string> {
  try {
    const handle = await open(file);
    try {
      const { size } = await handle.stat();
      const length = Math.min(size, 4096);
      const { buffer } = await handle.read(Buffer.alloc(length), 0, length, size - length);
      return buffer.toString('utf8').trimEnd().split('\n').at(-1) || `see ${file}`;
    } finally {
      await handle.close();
    }
  } catch {
    return `see ${file}`;
  }
}
