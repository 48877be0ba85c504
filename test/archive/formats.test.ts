/** Bytes and text of FORMAT.md: round trips, limits of its section 10, and hostile bytes, which only ever give a PhdError. */
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { gunzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseTrailer, printTrailer } from '../../src/archive/delta-layout.ts';
import {
  parseMapsLine,
  printPayloadBlock,
  printPlanRun,
  printRegionDigests,
} from '../../src/archive/delta-maps.ts';
import { geometryOf, MAX_DISK_BYTES, ZERO_MARK } from '../../src/archive/geometry.ts';
import {
  emptyMember,
  maxBlockMemberBytes,
  readBlockMember,
  readEmptyMember,
  readMemberHeader,
  writeBlockMember,
  zeroBlockMember,
} from '../../src/archive/gzip-member.ts';
import { parseDeltaManifest, parseFullHead } from '../../src/archive/manifest.ts';
import { decodeEndRecord, decodeMap, END_RECORD_BYTES, MapEncoder } from '../../src/archive/map.ts';
import {
  decodeField,
  encodeField,
  parseRecord,
  printRecord,
  RecordFields,
} from '../../src/archive/text-record.ts';
import {
  readSkippableFrame,
  readZstdFrame,
  skippableFrame,
  zstdFrame,
} from '../../src/archive/zstd-frame.ts';
import { PhdError } from '../../src/errors.ts';
import { MemoryDisk, writeDelta, writeFull } from '../support/reference-writer.ts';

const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();
const anyBytes = fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes));

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(PhdError);
    return (error as PhdError).code;
  }
  return 'accepted';
}

/** Runs it; anything thrown must be a PhdError. */
const onlyPhdErrors = (work: () => unknown): void => void refusal(work);

/** A FULL as a second writer makes it, cut into its members. */
async function sample() {
  const disk = new MemoryDisk(300 * 4096 + 512, 4096);
  disk.set(0, Buffer.from('boot')).set(7, Buffer.alloc(4096, 7)).set(299, Buffer.from('end'));
  const full = await writeFull(disk);
  return { disk, full, end: decodeEndRecord(full.mapStream.subarray(0, END_RECORD_BYTES)) };
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

describe('text records', () => {
  it.each([
    ['', '-'],
    ['-', '%2D'],
    ['a b', 'a%20b'],
    ['100%', '100%25'],
    ['ü\n', '%C3%BC%0A'],
    ["$(x)'", "$(x)'"],
  ])('the field %j is written %s', (value, field) => {
    expect(encodeField(value)).toBe(field);
    expect(decodeField(field)).toBe(value);
  });

  it('any lines come back as they were', () => {
    const field = fc.string({ unit: 'grapheme' });
    const line = fc.record({
      key: fc.stringMatching(/^[A-Za-z0-9]{1,20}$/),
      fields: fc.array(field, { minLength: 1 }),
    });
    fc.assert(
      fc.property(fc.array(line, { minLength: 1, maxLength: 20 }), (lines) => {
        expect(parseRecord(printRecord(lines))).toEqual(lines);
      }),
    );
  });

  it.each(['a b', 'a %4\n', 'a %4x\n', 'a %c3\n', 'a %FF\n', ' a\n', '\n', 'a b\r\n', 'a b\n\nc d\n'])(
    '%j is refused',
    (text) => expect(refusal(() => parseRecord(Buffer.from(text, 'latin1')))).toBe('ARCHIVE_DAMAGED'),
  );

  it('a key that may stand once must not stand twice; numbers are plain decimals', () => {
    const fields = (text: string) => new RecordFields(parseRecord(Buffer.from(text)));
    expect(refusal(() => fields('a 1\na 2\n').text('a'))).toBe('ARCHIVE_DAMAGED');
    for (const number of ['01', '-1', '1.0', '1e3', '0x1', '9007199254740993', '+1', '-'])
      expect(
        refusal(() => fields(`a ${number}\n`).decimal('a')),
        number,
      ).toBe('ARCHIVE_DAMAGED');
    expect(fields('a 9007199254740991\n').decimal('a')).toBe(Number.MAX_SAFE_INTEGER);
  });
});

describe('geometry', () => {
  it.each([
    [512, 4095],
    [512, 2048],
    [512, 2_097_152],
    [512, 300_000],
    [-1, 4096],
    [MAX_DISK_BYTES + 1, 4096],
    [1.5, 4096],
  ])('a disk of %d bytes in blocks of %d is refused', (diskBytes, blockBytes) => {
    expect(refusal(() => geometryOf(diskBytes, blockBytes))).toBe('ARCHIVE_DAMAGED');
  });
});

describe('gzip members', () => {
  it('begin with the bytes of FORMAT.md section 3, and any gzip reader passes over them', () => {
    const member = emptyMember('H', Buffer.from('abc'));
    expect(member.toString('hex')).toBe('1f8b08040000000000ff07005048030061626303000000000000000000');
    expect(gunzipSync(member)).toHaveLength(0);
    expect(readEmptyMember(member, 'H').toString()).toBe('abc');
  });

  it('a block comes back, and no single flipped bit passes', () => {
    const content = fc.uint8Array({ minLength: 1, maxLength: 300 });
    fc.assert(
      fc.property(content, fc.nat(), (bytes, spot) => {
        const block = Buffer.from(bytes);
        const target = Buffer.alloc(maxBlockMemberBytes(block.length));
        const member = target.subarray(0, writeBlockMember(target, 0, block, sha256(block), 1));
        expect(gunzipSync(member).equals(block)).toBe(true);
        expect(readBlockMember(member, block.length, sha256(block)).equals(block)).toBe(true);
        const flipped = Buffer.from(member);
        const bit = spot % (8 * member.length);
        flipped[bit >> 3]! ^= 1 << (bit & 7);
        let read: Buffer | undefined;
        onlyPhdErrors(() => {
          read = readBlockMember(flipped, block.length, sha256(block));
        });
        if (read !== undefined) expect(read.equals(block)).toBe(true);
      }),
    );
  });

  it('a member that unpacks to more than a block is refused', () => {
    const member = zeroBlockMember(65_536);
    expect(refusal(() => readBlockMember(member, 4096, ZERO_MARK))).toBe('ARCHIVE_DAMAGED');
  });

  it('hostile bytes', () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        onlyPhdErrors(() => readMemberHeader(bytes));
        onlyPhdErrors(() => readEmptyMember(bytes, 'E'));
        onlyPhdErrors(() => readBlockMember(bytes, 4096, ZERO_MARK));
        onlyPhdErrors(() => readZstdFrame(bytes, 4096));
        onlyPhdErrors(() => readSkippableFrame(bytes, 'H'));
        onlyPhdErrors(() => decodeEndRecord(bytes));
        onlyPhdErrors(() => parseRecord(bytes));
        onlyPhdErrors(() => parseFullHead(bytes));
        onlyPhdErrors(() => parseDeltaManifest(bytes, 1 << 20));
        onlyPhdErrors(() => parseTrailer(bytes, bytes.length));
        onlyPhdErrors(() => parseMapsLine(bytes.toString('latin1')));
      }),
      { numRuns: 500 },
    );
  });
});

