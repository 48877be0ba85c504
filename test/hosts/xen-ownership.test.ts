/**
 * What of a pool is ours: snapshots are told from those of people whatever an XVA carried along, one run at a time touches a VM, and
 * nothing that is not finished bears its final name. Against a simulated pool (its header says what is real of it).
 */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import tar from 'tar-stream';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type * as ExportFromXen from '../../src/engine/export-from-xen.ts';
import type * as Library from '../../src/engine/index.ts';
import { xvaExport } from '../../src/hosts/xen/xen-export.ts';
import { XenSession } from '../../src/hosts/xen/xen-session.ts';
import { listXenVms } from '../../src/hosts/xen/xen-vms.ts';
import { XvaCheck } from '../../src/hosts/xen/xva-check.ts';
import { randomLooking } from '../support/disk-images.ts';
import { SimDisk } from '../support/servers/xen/sim-disk.ts';
import { ovaXml, packXva } from '../support/servers/xen/sim-xva.ts';
import {
  type SimulatedXen,
  startSimulatedXen,
  XEN_PASSWORD,
  XEN_USER,
} from '../support/servers/xen/simulated-xen.ts';
import { BLOCK, fileDigest, HOOK_TIMEOUT_MS, linesOf, only, sha256, Tale } from '../tales/tale.ts';

const BUILT = new URL('../../dist/src/', import.meta.url).href;
const phd = (await import(`${BUILT}engine/index.js`)) as typeof Library;
const { exportFromXen } = (await import(`${BUILT}engine/export-from-xen.js`)) as typeof ExportFromXen;

const disk = Buffer.concat([randomLooking('system', 3 * BLOCK), Buffer.alloc(BLOCK)]);
const UNFINISHED = / \[restore not finished\]$/;

