/**
 * A second, independent writer of FULL and DELTA archives, made from FORMAT.md alone and kept simple: it
 * holds archives in memory and shares no code with the program. What it writes, every reader must read.
 */
import { execFileSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { crc32, deflateRawSync, gzipSync } from 'node:zlib';
import * as openpgp from 'openpgp';
import { requirePeer } from './peers.ts';

const REGION_BLOCKS = 256;
const PAGE_BLOCKS = 128;
const ZERO_MARK = Buffer.alloc(32);

/** Disk content by block; blocks that are absent are zero. */
export class MemoryDisk {
  readonly diskBytes: number;
  readonly blockBytes: number;
  private readonly blocks = new Map<number, Buffer>();

  constructor(diskBytes: number, blockBytes = 262_144) {
    this.diskBytes = diskBytes;
    this.blockBytes = blockBytes;
  }

  static from(content: Buffer, blockBytes = 262_144): MemoryDisk {
    const disk = new MemoryDisk(content.length, blockBytes);
    for (let block = 0; block < disk.blockCount; block++) {
      disk.set(block, content.subarray(block * blockBytes, (block + 1) * blockBytes));
    }
    return disk;
  }

  get blockCount(): number {
    return Math.ceil(this.diskBytes / this.blockBytes);
  }

  sizeOf(block: number): number {
    return Math.min(this.blockBytes, this.diskBytes - block * this.blockBytes);
  }

  /** Content of a block, cut or filled up with zeros to its size; null makes it zero. */
  set(block: number, content: Buffer | null): this {
    this.blocks.delete(block);
    if (content?.some((byte) => byte !== 0)) {
      const filled = Buffer.alloc(this.sizeOf(block));
      content.copy(filled);
      this.blocks.set(block, filled);
    }
    return this;
  }

  get(block: number): Buffer | null {
    return this.blocks.get(block) ?? null;
  }

  copy(): MemoryDisk {
    const other = new MemoryDisk(this.diskBytes, this.blockBytes);
    for (const [block, content] of this.blocks) other.blocks.set(block, content);
    return other;
  }

  /** The whole disk; only for disks that fit into memory. */
  bytes(): Buffer {
    const all = Buffer.alloc(this.diskBytes);
    for (const [block, content] of this.blocks) content.copy(all, block * this.blockBytes);
    return all;
  }

  digest(block: number): Buffer {
    const content = this.get(block);
    return content ? sha256(content) : ZERO_MARK;
  }

  mapDigest(): Buffer {
    const hash = createHash('sha256');
    for (let block = 0; block < this.blockCount; block++) hash.update(this.digest(block));
    return hash.digest();
  }

  get regionCount(): number {
    return Math.ceil(this.blockCount / REGION_BLOCKS);
  }

  regionDigest(region: number): Buffer {
    const first = region * REGION_BLOCKS;
    const end = Math.min(this.blockCount, first + REGION_BLOCKS);
    let isZero = true;
    for (let block = first; block < end; block++) if (this.get(block)) isZero = false;
    if (isZero) return ZERO_MARK;
    const hash = createHash('sha256');
    for (let block = first; block < end; block++)
      hash.update(this.get(block) ?? Buffer.alloc(this.sizeOf(block)));
    return hash.digest();
  }
}

export type ReferenceCodec = 'gzip' | 'zstd' | 'lzop';

/** Identity of an archive; every field has a default. */
export interface ReferenceIdentity {
  vm?: string;
  displayName?: string;
  uuid?: string;
  host?: string;
  scsiId?: string;
  disk?: string;
}

export interface ReferenceFull {
  disk: MemoryDisk;
  codec: ReferenceCodec;
  /** The file as stored. */
  bytes: Buffer;
  /** Stream before encryption. */
  plain: Buffer;
  fullId: string;
  identity: Required<ReferenceIdentity>;
  stamp: string;
  fileName: string;
  folderName: string;
  passphrases: string[];
  /** Offset and size of each block's member in `plain`; empty for lzop. */
  members: { offset: number; bytes: number }[];
  /** End record, then all pages. */
  mapStream: Buffer;
}

export interface ReferenceDelta {
  bytes: Buffer;
  fileName: string;
  /** Where each part, the manifest and the trailer lie. */
  parts: { name: string; offset: number; bytes: number }[];
  headBytes: number;
  manifestOffset: number;
}

const sha256 = (content: Buffer): Buffer => createHash('sha256').update(content).digest();
const hex = (digest: Buffer): string => (digest.equals(ZERO_MARK) ? '0' : digest.toString('hex'));

/** FORMAT.md section 2: a value of a text record. */
export function encodeValue(value: string | Buffer): string {
  const text = [...Buffer.from(value as string)]
    .map((byte) => (byte > 0x20 && byte < 0x7f && byte !== 0x25 ? String.fromCharCode(byte) : percent(byte)))
    .join('');
  if (text === '') return '-';
  return text === '-' ? '%2D' : text;
}

const percent = (byte: number): string => '%' + byte.toString(16).toUpperCase().padStart(2, '0');

/** FORMAT.md section 1: a name as it stands in a file name (names of over 200 bytes are not made here). */
export function encodeName(name: string): string {
  return [...Buffer.from(name.normalize('NFC'))]
    .map((byte, at, all) => {
      const char = String.fromCharCode(byte);
      const isEdge = (at === 0 && '.-'.includes(char)) || (at === all.length - 1 && '. '.includes(char));
      return byte < 0x20 || byte === 0x7f || '/\\:*?"<>|%'.includes(char) || isEdge
        ? Buffer.from(percent(byte))
        : Buffer.from([byte]);
    })
    .reduce((left, right) => Buffer.concat([left, right]), Buffer.alloc(0))
    .toString();
}

function record(lines: [string, ...(string | Buffer | number)[]][]): Buffer {
  const text = lines.map(([key, ...values]) =>
    [key, ...values.map((value) => encodeValue(String(value)))].join(' '),
  );
  return Buffer.from(text.join('\n') + '\n');
}

function member(kind: string, data: Buffer, deflated: Buffer, content: Buffer): Buffer {
  const head = Buffer.alloc(16);
  Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff]).copy(head);
  head.writeUInt16LE(data.length + 4, 10);
  head.write('P' + kind, 12, 'latin1');
  head.writeUInt16LE(data.length, 14);
  const tail = Buffer.alloc(8);
  tail.writeUInt32LE(crc32(content), 0);
  tail.writeUInt32LE(content.length, 4);
  return Buffer.concat([head, data, deflated, tail]);
}

