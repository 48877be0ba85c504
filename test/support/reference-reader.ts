/**
 * A second, independent reader of FULL and DELTA archives, made from FORMAT.md alone: it holds archives in memory,
 * shares no code with the program and takes nothing on trust. What the program writes must satisfy it to the last field.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { crc32, gunzipSync, inflateRawSync } from 'node:zlib';
import * as openpgp from 'openpgp';
import { requirePeer } from './peers.ts';

const REGION_BLOCKS = 256;
const ZERO_MARK = Buffer.alloc(32);
const GZIP_HEADER = Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff]);

/** Fields of a text record by key; keys that may stand often have several entries. */
export type ReferenceRecord = Map<string, string[][]>;

export interface ReadFull {
  head: ReferenceRecord;
  disk: Buffer;
  /** The stream before encryption. */
  plain: Buffer;
  /** End record and pages. */
  mapStream: Buffer;
  mapDigest: string;
  blockBytes: number;
}

export interface ReadDelta {
  manifest: ReferenceRecord;
  disk: Buffer;
  files: { kind: string; name: string; content: Buffer }[];
}

function demand(isSo: boolean, what: string): asserts isSo {
  if (!isSo) throw new Error(`against FORMAT.md: ${what}`);
}

const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();
const sameBytes = (one: Uint8Array, other: Uint8Array): boolean => Buffer.compare(one, other) === 0;
const digestOf = (content: Buffer): Buffer =>
  content.equals(Buffer.alloc(content.length)) ? ZERO_MARK : sha256(content);
const hexOf = (digest: Buffer): string => (digest.equals(ZERO_MARK) ? '0' : digest.toString('hex'));

/** FORMAT.md section 2. */
export function readRecord(bytes: Buffer): ReferenceRecord {
  const text = bytes.toString('latin1');
  demand(text.endsWith('\n'), 'a record ends with LF');
  const record: ReferenceRecord = new Map();
  for (const line of text.slice(0, -1).split('\n')) {
    demand(/^(phd-full|phd-delta|[A-Za-z0-9]+)( [!-~]+)*$/.test(line), `line ${JSON.stringify(line)}`);
    const [key = '', ...fields] = line.split(' ');
    record.set(key, [...(record.get(key) ?? []), fields.map(decodeField)]);
  }
  return record;
}

