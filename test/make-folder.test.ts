import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeFolder, makeFolderSync } from '../src/make-folder.ts';
import { MAIN } from './support/console-pty.ts';

let root: string;
beforeAll(() => {
  root = mkdtempSync(path.join(tmpdir(), 'phd-test-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe.each([
  ['makeFolder', makeFolder],
  ['makeFolderSync', async (name: string, mode?: number) => makeFolderSync(name, mode)],
])('%s', (word, make) => {
  const at = (...parts: string[]): string => path.join(root, word, ...parts);

  it('makes all that is missing above it, each closed to others', async () => {
    await make(at('a', 'b', 'c'));
    for (const parts of [['a'], ['a', 'b'], ['a', 'b', 'c']])
      expect(statSync(at(...parts)).mode & 0o777).toBe(0o700);
  });

  it('leaves a folder, or a link to one, as it is', async () => {
    await make(at('there'), 0o755);
    await make(at('there'));
    expect(statSync(at('there')).mode & 0o777).toBe(0o755);
    symlinkSync('there', at('link'));
    await make(at('link', 'below'));
    expect(existsSync(at('there', 'below'))).toBe(true);
  });

  it('tells what stands in the way', async () => {
    await make(at());
    writeFileSync(at('file'), '');
    symlinkSync('nowhere', at('dangling'));
    await expect(make(at('file'))).rejects.toMatchObject({ code: 'EEXIST' });
    await expect(make(at('file', 'below'))).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(make(at('dangling'))).rejects.toMatchObject({ code: 'EEXIST' });
  });

  it('gives up where a file system makes no folder at all', async () => {
    await expect(make('/proc/phd-no-such/state')).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

it('several at once make one folder', async () => {
  const names = Array.from({ length: 20 }, (_, n) => path.join(root, 'race', 'x', 'y', String(n % 2)));
  await Promise.all(names.map((name) => makeFolder(name)));
  expect(execFileSync('ls', [path.join(root, 'race', 'x', 'y')], { encoding: 'utf8' })).toBe('0\n1\n');
});

it('a home that cannot be made ends the program with its name', () => {
  const env = { ...process.env, PHD_HOME: '/proc/phd-no-such' };
  const { status, stderr } = spawnSync(process.execPath, [MAIN, 'list'], {
    env,
    encoding: 'utf8',
    timeout: 30_000,
  });
  expect(stderr).toBe('phd: cannot make folder /proc/phd-no-such: no such file or directory\n');
  expect(status).toBe(1);
});
