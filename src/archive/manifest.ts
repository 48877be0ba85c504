/** Head of a FULL and manifest of a DELTA (FORMAT.md sections 2, 3, 8): typed, printed, parsed. */
import { PhdError } from '../errors.ts';
import type { Codec, Stamp } from '../model/archive.ts';
import { geometryOf } from './geometry.ts';
import { parseDecimal, parseRecord, printRecord, RecordFields, type RecordLine } from './text-record.ts';

export interface DiskIdentity {
  program: string;
  vm: string;
  displayName: string;
  uuid: string;
  host: string;
  runId: string;
  scsiId: string;
  disk: string;
  diskBytes: number;
  blockBytes: number;
  stamp: Stamp;
  /** `YYYY-MM-DDTHH:MM:SSZ` */
  timeUtc: string;
  utcOffsetMinutes: number;
  fullId: string;
}

export interface FullHead extends DiskIdentity {
  codec: Codec;
  runDiskCount: number;
}

export type PartName = 'blocks' | 'map' | 'maps' | 'files';
export const PART_NAMES: readonly PartName[] = ['blocks', 'map', 'maps', 'files'];

export interface Part {
  name: PartName;
  offsetBytes: number;
  sizeBytes: number;
  /** Of the bytes as stored, hex. */
  sha256: string;
}

export const FILE_KINDS = ['vmx', 'vmxf', 'vmsd', 'nvram', 'log', 'descriptor'] as const;
export type FileKind = (typeof FILE_KINDS)[number];

export interface FileEntry {
  kind: FileKind;
  name: string;
  sizeBytes: number;
}

export interface DeltaManifest extends DiskIdentity {
  kind: 'delta' | 'empty';
  runDisks: { scsiId: string; disk: string }[];
  fullStamp: Stamp;
  fullFile: string;
  fullFolder: string;
  fullCodec: Codec;
  fullEncrypted: boolean;
  fullBytes: number;
  encrypted: boolean;
  /** Hex; null if encrypted: then part `maps` has them. */
  fullMapDigest: string | null;
  mapDigest: string | null;
  /** Empty if the disk had no descriptor. */
  createType: string;
  adapterType: string;
  changedBlocks: number;
  payloadBlocks: number;
  /** Sectors of the source that could not be read: zeros stand for them, and the archive is incomplete. */
  unreadableSectors: number;
  parts: Part[];
  files: FileEntry[];
}

/** A head must fit one gzip extra field. */
export const MAX_HEAD_BYTES = 8000;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const DIGEST = /^[0-9a-f]{64}$/;
const STAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d$/;
const TIME_UTC = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;
const SCSI_ID = /^\d{2,6}$/;
const CODECS: readonly Codec[] = ['gzip', 'zstd', 'lzop'];

function line(key: string, ...fields: (string | number)[]): RecordLine {
  return { key, fields: fields.map(String) };
}

function identityLines(identity: DiskIdentity): RecordLine[] {
  return [
    line('program', identity.program),
    line('vm', identity.vm),
    line('displayName', identity.displayName),
    line('uuid', identity.uuid),
    line('host', identity.host),
    line('runId', identity.runId),
    line('scsiId', identity.scsiId),
    line('disk', identity.disk),
    line('diskBytes', identity.diskBytes),
    line('blockBytes', identity.blockBytes),
    line('stamp', identity.stamp),
    line('timeUtc', identity.timeUtc),
    line('utcOffsetMinutes', identity.utcOffsetMinutes),
    line('fullId', identity.fullId),
  ];
}

function parseIdentity(fields: RecordFields): DiskIdentity {
  const identity: DiskIdentity = {
    program: fields.text('program'),
    vm: fields.text('vm'),
    displayName: fields.text('displayName'),
    uuid: fields.matching('uuid', UUID),
    host: fields.text('host'),
    runId: fields.matching('runId', UUID),
    scsiId: fields.matching('scsiId', SCSI_ID),
    disk: fields.text('disk'),
    diskBytes: fields.decimal('diskBytes'),
    blockBytes: fields.decimal('blockBytes'),
    stamp: fields.matching('stamp', STAMP),
    timeUtc: fields.matching('timeUtc', TIME_UTC),
    utcOffsetMinutes: Number(fields.matching('utcOffsetMinutes', /^(0|-?[1-9]\d{0,3})$/)),
    fullId: fields.matching('fullId', UUID),
  };
  geometryOf(identity.diskBytes, identity.blockBytes);
  return identity;
}

export function printFullHead(head: FullHead): Buffer {
  const bytes = printRecord([
    line('phd-full', 1),
    ...identityLines(head),
    line('codec', head.codec),
    line('runDiskCount', head.runDiskCount),
  ]);
  if (bytes.length > MAX_HEAD_BYTES) {
    throw new PhdError('USAGE', `the names of disk ${head.disk} are too long for an archive`);
  }
  return bytes;
}

export function parseFullHead(bytes: Uint8Array): FullHead {
  const lines = parseRecord(bytes);
  requireVersion(lines[0], 'phd-full', 'FULL');
  const fields = new RecordFields(lines);
  return {
    ...parseIdentity(fields),
    codec: fields.oneOf('codec', CODECS),
    runDiskCount: fields.decimal('runDiskCount', 10_000),
  };
}

