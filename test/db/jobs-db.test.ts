import { statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type FullRecord, JobsDb } from '../../db/jobs-db.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

let home: TempHome;
let file: string;
let jobs: JobsDb;

beforeEach(() => {
  home = makeTempHome();
  file = path.join(home.root, 'jobs.db');
  jobs = new JobsDb(file);
});

afterEach(() => {
  jobs.close();
  home.remove();
});

const key = { vmUuid: 'u', scsiId: '00', disk: 'a.vmdk' };

function full(stamp: string, more: Partial<FullRecord> = {}): FullRecord {
  return {
    ...key,
    targetNumber: 1,
    folder: 'f',
    file: `00-a.vmdk.gz-${stamp}.phd`,
    stamp,
    fullId: 'id',
    mapDigest: 'ab',
    mapFile: '/state/maps/a',
    fullBytes: 5_368_709_120,
    codec: 'gzip',
    encrypted: true,
    diskBytes: 2 ** 46,
    ...more,
  };
}

describe('FULLs made here', () => {
  it('the newest is found by stamp, on one target or on any', () => {
    jobs.recordFull(full('2026-01-02T10:00'));
    jobs.recordFull(full('2026-01-03T10:00', { targetNumber: 2 }));
    jobs.recordFull(full('2026-01-01T10:00'));
    jobs.recordFull(full('2026-01-09T10:00', { disk: 'other.vmdk' }));
    expect(jobs.newestFull(key)).toEqual(full('2026-01-03T10:00', { targetNumber: 2 }));
    expect(jobs.newestFull({ ...key, targetNumber: 1 })).toEqual(full('2026-01-02T10:00'));
    expect(jobs.newestFull({ ...key, targetNumber: 3 })).toBeUndefined();
    expect(jobs.fullsOfDisk(key).map((one) => one.stamp)).toEqual([
      '2026-01-03T10:00',
      '2026-01-02T10:00',
      '2026-01-01T10:00',
    ]);
  });

  it('a second record of one file replaces the first, and one that is gone is forgotten', () => {
    jobs.recordFull(full('2026-01-02T10:00'));
    jobs.recordFull(full('2026-01-02T10:00', { mapDigest: 'cd' }));
    expect(jobs.fullsOfDisk(key)).toEqual([full('2026-01-02T10:00', { mapDigest: 'cd' })]);
    jobs.forgetFull(1, 'f', full('2026-01-02T10:00').file);
    expect(jobs.fullsOfDisk(key)).toEqual([]);
  });
});

describe('digests and verify results', () => {
  it('are kept for one file on one target, across a restart', () => {
    const written = {
      targetNumber: 1,
      folder: 'f',
      file: 'x',
      sizeBytes: 7,
      sha256: 'ff',
      runId: 'r',
      writtenAt: 't',
    };
    const verified = {
      targetNumber: 1,
      folder: 'f',
      file: 'x',
      sizeBytes: 7,
      verifiedAt: 't',
      result: 'good',
      detail: '',
    } as const;
    jobs.recordWritten(written);
    jobs.recordVerify(verified);
    jobs.close();
    jobs = new JobsDb(file);
    expect(jobs.written(1, 'f', 'x')).toEqual(written);
    expect(jobs.written(2, 'f', 'x')).toBeUndefined();
    expect(jobs.verifyResult(1, 'f', 'x', 7)).toEqual(verified);
    expect(jobs.verifyResult(2, 'f', 'x', 7)).toBeUndefined();
  });

  it('a result does not count for a file of another size', () => {
    jobs.recordVerify({
      targetNumber: 1,
      folder: 'f',
      file: 'x',
      sizeBytes: 7,
      verifiedAt: 't',
      result: 'good',
      detail: '',
    });
    expect(jobs.verifyResult(1, 'f', 'x', 8)).toBeUndefined();
  });

  it('the newest result stands', () => {
    for (const result of ['good', 'damaged'] as const) {
      jobs.recordVerify({
        targetNumber: 1,
        folder: 'f',
        file: 'x',
        sizeBytes: 7,
        verifiedAt: 't',
        result,
        detail: 'd',
      });
    }
    expect(jobs.verifyResults(1).map((one) => one.result)).toEqual(['damaged']);
  });
});

describe('the file', () => {
  it('is closed to others and every commit is synced', () => {
    expect(statSync(file).mode & 0o777).toBe(0o600);
    jobs.recordFull(full('2026-01-02T10:00'));
    const other = new Database(file);
    expect(other.pragma('journal_mode', { simple: true })).toBe('wal');
    other.close();
  });

  it('of a newer program is refused and left as it is', () => {
    jobs.close();
    const newer = new Database(file);
    const present = newer.pragma('user_version', { simple: true });
    newer.pragma('user_version = 99');
    newer.close();
    expect(() => new JobsDb(file)).toThrow(expect.objectContaining({ code: 'FORMAT_UNSUPPORTED' }));
    const again = new Database(file);
    expect(again.pragma('user_version', { simple: true })).toBe(99);
    again.pragma(`user_version = ${present}`);
    again.close();
    jobs = new JobsDb(file);
  });

  it('that is damaged is refused by name, never made anew', () => {
    const damaged = path.join(home.root, 'damaged.db');
    writeFileSync(damaged, 'this was a database once'.repeat(500));
    expect(() => new JobsDb(damaged)).toThrow(
      expect.objectContaining({ code: 'IO', message: expect.stringContaining(damaged) }),
    );
    expect(statSync(damaged).size).toBe(24 * 500);
  });
});
