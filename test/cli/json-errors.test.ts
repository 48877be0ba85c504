/** A program that reads `--json` learns of every failure on standard output, also where nothing was begun. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { linesOf, Tale } from '../tales/tale.ts';

let tale: Tale;

beforeAll(() => {
  tale = new Tale();
});
afterAll(() => tale.remove());

describe('with --json a command that fails as a whole prints one line with event, code and message', () => {
  const commands: [string, string[], string][] = [
    ['backup', ['backup', 'none', '--full', '--delta'], 'USAGE'],
    ['index', ['index', '--target', '9'], 'USAGE'],
    ['list', ['list', '--date', 'today'], 'USAGE'],
    ['restore', ['restore', '--vm', 'none', '--to', 'out'], 'NOT_FOUND'],
    ['restore without a needed option', ['restore', '1:a/b'], 'USAGE'],
    ['verify', ['verify'], 'USAGE'],
    ['verify of a disk', ['verify', '--disk', 'a', '--against', 'none.phd'], 'NOT_FOUND'],
    ['vmx', ['vmx', 'none.phd', '--to', 'out'], 'NOT_FOUND'],
    ['target test', ['target', 'test', '9'], 'USAGE'],
    ['target speed-test', ['target', 'speed-test', '9'], 'USAGE'],
    ['jobs list', ['jobs', 'list', '--state', 'lost'], 'USAGE'],
    ['jobs show', ['jobs', 'show', '99'], 'NOT_FOUND'],
    ['jobs kill', ['jobs', 'kill', '99'], 'NOT_FOUND'],
    ['jobs retry', ['jobs', 'retry', '99'], 'NOT_FOUND'],
    ['locks show', ['locks', 'show', '--nothing'], 'USAGE'],
    ['an unknown option', ['list', '--colour'], 'USAGE'],
  ];
  it.each(commands)('%s', async (_name, words, code) => {
    const run = await tale.phd([...words, '--json'], { cwd: tale.path() });
    expect(run.status).toBe(code === 'USAGE' ? 2 : 1);
    const [line, ...others] = linesOf(run);
    expect(others).toEqual([]);
    expect(line).toMatchObject({ event: 'error', code, archive: null, disk: null });
    expect(run.stderr).toBe(`phd: ${line?.message}\n`);
  });

  it('a broken phd.yaml', async () => {
    tale.home.writeConfig('targets: 7\n');
    for (const words of [['list'], ['target', 'list'], ['index'], ['restore', '1:a/b', '--to', 'out']]) {
      const run = await tale.phd([...words, '--json']);
      expect(run.status).toBe(2);
      expect(linesOf(run)).toMatchObject([{ event: 'error', code: 'CONFIG_INVALID' }]);
    }
    tale.configure({});
  });

  it('a lock', async () => {
    await tale.phd(['locks', 'stop', '--backup']);
    const run = await tale.phd(['backup', tale.path(), '--json']);
    await tale.phd(['locks', 'clear']);
    expect(run.status).toBe(5);
    expect(linesOf(run)).toMatchObject([{ event: 'error', code: 'LOCKED' }]);
  });

  it('without --json nothing of the kind', async () => {
    expect((await tale.phd(['index', '--target', '9'])).stdout).toBe('');
  });
});