function decodeField(field: string): string {
  if (field === '-') return '';
  demand(/^([!-$&-~]|%[0-9A-F]{2})+$/.test(field), `field ${field}`);
  const bytes = field.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

/** The one value of a key that stands once. */
export function singleOf(record: ReferenceRecord, key: string): string {
  const entries = record.get(key) ?? [];
  demand(entries.length === 1 && entries[0]?.length === 1, `${key} stands once, with one value`);
  return entries[0][0] as string;
}

/** FORMAT.md section 7: passphrase packets of 48 bytes, then one data packet. */
async function decrypt(message: Buffer, passphrase: string): Promise<Buffer> {
  for (let at = 0; message[at] !== 0xd2; at += 48) {
    demand(
      sameBytes(message.subarray(at, at + 3), Buffer.from([0xc3, 46, 4])),
      'a packet of 48 bytes, version 4',
    );
  }
  const { data } = await openpgp.decrypt({
    message: await openpgp.readMessage({ binaryMessage: new Uint8Array(message) }),
    passwords: [passphrase],
    format: 'binary',
  });
  return Buffer.from(data as Uint8Array);
}

interface Frame {
  /** H, B, M, E. */
  kind: string;
  data: Buffer;
  offset: number;
  bytes: number;
}

/** A gzip member, by FORMAT.md section 3. */
function memberAt(stream: Buffer, offset: number): Frame & { payload: Buffer } {
  demand(sameBytes(stream.subarray(offset, offset + 10), GZIP_HEADER), `a member at ${offset}`);
  const kind = stream.toString('latin1', offset + 12, offset + 14);
  const length = stream.readUInt16LE(offset + 14);
  demand(/^P[HBME]$/.test(kind) && length <= 8192, `subfield ${kind} of ${length} bytes`);
  demand(stream.readUInt16LE(offset + 10) === length + 4, 'exactly one subfield');
  const data = stream.subarray(offset + 16, offset + 16 + length);
  const bytes = kind === 'PB' ? data.readUInt32LE(0) : 16 + length + 10;
  const deflated = stream.subarray(offset + 16 + length, offset + bytes - 8);
  const payload = inflateRawSync(deflated);
  demand(stream.readUInt32LE(offset + bytes - 8) === crc32(payload), 'CRC');
  demand(stream.readUInt32LE(offset + bytes - 4) === payload.length, 'size');
  if (kind !== 'PB') demand(sameBytes(deflated, Buffer.from([3, 0])), 'an empty payload');
  return { kind: kind.slice(1), data, offset, bytes, payload };
}

function gzipFrames(stream: Buffer): { frames: Frame[]; disk: Buffer } {
  const frames: Frame[] = [];
  const blocks: Buffer[] = [];
  for (let at = 0; at < stream.length; ) {
    const member = memberAt(stream, at);
    frames.push(member);
    if (member.kind === 'B') {
      demand(sameBytes(member.data.subarray(4), digestOf(member.payload)), `digest of the block at ${at}`);
      blocks.push(member.payload);
    }
    at += member.bytes;
  }
  demand(frames.at(-1)?.bytes === 218, 'an end member of 218 bytes');
  return { frames, disk: Buffer.concat(blocks) };
}

/** FORMAT.md section 5; unpacked by the zstd program. */
async function zstdFrames(stream: Buffer): Promise<{ frames: Frame[]; disk: Buffer }> {
  demand(stream.readUInt32LE(stream.length - 4) === 0x8f92eab1, 'the magic of a seek table');
  demand(stream[stream.length - 5] === 0, 'descriptor 0');
  const count = stream.readUInt32LE(stream.length - 9);
  const table = stream.length - 17 - 8 * count;
  demand(
    stream.readUInt32LE(table) === 0x184d2a5e && stream.readUInt32LE(table + 4) === 8 * count + 9,
    'a seek table',
  );
  const frames: Frame[] = [];
  let offset = 0;
  let contentBytes = 0;
  for (let at = 0; at < count; at += 1) {
    const bytes = stream.readUInt32LE(table + 8 + 8 * at);
    const size = stream.readUInt32LE(table + 12 + 8 * at);
    const isSkippable = stream.readUInt32LE(offset) === 0x184d2a57;
    const tag = isSkippable ? stream.toString('latin1', offset + 8, offset + 12) : 'PHDB';
    demand(/^PHD[HBME]$/.test(tag) && isSkippable === (size === 0), `frame ${at}`);
    if (isSkippable) demand(stream.readUInt32LE(offset + 4) === bytes - 8, `size of frame ${at}`);
    const data = isSkippable ? stream.subarray(offset + 12, offset + bytes) : Buffer.alloc(0);
    frames.push({ kind: tag.slice(3), data, offset, bytes });
    offset += bytes;
    contentBytes += size;
  }
  demand(offset === table && frames.at(-1)?.bytes === 204, 'the end frame lies before the table');
  const disk = await unzstd(stream);
  demand(disk.length === contentBytes, 'the sizes of the seek table');
  return { frames, disk };
}

async function unzstd(stream: Buffer): Promise<Buffer> {
  const program = await requirePeer('zstd');
  return execFileSync(program.path, ['-dcq'], { input: stream, env: program.env, maxBuffer: 1 << 30 });
}

/** Reads a gzip or zstd FULL and proves head, members, pages and end against each other. */
export async function readFull(
  stored: Buffer,
  codec: 'gzip' | 'zstd',
  passphrase: string | null,
): Promise<ReadFull> {
  const plain = passphrase === null ? stored : await decrypt(stored, passphrase);
  const { frames, disk } = codec === 'gzip' ? gzipFrames(plain) : await zstdFrames(plain);
  demand(/^HB*M*E$/.test(frames.map(({ kind }) => kind).join('')), 'head, blocks, pages, end');
  const headFrame = frames[0] as Frame;
  const end = (frames.at(-1) as Frame).data;
  const pages = frames.filter(({ kind }) => kind === 'M');
  const members = frames.filter(({ kind }) => kind === 'B');
  const head = readRecord(headFrame.data);
  demand([...head.keys()][0] === 'phd-full' && singleOf(head, 'phd-full') === '1', 'phd-full 1');
  demand(singleOf(head, 'codec') === codec && headFrame.data.length <= 8000, 'a head of this codec');
  const blockBytes = end.readUInt32LE(4);
  provePages(disk, blockBytes, pages, members);
  proveEnd({ end, disk, blockBytes, pages, members, headFrame });
  demand(Number(singleOf(head, 'diskBytes')) === disk.length, 'diskBytes of the head');
  demand(Number(singleOf(head, 'blockBytes')) === blockBytes, 'blockBytes of the head');
  return {
    head,
    disk,
    plain,
    mapStream: Buffer.concat([end, ...pages.map(({ data }) => data)]),
    mapDigest: end.toString('hex', 128, 160),
    blockBytes,
  };
}

const blocksOf = (disk: Buffer, blockBytes: number): Buffer[] =>
  Array.from({ length: Math.ceil(disk.length / blockBytes) }, (_, at) =>
    disk.subarray(at * blockBytes, (at + 1) * blockBytes),
  );
const mapDigestOf = (disk: Buffer, blockBytes: number): Buffer =>
  sha256(Buffer.concat(blocksOf(disk, blockBytes).map(digestOf)));
const regionDigestOf = (disk: Buffer, blockBytes: number, region: number): Buffer =>
  digestOf(disk.subarray(region * REGION_BLOCKS * blockBytes, (region + 1) * REGION_BLOCKS * blockBytes));

/** FORMAT.md section 4, pages. */
function provePages(disk: Buffer, blockBytes: number, pages: Frame[], members: Frame[]): void {
  const blocks = blocksOf(disk, blockBytes);
  demand(members.length === blocks.length, 'a member for each block');
  demand(pages.length === Math.ceil(blocks.length / 128), 'a page for 128 blocks');
  for (const [number, { data }] of pages.entries()) {
    const first = 128 * number;
    const count = Math.min(128, blocks.length - first);
    demand(
      Number(data.readBigUInt64LE(0)) === first && data.readUInt16LE(8) === count,
      `place of page ${number}`,
    );
    demand(data.readUInt32LE(12) === 0, 'four zero bytes');
    const region = regionDigestOf(disk, blockBytes, Math.floor(first / REGION_BLOCKS));
    demand(sameBytes(data.subarray(16, 48), region), `digest of the region of page ${number}`);
    let at = 64;
    for (let index = 0; index < 128; index += 1) {
      const isExplicit = ((data[48 + (index >> 3)] as number) >> (index & 7)) & 1;
      const block = blocks[first + index];
      const isZero = block !== undefined && digestOf(block).equals(ZERO_MARK);
      demand(
        Boolean(isExplicit) === (block !== undefined && (!isZero || block.length < blockBytes)),
        'the bitmap',
      );
      if (!isExplicit || block === undefined) continue;
      demand(data.readUInt32LE(at) === members[first + index]?.bytes, `size of member ${first + index}`);
      demand(sameBytes(data.subarray(at + 4, at + 36), digestOf(block)), `digest of block ${first + index}`);
      at += 36;
    }
    demand(at === data.length && data.readUInt16LE(10) === (at - 64) / 36, `entries of page ${number}`);
  }
}

interface EndProof {
  end: Buffer;
  disk: Buffer;
  blockBytes: number;
  pages: Frame[];
  members: Frame[];
  headFrame: Frame;
}

/** FORMAT.md section 4, end record. */
function proveEnd({ end, disk, blockBytes, pages, members, headFrame }: EndProof): void {
  const blocks = blocksOf(disk, blockBytes);
  const isShared = (block: Buffer): boolean =>
    block.length === blockBytes && digestOf(block).equals(ZERO_MARK);
  demand(end.length === 192 && end.readUInt16LE(0) === 1 && end.readUInt16LE(2) === 0, 'version 1, flags 0');
  const afterData = members.reduce((at, { bytes }) => at + bytes, headFrame.bytes);
  const dataBlocks = blocks.filter((block) => !digestOf(block).equals(ZERO_MARK)).length;
  const wide = [disk.length, blocks.length, dataBlocks, headFrame.bytes, afterData, pages.length];
  for (const [at, value] of wide.entries())
    demand(Number(end.readBigUInt64LE(8 + 8 * at)) === value, `field ${at} of the end record is ${value}`);
  for (const [at, block] of blocks.entries())
    if (isShared(block)) demand(members[at]?.bytes === end.readUInt32LE(56), 'zeroMemberBytes');
  demand(end.readUInt32LE(60) === 0, 'four zero bytes');
  demand(sameBytes(end.subarray(64, 96), sha256(headFrame.data)), 'digest of the head');
  demand(
    sameBytes(end.subarray(96, 128), sha256(Buffer.concat(pages.map(({ data }) => data)))),
    'tableDigest',
  );
  demand(sameBytes(end.subarray(128, 160), mapDigestOf(disk, blockBytes)), 'mapDigest');
  demand(sameBytes(end.subarray(160), sha256(end.subarray(0, 160))), 'digest of the end record');
}

/** Reads a DELTA with its FULL and proves trailer, manifest, parts and maps against each other and the disk. */
export async function readDelta(
  stored: Buffer,
  full: ReadFull,
  passphrase: string | null,
): Promise<ReadDelta> {
  const manifest = readManifest(stored);
  const isEmpty = singleOf(manifest, 'kind') === 'empty';
  const parts = new Map<string, Buffer>();
  let end = 0;
  for (const [name = '', offset, bytes, digest] of manifest.get('part') ?? []) {
    const from = Number(offset);
    demand(from % 4096 === 0 && from >= end, `place of part ${name}`);
    const part = stored.subarray(from, from + Number(bytes));
    demand(
      part.length === Number(bytes) && sha256(part).toString('hex') === digest,
      `digest of part ${name}`,
    );
    demand(end === 0 || stored.subarray(end, from).every((byte) => byte === 0), 'zeros between parts');
    parts.set(name, passphrase === null ? part : await decrypt(part, passphrase));
    end = from + part.length;
  }
  demand(parts.has('map') === isEmpty, 'part map in an empty DELTA');
  if (isEmpty)
    demand(sameBytes(parts.get('map') as Buffer, full.mapStream), 'part map is the map of the FULL');
  demand(singleOf(manifest, 'fullId') === singleOf(full.head, 'fullId'), 'fullId');
  const disk = await rebuild(manifest, parts, full);
  if (passphrase === null) {
    demand(singleOf(manifest, 'fullMapDigest') === full.mapDigest, 'fullMapDigest');
    demand(
      singleOf(manifest, 'mapDigest') === mapDigestOf(disk, full.blockBytes).toString('hex'),
      'mapDigest',
    );
  } else
    demand(!manifest.has('mapDigest') && !manifest.has('fullMapDigest'), 'no digest of plaintext in clear');
  return { manifest, disk, files: readFiles(manifest, parts.get('files')) };
}

/** FORMAT.md section 8: trailer, head, manifest. */
function readManifest(stored: Buffer): ReferenceRecord {
  const trailer = stored.toString('latin1', stored.length - 512);
  const pattern = /^phd-delta-end 1 (\d+) (\d+) ([0-9a-f]{64}) (\d+) ([0-9a-f]{64}) (\d+) *\n$/;
  const [, offset, bytes, digest, headBytes, headDigest, fileBytes] = pattern.exec(trailer) ?? [];
  demand(Number(fileBytes) === stored.length, 'a trailer that names the size');
  const head = stored.subarray(0, Number(headBytes));
  demand(head.length % 4096 === 0 && sha256(head).toString('hex') === headDigest, 'the digest of the head');
  const text = head.toString('latin1');
  demand(/\nexit \$\?\n+$/.test(text), 'a head whose last line is exit');
  demand(text.slice(0, 1024).includes('# This file is a DELTA:'), 'a head that says what it is');
  const manifest = stored.subarray(Number(offset), Number(offset) + Number(bytes));
  demand(sha256(manifest).toString('hex') === digest, 'the digest of the manifest');
  const padding = stored.subarray(Number(offset) + Number(bytes), stored.length - 512);
  demand(padding.length < 512 && padding.every((byte) => byte === 0), 'zeros up to the trailer');
  const record = readRecord(manifest);
  demand([...record.keys()][0] === 'phd-delta' && singleOf(record, 'phd-delta') === '1', 'phd-delta 1');
  return record;
}

/** FORMAT.md section 9: the disk from the runs, proved by the digests of blocks and regions. */
async function rebuild(
  manifest: ReferenceRecord,
  parts: Map<string, Buffer>,
  full: ReadFull,
): Promise<Buffer> {
  const { blockBytes } = full;
  const lines = gunzipSync(parts.get('maps') as Buffer)
    .toString('latin1')
    .trimEnd()
    .split('\n')
    .map((line) => line.split(' '));
  demand(
    lines[0]?.join(' ') === 'phd-maps 1' && lines.at(-1)?.join(' ') === `end ${lines.length - 1}`,
    'first and last line',
  );
  const of = (key: string): string[][] =>
    lines.filter(([first]) => first === key).map(([, ...fields]) => fields);
  const blocksPart = parts.get('blocks') ?? Buffer.alloc(0);
  const disk = Buffer.alloc(Number(singleOf(manifest, 'diskBytes')));
  let next = 0;
  let payload = 0;
  for (const [kind, start, count, offset, bytes] of of('p')) {
    demand(Number(start) === next && Number(count) > 0, 'runs in order');
    next += Number(count);
    if (kind === 'z') continue;
    const from = Number(offset);
    const source = (kind === 'u' ? full.plain : blocksPart).subarray(from, from + Number(bytes));
    if (kind === 'c') demand(from === payload, 'changed runs follow each other');
    if (kind === 'c') payload += Number(bytes);
    const isZstd = kind === 'u' && singleOf(full.head, 'codec') === 'zstd';
    const content = isZstd ? await unzstd(source) : gunzipSync(source);
    demand(
      content.length === Math.min(disk.length - Number(start) * blockBytes, Number(count) * blockBytes),
      'size of a run',
    );
    content.copy(disk, Number(start) * blockBytes);
  }
  const blocks = blocksOf(disk, blockBytes);
  demand(next === blocks.length && payload === blocksPart.length, 'runs cover disk and part blocks');
  proveMaps(of, blocks, full, disk);
  const listed = of('b').length;
  demand(Number(singleOf(manifest, 'payloadBlocks')) === listed, 'payloadBlocks');
  const before = blocksOf(full.disk, blockBytes);
  const changed = blocks.filter((block, at) => !block.equals(before[at] as Buffer)).length;
  demand(Number(singleOf(manifest, 'changedBlocks')) === changed, 'changedBlocks');
  return disk;
}

function proveMaps(of: (key: string) => string[][], blocks: Buffer[], full: ReadFull, disk: Buffer): void {
  const { blockBytes } = full;
  for (const [block, , digest] of of('b'))
    demand(hexOf(digestOf(blocks[Number(block)] as Buffer)) === digest, `digest of changed block ${block}`);
  const regions = of('r');
  demand(regions.length === Math.ceil(blocks.length / REGION_BLOCKS), 'a line for each region');
  for (const [at, [region, own, ofFull]] of regions.entries()) {
    const digest = hexOf(regionDigestOf(disk, blockBytes, at));
    const before = hexOf(regionDigestOf(full.disk, blockBytes, at));
    demand(Number(region) === at && own === digest, `digest of region ${at}`);
    demand(ofFull === (before === digest ? '=' : before), `digest of region ${at} of the FULL`);
  }
  const digests = new Map(of('digest').map(([name, digest]) => [name, digest]));
  demand(digests.get('full') === full.mapDigest, 'digest full');
  demand(digests.get('disk') === mapDigestOf(disk, blockBytes).toString('hex'), 'digest disk');
}

function readFiles(manifest: ReferenceRecord, part: Buffer | undefined): ReadDelta['files'] {
  const all = part === undefined ? Buffer.alloc(0) : gunzipSync(part);
  let at = 0;
  const files = (manifest.get('file') ?? []).map(([kind = '', name = '', bytes]) => {
    const content = all.subarray(at, at + Number(bytes));
    at += Number(bytes);
    return { kind, name, content };
  });
  demand(at === all.length, 'files fill their part');
  return files;
}
