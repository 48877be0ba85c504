/**
 * Small real disks and VM folders for tests. Contents follow from the seed alone (file systems carry the time
 * they were made as well).
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { makeStub } from '../../src/datastore/stub.ts';
import { requirePeer } from './peers.ts';

const run = promisify(execFile);
const CHUNK_BYTES = 65_536;

/** Bytes that do not compress, the same for the same seed. */
export function randomLooking(seed: string, sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (let at = 0, round = 0; at < sizeBytes; at += 32, round++) {
    createHash('sha256').update(`${seed} ${round}`).digest().copy(bytes, at);
  }
  return bytes;
}

/** Text that compresses, the same for the same seed. */
export function textLooking(seed: string, sizeBytes: number): Buffer {
  return Buffer.alloc(sizeBytes, `${seed} ${createHash('sha256').update(seed).digest('hex')}\n`);
}

/** A number in 0 .. limit-1 from the seed. */
function pick(seed: string, limit: number): number {
  return createHash('sha256').update(seed).digest().readUInt32LE(0) % limit;
}

/**
 * A sparse image: of its 64 KiB pieces about a quarter random, a quarter text, the rest holes; the last piece is
 * always filled, so that the size shows.
 */
export async function makePatternImage(file: string, sizeBytes: number, seed: string): Promise<void> {
  const image = await open(file, 'w', 0o600);
  try {
    await image.truncate(sizeBytes);
    for (let at = 0; at < sizeBytes; at += CHUNK_BYTES) {
      const length = Math.min(CHUNK_BYTES, sizeBytes - at);
      const kind = pick(`${seed} kind ${at}`, 4);
      const isLast = at + length === sizeBytes;
      if (kind === 0 || isLast) await image.write(randomLooking(`${seed} ${at}`, length), 0, length, at);
      else if (kind === 1) await image.write(textLooking(`${seed} ${at}`, length), 0, length, at);
    }
  } finally {
    await image.close();
  }
}

/**
 * Overwrites `pieces` pieces of 4 KiB of an image or flat at places that follow from the seed, some with zeros.
 * Returns their offsets.
 */
export async function changeImage(file: string, pieces: number, seed: string): Promise<number[]> {
  const image = await open(file, 'r+');
  try {
    const { size } = await image.stat();
    const offsets = new Set<number>();
    for (let n = 0; n < pieces; n++)
      offsets.add(pick(`${seed} place ${n}`, Math.floor(size / 4_096)) * 4_096);
    for (const at of offsets) {
      const isZero = pick(`${seed} zero ${at}`, 5) === 0;
      await image.write(isZero ? Buffer.alloc(4_096) : randomLooking(`${seed} ${at}`, 4_096), 0, 4_096, at);
    }
    return [...offsets].sort((a, b) => a - b);
  } finally {
    await image.close();
  }
}

/** Some files in a folder: folders, an empty file, text, noise, odd names. */
function makeFileTree(folder: string, seed: string): void {
  mkdirSync(path.join(folder, 'etc', 'deep', 'er'), { recursive: true });
  writeFileSync(path.join(folder, 'etc', 'hostname'), `${seed}\n`);
  writeFileSync(path.join(folder, 'etc', 'empty'), '');
  writeFileSync(path.join(folder, 'etc', 'deep', 'er', "a 'name' $(with) ü.txt"), textLooking(seed, 5_000));
  writeFileSync(path.join(folder, 'noise.bin'), randomLooking(`${seed} noise`, 700_001));
  writeFileSync(path.join(folder, 'log.txt'), textLooking(`${seed} log`, 400_000));
}

