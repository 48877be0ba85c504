import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Job, JobOutcome, Submitter } from '../../src/model/job.ts';
import { lockText, requireUnlocked } from '../../src/queue/gate.ts';
import { ownIdentity } from '../../src/queue/process-identity.ts';
import { Queue } from '../../src/queue/queue.ts';
import { goalOf } from '../../src/queue/request.ts';
import { submitterOf, submitterText } from '../../src/queue/submitter.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

const BY: Submitter = { user: 'root', host: 'backup1', tty: '/dev/pts/3', sshClient: '10.0.0.7' };
const NOW = '2026-11-20T10:00:00.000Z';
const DONE: JobOutcome = {
  state: 'done',
  exitStatus: 0,
  errorCode: null,
  errorMessage: null,
  warningCount: 0,
  result: '{"blocks":4}',
};
const FAILED: JobOutcome = { ...DONE, state: 'failed', exitStatus: 6, errorCode: 'NO_SPACE', result: null };
const GONE = { pid: 4_194_000, startTicks: '1', bootId: 'an earlier boot' };

let home: TempHome;
let queue: Queue;
let now: Date;

beforeEach(() => {
  home = makeTempHome();
  home.folder('state');
  home.folder('log');
  now = new Date(NOW);
  queue = openQueue();
});

afterEach(() => {
  queue.close();
  home.remove();
});

function openQueue(): Queue {
  const places = {
    configDir: home.root,
    stateDir: path.join(home.root, 'state'),
    logDir: path.join(home.root, 'log'),
  };
  return new Queue(places, { now: () => now });
}

const restores = (...names: string[]): Job[] =>
  queue.submit(
    'restore',
    names.map((name) => ({ archive: `1:folder/${name}`, to: '/vmfs/new' })),
    BY,
  );
const backup = (): Job => queue.submit('backup', [{ folder: '/vmfs/crm' }], BY)[0] as Job;
const verify = (): Job => queue.submit('verify', [{ archives: ['1:folder/x'] }], BY)[0] as Job;
const idOf = (jobs: Job[]): number => (jobs[0] as Job).id;

/** Claims a job for this process; its attempt. */
function claim(id: number, owner = ownIdentity()): number {
  const claimed = queue.db.claim(id, owner, queue.now());
  if ('refused' in claimed) throw new Error(claimed.refused);
  return claimed.job.attempt;
}

function end(id: number, outcome: JobOutcome): void {
  expect(queue.db.finish(id, claim(id), outcome, queue.now())).toBe(true);
}

describe('a queued job', () => {
  it('waits with its request, who asked for it and when', () => {
    const [job] = restores('a');
    expect(job).toMatchObject({
      kind: 'restore',
      state: 'waiting',
      title: '1:folder/a to /vmfs/new',
      submitter: BY,
      createdAt: NOW,
      attempt: 0,
      groupId: null,
    });
    expect(JSON.parse(job?.request ?? '')).toEqual({ archive: '1:folder/a', to: '/vmfs/new' });
  });

  it('several queued together are a group, and survive a restart', () => {
    const jobs = restores('a', 'b');
    queue.close();
    queue = openQueue();
    expect(queue.db.jobs({ groupId: idOf(jobs) }).map(({ title }) => title)).toEqual([
      '1:folder/b to /vmfs/new',
      '1:folder/a to /vmfs/new',
    ]);
  });

  it.each([
    ['a relative goal', { archive: '1:folder/a', to: 'here' }],
    ['an archive that is neither on a target nor a whole path', { archive: 'a.phd', to: '/x' }],
    ['a word it does not know, as a password would be', { archive: '1:folder/a', to: '/x', password: 'p' }],
  ])('is refused with %s', (_what, request) => {
    expect(() => queue.submit('restore', [request], BY)).toThrow(expect.objectContaining({ code: 'USAGE' }));
    expect(queue.db.jobs()).toEqual([]);
  });
});