const emptyMember = (kind: string, data: Buffer): Buffer =>
  member(kind, data, Buffer.from([3, 0]), Buffer.alloc(0));

function blockMember(content: Buffer, digest: Buffer, level = 1): Buffer {
  const deflated = deflateRawSync(content, { level });
  const data = Buffer.alloc(36);
  data.writeUInt32LE(16 + 36 + deflated.length + 8, 0);
  digest.copy(data, 4);
  return member('B', data, deflated, content);
}

function skippable(magic: number, tag: string, data: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(magic, 0);
  head.writeUInt32LE(tag.length + data.length, 4);
  return Buffer.concat([head, Buffer.from(tag), data]);
}

/** Runs a packer on content. */
type Packer = (content: Buffer) => Buffer;

async function packer(codec: 'zstd' | 'lzop'): Promise<Packer> {
  const program = await requirePeer(codec);
  return (content) => {
    const size =
      codec === 'zstd' ? ['-q', '--check', '--content-size', `--stream-size=${content.length}`] : [];
    const options = { input: content, env: program.env, maxBuffer: 1 << 30 };
    return execFileSync(program.path, [...size, '-1', '-c'], options);
  };
}

function pagesOf(disk: MemoryDisk, sizes: number[]): Buffer[] {
  const pages: Buffer[] = [];
  for (let first = 0; first < disk.blockCount; first += PAGE_BLOCKS) {
    const count = Math.min(PAGE_BLOCKS, disk.blockCount - first);
    const head = Buffer.alloc(64);
    const entries: Buffer[] = [];
    for (let at = 0; at < count; at++) {
      const block = first + at;
      if (!disk.get(block) && disk.sizeOf(block) === disk.blockBytes) continue;
      head[48 + (at >> 3)] = head[48 + (at >> 3)]! | (1 << (at & 7));
      const entry = Buffer.alloc(36);
      entry.writeUInt32LE(sizes[block] ?? 0, 0);
      disk.digest(block).copy(entry, 4);
      entries.push(entry);
    }
    head.writeBigUInt64LE(BigInt(first), 0);
    head.writeUInt16LE(count, 8);
    head.writeUInt16LE(entries.length, 10);
    disk.regionDigest(Math.floor(first / REGION_BLOCKS)).copy(head, 16);
    pages.push(Buffer.concat([head, ...entries]));
  }
  return pages;
}

