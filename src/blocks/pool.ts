/**
 * Worker threads and the slots of shared memory they work on. One pool serves one operation on disks of one block
 * size. Memory: (2 x workers + 2) slots of about 2 x 16 blocks, so it does not grow with the disk.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { maxBlockMemberBytes } from '../archive/gzip-member.ts';
import { maxFrameBytes } from '../archive/zstd-frame.ts';
import { PhdError } from '../errors.ts';
import {
  BATCH_BLOCKS,
  type Slot,
  type Task,
  type TaskError,
  type TaskResult,
  type WorkerReply,
  type WorkerSetup,
} from './tasks.ts';

/** More threads than this gain nothing against the disk and cost memory. */
const MAX_WORKERS = 6;

interface Waiting {
  task: Task;
  resolve: (result: TaskResult) => void;
  reject: (error: Error) => void;
}

interface Member {
  worker: Worker;
  busy: Map<number, Waiting>;
}

export class BlockPool {
  readonly blockBytes: number;
  readonly slotCount: number;
  readonly #slots: Slot[];
  readonly #free: Slot[];
  readonly #slotWaiters: ((slot: Slot) => void)[] = [];
  readonly #queue: Waiting[] = [];
  readonly #members: Member[] = [];
  readonly #setup: WorkerSetup;
  /** Started when the first region digest is asked for: a restore needs none. */
  #hasher: Member | undefined;
  #nextId = 0;
  #failure: Error | undefined;

  /** `blockCount` of the largest disk: a small one starts no threads that would find nothing to do. */
  constructor(blockBytes: number, blockCount: number) {
    const cores = Math.max(2, Math.min(MAX_WORKERS, availableParallelism()));
    const workers = Math.max(1, Math.min(cores, Math.ceil(blockCount / BATCH_BLOCKS)));
    this.blockBytes = blockBytes;
    this.slotCount = 2 * workers + 2;
    const packedBytes = BATCH_BLOCKS * Math.max(maxBlockMemberBytes(blockBytes), maxFrameBytes(blockBytes));
    const setup: WorkerSetup = { blockBytes, raw: [], packed: [] };
    for (let index = 0; index < this.slotCount; index += 1) {
      // One byte more than the blocks need: inflating looks whether anything follows the last of them.
      setup.raw.push(new SharedArrayBuffer(BATCH_BLOCKS * blockBytes + 1));
      setup.packed.push(new SharedArrayBuffer(packedBytes));
    }
    this.#slots = setup.raw.map((raw, index) => ({
      index,
      raw: Buffer.from(raw),
      packed: Buffer.from(setup.packed[index] as SharedArrayBuffer),
    }));
    this.#free = [...this.#slots];
    for (let index = 0; index < workers; index += 1) this.#members.push(this.#start(setup));
    this.#setup = setup;
  }

  #start(setup: WorkerSetup): Member {
    // Options of the process, such as --input-type of a script on standard input, are none of a thread's.
    const worker = new Worker(new URL('./block-worker.js', import.meta.url), {
      workerData: setup,
      execArgv: [],
    });
    const member: Member = { worker, busy: new Map() };
    worker.on('message', (reply: WorkerReply) => this.#settle(member, reply));
    worker.on('error', (error) =>
      this.#fail(new PhdError('IO', `a worker thread failed: ${error.message}`, { cause: error })),
    );
    worker.unref();
    return member;
  }

  /** Waits for a free slot. */
  acquire(): Promise<Slot> {
    const slot = this.#free.pop();
    if (slot) return Promise.resolve(slot);
    return new Promise((resolve) => this.#slotWaiters.push(resolve));
  }

  release(slot: Slot): void {
    const waiter = this.#slotWaiters.shift();
    if (waiter) waiter(slot);
    else this.#free.push(slot);
  }

  /** Runs a task on the next free worker. Rejects with PhdError. */
  run(task: Task): Promise<TaskResult> {
    return this.#enqueue(task, (waiting) => {
      this.#queue.push(waiting);
      this.#dispatch();
    });
  }

  /** Runs a `region` task on the one worker that keeps the running digest; tasks run in the order of the calls. */
  runInOrder(task: Task): Promise<TaskResult> {
    this.#hasher ??= this.#start(this.#setup);
    const hasher = this.#hasher;
    return this.#enqueue(task, (waiting) => this.#post(hasher, waiting));
  }

  #enqueue(task: Task, place: (waiting: Waiting) => void): Promise<TaskResult> {
    return new Promise((resolve, reject) => {
      if (this.#failure) reject(this.#failure);
      else place({ task, resolve, reject });
    });
  }

  #dispatch(): void {
    for (const member of this.#members) {
      if (member.busy.size > 0) continue;
      const waiting = this.#queue.shift();
      if (!waiting) return;
      this.#post(member, waiting);
    }
  }

  #post(member: Member, waiting: Waiting): void {
    const id = this.#nextId;
    this.#nextId += 1;
    member.busy.set(id, waiting);
    if (member.busy.size === 1) member.worker.ref();
    member.worker.postMessage({ id, task: waiting.task });
  }

  #settle(member: Member, reply: WorkerReply): void {
    const waiting = member.busy.get(reply.id);
    member.busy.delete(reply.id);
    if (member.busy.size === 0) member.worker.unref();
    if ('result' in reply) waiting?.resolve(reply.result);
    else waiting?.reject(errorOf(reply.error));
    this.#dispatch();
  }

  #fail(error: Error): void {
    this.#failure = error;
    for (const member of this.#all()) {
      for (const waiting of member.busy.values()) waiting.reject(error);
      member.busy.clear();
    }
    for (const waiting of this.#queue.splice(0)) waiting.reject(error);
  }

  #all(): Member[] {
    return this.#hasher ? [...this.#members, this.#hasher] : this.#members;
  }

  async close(): Promise<void> {
    await Promise.all(this.#all().map((member) => member.worker.terminate()));
  }
}

function errorOf({ code, message }: TaskError): PhdError {
  return new PhdError(code, message);
}
