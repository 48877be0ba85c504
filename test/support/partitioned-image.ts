/** Images of disks with a GPT, written from the UEFI document, so that no tool of partitions is needed. */
import { crc32 } from 'node:zlib';

const SECTOR = 512;
const ENTRIES = 128;
const ENTRY_BYTES = 128;
const ARRAY_SECTORS = (ENTRIES * ENTRY_BYTES) / SECTOR;

export const GPT_TYPE = {
  efiSystem: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
  linux: '0fc63daf-8483-4772-8e79-3d69d8477de4',
} as const;

export interface ImagePartition {
  type: keyof typeof GPT_TYPE;
  startSector: number;
  content: Buffer;
}

/** A disk with protective MBR, GPT and its backup at the end. */
export function gptImage(sizeBytes: number, partitions: readonly ImagePartition[]): Buffer {
  const image = Buffer.alloc(sizeBytes);
  const lastSector = sizeBytes / SECTOR - 1;
  image.writeUInt8(0xee, 446 + 4);
  image.writeUInt32LE(1, 446 + 8);
  image.writeUInt32LE(lastSector, 446 + 12);
  image.writeUInt16LE(0xaa55, 510);
  const entries = Buffer.alloc(ENTRIES * ENTRY_BYTES);
  partitions.forEach(({ type, startSector, content }, at) => {
    const entry = entries.subarray(at * ENTRY_BYTES);
    guid(GPT_TYPE[type]).copy(entry, 0);
    guid(`00000000-0000-4000-8000-00000000000${at + 1}`).copy(entry, 16);
    entry.writeBigUInt64LE(BigInt(startSector), 32);
    entry.writeBigUInt64LE(BigInt(startSector + content.length / SECTOR - 1), 40);
    content.copy(image, startSector * SECTOR);
  });
  const header = (own: number, other: number, array: number): Buffer => {
    const bytes = Buffer.alloc(SECTOR);
    bytes.write('EFI PART', 0, 'latin1');
    bytes.writeUInt32LE(0x10000, 8);
    bytes.writeUInt32LE(92, 12);
    bytes.writeBigUInt64LE(BigInt(own), 24);
    bytes.writeBigUInt64LE(BigInt(other), 32);
    bytes.writeBigUInt64LE(BigInt(2 + ARRAY_SECTORS), 40);
    bytes.writeBigUInt64LE(BigInt(lastSector - ARRAY_SECTORS - 1), 48);
    guid('11111111-2222-4333-8444-555555555555').copy(bytes, 56);
    bytes.writeBigUInt64LE(BigInt(array), 72);
    bytes.writeUInt32LE(ENTRIES, 80);
    bytes.writeUInt32LE(ENTRY_BYTES, 84);
    bytes.writeUInt32LE(crc32(entries), 88);
    bytes.writeUInt32LE(crc32(bytes.subarray(0, 92)), 16);
    return bytes;
  };
  header(1, lastSector, 2).copy(image, SECTOR);
  entries.copy(image, 2 * SECTOR);
  entries.copy(image, (lastSector - ARRAY_SECTORS) * SECTOR);
  header(lastSector, 1, lastSector - ARRAY_SECTORS).copy(image, lastSector * SECTOR);
  return image;
}

function guid(text: string): Buffer {
  const [a = '', b = '', c = '', d = '', e = ''] = text.split('-');
  const swapped = [a, b, c].map((part) => Buffer.from(part, 'hex').reverse());
  return Buffer.concat([...swapped, Buffer.from(d + e, 'hex')]);
}
