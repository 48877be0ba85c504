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
    xen.db.leftOut = '';
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

  it('hostile names, several VMs of one name, a host that gives no VHD, a suspended VM', async () => {
    const twins = await tale.phd(['backup', 'pool/twin', '--json']);
    expect(twins.status).toBe(2);
    expect(twins.stderr).toContain('has 2 VMs named twin: name one by');
    const odd = await backUp('pool', ODD_NAME);
    expect(await restored(`1:${only(odd.disks).folder}/${only(odd.disks).deltaFile}`)).toBe(
      sha256(diskContent('2')),
    );
    const raw = await backUp('plain', 'raw');
    expect(raw.warnings.join('\n')).toContain('its memory is not kept');
    expect(await restored(`1:${only(raw.disks).folder}/${only(raw.disks).deltaFile}`)).toBe(sha256(webDisk));
    expect(plain.seen.filter((one) => one.includes('format=raw'))).toHaveLength(1);
    const quiesced = await backUp('pool', web.uuid, { quiesce: true });
    expect(quiesced.warnings.join('\n')).toContain('cannot be quiesced');
    for (const pool of [xen, plain]) expectNothingLeft(pool);
  });

  it('a session that ends, a master that moves, a line that is cut: the backup is whole', async () => {
    xen.faults = { endSessions: true, cut: { handler: '/export_raw_vdi', afterBytes: 2 * BLOCK, times: 1 } };
    xen.moveMaster(1);
    const host = await context.host('pool');
    const vm = only((await host.listVms()).filter(({ name }) => name === 'web'));
    xen.moveMaster(0);
    const frozen = await host.freeze(vm, { onWarning: () => undefined });
    const target = Buffer.alloc(SIZE);
    const exports = xen.seen.filter((one) => one.includes('format=vhd')).length;
    await frozen.source.disks[0]?.reader?.read(0, target);
    expect(target.equals(webDisk)).toBe(true);
    expect(xen.seen.filter((one) => one.includes('format=vhd')).length - exports).toBe(2);
    await frozen.release();
    await frozen.release();
    expectNothingLeft(xen);
  }, 30_000);

  it.each<[string, SimulatedXen['faults'], string]>([
    [
      'a body that ends early',
      { short: { handler: '/export_raw_vdi', bytes: 600 } },
      'ARCHIVE_DAMAGED|TARGET_LIED',
    ],
    [
      'a task that failed',
      { failTask: { handler: '/export_raw_vdi', code: 'SR_BACKEND_FAILURE_46', params: ['', 'gone'] } },
      'TARGET_REFUSED',
    ],
    [
      'a snapshot that is refused',
      { refuse: { method: 'VM.snapshot', code: 'SR_FULL', params: ['1', '0'], times: 1 } },
      'NO_SPACE',
    ],
    [
      'a disk that stays in use',
      { refuse: { method: 'VDI.destroy', code: 'VDI_IN_USE', params: ['x', 'destroy'], times: 2 } },
      'LOCKED',
    ],
    ['an answer that is lost', { loseAnswer: { method: 'VM.snapshot', times: 1 } }, 'TARGET_UNREACHABLE'],
    [
      'a redirect to a stranger',
      {
        redirect: {
          handler: '/export_raw_vdi',
          location: 'https://127.0.0.9/export_raw_vdi%QUERY%',
          times: 9,
        },
      },
      'TARGET_LIED',
    ],
  ])('%s fails the backup, and the next leaves nothing', async (_, faults, codes) => {
    xen.faults = faults;
    const ended = await backUp('pool', web.uuid, { mode: 'full' }).then(
      ({ failed }) => failed.map(({ error }) => error),
      (error: unknown) => [error as Library.PhdError],
    );
    expect(ended.length).toBeGreaterThan(0);
    for (const { code } of ended) expect(codes.split('|')).toContain(code);
    for (const { message } of ended) expect(message).not.toContain('OpaqueRef');
    xen.faults = {};
    const next = await backUp('pool', web.uuid);
    expect(next.failed).toEqual([]);
    expectNothingLeft(xen);
  });

  it('a member that sees the storage is redirected to; a certificate that is not pinned is told nothing', async () => {
    xen.faults = {
      redirect: { handler: '/export_raw_vdi', location: 'https://127.0.0.2/export_raw_vdi%QUERY%', times: 1 },
    };
    expect((await backUp('pool', web.uuid)).failed).toEqual([]);
    expect(xen.seen.some((one) => one.startsWith('127.0.0.2 GET /export_raw_vdi'))).toBe(true);
    const stranger = new Tale();
    stranger.home.write('xen.password', XEN_PASSWORD, 0o600);
    const line = hostLine('pool', xen)
      .replace(xen.members[0]!.tlsPin, 'ab'.repeat(32))
      .replace(xen.members[1]!.tlsPin, '');
    stranger.configure({ config: `hosts:\n${line}` });
    const before = xen.seen.length;
    const run = await stranger.phd(['host', 'list', 'pool']);
    stranger.remove();
    expect(run.status).toBe(4);
    expect(run.stderr).toContain(`it shows SHA-256 ${xen.members[0]!.tlsPin}`);
    expect(xen.seen.length).toBe(before);
  });

  it('phd host check tells members, storage and what was left; the next backup removes what is ours', async () => {
    const host = await context.host('pool');
    const vm = only((await host.listVms()).filter(({ name }) => name === 'web'));
    await host.freeze(vm, { onWarning: () => undefined });
    xen.db.snapshot(web.ref, 'phd-backup-000000000000-00000000');
    const run = await tale.phd(['host', 'check', 'pool']);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stdout).toContain('127.0.0.1 is the master');
    expect(run.stdout).toContain('127.0.0.2: XCP-ng 8.3.0, its certificate is known');
    expect(run.stdout).toContain('Local storage (default), small');
    expect(run.stdout).toMatch(
      /warning +snapshot: phd-backup-[0-9a-f]{12}-[0-9a-f]{8} of web: the next backup of it removes it/,
    );
    expect(run.stdout).toContain('left by another machine or home');
    expect((await backUp('pool', web.uuid)).warnings.join('\n')).toContain('was removed');
    const left = [...xen.db.records.VM.values()].filter((one) => one.is_a_snapshot);
    expect(left.map((one) => one.name_label)).toEqual(['phd-backup-000000000000-00000000']);
  });

  it('a disk that the snapshot lacks is told: the run is not whole', async () => {
    const content = diskContent('lacking');
    const had = [
      { name: 'system', content },
      { name: 'data', content, userdevice: '2' },
    ];
    const { ref } = xen.db.addVm({ name: 'lacking', disks: had });
    xen.db.leftOut = '2';
    const { disks, failed } = await backUp('pool', 'lacking', { mode: 'full' });
    expect(disks).toHaveLength(1);
    expect(only(failed)).toMatchObject({
      disk: 'disk 2',
      error: {
        code: 'SOURCE_CHANGED',
        message: expect.stringContaining('(data) is not in its snapshot'),
      },
    });
    xen.db.records.VM.delete(ref);
  });
});