describe('what a job writes', () => {
  it('is one disk, whatever archive it comes from, or the archives of a VM; a verify run writes nothing', () => {
    const full = '1:f/00-CRM.vmdk.gz-261120-1319.phd';
    const delta = '/srv/f/00-CRM.vmdk.delta-2026.11.20-1400-261120-1319.phd';
    const goals = queue
      .submit(
        'restore',
        [
          { archive: full, to: '/vmfs/new' },
          { archive: delta, to: '/vmfs/new/' },
          { archive: full, to: '/vmfs/new', name: 'B.vmdk' },
        ],
        BY,
      )
      .map(goalOf);
    expect(goals).toEqual(['disk /vmfs/new/CRM.vmdk', 'disk /vmfs/new/CRM.vmdk', 'disk /vmfs/new/B.vmdk']);
    expect(goalOf(backup())).toBe('archives of /vmfs/crm');
    expect(goalOf(verify())).toBeNull();
  });
});

describe('the order', () => {
  it('is restores, then backups, then verify runs, each as they came', () => {
    const expected = [verify().id, backup().id, backup().id, ...restores('a', 'b').map(({ id }) => id)];
    const [first, second, third, fourth, fifth] = expected;
    const order: number[] = [];
    for (let next = queue.db.nextWaiting(); next; next = queue.db.nextWaiting()) {
      order.push(next.id);
      claim(next.id);
    }
    expect(order).toEqual([fourth, fifth, second, third, first]);
  });
});

describe('an attempt', () => {
  it('is claimed once', () => {
    const id = idOf(restores('a'));
    expect(claim(id)).toBe(1);
    expect(queue.db.claim(id, GONE, NOW)).toEqual({ refused: 'not waiting' });
    expect(queue.db.claim(99, GONE, NOW)).toEqual({ refused: 'gone' });
    expect(queue.db.attempts(id)).toHaveLength(1);
  });

  it('of a process that lost its job changes nothing: progress and result are refused', () => {
    const id = idOf(restores('a'));
    const lost = claim(id, GONE);
    expect(queue.settleInterrupted().map((job) => job.id)).toEqual([id]);
    queue.retry(id);
    const present = claim(id);
    const before = queue.job(id);
    const progress = {
      label: 'x',
      phase: 'restore',
      percent: 99,
      bytes: 1,
      totalBytes: 2,
      bytesPerSecond: 3,
      remainingSeconds: 4,
    };
    expect(queue.db.writeProgress(id, lost, progress, 7)).toBe(false);
    expect(queue.db.finish(id, lost, DONE, NOW)).toBe(false);
    expect(queue.job(id)).toEqual(before);
    expect(queue.db.writeProgress(id, present, progress, 0)).toBe(true);
    expect(queue.db.finish(id, present, DONE, NOW)).toBe(true);
    expect(queue.db.attempts(id).map(({ state }) => state)).toEqual(['interrupted', 'done']);
  });

  it('that ended cannot end again', () => {
    const id = idOf(restores('a'));
    const attempt = claim(id);
    expect(queue.db.finish(id, attempt, FAILED, NOW)).toBe(true);
    expect(queue.db.finish(id, attempt, DONE, NOW)).toBe(false);
    expect(queue.job(id)).toMatchObject({ state: 'failed', exitStatus: 6, errorCode: 'NO_SPACE' });
  });

  it('whose process is gone is interrupted, one whose process lives goes on running', () => {
    const [gone, living] = restores('a', 'b').map(({ id }) => id) as [number, number];
    claim(gone, GONE);
    claim(living);
    expect(queue.settleInterrupted().map(({ id }) => id)).toEqual([gone]);
    expect(queue.job(gone)).toMatchObject({ state: 'interrupted', exitStatus: 1 });
    expect(queue.job(living).state).toBe('running');
  });

  it('is not taken for alive because another process has its number now', () => {
    const id = idOf(restores('a'));
    claim(id, { ...ownIdentity(), startTicks: '1' });
    expect(queue.settleInterrupted().map((job) => job.id)).toEqual([id]);
  });
});

