/** Tales of clocks: the hour that comes twice, the hour that is left out, a clock that was wrong. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { changeImage, type TestVm } from '../support/disk-images.ts';
import { requirePeer } from '../support/peers.ts';
import { HOOK_TIMEOUT_MS, linesOf, MIB, only, type Run, Tale } from './tale.ts';

interface Backup {
  /** As in the name. */
  stamp: string;
  archive: string;
  manifest: string;
  disk: Buffer;
}

class ClockTale extends Tale {
  vm!: TestVm;
  #faketime = '';
  #changes = 0;

  async prepare(): Promise<void> {
    this.vm = await this.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: 2 * MIB }]);
    this.#faketime = (await requirePeer('libfaketime.so.1')).path;
  }

  /** Runs phd in Berlin at a moment in UTC; its clock stands still. */
  at(momentUtc: string, words: string[]): Promise<Run> {
    const seconds = Date.parse(momentUtc) / 1000;
    const env = {
      TZ: 'Europe/Berlin',
      FAKETIME: `${seconds}`,
      LD_PRELOAD: this.#faketime,
      FAKETIME_FMT: '%s',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1',
    };
    return this.phd(words, { env });
  }

  /** Changes the disk and backs it up. */
  async backupAt(momentUtc: string): Promise<Backup> {
    const flat = (this.vm.disks[0] as TestVm['disks'][number]).flatPath;
    this.#changes += 1;
    await changeImage(flat, 1, `change ${this.#changes}`);
    const run = await this.at(momentUtc, ['backup', this.vm.folder, '--json']);
    expect(run.status, run.stderr).toBe(0);
    const { archive } = only(linesOf(run, 'done')) as unknown as { archive: string };
    const [, date = '', clock = ''] = /\.delta-([\d.]+)-(\d{4})-/.exec(archive) ?? [];
    const stamp = `${date.replaceAll('.', '-')}T${clock.slice(0, 2)}:${clock.slice(2)}`;
    const manifest = readFileSync(this.file(archive), 'latin1');
    return { stamp, archive, manifest, disk: readFileSync(flat) };
  }

  /** The disk that `phd restore` gives for some words. */
  async restoredAt(momentUtc: string, words: string[]): Promise<Buffer> {
    const to = this.newFolder();
    const run = await this.at(momentUtc, ['restore', ...words, '--to', to]);
    expect(run.status, run.stderr).toBe(0);
    return readFileSync(path.join(to, 'CRM-flat.vmdk'));
  }
}

describe('The hour of autumn that comes twice', () => {
  let tale: ClockTale;
  const made: Backup[] = [];
  beforeAll(async () => {
    tale = new ClockTale();
    await tale.prepare();
    for (const moment of ['00:20', '00:40', '01:10', '01:59', '02:00'])
      made.push(await tale.backupAt(`2026-10-25T${moment}:30Z`));
  }, HOOK_TIMEOUT_MS);
  afterAll(() => tale.remove());

  it('gives each run a stamp that sorts after those before, the next free minute where the clock went back', () => {
    expect(made.map(({ stamp }) => stamp.slice(11))).toEqual(['02:20', '02:40', '02:41', '02:59', '03:00']);
  });

  it('is told apart by the manifest, which holds UTC and offset', () => {
    const told = made.map(({ manifest }) => [
      /^timeUtc \S+T(\S+)$/m.exec(manifest)?.[1],
      /^utcOffsetMinutes (\S+)$/m.exec(manifest)?.[1],
    ]);
    expect(told).toEqual([
      ['00:20:30Z', '120'],
      ['00:40:30Z', '120'],
      ['01:10:30Z', '60'],
      ['01:59:30Z', '60'],
      ['02:00:30Z', '60'],
    ]);
  });

  it('is listed in the order of the runs, without a word about a wrong clock', async () => {
    const listed = await tale.at('2026-10-25T02:01:00Z', ['list', '--mode', 'delta', '--json']);
    expect(listed.status).toBe(0);
    expect(listed.stderr).not.toMatch(/clock/);
    const times = linesOf(listed).map(({ time }) => time);
    expect(times).toEqual(made.map(({ stamp }) => stamp).reverse());
  });

  it('restores the newest, and each by its date', async () => {
    const now = '2026-10-25T02:02:00Z';
    expect((await tale.restoredAt(now, ['--vm', 'CRM'])).equals(made[4]?.disk as Buffer)).toBe(true);
    const dated = await tale.restoredAt(now, ['--vm', 'CRM', '--date', '2026-10-25T02:58']);
    expect(dated.equals(made[2]?.disk as Buffer)).toBe(true);
  });
});

describe('The last minute before the clock goes back', () => {
  it('is followed by the minute after the repeated hour', async () => {
    const tale = new ClockTale();
    await tale.prepare();
    const before = await tale.backupAt('2026-10-25T00:59:10Z');
    const after = await tale.backupAt('2026-10-25T01:00:10Z');
    expect([before.stamp, after.stamp]).toEqual(['2026-10-25T02:59', '2026-10-25T03:00']);
    const restored = await tale.restoredAt('2026-10-25T01:01:00Z', ['--vm', 'CRM']);
    expect(restored.equals(after.disk)).toBe(true);
    tale.remove();
  });
});

describe('The last minute before the clock goes forward', () => {
  it('is followed, for a second run in it, by the minute after the gap', async () => {
    const tale = new ClockTale();
    await tale.prepare();
    const first = await tale.backupAt('2026-03-29T00:59:10Z');
    const second = await tale.backupAt('2026-03-29T00:59:40Z');
    expect([first.stamp, second.stamp]).toEqual(['2026-03-29T01:59', '2026-03-29T03:00']);
    tale.remove();
  });
});

describe('A clock that ran a year ahead and was set right', () => {
  let tale: ClockTale;
  let early: Backup;
  let late: Backup;
  const now = '2026-11-20T12:00:00Z';
  beforeAll(async () => {
    tale = new ClockTale();
    await tale.prepare();
    early = await tale.backupAt('2027-11-20T12:00:00Z');
    late = await tale.backupAt(now);
  }, HOOK_TIMEOUT_MS);
  afterAll(() => tale.remove());

  it('leaves archives of the future, after which the next run still sorts', () => {
    expect([early.stamp, late.stamp]).toEqual(['2027-11-20T13:00', '2027-11-20T13:01']);
    expect(late.manifest).toMatch(/^timeUtc 2026-11-20T12:00:00Z$/m);
  });

  it.each(['index', 'list'])('is named by phd %s', async (command) => {
    const run = await tale.at(now, [command]);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).toMatch(/the newest archive is of 2027-11-20 13:01.*check the clock/);
  });

  it('does not keep the newest run from being restored', async () => {
    expect((await tale.restoredAt(now, ['--vm', 'CRM'])).equals(late.disk)).toBe(true);
  });
});
