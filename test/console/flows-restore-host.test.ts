/** A VM of the archives put into a pool from the console and by a job, and what the Configuration menu has for the worst day. */
import { existsSync, readdirSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { closeAll } from '../support/console-pty.ts';
import { randomLooking } from '../support/disk-images.ts';
import { type SimulatedEsx, startSimulatedEsx } from '../support/servers/esx/simulated-esx.ts';
import {
  type SimulatedXen,
  startSimulatedXen,
  XEN_PASSWORD,
  XEN_USER,
} from '../support/servers/xen/simulated-xen.ts';
import { BLOCK, HOOK_TIMEOUT_MS, linesOf, sha256, Tale } from '../tales/tale.ts';
import { atMainMenu, go, toArchives } from './flows-restore-stage.ts';

const TALE_MS = 180_000;
const content = randomLooking('shop', 3 * BLOCK);

let tale: Tale;
let xen: SimulatedXen;
let esx: SimulatedEsx;

beforeAll(async () => {
  tale = new Tale();
  [xen, esx] = await Promise.all([startSimulatedXen(), startSimulatedEsx()]);
  esx.addVm({ id: 3, name: 'taken', disks: [] });
  tale.home.write('esx.key', esx.privateKey);
  tale.home.write('esx.known', `[127.0.0.1]:${esx.server.port} ${esx.hostKey}\n`);
  xen.db.addVm({ name: 'shop', disks: [{ name: 'system', content }], macs: ['06:4e:11:22:33:44'] });
  tale.home.write('xen.password', XEN_PASSWORD, 0o600);
  const { address, tlsPin } = xen.members[0]!;
  const access = `host: ${address}, port: ${xen.port}, user: ${XEN_USER}, passwordFile: xen.password, tlsPin: ${tlsPin}`;
  tale.configure({
    config: `hosts:\n  - { name: pool, type: xen, ${access} }\n  - { name: dead, type: xen, host: 127.0.0.9, user: root, passwordFile: xen.password }\n  - { name: esx, type: esx, host: 127.0.0.1, port: ${esx.server.port}, user: ${esx.server.user}, privateKeyFile: esx.key, knownHostsFile: esx.known }\n`,
  });
  const run = await tale.phd(['backup', 'pool/shop']);
  expect(run.status, run.stderr).toBe(0);
}, HOOK_TIMEOUT_MS);
afterEach(closeAll);
afterAll(async () => {
  await Promise.all([xen?.stop(), esx?.stop()]);
  tale.remove();
});

function made(name: string): { digest: string; mac: unknown } {
  const vm = [...xen.db.records.VM.values()].find((one) => one.name_label === name)!;
  const vbd = (vm.VBDs as string[]).map((one) => xen.db.get('VBD', one)).find(({ type }) => type === 'Disk')!;
  const disk = xen.db.disks.get(String(vbd.VDI))!;
  const mac = xen.db.get('VIF', (vm.VIFs as string[])[0]).MAC;
  return { digest: sha256(disk.read(0, disk.sizeBytes)), mac };
}

it(
  'the volumes of hosts stand among the places; a host that does not answer is told and holds up nothing',
  async () => {
    const one = await atMainMenu(tale);
    await go(one, [
      ...toArchives('shop'),
      [['enter'], 'Runs of VM shop'],
      [['enter'], 'Is this the archive?'],
      [['y'], 'On a host: pool, dead, esx'],
      [['h'], 'Not all hosts answer'],
      [['enter'], /> +1 pool:Local storage +ext/],
      [['enter'], 'Restore under this name:'],
      [['ctrl-u'], /^>$/m],
      ['shop again\r', 'Restore onto a host: is all of this right?'],
      [['m'], /MACs +kept, whoever/],
      [['r'], /ALL BLOCKS PROVED|done/],
    ]);
    await one.waitFor('proved: read back and compared');
    await one.assertRepaintIsEqual();
    expect(made('shop again')).toEqual({ digest: sha256(content), mac: '06:4e:11:22:33:44' });
  },
  TALE_MS,
);

it(
  'a name that is taken on a datastore is told before anything is queued',
  async () => {
    const one = await atMainMenu(tale);
    await go(one, [
      ...toArchives('shop'),
      [['enter'], 'Runs of VM shop'],
      [['enter'], 'Is this the archive?'],
      [['y'], 'On a host: pool, dead, esx'],
      [['h'], 'Not all hosts answer'],
      [['enter'], /esx:datastore1/],
      [['down', 'down'], /> +\d+ esx:datastore1/],
      [['enter'], 'Restore under this name:'],
      [['ctrl-u'], /^>$/m],
      ['taken\r', /That name cannot be taken[\s\S]*exists: choose another name/],
      [['enter'], /^> taken/m],
      [['ctrl-u'], /^>$/m],
      ['free\r', 'Restore onto a host: is all of this right?'],
    ]);
  },
  TALE_MS,
);

it('a job of the command line does the same', async () => {
  const words = ['host', 'restore', 'pool', 'shop', '--background', '--json'];
  const queued = await tale.phd([...words, '--name', 'by job', '--new-macs']);
  expect(queued.status, queued.stderr).toBe(0);
  const job = String(linesOf(queued, 'queued')[0]!.job);
  const run = await tale.phd(['jobs', 'start', job]);
  expect(run.status, run.stderr).toBe(0);
  for (let state = ''; !/done|failed/.test(state); ) state = (await tale.phd(['jobs', 'show', job])).stdout;
  expect(made('by job').digest).toBe(sha256(content));
  expect(made('by job').mac).not.toBe('06:4e:11:22:33:44');
  expect((await tale.phd(['jobs', 'show', job])).stdout).toMatch(/pool:/);
});

it(
  'sheet, support bundle and another configuration lie in the Configuration menu',
  async () => {
    const one = await atMainMenu(tale);
    const bundle = tale.path('help.tar.gz');
    await go(one, [
      [['c'], /^Configuration$/m],
      [['s'], 'PHD SHEET of'],
      [['esc'], /^Configuration$/m],
      [['p'], 'Write it to:'],
      [['ctrl-u'], /^>$/m],
      [`${bundle}\r`, 'Look through it before'],
      [['enter'], /^Configuration$/m],
      [['o'], 'Take over the configuration that lies on'],
      [['enter'], /No copy|Configuration of/],
    ]);
    expect(existsSync(bundle)).toBe(true);
    expect(readdirSync(tale.path()).filter((name) => name.includes('.before'))).toEqual([]);
  },
  TALE_MS,
);
