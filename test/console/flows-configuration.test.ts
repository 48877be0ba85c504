/**
 * The options of replication and restore, of a target and of encryption, from their menus: phd.yaml keeps its comments
 * and the keys of others, and a daemon that runs goes by what was changed.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Queue } from '../../src/queue/queue.ts';
import { closeAll } from '../support/console-pty.ts';
import { HOOK_TIMEOUT_MS, only, Tale, until } from '../tales/tale.ts';
import { atMainMenu, go } from './flows-restore-stage.ts';

let tale: Tale;
let queue: Queue;
let archive: string;

beforeAll(async () => {
  tale = new Tale({ config: 'encryption: { systemPassphraseFile: secrets/system }\n' });
  tale.home.write('secrets/system', 'the first words\n');
  tale.home.folder('vmfs/standby');
  const vm = await tale.makeVm('Crm', [{ name: 'Crm.vmdk', sizeBytes: 262_144 }]);
  ({ archive } = only((await tale.backup(vm.folder, ['--encrypt'])).disks));
  queue = new Queue({ configDir: tale.path(), stateDir: tale.path('state'), logDir: tale.path('log') });
}, HOOK_TIMEOUT_MS);
afterEach(closeAll);
afterAll(async () => {
  await tale.phd(['daemon', 'stop', '--now']);
  queue.close();
  tale.remove();
});

const yaml = (): string => readFileSync(tale.path('phd.yaml'), 'utf8');
const daemonLog = (): string => readFileSync(tale.path('log', 'daemon.log'), 'utf8');

it('options of replication and restore: kept beside comments and unknown keys, and taken by a daemon that runs', async () => {
  const comments = ['# Ours since 2019.', '# Two at most, says Ronald.', '# Of another program.'];
  writeFileSync(
    tale.path('phd.yaml'),
    `${comments[0]}\n${yaml()}jobs:\n  atOnce: 1 ${comments[1]}\n${comments[2]}\nelsewhere: { deep: [ 1, 2 ] }\n`,
  );
  await tale.phd(['daemon', 'start']);
  const console_ = await atMainMenu(tale);
  await go(console_, [
    [['c'], /^Configuration$/m],
    [['r'], /Restore queue: on[\s\S]*jobs at once: 1[\s\S]*Default volume: \/\S+\/vmfs\n[\s\S]*every 60 min/],
    [['n'], 'make disks and lines wait for one another'],
    [['backspace'], /^>$/m],
    ['5\r', 'a number from 1 to 4'],
    [['backspace'], /^>$/m],
    ['2\r', 'Number of jobs at once: 2'],
    [['i'], 'Minutes from one pass to the next'],
    [['ctrl-u'], /^>$/m],
    ['15\r', 'A pass of replication every 15 min'],
    [['v'], /Lines that are loaded restore to which volume/],
    [['o'], 'Folder that loaded lines restore to'],
    [`${tale.path('one')}\r`, 'this lies in no datastore'],
    [['ctrl-u'], /^>$/m],
    [`${tale.path('vmfs/standby')}\r`, /Default volume: \/\S+\/vmfs\/standby/],
    [['p'], 'Replicas: written whole'],
    [['b'], 'Turn the queue off?'],
    [['y'], 'Restore queue: off'],
  ]);
  await until(() => daemonLog().includes('2 jobs at once, restores wait: the restore queue is off'));
  const text = yaml();
  for (const comment of comments) expect(text).toContain(comment);
  expect(text).toContain('elsewhere: { deep: [ 1, 2 ] }');
  expect(text).toContain(`atOnce: 2 ${comments[1]}`);
  expect(text).toMatch(
    /replication:\n {2}everyMinutes: 15\n {2}defaultVolume: \S+vmfs\/standby\n {2}inPlace: false\n/,
  );

  // Off: what is queued waits and says why; other jobs are run; on again: the same daemon takes it.
  const queued = await tale.phd(['restore', archive, '--to', tale.newFolder(), '--background']);
  expect(queued.stderr).toContain('the restore queue is off (jobs.restoreQueue): jobs wait for');
  expect((await tale.phd(['daemon', 'status'])).stderr).toContain(
    'the restore queue is off (jobs.restoreQueue): restores wait',
  );
  await tale.phd(['verify', archive, '--background']);
  const stateOf = (kind: string): string | undefined =>
    queue.db.jobs().find((job) => job.kind === kind)?.state;
  await until(() => stateOf('verify') === 'done');
  expect(stateOf('restore')).toBe('waiting');
  await go(console_, [[['b'], 'Restore queue: on']]);
  await until(() => stateOf('restore') === 'done');
});

it('a target: read only, limit of bandwidth, most connections; back to none takes the key away', async () => {
  const console_ = await atMainMenu(tale);
  await go(console_, [
    [['c'], /^Configuration$/m],
    [['t'], /> +1 +.*one/],
    [['enter'], /Read only: no[\s\S]*bandwidth: none[\s\S]*connections: as many as it takes/],
    [['r'], 'Read only: yes'],
    [['l'], 'KB a second at most'],
    ['1\r', 'expected a whole number 2 to'],
    [['backspace'], /^>$/m],
    ['5000\r', 'Limit of bandwidth: 5000 KB a second'],
    [['m'], 'Connections at the same time'],
    ['3\r', 'Most connections: 3'],
  ]);
  expect(yaml()).toContain('readOnly: true, bandwidthLimitBytesPerSecond: 5000000, maxConnections: 3 }');
  await go(console_, [
    [['r'], 'Read only: no'],
    [['l'], /^> ?5000/m],
    [['ctrl-u'], /^>$/m],
    [['enter'], 'Limit of bandwidth: none'],
    [['e'], 'Where do the archives of this target lie?'],
    [['enter'], 'Its number'],
    [['enter'], 'Its name'],
    [['ctrl-u'], /^>$/m],
    ['uno\r', 'Folder of the archives'],
    [['enter'], 'Target 1 works'],
    [['enter'], /^1 uno: vmfs[\s\S]*> E +Edit/m],
  ]);
  expect(yaml()).not.toContain('bandwidthLimit');
});

it('encryption: the passphrase is changed, older archives open with the former one, and it is told which with which', async () => {
  const console_ = await atMainMenu(tale);
  await go(console_, [
    [['c'], /^Configuration$/m],
    [['e'], 'System passphrase: set'],
    [['w'], /Opened by the system passphrase: 1 run\n20\S+ \S+ +target 1 +Crm/],
    [['esc'], /^> W /m],
    [['s'], 'New system passphrase'],
    ['the second words\r', 'The same again'],
    ['the second words\r', 'The system passphrase stands in'],
    [['enter'], /^> S /m],
    [['m'], 'New master passphrase'],
    ['words of the master\r', 'The same again'],
    ['words of the master\r', 'The master passphrase stands in'],
    [['enter'], 'Master passphrase: set'],
    [['w'], /Opened by the former 1 passphrase: 1 run/],
    [['esc'], /^> W /m],
    [['t'], 'Passphrase to test'],
    ['words of the master\r', 'This is the master passphrase in use.'],
    [['enter'], /^> T /m],
    [['t'], 'Passphrase to test'],
    ['the first words\r', 'neither the system nor the master passphrase'],
  ]);
  await tale.backup(tale.path('vmfs', 'Crm'), ['--encrypt', '--full', '--target', '1']);
  // A FULL whose DELTA is gone is tried itself.
  rmSync(tale.file(archive));
  await tale.phd(['index', '--force']);
  const run = await tale.phd(['passphrase', 'archives', '--vm', 'crm']);
  expect([run.status, run.stdout.replace(/ {2}1:\S+/g, '')]).toEqual([0, 'system, master\nformer 1\n']);
  const config = yaml();
  writeFileSync(
    tale.path('phd.yaml'),
    config
      .replace(/^ *formerPassphraseFiles:.*\n(?: +- .*\n)*/m, '')
      .replace(/, formerPassphraseFiles: \[[^\]]*\]/, ''),
  );
  const without = await tale.phd(['passphrase', 'archives', '--json']);
  expect(without.status).toBe(7);
  const lines = without.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { opens: string[] });
  expect(lines.map(({ opens }) => opens)).toEqual([['system', 'master'], []]);
  for (const words of ['first words', 'second words', 'of the master'])
    expect(tale.ownTexts().join('\n') + console_.bytes.toString()).not.toContain(words);
});
