/**
 * Reading devices: a real loop device by the shell of busybox, over a line that is cut, and with sectors in its middle that
 * cannot be read. The last are simulated: this kernel may lack the device mapper, so a shell function stands for `dd` and
 * refuses those sectors with the words of the real one. Errors of a real block device are in device-host.test.ts.
 */
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseVmx, vmxDisks, vmxUuid } from '../../src/datastore/vmx.ts';
import { parseFacts } from '../../src/hosts/device/device-facts.ts';
import { DeviceHost, diskName, openDeviceHost, scsiIdOf } from '../../src/hosts/device/device-host.ts';
import { deviceVmx, familyOf } from '../../src/hosts/device/device-vmx.ts';
import type { Machine } from '../../src/hosts/device/machine.ts';
import { contentOf, readPartitionTable } from '../../src/hosts/device/partition-table.ts';
import type { FrozenVm, HostVm } from '../../src/hosts/host.ts';
import type { HostConfig } from '../../src/model/config.ts';
import type { DiskReader } from '../../src/model/disk-reader.ts';
import { randomLooking } from '../support/disk-images.ts';
import { attachLoop, hasLoopDevices, type LoopDevice } from '../support/loop-device.ts';
import { gptImage } from '../support/partitioned-image.ts';
import { requirePeer, writePeerScript } from '../support/peers.ts';
import { startCutProxy } from '../support/servers/cut-proxy.ts';
import { type SshServer, startSshServer } from '../support/servers/sshd.ts';
import { makeTempHome } from '../support/temp-home.ts';

const BLOCK = 262_144;
const SIZE = 5 * BLOCK + 8192;
const VM: HostVm = { id: 'box', name: 'box', uuid: null, place: null, power: 'on' };

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** A shell with words of its own before each command. */
class ShellMachine implements Machine {
  readonly name = 'box';
  readonly commands: string[] = [];

  constructor(
    private readonly shell: string[],
    private readonly folder: string,
    private readonly before = '',
  ) {}

  run(command: string): ReturnType<Machine['run']> {
    this.commands.push(command);
    const [file = '', ...words] = this.shell;
    const options = { encoding: 'buffer', maxBuffer: 1e9, env: { PATH: this.folder, LC_ALL: 'C' } } as const;
    return new Promise((resolve) => {
      execFile(file, [...words, `${this.before}${command}`], options, (error, stdout, stderr) =>
        resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr: stderr.toString() }),
      );
    });
  }

  close(): void {}
}

function configOf(devices: string[], more: Partial<HostConfig> = {}): HostConfig {
  return {
    name: 'box',
    type: 'device',
    host: null,
    port: null,
    user: null,
    password: null,
    privateKeyFile: null,
    privateKeyPassphrase: null,
    knownHostsFile: null,
    tlsPin: null,
    memberTlsPins: [],
    legacyAlgorithms: false,
    timeoutMs: 20_000,
    devices,
    ...more,
  };
}

async function freeze(host: DeviceHost, warnings: string[] = []): Promise<FrozenVm> {
  return await host.freeze(VM, { onWarning: (line) => warnings.push(line) });
}

function readerOf(frozen: FrozenVm): DiskReader {
  const reader = frozen.source.disks[0]?.reader;
  if (!reader) throw new Error(frozen.source.refused[0]?.error.message ?? 'no disk');
  return reader;
}

/** From begin to end, two requests at once. */
async function readAll(reader: DiskReader): Promise<Buffer> {
  const all = Buffer.alloc(SIZE);
  await Promise.all([reader.read(0, all.subarray(0, 3 * BLOCK)), reader.read(3, all.subarray(3 * BLOCK))]);
  return all;
}

const noMap = { end: { mapDigest: Buffer.alloc(32) }, async *regions() {} };

