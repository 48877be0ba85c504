/**
 * VMDK descriptors: the small text file that names a disk's extents. Pure: bytes in, values or bytes out.
 *
 * Structure is read byte by byte (as Latin-1), only values are decoded with the encoding the file names:
 * the bytes `"`, `=`, blank and line ends never occur inside a character of any of these encodings.
 */
import { PhdError } from '../errors.ts';
import { isPlainName, shownName } from './plain-name.ts';

export const SECTOR_BYTES = 512;
/** Larger files are no descriptors: 4 MiB name 60,000 extents. */
export const MAX_DESCRIPTOR_BYTES = 4 * 1024 * 1024;
const MAX_LINES = 100_000;
const MAX_LINE_CHARACTERS = 4_096;
const MAX_SECTORS = (64 * 1024 ** 4) / SECTOR_BYTES;
const NO_PARENT = 'ffffffff';

export interface Extent {
  access: 'RW' | 'RDONLY' | 'NOACCESS';
  sectors: number;
  /** Upper case: FLAT, SPARSE, ZERO, VMFS, VMFSSPARSE, VMFSRDM, VMFSRAW or one that is not known here. */
  type: string;
  /** As written; null where the extent has none (ZERO). */
  fileName: string | null;
  /** Null where the line has none. */
  startSector: number | null;
}

export interface Descriptor {
  version: number;
  /** As written, null if the file names none (then UTF-8, or windows-1252 where it is no UTF-8). */
  encoding: string | null;
  /** 8 lower-case hex digits; `fffffffe` sends the reader to ddb.longContentID. */
  cid: string | null;
  /** `ffffffff` = no parent; null if the line is missing. */
  parentCid: string | null;
  createType: string | null;
  parentFileNameHint: string | null;
  extents: Extent[];
  /** Keys in lower case without `ddb.`: `adaptertype`, `geometry.cylinders`. */
  ddb: Map<string, string>;
}

/** What `printDescriptor` writes; ddb keys as they shall be written, without `ddb.`. */
export interface DescriptorFields {
  encoding: string | null;
  cid: string;
  createType: string;
  extents: Extent[];
  ddb: [key: string, value: string][];
}

const EXTENT_LINE =
  /^(\s*(RW|RDONLY|NOACCESS)[ \t]+)(\d{1,15})([ \t]+([A-Z0-9]+)[ \t]+")([^"]*)("(?:[ \t]+(\d{1,15})(?:[ \t]+\S.*)?)?[ \t]*)$/i;
const EXTENT_WITHOUT_FILE = /^\s*(RW|RDONLY|NOACCESS)[ \t]+(\d{1,15})[ \t]+([A-Z0-9]+)[ \t]*$/i;
const KEY_LINE = /^([A-Za-z][A-Za-z0-9_.]*)[ \t]*=[ \t]*(?:"([^"]*)"|([^"\s]*))[ \t]*$/;

/** Encodings VMware writes, by the label that TextDecoder knows. */
const DECODERS: Record<string, string> = {
  'utf-8': 'utf-8',
  utf8: 'utf-8',
  'windows-1252': 'windows-1252',
  'iso-8859-1': 'windows-1252',
  'us-ascii': 'windows-1252',
  gbk: 'gbk',
  big5: 'big5',
  shift_jis: 'shift_jis',
  'windows-932': 'shift_jis',
  'windows-936': 'gbk',
  'windows-950': 'big5',
};

function unusable(name: string, reason: string): PhdError {
  return new PhdError('FORMAT_UNSUPPORTED', `${shownName(name)} is not a usable descriptor: ${reason}`);
}

/** Latin-1 text of a descriptor without its NUL padding. */
function structureOf(bytes: Uint8Array, name: string): string {
  if (bytes.length > MAX_DESCRIPTOR_BYTES) throw unusable(name, `larger than ${MAX_DESCRIPTOR_BYTES} bytes`);
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  const padded = Buffer.from(bytes.buffer, bytes.byteOffset, end).toString('latin1');
  if (padded.includes('\0')) throw unusable(name, 'NUL bytes in the midst of the text');
  return padded;
}

