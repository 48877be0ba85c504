/**
 * The record of an in-place restore: which blocks lie beside the disk, proved, and are to be put into it. It is a shell
 * program that does so without phd; what it works on are lines below its `exit`, never shell source (FORMAT.md 11).
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import fs, { type FileHandle } from 'node:fs/promises';
import { BLOCK_BYTES, type Geometry, geometryOf } from '../archive/geometry.ts';
import { createNewFile, renameDurably } from '../datastore/goal-disk.ts';
import { MARK_TEXT } from '../datastore/unfinished-disk.ts';
import { fromErrno, PhdError } from '../errors.ts';
import { escapeText } from './display-text.ts';

export interface RecordedBlock {
  block: number;
  /** SHA-256 of its plain bytes, hexadecimal; of a block of zeros as well. */
  digest: string;
}

export interface RedoRecord {
  geometry: Geometry;
  /** Of what the blocks are, for people. */
  archive: string;
  /** Ascending; each run over it reads the file again. */
  blocks: () => AsyncGenerator<RecordedBlock>;
}

const PROGRAM = `#!/bin/sh
# An in-place restore of this disk was broken off while its new blocks were put into it. Until they all are, the disk is
# a mix of two states. phd finishes that before it does anything else with the disk. Without phd, with the VM off:
#   sh THIS_FILE
# The blocks lie in DISK.inplace.part where they belong; they are all checked before the first is written.
set -eu
cd "$(dirname "$0")"
record=./\${0##*/}
flat=\${record%.unfinished}
beside=$flat.inplace.part
size=$(sed -n 's/^block //p' "$record")
tail -n 1 "$record" | grep -q '^end ' || { echo "$record was cut: nothing was changed" >&2; exit 3; }
[ -f "$flat" ] && [ -f "$beside" ] || { echo "$flat or $beside is missing: nothing was changed" >&2; exit 1; }
dd if="$flat" bs=512 count=8 2>/dev/null | LC_ALL=C grep -q '^phd: an in-place restore' || {
  echo "$flat is whole, $record is of no use: remove it; nothing was changed" >&2
  exit 1
}
sed -n 's/^change //p' "$record" | while read -r block digest; do
  have=$(dd if="$beside" bs="$size" skip="$block" count=1 2>/dev/null | sha256sum)
  [ "\${have%% *}" = "$digest" ] || { echo "block $block of $beside is damaged: nothing was changed" >&2; exit 3; }
done
put() {
  dd if="$beside" of="$flat" bs="$size" skip="$1" seek="$1" count=1 conv=notrunc 2>/dev/null ||
    { echo "block $1 cannot be written to $flat: run this again" >&2; exit 1; }
}
printf '%-511s\\n' '${MARK_TEXT}' | dd of="$flat" bs=512 count=1 conv=notrunc 2>/dev/null
sync
sed -n 's/^change //p' "$record" | while read -r block digest; do
  [ "$block" = 0 ] || put "$block"
done
sync
put 0
sync
rm "$record" "$beside"
echo "$flat is whole: all blocks are in it"
exit 0
`;

const VERSION_LINE = 'phd-redo 1';
/** No line is longer, but for that of the archive, which is cut. */
const MAX_LINE = 2048;
const READ_BYTES = 262_144;

/** Writes the record durably; when it bears its name, all its blocks must be beside the disk and synced. Throws EXISTS, NO_SPACE, IO. */
export async function writeRecord(
  recordPath: string,
  about: { geometry: Geometry; archive: string },
  blocks: AsyncIterable<RecordedBlock>,
): Promise<void> {
  const part = `${recordPath}.part`;
  try {
    await fs.rm(part, { force: true });
    const handle = await createNewFile(part);
    try {
      await writeLines(handle, about, blocks);
      await handle.sync();
      // What was read back is parsed to its end, which has the digest of all of it.
      await openRecord(handle, part);
    } finally {
      await handle.close();
    }
    await renameDurably(part, recordPath, { replace: false });
  } catch (error) {
    await fs.rm(part, { force: true });
    throw fromErrno(error, `cannot write ${recordPath}`);
  }
}

