/**
 * VMX files: `key = "value"` lines that describe a VM. Pure: bytes in, values out. Hostile data:
 * nothing is evaluated, everything has a limit.
 */
import { PhdError } from '../errors.ts';
import { shownName } from './plain-name.ts';

/** Larger files are no VMX. */
export const MAX_VMX_BYTES = 1024 * 1024;
const MAX_LINES = 20_000;
const MAX_LINE_CHARACTERS = 16_384;

export interface VmxLine {
  /** The line without its end, decoded. */
  text: string;
  /** As written; null for comments and blank lines. */
  key: string | null;
  /** Unescaped; null with `key`. */
  value: string | null;
}

export interface Vmx {
  lines: VmxLine[];
  /** Key in lower case -> value of its first line. */
  values: Map<string, string>;
  /** Keys that stand more than once (VMware refuses such a file); the first line counts here. */
  duplicates: string[];
  /** `.encoding` as written, null if missing. */
  encoding: string | null;
  lineEnd: '\n' | '\r\n';
}

export type DiskBus = 'scsi' | 'sata' | 'ide' | 'nvme';

/** A disk that the VMX connects. */
export interface VmxDisk {
  bus: DiskBus;
  controller: number;
  unit: number;
  /** Key without its last part: `scsi0:1`. */
  slot: string;
  /** Controller and unit digits for archive names: `00`, `01`, `115`. */
  scsiId: string;
  /** As written: relative to the VMX, or absolute. */
  fileName: string;
  /** Lower case; null if the VMX names none. */
  deviceType: string | null;
}

const DISK_KEY = /^(scsi|sata|ide|nvme)(\d{1,2}):(\d{1,3})\.filename$/;
/** File names that VMware writes where a drive holds nothing. */
const NO_FILE = new Set(['', 'auto detect', 'emptybackingstring']);

const DECODERS: Record<string, string> = {
  'utf-8': 'utf-8',
  gbk: 'gbk',
  big5: 'big5',
  shift_jis: 'shift_jis',
};

function unusable(name: string, reason: string): PhdError {
  return new PhdError('FORMAT_UNSUPPORTED', `${shownName(name)} is not a usable VMX: ${reason}`);
}

/** `|22` -> `"`; a bar without two hex digits stays. Escaped bytes above 7F are parts of UTF-8 characters. */
function unescapeValue(value: string): string {
  return value.replace(/(?:\|[0-9a-f]{2})+/gi, (run) =>
    Buffer.from(run.replaceAll('|', ''), 'hex').toString(),
  );
}