/**
 * True if the bytes begin as a descriptor does, whatever stands behind.
 * @param head the first bytes of a file, 64 or more if it has them
 */
export function looksLikeDescriptor(head: Uint8Array): boolean {
  const text = Buffer.from(head.subarray(0, 4_096)).toString('latin1');
  return /^\s*#[ \t]*disk[ \t]+descriptorfile/i.test(text);
}

/** Decodes a value read as Latin-1 by the encoding the file names. */
function decodeValue(latin1: string, encoding: string | null, name: string): string {
  if (!/[\u0080-\u00ff]/.test(latin1)) return latin1;
  const bytes = Buffer.from(latin1, 'latin1');
  const label = DECODERS[(encoding ?? 'utf-8').toLowerCase()];
  if (label === undefined) throw unusable(name, `encoding "${shownName(encoding ?? '')}" is not known`);
  try {
    return new TextDecoder(label, { fatal: true }).decode(bytes);
  } catch {
    if (encoding === null) return new TextDecoder('windows-1252').decode(bytes);
    throw unusable(name, `a name in it is not ${encoding}`);
  }
}

function splitLines(structure: string, name: string): string[] {
  const lines = structure.split(/\r?\n/);
  if (lines.length > MAX_LINES) throw unusable(name, `more than ${MAX_LINES} lines`);
  const long = lines.findIndex((line) => line.length > MAX_LINE_CHARACTERS);
  if (long >= 0) throw unusable(name, `line ${long + 1} is longer than ${MAX_LINE_CHARACTERS} characters`);
  return lines;
}

/** An extent line with its file name still as Latin-1; null if the line is none. */
function parseExtentLine(line: string): Extent | null {
  const bare = EXTENT_WITHOUT_FILE.exec(line);
  if (bare) return extentOf(bare[1]!, bare[2]!, bare[3]!, null, null);
  const full = EXTENT_LINE.exec(line);
  if (!full) return null;
  const startSector = full[8] === undefined ? null : Number(full[8]);
  return extentOf(full[2]!, full[3]!, full[5]!, full[6]!, startSector);
}

function extentOf(
  access: string,
  sectors: string,
  type: string,
  fileName: string | null,
  startSector: number | null,
): Extent {
  return {
    access: access.toUpperCase() as Extent['access'],
    sectors: Number(sectors),
    type: type.toUpperCase(),
    fileName,
    startSector,
  };
}

function hexId(value: string | undefined, key: string, name: string): string | null {
  if (value === undefined) return null;
  if (!/^[0-9a-f]{1,8}$/i.test(value))
    throw unusable(name, `${key} "${shownName(value)}" is not 8 hex digits`);
  return value.toLowerCase().padStart(8, '0');
}

/** The first significant line and `version=`, which VMware wants exactly so; returns the version. */
function checkOpening(lines: readonly string[], name: string): number {
  const significant = lines.map((line) => line.trim()).filter((line) => line !== '');
  if (!/^#[ \t]*disk[ \t]+descriptorfile$/i.test(significant[0] ?? '')) {
    throw unusable(name, 'its first line is not "# Disk DescriptorFile"');
  }
  const firstOption = significant.find((line) => !line.startsWith('#')) ?? '';
  const version = /^version=([123])$/i.exec(firstOption);
  if (!version)
    throw unusable(name, `its first setting is "${shownName(firstOption)}", not version=1, 2 or 3`);
  return Number(version[1]);
}

/**
 * Parses a descriptor.
 * @param bytes the file as it stands; NUL padding is ignored
 * @param name for messages
 * @throws PhdError FORMAT_UNSUPPORTED with line and reason
 */
