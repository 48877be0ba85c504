/** Passes of replication through the built program: one home, small disks, no daemon unless a test starts one. */
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { geometryOf } from '../../src/archive/geometry.ts';
import { headMark } from '../../src/datastore/unfinished-disk.ts';
import { writeRecord } from '../../src/engine/redo-record.ts';
import { Queue } from '../../src/queue/queue.ts';
import { submitterOf } from '../../src/queue/submitter.ts';
import { readPassState } from '../../src/replication/pass-state.ts';
import { isPassDue } from '../../src/replication/status.ts';
import { changeImage, makeVmFolder, type TestVm } from '../support/disk-images.ts';
import {
  fileDigest,
  flipByte,
  fullBlock,
  HOOK_TIMEOUT_MS,
  linesOf,
  only,
  type Run,
  runProgram,
  sha256,
  Tale,
  until,
} from '../tales/tale.ts';

const BLOCK = 262_144;

/** A replica as a kill leaves it while its blocks are put in: the mark, old bytes, the right ones beside it, the record. */
async function makeMix(file: string): Promise<void> {
  const disk = readFileSync(file);
  writeFileSync(`${file}.inplace.part`, disk);
  const digests = [0, 1].map((block) => ({
    block,
    digest: sha256(disk.subarray(block * BLOCK, (block + 1) * BLOCK)),
  }));
  const about = { geometry: geometryOf(disk.length), archive: 'the archive' };
  await writeRecord(
    `${file}.unfinished`,
    about,
    (async function* () {
      yield* digests;
    })(),
  );
  headMark(disk.length).copy(disk);
  disk.fill(7, BLOCK);
  writeFileSync(file, disk);
}

let tale: Tale;
let queue: Queue;
let crm: TestVm;
let erp: TestVm;

beforeAll(async () => {
  tale = new Tale();
  crm = await tale.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: 2 * BLOCK }]);
  erp = await tale.makeVm('ERP', [{ name: 'ERP.vmdk', sizeBytes: 2 * BLOCK }]);
  await tale.backup(crm.folder);
  await tale.backup(erp.folder);
  mkdirSync(tale.path('vmfs', 'standby'));
  queue = new Queue({ configDir: tale.path(), stateDir: tale.path('state'), logDir: tale.path('log') });
}, HOOK_TIMEOUT_MS);

beforeEach(() => {
  rmSync(tale.path('vmfs', 'standby'), { recursive: true });
  mkdirSync(tale.path('vmfs', 'standby'));
  rmSync(tale.path('state', 'restored.log'), { force: true });
  rmSync(tale.path('state', 'replication.json'), { force: true });
  queue.removePending();
  queue.purge();
});

afterAll(() => {
  queue.close();
  tale.remove();
});

const goal = (...parts: string[]): string => tale.path('vmfs', 'standby', ...parts);
const flat = (vm: string): string => goal(vm, `${vm}-flat.vmdk`);
const lineOf = (vm: string, to = goal(vm, `${vm}.vmdk`)): string => `RESTORE:${vm}|*|00|${vm}.vmdk|${to}`;
const original = (vm: TestVm): string => fileDigest(vm.disks[0]?.flatPath as string);
const write = (...lines: string[]): void =>
  writeFileSync(tale.path('vmdks.auto'), lines.map((line) => `${line}\n`).join(''), { mode: 0o600 });
const replicate = (...words: string[]): Promise<Run> => tale.phd(['replicate', ...words, '--json']);
const pass = (...words: string[]): Promise<Run> => replicate('run', '--assume-off', ...words);
const passState = () => readPassState(queue.places);
const decisions = (run: Run): unknown[] => linesOf(run, 'line').map(({ decision }) => decision);
const ends = (run: Run, event = 'done'): unknown[] => linesOf(run, event).map(({ goal: where }) => where);

