/**
 * Names of folders and archives on a target (FORMAT.md section 1): parsing, printing, escaping. A name from a
 * target is hostile data: what does not fit the grammar is undefined, never an error.
 */
import { createHash } from 'node:crypto';
import { v5 as uuidV5 } from 'uuid';
import type { ArchiveName, Codec, FolderName, Stamp } from '../model/archive.ts';

const CODEC_OF_SUFFIX = { gz: 'gzip', zst: 'zstd', lzo: 'lzop' } as const;
const SUFFIX_OF_CODEC: Record<Codec, string> = { gzip: 'gz', zstd: 'zst', lzop: 'lzo' };

/** Longest name a file system is asked to hold, in bytes. */
const MAX_ENTRY_BYTES = 255;
/** Longest encoded VM or disk name, mark of a cut included. */
const MAX_ENCODED_BYTES = 200;
const CUT_HASH_DIGITS = 8;

/** Namespace of the UUIDs that stand for VMs whose VMX has none (RFC 9562, version 5). */
const VM_NAMESPACE = '9b6f2c1e-7d0a-4c53-8f3e-2a41d5b6c7e8';

const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
const FOLDER = new RegExp(`^(\\d{4})\\.(\\d\\d)\\.(\\d\\d)-(.+)\\.(${UUID})(\\.FULL)?$`, 'isu');
const FULL = /^(\d{2,8})-(.+)\.(gz|zst|lzo)(\.gpg)?-(\d{6})-(\d{4})\.phd$/su;
/** A dash between the parts of the date is a misprint that occurs in the field. */
const DELTA = /^(\d{2,8})-(.+)\.delta(\.gpg)?-(\d{4}[.-]\d\d[.-]\d\d)-(\d{4})-(\d{6})-(\d{4})\.phd$/su;
const DELTA_2 = /^(\d{4})-(.+)\.delta-(\d{4}[.-]\d\d[.-]\d\d)-(\d{4})-(\d{6})$/su;

/** Suffix of a file that is still being written. */
/** Folder of a target in which copies of configurations lie: no archives. */
export const CONFIGURATION_FOLDER = 'phd-configuration';

export const PART_SUFFIX = '.part';

/** Folder name of one run, or undefined if it is none. */
export function parseFolderName(entry: string): FolderName | undefined {
  const match = isPlainEntry(entry) ? FOLDER.exec(entry) : null;
  if (match === null) return undefined;
  const [, year, month, day, vm = '', uuid = '', full] = match;
  const date = checkedDate(`${year}-${month}-${day}`);
  const name = decodeName(vm);
  if (date === undefined || name.includes('\0')) return undefined;
  return { date, vm: name, uuid: uuid.toLowerCase(), allFulls: full !== undefined };
}

/** The folder name; the inverse of `parseFolderName` for every name that needs no cut. */
export function printFolderName(folder: FolderName): string {
  const date = folder.date.replaceAll('-', '.');
  return `${date}-${encodeName(folder.vm)}.${folder.uuid.toLowerCase()}${folder.allFulls ? '.FULL' : ''}`;
}

/** Archive name, or undefined if it is none: stray, hostile, or still `.part`. */
export function parseArchiveName(entry: string): ArchiveName | undefined {
  if (!isPlainEntry(entry)) return undefined;
  return parseFull(entry) ?? parseDelta(entry) ?? parseDelta2(entry);
}

/** The file name; the inverse of `parseArchiveName` for every disk name that needs no cut. */
export function printArchiveName(name: ArchiveName): string {
  const disk = encodeName(name.disk);
  const gpg = name.encrypted ? '.gpg' : '';
  if (name.kind === 'full') {
    const suffix = SUFFIX_OF_CODEC[name.codec ?? 'gzip'];
    return `${name.scsiId}-${disk}.${suffix}${gpg}-${shortStamp(name.stamp)}.phd`;
  }
  const own = `${name.stamp.slice(0, 10).replaceAll('-', '.')}-${clockDigits(name.stamp)}`;
  if (name.generation === 2) return `${name.scsiId}-${disk}.delta-${own}-${shortDate(name.fullStamp)}`;
  return `${name.scsiId}-${disk}.delta${gpg}-${own}-${shortStamp(name.fullStamp)}.phd`;
}

/** True for the name of an archive that is being written, or was left over when a writer died. */
export function isPartOfArchive(entry: string): boolean {
  return entry.endsWith(PART_SUFFIX) && parseArchiveName(entry.slice(0, -PART_SUFFIX.length)) !== undefined;
}

/** UUID of a VM whose VMX names none: the same host and path always give the same. */
export function uuidOfVm(hostName: string, vmxPath: string): string {
  return uuidV5(`${hostName}\n${vmxPath}`, VM_NAMESPACE);
}

/**
 * A VM or disk name as it stands in a name on a target: NFC, `%XX` for each byte that cannot stand there, at
 * most 200 bytes. Lone surrogates U+DC80..U+DCFF stand for bytes that are no UTF-8, as `decodeName` gives them.
 */