export function parseDescriptor(bytes: Uint8Array, name: string): Descriptor {
  const lines = splitLines(structureOf(bytes, name), name);
  const version = checkOpening(lines, name);
  const keys = new Map<string, string>();
  const extents: Extent[] = [];
  for (const [index, line] of lines.entries()) {
    const text = line.trim();
    if (text === '' || text.startsWith('#')) continue;
    const extent = parseExtentLine(text);
    if (extent) {
      if (extent.sectors > MAX_SECTORS) throw unusable(name, `line ${index + 1} names more than 64 TiB`);
      extents.push(extent);
      continue;
    }
    const pair = KEY_LINE.exec(text);
    if (!pair) throw unusable(name, `line ${index + 1} cannot be read: ${shownName(text)}`);
    const key = pair[1]!.toLowerCase();
    const value = pair[2] ?? pair[3] ?? '';
    if ((keys.get(key) ?? value) !== value)
      throw unusable(name, `line ${index + 1} sets ${key} a second time`);
    keys.set(key, value);
  }
  const encoding = keys.get('encoding') ?? null;
  const decoded = (key: string) => {
    const value = keys.get(key);
    return value === undefined ? null : decodeValue(value, encoding, name);
  };
  return {
    version,
    encoding,
    cid: hexId(keys.get('cid'), 'CID', name),
    parentCid: hexId(keys.get('parentcid'), 'parentCID', name),
    createType: decoded('createtype'),
    parentFileNameHint: decoded('parentfilenamehint'),
    extents: extents.map((extent) => ({
      ...extent,
      fileName: extent.fileName === null ? null : decodeValue(extent.fileName, encoding, name),
    })),
    ddb: new Map(
      [...keys].filter(([key]) => key.startsWith('ddb.')).map(([key]) => [key.slice(4), decoded(key) ?? '']),
    ),
  };
}

/** Descriptor text with LF line ends, in the order VMware writes it. */
export function printDescriptor(fields: DescriptorFields): string {
  const extentLines = fields.extents.map((extent) => {
    const start = extent.startSector === null ? '' : ` ${extent.startSector}`;
    const file = extent.fileName === null ? '' : ` "${extent.fileName}"${start}`;
    return `${extent.access} ${extent.sectors} ${extent.type}${file}`;
  });
  return [
    '# Disk DescriptorFile',
    'version=1',
    ...(fields.encoding === null ? [] : [`encoding="${fields.encoding}"`]),
    `CID=${fields.cid}`,
    `parentCID=${NO_PARENT}`,
    `createType="${fields.createType}"`,
    '',
    '# Extent description',
    ...extentLines,
    '',
    '# The Disk Data Base',
    '#DDB',
    '',
    ...fields.ddb.map(([key, value]) => `ddb.${key} = "${value}"`),
    '',
  ].join('\n');
}

/**
 * Why the disk of a descriptor is not one flat file beside it, as half a sentence; null if it is.
 * Everything that is not known to be plain is refused.
 */
export function notPlainReason(descriptor: Descriptor): string | null {
  const type = (descriptor.createType ?? '').toLowerCase();
  const kinds = new Set(descriptor.extents.map((extent) => extent.type));
  if (type === 'vmfssparse' || kinds.has('VMFSSPARSE')) return 'it is a snapshot (vmfsSparse)';
  if (descriptor.parentCid === null) return 'it does not say whether it has a parent (no parentCID)';
  if (descriptor.parentCid !== NO_PARENT) return `it is a snapshot (parentCID ${descriptor.parentCid})`;
  if (descriptor.parentFileNameHint !== null) return 'it is a snapshot (it names a parent file)';
  const isRaw =
    /^(vmfsrdmp?|vmfspassthroughrawdevicemap|vmfsrawdevicemap|vmfsraw|fulldevice|partitioneddevice)$/;
  if (isRaw.test(type) || kinds.has('VMFSRDM') || kinds.has('VMFSRAW')) {
    return `it is raw-mapped (${shownName(descriptor.createType ?? 'VMFSRDM')})`;
  }
  if (/sparse|streamoptimized/.test(type) || kinds.has('SPARSE')) {
    return `it is sparse (${shownName(descriptor.createType ?? 'SPARSE')})`;
  }
  if (descriptor.extents.length > 1 || /2gbmaxextent|twogbmaxextent/.test(type)) {
    return `it is split (${descriptor.extents.length} extents)`;
  }
  const extent = descriptor.extents[0];
  if (extent === undefined) return 'it names no extent';
  if (extent.type !== 'VMFS' && extent.type !== 'FLAT') return `its extent is of type ${extent.type}`;
  if (extent.access === 'NOACCESS') return 'its extent is marked NOACCESS';
  if ((extent.startSector ?? 0) !== 0) return `its extent begins at sector ${extent.startSector}, not 0`;
  if (!isPlainName(extent.fileName ?? '')) {
    return `its extent "${shownName(extent.fileName ?? '')}" is not a file beside it`;
  }
  return null;
}

