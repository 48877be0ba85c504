/** Machines of iron: real loop devices with partitions and file systems, here and behind a real OpenSSH server. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomLooking } from '../support/disk-images.ts';
import { attachLoop, hasLoopDevices, type LoopDevice } from '../support/loop-device.ts';
import { gptImage } from '../support/partitioned-image.ts';
import { type SshServer, startSshServer } from '../support/servers/sshd.ts';
import {
  BLOCK,
  HOOK_TIMEOUT_MS,
  linesOf,
  MIB,
  only,
  type Run,
  runProgram,
  sha256,
  Tale,
  tool,
} from '../tales/tale.ts';

const ESP = { startSector: 2048, bytes: 4 * MIB };
const ROOT = { startSector: 2048 + (4 * MIB) / 512, bytes: 16 * MIB };
const SIZE = 22 * MIB;

const cleanUps: (() => void | Promise<void>)[] = [];
afterAll(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

async function makeFileSystems(tale: Tale): Promise<{ esp: Buffer; root: Buffer }> {
  const esp = tale.home.write('esp', Buffer.alloc(ESP.bytes));
  await tool('mkfs.vfat', ['-n', 'ESP', esp]);
  const folder = tale.home.folder('root-files');
  writeFileSync(path.join(folder, 'fstab'), 'UUID=1 / ext4 defaults 0 1\n');
  writeFileSync(path.join(folder, 'data'), randomLooking('data of the machine', 2 * MIB));
  const root = tale.home.write('root', Buffer.alloc(ROOT.bytes));
  await tool('mkfs.ext4', ['-q', '-F', '-d', folder, root]);
  return { esp: readFileSync(esp), root: readFileSync(root) };
}

/** Both file systems of a restored disk, by their own checkers. */
async function checkFileSystems(tale: Tale, flat: Buffer): Promise<void> {
  const cut = (name: string, { startSector, bytes }: typeof ESP): string => {
    const from = startSector * 512;
    return tale.home.write(name, flat.subarray(from, from + bytes));
  };
  await tool('fsck.vfat', ['-n', cut('esp.restored', ESP)]);
  execFileSync('e2fsck', ['-fn', cut('root.restored', ROOT)], { stdio: 'pipe' });
}

function poke(device: string, at: number, bytes: Buffer): void {
  const fd = openSync(device, 'r+');
  writeSync(fd, bytes, 0, bytes.length, at);
  closeSync(fd);
  execFileSync('/usr/sbin/blockdev', ['--flushbufs', device]);
}

function loop(file: string): LoopDevice {
  const device = attachLoop(file);
  cleanUps.push(() => device.detach());
  return device;
}

function ok(run: Run): Run {
  if (run.status !== 0) throw new Error(`status ${run.status}: ${run.stderr}${run.stdout}`);
  return run;
}

