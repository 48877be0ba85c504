/** The VMX of a VM restored elsewhere: same machine, new place, each changed line shown. Pure. */
import { createHash, randomBytes } from 'node:crypto';
import { isPlainName } from './plain-name.ts';
import {
  escapeValue,
  isSwitchedOff,
  parseVmx,
  printVmxUuid,
  type Vmx,
  type VmxDisk,
  vmxDisks,
} from './vmx.ts';

export interface VmxRewrite {
  /** New display name; undefined keeps it. */
  displayName?: string;
  /** Slot (`scsi0:0`) -> file name of its descriptor in the new place. Disks that are not named are disconnected. */
  diskFiles: ReadonlyMap<string, string>;
  /** `keep`: the VM is moved. `new`: it is a copy and gets another UUID and other MAC addresses. */
  identity: 'keep' | 'new';
  /** UUID of the copy, from which its MAC addresses follow; random if not given. */
  newUuid?: string;
  /** Network cards stay, but unplugged at power-on. */
  disconnectNetwork: boolean;
  /** Whether a path that the VMX names (image of a CD, serial port) exists on this host; relative ones are in the new folder. */
  pathExists: (path: string) => boolean;
}

/** One changed line: null before = added, null after = removed. */
export interface ChangedLine {
  /** Of the old text, from 1; null for added lines. */
  lineNumber: number | null;
  before: string | null;
  after: string | null;
}

export interface RewrittenVmx {
  /** UTF-8. */
  text: string;
  changes: ChangedLine[];
}

/** Settings that only hold in the old place or for the old run; VMware makes them anew. */
const STALE_KEYS =
  /^(sched\.swap\.derivedname|sched\.swap\.dir|migrate\.hostlog.*|checkpoint\.vmstate.*|workingdir)$/;
const DEVICE_FILE_KEY = /^((?:scsi|sata|ide|nvme)\d+:\d+|floppy\d+|serial\d+|parallel\d+)\.filename$/;
/**
 * An address for one card of the copy, from the range VMware leaves for those set by hand (00:50:56:00:00:00 to
 * 00:50:56:3f:ff:ff). It follows from the UUID, so that what was shown is what is written.
 */
function staticMac(uuid: string, key: string): string {
  const [first, second, third] = createHash('sha256').update(`${uuid} ${key}`).digest();
  return [
    '00',
    '50',
    '56',
    ...[first! & 0x3f, second!, third!].map((byte) => byte.toString(16).padStart(2, '0')),
  ].join(':');
}

function randomUuid(): string {
  return randomBytes(16).toString('hex');
}

/** Last part of a path of any system. */
function lastPart(path: string): string {
  return path.split(/[/\\]/).at(-1) ?? '';
}

type Changes = Map<string, string | null>;

function changeDisks(vmx: Vmx, disks: readonly VmxDisk[], rewrite: VmxRewrite, changes: Changes): void {
  for (const disk of disks) {
    const fileName = rewrite.diskFiles.get(disk.slot);
    if (fileName === undefined) changes.set(`${disk.slot}.present`, 'FALSE');
    else changes.set(`${disk.slot}.fileName`, fileName);
  }
  const slots = new Set(disks.map((disk) => disk.slot));
  for (const [key, value] of vmx.values) {
    const slot = DEVICE_FILE_KEY.exec(key)?.[1];
    if (slot === undefined || slots.has(slot) || isSwitchedOff(vmx, slot)) continue;
    if (/[/\\.]/.test(value) && !rewrite.pathExists(value)) changes.set(`${slot}.startConnected`, 'FALSE');
  }
}

