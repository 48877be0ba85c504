/**
 * Hot backup from a pool of XenServer, through the built program and the real library, against a simulated pool (its header says
 * what is real of it): what a restore gives is the disk at the moment of the snapshot, and nothing of ours stays there.
 */
import { readdirSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type * as Library from '../../src/engine/index.ts';
import { randomLooking } from '../support/disk-images.ts';
import {
  type SimulatedXen,
  startSimulatedXen,
  XEN_PASSWORD,
  XEN_USER,
} from '../support/servers/xen/simulated-xen.ts';
import { BLOCK, fileDigest, HOOK_TIMEOUT_MS, linesOf, only, sha256, Tale } from '../tales/tale.ts';

const BUILT = new URL('../../dist/src/', import.meta.url).href;
const phd = (await import(`${BUILT}engine/index.js`)) as typeof Library;

const ODD_NAME = `../it's [old]/ "odd"\n & $(id) \u202e`;
const SIZE = 24 * BLOCK + 8_192;

/** Blocks 2 to 20 are zeros: a whole block of a VHD among them. */
function diskContent(seed: string): Buffer {
  const content = Buffer.alloc(SIZE);
  for (const block of [0, 1, 21, 22]) randomLooking(`${seed} ${block}`, BLOCK).copy(content, block * BLOCK);
  randomLooking(`${seed} end`, 8_192).copy(content, 24 * BLOCK);
  return content;
}

function hostLine(name: string, xen: SimulatedXen, more = ''): string {
  const [first, ...others] = xen.members;
  const members = others.map(({ tlsPin }) => tlsPin).join(', ');
  return `  - { name: ${name}, type: xen, host: ${first!.address}, port: ${xen.port}, user: ${XEN_USER}, passwordFile: xen.password, tlsPin: ${first!.tlsPin}, memberTlsPins: [${members}], timeoutSeconds: 10${more} }\n`;
}

describe('A pool of XenServer', () => {
  const tale = new Tale();
  let xen: SimulatedXen;
  let plain: SimulatedXen;
  let context: Library.EngineContext;
  let web: { ref: string; uuid: string };
  const webDisk = diskContent('web');

  beforeAll(async () => {
    [xen, plain] = await Promise.all([
      startSimulatedXen({ members: 2 }),
      startSimulatedXen({ numbersAreText: false, hasVhd: false }),
    ]);
    web = xen.db.addVm({
      name: 'web',
      disks: [
        { name: 'web system', content: webDisk },
        { name: 'web data', content: diskContent('data'), userdevice: '2' },
      ],
      macs: ['06:4e:11:22:33:44'],
    });
    for (const [at, name] of ['twin', 'twin', ODD_NAME].entries())
      xen.db.addVm({
        name,
        power: at === 1 ? 'Halted' : 'Running',
        disks: [{ name: 'd', content: diskContent(`${at}`) }],
      });
    plain.db.addVm({ name: 'raw', power: 'Suspended', disks: [{ name: 'd', content: webDisk }] });
    tale.home.write('xen.password', XEN_PASSWORD, 0o600);
    tale.configure({ config: `hosts:\n${hostLine('pool', xen)}${hostLine('plain', plain)}` });
    context = await phd.openContext({ env: tale.home.env });
  }, HOOK_TIMEOUT_MS);
  afterAll(async () => {
    await context?.close();
    await Promise.all([xen?.stop(), plain?.stop()]);
    tale.remove();
  });
  afterEach(() => {
    xen.faults = {};
    plain.faults = {};
  });

  async function backUp(host: string, vm: string, more: Partial<Library.HostBackupRequest> = {}) {
    const warnings: string[] = [];
    const hooks = { onWarning: (text: string) => void warnings.push(text) };
    const result = await phd.backupHostVm(context, { host, vm, ...more }, hooks);
    return { ...result, warnings };
  }

  async function restored(archive: string): Promise<string> {
    const [, folder = '', file = ''] = /^1:(.+)\/([^/]+)$/.exec(archive) ?? [];
    const ref = { storage: await context.storage(1), folder, file };
    return fileDigest((await phd.restore(context, { archive: ref, to: tale.newFolder() })).flatPath);
  }

  function expectNothingLeft(pool: SimulatedXen): void {
    const { VM, VDI, task } = pool.db.records;
    const ours = [...VM.values()].filter(({ is_a_snapshot: isSnapshot }) => isSnapshot);
    expect(ours.map((one) => one.name_label)).toEqual([]);
    expect([...VDI.values()].filter((one) => one.is_a_snapshot)).toEqual([]);
    expect(task.size).toBe(0);
    expect(readdirSync(tale.path('state', 'scratch'))).toEqual([]);
  }

  it('lists its VMs, no templates, no snapshots, no control domain; equal names are told', async () => {
    const run = await tale.phd(['host', 'list', 'pool', '--json']);
    expect(run.status, run.stderr).toBe(0);
    const vms = linesOf(run, 'vm').map(({ name, power, place }) => `${name}: ${power}, ${place}`);
    expect(vms.sort()).toEqual(
      [`${ODD_NAME}: on, member0`, 'twin: off, null', 'twin: on, member0', 'web: on, member0'].sort(),
    );
    expect(xen.db.sessions.size).toBe(0);
  });

  it('FULL and DELTA are the disks at their snapshot, which is gone afterwards', async () => {
    const run = await tale.phd(['backup', 'pool/web', '--json']);
    expect(run.stderr).toBe('');
    expect(run.status).toBe(0);
    const full = linesOf(run, 'done');
    expect(full.map(({ disk, mode }) => [disk, mode])).toEqual([
      ['xvda.vmdk', 'full'],
      ['xvdc.vmdk', 'full'],
    ]);
    expect(await restored(String(full[0]!.archive))).toBe(sha256(webDisk));
    expect(await restored(String(full[1]!.archive))).toBe(sha256(diskContent('data')));
    expectNothingLeft(xen);

    const bytes = randomLooking('written', BLOCK);
    const vdi = [...xen.db.records.VDI].find(([, one]) => one.name_label === 'web system')![0];
    xen.db.disks.get(vdi)!.write(5 * BLOCK, bytes);
    const after = Buffer.from(webDisk);
    bytes.copy(after, 5 * BLOCK);
    const delta = await backUp('pool', web.uuid, { postThaw: `touch ${tale.path('thawed')}` });
    expect(delta.disks.map(({ disk, mode }) => [disk, mode])).toEqual([
      ['xvda.vmdk', 'delta'],
      ['xvdc.vmdk', 'delta'],
    ]);
    expect(readdirSync(tale.path())).toContain('thawed');
    const { folder, deltaFile } = delta.disks[0]!;
    expect(await restored(`1:${folder}/${deltaFile}`)).toBe(sha256(after));
    xen.db.disks.get(vdi)!.write(5 * BLOCK, Buffer.alloc(BLOCK));
    expectNothingLeft(xen);
    expect(
      only(
        await context
          .host('pool')
          .then((host) => host.listVms())
          .then((vms) => vms.filter((vm) => vm.name === 'web')),
      ).uuid,
    ).toBe(web.uuid);
  });
});