interface EndFields {
  dataOffset: number;
  tableOffset: number;
  zeroMemberBytes: number;
  head: Buffer;
}

function endRecord(disk: MemoryDisk, pages: Buffer[], fields: EndFields): Buffer {
  const end = Buffer.alloc(192);
  let dataBlocks = 0;
  for (let block = 0; block < disk.blockCount; block++) if (disk.get(block)) dataBlocks++;
  end.writeUInt16LE(1, 0);
  end.writeUInt32LE(disk.blockBytes, 4);
  const wide = [
    disk.diskBytes,
    disk.blockCount,
    dataBlocks,
    fields.dataOffset,
    fields.tableOffset,
    pages.length,
  ];
  wide.forEach((value, at) => {
    end.writeBigUInt64LE(BigInt(value), 8 + 8 * at);
  });
  end.writeUInt32LE(fields.zeroMemberBytes, 56);
  sha256(fields.head).copy(end, 64);
  sha256(Buffer.concat(pages)).copy(end, 96);
  disk.mapDigest().copy(end, 128);
  sha256(end.subarray(0, 160)).copy(end, 160);
  return end;
}

/** FORMAT.md section 7: a message for all passphrases, the data packet cut into chunks of 1 MiB. */
export async function encryptMessage(content: Buffer, passphrases: string[]): Promise<Buffer> {
  const message = await openpgp.createMessage({ binary: new Uint8Array(content) });
  const config = {
    aeadProtect: false,
    preferredCompressionAlgorithm: openpgp.enums.compression.uncompressed,
    preferredSymmetricAlgorithm: openpgp.enums.symmetric.aes256,
    s2kIterationCountByte: 96,
  };
  const bytes = Buffer.from(
    (await openpgp.encrypt({ message, passwords: passphrases, format: 'binary', config })) as Uint8Array,
  );
  const keys = 48 * passphrases.length;
  if (bytes[keys] !== 0xd2) throw new Error('session key packets are not 48 bytes each');
  const body = definiteBody(bytes.subarray(keys + 1));
  const chunks: Buffer[] = [bytes.subarray(0, keys), Buffer.from([0xd2])];
  let at = 0;
  for (; body.length - at > 1 << 20; at += 1 << 20) {
    chunks.push(Buffer.from([0xf4]), body.subarray(at, at + (1 << 20)));
  }
  const last = Buffer.alloc(5, 0xff);
  last.writeUInt32BE(body.length - at, 1);
  return Buffer.concat([...chunks, last, body.subarray(at)]);
}

/** Body of a packet whose lengths (RFC 9580 section 4.2.1) begin the buffer. */
function definiteBody(bytes: Buffer): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; ; ) {
    const first = bytes[at]!;
    if (first >= 224 && first < 255) {
      const size = 1 << (first & 31);
      pieces.push(bytes.subarray(at + 1, at + 1 + size));
      at += 1 + size;
      continue;
    }
    const [skip, size] =
      first < 192
        ? [1, first]
        : first < 224
          ? [2, ((first - 192) << 8) + bytes[at + 1]! + 192]
          : [5, bytes.readUInt32BE(at + 1)];
    pieces.push(bytes.subarray(at + skip, at + skip + size));
    return Buffer.concat(pieces);
  }
}

