/** Partition tables and the first bytes of file systems, as far as a check list and a VMX need them. All of it is hostile data. */

export interface Partition {
  /** As the table counts, from 1; logical ones from 5. */
  number: number;
  startBytes: number;
  sizeBytes: number;
  /** `linux`, `efi system`, `0x8e`, a GUID. */
  type: string;
  /** ext4, xfs, btrfs, vfat, ntfs, swap, LVM, LUKS, RAID; null: not known. */
  content: string | null;
}

export interface PartitionTable {
  kind: 'mbr' | 'gpt' | 'none';
  partitions: Partition[];
  /** It starts by EFI, not by BIOS, as far as the table tells. */
  isEfi: boolean;
  /** What is amiss, a line each. */
  notices: string[];
}

/** Reads bytes of the device; whole sectors. */
export type ReadBytes = (offsetBytes: number, bytes: number) => Promise<Buffer>;

const MOST_PARTITIONS = 128;
/** Of a partition, read to tell its file system: the superblock of btrfs lies at 64 KiB. */
const PROBE_BYTES = 128 * 1024;

const GPT_TYPES: Record<string, string> = {
  'c12a7328-f81f-11d2-ba4b-00a0c93ec93b': 'efi system',
  '21686148-6449-6e6f-744e-656564454649': 'bios boot',
  '0fc63daf-8483-4772-8e79-3d69d8477de4': 'linux',
  '0657fd6d-a4ab-43c4-84e5-0933c84b4f4f': 'linux swap',
  'e6d6d379-f507-44c2-a23c-238f2a3df928': 'linux lvm',
  'a19d880f-05fc-4d3b-a006-743f0f84911e': 'linux raid',
  'ebd0a0a2-b9e5-4433-87c0-68b6b72699c7': 'windows data',
  'e3c9e316-0b5c-4db8-817d-f92df00215ae': 'windows reserved',
  'de94bba4-06d1-4d40-a16a-bfd50179d6ac': 'windows recovery',
};
const MBR_TYPES: Record<number, string> = {
  7: 'ntfs',
  11: 'fat32',
  12: 'fat32',
  130: 'linux swap',
  131: 'linux',
  142: 'linux lvm',
  165: 'freebsd',
  238: 'gpt protective',
  239: 'efi system',
  253: 'linux raid',
};

/** Throws what `read` throws; a table that makes no sense is a notice. */
export async function readPartitionTable(
  read: ReadBytes,
  sizeBytes: number,
  sectorBytes: number,
): Promise<PartitionTable> {
  const table: PartitionTable = { kind: 'none', partitions: [], isEfi: false, notices: [] };
  if (sizeBytes < 4 * sectorBytes) return table;
  const first = await read(0, sectorBytes);
  const isSigned = first.readUInt16LE(510) === 0xaa55;
  const header = await read(sectorBytes, sectorBytes);
  if (header.toString('latin1', 0, 8) === 'EFI PART') {
    await readGpt(read, header, sizeBytes, sectorBytes, table);
    if (!isSigned) table.notices.push('the protective MBR before the GPT is missing');
  } else if (isSigned && contentOf(first) === null) await readMbr(read, first, sizeBytes, sectorBytes, table);
  else if (first.some((byte) => byte !== 0))
    table.notices.push('no partition table: the whole device is one file system, or encrypted');
  table.isEfi = table.partitions.some(({ type }) => type === 'efi system');
  for (const one of table.partitions) {
    const bytes = Math.min(PROBE_BYTES, Math.floor(one.sizeBytes / sectorBytes) * sectorBytes);
    if (bytes > 0) one.content = contentOf(await read(one.startBytes, bytes));
  }
  return table;
}

async function readGpt(
  read: ReadBytes,
  header: Buffer,
  sizeBytes: number,
  sectorBytes: number,
  table: PartitionTable,
): Promise<void> {
  table.kind = 'gpt';
  const arraySector = Number(header.readBigUInt64LE(72));
  const count = Math.min(header.readUInt32LE(80), MOST_PARTITIONS);
  const entryBytes = header.readUInt32LE(84);
  if (entryBytes < 128 || entryBytes > 4096 || entryBytes % 8 !== 0) {
    table.notices.push(`the GPT has entries of ${entryBytes} bytes: it is not read`);
    return;
  }
  const bytes = Math.ceil((count * entryBytes) / sectorBytes) * sectorBytes;
  const start = arraySector * sectorBytes;
  if (!Number.isSafeInteger(start) || bytes === 0 || start + bytes > sizeBytes) {
    table.notices.push('the GPT names entries outside of the device');
    return;
  }
  const entries = await read(start, bytes);
  for (let at = 0; at < count; at += 1) {
    const entry = entries.subarray(at * entryBytes, (at + 1) * entryBytes);
    if (entry.length < 48 || entry.subarray(0, 16).every((byte) => byte === 0)) continue;
    const from = Number(entry.readBigUInt64LE(32)) * sectorBytes;
    const end = (Number(entry.readBigUInt64LE(40)) + 1) * sectorBytes;
    const guid = guidOf(entry);
    add(table, { number: at + 1, from, end, type: GPT_TYPES[guid] ?? guid }, sizeBytes);
  }
  const alternate = Number(header.readBigUInt64LE(32)) * sectorBytes;
  if (alternate !== sizeBytes - sectorBytes)
    table.notices.push('the backup of the GPT does not lie at the end of the device');
  else if ((await read(alternate, sectorBytes)).toString('latin1', 0, 8) !== 'EFI PART')
    table.notices.push('the backup of the GPT at the end of the device is damaged');
}