describe('phd replicate run', () => {
  it('restores what each line names as one group, proved, and says so in restored.log; again there is nothing to do', async () => {
    write('## standby', lineOf('CRM'), lineOf('ERP'));
    const dry = await replicate('run', '--dry-run');
    expect([dry.status, decisions(dry)]).toEqual([0, ['restore', 'restore']]);
    expect(queue.db.jobs()).toEqual([]);
    expect(existsSync(flat('CRM'))).toBe(false);

    const first = await pass();
    expect([first.status, decisions(first)]).toEqual([0, ['restore', 'restore']]);
    expect([fileDigest(flat('CRM')), fileDigest(flat('ERP'))]).toEqual([original(crm), original(erp)]);
    expect(existsSync(goal('CRM', 'CRM.vmdk'))).toBe(true);
    const jobs = queue.db.jobs();
    expect(new Set(jobs.map(({ groupId }) => groupId)).size).toBe(1);
    expect(jobs.map(({ state }) => state)).toEqual(['done', 'done']);
    const log = readFileSync(tale.path('state', 'restored.log'), 'utf8').split('\n');
    expect(log[2]).toMatch(/^20\S+Z\t1:\S+\t\/\S+CRM\.vmdk\t524288\trestored$/);
    const entries = linesOf(await replicate('log'));
    expect(entries.map(({ goal: where, bytes }) => [where, bytes])).toEqual([
      [goal('CRM', 'CRM.vmdk'), 2 * BLOCK],
      [goal('ERP', 'ERP.vmdk'), 2 * BLOCK],
    ]);

    const second = await pass();
    expect([second.status, decisions(second)]).toEqual([0, ['already restored', 'already restored']]);
    expect(queue.db.jobs()).toHaveLength(2);

    // A log that was cut keeps its whole lines; the archive of the cut one is restored again, on a line of its own.
    const file = tale.path('state', 'restored.log');
    writeFileSync(file, readFileSync(file, 'utf8').slice(0, -30));
    const third = await pass();
    expect(decisions(third)).toEqual(['already restored', 'restore']);
    expect(third.stderr).toContain('restored.log: no entry in line 4');
    expect(ends(third)).toEqual([goal('ERP', 'ERP.vmdk')]);
    expect(linesOf(await replicate('log', '--clear'))).toEqual([{ event: 'cleared', entries: 2 }]);
    expect(decisions(await replicate('run', '--dry-run', '--assume-off'))).toEqual(['restore', 'restore']);
  });

  it('names what is wrong with a line, and the others are restored all the same', async () => {
    const away = tale.home.folder('elsewhere');
    write(
      'RESTORE:CRM|CRM.vmdk',
      lineOf('CRM', path.join(away, 'CRM.vmdk')),
      lineOf('CRM', tale.path('vmfs', 'gone', 'CRM', 'CRM.vmdk')),
      lineOf('NONE'),
      lineOf('ERP'),
      lineOf('CRM', goal('ERP', 'ERP.vmdk')),
      '#ARGS=ignore',
      lineOf('CRM', goal('link', 'CRM.vmdk')),
    );
    symlinkSync(away, goal('link'));
    const run = await pass();
    expect(run.status).toBe(2);
    expect(decisions(run)).toEqual([
      'fault',
      'fault',
      'refused',
      'refused',
      'no match',
      'restore',
      'refused',
      'refused',
    ]);
    const { stderr } = run;
    expect(stderr).toContain(`${tale.path('vmdks.auto')}:1: 2 fields`);
    expect(stderr).toContain('lies outside every datastore');
    expect(stderr).toMatch(/vmfs\/gone is not there: is its volume mounted\?/);
    expect(stderr).toContain(`line 5 restores onto ${goal('ERP', 'ERP.vmdk')} already`);
    expect(stderr).toContain(':7: ARGS=ignore is refused');
    expect(existsSync(tale.path('vmfs', 'gone'))).toBe(false);
    expect(readdirSync(away)).toEqual([]);
    expect(fileDigest(flat('ERP'))).toBe(original(erp));
    expect(linesOf(run, 'pass')).toMatchObject([{ restored: 1, failed: 4, faults: 2 }]);
  });

  it('a running VM as goal is refused by name, with and without a word that it is off', async () => {
    write(lineOf('CRM'), lineOf('ERP'));
    await pass();
    await replicate('log', '--clear');
    const held = openSync(flat('CRM'), 'r+');
    try {
      const run = await pass();
      expect(run.status).toBe(5);
      expect(decisions(run)).toEqual(['refused', 'restore']);
      expect(run.stderr).toContain(`${flat('CRM')} is in use`);
      expect(ends(run)).toEqual([goal('ERP', 'ERP.vmdk')]);
    } finally {
      closeSync(held);
    }
    const retried = await pass('--retry-failed');
    expect([retried.status, decisions(retried)]).toEqual([0, ['restore']]);
    expect(linesOf(await replicate('status'))).toMatchObject([{ failed: [], restored: 1, lines: 2 }]);
  });

  it('a damaged archive fails alone; --retry-failed tries that line again, as the same job, once it is mended', async () => {
    write(lineOf('CRM'), lineOf('ERP'));
    const { full } = only((await tale.backup(crm.folder)).disks);
    const file = tale.file(full);
    // Not in the very middle: of these disks it lies between two stored pieces, where a bit may be of no account.
    const middle = fullBlock(file).middle + 2_000;
    flipByte(file, middle);
    const run = await pass();
    expect(run.status).toBe(3);
    expect(ends(run)).toEqual([goal('ERP', 'ERP.vmdk')]);
    expect(ends(run, 'error')).toEqual([goal('CRM', 'CRM.vmdk')]);
    expect(existsSync(flat('CRM'))).toBe(false);
    expect(linesOf(await replicate('log')).map(({ goal: where }) => where)).toEqual([
      goal('ERP', 'ERP.vmdk'),
    ]);
    const [status] = linesOf(await replicate('status'));
    expect(status).toMatchObject({ failed: [{ goal: goal('CRM', 'CRM.vmdk'), code: 'DIGEST_MISMATCH' }] });
    flipByte(file, middle);
    const retried = await pass('--retry-failed');
    expect([retried.status, decisions(retried)]).toEqual([0, ['restore']]);
    expect(fileDigest(flat('CRM'))).toBe(original(crm));
    const [job] = queue.db.jobs().filter(({ attempt }) => attempt === 2);
    expect(job?.state).toBe('done');
    expect(queue.db.jobs()).toHaveLength(2);
  });

  it('restores of the day overwrite the replica of the day before, which stays whole when the new one fails', async () => {
    write('#ARGS=noerrors verify', lineOf('ERP'));
    expect(linesOf(await pass(), 'done')).toMatchObject([{ result: 'restored and verified' }]);
    const before = fileDigest(flat('ERP'));
    await changeImage(erp.disks[0]?.flatPath as string, 2, 'next day');
    const { archive } = only((await tale.backup(erp.folder)).disks);
    const file = tale.file(archive);
    renameSync(file, `${file}.away`);
    expect(decisions(await pass())).toEqual(['already restored']);
    expect(fileDigest(flat('ERP'))).toBe(before);
    renameSync(`${file}.away`, file);
    expect(decisions(await pass())).toEqual(['restore']);
    expect(fileDigest(flat('ERP'))).toBe(original(erp));
    expect(fileDigest(flat('ERP'))).not.toBe(before);
    // In place: the line is the same as for a disk that is not there yet, and nothing came from the FULL.
    const [last] = queue.db.jobs();
    expect(JSON.parse(last?.request ?? '')).toMatchObject({ inPlace: 'if there' });
    expect(JSON.parse(last?.result ?? '')).toMatchObject({ fromFull: 0 });
  });

  it('a replica that a kill left as a mix is finished although its line has nothing to do, or restored again', async () => {
    write(lineOf('CRM'));
    await pass();
    const file = flat('CRM');
    await makeMix(file);
    const [dry] = linesOf(await replicate('run', '--dry-run', '--assume-off'), 'line');
    expect(dry).toMatchObject({
      decision: 'already restored',
      warnings: [expect.stringContaining('broken off')],
    });
    const settled = await pass();
    expect([settled.status, decisions(settled)]).toEqual([0, ['already restored']]);
    expect(settled.stderr).toContain(`${file}: an in-place restore was broken off`);
    expect(fileDigest(file)).toBe(original(crm));
    const names = ['CRM-flat.vmdk', 'CRM.vmdk'];
    expect(readdirSync(goal('CRM')).sort()).toEqual(names);

    await makeMix(file);
    flipByte(`${file}.inplace.part`, BLOCK + 5);
    const again = await pass();
    expect([again.status, ends(again)]).toEqual([0, [goal('CRM', 'CRM.vmdk')]]);
    expect(again.stderr).toContain('restore the disk whole');
    expect(fileDigest(file)).toBe(original(crm));
    expect(readdirSync(goal('CRM')).sort()).toEqual(names);
  });

  it('2,000 lines of another system: CRLF, no last newline, a log that was cut in half; one reason for each', async () => {
    write(lineOf('CRM'), lineOf('ERP'));
    await pass();
    const log = tale.path('state', 'restored.log');
    const text = readFileSync(log, 'utf8');
    writeFileSync(log, text.slice(0, text.indexOf('\n1:') + Math.floor(text.length * 0.75)));
    const unknown = (n: number): string =>
      `RESTORE:CRM|${String(n).padStart(8, '0')}-1111-2222-3333-444444444444|00|CRM.vmdk|${goal(`v${n}`, 'CRM.vmdk')}`;
    const lines = Array.from({ length: 1_996 }, (_, n) => unknown(n));
    lines.push('RESTORE:CRM|x', lineOf('ERP'), lineOf('CRM', goal('ERP', 'ERP-flat.vmdk')), lineOf('CRM'));
    writeFileSync(tale.path('vmdks.auto'), lines.join('\r\n'), { mode: 0o600 });
    const run = await pass();
    expect(run.status).toBe(2);
    const counts = new Map<unknown, number>();
    for (const one of decisions(run)) counts.set(one, (counts.get(one) ?? 0) + 1);
    expect(counts.get('no match')).toBe(1_996);
    expect(counts.get('fault')).toBe(1);
    expect(counts.get('refused')).toBe(1);
    expect((counts.get('restore') ?? 0) + (counts.get('already restored') ?? 0)).toBe(2);
    expect(run.stderr).toContain(`line 1998 restores onto ${goal('ERP', 'ERP-flat.vmdk')} already`);
    expect(run.stderr).toContain('restored.log: no entry in line');
    expect([fileDigest(flat('CRM')), fileDigest(flat('ERP'))]).toEqual([original(crm), original(erp)]);
  });

  it('never runs twice at once, and not while restores are stopped', async () => {
    write(lineOf('CRM'));
    const runs = await Promise.all([pass(), pass(), pass()]);
    const statuses = runs.map(({ status }) => status);
    expect(statuses.filter((status) => status === 0).length).toBeGreaterThanOrEqual(1);
    expect(statuses.filter((status) => status !== 0 && status !== 5)).toEqual([]);
    expect(queue.db.jobs()).toHaveLength(1);
    await replicate('log', '--clear');
    queue.db.setLock({ kind: 'restore', by: submitterOf({}), at: queue.now() });
    const stopped = await pass();
    queue.db.clearLock('restore');
    expect(stopped.status).toBe(5);
    expect(stopped.stderr).toContain('restores are stopped by');
    expect(queue.db.jobs()).toHaveLength(1);
  });

  it('of a pass that was killed the next one takes up the jobs: none is queued twice, and what was done is logged', async () => {
    write(lineOf('CRM'), lineOf('ERP'));
    const killed = await tale.phd(['replicate', 'run', '--json', '--assume-off'], {
      onStart: (child) => {
        const look = setInterval(() => {
          if (queue.db.jobs().length === 2) {
            clearInterval(look);
            child.kill('SIGKILL');
          }
        }, 2);
      },
    });
    expect(killed.signal).toBe('SIGKILL');
    const next = await pass();
    expect(next.status).toBe(0);
    expect(queue.db.jobs()).toHaveLength(2);
    expect([fileDigest(flat('CRM')), fileDigest(flat('ERP'))]).toEqual([original(crm), original(erp)]);
    expect(linesOf(await replicate('log'))).toHaveLength(2);
  });

  it('passphrases in a file that is open to others stop everything, and no output shows them', async () => {
    write('#USE_SPASS=open sesame', lineOf('CRM'));
    chmodSync(tale.path('vmdks.auto'), 0o644);
    const refused = await pass();
    expect(refused.status).toBe(2);
    expect(refused.stderr).toContain('chmod 600');
    chmodSync(tale.path('vmdks.auto'), 0o600);
    const run = await pass();
    expect(run.status).toBe(0);
    expect(run.stderr).toContain('phd passphrase set');
    const said = [refused, run].map(({ stdout, stderr }) => stdout + stderr).join('');
    expect(said).not.toContain('sesame');
    // By another process: reading jobs.db here would drop the locks that SQLite has on it.
    const kept = await runProgram('grep', ['-rla', 'sesame', tale.path('state'), tale.path('log')]);
    expect([kept.status, kept.stdout]).toEqual([1, '']);
  });
});

