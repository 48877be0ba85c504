import { describe, expect, it } from 'vitest';
import { adviceFor } from '../../screens/flows/advice.ts';
import { amountText, endOf, percentText, rateText, remainingText } from '../../screens/flows/job-figures.ts';
import type { Job, JobProgress } from '../../src/model/job.ts';

const MB = 1024 * 1024;

const PROGRESS: JobProgress = {
  label: 'CRM.vmdk',
  phase: 'restore',
  percent: 45.9,
  bytes: 7.9 * MB,
  totalBytes: 5120 * MB,
  bytesPerSecond: 14 * MB,
  remainingSeconds: null,
};

function job(more: Partial<Job>): Job {
  return {
    id: 1,
    groupId: null,
    kind: 'restore',
    title: 'CRM.vmdk to /vm',
    request: '{}',
    state: 'done',
    submitter: { user: 'root', host: 'h', tty: null, sshClient: null },
    createdAt: '2026-11-20T09:00:00.000Z',
    startedAt: null,
    endedAt: null,
    attempt: 1,
    owner: null,
    progress: null,
    exitStatus: 0,
    errorCode: null,
    errorMessage: null,
    warningCount: 0,
    result: null,
    isSeen: false,
    ...more,
  };
}

const RESTORED = {
  totalBlocks: 48,
  fromFull: 30,
  fromDelta: 2,
  zero: 10,
  kept: 6,
  retried: 1,
  flatPath: '/vm/CRM-flat.vmdk',
  diskBytes: 12 * MB,
  seconds: 3,
  unproved: false,
  verified: false,
};

describe('figures of a job under way', () => {
  it('a remaining time changes in steps, coarser the longer it is; unknown is blank', () => {
    expect([null, undefined, 0, 59.4, 61, 3599, 3700].map((seconds) => remainingText(seconds))).toEqual([
      '',
      '',
      '00:00',
      '00:59',
      '01:00',
      '1:00:00',
      '1:02:00',
    ]);
    expect(remainingText(33, 5)).toBe('00:35');
  });

  it('amounts keep their width, percents never promise more than there is', () => {
    expect(amountText(PROGRESS)).toBe('   7 of 5120 MB');
    expect(percentText(job({ state: 'running', exitStatus: null, progress: PROGRESS }))).toBe('45 %');
    expect(percentText(job({ state: 'waiting', exitStatus: null }))).toBe('');
    expect(percentText(job({}))).toBe('100 %');
    expect([0.04, 9.94, 14.4].map((rate) => rateText(rate * MB))).toEqual([
      '0.0 MB/s',
      '9.9 MB/s',
      '14 MB/s',
    ]);
  });
});

describe('how a job ended', () => {
  it('a restore counts every block once and ends in one verdict', () => {
    const { verdict, figures, mark } = endOf(job({ result: JSON.stringify(RESTORED) }));
    expect({ verdict, mark }).toEqual({ verdict: 'RESTORED: ALL BLOCKS PROVED', mark: 'good' });
    expect(Object.fromEntries(figures)).toMatchObject({
      'Blocks total': '48',
      processed: '48',
      'from FULL': '30',
      'from DELTA': '2',
      zero: '10',
      'right already': '6',
      retried: '1',
    });
  });

  it('what was not proved is never called proved', () => {
    const unproved = { ...RESTORED, unproved: true };
    expect(endOf(job({ result: JSON.stringify(unproved) })).verdict).toBe('RESTORED, BUT UNPROVED');
    const { verdict, mark } = endOf(job({ state: 'failed', exitStatus: 3, errorCode: 'DIGEST_MISMATCH' }));
    expect({ verdict, mark }).toEqual({ verdict: 'FAILED: NOT RESTORED', mark: 'bad' });
    expect(endOf(job({ state: 'interrupted', exitStatus: 1 })).verdict).toBe('INTERRUPTED: NOT RESTORED');
  });

  it('warnings stand in the verdict', () => {
    const warned = job({ state: 'done with warnings', warningCount: 2, result: JSON.stringify(RESTORED) });
    expect(endOf(warned)).toMatchObject({
      verdict: 'RESTORED: ALL BLOCKS PROVED, WITH 2 WARNINGS',
      mark: 'warning',
    });
  });

  it('a result of another program or none is no reason to fail', () => {
    for (const result of [null, '', '[', '[]', 'null', '{"totalBlocks":"x"}', '{"disks":3}']) {
      for (const kind of ['restore', 'backup', 'verify'] as const) {
        expect(endOf(job({ kind, result })).figures).toEqual([]);
      }
    }
  });

  it('every code has advice, one that is not known as well', () => {
    expect(adviceFor('NO_SPACE')).toMatch(/room/);
    expect(adviceFor(null)).toBe(adviceFor('IO'));
    expect(adviceFor('FROM_A_NEWER_PROGRAM')).toBe(adviceFor('IO'));
  });
});
