/** System calls that end otherwise than the program expects, by strace: errors, and kills in front of them. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { requirePeer } from '../support/peers.ts';
import { type Ended, phd } from './processes.ts';

/** One thread for all calls of libuv, so that the k-th call is the same in each run; no calls past strace. */
const ORDERLY = { UV_THREADPOOL_SIZE: '1', UV_USE_IO_URING: '0' };

export interface Fault {
  call: string;
  /** `signal=KILL` kills before the call, `error=EIO` has it fail. */
  what: string;
  /** `3`: the third call; `3+`: that and each later one. Each thread counts for itself. */
  when: string;
  /** Calls on these files and folders, by name or by an open descriptor; none: any. */
  paths: readonly string[];
}

export interface Injected extends Ended {
  /** Calls that ended as told. */
  hits: number;
}

export async function phdWithFault(
  words: string[],
  env: NodeJS.ProcessEnv,
  folder: string,
  fault: Fault,
): Promise<Injected> {
  const strace = await requirePeer('strace');
  const log = path.join(folder, 'strace.log');
  rmSync(log, { force: true });
  const under = [strace.path, '-f', '-qq', '-o', log, '-e', `trace=${fault.call}`];
  under.push(...fault.paths.flatMap((one) => ['-P', one]));
  under.push('-e', `inject=${fault.call}:${fault.what}:when=${fault.when}`);
  const ended = await phd(words, { env: { ...env, ...ORDERLY }, under });
  const lines = existsSync(log) ? readFileSync(log, 'latin1').split('\n') : [];
  return { ...ended, hits: lines.filter((line) => /\(INJECTED\)$|killed by SIGKILL/.test(line)).length };
}
