/** What `phd config check` finds in a phd.yaml that was written in haste, and what every command says of it. */
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { linesOf, Tale } from '../tales/tale.ts';

let tale: Tale;

beforeAll(() => {
  tale = new Tale();
});
afterAll(() => tale.remove());

const HASTY = `targets:
  - { number: 1, name: one, transport: vmfs, path: one, readonly: true }
  - number: 2
    name: two
    transport: vmfs
    path: two
    colour: blue
datastore: [ vmfs ]
backup:
  encypt: true
index: { maxAgeMinutes: 5 }
`;

describe('phd config check', () => {
  it('names file, line and key of what is not known, and what may be meant; the file is valid all the same', async () => {
    tale.home.writeConfig(HASTY);
    const run = await tale.phd(['config', 'check']);
    const file = tale.path('phd.yaml');
    const words = 'this key is not known and does nothing';
    expect(run.stderr.trimEnd().split('\n')).toEqual([
      `phd: warning: ${file}:2: targets[0].readonly: ${words}; did you mean readOnly?`,
      `phd: warning: ${file}:8: datastore: ${words}; did you mean datastores?`,
      `phd: warning: ${file}:10: backup.encypt: ${words}; did you mean encrypt?`,
      `phd: warning: ${file}:7: targets[1].colour: ${words}`,
      `phd: warning: ${file}: target 2: there is no folder ${tale.path('two')} now`,
    ]);
    expect(run.stdout).toBe(`the configuration in ${tale.path()} is valid\n`);
    expect(run.status).toBe(0);
    const json = await tale.phd(['config', 'check', '--json']);
    expect(linesOf(json).map(({ event }) => event)).toEqual([...Array(5).fill('warning'), 'done']);
  });

  it('of these, every command tells the slips: a setting that was meant is not heeded', async () => {
    tale.home.writeConfig(HASTY);
    const { status, stderr } = await tale.phd(['target', 'list']);
    expect(status).toBe(0);
    expect(stderr.match(/did you mean/g)).toHaveLength(3);
    expect(stderr).not.toContain('colour');
  });

  it('says that there is no file, with status 2', async () => {
    rmSync(tale.path('phd.yaml'));
    const run = await tale.phd(['config', 'check']);
    expect(run.status).toBe(2);
    expect(run.stdout).toBe('');
    expect(run.stderr).toContain(`phd: there is no ${tale.path('phd.yaml')}`);
    tale.configure({});
    expect(await tale.phd(['config', 'check'])).toMatchObject({ status: 0, stderr: '' });
  });

  it('names faults of backup jobs by file and line: what they name and is not there, keys of keep, missing values', async () => {
    const file = tale.path('phd.yaml');
    const jobs = (...lines: string[]): void =>
      tale.configure({
        config: `hosts: [{ name: esx1, type: esx, host: h, user: u, passwordFile: none }]\nbackupJobs:\n${lines.join('\n')}\n`,
      });
    const said = async (): Promise<string[]> =>
      (await tale.phd(['config', 'check'])).stderr
        .trimEnd()
        .split('\n')
        .filter((line) => !/passwordFile|none/.test(line));
    tale.home.write('none', 'x\n', 0o600);
    jobs('  - { name: a, vms: [x], targets: [7] }', '  - name: b', '    vms: [x]', '    from: [esx2]');
    expect(await said()).toEqual([
      `phd: ${file}:6: job a: there is no target 7 that may be written`,
      `phd: ${file}:7: job b: from: there is no host esx2, nor a folder of that name; did you mean esx1?`,
    ]);
    jobs('  - { name: a, vms: [x], from: [/nowhere/at/all], keep: { last: 3, dayly: 7 } }');
    expect(await said()).toEqual([
      `phd: warning: ${file}:6: backupJobs[0].keep.dayly: this key is not known and does nothing; did you mean daily?`,
      `phd: warning: ${file}: job a: there is no folder /nowhere/at/all now`,
    ]);
    jobs('  - { vms: [x] }');
    expect(await said()).toEqual([`phd: ${file}:6: backupJobs[0].name: is missing: expected string`]);
    tale.configure({});
  });

  it('a target that a job names is taken out with a word', async () => {
    tale.configure({
      targets: ['one', 'two'],
      config: 'backupJobs: [{ name: a, vms: [x], targets: [2] }]\n',
    });
    const run = await tale.phd(['target', 'remove', '2']);
    expect(run.status).toBe(0);
    expect(run.stderr).toBe('phd: backup job a still names target 2: change it, see phd config check\n');
    tale.configure({});
  });

  it('gives each fault as a JSON line with --json', async () => {
    tale.home.writeConfig('targets: 7\nindex: 7\n');
    const run = await tale.phd(['config', 'check', '--json']);
    expect(run.status).toBe(2);
    expect(linesOf(run)).toMatchObject(Array(2).fill({ event: 'error', code: 'CONFIG_INVALID' }));
    tale.configure({});
  });
});
