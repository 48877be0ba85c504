/** What a newcomer types wrong: names that are not there are answered with those that are. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nearNames } from '../../src/model/near-names.ts';
import { type Run, Tale } from '../tales/tale.ts';

let tale: Tale;

beforeAll(async () => {
  tale = new Tale({ targets: ['one', 'two'] });
  await tale.makeVm('database', [{ name: 'database.vmdk', sizeBytes: 262_144 }]);
  await tale.makeVm('mail', [{ name: 'mail.vmdk', sizeBytes: 262_144 }]);
});
afterAll(() => tale.remove());

const lines = (run: Run): string[] => run.stderr.trimEnd().split('\n');

describe('a target that is not configured', () => {
  const commands: [string, string[]][] = [
    ['backup', ['backup', 'VM', '--target', '9']],
    ['backup, queued', ['backup', 'VM', '--target', '9', '--background']],
    ['index', ['index', '--target', '9']],
    ['list', ['list', '--target', '9']],
    ['restore', ['restore', '9:folder/file', '--to', 'OUT']],
    ['restore, its FULL', ['restore', '1:folder/file', '--full', '9:folder/file', '--to', 'OUT']],
    ['restore, queued', ['restore', '9:folder/file', '--to', 'OUT', '--background']],
    ['verify', ['verify', '--target', '9']],
    ['verify, queued', ['verify', '--target', '9', '--background']],
    ['verify of an archive', ['verify', '9:folder/file']],
    ['verify of an archive, queued', ['verify', '9:folder/file', '--background']],
    ['vmx', ['vmx', '9:folder/file', '--to', 'OUT']],
    ['target test', ['target', 'test', '9']],
    ['target speed-test', ['target', 'speed-test', '9']],
    ['target edit', ['target', 'edit', '9', '--port', '22']],
    ['target remove', ['target', 'remove', '9']],
  ];
  it.each(commands)('%s: status 2, and the numbers there are', async (_name, words) => {
    const places: Record<string, string> = { VM: tale.path('vmfs', 'database'), OUT: tale.path('out') };
    const run = await tale.phd(words.map((word) => places[word] ?? word));
    expect(run.status).toBe(2);
    expect(run.stdout).toBe('');
    expect(lines(run)).toEqual([
      `phd: there is no target 9 in ${tale.path('phd.yaml')}; it has 1 (one), 2 (two)`,
    ]);
  });

  it('says so where there is none at all', async () => {
    tale.home.writeConfig('datastores: [vmfs]\n');
    const run = await tale.phd(['index', '--target', '1']);
    tale.configure({ targets: ['one', 'two'] });
    expect(run.status).toBe(2);
    expect(lines(run)[0]).toMatch(/there is no target 1 in .*; it has none: phd target add makes one$/);
  });
});

describe('words that nearly fit', () => {
  it('are answered with those that do', async () => {
    await tale.backup(tale.path('vmfs', 'database'));
    const said = async (...words: string[]): Promise<string> => (await tale.phd(words)).stderr.trimEnd();
    const out = tale.path('out');
    expect(await said('restore', '--vm', 'database', '--disk', 'data', '--to', out)).toBe(
      'phd: the newest complete run of database has no disk data, but database.vmdk',
    );
    expect(await said('hold', '1:foo/bar.phd')).toBe('phd: there is no 1:foo/bar.phd: see phd list');
    expect(await said('verify', '--target', '1', '--older-than', 'abc')).toBe(
      'phd: --older-than "abc": expected a number of days, YYYY-MM-DD or YYYY-MM-DDTHH:MM',
    );
    expect(await said('list', '--date', '2026-11-01..')).toBe(
      'phd: "2026-11-01.." is no range: both ends are needed, D..D',
    );
    const damaged = tale.path('cut', 'folder', '00-a.vmdk.delta-2026.11.01-0000-261101-0000.phd');
    tale.home.write(damaged.slice(tale.path().length + 1), 'no archive');
    expect(await said('verify', damaged)).toContain(`phd: ${damaged}`);
  });
});

describe('a VM folder that is not there', () => {
  it.each([[[]], [['--background']]])('is answered with the nearest that is, %j', async (more) => {
    const run = await tale.phd(['backup', tale.path('vmfs', 'databse'), ...more]);
    expect(run.status).toBe(1);
    expect(lines(run)).toEqual([
      `phd: there is no folder ${tale.path('vmfs', 'databse')}; did you mean ${tale.path('vmfs', 'database')}?`,
    ]);
  });

  it('is looked for in the datastores by its name alone', async () => {
    const run = await tale.phd(['backup', 'mail'], { cwd: tale.path('one') });
    expect(lines(run)).toEqual([`phd: there is no folder mail; did you mean ${tale.path('vmfs', 'mail')}?`]);
  });

  it('has no proposal where nothing is near', async () => {
    const folder = tale.path('nowhere', 'at-all');
    const run = await tale.phd(['backup', folder]);
    expect(lines(run)).toEqual([`phd: there is no folder ${folder}`]);
  });

  it('is told from a file', async () => {
    const run = await tale.phd(['backup', tale.path('vmfs', 'mail', 'mail.vmx')]);
    expect(run.status).toBe(1);
    expect(lines(run)[0]).toContain(`name the folder of the VM, as ${tale.path('vmfs', 'mail')}`);
  });
});

describe('a file that is not there is named in plain words', () => {
  const commands: [string, string[], RegExp][] = [
    [
      'an archive to restore',
      ['restore', 'none.phd', '--to', 'out'],
      /^phd: there is no file .*\/none\.phd; an archive on target N is named N:folder\/file$/,
    ],
    ['an archive to verify', ['verify', 'none.phd'], /^phd: there is no file .*\/none\.phd; /],
    ['a flat', ['stub', 'none-flat.vmdk'], /^phd: .*none-flat\.vmdk: no such file or directory$/],
    [
      'an image',
      ['backup', 'vmfs/mail', '--image', '/none.img'],
      /phd: \/none\.img cannot be backed up: no such file or directory/,
    ],
  ];
  it.each(commands)('%s', async (_name, words, said) => {
    const run = await tale.phd(words, { cwd: tale.path() });
    expect(run.status).toBe(1);
    expect(run.stderr.trimEnd()).toMatch(said);
    expect(run.stderr).not.toContain('ENOENT');
  });
});

describe('near names', () => {
  it('are those with few wrong letters, in any case, nearest first', () => {
    const names = ['database', 'databank', 'mail', 'web'];
    expect(nearNames('Databse', names)).toEqual(['database']);
    expect(nearNames('wbe', names)).toEqual(['web']);
    expect(nearNames('data', names)).toEqual(['database', 'databank']);
    expect(nearNames('x', names)).toEqual([]);
    expect(nearNames('zzz', names)).toEqual([]);
  });
});
