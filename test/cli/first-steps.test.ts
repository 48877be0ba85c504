/** An empty home: every command says what to do next. */
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Tale } from '../tales/tale.ts';

let tale: Tale;

beforeAll(async () => {
  tale = new Tale();
  rmSync(tale.path('phd.yaml'));
  await tale.makeVm('database', [{ name: 'database.vmdk', sizeBytes: 262_144 }]);
});
afterAll(() => tale.remove());

describe('from nothing to a restore', () => {
  it('without a target, commands say how to add one', async () => {
    const index = await tale.phd(['index']);
    expect(index).toMatchObject({ status: 2, stdout: '' });
    for (const run of [index, await tale.phd(['target', 'list']), await tale.phd(['list'])])
      expect(run.stderr).toMatch(/names no target; phd target add adds one\n$/);
    const backup = await tale.phd(['backup', tale.path('vmfs', 'database')]);
    expect(backup.status).toBe(2);
    expect(backup.stderr).toContain('no target that may be written is configured');
  });

  it('target add names all that it lacks', async () => {
    const run = await tale.phd(['target', 'add', '1', '--transport', 'ssh', '--path', '/a']);
    expect(run).toMatchObject({ status: 2, stderr: 'phd: target add: --name, --host, --user missing\n' });
  });

  it('one added, a missing folder is told wherever it is asked for, and all goes on once it is there', async () => {
    const place = tale.path('two');
    const add = ['target', 'add', '1', '--name', 'local', '--transport', 'vmfs', '--path', place];
    expect((await tale.phd(add)).stdout).toBe('target 1 is added: phd target test 1 tries it\n');
    const missing = `${place} does not exist: make the folder, or mount what belongs there`;
    for (const words of [['index'], ['backup', tale.path('vmfs', 'database')]]) {
      const run = await tale.phd(words);
      expect(run.status).toBe(4);
      expect(run.stderr.split(missing)).toHaveLength(2);
    }
    expect((await tale.phd(['target', 'list'])).stdout).toContain(`never listed; ${missing}\n`);
    tale.home.folder('two');
    expect((await tale.phd(['backup', tale.path('vmfs', 'database')])).status).toBe(0);
    expect((await tale.phd(['restore', '--vm', 'database', '--to', tale.newFolder()])).status).toBe(0);
  });

  it('a VM that is not in the index is answered with the nearest that is', async () => {
    const run = await tale.phd(['restore', '--vm', 'Databse', '--to', tale.newFolder()]);
    expect(run.status).toBe(1);
    expect(run.stderr).toContain('there is no VM "Databse" in the index; did you mean "database"?');
  });

  it('encryption without a passphrase says how to set one', async () => {
    const run = await tale.phd(['backup', tale.path('vmfs', 'database'), '--encrypt']);
    expect(run.status).toBe(7);
    expect(run.stderr).toContain('no system passphrase is configured: phd passphrase set makes one');
  });

  it('nothing to do is told', async () => {
    expect((await tale.phd(['jobs', 'list'])).stderr).toBe('phd: no job waits, runs or is kept\n');
    tale.configure({ targets: ['empty'] });
    const run = await tale.phd(['verify', '--target', '1']);
    expect(run).toMatchObject({ status: 0, stderr: 'phd: there is nothing to verify on target 1\n' });
  });
});