describe.runIf(hasLoopDevices())('A machine whose devices lie here', () => {
  const tale = new Tale();
  cleanUps.push(() => tale.remove());
  let device: LoopDevice;
  let content: Buffer;

  beforeAll(async () => {
    const { esp, root } = await makeFileSystems(tale);
    content = gptImage(SIZE, [
      { type: 'efiSystem', startSector: ESP.startSector, content: esp },
      { type: 'linux', startSector: ROOT.startSector, content: root },
    ]);
    device = loop(tale.home.write('machine.img', content));
    tale.configure({ config: `hosts:\n  - { name: box, type: device, devices: [${device.path}] }\n` });
  }, HOOK_TIMEOUT_MS);

  const diskName = (): string => path.basename(device.path);

  it('shows its devices and the check list of what the guest needs', async () => {
    const shown = only(linesOf(ok(await tale.phd(['host', 'devices', '--json'])), 'device'));
    expect(shown).toMatchObject({
      path: device.path,
      sizeBytes: SIZE,
      table: 'gpt',
      isEfi: true,
      uses: [],
      notices: [],
    });
    const contents = (shown.partitions as { content: string }[]).map((one) => one.content);
    expect(contents).toEqual(['vfat', 'ext4']);
    const list = ok(await tale.phd(['host', 'checklist', 'box'])).stdout;
    for (const word of [
      'firmware of the VM must be EFI',
      'update-initramfs',
      'fstab',
      'Network',
      'Time',
      'BOOTX64.EFI',
    ])
      expect(list).toContain(word);
  });

  it('becomes a FULL that names the checksums of both sides, and a VM with VMX, stub and sound file systems', async () => {
    const done = only(linesOf(ok(await tale.phd(['backup', 'box/box', '--json'])), 'done'));
    const digest = sha256(content);
    expect(done).toMatchObject({
      mode: 'full',
      disk: `${diskName()}.vmdk`,
      unreadableSectors: 0,
      checksum: { kind: 'sha256', source: digest, image: digest },
    });
    const to = tale.path('as-a-vm');
    ok(await tale.phd(['restore', '--vm', 'box', '--to', to, '--vmx']));
    const flat = readFileSync(path.join(to, `${diskName()}-flat.vmdk`));
    expect(sha256(flat)).toBe(digest);
    await checkFileSystems(tale, flat);
    expect(readFileSync(path.join(to, `${diskName()}.vmdk`), 'latin1')).toContain('createType="vmfs"');
    const vmx = readFileSync(path.join(to, 'box.vmx'), 'utf8');
    for (const line of [
      'firmware = "efi"',
      'guestOS = "otherlinux-64"',
      `scsi0:0.fileName = "${diskName()}.vmdk"`,
    ])
      expect(vmx).toContain(line);
    const kept = (name: string): Buffer => readFileSync(path.join(to, `${diskName()}.${name}.log`));
    expect(kept('first-sectors.bin').equals(content.subarray(0, 32_768))).toBe(true);
    expect(kept('last-sectors.bin').equals(content.subarray(-32_768))).toBe(true);
    expect(kept('device').toString()).toContain(`SHA-256 of the source: ${digest}`);
    expect(kept('partitions').toString()).toMatch(/gpt/);
    expect(readFileSync(path.join(to, 'box.checklist.log'), 'utf8')).toContain('Initial RAM disk');
  });

  it('becomes a DELTA of what has changed, compared on both sides by digests of blocks', async () => {
    randomLooking('the next day', 4096).copy(content, 10 * BLOCK);
    poke(device.path, 10 * BLOCK, randomLooking('the next day', 4096));
    const run = ok(await tale.phd(['backup', 'box/box']));
    expect(run.stdout).toMatch(/^DELTA /m);
    expect(run.stdout).toMatch(/SHA-256 of the block digests [0-9a-f]{64}: source and image agree/);
    const to = tale.path('next-day');
    ok(await tale.phd(['restore', '--vm', 'box', '--to', to]));
    expect(sha256(readFileSync(path.join(to, `${diskName()}-flat.vmdk`)))).toBe(sha256(content));
  });

  it('is refused while it is mounted, by name, and imaged only when told so', async () => {
    const bare = loop(tale.path('root'));
    const mountPoint = tale.home.folder('mounted here');
    execFileSync('mount', ['-o', 'ro,noload', bare.path, mountPoint]);
    try {
      tale.configure({
        config: `hosts:\n  - { name: used, type: device, devices: [${bare.path}, /dev/no-such] }\n`,
      });
      const refused = await tale.phd(['backup', 'used/used']);
      expect(refused.status).toBe(5);
      expect(refused.stderr).toContain(`is mounted on ${mountPoint}`);
      expect(refused.stderr).toContain('there is no device /dev/no-such');
      const told = await tale.phd(['backup', 'used/used', '--assume-off']);
      expect(told.stderr).toContain('imaged all the same');
      expect(told.stdout).toMatch(/^FULL /m);
    } finally {
      execFileSync('umount', [mountPoint]);
    }
  });

  it('with sectors that the kernel cannot read: zeros, a list of them, an archive marked incomplete', async () => {
    const file = tale.home.write('dying.img', '');
    const healthy = randomLooking('a disk that dies', 2 * MIB);
    writeFileSync(file, healthy);
    const dying = loop(file);
    // What lies beyond the end of the file gives real errors of the block layer.
    truncateSync(file, 2 * MIB - 3 * 512);
    execFileSync('/usr/sbin/blockdev', ['--flushbufs', dying.path]);
    tale.configure({ config: `hosts:\n  - { name: dying, type: device, devices: [${dying.path}] }\n` });
    const run = ok(await tale.phd(['backup', 'dying/dying']));
    expect(run.stdout).toContain('INCOMPLETE: 3 sectors could not be read');
    expect(run.stderr).toContain('marked incomplete');
    const listed = linesOf(ok(await tale.phd(['list', '--vm', 'dying', '--json'])));
    expect(listed.map(({ state }) => state)).toEqual(['incomplete', 'incomplete']);
    const verified = ok(
      await tale.phd(['verify', ...listed.map(({ target, path: place }) => `${target}:${place}`)]),
    );
    expect(verified.stderr.match(/3 sectors of/g)).toHaveLength(2);
    const to = tale.path('of-dying');
    const restored = ok(await tale.phd(['restore', '--vm', 'dying', '--to', to, '--vmx']));
    expect(restored.stderr).toContain('is incomplete: 3 sectors');
    const name = path.basename(dying.path);
    healthy.fill(0, 2 * MIB - 3 * 512);
    expect(sha256(readFileSync(path.join(to, `${name}-flat.vmdk`)))).toBe(sha256(healthy));
    expect(readFileSync(path.join(to, `${name}.unreadable.log`), 'utf8')).toMatch(/\n4093-4095\n$/);
    const delta = listed.find(({ mode }) => mode === 'delta')!;
    const program = tale.file(`${delta.target}:${delta.path}`);
    const by = await runProgram('sh', [program, 'autorun', 'restore'], { cwd: tale.home.folder('by-sh') });
    expect(by.status, by.stderr + by.stdout).toBe(0);
    expect(by.stdout.match(/^INCOMPLETE: 3 sectors of the source/gm)).toHaveLength(2);
    expect(linesOf(await tale.phd(['backup', 'dying/dying', '--json']), 'done')[0]).toMatchObject({
      mode: 'delta',
      changedBlocks: 0,
      unreadableSectors: 3,
    });
  });
});

