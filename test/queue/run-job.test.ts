import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ProgressEvent } from '../../src/engine/progress.ts';
import { PhdError } from '../../src/errors.ts';
import type { Job } from '../../src/model/job.ts';
import { ownIdentity } from '../../src/queue/process-identity.ts';
import { Queue } from '../../src/queue/queue.ts';
import { type Operation, runJob } from '../../src/queue/run-job.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

const BY = { user: 'root', host: 'backup1', tty: null, sshClient: null };

let home: TempHome;
let queue: Queue;
let id: number;
let lines: string[];
let nowMs: number;
let abort: AbortController;

beforeEach(() => {
  home = makeTempHome();
  const places = { configDir: home.root, stateDir: home.folder('state'), logDir: home.folder('log') };
  queue = new Queue(places);
  id = (queue.submit('restore', [{ archive: '1:f/a', to: path.join(home.root, 'new') }], BY)[0] as Job).id;
  lines = [];
  nowMs = 0;
  abort = new AbortController();
});

afterEach(() => {
  queue.close();
  home.remove();
});

const run = (operation: Operation): Promise<number> =>
  runJob(queue, id, operation, {
    signal: abort.signal,
    print: (line) => lines.push(line),
    nowMs: () => nowMs,
  });

const figures = (percent: number): ProgressEvent => ({
  event: 'progress',
  label: 'CRM.vmdk',
  phase: 'restore',
  bytes: percent,
  totalBytes: 100,
  percent,
  bytesPerSecond: 10,
  meanBytesPerSecond: 10,
  elapsedSeconds: 1,
  remainingSeconds: null,
});

describe('the process of a job', () => {
  it('is known by its identity while it works, and leaves result and status', async () => {
    const status = await run(async (job) => {
      expect(queue.job(id)).toMatchObject({ state: 'running', attempt: 1, owner: ownIdentity() });
      return { result: { title: job.title }, failures: [] };
    });
    expect(status).toBe(0);
    const job = queue.job(id);
    expect(job).toMatchObject({ state: 'done', exitStatus: 0, errorCode: null, warningCount: 0 });
    expect(JSON.parse(job.result ?? '')).toEqual({ title: job.title });
  });

  it('counts warnings and says them in the log', async () => {
    await run(async (_job, hooks) => {
      hooks.onWarning?.('block 7 came from target 2');
      return { result: null, failures: [] };
    });
    expect(queue.job(id)).toMatchObject({ state: 'done with warnings', warningCount: 1, exitStatus: 0 });
    expect(lines.join('\n')).toContain('warning: block 7 came from target 2');
  });

  it('fails with the code that decides the status, and keeps what was done', async () => {
    const failures = [new PhdError('TARGET_UNREACHABLE', 'no line'), new PhdError('NO_SPACE', 'no room')];
    expect(await run(async () => ({ result: { disks: 1 }, failures }))).toBe(6);
    expect(queue.job(id)).toMatchObject({
      state: 'failed',
      errorCode: 'NO_SPACE',
      errorMessage: 'no room (and 1 more, see its log)',
      result: '{"disks":1}',
    });
  });

  it('turns a fault of the program into a failed job', async () => {
    const status = await run(async () => {
      throw new TypeError('x is not a function');
    });
    expect(status).toBe(1);
    expect(queue.job(id)).toMatchObject({
      state: 'failed',
      errorMessage: 'fault in the program: x is not a function',
    });
  });

  it('is cancelled by its signal', async () => {
    const status = await run(async (_job, hooks) => {
      abort.abort();
      expect(hooks.signal?.aborted).toBe(true);
      throw new PhdError('IO', 'gave up');
    });
    expect(status).toBe(130);
    expect(queue.job(id)).toMatchObject({ state: 'cancelled', errorCode: 'CANCELLED' });
  });

  it('writes progress at most every 500 ms, and the last figures at the end', async () => {
    const written: (number | undefined)[] = [];
    await run(async (_job, hooks) => {
      for (const [atMs, percent] of [
        [0, 1],
        [200, 2],
        [499, 3],
        [500, 4],
        [900, 5],
      ] as const) {
        nowMs = atMs;
        hooks.onProgress?.(figures(percent));
        written.push(queue.job(id).progress?.percent);
      }
      return { result: null, failures: [] };
    });
    expect(written).toEqual([1, 1, 1, 4, 4]);
    expect(queue.job(id).progress?.percent).toBe(5);
  });

  it('gives up when its job was given to another attempt, and its result does not count', async () => {
    const status = await run(async (_job, hooks) => {
      queue.db.finish(
        id,
        1,
        {
          state: 'interrupted',
          exitStatus: 1,
          errorCode: null,
          errorMessage: null,
          warningCount: 0,
          result: null,
        },
        queue.now(),
      );
      queue.retry(id);
      expect(queue.db.claim(id, ownIdentity(), queue.now())).toHaveProperty('job.attempt', 2);
      hooks.onProgress?.(figures(50));
      expect(hooks.signal?.aborted).toBe(true);
      return { result: 'from the lost attempt', failures: [] };
    });
    expect(status).toBe(5);
    expect(queue.job(id)).toMatchObject({ state: 'running', attempt: 2, result: null, progress: null });
    expect(lines.at(-1)).toContain('is no longer the one of job');
  });

  it('does not start under a lock, nor twice', async () => {
    let starts = 0;
    const count: Operation = async () => {
      starts++;
      return { result: null, failures: [] };
    };
    queue.db.setLock({ kind: 'restore', by: BY, at: queue.now() });
    expect(await run(count)).toBe(5);
    expect(queue.job(id)).toMatchObject({ state: 'waiting', attempt: 0 });
    queue.db.clearLock('restore');
    expect(await run(count)).toBe(0);
    expect(await run(count)).toBe(5);
    expect(starts).toBe(1);
  });
});