describe('phd replicate load', () => {
  it('appends each disk once, commented out, on the default volume; a # taken away lets it run', async () => {
    rmSync(tale.path('vmdks.auto'), { force: true });
    const none = await pass();
    expect(none.status).toBe(2);
    expect(none.stderr).toContain('phd replicate load makes it');
    tale.configure({ config: `replication: { defaultVolume: vmfs/standby }\n` });
    const first = await replicate('load');
    expect([first.status, linesOf(first)]).toMatchObject([0, [{ event: 'loaded', added: 2, known: 0 }]]);
    const text = readFileSync(tale.path('vmdks.auto'), 'utf8');
    const { uuid } = linesOf(await tale.phd(['list', '--vm', 'CRM', '--json']))[0] ?? {};
    expect(text).toContain(`\n#RESTORE:CRM|${uuid}|00|CRM.vmdk|${goal('CRM', 'CRM.vmdk')}\n`);
    expect(decisions(await pass())).toEqual([]);
    expect(linesOf(await replicate('load'))).toMatchObject([{ added: 0, known: 2 }]);
    expect(readFileSync(tale.path('vmdks.auto'), 'utf8')).toBe(text);
    writeFileSync(tale.path('vmdks.auto'), text.replace('#RESTORE:CRM', 'RESTORE:CRM'));
    expect(ends(await pass())).toEqual([goal('CRM', 'CRM.vmdk')]);
    tale.configure({});
  });

  it('gives VMs of one name folders of their own: a pass restores each, and neither over the other', async () => {
    const twins: TestVm[] = [];
    for (const at of [0, 1]) {
      const vm = await makeVmFolder(tale.path('vmfs', `store${at}`), {
        vmName: 'Twin',
        disks: [{ name: 'Twin.vmdk', sizeBytes: (2 + at) * BLOCK }],
        seed: `twin ${at}`,
      });
      await tale.backup(vm.folder);
      twins.push(vm);
    }
    rmSync(tale.path('vmdks.auto'), { force: true });
    tale.configure({ config: 'replication: { defaultVolume: vmfs/standby }\n' });
    await replicate('load');
    const lines = readFileSync(tale.path('vmdks.auto'), 'utf8').split('\n');
    write(...lines.filter((line) => line.startsWith('#RESTORE:Twin')).map((line) => line.slice(1)));
    const run = await pass();
    expect([run.status, decisions(run)]).toEqual([0, ['restore', 'restore']]);
    const made = ends(run).map((where) => fileDigest(String(where).replace('.vmdk', '-flat.vmdk')));
    expect(made.sort()).toEqual(twins.map(original).sort());
    tale.configure({});
  });
});