function changeIdentity(vmx: Vmx, rewrite: VmxRewrite, changes: Changes): void {
  changes.set('uuid.action', rewrite.identity === 'new' ? 'create' : 'keep');
  const isNew = rewrite.identity === 'new';
  const newUuid = rewrite.newUuid ?? randomUuid();
  if (isNew) {
    changes.set('uuid.bios', printVmxUuid(newUuid));
    changes.set('uuid.location', null);
    changes.set('vc.uuid', null);
  }
  for (const key of vmx.values.keys()) {
    const card = /^(ethernet\d+)\.(present|address|generatedaddress|generatedaddressoffset)$/.exec(key);
    if (!card) continue;
    if (card[2] === 'present' && rewrite.disconnectNetwork) changes.set(`${card[1]}.startConnected`, 'FALSE');
    if (!isNew) continue;
    if (card[2] === 'address') changes.set(key, staticMac(newUuid, key));
    if (card[2]?.startsWith('generated')) changes.set(key, null);
  }
}

/** Files of the VM that lie in its own folder are named without a path. */
function changePaths(vmx: Vmx, changes: Changes): void {
  for (const key of ['nvram', 'extendedconfigfile']) {
    const value = vmx.values.get(key);
    if (value === undefined || isPlainName(value)) continue;
    const name = lastPart(value);
    changes.set(key, isPlainName(name) ? name : null);
  }
  for (const key of vmx.values.keys()) if (STALE_KEYS.test(key)) changes.set(key, null);
}

/** Applies changes line by line; the spelling of a key that is there already stays. */
function applyChanges(vmx: Vmx, changes: Changes): RewrittenVmx {
  const wanted = new Map([...changes].map(([key, value]) => [key.toLowerCase(), { key, value }]));
  const seen = new Set<string>();
  const lines: string[] = [];
  const log: ChangedLine[] = [];
  for (const [index, line] of vmx.lines.entries()) {
    const lower = line.key?.toLowerCase() ?? '';
    const isRepeated = line.key !== null && seen.has(lower);
    if (line.key !== null) seen.add(lower);
    const change = wanted.get(lower);
    if (line.key === null || (!change && !isRepeated)) {
      lines.push(line.text);
      continue;
    }
    const isGone = isRepeated || change!.value === null;
    const after = isGone ? null : `${line.key} = "${escapeValue(change!.value!)}"`;
    if (after !== null && line.value === change!.value) {
      lines.push(line.text);
      continue;
    }
    if (after !== null) lines.push(after);
    log.push({ lineNumber: index + 1, before: line.text, after });
  }
  const added = [...wanted.values()].filter(
    ({ key, value }) => value !== null && !seen.has(key.toLowerCase()),
  );
  const addedLines = added.map(({ key, value }) => `${key} = "${escapeValue(value!)}"`);
  if (addedLines.length > 0 && lines.at(-1) === '') lines.pop();
  for (const after of addedLines) log.push({ lineNumber: null, before: null, after });
  const all = [...lines, ...addedLines, ...(addedLines.length > 0 ? [''] : [])];
  return { text: all.join(vmx.lineEnd), changes: log };
}

/**
 * Rewrites a VMX for another place. The result is UTF-8 whatever the old file was, and says so where that matters;
 * of keys that stand twice the first stays.
 * @param bytes the VMX as archived
 * @throws PhdError FORMAT_UNSUPPORTED if it is no VMX
 */
export function rewriteVmx(bytes: Uint8Array, rewrite: VmxRewrite): RewrittenVmx {
  const vmx = parseVmx(bytes, 'the VMX of the archive');
  const changes: Changes = new Map();
  if (rewrite.displayName !== undefined) changes.set('displayName', rewrite.displayName);
  changeDisks(vmx, vmxDisks(vmx), rewrite, changes);
  changeIdentity(vmx, rewrite, changes);
  changePaths(vmx, changes);
  const isAscii = (text: string) => /^[\u0000-\u007f]*$/.test(text);
  const needsEncoding =
    vmx.lines.some((line) => !isAscii(line.text)) ||
    [...changes.values()].some((value) => !isAscii(value ?? ''));
  if (needsEncoding && (vmx.encoding ?? '').toLowerCase() !== 'utf-8') changes.set('.encoding', 'UTF-8');
  return applyChanges(vmx, changes);
}
