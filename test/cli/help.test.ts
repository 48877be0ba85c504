/** Help as a newcomer asks for it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Tale } from '../tales/tale.ts';

let tale: Tale;

beforeAll(() => {
  tale = new Tale();
});
afterAll(() => tale.remove());

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