function commonLines(
  identity: Required<ReferenceIdentity>,
  disk: MemoryDisk,
  stamp: string,
  fullId: string,
): [string, ...(string | number)[]][] {
  return [
    ['program', 'reference-writer 1'],
    ['vm', identity.vm],
    ['displayName', identity.displayName],
    ['uuid', identity.uuid],
    ['host', identity.host],
    ['runId', randomUUID()],
    ['scsiId', identity.scsiId],
    ['disk', identity.disk],
    ['diskBytes', disk.diskBytes],
    ['blockBytes', disk.blockBytes],
    ['stamp', stamp],
    ['timeUtc', `${stamp}:00Z`],
    ['utcOffsetMinutes', 0],
    ['fullId', fullId],
  ];
}

const EXTENSION: Record<ReferenceCodec, string> = { gzip: 'gz', zstd: 'zst', lzop: 'lzo' };

/** Writes a FULL. `passphrases`: none, or the system passphrase and perhaps the master passphrase. */
export async function writeFull(
  disk: MemoryDisk,
  options: {
    codec?: ReferenceCodec;
    passphrases?: string[];
    identity?: ReferenceIdentity;
    stamp?: string;
  } = {},
): Promise<ReferenceFull> {
  const { codec = 'gzip', passphrases = [], stamp = '2026-04-07T11:10' } = options;
  const identity = {
    vm: 'RedHat_VM1',
    displayName: 'RedHat VM1',
    uuid: '564d1e34-4364-1808-23fd-e56565add965',
    host: 'esx1',
    scsiId: '00',
    disk: 'RedHat_VM1.vmdk',
    ...options.identity,
  };
  const fullId = randomUUID();
  const head = record([
    ['phd-full', 1],
    ...commonLines(identity, disk, stamp, fullId),
    ['codec', codec],
    ['runDiskCount', 1],
  ]);
  const pack = codec === 'gzip' ? null : await packer(codec);
  const { plain, members, mapStream } =
    codec === 'lzop' ? lzopStream(disk, head, pack!) : blockStream(disk, head, pack);
  const short = stamp.slice(2).replaceAll(/[-:]/g, '').replace('T', '-');
  const name = `${identity.scsiId}-${encodeName(identity.disk)}.${EXTENSION[codec]}`;
  return {
    disk,
    codec,
    plain,
    bytes: passphrases.length > 0 ? await encryptMessage(plain, passphrases) : plain,
    fullId,
    identity,
    stamp,
    fileName: `${name}${passphrases.length > 0 ? '.gpg' : ''}-${short}.phd`,
    folderName: `${stamp.slice(0, 10).replaceAll('-', '.')}-${encodeName(identity.vm)}.${identity.uuid}.FULL`,
    passphrases,
    members,
    mapStream,
  };
}

function lzopStream(disk: MemoryDisk, head: Buffer, pack: Packer) {
  const plain = pack(disk.bytes());
  const pages = pagesOf(disk, []);
  const end = endRecord(disk, pages, { dataOffset: 0, tableOffset: 0, zeroMemberBytes: 0, head });
  return { plain, members: [], mapStream: Buffer.concat([end, ...pages]) };
}

