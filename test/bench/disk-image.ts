/**
 * The disk of the comparison: an ext4 file system over program files of this machine, in two states, of which the
 * second differs in 2 % of the used blocks. The choice of files and of blocks follows from names and seeds alone.
 */
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { makeStub } from '../../src/datastore/stub.ts';
import { randomLooking, textLooking } from '../support/disk-images.ts';
import { requirePeer } from '../support/peers.ts';
import { runOrThrow } from './measure.ts';

export const BLOCK_BYTES = 262_144;
const USED_SHARE = 0.4;
const CHANGED_SHARE = 0.02;
const FILE_SYSTEM_BLOCK_BYTES = 4096;
const NEAR_ENOUGH_BYTES = 1024 ** 2;
const LARGEST_FILE_BYTES = 32 * 1024 ** 2;
const SOURCES = ['/usr/lib', '/usr/share', '/usr/bin'];
const FILES_A_FOLDER = 500;

export interface BenchDisk {
  /** Folder of the VM as `phd backup` takes it. */
  vmFolder: string;
  flatPath: string;
  diskBytes: number;
  /** Blocks that hold anything but zeros. */
  usedBlocks: number;
  changes: Change[];
}

export interface Change {
  block: number;
  before: Buffer;
  after: Buffer;
}

interface ProgramFile {
  path: string;
  sizeBytes: number;
  order: string;
}

/** Makes the VM in `folder`; the flat is in its first state. `folder` must hold twice the used bytes. */
export async function makeBenchDisk(folder: string, diskBytes: number): Promise<BenchDisk> {
  const vmFolder = path.join(folder, 'bench-vm');
  mkdirSync(vmFolder, { recursive: true });
  const flatPath = writeVmFiles(vmFolder, diskBytes);
  const tree = path.join(folder, 'tree');
  try {
    copyProgramFiles(tree, diskBytes * USED_SHARE);
    await makeFileSystem(flatPath, tree, diskBytes);
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
  const used = await usedBlocksOf(flatPath, diskBytes);
  return {
    vmFolder,
    flatPath,
    diskBytes,
    usedBlocks: used.length,
    changes: await planChanges(flatPath, used),
  };
}

/** A disk of holes with a little data at places spread over its whole length. */
export async function makeSparseDisk(folder: string, diskBytes: number): Promise<BenchDisk> {
  const vmFolder = path.join(folder, 'sparse-vm');
  mkdirSync(vmFolder, { recursive: true });
  const flatPath = writeVmFiles(vmFolder, diskBytes);
  const blockCount = Math.ceil(diskBytes / BLOCK_BYTES);
  const places = 32;
  const image = await open(flatPath, 'w', 0o600);
  try {
    await image.truncate(diskBytes);
    for (let at = 0; at < places; at++) {
      const block = Math.floor((at * (blockCount - 1)) / (places - 1));
      await image.write(randomLooking(`sparse ${at}`, BLOCK_BYTES), 0, BLOCK_BYTES, block * BLOCK_BYTES);
    }
  } finally {
    await image.close();
  }
  return { vmFolder, flatPath, diskBytes, usedBlocks: places, changes: [] };
}

/** Puts a file that holds one state of the disk into the other; only the blocks that differ are written. */
export async function putState(file: string, disk: BenchDisk, state: 'before' | 'after'): Promise<void> {
  const image = await open(file, 'r+');
  try {
    for (const change of disk.changes) {
      await image.write(change[state], 0, BLOCK_BYTES, change.block * BLOCK_BYTES);
    }
    await image.sync();
  } finally {
    await image.close();
  }
}

function writeVmFiles(vmFolder: string, diskBytes: number): string {
  const flatName = 'bench-flat.vmdk';
  const stub = makeStub({ type: 'vmfs', flatName, diskBytes, adapterType: 'lsilogic' });
  writeFileSync(path.join(vmFolder, 'bench.vmdk'), stub);
  const vmx = [
    '.encoding = "UTF-8"',
    'config.version = "8"',
    'virtualHW.version = "4"',
    'displayName = "bench"',
    'uuid.bios = "56 4d be ac 00 00 00 00-00 00 00 00 00 00 00 01"',
    'scsi0.present = "TRUE"',
    'scsi0.virtualDev = "lsilogic"',
    'scsi0:0.present = "TRUE"',
    'scsi0:0.fileName = "bench.vmdk"',
    'scsi0:0.deviceType = "scsi-hardDisk"',
  ];
  writeFileSync(path.join(vmFolder, 'bench.vmx'), `${vmx.join('\n')}\n`);
  return path.join(vmFolder, flatName);
}

async function makeFileSystem(image: string, tree: string, diskBytes: number): Promise<void> {
  const mkfs = await requirePeer('mkfs.ext4');
  writeFileSync(image, '', { mode: 0o600 });
  truncateSync(image, diskBytes);
  const uuid = '564dbeac-0000-4000-8000-000000000001';
  const options = ['-q', '-F', '-U', uuid, '-E', `hash_seed=${uuid},lazy_itable_init=0,root_owner=0:0`];
  await runOrThrow({ program: mkfs.path, args: [...options, '-d', tree, image], env: mkfs.env });
}

/** Copies files until they take `wantedBytes`; from the first again where the machine has not as many. */
function copyProgramFiles(tree: string, wantedBytes: number): void {
  const files = SOURCES.flatMap((source) => [...programFiles(source)]).sort((a, b) =>
    a.order < b.order ? -1 : 1,
  );
  if (files.length === 0) throw new Error(`no program files in ${SOURCES.join(', ')}`);
  let bytes = 0;
  let copied = 0;
  for (let at = 0; wantedBytes - bytes > NEAR_ENOUGH_BYTES; at++) {
    const file = files[at % files.length] as ProgramFile;
    const takenBytes = Math.ceil(file.sizeBytes / FILE_SYSTEM_BLOCK_BYTES) * FILE_SYSTEM_BLOCK_BYTES;
    if (bytes + takenBytes > wantedBytes) continue;
    const folder = path.join(tree, String(Math.floor(copied / FILES_A_FOLDER)));
    if (copied % FILES_A_FOLDER === 0) mkdirSync(folder, { recursive: true });
    copyFileSync(file.path, path.join(folder, `${copied}-${path.basename(file.path).slice(0, 100)}`));
    bytes += takenBytes;
    copied++;
  }
}

/** Plain files that are neither empty nor huge, in an order that mixes kinds and is the same in each run. */
function* programFiles(folder: string): Generator<ProgramFile> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) yield* programFiles(file);
    else if (entry.isFile()) {
      const { size, mode } = statSync(file);
      if (size === 0 || size > LARGEST_FILE_BYTES || (mode & 0o444) === 0) continue;
      yield { path: file, sizeBytes: size, order: createHash('sha1').update(file).digest('hex') };
    }
  }
}

