/** A backup job over a pool of XenServer (simulated: see its header): one odd VM costs no other its backup. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomLooking } from '../support/disk-images.ts';
import {
  type SimulatedXen,
  startSimulatedXen,
  XEN_PASSWORD,
  XEN_USER,
} from '../support/servers/xen/simulated-xen.ts';
import { BLOCK, HOOK_TIMEOUT_MS, linesOf, only, Tale } from '../tales/tale.ts';

describe('A job over all VMs of a pool', () => {
  const tale = new Tale();
  let xen: SimulatedXen;
  let hosts: string;
  const jobs = 'backupJobs:\n  - { name: all, vms: ["*"], from: [pool] }\n';

  beforeAll(async () => {
    xen = await startSimulatedXen();
    const [{ address, tlsPin }] = xen.members as [SimulatedXen['members'][number]];
    const content = randomLooking('disk', BLOCK);
    for (const name of ['aaa', '', 'x'.repeat(300), 'zzz'])
      xen.db.addVm({ name, disks: [{ name: 'd', content }] });
    tale.home.write('xen.password', XEN_PASSWORD, 0o600);
    hosts = `hosts:\n  - { name: pool, type: xen, host: ${address}, port: ${xen.port}, user: ${XEN_USER}, passwordFile: xen.password, tlsPin: ${tlsPin}, timeoutSeconds: 10 }\n`;
    tale.configure({ config: `${hosts}${jobs}` });
  }, HOOK_TIMEOUT_MS);
  afterAll(async () => {
    await xen?.stop();
    tale.remove();
  });

  it('backs up each, also one whose name is empty or longer than a request takes', async () => {
    const run = await tale.phd(['backup', '--job', 'all', '--json']);
    const { vms } = only(linesOf(run, 'run')) as unknown as { vms: { vm: string; code: string | null }[] };
    expect(run.status, run.stderr).toBe(0);
    expect(vms.map(({ vm, code }) => [vm.slice(0, 3), code]).sort()).toEqual([
      ['', null],
      ['aaa', null],
      ['xxx', null],
      ['zzz', null],
    ]);
  });

  it('holds a VM still for one target after the other, however many are backed up at once', async () => {
    const more =
      'backupJobs:\n  - { name: all, vms: [aaa, zzz], from: [pool], targets: [1, 2, 3], atOnce: 4 }\n';
    tale.configure({ targets: ['one', 'two', 'three'], config: `${hosts}${more}` });
    const run = await tale.phd(['backup', '--job', 'all', '--json']);
    expect(run.status, run.stdout).toBe(0);
    const { vms } = only(linesOf(run, 'run')) as unknown as { vms: { vm: string; target: number }[] };
    expect(vms.map(({ vm, target }) => `${vm} ${target}`).sort()).toEqual(
      ['aaa', 'zzz'].flatMap((vm) => [1, 2, 3].map((target) => `${vm} ${target}`)),
    );
    tale.configure({ config: `${hosts}${jobs}` });
  });

  it('tells a VM whose record cannot be read, and backs up the others', async () => {
    const { VM } = xen.db.records;
    const [broken] = [...VM].find(([, { name_label: name }]) => name === 'aaa') ?? [];
    VM.set(String(broken), { ...VM.get(String(broken)), VBDs: 'none' });
    const list = await tale.phd(['host', 'list', 'pool', '--json']);
    expect(list.status).toBe(4);
    expect(list.stderr).toMatch(/VM OpaqueRef:\S+ cannot be read \(VBDs: /);
    expect(linesOf(list, 'vm').map(({ name }) => name)).toContain('zzz');
    const run = await tale.phd(['backup', '--job', 'all', '--json']);
    const record = only(linesOf(run, 'run')) as unknown as {
      warnings: string[];
      vms: { vm: string; code: string | null }[];
    };
    expect(run.status, run.stderr).toBe(0);
    expect(record.warnings.join()).toMatch(/host pool: VM OpaqueRef:\S+ cannot be read/);
    expect(record.vms.find(({ vm }) => vm === 'zzz')).toMatchObject({ code: null });
  });
});
