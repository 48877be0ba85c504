/** VMs put into a pool of XenServer, and its own exports and imports, through the built program against a simulated pool. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import tar from 'tar-stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomLooking } from '../support/disk-images.ts';
import { requirePeer } from '../support/peers.ts';
import {
  type SimulatedXen,
  startSimulatedXen,
  XEN_PASSWORD,
  XEN_USER,
} from '../support/servers/xen/simulated-xen.ts';
import { BLOCK, fileDigest, HOOK_TIMEOUT_MS, linesOf, type Run, sha256, Tale } from '../tales/tale.ts';

const SIZE = 24 * BLOCK + 8_192;
const MAC = '06:4e:11:22:33:44';
const disk = Buffer.alloc(SIZE);
for (const block of [0, 3, 22]) randomLooking(`disk ${block}`, BLOCK).copy(disk, block * BLOCK);
randomLooking('end', 8_192).copy(disk, 24 * BLOCK);

describe('What is put into a pool, and taken out of it', () => {
  const tale = new Tale();
  let xen: SimulatedXen;
  let web: { ref: string; uuid: string };

  beforeAll(async () => {
    xen = await startSimulatedXen();
    web = xen.db.addVm({
      name: 'web',
      disks: [
        { name: 'system', content: disk },
        { name: 'data', content: Buffer.alloc(2 * BLOCK), userdevice: '1' },
      ],
      macs: [MAC],
    });
    tale.home.write('xen.password', XEN_PASSWORD, 0o600);
    const { address, tlsPin } = xen.members[0]!;
    tale.configure({
      config: `hosts:\n  - { name: pool, type: xen, host: ${address}, port: ${xen.port}, user: ${XEN_USER}, passwordFile: xen.password, tlsPin: ${tlsPin}, timeoutSeconds: 10 }\n`,
    });
    const run = await tale.phd(['backup', 'pool/web']);
    expect(run.status, run.stderr).toBe(0);
  }, HOOK_TIMEOUT_MS);
  afterAll(async () => {
    await xen?.stop();
    tale.remove();
  });

  async function done(words: string[]): Promise<{ run: Run; line: Record<string, unknown> }> {
    const run = await tale.phd([...words, '--json']);
    expect(run.status, run.stderr + run.stdout).toBe(0);
    return { run, line: linesOf(run, 'done')[0]! };
  }

  const vmOf = (uuid: unknown) => xen.db.get('VM', xen.db.byUuid('VM', uuid));
  const disksOf = (uuid: unknown): string[] =>
    (vmOf(uuid).VBDs as string[])
      .map((vbd) => xen.db.get('VBD', vbd))
      .filter(({ type }) => type === 'Disk')
      .map(({ VDI }) => {
        const found = xen.db.disks.get(String(VDI))!;
        return sha256(found.read(0, found.sizeBytes));
      });
  const macsOf = (uuid: unknown): unknown[] =>
    (vmOf(uuid).VIFs as string[]).map((vif) => xen.db.get('VIF', vif).MAC);
  const count = (): number[] => [xen.db.records.VM.size, xen.db.records.VDI.size, xen.db.records.task.size];

  it('a VM is a new one: disks read back, records as they were, MAC addresses new while the old VM is there', async () => {
    const { run, line } = await done(['host', 'restore', 'pool', 'web', '--name', 'web again']);
    expect(run.stderr).toContain(`MAC addresses of web again (${MAC}): the restored VM gets new ones`);
    const made = vmOf(line.vm);
    expect(made).toMatchObject({
      name_label: 'web again',
      power_state: 'Halted',
      name_description: 'made by "hand"\nsecond line',
      HVM_boot_params: { order: 'cdn', firmware: 'uefi' },
    });
    expect(made.other_config).not.toHaveProperty('mac_seed');
    expect(disksOf(line.vm)).toEqual([sha256(disk), sha256(Buffer.alloc(2 * BLOCK))]);
    expect(macsOf(line.vm)).toHaveLength(1);
    expect(macsOf(line.vm)).not.toEqual([MAC]);
    const kept = await done(['host', 'restore', 'pool', 'web', '--preserve-macs', '--sr', 'Local storage']);
    expect(macsOf(kept.line.vm)).toEqual([MAC]);
    expect(kept.run.stderr).toContain('do not start both');
  });

  it('what goes wrong leaves nothing in the pool', async () => {
    const before = count();
    xen.faults = { spoilUpload: { atByte: 4096 } };
    const spoiled = await tale.phd(['host', 'restore', 'pool', 'web', '--json']);
    expect(spoiled.status).toBe(3);
    expect(spoiled.stdout + spoiled.stderr).toContain('reads back differently');
    xen.faults = { cut: { handler: '/import_raw_vdi', afterBytes: 0, times: 1 } };
    const cut = await tale.phd(['host', 'restore', 'pool', 'web', '--json']);
    expect(cut.status).not.toBe(0);
    xen.faults = {};
    const small = await tale.phd(['host', 'restore', 'pool', 'web', '--sr', 'small', '--json']);
    expect(small.status).toBe(6);
    const unknown = await tale.phd(['host', 'restore', 'pool', 'web', '--sr', 'nowhere']);
    expect(unknown.stderr).toContain('it has Local storage, small');
    const esx = await tale.phd(['host', 'restore', 'pool', 'web', '--datastore', 'x']);
    expect(esx.status).toBe(2);
    const [vms, vdis, tasks] = count();
    expect([vms, tasks]).toEqual([before[0], before[2]]);
    // Each run lost one disk of two: the good one stays, and that is said.
    expect(vdis! - before[1]!).toBe(3);
    expect(spoiled.stderr).toContain('those that are there stay on Local storage, unattached');
  });

  it('an XVA of a running VM is proved piece by piece, and goes back in', async () => {
    const file = tale.path('web.xva');
    const { line } = await done([
      'host',
      'export',
      `pool/${web.uuid}`,
      '--as',
      'xva',
      '--to',
      file,
      '--compress',
      'gzip',
    ]);
    expect(line).toMatchObject({ file, sha256: fileDigest(file), bytes: statSync(file).size });
    expect(line.proof).toMatch(/^all \d+ pieces of 2 disks match their checksums$/);
    expect([...xen.db.records.VM.values()].filter((one) => one.is_a_snapshot)).toEqual([]);
    const again = await tale.phd(['host', 'export', `pool/${web.uuid}`, '--as', 'xva', '--to', file]);
    expect(again.status).toBe(1);
    expect(again.stderr).toContain('is there already');
    const { line: imported } = await done(['host', 'import', 'pool', file]);
    const { uuid, name } = imported.vm as { uuid: string; name: string };
    expect([name, uuid === web.uuid]).toEqual(['web', false]);
    expect(disksOf(uuid)).toEqual([sha256(disk), sha256(Buffer.alloc(2 * BLOCK))]);
    const bytes = execFileSync('gzip', ['-dc', file], { maxBuffer: 1e9 });
    bytes[200_000] = bytes[200_000]! ^ 1;
    const bad = tale.path('bad.xva');
    writeFileSync(bad, bytes);
    const before = count();
    const spoiled = await tale.phd(['host', 'import', 'pool', bad]);
    expect(spoiled.status).toBe(3);
    expect(spoiled.stderr).toMatch(/piece 0 of Ref:0 does not match its checksum/);
    writeFileSync(bad, execFileSync('gzip', ['-dc', file], { maxBuffer: 1e9 }).subarray(0, -1024));
    expect((await tale.phd(['host', 'import', 'pool', bad])).status).toBe(3);
    const whole = execFileSync('gzip', ['-dc', file], { maxBuffer: 1e9 });
    for (const [gone, words] of [
      [/^Ref:1\//, 'it names disk Ref:1 and holds nothing of it'],
      [
        new RegExp(`^Ref:0/${await lastPiece(whole, 'Ref:0')}`),
        /its pieces of Ref:0 end at \d+ bytes, the disk has/,
      ],
    ] as const) {
      writeFileSync(bad, await withoutMembers(whole, gone));
      const refused = await tale.phd(['host', 'import', 'pool', bad]);
      expect(refused.status).toBe(3);
      expect(refused.stderr).toMatch(words);
    }
    expect(count()).toEqual(before);
    expect(readdirSync(tale.path()).filter((one) => one.endsWith('.part'))).toEqual([]);
  });

  it('disks as VHD and raw are what qemu-img reads; both go back in, read back and compared', async () => {
    const qemu = await requirePeer('qemu-img');
    for (const form of ['vhd', 'raw']) {
      const folder = tale.path(form);
      await done(['host', 'export', `pool/${web.uuid}`, '--as', form, '--to', folder]);
      expect(readdirSync(folder).sort()).toEqual([`xvda.${form}`, `xvdb.${form}`]);
      const file = `${folder}/xvda.${form}`;
      const words = ['convert', '-f', form === 'vhd' ? 'vpc' : 'raw', '-O', 'raw', file, `${file}.flat`];
      execFileSync(qemu.path, words, { env: { ...process.env, ...qemu.env } });
      expect(fileDigest(`${file}.flat`)).toBe(sha256(disk));
      const { line } = await done(['host', 'import', 'pool', file]);
      const made = xen.db.disks.get(xen.db.byUuid('VDI', line.vdi))!;
      expect(sha256(made.read(0, made.sizeBytes))).toBe(sha256(disk));
    }
  });

  it('metadata and the database of the pool', async () => {
    const file = tale.path('meta.xva');
    await done(['host', 'export', `pool/${web.uuid}`, '--as', 'metadata', '--to', file]);
    expect(execFileSync('tar', ['-xOf', file]).toString()).toContain('<name>objects</name>');
    const { line } = await done(['host', 'import', 'pool', file, '--preserve-macs']);
    expect(macsOf((line.vm as { uuid: string }).uuid)).toEqual([MAC]);
    const dump = tale.path('pool.xml');
    const { line: saved } = await done(['host', 'export', 'pool', '--as', 'pool-db', '--to', dump]);
    expect(readFileSync(dump, 'utf8')).toMatch(/<\/database>\s*$/);
    expect(saved.sha256).toBe(fileDigest(dump));
    xen.faults = { short: { handler: '/pool/xmldbdump', bytes: 5 } };
    const cut = await tale.phd(['host', 'export', 'pool', '--as', 'pool-db', '--to', tale.path('cut.xml')]);
    xen.faults = {};
    expect(cut.status).toBe(4);
    expect(existsSync(tale.path('cut.xml'))).toBe(false);
    expect(xen.db.records.task.size).toBe(0);
  });
});

/** The tar again, but for these members. */
async function withoutMembers(bytes: Buffer, gone: RegExp): Promise<Buffer> {
  const extract = tar.extract();
  extract.end(bytes);
  const pack = tar.pack();
  for await (const entry of extract) {
    const parts: Buffer[] = [];
    for await (const part of entry) parts.push(part as Buffer);
    if (!gone.test(entry.header.name)) pack.entry({ name: entry.header.name }, Buffer.concat(parts));
  }
  pack.finalize();
  const parts: Buffer[] = [];
  for await (const part of pack) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

async function lastPiece(bytes: Buffer, ref: string): Promise<string> {
  const extract = tar.extract();
  extract.end(bytes);
  let last = '';
  for await (const entry of extract) {
    last = new RegExp(`^${ref}/(\\d+)$`).exec(entry.header.name)?.[1] ?? last;
    entry.resume();
  }
  return last;
}
