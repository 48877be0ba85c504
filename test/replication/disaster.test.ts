/**
 * The day the host is gone: an FTP server that was just refilled from tape, an empty host, and the ten steps to thirty
 * running VMs, by keys alone. One archive is damaged, one target dies on the way, one volume is full: all else is
 * restored, these are named with their reasons, and what failed is gone over again once they are mended.
 * `PHD_CAMPAIGN=1` gives every VM two disks.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type * as Engine from '../../src/engine/index.ts';
import { Queue } from '../../src/queue/queue.ts';
import { readPassState } from '../../src/replication/pass-state.ts';
import { readRestoredLog } from '../../src/replication/restored-log.ts';
import { go } from '../console/flows-restore-stage.ts';
import { CAMPAIGN, PHD } from '../faults/farm.ts';
import { type ConsolePty, closeAll, open } from '../support/console-pty.ts';
import { changeImage, makeVmFolder } from '../support/disk-images.ts';
import { startVsftpd } from '../support/servers/ftpd.ts';
import { type RunningServer, TEST_UID } from '../support/servers/own-namespace.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';
import { fileDigest, flipByte, fullBlock, HOOK_TIMEOUT_MS, linesOf, runProgram } from '../tales/tale.ts';

const BLOCK = 262_144;
const VMS = Array.from({ length: 30 }, (_, at) => `vm${String(at + 1).padStart(2, '0')}`);
/** A pass restores dozens of disks. */
const PASS_MS = 300_000;
/** On the target that dies. */
const FAR = ['vm29', 'vm30'];
/** Of these a DELTA differs from its FULL. */
const OF_TWO_DAYS = ['vm10', 'vm30'];
const DAMAGED = 'vm05';
const CRAMPED = 'vm07';
const DISKS = VMS.flatMap(disksOf);

let esx01: TempHome;
let host: TempHome;
let near: RunningServer;
let far: RunningServer;
/** Digests of all disks by `VM/DISK`. */
const originals = new Map<string, string>();

const tape = (name: string): string => path.join(esx01.root, name);
const standby = (...parts: string[]): string => path.join(host.root, 'vmfs', ...parts);

/** Thirty VMs of two disks, backed up onto two targets; of some a DELTA differs from its FULL. */
async function backUpFarm(): Promise<void> {
  const engine = (await import(
    new URL('../../dist/src/engine/index.js', import.meta.url).pathname
  )) as typeof Engine;
  esx01.writeConfig(
    'targets:\n  - { number: 1, name: near, transport: vmfs, path: near }\n  - { number: 2, name: far, transport: vmfs, path: far }\n',
  );
  for (const name of ['near', 'far']) esx01.folder(name);
  let now = new Date(2026, 10, 20, 0, 1);
  const context = await engine.openContext({ env: esx01.env, clock: { now: () => now } });
  try {
    const waiting = [...VMS];
    const work = async (): Promise<void> => {
      for (let vmName = waiting.shift(); vmName !== undefined; vmName = waiting.shift())
        await backUpVm(engine, context, vmName);
    };
    await Promise.all([work(), work(), work()]);
    now = new Date(2026, 10, 21, 0, 1);
    for (const vmName of OF_TWO_DAYS) {
      for (const disk of disksOf(vmName)) await changeImage(tape(`vmfs/${disk}`), 3, `${disk} the day after`);
      await backUpVm(engine, context, vmName);
    }
  } finally {
    await context.close();
  }
}

/** Backs up a VM, which is made if it is not there, and notes what is in its disks. */
async function backUpVm(engine: typeof Engine, context: Engine.EngineContext, vmName: string): Promise<void> {
  const folder = path.join(tape('vmfs'), vmName);
  if (!existsSync(folder)) {
    const disks = disksOf(vmName).map((flat, at) => ({
      name: path.basename(flat).replace('-flat', ''),
      sizeBytes: at === 0 ? 2 * BLOCK : BLOCK,
    }));
    await makeVmFolder(esx01.folder('vmfs'), { vmName, disks });
  }
  const { failed } = await engine.backup(context, { folder, target: FAR.includes(vmName) ? 2 : 1 });
  expect(failed).toEqual([]);
  for (const disk of disksOf(vmName)) originals.set(disk, fileDigest(tape(`vmfs/${disk}`)));
}