describe.runIf(hasLoopDevices())('A device', () => {
  const home = makeTempHome();
  const content = randomLooking('device', SIZE);
  let device: LoopDevice;
  let server: SshServer;
  beforeAll(async () => {
    content.fill(0, BLOCK, 2 * BLOCK);
    device = attachLoop(home.write('disk.img', content));
    server = await startSshServer();
  });
  afterAll(async () => {
    device.detach();
    await server.stop();
    home.remove();
  });

  it('is read, hashed and told by busybox alone as by all tools', async () => {
    const busybox = (await requirePeer('busybox')).path;
    const folder = home.folder('applets');
    execFileSync(busybox, ['--install', '-s', folder]);
    const small = new ShellMachine([busybox, 'ash', '-c'], folder);
    const large = new ShellMachine(['/bin/sh', '-c'], process.env.PATH ?? '');
    // Names are words of a shell, whatever stands in them.
    const node = path.join(home.root, `it's a "disk" $(id) -n`);
    execFileSync('mknod', [node, 'b', '7', String(device.minor)]);
    const told: unknown[] = [];
    for (const machine of [small, large]) {
      const host = new DeviceHost(configOf([node]), machine);
      const reader = readerOf(await freeze(host));
      expect((await readAll(reader)).equals(content)).toBe(true);
      const digests = await reader.digests?.({ firstBlock: 0, count: 6 });
      let readAgain = 0;
      const onBytes = (bytes: number): void => {
        readAgain += bytes;
      };
      const account = await reader.account?.(noMap, 'full', { onBytes });
      expect(readAgain).toBe(SIZE);
      expect(account?.checksum).toEqual({ kind: 'sha256', source: sha256(content), image: sha256(content) });
      told.push([digests?.digests.toString('hex'), digests?.regionDigest.toString('hex')]);
    }
    expect(
      small.commands.some((command) => command.includes('python3 -c') && command.includes(BLOCK.toString())),
    ).toBe(false);
    const blocks = Array.from({ length: 6 }, (_, at) => content.subarray(at * BLOCK, (at + 1) * BLOCK));
    const expected = blocks.map((block, at) => (at === 1 ? '0'.repeat(64) : sha256(block))).join('');
    expect(told).toEqual([
      [expected, sha256(content)],
      [expected, sha256(content)],
    ]);
  });

  it('loses nothing but the sectors that cannot be read, and keeps them zero for the run', async () => {
    const bad = [1000, 1001, 1533];
    const refuse = `dd() {
      for w; do case $w in skip=*) s=\${w#*=};; bs=*) b=\${w#*=};; count=*) c=\${w#*=};; esac; done
      for x in ${bad.join(' ')}; do
        if [ $((x * 512)) -ge $((s * b)) ] && [ $((x * 512)) -lt $(((s + c) * b)) ]; then
          echo "dd: error reading '${device.path}': Input/output error" >&2; return 1; fi
      done; command dd "$@"; }
`;
    const warnings: string[] = [];
    const machine = new ShellMachine(['/bin/sh', '-c'], process.env.PATH ?? '', refuse);
    const frozen = await freeze(new DeviceHost(configOf([device.path]), machine), warnings);
    const reader = readerOf(frozen);
    const expected = Buffer.from(content);
    for (const sector of bad) expected.fill(0, sector * 512, (sector + 1) * 512);
    expect((await readAll(reader)).equals(expected)).toBe(true);
    const before = machine.commands.length;
    expect((await readAll(reader)).equals(expected)).toBe(true);
    // They are not tried again.
    expect(
      machine.commands.slice(before).some((command) => /bs=512 skip=(1000|1001|1533) count=1 /.test(command)),
    ).toBe(false);
    const digests = await reader.digests?.({ firstBlock: 0, count: 6 });
    expect(digests?.regionDigest.toString('hex')).toBe(sha256(expected));
    const account = await reader.account?.(noMap, 'full', { onBytes: () => undefined });
    expect(account).toMatchObject({
      unreadableSectors: 3,
      checksum: { source: null, image: sha256(expected) },
    });
    const list = account?.files.find(({ name }) => name.endsWith('.unreadable.log'))?.bytes.toString();
    expect(list?.split('\n').slice(1)).toEqual(['1000-1001', '1533', '']);
    expect(warnings.join()).toContain('3 sectors could not be read');
  });

  it('that changes while it is read has no image', async () => {
    const machine = new ShellMachine(['/bin/sh', '-c'], process.env.PATH ?? '');
    const reader = readerOf(await freeze(new DeviceHost(configOf([device.path]), machine)));
    const far = home.write('other.img', randomLooking('other', SIZE));
    const other = attachLoop(far);
    try {
      await readAll(reader);
      const swapped = machine.run.bind(machine);
      machine.run = (command) => swapped(command.replaceAll(device.path, other.path));
      await expect(reader.account?.(noMap, 'full', { onBytes: () => undefined })).rejects.toMatchObject({
        code: 'SOURCE_CHANGED',
      });
    } finally {
      other.detach();
    }
  });

  it('has its partition table kept as sfdisk dumps it, and sfdisk makes the same table of the dump', async () => {
    const part = { startSector: 2048, content: Buffer.alloc(512 * 2048) };
    const image = gptImage(4 * 1_048_576, [
      { type: 'efiSystem', ...part },
      { type: 'linux', startSector: 4096, content: part.content },
    ]);
    const disk = attachLoop(home.write('gpt.img', image));
    const bin = home.folder('with-sfdisk');
    const sfdisk = path.join(bin, 'sfdisk');
    await writePeerScript(await requirePeer('sfdisk'), sfdisk);
    try {
      const machine = new ShellMachine(['/bin/sh', '-c'], `${bin}:${process.env.PATH}`);
      const reader = readerOf(await freeze(new DeviceHost(configOf([disk.path]), machine)));
      await reader.read(0, Buffer.alloc(image.length));
      const account = await reader.account?.(noMap, 'full', { onBytes: () => undefined });
      const dump =
        account?.files.find(({ name }) => name.endsWith('.partitions.log'))?.bytes.toString() ?? '';
      expect(dump).toMatch(/^label: gpt$/m);
      expect(dump.match(/ start= +(2048|4096), size= +2048, /g)).toHaveLength(2);
      const anew = home.write('anew.img', Buffer.alloc(image.length));
      execFileSync(sfdisk, ['-q', '--no-reread', anew], { input: dump });
      const without = (text: string): string =>
        text.replace(/^device: .*$/m, '').replace(/^\S+(\d) :/gm, '$1 :');
      expect(without(execFileSync(sfdisk, ['-d', anew], { encoding: 'utf8' }))).toBe(without(dump));
    } finally {
      disk.detach();
    }
  });

  it('is read between the commands before and after, the latter once whatever happened', async () => {
    const host = new DeviceHost(
      configOf([device.path]),
      new ShellMachine(['/bin/sh', '-c'], process.env.PATH ?? ''),
    );
    const log = home.write('hooks', '');
    const said: string[] = [];
    const hooks = { postThaw: `echo after >>${log}`, onWarning: (line: string) => said.push(line) };
    const frozen = await host.freeze(VM, { ...hooks, preFreeze: `echo before $PHD_VM >>${log}; echo words` });
    expect(readFileSync(log, 'utf8')).toBe('before box\n');
    await frozen.release();
    await frozen.release();
    expect(readFileSync(log, 'utf8')).toBe('before box\nafter\n');
    expect(said.join()).toContain('words');
    await expect(host.freeze(VM, { ...hooks, preFreeze: 'exit 7' })).rejects.toMatchObject({
      code: 'PROGRAM_FAILED',
      message: expect.stringContaining('status 7'),
    });
    expect(readFileSync(log, 'utf8')).toBe('before box\nafter\nafter\n');
  });

  it('that vanishes is no device full of zeros', async () => {
    const gone = `dd() { echo "dd: failed to open '/dev/x': No such device or address" >&2; return 1; }\n`;
    const machine = new ShellMachine(['/bin/sh', '-c'], process.env.PATH ?? '', gone);
    const frozen = await freeze(new DeviceHost(configOf([device.path]), machine));
    expect(frozen.source.refused[0]?.error).toMatchObject({
      code: 'IO',
      message: expect.stringContaining('No such device'),
    });
  });

  it('goes on over a new line when the line is cut', async () => {
    const proxy = await startCutProxy(server.port);
    const node = path.join(server.folder, 'sdb');
    execFileSync('mknod', ['-m', '644', node, 'b', '7', String(device.minor)]);
    const config = configOf([node], {
      host: '127.0.0.1',
      port: proxy.port,
      user: server.user,
      privateKeyFile: '/key',
    });
    const lines: string[] = [];
    const host = openDeviceHost(config, {
      password: async () => null,
      privateKey: async () => server.privateKey,
      privateKeyPassphrase: async () => null,
      askHostKey: async () => true,
      log: (line) => lines.push(line),
      home: '/home/of/phd',
      scratch: () => Promise.reject(new Error('none is needed here')),
    });
    try {
      const reader = readerOf(await freeze(host));
      const reading = readAll(reader);
      proxy.cut();
      expect((await reading).equals(content)).toBe(true);
      expect(lines.join()).toContain('connecting again');
    } finally {
      await host.close();
      await proxy.stop();
    }
  });
});

