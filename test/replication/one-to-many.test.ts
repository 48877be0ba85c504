/**
 * One to many: ESX01 backs up to an FTP server each night, ESX02 replicates the newest, ESX03 stays two days behind.
 * The clock is moved from hour to hour; each host has a home of its own.
 */
import { chmodSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type * as Engine from '../../src/engine/index.ts';
import type * as QueueModule from '../../src/queue/queue.ts';
import type * as Pass from '../../src/replication/pass.ts';
import { changeImage, makeVmFolder, type TestVm } from '../support/disk-images.ts';
import { startVsftpd } from '../support/servers/ftpd.ts';
import type { RunningServer } from '../support/servers/own-namespace.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';
import { fileDigest, HOOK_TIMEOUT_MS, namesIn } from '../tales/tale.ts';

const built = (file: string): string => new URL(`../../dist/src/${file}`, import.meta.url).pathname;
const DAYS = 4;

let server: RunningServer;
let engine: typeof Engine;
let passes: typeof Pass;
let queues: typeof QueueModule;
let now: Date;
const hosts: Host[] = [];

/** One host: a home with its datastore, the FTP server as its only target. */
class Host {
  readonly home: TempHome;
  readonly context: Engine.EngineContext;
  readonly queue: QueueModule.Queue;

  static async open(lines: readonly string[], isReader: boolean): Promise<Host> {
    const home = makeTempHome();
    home.folder('vmfs/standby');
    home.write('secrets/ftp', `${server.password}\n`);
    const { host, port, user } = server;
    home.writeConfig(
      `targets: [{ number: 2, name: ftp1, transport: ftp, host: ${host}, port: ${port}, user: ${user}, passwordFile: secrets/ftp, path: /backups, readOnly: ${isReader} }]\ndatastores: [vmfs]\n`,
    );
    home.write('vmdks.auto', lines.map((line) => `${line.replace('HOME', home.root)}\n`).join(''));
    const clock = { now: () => now };
    const opened = new Host(home, await engine.openContext({ env: home.env, clock }), clock);
    hosts.push(opened);
    return opened;
  }

  private constructor(home: TempHome, context: Engine.EngineContext, clock: { now: () => Date }) {
    this.home = home;
    this.context = context;
    this.queue = new queues.Queue(context.places, clock);
  }

  get flat(): string {
    return path.join(this.home.root, 'vmfs/standby/email/email-flat.vmdk');
  }

  /** One pass; what its one line did. */
  async pass(): Promise<{ kind: string; restored: number }> {
    const { plan, restored, failed } = await passes.runPass(this.context, this.queue, {
      env: this.home.env,
      retryFailed: false,
      // Nobody here can see into all processes.
      assumeOff: true,
      confirmClock: false,
      signal: new AbortController().signal,
      onPlan: () => undefined,
      onEnd: () => undefined,
      onWarning: () => undefined,
    });
    expect(failed).toEqual([]);
    expect(plan.decisions).toHaveLength(1);
    return { kind: plan.decisions[0]?.kind ?? '', restored };
  }

  async close(): Promise<void> {
    this.queue.close();
    await this.context.close();
    this.home.remove();
  }
}

beforeAll(async () => {
  engine = (await import(built('engine/index.js'))) as typeof Engine;
  passes = (await import(built('replication/pass.js'))) as typeof Pass;
  queues = (await import(built('queue/queue.js'))) as typeof QueueModule;
  server = await startVsftpd();
  mkdirSync(path.join(server.folder, 'backups'));
  chmodSync(path.join(server.folder, 'backups'), 0o777);
}, HOOK_TIMEOUT_MS);

afterAll(async () => {
  for (const host of hosts) await host.close();
  await server?.stop();
});

it('ESX02 has each night the newest, ESX03 that of two days ago, and every other hour nothing is done', async () => {
  const goal = 'HOME/vmfs/standby/email/email.vmdk';
  const esx01 = await Host.open([], false);
  const esx02 = await Host.open([`RESTORE:email|*|00|email.vmdk|${goal}`], true);
  const esx03 = await Host.open(['#USE_DAYS=-2', `RESTORE:email|%|00|email.vmdk|${goal}`], true);
  now = new Date(2026, 10, 20, 0, 1);
  const vm: TestVm = await makeVmFolder(path.join(esx01.home.root, 'vmfs'), {
    vmName: 'email',
    disks: [{ name: 'email.vmdk', sizeBytes: 262_144 }],
  });
  const flat = vm.disks[0]?.flatPath as string;
  const nights: string[] = [];
  const done: [number, number, string, string][] = [];
  for (let day = 0; day < DAYS; day++) {
    now = new Date(2026, 10, 20 + day, 0, 1);
    if (day > 0) await changeImage(flat, 1, `day ${day}`);
    expect((await engine.backup(esx01.context, { folder: vm.folder })).failed).toEqual([]);
    nights.push(fileDigest(flat));
    for (let hour = 1; hour <= 23; hour++) {
      now = new Date(2026, 10, 20 + day, hour, 1);
      const [two, three] = [await esx02.pass(), await esx03.pass()];
      if (hour === 1) {
        done.push([day, two.restored + 10 * three.restored, two.kind, three.kind]);
        expect(fileDigest(esx02.flat)).toBe(nights[day]);
        if (day < 2) expect(namesIn(path.dirname(esx03.flat))).toEqual([]);
        else expect(fileDigest(esx03.flat)).toBe(nights[day - 2]);
      } else {
        expect(two).toEqual({ kind: 'already restored', restored: 0 });
        expect(three).toEqual({ kind: day < 2 ? 'too new' : 'already restored', restored: 0 });
      }
    }
  }
  expect(new Set(nights).size).toBe(DAYS);
  expect(done).toEqual([
    [0, 1, 'restore', 'too new'],
    [1, 1, 'restore', 'too new'],
    [2, 11, 'restore', 'restore'],
    [3, 11, 'restore', 'restore'],
  ]);
  expect([esx02.queue.db.jobs().length, esx03.queue.db.jobs().length]).toEqual([4, 2]);

  // A clock that jumps back a day stops everything until it is looked at; one that jumps on restores at most a day early.
  now = new Date(2026, 10, 22, 12, 0);
  await expect(esx02.pass()).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringContaining('check the clock'),
  });
  now = new Date(2026, 10, 24, 1, 1);
  expect([await esx02.pass(), await esx03.pass()].map(({ kind }) => kind)).toEqual([
    'already restored',
    'restore',
  ]);
  expect(fileDigest(esx03.flat)).toBe(nights[2]);
});
