/** `--date` with a minute: the newest run at or before it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { smallDelta } from '../engine/small-delta.ts';
import { linesOf, Tale } from '../tales/tale.ts';

const UUID = '564d1e34-4364-1808-23fd-e56565add965';
const STAMPS = [
  '2026-03-01T10:00',
  '2026-03-02T10:00',
  '2026-03-02T10:30',
  '2026-03-03T09:00',
  '2026-03-04T09:00',
];

let tale: Tale;

beforeAll(async () => {
  tale = new Tale();
  for (const stamp of STAMPS) {
    const [day = '', time = ''] = stamp.split('T');
    const [year, month, date] = day.split('-');
    const file = `00-web.vmdk.delta-${year}.${month}.${date}-${time.replace(':', '')}-260301-1000.phd`;
    tale.home.write(
      `one/${year}.${month}.${date}-web.${UUID}/${file}`,
      smallDelta({ uuid: UUID, stamp, fullStamp: '2026-03-01T10:00' }),
    );
  }
  await tale.phd(['index']);
});
afterAll(() => tale.remove());

/** Stamp of the archive that a restore of this date takes (its FULL is nowhere, so that it ends there). */
async function taken(date: string): Promise<string | undefined> {
  const run = await tale.phd(['restore', '--vm', 'web', '--date', date, '--to', tale.newFolder(), '--json']);
  const archive = String(linesOf(run, 'error')[0]?.archive);
  return /delta-([\d.]+-\d{4})-/.exec(archive)?.[1];
}

describe('phd restore --date', () => {
  it.each([
    ['2026-03-02T10:00', '2026.03.02-1000'],
    ['2026-03-02T10:29', '2026.03.02-1000'],
    ['2026-03-02T10:30', '2026.03.02-1030'],
    ['2026-03-02T09:59', '2026.03.01-1000'],
    ['2026-03-02', '2026.03.02-1030'],
    ['2030-01-01T00:00', '2026.03.04-0900'],
  ])('%s takes the run of %s', async (date, stamp) => {
    expect(await taken(date)).toBe(stamp);
  });

  it('before all runs names the next ones', async () => {
    const run = await tale.phd([
      'restore',
      '--vm',
      'web',
      '--date',
      '2026-02-28T23:59',
      '--to',
      tale.newFolder(),
    ]);
    expect(run.status).toBe(1);
    expect(run.stderr).toBe(
      'phd: there is no complete run of "web" on or before 2026-02-28 23:59 in the index; the next are of 2026-03-01 10:00, 2026-03-02 10:00, 2026-03-02 10:30\n',
    );
  });
});
