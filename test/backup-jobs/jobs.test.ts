/** Backup jobs through the real program: preview, run, schedule, hooks, retention, holds. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type * as Due from '../../src/backup-jobs/due-jobs.ts';
import type * as Prune from '../../src/backup-jobs/prune.ts';
import type * as Records from '../../src/backup-jobs/run-record.ts';
import type * as Engine from '../../src/engine/index.ts';
import { Queue } from '../../src/queue/queue.ts';
import { submitterOf } from '../../src/queue/submitter.ts';
import { changeImage } from '../support/disk-images.ts';
import { HOOK_TIMEOUT_MS, linesOf, MIB, only, Tale, until } from '../tales/tale.ts';

const BUILT = new URL('../../dist/src/', import.meta.url).href;
const engine = (await import(`${BUILT}engine/index.js`)) as typeof Engine;
const { dueJobs } = (await import(`${BUILT}backup-jobs/due-jobs.js`)) as typeof Due;
const { planPrune, prune } = (await import(`${BUILT}backup-jobs/prune.js`)) as typeof Prune;
const { readRecords } = (await import(`${BUILT}backup-jobs/run-record.js`)) as typeof Records;

let tale: Tale;

function configure(jobs: string): void {
  tale.configure({ targets: ['one', 'two'], config: `backupJobs:\n${jobs}` });
}

const records = () =>
  readRecords({ configDir: tale.path(), stateDir: tale.path('state'), logDir: tale.path('log') });

beforeAll(async () => {
  tale = new Tale();
  for (const name of ['web1', 'web2', 'db 1', 'scratch'])
    await tale.makeVm(name, [
      { name: `${name}.vmdk`, sizeBytes: MIB },
      ...(name === 'web1' ? [{ name: 'swap.vmdk', sizeBytes: MIB }] : []),
    ]);
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());

describe('phd preview', () => {
  it('says what is done VM by VM, why, and which VMs no job takes', async () => {
    configure(`  - { name: nightly, vms: ["web*:3", "db 1"], exclude: [web2], targets: [1, 2], keep: 7, full: sat 22:00, delta: mon-fri 22:00, excludeDisks: ["swap*"] }
  - { name: off, enabled: false, vms: ["*"] }
`);
    const run = await tale.phd(['preview']);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stdout).toMatch(/nightly: next FULL \d{4}-\d\d-\d\d 22:00, DELTA \d{4}-\d\d-\d\d 22:00/);
    expect(run.stdout).toMatch(
      /web1 \(.*vmfs\): FULL to target 1, 1 disk, 1\.0 MB, keeps 3 last; taken by web\*; no FULL is on target 1/,
    );
    expect(run.stdout).toMatch(/db 1 \(.*\): FULL to target 2, .*keeps 7 last/);
    expect(run.stdout).toContain('- web2: exclude web2');
    expect(run.stdout).toMatch(/no job takes web2 /);
    expect(run.stdout).toMatch(/no job takes scratch /);
  });

  it('and config check name every mistake; one job stops no other', async () => {
    configure(`  - { name: a, vms: ["/(?=x)/"], full: "0 0 30 2 *" }
  - { name: b, vms: [nobody, "x*"], targets: [9] }
  - { name: c, vms: ["web*"] }
`);
    const check = await tale.phd(['config', 'check']);
    expect(check.status).toBe(2);
    for (const words of ['job a: "/(?=x)/": lookaround', 'never comes', 'job b: there is no target 9'])
      expect(check.stderr).toContain(words);
    const run = await tale.phd(['preview']);
    expect(run.status).toBe(2);
    expect(run.stderr).toContain('job a: "/(?=x)/": lookaround');
    expect(run.stdout).toContain('c: only by hand');
    configure('  - { name: b, vms: [nobody, "x*"] }\n');
    const other = await tale.phd(['preview', 'b']);
    expect(other.stderr).toContain('b: nobody: there is no such VM');
    expect(other.stderr).toContain('b: x*: no VM matches');
  });

  it('of a NAUbackup file shows its settings and lists', async () => {
    const file = tale.home.write(
      'weekend.cfg',
      'max_backups=3\nvm-export=web.*\nvdi-export=web2:9\nexclude=db.*\nvm-export=db 1\n',
    );
    const run = await tale.phd(['preview', '--nau', file]);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stdout).toContain('maxBackups       = 3');
    expect(run.stdout).toContain('vdi-export (1): web2:9');
    expect(run.stdout).toContain('vm-export (1): web1');
    expect(run.stdout).toContain('excluded (1): db 1');
    const wrong = await tale.phd(['preview', '--nau', 'vm-export=nobody']);
    expect(wrong.status).toBe(2);
    expect(wrong.stderr).toContain('there is no such VM');
  });
});

describe('phd backup --job', () => {
  it('backs up its VMs to all its targets as jobs of the queue, without the disks it leaves out', async () => {
    const log = tale.path('hooks.txt');
    configure(`  - name: nightly
    vms: ["web*"]
    targets: [1, 2]
    codec: zstd
    excludeDisks: ["swap*"]
    hooks:
      beforeRun: echo "before $PHD_JOB $PHD_MODE" >> ${log}
      beforeVm: echo "vm $PHD_VM $PHD_MODE $PHD_TARGET $PHD_VM_FOLDER" >> ${log}; echo "a word from the hook"
      afterVm: echo "after $PHD_RESULT" >> ${log}
      afterRun: echo "end $PHD_RESULT" >> ${log}
`);
    const run = await tale.phd(['backup', '--job', 'nightly']);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stdout).toContain('nightly: 4 of 4 backups of 2 VMs done');
    for (const target of ['one', 'two']) {
      const files = tale.filesOn(target);
      expect(files.filter((file) => file.endsWith('.phd'))).toHaveLength(4);
      expect(files.filter((file) => file.includes('swap'))).toEqual([]);
    }
    const told = readFileSync(log, 'utf8').split('\n');
    expect(told[0]).toBe('before nightly delta');
    expect(told.filter((line) => line.startsWith('vm ')).sort()).toEqual(
      ['web1', 'web2'].flatMap((vm) =>
        [1, 2].map((target) => `vm ${vm} delta ${target} ${tale.path('vmfs', vm)}`),
      ),
    );
    expect(told.filter((line) => line === 'after done')).toHaveLength(4);
    expect(told.at(-2)).toBe('end done');
    expect(readFileSync(tale.path('log', 'phd.log'), 'utf8')).toContain(
      'beforeVm of nightly: a word from the hook',
    );
    const jobs = linesOf(await tale.phd(['jobs', 'list', '--json']));
    expect(jobs.filter(({ kind, state }) => kind === 'backup' && /^done/.test(String(state)))).toHaveLength(
      4,
    );
    expect(records()[0]).toMatchObject({ job: 'nightly', mode: 'delta', errors: [], isKilled: false });
    expect(records()[0]?.vms.map(({ target }) => target)).toEqual([1, 2, 1, 2]);
    // A run without disks that were left out on purpose is whole.
    expect(
      linesOf(await tale.phd(['list', '--json', '--vm', 'web1'])).every(({ complete }) => complete),
    ).toBe(true);
  });

  it('is kept from a VM by its hook, from the run by that before it; the hooks after are run in any case', async () => {
    const log = tale.path('no.txt');
    configure(`  - name: a
    vms: [web1, web2]
    targets: [1]
    hooks: { beforeVm: 'test "$PHD_VM" != web1', afterVm: 'echo "$PHD_RESULT" >> ${log}', afterRun: 'echo "end $PHD_RESULT" >> ${log}' }
`);
    const run = await tale.phd(['backup', '--job', 'a', '--json']);
    expect(run.status).toBe(1);
    const [record] = linesOf(run, 'run') as never as { vms: Record<string, unknown>[] }[];
    expect(record?.vms).toMatchObject([
      { vm: 'web1', result: 'failed', message: expect.stringContaining('beforeVm of a ended with status 1') },
      { vm: 'web2', result: expect.stringMatching(/^(done|warnings)$/) },
    ]);
    expect(readFileSync(log, 'utf8')).toBe('PROGRAM_FAILED\ndone\nend failed\n');
    configure(
      `  - { name: a, vms: [web1], hooks: { beforeRun: "sleep 60", timeoutSeconds: 1, afterRun: 'echo "over $PHD_RESULT" >> ${log}' } }\n`,
    );
    const stopped = await tale.phd(['backup', '--job', 'a']);
    expect(stopped.status).toBe(1);
    expect(stopped.stdout).toContain('beforeRun of a took longer than 1 s');
    expect(readFileSync(log, 'utf8')).toMatch(/over failed\n$/);
    const pidFile = tale.path('left.pid');
    configure(
      `  - { name: a, vms: [web1], hooks: { beforeRun: "setsid sleep 600 & echo $! > ${pidFile}; exit 3", timeoutSeconds: 300 } }\n`,
    );
    const left = await tale.phd(['backup', '--job', 'a']);
    process.kill(Number(readFileSync(pidFile, 'utf8')));
    expect(left.stdout).toContain('beforeRun of a ended with status 3');
    expect(records()[0]?.vms).toEqual([]);
  });

  it('goes on past a name without a VM and a VM that cannot be backed up, and fails', async () => {
    mkdirSync(tale.path('vmfs', 'broken'));
    writeFileSync(
      tale.path('vmfs', 'broken', 'broken.vmx'),
      'scsi0:0.present = "TRUE"\nscsi0:0.fileName = "gone.vmdk"\n',
    );
    configure('  - { name: a, vms: [web1, broken, nobody], targets: [1] }\n');
    const run = await tale.phd(['backup', '--job', 'a']);
    expect(run.status).toBe(1);
    expect(run.stdout).toContain('nobody: there is no such VM');
    expect(run.stdout).toContain('a: 1 of 2 VMs backed up');
    rmSync(tale.path('vmfs', 'broken'), { recursive: true });
  });

  it('runs once at a time; a run that was killed is told by the next', async () => {
    configure('  - { name: a, vms: [web1], targets: [1], hooks: { beforeRun: "sleep 30" } }\n');
    const { spawn } = await import('node:child_process');
    const child = spawn(
      process.execPath,
      [path.join(new URL('../../', import.meta.url).pathname, 'dist/src/main.js'), 'backup', '--job', 'a'],
      { env: tale.home.env, stdio: 'ignore' },
    );
    await until(() => {
      const file = tale.path('state', 'backup-jobs', 'a.json');
      return existsSync(file) && JSON.parse(readFileSync(file, 'utf8')).running !== null;
    });
    const second = await tale.phd(['backup', '--job', 'a']);
    expect(second.status).toBe(5);
    expect(second.stderr).toContain('backup job a runs already');
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('close', resolve));
    const status = await tale.phd(['status']);
    expect(status.status).toBe(2);
    expect(status.stdout).toMatch(/critical +backup job a: its run of .* was killed before its end/);
    configure('  - { name: a, vms: [web1], targets: [1] }\n');
    expect((await tale.phd(['backup', '--job', 'a'])).status).toBe(0);
    expect(records().slice(0, 2)).toMatchObject([
      { isKilled: false, errors: [] },
      { isKilled: true, errors: [expect.stringContaining('was killed before its end')] },
    ]);
  });
});

describe('A log folder that is full', () => {
  it('ends no job, no retention and no daemon: it is told once', async () => {
    const host = new Tale({
      config: 'backupJobs:\n  - { name: a, vms: [CRM], keep: 1 }\nreports: { statusLog: log/status.log }\n',
    });
    const log = host.home.folder('log');
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', log]);
    try {
      await host.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: MIB }]);
      expect(() => writeFileSync(path.join(log, 'filler'), Buffer.alloc(128 * 1024))).toThrow(/ENOSPC/);
      for (const removed of ['', ', 1 old run removed']) {
        const run = await host.phd(['backup', '--job', 'a', '--full']);
        expect(run.status, run.stdout + run.stderr).toBe(0);
        expect(run.stdout).toContain('a: 1 of 1 VM backed up');
        expect(run.stdout).toContain(removed);
        expect(run.stderr.match(/cannot write the log .*the work goes on without/g)).toHaveLength(1);
      }
      expect(host.filesOn('one').filter((file) => file.endsWith('.phd'))).toHaveLength(2);
      expect((await host.phd(['daemon', 'start'])).status).toBe(0);
      expect((await host.phd(['daemon', 'status'])).status).toBe(0);
      expect((await host.phd(['daemon', 'stop'])).status).toBe(0);
      // Without a daemon the run puts a copy of the configuration on the target it wrote to.
      expect(readdirSync(host.path('one')).join()).toMatch(/phd-config/);
    } finally {
      execFileSync('umount', ['-l', log]);
      host.remove();
    }
  });
});

describe('A run that was killed', () => {
  it('is told with what became of its VMs; what it had queued is not begun later', async () => {
    configure('  - { name: killed, vms: [web1], targets: [1] }\n');
    expect((await tale.phd(['backup', '--job', 'killed'])).status).toBe(0);
    const { runId } = records()[0]!;
    const queue = new Queue({
      configDir: tale.path(),
      stateDir: tale.path('state'),
      logDir: tale.path('log'),
    });
    const folder = tale.path('vmfs', 'web2');
    const [waiting] = queue.submit('backup', [{ folder, target: 1, run: runId }], submitterOf({}));
    const file = tale.path('state', 'backup-jobs', 'killed.json');
    const running = {
      runId,
      startedAt: new Date().toISOString(),
      mode: 'delta',
      process: { pid: 1, startTicks: '-', bootId: 'of another start' },
      tasks: ['web1', 'web2', 'db 1'].map((vm) => ({ vm, from: tale.path('vmfs'), target: 1 })),
    };
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), running }));
    const run = await tale.phd(['backup', '--job', 'killed']);
    expect(run.status, run.stderr).toBe(0);
    expect(records()[1]).toMatchObject({
      isKilled: true,
      vms: [
        { vm: 'web1', target: 1, code: null, disks: 2 },
        { vm: 'web2', target: 1, code: 'CANCELLED', job: waiting?.id },
        {
          vm: 'db 1',
          target: 1,
          code: 'CANCELLED',
          job: null,
          message: 'the run was killed before it was begun',
        },
      ],
    });
    expect(queue.db.job(waiting?.id ?? 0)?.state).toBe('cancelled');
    queue.close();
  });

  it('of which nothing more is begun names the VMs that were not come to', async () => {
    configure(
      '  - { name: called-off, vms: [web1, web2, "db 1"], targets: [1], hooks: { beforeVm: "sleep 60" } }\n',
    );
    const run = tale.phd(['backup', '--job', 'called-off'], {
      onStart: (child) => {
        void until(() => {
          const jobs = new Queue({
            configDir: tale.path(),
            stateDir: tale.path('state'),
            logDir: tale.path('log'),
          });
          const isRunning = jobs.db.jobs({ states: ['running'] }).length > 0;
          jobs.close();
          return isRunning;
        }).then(() => child.kill('SIGINT'));
      },
    });
    expect((await run).status).toBe(130);
    expect(
      records()[0]
        ?.vms.map(({ vm, code }) => [vm, code])
        .sort(),
    ).toEqual([
      ['db 1', 'CANCELLED'],
      ['web1', 'CANCELLED'],
      ['web2', 'CANCELLED'],
    ]);
  });
});

describe('The schedule', () => {
  it('makes a job due once, also for what was missed; a FULL takes the place of a DELTA; a new job waits for its time', async () => {
    configure(
      '  - { name: s, vms: [web1], full: sat 22:00, delta: daily 22:00 }\n  - { name: broken, vms: ["/[/"], full: sat 22:00 }\n',
    );
    let now = new Date(2026, 10, 26, 12, 0);
    const context = await engine.openContext({ env: tale.home.env, clock: { now: () => now } });
    try {
      const due = async (): Promise<string[]> =>
        (await dueJobs(context.places, context.config, now)).due.map(
          ({ job, mode }) => `${job.config.name} ${mode}`,
        );
      expect(await due()).toEqual([]);
      now = new Date(2026, 10, 26, 21, 59);
      expect(await due()).toEqual([]);
      now = new Date(2026, 10, 26, 22, 0);
      expect(await due()).toEqual(['s delta']);
      now = new Date(2026, 10, 29, 9, 0);
      expect(await due()).toEqual(['s full']);
      const file = tale.path('state', 'backup-jobs', 's.json');
      const ran = {
        ...JSON.parse(readFileSync(file, 'utf8')),
        lastFullAt: now.toISOString(),
        lastRunAt: now.toISOString(),
      };
      writeFileSync(file, JSON.stringify(ran));
      expect(await due()).toEqual([]);
      // The clock goes back by a month: what comes next in the new time is due.
      now = new Date(2026, 9, 20, 21, 0);
      expect(await due()).toEqual([]);
      now = new Date(2026, 9, 20, 22, 30);
      expect((await dueJobs(context.places, context.config, now)).faults).toEqual([
        expect.stringContaining('job broken: '),
      ]);
    } finally {
      await context.close();
    }
  });

  it('is kept by the daemon', async () => {
    configure('  - { name: each, vms: [scratch], targets: [2], delta: "* * * * *" }\n');
    await tale.phd(['backup', '--due']);
    const file = tale.path('state', 'backup-jobs', 'each.json');
    writeFileSync(
      file,
      JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), seenAt: '2026-01-01T00:00:00.000Z' }),
    );
    await tale.phd(['daemon', 'start']);
    try {
      await until(() => records()[0]?.job === 'each');
    } finally {
      await tale.phd(['daemon', 'stop', '--now']);
    }
    expect(records()[0]).toMatchObject({ errors: [], vms: [{ vm: 'scratch', code: null, target: 2 }] });
  });
});

describe('A run that the daemon has started', () => {
  /** The first VM is held up until `go` is there. */
  async function begun(): Promise<void> {
    for (const name of ['go', 'begun']) rmSync(tale.path(name), { force: true });
    const hold = `touch ${tale.path('begun')}; while [ ! -e ${tale.path('go')} ]; do sleep 0.1; done`;
    configure(
      `  - { name: night, vms: [web1, web2], targets: [1], delta: "* * * * *", atOnce: 1, hooks: { beforeVm: "${hold}" } }\n`,
    );
    const file = tale.path('state', 'backup-jobs', 'night.json');
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, '{"seenAt":"2026-01-01T00:00:00.000Z"}');
    await tale.phd(['daemon', 'start']);
    await until(() => existsSync(tale.path('begun')));
  }
  const go = (): void => writeFileSync(tale.path('go'), '');
  const runs = () => records().filter(({ job }) => job === 'night');

  it('is waited for by daemon stop: what is under way ends, nothing more is begun', async () => {
    await begun();
    const before = runs().length;
    const stop = await tale.phd(['daemon', 'stop']);
    expect([stop.status, stop.stdout]).toEqual([
      0,
      'the daemon starts nothing new and stops after what backup job night has begun\n',
    ]);
    expect(runs()).toHaveLength(before);
    go();
    await until(() => runs().length > before);
    expect(runs()[0]?.vms).toMatchObject([
      { vm: 'web1', code: null },
      { vm: 'web2', code: 'CANCELLED', message: 'the daemon was stopped: it was not begun' },
    ]);
    expect(await tale.phd(['daemon', 'stop'])).toMatchObject({ status: 0 });
  });

  it('goes on without a daemon that was killed', async () => {
    await begun();
    const before = runs().length;
    const { pid } = linesOf(await tale.phd(['daemon', 'status', '--json']))[0]!;
    process.kill(Number(pid), 'SIGTERM');
    await until(async () => (await tale.phd(['daemon', 'status'])).status === 1);
    go();
    await until(() => runs().length > before);
    expect(runs()[0]?.vms).toMatchObject([
      { vm: 'web1', code: null },
      { vm: 'web2', code: null },
    ]);
  });
});