async function readMbr(
  read: ReadBytes,
  first: Buffer,
  sizeBytes: number,
  sectorBytes: number,
  table: PartitionTable,
): Promise<void> {
  table.kind = 'mbr';
  let extended: number | null = null;
  for (let at = 0; at < 4; at += 1) {
    const { type, start, sectors } = mbrEntry(first, at);
    if (type === 0) continue;
    if ([5, 15, 133].includes(type)) extended ??= start;
    else addMbr(table, at + 1, type, start, sectors, sizeBytes, sectorBytes);
  }
  const seen = new Set<number>();
  for (let next = extended, number = 5; extended !== null && next !== null && number < 64; number += 1) {
    const offset = next * sectorBytes;
    if (seen.has(next) || offset + sectorBytes > sizeBytes) {
      table.notices.push('the chain of logical partitions leads nowhere');
      return;
    }
    seen.add(next);
    const record = await read(offset, sectorBytes);
    if (record.readUInt16LE(510) !== 0xaa55) return;
    const own = mbrEntry(record, 0);
    if (own.type !== 0)
      addMbr(table, number, own.type, next + own.start, own.sectors, sizeBytes, sectorBytes);
    const link = mbrEntry(record, 1);
    next = link.type === 0 ? null : extended + link.start;
  }
}

function mbrEntry(sector: Buffer, at: number): { type: number; start: number; sectors: number } {
  const from = 446 + 16 * at;
  return {
    type: sector.readUInt8(from + 4),
    start: sector.readUInt32LE(from + 8),
    sectors: sector.readUInt32LE(from + 12),
  };
}

function addMbr(
  table: PartitionTable,
  number: number,
  type: number,
  start: number,
  sectors: number,
  sizeBytes: number,
  sectorBytes: number,
): void {
  const name = MBR_TYPES[type] ?? `0x${type.toString(16).padStart(2, '0')}`;
  const from = start * sectorBytes;
  add(table, { number, from, end: from + sectors * sectorBytes, type: name }, sizeBytes);
}

function add(
  table: PartitionTable,
  { number, from, end, type }: { number: number; from: number; end: number; type: string },
  sizeBytes: number,
): void {
  if (!Number.isSafeInteger(from) || !Number.isSafeInteger(end) || end <= from || end > sizeBytes)
    table.notices.push(`partition ${number} lies outside of the device`);
  else table.partitions.push({ number, startBytes: from, sizeBytes: end - from, type, content: null });
}

/** Mixed endian, as GPT stores it. */
function guidOf(bytes: Buffer): string {
  const hex = (from: number, to: number): string => bytes.toString('hex', from, to);
  const swapped = (from: number, to: number): string =>
    Buffer.from(bytes.subarray(from, to)).reverse().toString('hex');
  return `${swapped(0, 4)}-${swapped(4, 6)}-${swapped(6, 8)}-${hex(8, 10)}-${hex(10, 16)}`;
}

/** What the first bytes of a partition, or of a device without table, say; null: nothing that is known. */
export function contentOf(bytes: Buffer): string | null {
  const text = (at: number, word: string): boolean => bytes.toString('latin1', at, at + word.length) === word;
  if (text(0, 'LUKS\xba\xbe')) return 'LUKS';
  if (text(0, 'XFSB')) return 'xfs';
  if (text(3, 'NTFS    ')) return 'ntfs';
  for (let at = 0; at < 2048; at += 512) if (text(at, 'LABELONE')) return 'LVM';
  if (text(54, 'FAT1') || text(82, 'FAT32')) return 'vfat';
  if (text(4086, 'SWAPSPACE2')) return 'swap';
  if (bytes.length >= 4100 && bytes.readUInt32LE(4096) === 0xa92b4efc) return 'RAID';
  if (bytes.length >= 1136 && bytes.readUInt16LE(1080) === 0xef53) {
    // Extents make it ext4, a journal ext3.
    if ((bytes.readUInt32LE(1120) & 0x40) !== 0) return 'ext4';
    return (bytes.readUInt32LE(1116) & 0x4) !== 0 ? 'ext3' : 'ext2';
  }
  return text(65_600, '_BHRfS_M') ? 'btrfs' : null;
}