function blockStream(disk: MemoryDisk, head: Buffer, zstd: Packer | null) {
  const pack = (content: Buffer, digest: Buffer, level = 1): Buffer =>
    zstd === null ? blockMember(content, digest, level) : zstd(content);
  const pageFrame = (page: Buffer): Buffer =>
    zstd === null ? emptyMember('M', page) : skippable(0x184d2a57, 'PHDM', page);
  const zeroMember = pack(Buffer.alloc(disk.blockBytes), ZERO_MARK, 9);
  const frames = [zstd === null ? emptyMember('H', head) : skippable(0x184d2a57, 'PHDH', head)];
  const sizes: number[] = [];
  const members: { offset: number; bytes: number }[] = [];
  const contentSizes = [0];
  let offset = frames[0]!.length;
  for (let block = 0; block < disk.blockCount; block++) {
    const size = disk.sizeOf(block);
    const content = disk.get(block);
    const isShared = !content && size === disk.blockBytes;
    const frame = isShared ? zeroMember : pack(content ?? Buffer.alloc(size), disk.digest(block));
    sizes.push(frame.length);
    members.push({ offset, bytes: frame.length });
    contentSizes.push(size);
    frames.push(frame);
    offset += frame.length;
  }
  const pages = pagesOf(disk, sizes);
  const fields = {
    dataOffset: frames[0]!.length,
    tableOffset: offset,
    zeroMemberBytes: zeroMember.length,
    head,
  };
  const end = endRecord(disk, pages, fields);
  frames.push(...pages.map(pageFrame));
  frames.push(zstd === null ? emptyMember('E', end) : skippable(0x184d2a57, 'PHDE', end));
  if (zstd !== null) frames.push(seekTable(frames, contentSizes));
  return { plain: Buffer.concat(frames), members, mapStream: Buffer.concat([end, ...pages]) };
}

function seekTable(frames: Buffer[], contentSizes: number[]): Buffer {
  const table = Buffer.alloc(8 * frames.length + 9);
  frames.forEach((frame, at) => {
    table.writeUInt32LE(frame.length, 8 * at);
    table.writeUInt32LE(contentSizes[at] ?? 0, 8 * at + 4);
  });
  table.writeUInt32LE(frames.length, 8 * frames.length);
  table.writeUInt32LE(0x8f92eab1, 8 * frames.length + 5);
  return skippable(0x184d2a5e, '', table);
}

type Kind = 'u' | 'c' | 'z';

/** Text of part `maps` (FORMAT.md section 9) and the members of part `blocks`. */
function plan(full: ReferenceFull, disk: MemoryDisk): { maps: Buffer; blocks: Buffer[]; changed: number } {
  const kinds: Kind[] = [];
  let changed = 0;
  for (let block = 0; block < disk.blockCount; block++) {
    const isSame = disk.digest(block).equals(full.disk.digest(block));
    if (!isSame) changed++;
    kinds.push(!disk.get(block) ? 'z' : isSame ? 'u' : 'c');
  }
  const blocks: Buffer[] = [];
  const blockLines: string[] = [];
  const runLines: string[] = [];
  let payloadOffset = 0;
  for (let start = 0; start < kinds.length; ) {
    const kind = kinds[start]!;
    let end = start + 1;
    while (end < kinds.length && kinds[end] === kind) end++;
    let bytes = 0;
    for (let block = start; block < end; block++) {
      if (kind === 'u') bytes += full.members[block]?.bytes ?? 0;
      if (kind !== 'c') continue;
      const packed = blockMember(disk.get(block)!, disk.digest(block));
      bytes += packed.length;
      blocks.push(packed);
      blockLines.push(`b ${block} ${packed.length} ${hex(disk.digest(block))}`);
    }
    const offset = kind === 'c' ? payloadOffset : (full.members[start]?.offset ?? 0);
    runLines.push(`p ${kind} ${start} ${end - start}${kind === 'z' ? '' : ` ${offset} ${bytes}`}`);
    if (kind === 'c') payloadOffset += bytes;
    start = end;
  }
  const regionLines: string[] = [];
  for (let region = 0; region < disk.regionCount; region++) {
    const own = hex(disk.regionDigest(region));
    const before = hex(full.disk.regionDigest(region));
    regionLines.push(`r ${region} ${own} ${own === before ? '=' : before}`);
  }
  const lines = [
    'phd-maps 1',
    `digest full ${hex(full.disk.mapDigest())}`,
    `digest disk ${hex(disk.mapDigest())}`,
    ...runLines,
    ...blockLines,
    ...regionLines,
  ];
  return { maps: Buffer.from([...lines, `end ${lines.length}`].join('\n') + '\n'), blocks, changed };
}

export interface ReferenceFile {
  kind: 'vmx' | 'vmxf' | 'vmsd' | 'nvram' | 'log' | 'descriptor';
  name: string;
  content: Buffer;
}