describe('Retention', () => {
  it('removes what the rules do not keep, never a FULL in need, never what is held; restores go on', async () => {
    const host = new Tale({ config: 'backupJobs:\n  - { name: keep2, vms: ["CRM"], keep: 2 }\n' });
    try {
      const vm = await host.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: 2 * MIB }]);
      const flat = vm.disks[0]?.flatPath as string;
      let now = new Date(2026, 10, 1, 22, 0);
      const context = await engine.openContext({ env: host.home.env, clock: { now: () => now } });
      const stamps: string[] = [];
      for (let day = 1; day <= 8; day++) {
        now = new Date(2026, 10, day, 22, 0);
        const { disks } = await engine.backup(context, {
          folder: vm.folder,
          mode: day === 1 || day === 5 ? 'full' : 'delta',
        });
        stamps.push(`${only(disks).folder}/${only(disks).deltaFile}`);
        changeImage(flat, 1, String(day));
      }
      await context.close();
      const heldDays = async (): Promise<unknown[]> =>
        linesOf(await host.phd(['list', '--json', '--mode', 'delta']))
          .filter(({ held }) => held)
          .map(({ path: file }) => file);
      expect(await heldDays()).toEqual([]);
      expect((await host.phd(['hold', `1:${stamps[2]}`])).status).toBe(0);
      expect(await heldDays()).toEqual([stamps[2]]);
      expect((await host.phd(['list'])).stdout.split('\n').filter((line) => / held /.test(line))).toEqual([
        expect.stringContaining(stamps[2]!),
      ]);
      const dry = await host.phd(['prune', '--dry-run', '--json']);
      expect(dry.status, dry.stderr).toBe(0);
      const goes = linesOf(dry, 'remove').map(({ stamp }) => String(stamp).slice(8, 10));
      expect(goes).toEqual(['06', '04', '02']);
      const stays = linesOf(dry, 'keep').map(
        ({ stamp, reason }) => `${String(stamp).slice(8, 10)} ${reason}`,
      );
      expect(stays).toEqual([
        '08 one of the last 2 (1)',
        '07 one of the last 2 (2)',
        '05 the FULL of 2026-11-08 22:00',
        '03 held',
        '01 the FULL of 2026-11-03 22:00',
      ]);
      expect(host.filesOn('one').filter((file) => file.endsWith('.phd'))).toHaveLength(10);
      const run = await host.phd(['prune']);
      expect(run.status, run.stderr).toBe(0);
      expect(run.stdout).toContain('CRM: 3 runs removed from target 1');
      const left = linesOf(await host.phd(['list', '--json', '--mode', 'delta']));
      expect(left).toHaveLength(5);
      for (const row of left) {
        const archive = stamps.find((one) =>
          one.includes(`delta-${String(row.time).slice(0, 10).replaceAll('-', '.')}`),
        );
        await host.restore([`1:${archive}`, '--to', host.newFolder()]);
      }
      expect((await host.phd(['hold', `1:${stamps[2]}`, '--release'])).status).toBe(0);
      expect(await heldDays()).toEqual([]);
      expect((await host.phd(['hold', `1:${stamps[2]}`, '--release'])).status).toBe(1);
      await keepsTheFullOfADeltaThatStays(host);
      expect((await host.phd(['prune'])).stdout).toContain('CRM: 2 runs removed from target 1');
      expect(host.filesOn('one').filter((file) => !/CRM/.test(file))).toEqual([]);
    } finally {
      host.remove();
    }
  });

  it('removes nothing by a clock that is wrong, nor where two jobs share a VM and a target', async () => {
    const host = new Tale({ config: 'backupJobs:\n  - { name: a, vms: ["CRM"], keep: 1 }\n' });
    try {
      const vm = await host.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: MIB }]);
      const uuid =
        (await host.backup(vm.folder)).disks.length === 1
          ? linesOf(await host.phd(['list', '--json']))[0]?.uuid
          : '';
      const now = new Date(2020, 0, 1);
      const context = await engine.openContext({ env: host.home.env, clock: { now: () => now } });
      try {
        const rules = { last: 1, daily: 0, weekly: 0, monthly: 0 };
        await expect(
          planPrune(context, { targetNumber: 1, uuid: String(uuid) }, rules),
        ).rejects.toMatchObject({ code: 'LOCKED' });
      } finally {
        await context.close();
      }
      host.configure({
        config:
          'backupJobs:\n  - { name: a, vms: ["CRM"], keep: 1 }\n  - { name: b, vms: ["*"], keep: 9, targets: [1] }\n',
      });
      // One of them names its target, the other means the first: it is the same, whether or not a job is named.
      for (const words of [['prune'], ['prune', 'a', '--dry-run']]) {
        const run = await host.phd(words);
        expect(run.stderr).toContain('CRM is in several jobs with target 1: nothing of it is removed');
      }
    } finally {
      host.remove();
    }
  });

  it('follows each run of a job, after the backup', async () => {
    const host = new Tale({ config: 'backupJobs:\n  - { name: a, vms: ["CRM:1"] }\n' });
    try {
      await host.makeVm('CRM', [{ name: 'CRM.vmdk', sizeBytes: MIB }]);
      for (let turn = 0; turn < 2; turn++)
        expect((await host.phd(['backup', '--job', 'a', '--full'])).status).toBe(0);
      expect(host.filesOn('one').filter((file) => file.endsWith('.phd'))).toHaveLength(2);
    } finally {
      host.remove();
    }
  });
});

/** Of the two runs that are to go, the DELTA of the 3rd cannot be removed: the FULL of the 1st stays with it. */
async function keepsTheFullOfADeltaThatStays(host: Tale): Promise<void> {
  const context = await engine.openContext({ env: host.home.env });
  try {
    const storage = await context.storage(1);
    const remove = storage.remove.bind(storage);
    storage.remove = async (name) => {
      if (name.includes('delta-2026.11.03')) throw new Error('the disk says no');
      await remove(name);
    };
    const uuid = String(linesOf(await host.phd(['list', '--json']))[0]?.uuid);
    const rules = { last: 2, daily: 0, weekly: 0, monthly: 0 };
    const planned = await planPrune(context, { targetNumber: 1, uuid }, rules);
    const warnings: string[] = [];
    const before = host.filesOn('one');
    expect(await prune(context, planned, (message) => void warnings.push(message))).toBe(0);
    expect(warnings).toEqual([expect.stringContaining('the disk says no')]);
    expect(host.filesOn('one')).toEqual(before);
    expect(before.filter((file) => file.endsWith('.phd'))).toHaveLength(7);
  } finally {
    await context.close();
  }
}
