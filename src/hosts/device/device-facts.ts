/** What a machine tells of one of its block devices, by /sys and /proc: the same on rescue systems with busybox alone. */
import { PhdError } from '../../errors.ts';
import { shellQuoted } from '../../storage/shell-word.ts';
import type { Machine } from './machine.ts';

export interface DevicePart {
  /** `sda1` */
  name: string;
  /** `8:1` */
  number: string;
  startSector: number;
  sectors: number;
}

export interface DeviceFacts {
  /** As phd.yaml names it. */
  path: string;
  /** Symbolic links resolved. */
  realPath: string;
  sizeBytes: number;
  /** Smallest unit the device reads, 512 .. 65,536. */
  sectorBytes: number;
  model: string | null;
  serial: string | null;
  /** As the kernel sees them. */
  parts: DevicePart[];
  /** What holds it: `sda1 is mounted on /boot`, `sda2 is held by dm-0`. */
  uses: string[];
  /** A volume group or another mapping lies on it. */
  isMapped: boolean;
  hasSfdisk: boolean;
  /** What makes digests there. */
  hasher: 'python3' | 'sha256sum' | null;
  memoryMib: number | null;
  cpus: number | null;
  /** `Linux 6.1.0 x86_64` */
  system: string | null;
}

const MAX_PARTS = 256;
/** The kernel counts in these, whatever the device's own sectors are. */
const KERNEL_SECTOR_BYTES = 512;

/** Lines `@KEY value`; nothing in it depends on more than a POSIX shell and busybox. */
const PROBE = `
real=$(readlink -f "$d" 2>/dev/null) || real=$d
[ -n "$real" ] || real=$d
if [ ! -e "$real" ]; then echo "@missing"; exit 0; fi
if [ ! -b "$real" ]; then echo "@noblock"; exit 0; fi
if [ ! -r "$real" ]; then echo "@unreadable"; exit 0; fi
printf "@real %s\\n" "$real"
maj=$(stat -c %t "$real" 2>/dev/null); min=$(stat -c %T "$real" 2>/dev/null)
s=/sys/dev/block/$((0x\${maj:-0})):$((0x\${min:-0}))
[ -d "$s" ] || s=/sys/class/block/\${real##*/}
one() { if [ -r "$2" ]; then IFS= read -r v <"$2"; [ -z "$v" ] || printf "@%s %s\\n" "$1" "$v"; fi; }
one number "$s/dev"
one size "$s/size"
[ -r "$s/size" ] || echo "@bytes $(blockdev --getsize64 "$real" 2>/dev/null)"
one sector "$s/queue/logical_block_size"
one sector "$s/../queue/logical_block_size"
one vendor "$s/device/vendor"
one model "$s/device/model"
one serial "$s/serial"
one serial "$s/device/serial"
if command -v lsblk >/dev/null 2>&1; then
  echo "@serial $(lsblk -dno SERIAL "$real" 2>/dev/null)"
fi
for h in "$s"/holders/*; do [ ! -e "$h" ] || echo "@holder \${real##*/} \${h##*/}"; done
for p in "$s"/*/partition; do
  [ -r "$p" ] || continue
  q=\${p%/partition}
  read -r a <"$q/dev"; read -r b <"$q/start"; read -r c <"$q/size"
  echo "@part \${q##*/} $a $b $c"
  for h in "$q"/holders/*; do [ ! -e "$h" ] || echo "@holder \${q##*/} \${h##*/}"; done
done
while IFS= read -r l; do printf "@mount %s\\n" "$l"; done </proc/self/mountinfo
while IFS= read -r l; do printf "@swap %s\\n" "$l"; done </proc/swaps
while read -r k v u; do [ "$k" != MemTotal: ] || echo "@memory $v"; done </proc/meminfo
echo "@cpus $(grep -c '^processor' /proc/cpuinfo)"
echo "@system $(uname -srm)"
if python3 -c 'import hashlib' >/dev/null 2>&1; then echo "@hasher python3"
elif command -v sha256sum >/dev/null 2>&1; then echo "@hasher sha256sum"; fi
! command -v sfdisk >/dev/null 2>&1 || echo "@sfdisk"
`;

/** Throws NOT_FOUND, SOURCE_UNSUPPORTED (no block device), TARGET_REFUSED (not readable), TARGET_*, CANCELLED. */
export async function deviceFacts(
  machine: Machine,
  path: string,
  signal?: AbortSignal,
): Promise<DeviceFacts> {
  const { stdout, stderr, status } = await machine.run(`d=${shellQuoted(path)}; ${PROBE}`, {
    signal,
    maxBytes: 4 * 1024 * 1024,
  });
  return parseFacts(
    path,
    machine.name,
    stdout.toString('utf8'),
    `status ${status}: ${stderr.trim().slice(0, 200)}`,
  );
}