describe('zstd frames', () => {
  it('a block comes back; another size, cut or longer frame is refused', () => {
    const block = Buffer.from('some text '.repeat(50));
    const frame = zstdFrame(block, 3);
    expect(readZstdFrame(frame, block.length).equals(block)).toBe(true);
    expect(refusal(() => readZstdFrame(frame, block.length + 1))).toBe('ARCHIVE_DAMAGED');
    expect(refusal(() => readZstdFrame(frame.subarray(0, -1), block.length))).toBe('ARCHIVE_DAMAGED');
    expect(refusal(() => readZstdFrame(Buffer.concat([frame, frame]), block.length))).toBe('ARCHIVE_DAMAGED');
  });

  it('a skippable frame carries its tag', () => {
    const frame = skippableFrame('E', Buffer.from('x'));
    expect(frame.toString('hex')).toBe('572a4d18050000005048444578');
    expect(readSkippableFrame(frame, 'E')?.data.toString()).toBe('x');
    expect(refusal(() => readSkippableFrame(frame, 'H'))).toBe('ARCHIVE_DAMAGED');
  });
});

describe('index map', () => {
  it('what a second writer made is read, and written again to the same bytes', async () => {
    const { disk, full, end } = await sample();
    expect(end.mapDigest.equals(disk.mapDigest())).toBe(true);
    const encoder = new MapEncoder(end.geometry, end.zeroMemberBytes);
    const pages: Buffer[] = [];
    for await (const region of decodeMap(end, once(full.mapStream.subarray(END_RECORD_BYTES)))) {
      expect(region.digest.equals(disk.regionDigest(region.index))).toBe(true);
      pages.push(...encoder.addRegion(region));
    }
    expect(Buffer.concat(pages).equals(full.mapStream.subarray(END_RECORD_BYTES))).toBe(true);
    expect(encoder.finish(end)).toEqual(end);
  });

  it('any flipped bit, cut or added byte is refused', async () => {
    const { full, end } = await sample();
    const pages = full.mapStream.subarray(END_RECORD_BYTES);
    const read = async (bytes: Buffer): Promise<void> => {
      for await (const region of decodeMap(end, once(bytes))) expect(region.count).toBeGreaterThan(0);
    };
    await read(pages);
    for (let bit = 0; bit < 8 * pages.length; bit += 37) {
      const flipped = Buffer.from(pages);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      await expect(read(flipped), `bit ${bit}`).rejects.toBeInstanceOf(PhdError);
    }
    await expect(read(pages.subarray(0, -1))).rejects.toBeInstanceOf(PhdError);
    await expect(read(Buffer.concat([pages, Buffer.alloc(64)]))).rejects.toBeInstanceOf(PhdError);
  });

  it('an end record that contradicts itself is refused although its digest is right', async () => {
    const { full } = await sample();
    const edits: [string, (record: Buffer) => void, string][] = [
      ['a later version', (record) => record.writeUInt16LE(2, 0), 'FORMAT_UNSUPPORTED'],
      ['flags', (record) => record.writeUInt16LE(1, 2), 'ARCHIVE_DAMAGED'],
      ['block size', (record) => record.writeUInt32LE(5000, 4), 'ARCHIVE_DAMAGED'],
      ['disk size', (record) => record.writeBigUInt64LE(2n ** 60n, 8), 'ARCHIVE_DAMAGED'],
      ['block count', (record) => record.writeBigUInt64LE(5n, 16), 'ARCHIVE_DAMAGED'],
      ['data blocks', (record) => record.writeBigUInt64LE(900n, 24), 'ARCHIVE_DAMAGED'],
      ['page count', (record) => record.writeBigUInt64LE(9n, 48), 'ARCHIVE_DAMAGED'],
      ['reserved', (record) => record.writeUInt32LE(1, 60), 'ARCHIVE_DAMAGED'],
    ];
    for (const [what, edit, code] of edits) {
      const record = Buffer.from(full.mapStream.subarray(0, END_RECORD_BYTES));
      edit(record);
      sha256(record.subarray(0, 160)).copy(record, 160);
      expect(
        refusal(() => decodeEndRecord(record)),
        what,
      ).toBe(code);
    }
  });
});

