/**
 * Work that runs in the foreground, without a job: each such process leaves a note in the state folder, so that a lock
 * can end it too. A note whose process is gone counts for nothing.
 */
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fromErrno, PhdError } from '../errors.ts';
import { makeFolderSync } from '../make-folder.ts';
import type { Places } from '../model/config.ts';
import { JOB_KINDS, type JobKind, type ProcessIdentity } from '../model/job.ts';
import { isAlive, ownIdentity, signalProcess, waitUntilGone } from './process-identity.ts';

/** As a worker gets (queue.ts). */
const GRACE_MS = 10_000;
const DEATH_MS = 5_000;

export interface ForegroundWork {
  kind: JobKind;
  process: ProcessIdentity;
}

/** Runs `work` with a note of it. Throws what it throws, and IO if the note cannot be written. */
export async function inForeground<T>(places: Places, kind: JobKind, work: () => Promise<T>): Promise<T> {
  const folder = folderOf(places);
  const note = path.join(folder, `${process.pid}.json`);
  try {
    makeFolderSync(folder);
    const content: ForegroundWork = { kind, process: ownIdentity() };
    writeFileSync(`${note}.part`, JSON.stringify(content), { mode: 0o600 });
    renameSync(`${note}.part`, note);
  } catch (error) {
    throw fromErrno(error, `cannot write ${note}`);
  }
  try {
    return await work();
  } finally {
    rmSync(note, { force: true });
  }
}

/** What runs in the foreground now; notes of processes that are gone are removed. Throws IO. */
export function foregroundWork(places: Places): ForegroundWork[] {
  const folder = folderOf(places);
  const found: ForegroundWork[] = [];
  for (const name of namesIn(folder)) {
    if (!/^\d+\.json$/.test(name)) continue;
    const file = path.join(folder, name);
    const work = readNote(file);
    if (work !== undefined && isAlive(work.process)) found.push(work);
    else rmSync(file, { force: true });
  }
  return found;
}

/** Ends one of them: SIGTERM, so that it gives up in order, and SIGKILL if that does not help. Throws IO. */
export async function killForeground({ process: owner }: ForegroundWork, graceMs = GRACE_MS): Promise<void> {
  signalProcess(owner, 'SIGTERM');
  if (await waitUntilGone(owner, graceMs)) return;
  signalProcess(owner, 'SIGKILL');
  if (await waitUntilGone(owner, DEATH_MS)) return;
  throw new PhdError('IO', `process ${owner.pid} does not end: the kernel holds it`);
}

function folderOf(places: Places): string {
  return path.join(places.stateDir, 'foreground');
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    const failure = fromErrno(error, `cannot read ${folder}`);
    if (failure.code === 'NOT_FOUND') return [];
    throw failure;
  }
}

/** Undefined if it is gone, or no note: only this user writes here, so such a one is a remnant. */
function readNote(file: string): ForegroundWork | undefined {
  try {
    const { kind, process: owner } = JSON.parse(readFileSync(file, 'utf8')) as Partial<ForegroundWork>;
    const isWhole =
      JOB_KINDS.includes(kind as JobKind) &&
      Number.isSafeInteger(owner?.pid) &&
      typeof owner?.startTicks === 'string' &&
      typeof owner.bootId === 'string';
    return isWhole ? { kind: kind as JobKind, process: owner as ProcessIdentity } : undefined;
  } catch {
    return undefined;
  }
}
