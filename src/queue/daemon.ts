/**
 * The daemon: starts waiting jobs, each in a process of its own that outlives it, and settles what was interrupted.
 * All it knows stands in jobs.db, so one that starts takes over from one that died.
 */
import type { ChildProcess } from 'node:child_process';
import { statSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { ExclusiveLock } from '../../db/exclusive-lock.ts';
import { formatCount } from '../engine/display-text.ts';
import { VERSION } from '../engine/version.ts';
import { fromErrno, PhdError } from '../errors.ts';
import type { JobSettings } from '../model/config.ts';
import type { Job } from '../model/job.ts';
import { ownIdentity } from './process-identity.ts';
import type { Queue } from './queue.ts';
import { goalOf } from './request.ts';
import { failIfNeverBegun, startWorker } from './worker.ts';

/** jobs.db is asked so often whether anyone has changed it. */
const LOOK_EVERY_MS = 500;
/** Running jobs of an earlier daemon are looked after so often. */
const SETTLE_EVERY_MS = 5_000;
const EXPIRE_EVERY_MS = 3_600_000;
/** A chore that stays due, since it cannot begin, is not started oftener. */
const CHORE_PAUSE_MS = 60_000;

/** Work that comes back, each time in a process of its own; one that still runs is not started again. */
export interface Chore {
  name: string;
  /** Whether it is to be started now; asked every few seconds. Throws: it is not started, and the log says why once. */
  isDue(): Promise<boolean>;
  start(): ChildProcess;
  /**
   * It is no one's to call off but by `daemon stop --now`: it heeds a stop after the jobs itself and is waited for, and goes on
   * without a daemon that leaves by a signal. Default: it gives up with the daemon.
   */
  goesOn?: boolean;
}

export interface DaemonOptions {
  settings: JobSettings;
  /** Looked at for changes; then `readSettings` gives what holds from then on. */
  configFile: string;
  /** Throws CONFIG_INVALID: the settings before stay. */
  readSettings: () => Promise<JobSettings>;
  /** Environment of the workers. */
  env: NodeJS.ProcessEnv;
  /** Given when the daemon is to leave at once; its jobs go on. */
  signal: AbortSignal;
  /** Called once the lock is held. */
  onReady?: () => void;
  log: (text: string) => void;
  chores?: readonly Chore[];
}

/**
 * Runs until it is asked to stop (phd daemon stop) or the signal is given. Throws LOCKED if this home has a daemon
 * already, IO.
 */
export async function runDaemon(queue: Queue, options: DaemonOptions): Promise<void> {
  const lock = ExclusiveLock.tryTake(queue.daemonLockFile);
  if (lock === undefined) {
    const pid = queue.db.daemon()?.process.pid;
    throw new PhdError(
      'LOCKED',
      `a daemon runs already for ${queue.places.stateDir}${pid === undefined ? '' : `, process ${pid}`}`,
    );
  }
  try {
    queue.db.recordDaemon({ process: ownIdentity(), startedAt: queue.now(), version: VERSION });
    options.log(`daemon started, ${settingsText(options.settings)}`);
    options.onReady?.();
    await new Daemon(queue, options).loop();
    queue.db.forgetDaemon();
  } finally {
    lock.release();
  }
}

class Daemon {
  readonly #queue: Queue;
  readonly #options: DaemonOptions;
  /** Workers this daemon started, by job. */
  readonly #workers = new Map<number, ChildProcess>();
  readonly #chores = new Map<Chore, ChildProcess>();
  readonly #choreStartsMs = new Map<Chore, number>();
  readonly #choreFaults = new Map<Chore, string>();
  #wake: () => void = () => undefined;
  #isWoken = true;
  #seenVersion = -1;
  #settledMs = Number.NEGATIVE_INFINITY;
  #expiredMs = Number.NEGATIVE_INFINITY;
  #lastFault = '';
  #settings: JobSettings;
  /** Before the first look it is none, so that no change is missed. */
  #seenConfig = '?';

  constructor(queue: Queue, options: DaemonOptions) {
    this.#queue = queue;
    this.#options = options;
    this.#settings = options.settings;
  }

  async loop(): Promise<void> {
    const { signal, log } = this.#options;
    const onAbort = (): void => this.#rouse();
    signal.addEventListener('abort', onAbort);
    try {
      while (!signal.aborted) {
        if (await this.#turnSafely()) return log('daemon stopped');
        await this.#rest();
      }
      const going = this.#queue.db.jobs({ states: ['running'] }).length;
      log(`daemon ends${going === 0 ? '' : `; running on without it: ${formatCount(going, 'job')}`}`);
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#endChores(({ goesOn = false }) => !goesOn);
    }
  }

  /** A database that is busy or a full disk must not end the daemon: it says so once and tries again. */
  async #turnSafely(): Promise<boolean> {
    try {
      const isOver = await this.#turn();
      this.#lastFault = '';
      return isOver;
    } catch (error) {
      const { message } = fromErrno(error, 'the daemon cannot work');
      if (message !== this.#lastFault) this.#options.log(message);
      this.#lastFault = message;
      this.#isWoken = true;
      return false;
    }
  }

  /** Looks once and does what is due; true when the daemon has been asked to stop and nothing holds it. */
  async #turn(): Promise<boolean> {
    await this.#takeNewSettings();
    if (!this.#isDue()) return false;
    const { db } = this.#queue;
    for (const job of this.#queue.settleInterrupted()) this.#options.log(`job ${job.id} was interrupted`);
    const running = db.jobs({ states: ['running'] });
    const stop = db.daemon()?.stopRequest ?? null;
    if (stop === 'now') await this.#killAll(running);
    const busy = new Set([...running.map(({ id }) => id), ...this.#workers.keys()]);
    if (stop !== null) {
      this.#endChores(({ goesOn = false }) => stop === 'now' || !goesOn);
      // One that was called off may have much to tell yet: it does so without us.
      const isAwaited = stop !== 'now' && [...this.#chores.keys()].some(({ goesOn = false }) => goesOn);
      return busy.size === 0 && !isAwaited;
    }
    this.#expire();
    this.#startWhatMay(busy);
    await this.#startChores();
    return false;
  }

  async #startChores(): Promise<void> {
    for (const chore of this.#options.chores ?? []) {
      const agoMs = performance.now() - (this.#choreStartsMs.get(chore) ?? Number.NEGATIVE_INFINITY);
      if (this.#chores.has(chore) || agoMs < CHORE_PAUSE_MS) continue;
      try {
        if (await chore.isDue()) this.#startChore(chore);
        this.#choreFaults.delete(chore);
      } catch (error) {
        const { message } = fromErrno(error, `${chore.name} cannot be started`);
        if (this.#choreFaults.get(chore) !== message) this.#options.log(message);
        this.#choreFaults.set(chore, message);
      }
    }
  }

  /** What it has to say stands in its own log; how it ended stands here. */
  #startChore(chore: Chore): void {
    this.#choreStartsMs.set(chore, performance.now());
    const child = chore.start();
    this.#chores.set(chore, child);
    const onEnd = (how: string): void => {
      if (!this.#chores.delete(chore)) return;
      if (how !== '') this.#options.log(`${chore.name} ${how}: see phd log`);
      this.#rouse();
    };
    child.once('error', (error) => onEnd(`cannot be started: ${error.message}`));
    child.once('exit', (status, signal) =>
      onEnd(status === 0 ? '' : `ended with ${signal ?? `status ${status}`}`),
    );
    child.unref();
  }

  /** They give up in order; jobs that they have queued stay in the queue. */
  #endChores(isMeant: (chore: Chore) => boolean): void {
    for (const [chore, child] of this.#chores) if (isMeant(chore)) child.kill('SIGTERM');
  }

  /** Workers read phd.yaml themselves when they start; what the daemon goes by is taken here. */
  async #takeNewSettings(): Promise<void> {
    const { configFile, readSettings, log } = this.#options;
    const state = stateOfFile(configFile);
    if (state === this.#seenConfig) return;
    this.#seenConfig = state;
    try {
      const settings = await readSettings();
      if (isDeepStrictEqual(settings, this.#settings)) return;
      this.#settings = settings;
      this.#expiredMs = Number.NEGATIVE_INFINITY;
      this.#isWoken = true;
      log(`${configFile} was changed: ${settingsText(this.#settings)}`);
    } catch (error) {
      const { message } = fromErrno(error, `cannot read ${configFile}`);
      log(`the settings stay as they were: ${message}`);
    }
  }

  /** Two jobs never write the same disk at the same time: the later one waits for the other. */
  #startWhatMay(busy: Set<number>): void {
    const { db } = this.#queue;
    const goals = new Set<string | null>();
    for (const id of busy) {
      const job = db.job(id);
      if (job) goals.add(goalOf(job));
    }
    const passedOver = new Set(busy);
    while (busy.size < this.#settings.atOnce) {
      const next = db.nextWaiting([...passedOver], this.#settings.restoreQueue ? [] : ['restore']);
      if (next === undefined) return;
      passedOver.add(next.id);
      const goal = goalOf(next);
      if (goal !== null && goals.has(goal)) continue;
      goals.add(goal);
      busy.add(next.id);
      this.#start(next);
    }
  }

  #isDue(): boolean {
    const version = this.#queue.db.dataVersion();
    const nowMs = performance.now();
    if (!this.#isWoken && version === this.#seenVersion && nowMs - this.#settledMs < SETTLE_EVERY_MS)
      return false;
    this.#isWoken = false;
    this.#seenVersion = version;
    this.#settledMs = nowMs;
    return true;
  }

  async #killAll(running: readonly Job[]): Promise<void> {
    const results = await Promise.allSettled(running.map(({ id }) => this.#queue.kill(id)));
    for (const result of results)
      if (result.status === 'rejected') this.#options.log((result.reason as Error).message);
    this.#isWoken = true;
  }

  #expire(): void {
    const nowMs = performance.now();
    if (nowMs - this.#expiredMs < EXPIRE_EVERY_MS) return;
    this.#expiredMs = nowMs;
    const removed = this.#queue.expire(this.#settings);
    if (removed.length > 0) this.#options.log(`${formatCount(removed.length, 'old job')} removed`);
  }

  #start(job: Job): void {
    try {
      const worker = startWorker(this.#queue, job.id, this.#options.env, (how) =>
        this.#onWorkerGone(job, how),
      );
      this.#workers.set(job.id, worker);
      worker.unref();
    } catch (error) {
      this.#onWorkerGone(job, `cannot be started: ${fromErrno(error, `log of job ${job.id}`).message}`);
    }
  }

  #onWorkerGone(job: Job, how: string | null): void {
    this.#workers.delete(job.id);
    try {
      const fault = how === null ? undefined : failIfNeverBegun(this.#queue, job, how);
      if (fault !== undefined) this.#options.log(`job ${job.id} failed: ${fault}`);
      this.#queue.settleInterrupted();
    } catch (error) {
      this.#options.log(fromErrno(error, `job ${job.id}`).message);
    }
    this.#rouse();
  }

  #rouse(): void {
    this.#isWoken = true;
    this.#wake();
  }

  #rest(): Promise<void> {
    if (this.#options.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, LOOK_EVERY_MS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function settingsText({ atOnce, restoreQueue }: JobSettings): string {
  return `${formatCount(atOnce, 'job')} at once${restoreQueue ? '' : ', restores wait: the restore queue is off'}`;
}

/** Differs after every change of the file: by content, by replacement, by removal. */
function stateOfFile(file: string): string {
  const found = statSync(file, { bigint: true, throwIfNoEntry: false });
  return found === undefined ? '' : `${found.ino} ${found.size} ${found.mtimeNs} ${found.ctimeNs}`;
}