describe('whatever happens to a job', () => {
  it('each attempt is started once, one at most runs, and only the present one can end it', () => {
    const step = fc.oneof(
      fc.constantFrom('claim', 'settle', 'retry', 'cancel'),
      fc.record({ finish: fc.integer({ min: 1, max: 5 }), state: fc.constantFrom(DONE, FAILED) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
        const id = idOf(restores('a'));
        for (const one of steps) {
          const before = queue.job(id);
          const isWaiting = before.state === 'waiting';
          const isRunning = before.state === 'running';
          if (one === 'claim') expect('job' in queue.db.claim(id, GONE, NOW)).toBe(isWaiting);
          else if (one === 'settle') expect(queue.settleInterrupted().length).toBe(isRunning ? 1 : 0);
          else if (one === 'retry')
            expect(queue.db.retry(id)).toBe(['failed', 'cancelled', 'interrupted'].includes(before.state));
          else if (one === 'cancel') expect(queue.db.cancelWaiting(id, NOW)).toBe(isWaiting);
          else {
            const isPresent = isRunning && one.finish === before.attempt;
            expect(queue.db.finish(id, one.finish, one.state, NOW)).toBe(isPresent);
            if (!isPresent) expect(queue.job(id)).toEqual(before);
          }
          const now = queue.job(id);
          const attempts = queue.db.attempts(id);
          expect(attempts.map(({ attempt }) => attempt)).toEqual(
            Array.from({ length: now.attempt }, (_, at) => at + 1),
          );
          expect(attempts.filter(({ state }) => state === 'running').length).toBe(
            now.state === 'running' ? 1 : 0,
          );
        }
        queue.settleInterrupted();
        queue.removePending();
        queue.purge();
      }),
      { numRuns: 60 },
    );
  });
});

describe('retry', () => {
  it('of the failed disks of a group leaves the others alone', () => {
    const [one, two] = restores('a', 'b').map(({ id }) => id) as [number, number];
    end(one, DONE);
    end(two, FAILED);
    expect(queue.retry(two)).toMatchObject({ state: 'waiting', attempt: 1, groupId: one });
    expect(claim(two)).toBe(2);
    expect(queue.job(two)).toMatchObject({ errorCode: null, exitStatus: null });
  });

  it('is refused for a job that is done, waits or runs', () => {
    const [done, waiting, running] = restores('a', 'b', 'c').map(({ id }) => id) as [number, number, number];
    end(done, DONE);
    claim(running);
    for (const id of [done, waiting, running])
      expect(() => queue.retry(id)).toThrow(expect.objectContaining({ code: 'USAGE' }));
    expect(() => queue.retry(99)).toThrow(expect.objectContaining({ code: 'NOT_FOUND' }));
  });
});