export function encodeName(name: string): string {
  const characters = Array.from(name.normalize('NFC'));
  const last = characters.length - 1;
  const encoded = characters.map((character, at) => {
    const isEdge = (at === 0 && /[.-]/.test(character)) || (at === last && /[. ]/.test(character));
    return isEdge || /[\p{Cc}\p{Cs}/\\:*?"<>|%]/u.test(character) ? percentBytes(character) : character;
  });
  const whole = encoded.join('');
  if (Buffer.byteLength(whole) <= MAX_ENCODED_BYTES) return whole;
  const hash = createHash('sha256').update(whole).digest('hex').slice(0, CUT_HASH_DIGITS);
  const room = MAX_ENCODED_BYTES - 1 - CUT_HASH_DIGITS;
  let kept = '';
  let bytes = 0;
  for (const piece of encoded) {
    bytes += Buffer.byteLength(piece);
    if (bytes > room) break;
    kept += piece;
  }
  return `${kept}~${hash}`;
}

/** Inverse of `encodeName` but for cut names. `%` without two hex digits stands for itself. */
export function decodeName(encoded: string): string {
  const decoded = encoded.replace(/(?:%[0-9a-f]{2})+/gi, (run) => {
    return decodeBytes(Buffer.from(run.replaceAll('%', ''), 'hex'));
  });
  return decoded.normalize('NFC');
}

/** A VM or disk name as it can be told from a target: NFC, and cut if it is long. */
export function listedName(name: string): string {
  return decodeName(encodeName(name));
}

function parseFull(entry: string): ArchiveName | undefined {
  const match = FULL.exec(entry);
  if (match === null) return undefined;
  const [, scsiId = '', encoded = '', suffix, gpg, date = '', clock = ''] = match;
  const stamp = checkedStamp(longDate(date), clock);
  const disk = decodeDisk(encoded);
  if (stamp === undefined || disk === undefined) return undefined;
  const codec = CODEC_OF_SUFFIX[suffix as keyof typeof CODEC_OF_SUFFIX];
  return {
    kind: 'full',
    generation: 3,
    scsiId,
    disk,
    codec,
    encrypted: gpg !== undefined,
    stamp,
    fullStamp: stamp,
  };
}

function parseDelta(entry: string): ArchiveName | undefined {
  const match = DELTA.exec(entry);
  if (match === null) return undefined;
  const [, scsiId = '', encoded = '', gpg, date = '', clock = '', fullDate = '', fullClock = ''] = match;
  const stamp = checkedStamp(date.replaceAll('.', '-'), clock);
  const fullStamp = checkedStamp(longDate(fullDate), fullClock);
  const disk = decodeDisk(encoded);
  if (stamp === undefined || fullStamp === undefined || disk === undefined) return undefined;
  const encrypted = gpg !== undefined;
  return { kind: 'delta', generation: 3, scsiId, disk, codec: null, encrypted, stamp, fullStamp };
}

function parseDelta2(entry: string): ArchiveName | undefined {
  const match = DELTA_2.exec(entry);
  if (match === null) return undefined;
  const [, scsiId = '', encoded = '', date = '', clock = '', fullDate = ''] = match;
  const stamp = checkedStamp(date.replaceAll('.', '-'), clock);
  const fullStamp = checkedDate(longDate(fullDate));
  const disk = decodeDisk(encoded);
  if (stamp === undefined || fullStamp === undefined || disk === undefined) return undefined;
  return { kind: 'delta', generation: 2, scsiId, disk, codec: null, encrypted: false, stamp, fullStamp };
}

/** A disk is one file: a name that could lead out of its folder is hostile. */
function decodeDisk(encoded: string): string | undefined {
  const disk = decodeName(encoded);
  return /[/\0]/.test(disk) || disk === '.' || disk === '..' ? undefined : disk;
}

function isPlainEntry(entry: string): boolean {
  return Buffer.byteLength(entry) <= MAX_ENTRY_BYTES && !/[\p{Cc}/]/u.test(entry);
}

/** `080429` -> `2008-04-29` */
const longDate = (date: string): string => `20${date.slice(0, 2)}-${date.slice(2, 4)}-${date.slice(4, 6)}`;
/** `2008-04-29...` -> `080429` */
const shortDate = (stamp: Stamp): string => stamp.slice(2, 10).replaceAll('-', '');
/** `...T11:34` -> `1134` */
const clockDigits = (stamp: Stamp): string => stamp.slice(11, 13) + stamp.slice(14, 16);
const shortStamp = (stamp: Stamp): string => `${shortDate(stamp)}-${clockDigits(stamp)}`;

/** The date if the calendar has it. */
function checkedDate(date: string): string | undefined {
  const moment = new Date(`${date}T00:00:00Z`);
  return !Number.isNaN(moment.getTime()) && moment.toISOString().startsWith(date) ? date : undefined;
}

function checkedStamp(date: string, clock: string): Stamp | undefined {
  const isClock = Number(clock.slice(0, 2)) < 24 && Number(clock.slice(2, 4)) < 60;
  return isClock && checkedDate(date) !== undefined
    ? `${date}T${clock.slice(0, 2)}:${clock.slice(2, 4)}`
    : undefined;
}

function percentBytes(character: string): string {
  const codePoint = character.codePointAt(0) ?? 0;
  const isRawByte = codePoint >= 0xdc80 && codePoint <= 0xdcff;
  const bytes = isRawByte ? [codePoint - 0xdc00] : [...Buffer.from(character, 'utf8')];
  return bytes.map((byte) => '%' + byte.toString(16).toUpperCase().padStart(2, '0')).join('');
}

/** UTF-8 as text; each byte that is none becomes U+DC00 + byte. */
function decodeBytes(bytes: Buffer): string {
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const length = utf8Length(bytes, at);
    text +=
      length === 0 ? String.fromCharCode(0xdc00 + (bytes[at] ?? 0)) : bytes.toString('utf8', at, at + length);
    at += Math.max(length, 1);
  }
  return text;
}

/** Bytes of the valid UTF-8 character at `at`, 0 if there is none. */
function utf8Length(bytes: Buffer, at: number): number {
  const first = bytes[at] ?? 0;
  const length =
    first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (length === 0 || at + length > bytes.length) return 0;
  const piece = bytes.subarray(at, at + length);
  return Buffer.from(piece.toString('utf8'), 'utf8').equals(piece) ? length : 0;
}