describe('What a machine tells', () => {
  it('is parsed with limits, whatever it is', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.array(fc.string()), (text, lines) => {
        const said = ['@size 2048', '@real /dev/sda', ...lines.map((line) => `@mount ${line}`), text].join(
          '\n',
        );
        try {
          const facts = parseFacts('/dev/sda', 'box', said);
          expect(facts.sizeBytes).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toMatchObject({
            code: expect.stringMatching(/^(NOT_FOUND|SOURCE_UNSUPPORTED|TARGET_REFUSED)$/),
          });
        }
      }),
    );
  });

  it('is parsed in time that grows with its length alone', () => {
    const most = 4 * 1024 * 1024;
    const text = `@size 2048\n${'@mount\n'.repeat((most - 11) / 7)}`;
    expect(parseFacts('/dev/sda', 'box', text)).toMatchObject({ sizeBytes: 1_048_576, uses: [] });
  });

  it('names every use of the device and of its partitions', () => {
    const text = [
      '@real /dev/sda',
      '@number 8:0',
      '@size 4096',
      '@part sda1 8:1 34 100',
      '@part sda2 8:2 134 100',
      '@holder sda2 dm-0',
      '@mount 25 1 8:1 / /mnt/with\\040blank rw - ext4 /dev/sda1 rw',
      '@mount 26 1 0:30 / /data rw - btrfs /dev/sda2 rw',
      '@mount 27 1 8:17 / /other rw - ext4 /dev/sdb1 rw',
      '@swap /dev/sda1 partition 1 0 -2',
    ].join('\n');
    expect(parseFacts('/dev/disk/by-id/x', 'box', text)).toMatchObject({
      isMapped: true,
      uses: [
        'sda1 is mounted on /mnt/with blank',
        'sda2 is mounted on /data',
        'sda1 is swap space in use',
        'sda2 is held by dm-0 (LVM, RAID or encryption)',
      ],
    });
  });

  it('gives each disk a name of its own', () => {
    const devices = ['/dev/sda', '/dev/disk/by-id/a b:c', '/mnt/sda'];
    expect(devices.map((_, at) => diskName(devices, at))).toEqual(['sda.vmdk', 'a_b_c.vmdk', 'sda_2.vmdk']);
  });
});

