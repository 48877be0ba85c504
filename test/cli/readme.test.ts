/** What README says can be pasted and run, is. */
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { smallDelta } from '../engine/small-delta.ts';
import { fileDigest, runProgram, Tale } from '../tales/tale.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const README = readFileSync(path.join(ROOT, 'README.md'), 'utf8');

/** The one block of code that holds these words. */
function blockWith(words: string): string {
  const blocks = [...README.matchAll(/^ *```\w*\n([\s\S]*?)^ *```$/gm)].map(([, code]) => code as string);
  const found = blocks.filter((code) => code.includes(words));
  if (found.length !== 1) throw new Error(`${found.length} blocks of README hold ${words}`);
  return found[0] as string;
}

let tale: Tale;

beforeAll(() => {
  tale = new Tale();
  tale.home.write('bin/phd', `#!/bin/sh\nexec '${process.execPath}' '${ROOT}dist/src/main.js' "$@"\n`, 0o755);
});
afterAll(() => tale.remove());

const shell = (script: string, input = '') =>
  runProgram('bash', ['-c', script], {
    cwd: ROOT,
    input,
    env: { ...tale.home.env, PATH: `${tale.path('bin')}:${process.env.PATH}` },
  });

describe('README', () => {
  it('the library: backup, list and restore of an image in a home of its own', async () => {
    const run = await shell(
      blockWith('node --input-type=module').replaceAll('/tmp/phd-library-', tale.path('lib-')),
    );
    expect(run.status, run.stderr).toBe(0);
    const [saved, ...others] = run.stdout.trimEnd().split('\n');
    const [delta, full] = others.slice(0, 2).sort();
    const [, , restored] = others;
    expect(saved).toBe('1 saved 0 failed');
    // Names as the page gives them for raw images.
    expect(full).toMatch(/^1:.*\.FULL\/00-web\.img\.gz-\d{6}-\d{4}\.phd$/);
    expect(delta).toMatch(/^1:.*\.FULL\/00-web\.img\.delta-\d{4}\.\d\d\.\d\d-\d{4}-\d{6}-\d{4}\.phd$/);
    const home = readdirSync(tale.path()).find((name) => name.startsWith('lib-')) as string;
    expect(restored).toBe(`${tale.path(home, 'restored', 'web.img')} restored and proved`);
    expect(fileDigest(tale.path(home, 'restored', 'web.img'))).toBe(
      fileDigest(tale.path(home, 'web', 'web.img')),
    );
    expect(readdirSync(tale.path(home, 'restored'))).toEqual(['web.img']);
  });

  it('secrets: the file is closed to others and holds what was typed', async () => {
    const script = blockWith('read -rs word')
      .split('\n')
      .find((line) => line.includes('read -rs')) as string;
    const run = await shell(script.replaceAll('/etc/phd', tale.path()), "it's a \\secret\n");
    expect(run).toMatchObject({ status: 0, stdout: '' });
    expect(readFileSync(tale.path('secrets', 'ftp1'), 'utf8')).toBe("it's a \\secret\n");
    expect(statSync(tale.path('secrets', 'ftp1')).mode & 0o777).toBe(0o600);
  });

  it('what may be deleted: DELTAs up to a day, but no empty one', async () => {
    const uuid = '564d1e34-4364-1808-23fd-e56565add965';
    const write = (stamp: string): string => {
      const [day = '', time = ''] = stamp.split('T');
      const dotted = day.replaceAll('-', '.');
      const name = `${dotted}-web.${uuid}/00-web.vmdk.delta-${dotted}-${time.replace(':', '')}-260901-1000.phd`;
      tale.home.write(`one/${name}`, smallDelta({ uuid, stamp, fullStamp: '2026-09-01T10:00' }));
      return name;
    };
    const [empty, old, last] = ['2026-09-01T10:00', '2026-10-20T23:59', '2026-10-21T00:00'].map(write);
    await tale.phd(['index']);
    const run = await shell(blockWith('rmSync(`/srv').replaceAll('/srv/backups', tale.path('one')));
    expect(run.status, run.stderr).toBe(0);
    expect(tale.filesOn('one')).toEqual([empty, last].sort());
    expect(old).toContain('2026.10.20');
    rmSync(tale.path('one'), { recursive: true });
    mkdirSync(tale.path('one'));
  });
});