describe('the daemon', () => {
  it('runs a pass when it is due, and takes a changed setting at once', async () => {
    write(lineOf('CRM'));
    tale.configure({ config: 'replication: { enabled: false, assumeOff: true }\n' });
    await tale.phd(['daemon', 'start']);
    try {
      expect(linesOf(await replicate('enable'))).toEqual([{ enabled: true, everyMinutes: 60 }]);
      await until(async () => existsSync(tale.path('state', 'restored.log')));
      expect(fileDigest(flat('CRM'))).toBe(original(crm));
      await until(async () => (await passState()).endedAt !== null);
      expect(linesOf(await replicate('status'))).toMatchObject([
        { enabled: true, daemon: true, running: false, lines: 1, faults: 0, restored: 1, failed: [] },
      ]);
      expect(linesOf(await replicate('disable'))).toMatchObject([{ enabled: false }]);
      expect(queue.db.jobs()).toHaveLength(1);
      // With the restore queue off the daemon starts none of a pass; a pass by hand runs them itself.
      tale.configure({ config: 'replication: { assumeOff: true }\njobs: { restoreQueue: false }\n' });
      write(lineOf('ERP'));
      expect(ends(await pass())).toEqual([goal('ERP', 'ERP.vmdk')]);
      expect(fileDigest(flat('ERP'))).toBe(original(erp));
    } finally {
      await tale.phd(['daemon', 'stop', '--now']);
      tale.configure({});
    }
  });

  it('is due after the time, never while disabled, and when the clock was set back', async () => {
    write(lineOf('CRM'));
    const due = (iso: string): Promise<boolean> => isPassDue(queue.places, Date.parse(iso));
    expect(await due('2026-11-20T12:00:00Z')).toBe(false);
    tale.configure({ config: 'replication: { enabled: true, everyMinutes: 30 }\n' });
    expect(await due('2026-11-20T12:00:00Z')).toBe(true);
    writeFileSync(tale.path('state', 'replication.json'), '{"startedAt":"2026-11-20T12:00:00.000Z"}');
    expect(await due('2026-11-20T12:29:59Z')).toBe(false);
    expect(await due('2026-11-20T12:30:00Z')).toBe(true);
    expect(await due('2026-11-19T12:00:00Z')).toBe(true);
    writeFileSync(tale.path('state', 'replication.json'), '{"startedAt":"2026-11-');
    expect(await due('2026-11-20T12:00:01Z')).toBe(true);
    const queueOff = 'jobs: { restoreQueue: false }\n';
    tale.configure({ config: `replication: { enabled: true }\n${queueOff}` });
    expect(await due('2026-11-20T12:00:01Z')).toBe(false);
    tale.configure({});
  });
});