/** A value as it may stand between quotes: `"`, `|`, `#` and control characters as `|HH`. */
export function escapeValue(value: string): string {
  return value.replace(
    /["|#\u0000-\u001f\u007f]/g,
    (character) => `|${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  );
}

/** Text of the file by the encoding it names; what is no valid text of it is read as windows-1252, which fits any byte. */
function decodeText(bytes: Uint8Array): { text: string; encoding: string | null } {
  const latin1 = Buffer.from(bytes).toString('latin1');
  const encoding = /^[ \t]*\.encoding[ \t]*=[ \t]*"?([A-Za-z0-9_-]{1,40})"?/im.exec(latin1)?.[1] ?? null;
  const label = DECODERS[(encoding ?? 'utf-8').toLowerCase()] ?? 'windows-1252';
  try {
    return { text: new TextDecoder(label, { fatal: true }).decode(bytes), encoding };
  } catch {
    return { text: new TextDecoder('windows-1252').decode(bytes), encoding };
  }
}

/** Key and value of a line, read by hand: patterns with several runs of blanks take quadratic time on hostile lines. */
function parsePair(trimmed: string): { key: string; value: string } | null {
  const equals = trimmed.indexOf('=');
  const key = trimmed.slice(0, Math.max(0, equals)).trimEnd();
  if (key === '' || /[\s"#]/.test(key)) return null;
  const rest = trimmed.slice(equals + 1).trimStart();
  if (!rest.startsWith('"')) {
    const value = (rest.split('#', 1)[0] ?? '').trimEnd();
    return value.includes('"') ? null : { key, value };
  }
  const end = rest.indexOf('"', 1);
  const behind = rest.slice(end + 1).trimStart();
  return end < 0 || (behind !== '' && !behind.startsWith('#')) ? null : { key, value: rest.slice(1, end) };
}

/** A line that cannot be read counts as a comment. */
function parseLine(text: string): VmxLine {
  const trimmed = text.trim();
  const pair = /^[#!]|^$/.test(trimmed) ? null : parsePair(trimmed);
  return { text, key: pair?.key ?? null, value: pair === null ? null : unescapeValue(pair.value) };
}

/**
 * Parses a VMX. Lines that cannot be read are kept as comments: one odd line must not hide a VM.
 * @param name for messages
 * @throws PhdError FORMAT_UNSUPPORTED if it is too large, binary, or holds no setting at all
 */
export function parseVmx(bytes: Uint8Array, name: string): Vmx {
  if (bytes.length > MAX_VMX_BYTES) throw unusable(name, `larger than ${MAX_VMX_BYTES} bytes`);
  const { text, encoding } = decodeText(bytes);
  if (text.includes('\0')) throw unusable(name, 'it holds NUL bytes');
  const texts = text.split(/\r?\n/);
  if (texts.length > MAX_LINES) throw unusable(name, `more than ${MAX_LINES} lines`);
  const long = texts.findIndex((line) => line.length > MAX_LINE_CHARACTERS);
  if (long >= 0) throw unusable(name, `line ${long + 1} is longer than ${MAX_LINE_CHARACTERS} characters`);
  const lines = texts.map(parseLine);
  const values = new Map<string, string>();
  const duplicates = new Set<string>();
  for (const { key, value } of lines) {
    if (key === null) continue;
    const lower = key.toLowerCase();
    if (values.has(lower)) duplicates.add(lower);
    else values.set(lower, value!);
  }
  if (values.size === 0) throw unusable(name, 'it holds no setting');
  return {
    lines,
    values,
    duplicates: [...duplicates],
    encoding,
    lineEnd: text.includes('\r\n') ? '\r\n' : '\n',
  };
}

/** `TRUE` in any case, `1`, `yes`; null if the key is missing. */
export function vmxFlag(vmx: Vmx, key: string): boolean | null {
  const value = vmx.values.get(key.toLowerCase());
  return value === undefined ? null : /^(true|1|yes|on)$/i.test(value.trim());
}

/** True if the VMX says that a device (`scsi0:1`, `floppy0`) or its controller is not there. */
export function isSwitchedOff(vmx: Vmx, slot: string): boolean {
  return vmxFlag(vmx, `${slot}.present`) === false || vmxFlag(vmx, `${slot.split(':')[0]}.present`) === false;
}

function isDiskDevice(deviceType: string | null, fileName: string): boolean {
  if (deviceType === null) return !/\.(iso|flp)$/i.test(fileName) && !fileName.startsWith('/dev/cdrom');
  return !/cdrom|passthru|floppy/.test(deviceType);
}

/**
 * Disks that the VMX connects, in the order scsi, sata, ide, nvme, then controller and unit. A disk or controller
 * is left out only where the VMX says `present = "FALSE"`: a disk too many is noticed, one too few is not.
 */
export function vmxDisks(vmx: Vmx): VmxDisk[] {
  const order: DiskBus[] = ['scsi', 'sata', 'ide', 'nvme'];
  const disks: VmxDisk[] = [];
  for (const [key, fileName] of vmx.values) {
    const match = DISK_KEY.exec(key);
    if (!match || NO_FILE.has(fileName.trim().toLowerCase())) continue;
    const [, bus, controller, unit] = match;
    const slot = `${bus}${controller}:${unit}`;
    if (isSwitchedOff(vmx, slot)) continue;
    const deviceType = vmx.values.get(`${slot}.devicetype`)?.toLowerCase() ?? null;
    if (!isDiskDevice(deviceType, fileName)) continue;
    disks.push({
      bus: bus as DiskBus,
      controller: Number(controller),
      unit: Number(unit),
      slot,
      scsiId: `${Number(controller)}${Number(unit)}`,
      fileName,
      deviceType,
    });
  }
  return disks.sort(
    (a, b) => order.indexOf(a.bus) - order.indexOf(b.bus) || a.controller - b.controller || a.unit - b.unit,
  );
}

/** `56 4d 1e 34 43 64 18 08-23 fd e5 65 65 ad d9 65` -> 8-4-4-4-12 in lower case; null if it is no UUID. */
export function vmxUuid(value: string | undefined): string | null {
  const hex = (value ?? '').replace(/[\s-]/g, '').toLowerCase();
  if (!/^[0-9a-f]{32}$/.test(hex)) return null;
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** A UUID as VMX files write it. */
export function printVmxUuid(uuid: string): string {
  const bytes = uuid.replaceAll('-', '').match(/../g) ?? [];
  return `${bytes.slice(0, 8).join(' ')}-${bytes.slice(8).join(' ')}`;
}