/** Flats of a VM, relative to its datastore. */
function disksOf(vmName: string): string[] {
  const isOfTwo = CAMPAIGN >= 1 || [...FAR, DAMAGED, CRAMPED].includes(vmName) || vmName.endsWith('0');
  return [`${vmName}/${vmName}-flat.vmdk`, ...(isOfTwo ? [`${vmName}/${vmName}_1-flat.vmdk`] : [])];
}

/** Puts what the tape holds onto a server: files of the account, with the time of now. */
function refill(server: RunningServer, from: string): void {
  const folder = path.join(server.folder, 'backups');
  cpSync(tape(from), folder, { recursive: true });
  execFileSync('chown', ['-R', `${TEST_UID}:${TEST_UID}`, folder]);
}

beforeAll(async () => {
  esx01 = makeTempHome();
  host = makeTempHome();
  for (const folder of ['vmfs', 'vmfs/small']) host.folder(folder);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', standby('small')]);
  [near, far] = await Promise.all([startVsftpd(), startVsftpd(), backUpFarm()]);
  refill(near, 'near');
  refill(far, 'far');
}, HOOK_TIMEOUT_MS);

afterAll(async () => {
  await closeAll();
  await runProgram(process.execPath, [PHD, 'daemon', 'stop', '--now'], { env: host.env });
  execFileSync('umount', [standby('small')]);
  host.remove();
  esx01.remove();
  await near?.stop();
  await far?.stop();
});

/** Answers of the questions for an FTP server, from its number on. */
async function giveFtpServer(
  console_: ConsolePty,
  number: string,
  name: string,
  server: RunningServer,
): Promise<void> {
  await go(console_, [
    [['f'], 'Its number'],
    [['ctrl-u'], /^>$/m],
    [`${number}\r`, 'Its name'],
    [['ctrl-u'], /^>$/m],
    [`${name}\r`, 'Host name or address'],
    [`${server.host}\r`, 'Port'],
    [['ctrl-u'], /^>$/m],
    [`${server.port}\r`, 'User on that host'],
    [`${server.user}\r`, 'Password of'],
    [`${server.password}\r`, 'explicit TLS'],
    [['n'], 'Folder of the archives on that host'],
    ['/backups\r', `Target ${number} works`],
  ]);
}

/** An editor that does to the list what a person would: all lines into use, one VM onto the other volume. */
function editor(): string {
  const file = host.write(
    'edit',
    `#!/bin/sh\nsed -i -e 's,^#RESTORE,RESTORE,' -e 's,/vmfs/${CRAMPED}/,/vmfs/small/,' "$1"\n`,
  );
  chmodSync(file, 0o700);
  return file;
}

/** The flat of a disk as the list places it. */
function flatOf(name: string): string {
  const [vm = '', file = ''] = name.split('/');
  return vm === CRAMPED ? standby('small', file) : standby(vm, file);
}

/** Names of disks that are there byte for byte; throws if one is there and wrong. */
function restoredDisks(): string[] {
  return DISKS.filter((name) => {
    const flat = flatOf(name);
    if (!existsSync(flat)) return false;
    expect(fileDigest(flat), name).toBe(originals.get(name));
    return true;
  });
}

