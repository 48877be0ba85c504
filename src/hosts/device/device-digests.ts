/** Digests of a device made on its machine, so that unchanged blocks do not cross the line. */
import { createHash } from 'node:crypto';
import { BLOCK_BYTES, DIGEST_BYTES, ZERO_MARK } from '../../archive/geometry.ts';
import { PhdError } from '../../errors.ts';
import type { AccountHooks, RegionDigests } from '../../model/disk-reader.ts';
import { shellQuoted } from '../../storage/shell-word.ts';
import type { DeviceFacts } from './device-facts.ts';
import type { Machine } from './machine.ts';

/** A region of 64 MiB, or on a slow device much of it. */
const REGION_TIMEOUT_MS = 30 * 60_000;

/** Arguments: device, first block, count, bytes of a block. Gives the digests of the blocks, then that of the region. */
const PYTHON = `
import hashlib, os, sys
path, first, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
fd = os.open(path, os.O_RDONLY)
os.lseek(fd, first * size, 0)
zero, mark = bytes(size), bytes(32)
region, has_data, out = hashlib.sha256(), False, []
for _ in range(count):
    block = b''
    while len(block) < size:
        part = os.read(fd, size - len(block))
        if not part:
            break
        block += part
    if not block:
        sys.exit('the device ends')
    region.update(block)
    if block == zero[:len(block)]:
        out.append(mark)
    else:
        has_data = True
        out.append(hashlib.sha256(block).digest())
out.append(region.digest() if has_data else mark)
os.write(1, b''.join(out))
`;

/** Null if the machine could not read all of it. Throws TARGET_*, CANCELLED. */
export async function digestsThere(
  machine: Machine,
  facts: DeviceFacts,
  { firstBlock, count }: { firstBlock: number; count: number },
  signal?: AbortSignal,
): Promise<RegionDigests | null> {
  const device = shellQuoted(facts.realPath);
  const isPython = facts.hasher === 'python3';
  const command = isPython
    ? `python3 -c ${shellQuoted(PYTHON)} ${device} ${firstBlock} ${count} ${BLOCK_BYTES}`
    : // A dd that fails would else give the digest of what it read before.
      `one() { { dd if=${device} bs=${BLOCK_BYTES} skip=$1 count=$2 2>/dev/null || echo unreadable >&2; } | sha256sum; }
i=${firstBlock}; while [ $i -lt ${firstBlock + count} ]; do one $i 1; i=$((i+1)); done; one ${firstBlock} ${count}`;
  const options = { timeoutMs: REGION_TIMEOUT_MS, maxBytes: (count + 1) * 100, signal };
  const { status, stdout, stderr } = await machine.run(command, options);
  if (status !== 0 || stderr.includes('unreadable')) return null;
  const made = isPython ? stdout : fromHex(stdout.toString('latin1'), facts, firstBlock, count);
  if (made.length !== (count + 1) * DIGEST_BYTES)
    throw new PhdError(
      'TARGET_LIED',
      `${machine.name} gave ${made.length} bytes of digests for ${count} blocks`,
    );
  const end = count * DIGEST_BYTES;
  return { digests: made.subarray(0, end), regionDigest: made.subarray(end) };
}

/** Lines of sha256sum; what is the digest of zeros becomes the mark. */
function fromHex(text: string, facts: DeviceFacts, firstBlock: number, count: number): Buffer {
  const digests = [...text.matchAll(/^([0-9a-f]{64}) /gm)].map(([, hex]) =>
    Buffer.from(hex as string, 'hex'),
  );
  const sizeOf = (block: number): number => Math.min(BLOCK_BYTES, facts.sizeBytes - block * BLOCK_BYTES);
  const zeros = new Map<number, Buffer>();
  const marked = digests.slice(0, count).map((digest, at) => {
    const bytes = sizeOf(firstBlock + at);
    const zero = zeros.get(bytes) ?? createHash('sha256').update(Buffer.alloc(bytes)).digest();
    zeros.set(bytes, zero);
    return digest.equals(zero) ? ZERO_MARK : digest;
  });
  const region = marked.every((digest) => digest.equals(ZERO_MARK)) ? ZERO_MARK : digests[count];
  return Buffer.concat([
    ...marked,
    ...(region === undefined || digests.length !== count + 1 ? [] : [region]),
  ]);
}

/** The same of bytes that are here. */
export function digestsOfBytes(content: Buffer): RegionDigests {
  const zero = Buffer.alloc(BLOCK_BYTES);
  const blocks: Buffer[] = [];
  for (let at = 0; at < content.length; at += BLOCK_BYTES) {
    const block = content.subarray(at, at + BLOCK_BYTES);
    const isZero = block.equals(zero.subarray(0, block.length));
    blocks.push(isZero ? ZERO_MARK : createHash('sha256').update(block).digest());
  }
  const isZero = blocks.every((digest) => digest.equals(ZERO_MARK));
  const regionDigest = isZero ? ZERO_MARK : createHash('sha256').update(content).digest();
  return { digests: Buffer.concat(blocks), regionDigest };
}

/**
 * SHA-256 of the whole device, read there once more and past the cache where dd can, for the cache holds what was read
 * before. Lines in between tell how far it is, which also shows that the machine is alive. Null where it cannot.
 */
export async function sourceSha256(
  machine: Machine,
  { realPath, sizeBytes, hasher }: DeviceFacts,
  { onBytes, signal }: AccountHooks,
): Promise<string | null> {
  if (hasher === null) return null;
  const device = shellQuoted(realPath);
  const python =
    'import hashlib, sys\nh = hashlib.sha256()\nfor part in iter(lambda: sys.stdin.buffer.read(1048576), b""): h.update(part)\nprint(h.hexdigest() + "  -")';
  const hash = `if command -v sha256sum >/dev/null 2>&1; then sha256sum; else python3 -c ${shellQuoted(python)}; fi`;
  // The device is open once for all: its position tells how much dd has read. Without anyone to tell it to, all of it
  // ends: a machine whose line was closed must not go on reading for hours.
  const command = `exec 3<${device}
( trap '' PIPE; while sleep 2 >/dev/null 2>&1 </dev/null; do
  at=; while read k v; do [ "$k" != pos: ] || at=$v; done </proc/self/fdinfo/3; echo "@at $at" 2>/dev/null || kill 0
done ) & beat=$!
past=; dd if=${device} of=/dev/null bs=65536 count=1 iflag=direct >/dev/null 2>&1 && past=iflag=direct
{ dd bs=1048576 $past <&3 2>/dev/null || echo unreadable >&2; } | { ${hash}; }
status=$?; kill $beat 2>/dev/null; exit $status`;
  let counted = 0;
  const count = (bytes: number): void => {
    if (bytes <= counted || bytes > sizeBytes) return;
    onBytes(bytes - counted);
    counted = bytes;
  };
  const onOutput = (part: Buffer): void => {
    const [, at] = /@at (\d{1,15})\n/.exec(part.toString('latin1')) ?? [];
    if (at !== undefined) count(Number(at));
  };
  const { status, stdout, stderr } = await machine.run(command, { onOutput, signal });
  const [, digest] = /^([0-9a-f]{64}) /m.exec(stdout.toString('latin1')) ?? [];
  if (status !== 0 || stderr.includes('unreadable') || digest === undefined) return null;
  count(sizeBytes);
  return digest;
}