async function writeLines(
  handle: FileHandle,
  { geometry, archive }: { geometry: Geometry; archive: string },
  blocks: AsyncIterable<RecordedBlock>,
): Promise<void> {
  const hash = createHash('sha256');
  let text = '';
  const flush = async (): Promise<void> => {
    hash.update(text);
    await handle.appendFile(text);
    text = '';
  };
  text += `${PROGRAM}${VERSION_LINE}\ndisk ${geometry.diskBytes}\nblock ${geometry.blockBytes}\n`;
  text += `archive ${escapeText(archive).slice(0, MAX_LINE / 2)}\n`;
  for await (const { block, digest } of blocks) {
    text += `change ${block} ${digest}\n`;
    if (text.length > READ_BYTES) await flush();
  }
  await flush();
  await handle.appendFile(`end ${hash.digest('hex')}\n`);
}

/**
 * Reads a record to its end, which proves it. The handle stays the caller's.
 * @throws PhdError ARCHIVE_DAMAGED: cut, changed, or of a version that is not known; IO
 */
export async function openRecord(handle: FileHandle, path: string): Promise<RedoRecord> {
  const damaged = (what: string): PhdError =>
    new PhdError('ARCHIVE_DAMAGED', `${path} cannot be used: ${what}`);
  const hash = createHash('sha256');
  const facts = new Map<string, string>();
  let isData = false;
  let end: string | undefined;
  for await (const line of linesOf(handle, path)) {
    if (end !== undefined) throw damaged('something follows its end');
    const [, digest] = isData ? (/^end ([0-9a-f]{64})$/.exec(line) ?? []) : [];
    if (digest !== undefined) {
      end = digest;
      continue;
    }
    hash.update(`${line}\n`, 'latin1');
    if (!isData) isData = line === VERSION_LINE;
    else if (!line.startsWith('change ')) {
      const [, name = '', value = ''] = /^(disk|block|archive) (.*)$/.exec(line) ?? [];
      if (name === '' || facts.has(name)) throw damaged('a line is not known');
      facts.set(name, value);
    }
  }
  if (end === undefined) throw damaged('it was cut');
  if (hash.digest('hex') !== end) throw damaged('its digest is another');
  const geometry = geometryOf(
    Number(facts.get('disk') ?? Number.NaN),
    Number(facts.get('block') ?? BLOCK_BYTES),
  );
  const archive = escapeText(Buffer.from(facts.get('archive') ?? '', 'latin1').toString());
  return { geometry, archive, blocks: () => blocksOf(handle, path, geometry) };
}

async function* blocksOf(
  handle: FileHandle,
  path: string,
  { blockCount }: Geometry,
): AsyncGenerator<RecordedBlock> {
  let last = -1;
  for await (const line of linesOf(handle, path)) {
    if (!line.startsWith('change ')) continue;
    const [, number = '', digest = ''] = /^change (\d{1,15}) ([0-9a-f]{64})$/.exec(line) ?? [];
    const block = number === '' ? -1 : Number(number);
    if (block <= last || block >= blockCount)
      throw new PhdError('ARCHIVE_DAMAGED', `${path} cannot be used: a block is out of order or no block`);
    last = block;
    yield { block, digest };
  }
}

async function* linesOf(handle: FileHandle, path: string): AsyncGenerator<string> {
  const chunk = Buffer.alloc(READ_BYTES);
  let rest = '';
  for (let at = 0; ; ) {
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, at);
    if (bytesRead === 0) break;
    at += bytesRead;
    const lines = (rest + chunk.toString('latin1', 0, bytesRead)).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > MAX_LINE)
      throw new PhdError('ARCHIVE_DAMAGED', `${path} cannot be used: a line is too long`);
    yield* lines;
  }
  if (rest !== '') throw new PhdError('ARCHIVE_DAMAGED', `${path} cannot be used: it was cut`);
}

/** Regular files only, never through a link. */
export const OPEN_BESIDE_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