async function usedBlocksOf(file: string, diskBytes: number): Promise<number[]> {
  const image = await open(file, 'r');
  const zero = Buffer.alloc(BLOCK_BYTES);
  const block = Buffer.alloc(BLOCK_BYTES);
  const used: number[] = [];
  try {
    for (let at = 0; at * BLOCK_BYTES < diskBytes; at++) {
      const { bytesRead } = await image.read(block, 0, BLOCK_BYTES, at * BLOCK_BYTES);
      if (!block.subarray(0, bytesRead).equals(zero.subarray(0, bytesRead))) used.push(at);
    }
  } finally {
    await image.close();
  }
  return used;
}

/** 2 % of the used whole blocks, each replaced by half noise and half text. */
async function planChanges(file: string, used: readonly number[]): Promise<Change[]> {
  const { size } = statSync(file);
  const whole = used.filter((block) => (block + 1) * BLOCK_BYTES <= size);
  const order = (block: number): string => createHash('sha1').update(`change ${block}`).digest('hex');
  const chosen = whole
    .map((block) => ({ block, order: order(block) }))
    .sort((a, b) => (a.order < b.order ? -1 : 1))
    .slice(0, Math.max(1, Math.round(whole.length * CHANGED_SHARE)))
    .sort((a, b) => a.block - b.block);
  const image = await open(file, 'r');
  try {
    const changes: Change[] = [];
    for (const { block } of chosen) {
      const before = Buffer.alloc(BLOCK_BYTES);
      await image.read(before, 0, BLOCK_BYTES, block * BLOCK_BYTES);
      const half = BLOCK_BYTES / 2;
      const after = Buffer.concat([
        randomLooking(`change ${block}`, half),
        textLooking(`change ${block}`, half),
      ]);
      changes.push({ block, before, after });
    }
    return changes;
  } finally {
    await image.close();
  }
}
