/** What is kept beside the image of a device: its partition table, what could not be read, the checksums of both sides. */
import { createHash } from 'node:crypto';
import { BLOCK_BYTES } from '../../archive/geometry.ts';
import { PhdError } from '../../errors.ts';
import type { AccountHooks, DiskAccount, ImageChecksum, ImageMap } from '../../model/disk-reader.ts';
import { shellQuoted } from '../../storage/shell-word.ts';
import type { DeviceFacts } from './device-facts.ts';
import type { DeviceReader } from './device-reader.ts';
import type { Machine } from './machine.ts';
import type { PartitionTable } from './partition-table.ts';

/** Kept of both ends: MBR, GPT and its backup lie in them, also with sectors of 4,096 bytes. */
const END_BYTES = 32 * 1024;
const MAX_DUMP_BYTES = 256 * 1024;

export interface AccountedDevice {
  machine: Machine;
  facts: DeviceFacts;
  reader: DeviceReader;
  table: PartitionTable;
  /** `sda`: the files are named by it. */
  baseName: string;
}

/**
 * Compares source and image, and gives the files. Throws SOURCE_CHANGED if they differ, TARGET_*, CANCELLED.
 * Beside a FULL it is the SHA-256 of all bytes; beside a DELTA, whose unchanged blocks were not read, the digest of the
 * digests of all blocks, which the machine makes anew.
 */
export async function accountOf(
  device: AccountedDevice,
  image: ImageMap,
  mode: 'full' | 'delta',
  hooks: AccountHooks,
): Promise<DiskAccount> {
  const { facts, reader, baseName } = device;
  const { signal } = hooks;
  const checksum =
    mode === 'full' ? await wholeChecksum(device, hooks) : await blockChecksum(device, image, hooks);
  if (checksum.source !== null && checksum.image !== null && checksum.source !== checksum.image) {
    const held =
      facts.uses.length > 0
        ? 'image an LVM snapshot of it, or start a rescue system'
        : 'let nothing write to it';
    throw new PhdError(
      'SOURCE_CHANGED',
      `${facts.path} on ${device.machine.name} changed while it was read: its checksum is ${checksum.source}, that of the image ${checksum.image}; ${held}`,
    );
  }
  const edge = Math.min(END_BYTES, facts.sizeBytes);
  const files = [
    { name: `${baseName}.device.log`, bytes: Buffer.from(deviceText(device, checksum)) },
    { name: `${baseName}.partitions.log`, bytes: await partitionDump(device, signal) },
    { name: `${baseName}.first-sectors.bin.log`, bytes: await bytesAt(reader, 0, edge, signal) },
    {
      name: `${baseName}.last-sectors.bin.log`,
      bytes: await bytesAt(reader, facts.sizeBytes - edge, edge, signal),
    },
  ];
  const unreadable = unreadableText(device);
  if (unreadable !== null) files.push({ name: `${baseName}.unreadable.log`, bytes: Buffer.from(unreadable) });
  return { files, unreadableSectors: reader.unreadableCount, checksum };
}

async function wholeChecksum({ reader }: AccountedDevice, hooks: AccountHooks): Promise<ImageChecksum> {
  const image = reader.imageSha256();
  return { kind: 'sha256', source: await reader.sourceSha256(hooks), image };
}

async function blockChecksum(
  { reader, facts }: AccountedDevice,
  image: ImageMap,
  { onBytes, signal }: AccountHooks,
): Promise<ImageChecksum> {
  const imageDigest = image.end.mapDigest.toString('hex');
  const digestsOf = reader.digests;
  // The machine cannot make digests of what it cannot read.
  if (digestsOf === null || reader.unreadableCount > 0)
    return { kind: 'blocks', source: null, image: imageDigest };
  const hash = createHash('sha256');
  for await (const { firstBlock, count } of image.regions()) {
    hash.update((await digestsOf({ firstBlock, count }, signal)).digests);
    onBytes(Math.min(count * BLOCK_BYTES, facts.sizeBytes - firstBlock * BLOCK_BYTES));
  }
  return { kind: 'blocks', source: hash.digest('hex'), image: imageDigest };
}

async function bytesAt(
  reader: DeviceReader,
  offsetBytes: number,
  bytes: number,
  signal?: AbortSignal,
): Promise<Buffer> {
  const target = Buffer.alloc(bytes);
  await reader.readBytes(offsetBytes, target, signal);
  return target;
}

/** As `sfdisk` reads it again where the machine has it, else our own reading of the table. */
async function partitionDump(
  { machine, facts, table }: AccountedDevice,
  signal?: AbortSignal,
): Promise<Buffer> {
  if (facts.hasSfdisk && table.kind !== 'none') {
    const command = `sfdisk -d ${shellQuoted(facts.realPath)}`;
    const { status, stdout } = await machine.run(command, { maxBytes: MAX_DUMP_BYTES, signal });
    if (status === 0 && stdout.length > 0) return stdout;
  }
  const lines = table.partitions.map(
    ({ number, startBytes, sizeBytes, type, content }) =>
      `${number}: start=${startBytes / facts.sectorBytes}, size=${sizeBytes / facts.sectorBytes}, type=${type}${content === null ? '' : `, content=${content}`}`,
  );
  const head = [
    `# read by phd: no dump of sfdisk is to be had`,
    `label: ${table.kind}`,
    `sector-size: ${facts.sectorBytes}`,
  ];
  return Buffer.from(`${[...head, ...lines, ...table.notices.map((notice) => `# ${notice}`)].join('\n')}\n`);
}

function deviceText({ machine, facts, table, reader }: AccountedDevice, checksum: ImageChecksum): string {
  const kind = checksum.kind === 'sha256' ? 'SHA-256' : 'SHA-256 of the block digests';
  const lines = [
    `machine: ${machine.name}`,
    `device: ${facts.path}${facts.realPath === facts.path ? '' : ` (${facts.realPath})`}`,
    `model: ${facts.model ?? 'not told'}`,
    `serial: ${facts.serial ?? 'not told'}`,
    `size: ${facts.sizeBytes} bytes`,
    `sector: ${facts.sectorBytes} bytes`,
    `partition table: ${table.kind}`,
    `in use: ${facts.uses.length === 0 ? 'no' : facts.uses.join('; ')}`,
    `${kind} of the source: ${checksum.source ?? 'not made'}`,
    `${kind} of the image: ${checksum.image ?? 'not made'}`,
    `unreadable sectors: ${reader.unreadableCount}`,
  ];
  return `${lines.join('\n')}\n`;
}

/** Null if all could be read. */
function unreadableText({ facts, reader }: AccountedDevice): string | null {
  const ranges = reader.unreadable();
  if (ranges.length === 0) return null;
  const lines = ranges.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`));
  const head = `# sectors of ${facts.sectorBytes} bytes (LBA, from 0) of ${facts.path} that could not be read: zeros stand for them`;
  return `${[head, ...lines].join('\n')}\n`;
}
