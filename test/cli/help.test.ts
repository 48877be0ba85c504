/** Help as a newcomer asks for it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type * as Program from '../../src/cli/program.ts';
import { Tale } from '../tales/tale.ts';

const { runProgram } = (await import(
  new URL('../../dist/src/cli/program.js', import.meta.url).href
)) as typeof Program;

let tale: Tale;

beforeAll(() => {
  tale = new Tale();
});
afterAll(() => tale.remove());

/** What the program says, run in this process: sixty starts would take longer than all else here. */
async function said(words: string[]): Promise<string> {
  let text = '';
  const stream = { isTTY: false, columns: 80, write: (part: string) => (text += part) };
  const streams = { stdin: process.stdin, stdout: stream, stderr: stream } as never;
  const door = { open: async () => 0, printedKeys: async () => [] };
  await runProgram(words, tale.home.env, streams, new AbortController().signal, door);
  return text;
}

/** The help of a command and of all below it, by the words of the command. */
async function allHelp(words: string[] = []): Promise<Map<string, string>> {
  const stdout = await said([...words, '--help']);
  const list = /\nCommands:\n([\s\S]*?)(\n\n|$)/.exec(stdout)?.[1] ?? '';
  const names = [...list.matchAll(/^ {2}([a-z][\w-]*)/gm)].map(([, name]) => name as string);
  const all = new Map([[words.join(' '), stdout]]);
  for (const name of names.filter((one) => one !== 'help')) {
    for (const [inner, text] of await allHelp([...words, name])) all.set(inner, text);
  }
  return all;
}

describe('the help of every command', () => {
  it('fits a terminal of 80 columns, but for the settings of targets and hosts', async () => {
    const all = await allHelp();
    expect(all.size).toBeGreaterThan(40);
    for (const [words, text] of all) {
      const isSettings = /^(target|host) (add|edit)$/.test(words);
      const long = text.split('\n').filter((line) => line.length > (isSettings ? 100 : 80));
      expect(long, words).toEqual([]);
    }
  });

  it('config names the defaults as they are', async () => {
    const { stdout } = await tale.phd(['help', 'config']);
    const defaults = [...stdout.matchAll(/^ {2}([a-zA-Z.]+): (\S+) /gm)];
    expect(defaults.length).toBeGreaterThan(7);
    for (const [, key, value] of defaults) {
      const json = await said(['config', 'get', key as string]);
      expect([key, String(JSON.parse(json))]).toEqual([key, value === '[]' ? 'vmfs' : value]);
    }
  });
});

describe('phd help', () => {
  it('COMMAND is COMMAND --help, whatever the depth', async () => {
    for (const words of [['backup'], ['target'], ['target', 'add'], []]) {
      const help = await tale.phd(['help', ...words]);
      const option = await tale.phd([...words, '--help']);
      expect(help).toEqual(option);
      expect(help.status).toBe(0);
      expect(help.stdout).toContain(`Usage: phd ${[...words, ''].join(' ')}`);
    }
  });

  it('of a command that is not there names the nearest', async () => {
    const run = await tale.phd(['help', 'restor']);
    expect(run.status).toBe(2);
    expect(run.stderr).toBe('phd: there is no command "restor": did you mean restore? See phd --help\n');
    const inner = await tale.phd(['help', 'target', 'ad']);
    expect(inner.stderr).toContain('did you mean add? See phd target --help');
  });
});

describe('a slip of the pen is answered with what may be meant', () => {
  it.each([
    [['restor'], 'there is no command "restor": did you mean restore? See phd --help'],
    [['target', 'tst'], 'there is no command "tst": did you mean test? See phd target --help'],
    [['list', '--jsn'], "unknown option '--jsn'; did you mean --json?"],
    [['restor', '--vm', 'x'], 'there is no command "restor": did you mean restore? See phd --help'],
    [['restore', '--vm', 'x', '--too', '/tmp/x'], "unknown option '--too'; did you mean --to?"],
    [['list', 'crm'], '"crm": phd list takes options only; see phd list --help'],
    [['jobs', 'list', '28'], '"28": phd jobs list takes options only; see phd jobs list --help'],
    [
      ['target', 'remove', '1', 'two', 'three'],
      '"two" "three": phd target remove takes number; see phd target remove --help',
    ],
  ])('%j', async (words, said) => {
    expect(await tale.phd(words)).toMatchObject({ status: 2, stdout: '', stderr: `phd: ${said}\n` });
  });

  it('a key of the configuration is set all the same: a newer version may know it', async () => {
    const run = await tale.phd(['config', 'set', 'backup.encypt', 'true']);
    expect(run.status).toBe(0);
    expect(run.stderr).toContain(
      'backup.encypt: this key is not known and does nothing; did you mean encrypt?',
    );
    await tale.phd(['config', 'set', 'backup.encypt', '--remove']);
    expect((await tale.phd(['config', 'set', 'jobs.atOnce', '2'])).stderr).toBe('');
  });
});