export function printDeltaManifest(manifest: DeltaManifest): Buffer {
  const digests =
    manifest.fullMapDigest === null || manifest.mapDigest === null
      ? []
      : [line('fullMapDigest', manifest.fullMapDigest), line('mapDigest', manifest.mapDigest)];
  return printRecord([
    line('phd-delta', 1),
    line('kind', manifest.kind),
    ...identityLines(manifest),
    ...manifest.runDisks.map((disk) => line('runDisk', disk.scsiId, disk.disk)),
    line('fullStamp', manifest.fullStamp),
    line('fullFile', manifest.fullFile),
    line('fullFolder', manifest.fullFolder),
    line('fullCodec', manifest.fullCodec),
    line('fullEncrypted', manifest.fullEncrypted ? 1 : 0),
    line('fullBytes', manifest.fullBytes),
    line('encrypted', manifest.encrypted ? 1 : 0),
    ...digests,
    line('createType', manifest.createType),
    line('adapterType', manifest.adapterType),
    line('changedBlocks', manifest.changedBlocks),
    line('payloadBlocks', manifest.payloadBlocks),
    ...(manifest.unreadableSectors > 0 ? [line('unreadableSectors', manifest.unreadableSectors)] : []),
    ...manifest.parts.map((part) => line('part', part.name, part.offsetBytes, part.sizeBytes, part.sha256)),
    ...manifest.files.map((file) => line('file', file.kind, file.name, file.sizeBytes)),
  ]);
}

/** Throws ARCHIVE_DAMAGED, or FORMAT_UNSUPPORTED for a later version. `endBytes` = where parts must have ended. */
export function parseDeltaManifest(bytes: Uint8Array, endBytes: number): DeltaManifest {
  const lines = parseRecord(bytes);
  requireVersion(lines[0], 'phd-delta', 'DELTA');
  const fields = new RecordFields(lines);
  const encrypted = fields.flag('encrypted');
  const digest = (key: string): string | null => (encrypted ? null : fields.matching(key, DIGEST));
  const manifest: DeltaManifest = {
    ...parseIdentity(fields),
    kind: fields.oneOf('kind', ['delta', 'empty']),
    runDisks: fields.all('runDisk', 2).map(([scsiId, disk]) => ({ scsiId: scsiId!, disk: disk! })),
    fullStamp: fields.matching('fullStamp', STAMP),
    fullFile: fields.text('fullFile'),
    fullFolder: fields.text('fullFolder'),
    fullCodec: fields.oneOf('fullCodec', CODECS),
    fullEncrypted: fields.flag('fullEncrypted'),
    fullBytes: fields.decimal('fullBytes'),
    encrypted,
    fullMapDigest: digest('fullMapDigest'),
    mapDigest: digest('mapDigest'),
    createType: fields.text('createType'),
    adapterType: fields.text('adapterType'),
    changedBlocks: fields.decimal('changedBlocks'),
    payloadBlocks: fields.decimal('payloadBlocks'),
    unreadableSectors: parseDecimal(fields.optional('unreadableSectors') ?? '0', 'unreadableSectors'),
    parts: parseParts(fields, endBytes),
    files: fields.all('file', 3).map(([kind, name, sizeBytes]) => parseFile(kind!, name!, sizeBytes!)),
  };
  for (const name of [manifest.fullFile, manifest.fullFolder]) requirePlainName(name);
  return manifest;
}

function parseParts(fields: RecordFields, endBytes: number): Part[] {
  let free = 0;
  const parts = fields.all('part', 4).map(([name, offset, size, sha256]): Part => {
    const part: Part = {
      name: name as PartName,
      offsetBytes: parseDecimal(offset!, 'part offset'),
      sizeBytes: parseDecimal(size!, 'part size'),
      sha256: sha256!,
    };
    const isSound =
      PART_NAMES.includes(part.name) &&
      part.offsetBytes % 4096 === 0 &&
      part.offsetBytes >= free &&
      part.offsetBytes + part.sizeBytes <= endBytes &&
      DIGEST.test(part.sha256);
    if (!isSound) throw new PhdError('ARCHIVE_DAMAGED', `part "${name}" of the manifest is out of place`);
    free = part.offsetBytes + part.sizeBytes;
    return part;
  });
  const names = new Set(parts.map((part) => part.name));
  if (names.size !== parts.length || !names.has('maps')) {
    throw new PhdError('ARCHIVE_DAMAGED', 'the manifest lacks a part or has one twice');
  }
  return parts;
}

function parseFile(kind: string, name: string, sizeBytes: string): FileEntry {
  if (!FILE_KINDS.includes(kind as FileKind))
    throw new PhdError('ARCHIVE_DAMAGED', `file kind "${kind}" is unknown`);
  requirePlainName(name);
  return { kind: kind as FileKind, name, sizeBytes: parseDecimal(sizeBytes, 'file size') };
}

/** Names in an archive name files beside others, never paths. */
function requirePlainName(name: string): void {
  if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name)) {
    throw new PhdError('ARCHIVE_DAMAGED', 'the manifest names a file that is no plain name');
  }
}

function requireVersion(first: RecordLine | undefined, key: string, what: string): void {
  const [version = ''] = first?.fields ?? [];
  if (first?.key !== key || !/^\d{1,9}$/.test(version)) {
    throw new PhdError('ARCHIVE_DAMAGED', `not the record of a ${what}`);
  }
  if (version !== '1') {
    throw new PhdError('FORMAT_UNSUPPORTED', `${what} version ${version} is newer than this program`);
  }
}
