import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { JobOutcome } from '../../src/model/job.ts';
import { ownIdentity } from '../../src/queue/process-identity.ts';
import { Queue } from '../../src/queue/queue.ts';
import { linesOf, Tale } from '../tales/tale.ts';

const FAILED: JobOutcome = {
  state: 'failed',
  exitStatus: 4,
  errorCode: 'TARGET_UNREACHABLE',
  errorMessage: 'target 1 does not answer',
  warningCount: 0,
  result: null,
};

let tale: Tale;
let queue: Queue;
/** A group of three: one that failed, one that runs (in this process), one that waits. */
let ids: number[];

beforeEach(() => {
  tale = new Tale();
  queue = new Queue({
    configDir: tale.path(),
    stateDir: tale.home.folder('state'),
    logDir: tale.home.folder('log'),
  });
  const by = { user: 'anna', host: 'backup1', tty: '/dev/pts/3', sshClient: '10.0.0.7' };
  const disks = ['a', 'b', 'c \u001b[31m'].map((disk) => ({ archive: `1:folder/${disk}`, to: '/vmfs/new' }));
  ids = queue.submit('restore', disks, by).map(({ id }) => id);
  for (const id of ids.slice(0, 2)) queue.db.claim(id, ownIdentity(), queue.now());
  queue.db.finish(ids[0] as number, 1, FAILED, queue.now());
});

afterEach(() => {
  queue.close();
  tale.remove();
});

describe('phd jobs', () => {
  it('list shows every job, newest first, control characters made visible', async () => {
    const { stdout } = await tale.phd(['jobs', 'list']);
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(4);
    expect(lines[1]).toMatch(/3 {2}waiting .* anna@backup1 {2}1:folder\/c \\x1b\[31m to \/vmfs\/new$/);
    expect(lines[3]).toMatch(/1 {2}failed/);
    const failed = linesOf(await tale.phd(['jobs', 'list', '--state', 'failed', '--json']));
    expect(failed).toMatchObject([
      { job: ids[0], group: ids[0], state: 'failed', exitStatus: 4, code: 'TARGET_UNREACHABLE', seen: false },
    ]);
    expect((await tale.phd(['jobs', 'list', '--state', 'lost'])).status).toBe(2);
  });

  it('show tells who asked, from where, and what came of it', async () => {
    const { stdout } = await tale.phd(['jobs', 'show', String(ids[0])]);
    expect(stdout).toContain('by anna on backup1 (pts/3, from 10.0.0.7)');
    expect(stdout).toContain('target 1 does not answer');
    expect(stdout).toContain(path.join(tale.path('log'), 'jobs', `${ids[0]}.log`));
  });

  it('retry takes the failed disks of a group, each job that cannot be retried is named', async () => {
    const retried = linesOf(await tale.phd(['jobs', 'retry', '--group', String(ids[0]), '--json']));
    expect(retried.map(({ job, state }) => [job, state])).toEqual([[ids[0], 'waiting']]);
    const run = await tale.phd(['jobs', 'retry', String(ids[1]), '99']);
    expect(run.status).toBe(2);
    expect(run.stderr).toMatch(/job 2 is running: only one .*\n.*there is no job 99/);
    expect((await tale.phd(['jobs', 'retry'])).status).toBe(2);
  });

  it('kill, remove-pending and purge leave alone what they do not name', async () => {
    const killed = await tale.phd(['jobs', 'kill', String(ids[2]), '--json']);
    expect(linesOf(killed)).toMatchObject([{ job: ids[2], state: 'cancelled' }]);
    expect(linesOf(await tale.phd(['jobs', 'remove-pending', '--json']))).toEqual([{ removed: [] }]);
    expect(linesOf(await tale.phd(['jobs', 'purge', '--json']))).toEqual([{ removed: [ids[0], ids[2]] }]);
    expect(queue.db.jobs().map(({ id }) => id)).toEqual([ids[1]]);
  });
});