describe('A partition table', () => {
  const tableOf = (image: Buffer) =>
    readPartitionTable(
      async (offset, bytes) => {
        if (offset < 0 || offset + bytes > image.length) throw new RangeError('outside');
        return image.subarray(offset, offset + bytes);
      },
      image.length,
      512,
    );

  function mbr(at: number, entries: { type: number; start: number; sectors: number }[], image: Buffer): void {
    const sector = image.subarray(at * 512, (at + 1) * 512);
    entries.forEach(({ type, start, sectors }, index) => {
      sector.writeUInt8(type, 446 + 16 * index + 4);
      sector.writeUInt32LE(start, 446 + 16 * index + 8);
      sector.writeUInt32LE(sectors, 446 + 16 * index + 12);
    });
    sector.writeUInt16LE(0xaa55, 510);
  }

  it('of an MBR is read with its logical partitions, and a chain that loops ends', async () => {
    const image = Buffer.alloc(512 * 4096);
    mbr(
      0,
      [
        { type: 0x83, start: 64, sectors: 64 },
        { type: 5, start: 1024, sectors: 3000 },
      ],
      image,
    );
    mbr(
      1024,
      [
        { type: 0x82, start: 8, sectors: 8 },
        { type: 5, start: 100, sectors: 100 },
      ],
      image,
    );
    mbr(
      1124,
      [
        { type: 0x8e, start: 8, sectors: 8 },
        { type: 5, start: 100, sectors: 100 },
      ],
      image,
    );
    const table = await tableOf(image);
    expect(table).toMatchObject({ kind: 'mbr', isEfi: false });
    expect(table.partitions.map(({ number, type, startBytes }) => [number, type, startBytes / 512])).toEqual([
      [1, 'linux', 64],
      [5, 'linux swap', 1032],
      [6, 'linux lvm', 1132],
    ]);
    expect(table.notices).toEqual(['the chain of logical partitions leads nowhere']);
  });

  it('of a GPT tells EFI, and that its backup is missing', async () => {
    const image = gptImage(512 * 4096, [
      { type: 'efiSystem', startSector: 64, content: Buffer.alloc(512 * 64) },
    ]);
    expect(await tableOf(image)).toMatchObject({ kind: 'gpt', isEfi: true, notices: [] });
    image.fill(0, image.length - 512);
    expect((await tableOf(image)).notices).toEqual([
      'the backup of the GPT at the end of the device is damaged',
    ]);
  });

  it('that is torn or hostile is a notice, never a failure', async () => {
    const whole = gptImage(512 * 4096, [
      { type: 'efiSystem', startSector: 64, content: Buffer.alloc(512 * 64) },
      { type: 'linux', startSector: 128, content: Buffer.alloc(512 * 64) },
    ]);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(34 * 512 - 1), fc.nat(255)), { minLength: 1, maxLength: 40 }),
        async (flips) => {
          const image = Buffer.from(whole);
          for (const [at, byte] of flips) image[at] = byte;
          const { partitions } = await tableOf(image);
          for (const { startBytes, sizeBytes } of partitions)
            expect(startBytes + sizeBytes).toBeLessThanOrEqual(image.length);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('is not looked for in what is a file system itself', () => {
    expect(contentOf(Buffer.alloc(0))).toBeNull();
    fc.assert(fc.property(fc.uint8Array({ maxLength: 5000 }), (bytes) => void contentOf(Buffer.from(bytes))));
  });
});

describe('The VMX of a machine', () => {
  it('is read as it was meant, whatever the machine is called', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', minLength: 1 }),
        fc.uniqueArray(fc.nat(59), { maxLength: 9 }),
        (name, slots) => {
          const disks = slots.map((at) => ({ scsiId: scsiIdOf(at), name: `disk${at}.vmdk` }));
          const text = deviceVmx({
            name,
            uuid: '6f7ed9b1-e125-5d32-9cd3-d5ddd0bc8c90',
            family: 'windows',
            isEfi: true,
            memoryMib: 999_999,
            cpus: 64,
            disks,
          });
          const vmx = parseVmx(Buffer.from(text), 'box.vmx');
          expect(vmx.values.get('displayname')).toBe(name);
          expect(vmxUuid(vmx.values.get('uuid.bios'))).toBe('6f7ed9b1-e125-5d32-9cd3-d5ddd0bc8c90');
          expect([vmx.values.get('firmware'), vmx.duplicates]).toEqual(['efi', []]);
          const read = vmxDisks(vmx).map(({ scsiId, fileName }) => `${scsiId} ${fileName}`);
          expect(read.sort()).toEqual(disks.map(({ scsiId, name: disk }) => `${scsiId} ${disk}`).sort());
        },
      ),
      { numRuns: 50 },
    );
  });

  it('guesses the guest by the partitions of all devices', () => {
    const of = (...parts: [string, string | null][]) => ({
      kind: 'gpt' as const,
      isEfi: false,
      notices: [],
      partitions: parts.map(([type, content], at) => ({
        number: at + 1,
        startBytes: 0,
        sizeBytes: 1,
        type,
        content,
      })),
    });
    expect(familyOf([of(['efi system', 'vfat'], ['windows data', 'ntfs'])])).toBe('windows');
    expect(familyOf([of(['windows data', 'ext4'])])).toBe('linux');
    expect(familyOf([of(['0x8e', 'LVM'])])).toBe('linux');
    expect(familyOf([of(['freebsd', null])])).toBe('freebsd');
    expect(familyOf([of()])).toBe('other');
  });
});
