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
    ]);
    expect(run.stdout).toBe(`the configuration in ${tale.path()} is valid\n`);
    expect(run.status).toBe(0);
    const json = await tale.phd(['config', 'check', '--json']);
    expect(linesOf(json).map(({ event }) => event)).toEqual([...Array(4).fill('warning'), 'done']);
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

  it('gives each fault as a JSON line with --json', async () => {
    tale.home.writeConfig('targets: 7\nindex: 7\n');
    const run = await tale.phd(['config', 'check', '--json']);
    expect(run.status).toBe(2);
    expect(linesOf(run)).toMatchObject(Array(2).fill({ event: 'error', code: 'CONFIG_INVALID' }));
    tale.configure({});
  });
});