describe('What of a pool is ours', () => {
  const tale = new Tale();
  let xen: SimulatedXen;
  let context: Library.EngineContext;
  let web: { ref: string; uuid: string };
  let archives: string[];

  beforeAll(async () => {
    xen = await startSimulatedXen();
    web = xen.db.addVm({
      name: 'web',
      disks: [
        { name: 'system', content: disk },
        { name: 'data', content: Buffer.alloc(2 * BLOCK), userdevice: '1' },
      ],
    });
    tale.home.write('xen.password', XEN_PASSWORD, 0o600);
    const { address, tlsPin } = xen.members[0]!;
    const line = (name: string): string =>
      `  - { name: ${name}, type: xen, host: ${address}, port: ${xen.port}, user: ${XEN_USER}, passwordFile: xen.password, tlsPin: ${tlsPin}, timeoutSeconds: 10 }\n`;
    tale.configure({ config: `hosts:\n${line('pool')}${line('alias')}` });
    context = await phd.openContext({ env: tale.home.env });
    const run = await tale.phd(['backup', 'pool/web', '--json']);
    expect(run.status, run.stderr).toBe(0);
    archives = linesOf(run, 'done').map(({ archive }) => String(archive));
  }, HOOK_TIMEOUT_MS);
  afterAll(async () => {
    await context?.close();
    await xen?.stop();
    tale.remove();
  });
  afterEach(() => {
    xen.faults = {};
  });

  const named = (kind: 'VM' | 'VDI'): string[] =>
    [...xen.db.records[kind].values()].map(({ name_label: name }) => String(name)).sort();
  const snapshots = (): unknown[] =>
    [...xen.db.records.VM.values()].filter((one) => one.is_a_snapshot).map((one) => one.name_label);

  it('a VM that was made of our XVA keeps the snapshots of people, and can be exported again', async () => {
    const file = tale.path('web.xva');
    const run = await tale.phd(['host', 'export', `pool/${web.uuid}`, '--as', 'xva', '--to', file]);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).toMatch(/^web\.xva \(export\): \d+ MB, /m);
    const metadata = execFileSync('tar', ['-xOf', file, 'ova.xml']).toString();
    const mark = /"phd-backup":("[^"]*")/.exec(metadata)?.[1] ?? '""';
    const imported = await tale.phd(['host', 'import', 'pool', file, '--json']);
    const { uuid } = linesOf(imported, 'done')[0]!.vm as { uuid: string };
    const ref = xen.db.byUuid('VM', uuid);
    const vm = xen.db.get('VM', ref);
    expect(vm.other_config).not.toHaveProperty('phd-backup');
    // As `xe vm-import` would have left it.
    (vm.other_config as Record<string, string>)['phd-backup'] = JSON.parse(mark);
    vm.power_state = 'Running';
    xen.db.snapshot(ref, 'mine');
    const backup = await tale.phd(['backup', `pool/${uuid}`]);
    expect(backup.status, backup.stderr).toBe(0);
    const again = await tale.phd(['host', 'export', `pool/${uuid}`, '--as', 'vhd', '--to', tale.path('v')]);
    expect(again.status, again.stderr).toBe(0);
    expect(snapshots()).toEqual(['mine']);
    const check = await tale.phd(['host', 'check', 'pool']);
    expect(check.stdout).not.toContain('mine');
  });

  it('an export and a backup of one VM do not run beside each other, whatever name the host has', async () => {
    const to = tale.path('beside.xva');
    const request = { host: 'alias', vm: web.uuid, as: 'xva', to, packing: 'none' } as const;
    const others: unknown[] = [];
    let isAsked = false;
    const result = await phd.backupHostVm(
      context,
      { host: 'pool', vm: web.uuid },
      {
        onProgress: () => {
          if (isAsked) return;
          isAsked = true;
          others.push(exportFromXen(context, request).catch((error: unknown) => error));
        },
      },
    );
    expect(await others[0]).toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining('another backup or export of alias/web is running'),
    });
    expect(result.failed).toEqual([]);
    expect((await exportFromXen(context, request)).failed).toEqual([]);
  });

  it('two exports to one file: one is there, whole; the other is refused', async () => {
    const to = tale.path('same.xva');
    const other = xen.db.addVm({ name: 'other', disks: [{ name: 'o', content: disk }] });
    const both = await Promise.allSettled(
      [web.uuid, other.uuid].map((vm) =>
        exportFromXen(context, { host: 'pool', vm, as: 'xva', to, packing: 'none' }),
      ),
    );
    const ends = both.map((one) => (one.status === 'fulfilled' ? one.value : { files: [], failed: [] }));
    expect(ends.flatMap(({ files }) => files)).toMatchObject([{ sha256: fileDigest(to) }]);
    expect(ends.flatMap(({ failed }) => failed)).toMatchObject([{ error: { code: 'LOCKED' } }]);
  });

  it.each(['VDI.create', 'VM.create', 'VBD.create', 'VDI.set_name_label', 'VM.set_name_label'])(
    'the answer of %s is lost: nothing of the restore stays',
    async (method) => {
      const before = [named('VM'), named('VDI')];
      xen.faults = { loseAnswer: { method, times: 1 } };
      const run = await tale.phd(['host', 'restore', 'pool', ...archives, '--name', 'lost']);
      expect(run.status).toBe(4);
      expect(xen.faults.loseAnswer?.times).toBe(0);
      expect([named('VM'), named('VDI')]).toEqual(before);
    },
  );

  it('a disk that reads back differently and cannot be taken away bears no final name, and is told', async () => {
    const before = named('VDI');
    xen.faults = {
      spoilUpload: { atByte: 4096 },
      refuse: { method: 'VDI.destroy', code: 'VDI_IN_USE', params: ['x', 'destroy'], times: 99 },
    };
    const run = await tale.phd(['host', 'restore', 'pool', archives[0]!]);
    expect(run.status).toBe(3);
    const left = [...xen.db.records.VDI.values()].filter((one) => UNFINISHED.test(String(one.name_label)));
    expect(run.stderr).toContain(`VDI ${only(left).uuid}`);
    xen.faults = {};
    const check = await tale.phd(['host', 'check', 'pool']);
    expect(check.stdout).toMatch(
      new RegExp(
        `warning +left over: system \\[restore not finished\\].*xe vdi-destroy uuid=${only(left).uuid}`,
      ),
    );
    xen.db.destroyVdi(xen.db.byUuid('VDI', only(left).uuid));
    expect(named('VDI')).toEqual(before);
    expect((await tale.phd(['host', 'check', 'pool'])).stdout).not.toContain('left over');
  });

  it('what a killed restore leaves bears no final name', async () => {
    const before = named('VDI');
    xen.faults = { stall: { handler: '/export_raw_vdi' } };
    const from = xen.seen.length;
    let child: ChildProcess | undefined;
    const run = tale.phd(['host', 'restore', 'pool', ...archives], {
      onStart: (one) => {
        child = one;
      },
    });
    await vi.waitFor(() => expect(xen.seen.slice(from).join()).toContain('GET /export_raw_vdi'), 20_000);
    child?.kill('SIGKILL');
    expect((await run).signal).toBe('SIGKILL');
    const names = named('VDI').filter((one) => !before.includes(one));
    expect(only(names)).toMatch(UNFINISHED);
    xen.db.destroyVdi([...xen.db.records.VDI].find(([, one]) => one.name_label === names[0])![0]);
  });

  it('all that cannot be taken away is told', async () => {
    const before = named('VDI');
    xen.faults = {
      loseAnswer: { method: 'VM.create', times: 1 },
      refuse: { method: 'VDI.destroy', code: 'VDI_IN_USE', params: ['x', 'destroy'], times: 99 },
    };
    const run = await tale.phd(['host', 'restore', 'pool', ...archives, '--name', 'stays']);
    expect(run.status).toBe(4);
    const left = [...xen.db.records.VDI].filter(([, one]) => UNFINISHED.test(String(one.name_label)));
    expect(left).toHaveLength(2);
    for (const [ref, { uuid }] of left) {
      expect(run.stderr).toContain(`VDI ${uuid}`);
      xen.db.destroyVdi(ref);
    }
    expect(named('VDI')).toEqual(before);
    expect(named('VM')).not.toContain('stays');
  });

  it('a VM of which some disks alone were named is made, and what it lacks is said', async () => {
    const run = await tale.phd(['host', 'restore', 'pool', archives[0]!, '--name', 'part', '--json']);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).toContain('the VM had 2 disks and gets 1 of them: without data (xvdb)');
    const vm = xen.db.get('VM', xen.db.byUuid('VM', linesOf(run, 'done')[0]!.vm));
    const vbds = (vm.VBDs as string[]).map((one) => xen.db.get('VBD', one));
    const { VDI } = only(vbds.filter(({ type }) => type === 'Disk'));
    expect(sha256(xen.db.disks.get(String(VDI))!.read(0, disk.length))).toBe(sha256(disk));
    expect(xen.db.get('VDI', VDI)).toMatchObject({ name_label: 'system', other_config: {} });
    expect(vm).toMatchObject({ name_label: 'part' });
    expect(Object.keys(vm.other_config as object)).toEqual(['base_template_name']);
  });

  it('a host that repeats the password does not bring it into a message or a log', async () => {
    const params = [`user root, word ${XEN_PASSWORD}`];
    for (const code of ['SESSION_AUTHENTICATION_FAILED', 'ODD_REFUSAL', XEN_PASSWORD]) {
      xen.faults = { refuse: { method: 'session.login_with_password', code, params, times: 9 } };
      const run = await tale.phd(['host', 'list', 'pool']);
      expect(run.status).toBe(4);
      expect(run.stderr + run.stdout).not.toContain(XEN_PASSWORD);
    }
    expect(tale.ownTexts().join('\n')).not.toContain(XEN_PASSWORD);
  });

  it('a member that sends a blank now and then is given up', async () => {
    const host = await context.host('pool');
    const config = { ...host.config, timeoutMs: 300 };
    const access = context.hostAccess(host.config);
    const session = new XenSession(config, access);
    xen.faults = { drip: { method: 'VM.get_all_records' } };
    await expect(listXenVms(session)).rejects.toMatchObject({
      code: 'TARGET_UNREACHABLE',
      message: expect.stringContaining('its answer did not end within 9000 ms'),
    });
    xen.faults = {};
    await session.close();
  });

  it('a piece without a byte, which a host writes to keep the line alive, counts as a number and not as a place', async () => {
    const MIB = 1_048_576;
    const pieces: [string, Buffer][] = [
      ['00000000', Buffer.alloc(MIB, 1)],
      ['00000001', Buffer.alloc(0)],
      ['00000002', Buffer.alloc(512, 2)],
    ];
    const xvaOf = async (virtualSize: number): Promise<Buffer> => {
      const pack = tar.pack();
      const record = { type: 'Disk' };
      pack.entry(
        { name: 'ova.xml' },
        ovaXml({ vbds: [{ vbd: record, vdi: { virtual_size: virtualSize } }] }),
      );
      for (const [number, bytes] of pieces) {
        pack.entry({ name: `Ref:0/${number}` }, bytes);
        pack.entry({ name: `Ref:0/${number}.checksum` }, createHash('sha1').update(bytes).digest('hex'));
      }
      pack.finalize();
      const parts: Buffer[] = [];
      for await (const part of pack) parts.push(part as Buffer);
      return Buffer.concat(parts);
    };
    const facts = async (bytes: Buffer): Promise<unknown> => {
      const check = await XvaCheck.begin('kept.xva', bytes.subarray(0, 512));
      await check.push(bytes);
      return await check.finish();
    };
    expect(await facts(await xvaOf(MIB + 512))).toMatchObject({
      disks: [{ ref: 'Ref:0', pieces: 3, sizeBytes: MIB + 512 }],
      unprovedPieces: 0,
    });
    await expect(facts(await xvaOf(2 * MIB + 512))).rejects.toMatchObject({
      code: 'ARCHIVE_DAMAGED',
      message: expect.stringContaining(`end at ${MIB + 512} bytes, the disk has ${2 * MIB + 512}`),
    });
  });

  it('an XVA without one of the disks of its VM, or with less of it, is no export', async () => {
    const sim = (bytes: number): SimDisk => {
      const made = new SimDisk(bytes);
      made.write(0, disk.subarray(0, bytes));
      return made;
    };
    const prove = async (wanted: number[], there: number[]): Promise<string> => {
      const disks = there.map((bytes, at) => ({ ref: `Ref:${at}`, disk: sim(bytes) }));
      const proof = xvaExport('OpaqueRef:x', 'web', 'none', wanted).prove('web.xva');
      await proof.push(await packXva({ metadata: {}, disks }, 'xxhash', false));
      return await proof.end();
    };
    const sizes = [disk.length, 2 * BLOCK];
    expect(await prove(sizes, sizes.toReversed())).toContain('of 2 disks match their checksums');
    for (const there of [[disk.length], [disk.length, BLOCK], []])
      await expect(prove(sizes, there), there.join()).rejects.toMatchObject({ code: 'TARGET_LIED' });
  });
});