describe('kill', () => {
  it('cancels a job that waits', async () => {
    const id = idOf(restores('a'));
    expect(await queue.kill(id)).toMatchObject({ state: 'cancelled', exitStatus: 130 });
    await expect(queue.kill(id)).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('signals nobody if the process of the job is gone', async () => {
    const id = idOf(restores('a'));
    claim(id, { ...ownIdentity(), startTicks: '1' });
    expect(await queue.kill(id)).toMatchObject({ state: 'cancelled' });
  });
});

describe('locks', () => {
  it('hold back what they name; verify runs wait for both', () => {
    backup();
    verify();
    const id = idOf(restores('a'));
    queue.db.setLock({ kind: 'restore', by: BY, at: NOW });
    expect(queue.db.nextWaiting()?.kind).toBe('backup');
    expect(queue.db.claim(id, ownIdentity(), NOW)).toMatchObject({
      refused: 'locked',
      lock: { kind: 'restore' },
    });
    queue.db.setLock({ kind: 'backup', by: BY, at: NOW });
    expect(queue.db.nextWaiting()).toBeUndefined();
    expect(queue.db.clearLock('restore')).toBe(true);
    expect(queue.db.nextWaiting()?.kind).toBe('restore');
    claim(id);
    expect(queue.db.nextWaiting()).toBeUndefined();
  });

  it('name who set them first, from where and when', () => {
    expect(queue.db.setLock({ kind: 'restore', by: BY, at: NOW })).toBe(true);
    expect(queue.db.setLock({ kind: 'restore', by: { ...BY, user: 'other' }, at: NOW })).toBe(false);
    const [lock] = queue.db.locks();
    expect(lock && lockText(lock)).toBe(
      'restores are stopped by root on backup1 (pts/3, from 10.0.0.7) since 2026-11-20T10:00:00.000Z',
    );
    expect(() => requireUnlocked(queue.db, 'restore')).toThrow(
      expect.objectContaining({ code: 'LOCKED', message: expect.stringContaining('root on backup1 (pts/3') }),
    );
    expect(() => requireUnlocked(queue.db, 'backup')).not.toThrow();
  });
});

describe('what is kept', () => {
  it('ended jobs go after their days or beyond their number, failed ones only when seen', () => {
    const [old, failed, seen, fresh, fresher] = restores('a', 'b', 'c', 'd', 'e').map(({ id }) => id) as [
      number,
      number,
      number,
      number,
      number,
    ];
    end(old, DONE);
    end(failed, FAILED);
    end(seen, FAILED);
    queue.db.markSeen(seen);
    for (const id of [old, failed, seen]) writeFileSync(queue.logFileOf(id), 'log');
    now = new Date('2027-02-20T10:00:00.000Z');
    end(fresh, DONE);
    end(fresher, DONE);
    expect(queue.expire({ atOnce: 1, keepDays: 90, keepCount: 1000, restoreQueue: true })).toEqual([
      old,
      seen,
    ]);
    expect([old, failed, seen].map((id) => existsSync(queue.logFileOf(id)))).toEqual([false, true, false]);
    expect(queue.expire({ atOnce: 1, keepDays: 90, keepCount: 1, restoreQueue: true })).toEqual([fresh]);
    expect(queue.db.jobs().map(({ id }) => id)).toEqual([fresher, failed]);
  });

  it('a log without a job goes as well, other files stay', () => {
    const stray = queue.logFileOf(77);
    const other = path.join(path.dirname(stray), 'notes.txt');
    writeFileSync(stray, 'log');
    writeFileSync(other, 'mine');
    queue.expire({ atOnce: 1, keepDays: 90, keepCount: 1000, restoreQueue: true });
    expect([existsSync(stray), existsSync(other)]).toEqual([false, true]);
  });

  it('purge removes what has ended, remove-pending what waits, neither what runs', () => {
    const [done, running, waiting] = restores('a', 'b', 'c').map(({ id }) => id) as [number, number, number];
    end(done, FAILED);
    claim(running);
    expect(queue.purge()).toEqual([done]);
    expect(queue.removePending()).toEqual([waiting]);
    expect(queue.db.jobs().map(({ id }) => id)).toEqual([running]);
  });

  it('numbers of removed jobs are not given again', () => {
    const id = idOf(restores('a'));
    queue.removePending();
    expect(idOf(restores('b'))).toBeGreaterThan(id);
  });
});

describe('who submits', () => {
  it('is told by user, host and the address behind an SSH login', () => {
    const by = submitterOf({ SSH_CLIENT: '10.0.0.7 50122 22' });
    expect(by.sshClient).toBe('10.0.0.7');
    expect(by.user).not.toBe('');
    expect(submitterText({ user: 'u', host: 'h', tty: null, sshClient: null })).toBe('u on h');
  });
});