/** A name as it stands in a descriptor of this encoding, in Latin-1 characters. */
function encodeName(flatName: string, encoding: string | null): string {
  const label = DECODERS[(encoding ?? 'utf-8').toLowerCase()];
  if (label === 'utf-8' || /^[\u0020-\u007e]*$/.test(flatName))
    return Buffer.from(flatName).toString('latin1');
  if (label === 'windows-1252' && /^[\u0020-\u007e\u00a0-\u00ff]*$/.test(flatName)) return flatName;
  throw new PhdError(
    'FORMAT_UNSUPPORTED',
    `the name ${shownName(flatName)} cannot be written in the encoding ${shownName(encoding ?? '')} of its descriptor`,
  );
}

/** Refuses a name that no descriptor can hold. */
export function checkFlatName(flatName: string): void {
  if (isPlainName(flatName) && !flatName.includes('"')) return;
  throw new PhdError(
    'FORMAT_UNSUPPORTED',
    `a descriptor cannot name the file ${shownName(flatName)}: choose a name without quotes, separators and control characters`,
  );
}

/**
 * The descriptor with its one extent line naming another flat and size; every other byte stays.
 * A string counts as UTF-8 text; bytes keep their encoding.
 * @param sectors of 512 bytes
 * @throws PhdError FORMAT_UNSUPPORTED if it is not the descriptor of one plain flat, or cannot hold the name
 */
export function withExtent(descriptor: string, flatName: string, sectors: number): string;
export function withExtent(descriptor: Uint8Array, flatName: string, sectors: number): Buffer;
export function withExtent(
  descriptor: string | Uint8Array,
  flatName: string,
  sectors: number,
): string | Buffer {
  const bytes = typeof descriptor === 'string' ? Buffer.from(descriptor) : descriptor;
  checkFlatName(flatName);
  if (!Number.isInteger(sectors) || sectors <= 0 || sectors > MAX_SECTORS) {
    throw new PhdError('USAGE', `${flatName}: ${sectors} is not a size in sectors`);
  }
  const parsed = parseDescriptor(bytes, `the descriptor of ${flatName}`);
  const reason = notPlainReason(parsed);
  if (reason !== null) throw unusable(`the descriptor of ${flatName}`, reason);
  const isSameName = parsed.extents[0]!.fileName === flatName;
  const structure = structureOf(bytes, flatName);
  const padding = Buffer.alloc(bytes.length - structure.length);
  const changed = structure
    .split('\n')
    .map((line) => {
      const end = line.endsWith('\r') ? '\r' : '';
      const match = EXTENT_LINE.exec(end ? line.slice(0, -1) : line);
      if (!match) return line;
      const name = isSameName ? match[6]! : encodeName(flatName, parsed.encoding);
      return `${match[1]}${sectors}${match[4]}${name}${match[7]}${end}`;
    })
    .join('\n');
  const result = Buffer.concat([Buffer.from(changed, 'latin1'), padding]);
  return typeof descriptor === 'string' ? result.toString('utf8') : result;
}