const PROGRAM = new URL('../../src/archive/delta-program.sh', import.meta.url);
const padTo = (size: number, unit: number): Buffer => Buffer.alloc((unit - (size % unit)) % unit);

/** Writes the DELTA of `disk` against `full`; without `disk` the empty DELTA. */
export async function writeDelta(
  full: ReferenceFull,
  disk: MemoryDisk | null,
  options: {
    passphrases?: string[];
    files?: ReferenceFile[];
    stamp?: string;
    createType?: string;
    program?: Buffer;
  } = {},
): Promise<ReferenceDelta> {
  const {
    passphrases = full.passphrases,
    files = [],
    stamp = disk ? '2026-04-30T16:42' : full.stamp,
  } = options;
  const isEncrypted = passphrases.length > 0;
  const program = options.program ?? readFileSync(PROGRAM);
  const head = Buffer.concat([program, padTo(program.length, 4096).fill(0x0a)]);
  const { maps, blocks, changed } = plan(full, disk ?? full.disk);
  const contents: [string, Buffer][] = [
    ['blocks', Buffer.concat(blocks)],
    ['map', disk ? Buffer.alloc(0) : full.mapStream],
    ['maps', gzipSync(maps)],
    [
      'files',
      files.length > 0 ? gzipSync(Buffer.concat(files.map((file) => file.content))) : Buffer.alloc(0),
    ],
  ];
  const stored: Buffer[] = [head];
  const parts: { name: string; offset: number; bytes: number }[] = [];
  const partLines: [string, ...(string | number)[]][] = [];
  let offset = head.length;
  for (const [name, content] of contents) {
    if (content.length === 0) continue;
    const bytes = isEncrypted ? await encryptMessage(content, passphrases) : content;
    parts.push({ name, offset, bytes: bytes.length });
    partLines.push(['part', name, offset, bytes.length, sha256(bytes).toString('hex')]);
    stored.push(bytes, padTo(bytes.length, 4096));
    offset += bytes.length + padTo(bytes.length, 4096).length;
  }
  const digests: [string, string][] = [
    ['fullMapDigest', hex(full.disk.mapDigest())],
    ['mapDigest', hex((disk ?? full.disk).mapDigest())],
  ];
  const manifest = record([
    ['phd-delta', 1],
    ['kind', disk ? 'delta' : 'empty'],
    ...commonLines(full.identity, full.disk, stamp, full.fullId),
    ['runDisk', full.identity.scsiId, full.identity.disk],
    ['fullStamp', full.stamp],
    ['fullFile', full.fileName],
    ['fullFolder', full.folderName],
    ['fullCodec', full.codec],
    ['fullEncrypted', full.passphrases.length > 0 ? 1 : 0],
    ['fullBytes', full.bytes.length],
    ['encrypted', isEncrypted ? 1 : 0],
    ...(isEncrypted ? [] : digests),
    ['createType', options.createType ?? ''],
    ['adapterType', 'lsilogic'],
    ['changedBlocks', changed],
    ['payloadBlocks', blocks.length],
    ...partLines,
    ...files.map((file): [string, ...(string | number)[]] => [
      'file',
      file.kind,
      file.name,
      file.content.length,
    ]),
  ]);
  stored.push(manifest, padTo(manifest.length, 512));
  const fileBytes = offset + manifest.length + padTo(manifest.length, 512).length + 512;
  const line = [
    'phd-delta-end 1',
    offset,
    manifest.length,
    sha256(manifest).toString('hex'),
    head.length,
    sha256(head).toString('hex'),
    fileBytes,
  ].join(' ');
  stored.push(Buffer.from(line.padEnd(511) + '\n'));
  const fullShort = full.stamp.slice(2).replaceAll(/[-:]/g, '').replace('T', '-');
  const own = stamp.replaceAll('-', '.').replace('T', '-').replace(':', '');
  return {
    bytes: Buffer.concat(stored),
    fileName: `${full.identity.scsiId}-${encodeName(full.identity.disk)}.delta${isEncrypted ? '.gpg' : ''}-${own}-${fullShort}.phd`,
    parts,
    headBytes: head.length,
    manifestOffset: offset,
  };
}