describe('DELTA', () => {
  it('the trailer and manifest of a second writer are read, and any flipped bit of the trailer is refused', async () => {
    const { disk, full } = await sample();
    const { bytes, manifestOffset } = await writeDelta(full, disk.copy().set(3, Buffer.from('new')));
    const tail = bytes.subarray(-512);
    const trailer = parseTrailer(tail, bytes.length);
    expect(trailer.manifestOffset).toBe(manifestOffset);
    expect(printTrailer(trailer).equals(tail)).toBe(true);
    const manifest = parseDeltaManifest(
      bytes.subarray(manifestOffset, manifestOffset + trailer.manifestBytes),
      manifestOffset,
    );
    expect(manifest.changedBlocks).toBe(1);
    expect(refusal(() => parseTrailer(tail, bytes.length + 1))).toBe('ARCHIVE_DAMAGED');
    for (let bit = 0; bit < 8 * 512; bit += 1) {
      const flipped = Buffer.from(tail);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      let same = false;
      onlyPhdErrors(() => {
        same = isDeepStrictEqual(parseTrailer(flipped, bytes.length), trailer);
      });
      expect(same, `bit ${bit}`).toBe(false);
    }
  });

  it.each([
    ['part maps 4096 10 ', 'part maps 4097 10 '],
    ['part maps ', 'part other '],
    ['kind delta', 'kind other'],
    ['fullFile ', 'fullFile ../'],
    ['diskBytes ', 'diskBytes 9'],
    ['phd-delta 1', 'phd-delta 2'],
  ])('a manifest with %j as %j is refused or differs', async (from, to) => {
    const { disk, full } = await sample();
    const { bytes, manifestOffset } = await writeDelta(full, disk.copy().set(3, Buffer.from('new')));
    const { manifestBytes } = parseTrailer(bytes.subarray(-512), bytes.length);
    const text = bytes.toString('latin1', manifestOffset, manifestOffset + manifestBytes);
    const edited = text.replace(from.startsWith('part maps 4096') ? /part maps \d+ / : from, to);
    expect(edited).not.toBe(text);
    let parsed: unknown;
    onlyPhdErrors(() => {
      parsed = parseDeltaManifest(Buffer.from(edited, 'latin1'), manifestOffset);
    });
    if (parsed !== undefined)
      expect(parsed).not.toEqual(parseDeltaManifest(Buffer.from(text, 'latin1'), manifestOffset));
  });

  it('lines of part maps come back as they were', () => {
    const number = fc.nat();
    const digest = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));
    fc.assert(
      fc.property(
        fc.constantFrom('u', 'c', 'z'),
        number,
        number,
        number,
        digest,
        digest,
        (kind, a, b, c, one, two) => {
          const places = kind === 'z' ? { offsetBytes: 0, sizeBytes: 0 } : { offsetBytes: c, sizeBytes: a };
          const run = { kind, start: a, count: b, ...places } as const;
          expect(parseMapsLine(printPlanRun(run).trimEnd())).toEqual({ key: 'p', run });
          const entry = { block: a, memberBytes: b, digest: one };
          expect(parseMapsLine(printPayloadBlock(entry).trimEnd())).toEqual({ key: 'b', entry });
          const region = { region: c, disk: one, full: two };
          expect(parseMapsLine(printRegionDigests(region).trimEnd())).toEqual({ key: 'r', entry: region });
        },
      ),
    );
  });

  it.each([
    '',
    'p',
    'p x 0 1',
    'p z 0',
    'p z 0 1 2 3',
    'p u 0 1 2',
    'b 1 2',
    'b 1 2 xyz',
    'r 0 0',
    'end',
    'end -1',
    'phd-maps 2',
    'digest disk 12',
    'p z 1e3 1',
    'b  1 2 0',
  ])('the line %j of part maps is refused', (line) =>
    expect(refusal(() => parseMapsLine(line))).toBe('ARCHIVE_DAMAGED'),
  );
});