/** Of hostile text: what is out of range is left out, what is needed and missing is refused. */
export function parseFacts(path: string, machine: string, text: string, failure = ''): DeviceFacts {
  const said = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const [, key, value = ''] = /^@([a-z]+)(?: (.*))?$/s.exec(line) ?? [];
    if (key === undefined) continue;
    const values = said.get(key);
    if (values === undefined) said.set(key, [value.trim()]);
    else values.push(value.trim());
  }
  const first = (key: string): string | null => said.get(key)?.find((value) => value !== '') ?? null;
  const place = `${path} on ${machine}`;
  if (said.has('missing')) throw new PhdError('NOT_FOUND', `there is no device ${place}`);
  if (said.has('noblock')) throw new PhdError('SOURCE_UNSUPPORTED', `${place} is no block device`);
  if (said.has('unreadable'))
    throw new PhdError(
      'TARGET_REFUSED',
      `${place} may not be read by this user: log in as root, or give it the group of the device`,
    );
  const number = (value: string | null | undefined, most: number): number | null =>
    value != null && /^\d{1,15}$/.test(value) && Number(value) <= most ? Number(value) : null;
  const sectors = number(first('size'), Number.MAX_SAFE_INTEGER / KERNEL_SECTOR_BYTES);
  const sizeBytes =
    sectors === null ? number(first('bytes'), Number.MAX_SAFE_INTEGER) : sectors * KERNEL_SECTOR_BYTES;
  if (sizeBytes === null)
    throw new PhdError('TARGET_REFUSED', `${machine} does not tell the size of ${path} (${failure})`);
  if (sizeBytes === 0) throw new PhdError('SOURCE_UNSUPPORTED', `${place} is empty: no medium is in it`);
  const sectorBytes = number(first('sector'), 65_536) ?? KERNEL_SECTOR_BYTES;
  const realPath = first('real') ?? path;
  const parts = (said.get('part') ?? []).slice(0, MAX_PARTS).flatMap((line): DevicePart[] => {
    const [name = '', dev = '', start, size] = line.split(' ');
    const startSector = number(start, Number.MAX_SAFE_INTEGER);
    const count = number(size, Number.MAX_SAFE_INTEGER);
    return startSector === null || count === null ? [] : [{ name, number: dev, startSector, sectors: count }];
  });
  const hasher = first('hasher');
  const memory = number(first('memory'), 2 ** 40);
  return {
    path,
    realPath,
    sizeBytes,
    sectorBytes: isSectorSize(sectorBytes) ? sectorBytes : KERNEL_SECTOR_BYTES,
    model: shown([first('vendor'), first('model')].filter((word) => word !== null).join(' ')),
    serial: shown(first('serial')),
    parts,
    ...usesOf(realPath, first('number'), parts, said),
    hasSfdisk: said.has('sfdisk'),
    hasher: hasher === 'python3' || hasher === 'sha256sum' ? hasher : null,
    memoryMib: memory === null ? null : Math.floor(memory / 1024),
    cpus: number(first('cpus'), 4096) || null,
    system: shown(first('system')),
  };
}

function isSectorSize(bytes: number): boolean {
  return bytes >= KERNEL_SECTOR_BYTES && (bytes & (bytes - 1)) === 0;
}

/** A line for people: printable, and not without end. */
function shown(text: string | null): string | null {
  const clean = (text ?? '')
    .replace(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, '')
    .trim()
    .slice(0, 100);
  return clean === '' ? null : clean;
}

/** Mounted, swap, or held by another mapping: the device itself or a partition of it. */
function usesOf(
  realPath: string,
  ownNumber: string | null,
  parts: readonly DevicePart[],
  said: ReadonlyMap<string, string[]>,
): Pick<DeviceFacts, 'uses' | 'isMapped'> {
  const own = realPath.split('/').at(-1) ?? realPath;
  const byNumber = new Map(parts.map((part) => [part.number, part.name]));
  if (ownNumber !== null) byNumber.set(ownNumber, own);
  const names = new Set([own, ...parts.map(({ name }) => name)]);
  const uses: string[] = [];
  for (const line of said.get('mount') ?? []) {
    const fields = line.split(' ');
    // Some file systems show a number of no device: then the name of the source counts.
    const source = fields[fields.indexOf('-') + 2]?.replace(/^\/dev\//, '') ?? '';
    const name = byNumber.get(fields[2] ?? '') ?? (names.has(source) ? source : undefined);
    if (name !== undefined) uses.push(`${name} is mounted on ${shown(unoctal(fields[4] ?? '')) ?? '?'}`);
  }
  for (const line of said.get('swap') ?? []) {
    const name = line.split(/\s/)[0]?.replace(/^\/dev\//, '') ?? '';
    if (names.has(name)) uses.push(`${name} is swap space in use`);
  }
  const holders = said.get('holder') ?? [];
  for (const line of holders) {
    const [name = '?', holder = '?'] = line.split(' ');
    uses.push(`${shown(name)} is held by ${shown(holder)} (LVM, RAID or encryption)`);
  }
  return { uses: [...new Set(uses)].slice(0, 50), isMapped: holders.length > 0 };
}

/** Blanks in mount points stand as `\040`. */
function unoctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