/** An image with an ext4 file system that holds some files; 4 MiB or more. `fsck.ext4 -fn` finds it clean. */
export async function makeExt4Image(file: string, sizeBytes: number, seed: string): Promise<void> {
  const mkfs = await requirePeer('mkfs.ext4');
  const tree = mkdtempSync(path.join(tmpdir(), 'phd-tree-'));
  const uuid = createHash('sha256')
    .update(seed)
    .digest('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, '$1-$2-$3-$4-$5');
  try {
    makeFileTree(tree, seed);
    await makeHole(file, sizeBytes);
    const options = ['-q', '-F', '-U', uuid, '-E', `hash_seed=${uuid},lazy_itable_init=0,root_owner=0:0`];
    await run(mkfs.path, [...options, '-d', tree, file], { env: mkfs.env });
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}

/** An image with an empty FAT file system; `fsck.vfat -n` finds it clean. */
export async function makeVfatImage(file: string, sizeBytes: number, seed: string): Promise<void> {
  const mkfs = await requirePeer('mkfs.vfat');
  await makeHole(file, sizeBytes);
  const volumeId = createHash('sha256').update(seed).digest('hex').slice(0, 8);
  await run(mkfs.path, ['-i', volumeId, '-n', 'PHDTEST', file], { env: mkfs.env });
}

async function makeHole(file: string, sizeBytes: number): Promise<void> {
  const image = await open(file, 'w', 0o600);
  try {
    await image.truncate(sizeBytes);
  } finally {
    await image.close();
  }
}

export interface TestDiskRequest {
  /** Name of the descriptor, `CRM.vmdk`. */
  name: string;
  sizeBytes: number;
  /** Default `pattern`. */
  content?: 'pattern' | 'ext4' | 'vfat' | 'zero';
  /** Default scsi0:N in order. */
  slot?: string;
}

export interface TestVmRequest {
  vmName: string;
  disks: readonly TestDiskRequest[];
  /** Default the name of the VM. */
  displayName?: string;
  /** As in the VMX; default follows from the name, null writes none. */
  uuidBios?: string | null;
  /** Default the name of the VM. */
  seed?: string;
}

export interface TestVm {
  folder: string;
  vmxPath: string;
  disks: { name: string; descriptorPath: string; flatPath: string; sizeBytes: number }[];
}

async function makeDisk(
  folder: string,
  disk: TestDiskRequest,
  seed: string,
): Promise<TestVm['disks'][number]> {
  const flatName = disk.name.replace(/\.vmdk$/, '-flat.vmdk');
  const flatPath = path.join(folder, flatName);
  const makers = { pattern: makePatternImage, ext4: makeExt4Image, vfat: makeVfatImage, zero: makeHole };
  await makers[disk.content ?? 'pattern'](flatPath, disk.sizeBytes, `${seed} ${disk.name}`);
  const descriptorPath = path.join(folder, disk.name);
  const stub = makeStub({ type: 'vmfs', flatName, diskBytes: disk.sizeBytes, adapterType: 'lsilogic' });
  writeFileSync(
    descriptorPath,
    stub.replace('# The Disk Data Base', '# A comment that must survive\n\n# The Disk Data Base'),
  );
  return { name: disk.name, descriptorPath, flatPath, sizeBytes: disk.sizeBytes };
}

function uuidInVmx(seed: string): string {
  const bytes = createHash('sha256').update(`uuid ${seed}`).digest('hex').slice(0, 32).match(/../g) ?? [];
  return `${bytes.slice(0, 8).join(' ')}-${bytes.slice(8).join(' ')}`;
}

/** A VM folder as ESX leaves it: VMX, `.vmxf`, `.vmsd`, NVRAM, logs, and for each disk descriptor and flat. */
export async function makeVmFolder(datastore: string, request: TestVmRequest): Promise<TestVm> {
  const { vmName } = request;
  const seed = request.seed ?? vmName;
  const folder = path.join(datastore, vmName);
  mkdirSync(folder, { recursive: true });
  const disks: TestVm['disks'] = [];
  for (const disk of request.disks) disks.push(await makeDisk(folder, disk, seed));
  const uuid = request.uuidBios === undefined ? uuidInVmx(seed) : request.uuidBios;
  const lines = [
    '#!/usr/bin/vmware',
    '.encoding = "UTF-8"',
    'config.version = "8"',
    'virtualHW.version = "4"',
    `displayName = "${request.displayName ?? vmName}"`,
    ...(uuid === null ? [] : [`uuid.bios = "${uuid}"`, `uuid.location = "${uuid}"`]),
    `nvram = "${vmName}.nvram"`,
    'scsi0.present = "TRUE"',
    'scsi0.virtualDev = "lsilogic"',
    ...request.disks.flatMap((disk, index) => {
      const slot = disk.slot ?? `scsi0:${index}`;
      return [
        `${slot}.present = "TRUE"`,
        `${slot}.fileName = "${disk.name}"`,
        `${slot}.deviceType = "scsi-hardDisk"`,
      ];
    }),
    'ide1:0.present = "TRUE"',
    'ide1:0.deviceType = "cdrom-image"',
    'ide1:0.fileName = "/vmfs/volumes/iso/none.iso"',
    'ethernet0.present = "TRUE"',
    'ethernet0.addressType = "generated"',
    'ethernet0.generatedAddress = "00:0c:29:43:64:18"',
    'guestOS = "other26xlinux"',
  ];
  const vmxPath = path.join(folder, `${vmName}.vmx`);
  writeFileSync(vmxPath, `${lines.join('\n')}\n`);
  writeFileSync(path.join(folder, `${vmName}.vmxf`), '<?xml version="1.0"?>\n<Foundry/>\n');
  writeFileSync(path.join(folder, `${vmName}.vmsd`), '');
  writeFileSync(path.join(folder, `${vmName}.nvram`), randomLooking(`${seed} nvram`, 8_684));
  writeFileSync(path.join(folder, 'vmware.log'), textLooking(`${seed} log`, 60_000));
  writeFileSync(path.join(folder, 'vmware-1.log'), textLooking(`${seed} old log`, 20_000));
  return { folder, vmxPath, disks };
}