it(
  'thirty VMs come back in ten steps; what could not is named, and comes back once it can',
  async () => {
    const queue = new Queue({
      configDir: host.root,
      stateDir: host.folder('state'),
      logDir: host.folder('log'),
    });
    const console_ = open({ args: ['--thin'], env: { ...host.env, EDITOR: editor(), VISUAL: '' } });
    try {
      // Steps 1 and 2 are the servers; 3: the program on an empty host.
      await go(console_, [
        [[], 'Welcome to phd'],
        [['s'], 'Where do the archives of this target lie?'],
      ]);
      await giveFtpServer(console_, '1', 'near', near);
      await go(console_, [
        [['enter'], 'Folder in which virtual disks live'],
        [['ctrl-u'], /^>$/m],
        [`${standby()}\r`, 'Encrypt backups?'],
        [['n'], 'All of it stands in'],
        [['enter'], 'Status: idle'],
        [['c'], /^Configuration$/m],
        [['t'], /> +1 +/],
        [['n'], 'Where do the archives of this target lie?'],
      ]);
      await giveFtpServer(console_, '2', 'far', far);
      await go(console_, [
        [['enter'], /2 +far/],
        [['esc'], /^> T +Targets/m],
        [['r'], 'Number of jobs at once: 1'],
        [['n'], 'How many jobs'],
        [['backspace'], /^>$/m],
        ['4\r', 'Number of jobs at once: 4'],
        [['esc'], /^> R /m],
        [['esc'], 'Main menu'],
        [['2'], /S +Start/],
        [['s'], 'The daemon runs since'],
        [['esc'], 'Daemon: running'],
        // 4 to 6: the list of what there is, and what is wanted of it.
        [['e'], /^Restore$/m],
        [['r'], 'No vmdks.auto yet: F makes it.'],
        [['f'], `${DISKS.length} lines added, commented out`],
        [['enter'], '0 lines in vmdks.auto.'],
        [['e'], `${DISKS.length} lines in use, no faults.`],
      ]);
      const full = readdirSync(path.join(near.folder, 'backups'), { recursive: true, encoding: 'utf8' }).find(
        (name) => name.includes(DAMAGED) && /00-.*\.gz-/.test(name),
      );
      const damagedFile = path.join(near.folder, 'backups', full ?? '');
      const { middle } = fullBlock(damagedFile);
      flipByte(damagedFile, middle + 2_000);
      await far.stop();

      // 7: the mass restore. It has an end although the three cannot come to theirs.
      await go(console_, [[['r'], /Run it\?/]]);
      console_.press('y');
      await console_.waitFor('The pass has ended.', PASS_MS);
      expect(console_.text).toContain(`${DISKS.length - 7} disks restored, 7 failed, 0 up to date`);
      const lost = [disksOf(DAMAGED)[0], ...[...FAR, CRAMPED].flatMap(disksOf)];
      expect(restoredDisks()).toEqual(DISKS.filter((name) => !lost.includes(name)));
      const { failed } = await readPassState(queue.places);
      expect(failed.map(({ code }) => code).sort()).toEqual([
        'DIGEST_MISMATCH',
        'NO_SPACE',
        'NO_SPACE',
        'TARGET_UNREACHABLE',
        'TARGET_UNREACHABLE',
        'TARGET_UNREACHABLE',
        'TARGET_UNREACHABLE',
      ]);

      // 8 and 9: who looks is told.
      await go(console_, [
        [['esc'], /Last pass: .* restored, 7 failed\.[\s\S]*Failed: vm05\/[\s\S]*and 4 more: G lists them/],
        [['b'], /Background status[\s\S]* failed /],
        [['esc'], /^> B /m],
        [['t'], /^Log .*\n[\s\S]*7 failed/m],
      ]);
      const log = readFileSync(path.join(host.root, 'log', 'phd.log'), 'utf8');
      for (const { goal, message } of failed) expect(log).toContain(`replication: ${goal}: ${message}`);
      const jobs = queue.db.jobs();
      expect(mostAtOnce(jobs)).toBeGreaterThan(1);
      expect(mostAtOnce(jobs)).toBeLessThanOrEqual(4);

      // The tape is read once more, the volume gets room, the server comes back.
      flipByte(damagedFile, middle + 2_000);
      execFileSync('mount', ['-o', 'remount,size=4m', standby('small')]);
      far = await startVsftpd({ port: far.port });
      refill(far, 'far');
      await go(console_, [
        [['esc'], /^> T /m],
        [['g'], /What failed in the last pass[\s\S]*vm05\/vm05\.vmdk +disk vm05\.vmdk: block 0 /],
        [['r'], /Run it\?/],
      ]);
      console_.press('y');
      await console_.waitFor('The pass has ended.', PASS_MS);
      await go(console_, [[['esc'], /Last pass: .*7 restored, 0 failed\./]]);
      expect(restoredDisks()).toEqual(DISKS);
      expect((await readRestoredLog(queue.places)).entries).toHaveLength(DISKS.length);
      const again = await runProgram(process.execPath, [PHD, 'replicate', 'run', '--json'], {
        env: host.env,
      });
      expect(linesOf(again, 'pass')).toMatchObject([
        { restored: 0, failed: 0, counts: { 'already restored': DISKS.length } },
      ]);
    } finally {
      queue.close();
    }
  },
  HOOK_TIMEOUT_MS,
);

/** Most jobs that ran at one time, by what they say of themselves. */
function mostAtOnce(jobs: readonly { startedAt: string | null; endedAt: string | null }[]): number {
  const begins = jobs.flatMap(({ startedAt }) => (startedAt === null ? [] : [startedAt]));
  return Math.max(
    ...begins.map(
      (at) => jobs.filter(({ startedAt, endedAt }) => (startedAt ?? '') <= at && at < (endedAt ?? '')).length,
    ),
  );
}