describe.runIf(hasLoopDevices())('A machine behind a line', () => {
  const tale = new Tale();
  cleanUps.push(() => tale.remove());
  let server: SshServer;
  let node: string;
  let device: LoopDevice;
  const content = randomLooking('far away', 3 * MIB + 4096);

  beforeAll(async () => {
    server = await startSshServer();
    cleanUps.push(() => server.stop());
    device = loop(tale.home.write('far.img', content));
    node = path.join(server.folder, 'sda');
    execFileSync('mknod', ['-m', '644', node, 'b', '7', String(device.minor)]);
    tale.home.write('key', server.privateKey, 0o600);
    tale.home.write('known', `[127.0.0.1]:${server.port} ${server.hostKey}\n`);
    const at = `host: 127.0.0.1, port: ${server.port}, user: ${server.user}`;
    const access = 'privateKeyFile: key, knownHostsFile: known';
    tale.configure({
      config: `hosts:\n  - { name: far, type: device, ${at}, ${access}, devices: [${node}] }\n`,
    });
  }, HOOK_TIMEOUT_MS);

  it('is imaged to a FULL, then a DELTA whose digests it makes itself', async () => {
    const full = only(linesOf(ok(await tale.phd(['backup', 'far/far', '--json'])), 'done'));
    const digest = sha256(content);
    expect(full).toMatchObject({
      mode: 'full',
      disk: 'sda.vmdk',
      checksum: { source: digest, image: digest },
    });
    content.fill(7, 5 * BLOCK, 5 * BLOCK + 512);
    poke(device.path, 5 * BLOCK, Buffer.alloc(512, 7));
    const delta = only(linesOf(ok(await tale.phd(['backup', 'far/far', '--json'])), 'done'));
    expect(delta).toMatchObject({ mode: 'delta', changedBlocks: 1, checksum: { kind: 'blocks' } });
    const to = tale.path('near');
    ok(await tale.phd(['restore', '--vm', 'far', '--to', to]));
    expect(sha256(readFileSync(path.join(to, 'sda-flat.vmdk')))).toBe(sha256(content));
  });

  it('that refuses the device says so', async () => {
    execFileSync('chmod', ['600', node]);
    const refused = await tale.phd(['backup', 'far/far']);
    execFileSync('chmod', ['644', node]);
    expect(refused.status).toBe(4);
    expect(refused.stderr).toContain('may not be read by this user');
  });
});
