/**
 * What damage does to archives: every outcome is an error or the right bytes. Any flip that matters to a restore is
 * found by verify as well. `PHD_CAMPAIGN=15` runs fifteen times as much, every bit of all headers included.
 */
import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  type Archive,
  CAMPAIGN,
  Farm,
  type FarmRequest,
  type Outcome,
  Reader,
  randomOf,
  seedOf,
} from './farm.ts';

/** Statuses that fit damage: 3 (data), 7 (a passphrase packet), 1 (another version). */
const FITTING = new Set([
  'ARCHIVE_DAMAGED',
  'DIGEST_MISMATCH',
  'WRONG_FULL',
  'PASSPHRASE_WRONG',
  'FORMAT_UNSUPPORTED',
]);
/** Every nth bit of a header. */
const HEADER_STRIDE = Math.max(1, Math.round(200 / CAMPAIGN ** 2));
const seed = seedOf('flips');
vi.setConfig({ testTimeout: 120_000 * Math.max(1, CAMPAIGN ** 2) });

/** Outcomes of a campaign, and what must not be. */
class Tally {
  readonly counts = new Map<string, number>();
  readonly wrong: string[] = [];

  add(what: string, outcome: Outcome): void {
    const key = outcome.kind === 'error' ? outcome.code : outcome.kind;
    this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
    if (outcome.kind === 'wrong') this.wrong.push(`${what}: ${outcome.why}`);
    if (outcome.kind === 'error' && !FITTING.has(outcome.code)) {
      this.wrong.push(`${what}: ${outcome.code}: ${outcome.message}`);
    }
  }

  report(name: string): void {
    const counts = [...this.counts].map(([key, count]) => `${key} ${count}`).join(', ');
    process.stdout.write(`${name}: ${counts}\n`);
    expect(this.wrong).toEqual([]);
  }
}

function writeAt(archive: Archive, bytes: Uint8Array, offset: number): void {
  const fd = openSync(archive.path, 'r+');
  writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
}

async function withFlip<T>(archive: Archive, bit: number, work: () => Promise<T>): Promise<T> {
  const at = bit >> 3;
  const byte = archive.bytes[at]!;
  writeAt(archive, Uint8Array.of(byte ^ (1 << (bit & 7))), at);
  try {
    return await work();
  } finally {
    writeAt(archive, Uint8Array.of(byte), at);
  }
}

/** Byte ranges of the parts of an archive that say what the rest is. */
function headersOf(archive: Archive): [number, number][] {
  const { bytes, file } = archive;
  if (file.includes('.delta')) {
    const fields = bytes
      .toString('latin1', bytes.length - 512)
      .trim()
      .split(' ');
    const [offset, size] = [Number(fields[2]), Number(fields[3])];
    return [
      [offset, offset + size],
      [bytes.length - 512, bytes.length],
    ];
  }
  if (file.includes('.gpg-'))
    return [
      [0, 80],
      [bytes.length - 700, bytes.length],
    ];
  const headBytes = file.includes('.gz-') ? bytes.readUInt16LE(10) + 22 : bytes.readUInt32LE(4) + 8;
  return [
    [0, headBytes + 52],
    [bytes.length - 400, bytes.length],
  ];
}

function bitsOf(ranges: [number, number][], stride: number, first: number): number[] {
  const bits: number[] = [];
  for (const [from, to] of ranges) {
    for (let bit = 8 * from + (first % stride); bit < 8 * to; bit += stride) bits.push(bit);
  }
  return bits;
}

const KINDS: [string, FarmRequest][] = [
  ['gzip', { codec: 'gzip' }],
  ['zstd', { codec: 'zstd' }],
  ['encrypted gzip', { codec: 'gzip', encrypt: true }],
  ['encrypted zstd', { codec: 'zstd', encrypt: true }],
];

describe.each(KINDS)('damage to %s archives never restores wrong bytes', (kind, request) => {
  // Deriving the key of a message takes longer than all the rest of a trial.
  const share = request.encrypt ? 0.25 : 1;
  const headerStride = CAMPAIGN > 10 ? HEADER_STRIDE : Math.round(HEADER_STRIDE / share);
  const randomFlips = Math.ceil(20 * CAMPAIGN * share);
  const cuts = Math.ceil(6 * CAMPAIGN * share);
  let farm: Farm;
  let reader: Reader;
  let random: () => number;
  beforeAll(async () => {
    farm = await Farm.make({ ...request, seed: kind.replace(' ', '-') });
    reader = await Reader.open(farm);
    random = randomOf(seed);
  });
  afterAll(async () => {
    await reader.close();
    farm.remove();
  });

  const archives = (): [string, Archive, Archive][] => [
    ['FULL', farm.full, farm.full],
    ['FULL under its DELTA', farm.full, farm.delta],
    ['DELTA', farm.delta, farm.delta],
  ];

  it('undamaged archives restore and verify', async () => {
    for (const archive of [farm.full, farm.empty, farm.delta]) {
      expect(await reader.restore(archive)).toEqual({ kind: 'equal' });
      expect(await reader.verify(archive)).toEqual({ kind: 'equal' });
    }
  });

  it('flips in headers, manifests and ends', async () => {
    for (const [name, damaged, restored] of archives()) {
      const tally = new Tally();
      const stride = name === 'FULL under its DELTA' ? 8 * headerStride : headerStride;
      for (const bit of bitsOf(headersOf(damaged), stride, seed)) {
        const outcome = await withFlip(damaged, bit, () => reader.restore(restored));
        tally.add(`${name}, bit ${bit}`, outcome);
      }
      tally.report(`${kind} ${name}, header bits`);
    }
  });

  it('random flips, of which verify finds each that a restore stumbles over', async () => {
    for (const [name, damaged, restored] of archives()) {
      const tally = new Tally();
      const from = name === 'DELTA' ? deltaHeadBytes(damaged) : 0;
      for (let round = 0; round < randomFlips; round += 1) {
        const bit = 8 * from + Math.floor(random() * 8 * (damaged.bytes.length - from));
        await withFlip(damaged, bit, async () => {
          const outcome = await reader.restore(restored);
          tally.add(`${name}, bit ${bit}`, outcome);
          if (round % 3 > 0) return;
          const verified = await reader.verify(damaged);
          tally.add(`${name}, verify, bit ${bit}`, verified);
          if (outcome.kind === 'error' && verified.kind === 'equal') {
            tally.wrong.push(`${name}, bit ${bit}: verify does not see ${outcome.message}`);
          }
        });
      }
      tally.report(`${kind} ${name}, random flips`);
    }
  });

  it('a flip in any byte of the data of a FULL is found by verify', async () => {
    const tally = new Tally();
    for (let round = 0; round < randomFlips / 2; round += 1) {
      const bit = Math.floor(random() * 8 * farm.full.bytes.length);
      const verified = await withFlip(farm.full, bit, () => reader.verify(farm.full));
      tally.add(`bit ${bit}`, verified);
      if (verified.kind === 'equal' && !isUnread(farm.full, bit)) tally.wrong.push(`bit ${bit} is not seen`);
    }
    tally.report(`${kind} FULL, verify`);
  });

  it('cuts at borders and anywhere, and bytes added', async () => {
    for (const [name, damaged, restored] of archives()) {
      const tally = new Tally();
      const { bytes } = damaged;
      const borders = headersOf(damaged)
        .flat()
        .flatMap((at) => [at - 1, at, at + 1]);
      const sizes = [0, 1, 511, 512, 4096, bytes.length - 1, bytes.length - 218, ...borders].filter(
        (_, at) => !request.encrypt || at % 3 === 0,
      );
      for (let round = 0; round < cuts; round += 1) sizes.push(Math.floor(random() * bytes.length));
      for (const size of sizes.filter((one) => one >= 0 && one < bytes.length)) {
        truncateSync(damaged.path, size);
        const outcome = await reader.restore(restored);
        tally.add(`${name}, cut to ${size}`, outcome);
        if (outcome.kind === 'equal') tally.wrong.push(`${name}, cut to ${size}: not seen`);
        writeFileSync(damaged.path, bytes);
      }
      for (const added of [Buffer.from('\n'), Buffer.alloc(512), Buffer.alloc(4096), bytes]) {
        writeFileSync(damaged.path, Buffer.concat([bytes, added]));
        const outcome = await reader.restore(restored);
        tally.add(`${name}, ${added.length} bytes added`, outcome);
        if (outcome.kind === 'equal') tally.wrong.push(`${name}, ${added.length} bytes added: not seen`);
      }
      writeFileSync(damaged.path, bytes);
      tally.report(`${kind} ${name}, cuts`);
    }
  });

  it('stretches that change places, repeat or are zeroed', async () => {
    for (const [name, damaged, restored] of archives()) {
      const tally = new Tally();
      const from = name === 'DELTA' ? deltaHeadBytes(damaged) : 0;
      for (let round = 0; round < cuts; round += 1) {
        const length = 1 + Math.floor(random() * 20_000);
        const place = (): number =>
          from + Math.floor(random() * Math.max(1, damaged.bytes.length - from - length));
        const [one, other] = [place(), place()];
        const copy = Buffer.from(damaged.bytes);
        if (round % 3 === 0) copy.fill(0, one, one + length);
        else damaged.bytes.copy(copy, one, other, other + length);
        if (round % 3 === 2) damaged.bytes.copy(copy, other, one, one + length);
        writeFileSync(damaged.path, copy);
        tally.add(`${name}, ${length} bytes of ${other} at ${one}`, await reader.restore(restored));
      }
      writeFileSync(damaged.path, damaged.bytes);
      tally.report(`${kind} ${name}, stretches`);
    }
  });
});

/** The last byte of deflated data may hold bits that no reader looks at: any gunzip gives the same disk. */
function isUnread(full: Archive, bit: number): boolean {
  if (!/\.gz-/.test(full.file)) return false;
  const copy = Buffer.from(full.bytes);
  copy[bit >> 3] = (copy[bit >> 3] as number) ^ (1 << (bit & 7));
  return gunzipSync(copy).equals(full.disk);
}

function deltaHeadBytes(archive: Archive): number {
  return Number(archive.bytes.toString('latin1', archive.bytes.length - 512).split(' ')[5]);
}

describe('a DELTA whose small files are damaged', () => {
  it('restores the disk all the same, with a stub and a warning; verify calls it damaged', async () => {
    const farm = await Farm.make({ seed: 'files' });
    const reader = await Reader.open(farm);
    try {
      const text = farm.delta.bytes.toString('latin1');
      const [, offset, size] = /^part files (\d+) (\d+) /m.exec(text)!;
      const bit = 8 * (Number(offset) + (Number(size) >> 1));
      await withFlip(farm.delta, bit, async () => {
        expect(await reader.restore(farm.delta)).toEqual({ kind: 'equal' });
        expect(reader.warnings.join()).toMatch(
          /descriptor in the archive cannot be used .*a stub is written/,
        );
        expect((await reader.verify(farm.delta)).kind).toBe('error');
      });
    } finally {
      await reader.close();
      farm.remove();
    }
  });
});

describe('archives that stand for others', () => {
  let farm: Farm;
  let other: Farm;
  let reader: Reader;
  beforeAll(async () => {
    farm = await Farm.make({ seed: 'one' });
    other = await Farm.make({ seed: 'two' });
    reader = await Reader.open(farm);
  });
  afterAll(async () => {
    await reader.close();
    farm.remove();
    other.remove();
  });

  async function refused(archive: Archive): Promise<string> {
    const outcome = await reader.restore(archive);
    expect(outcome.kind).toBe('error');
    return outcome.kind === 'error' ? outcome.code : '';
  }

  it('a FULL of another VM under the name of this one is refused', async () => {
    writeFileSync(farm.full.path, other.full.bytes);
    expect(await refused(farm.delta)).toBe('WRONG_FULL');
    expect(await refused(farm.full)).toBe('WRONG_FULL');
    farm.put();
  });

  it('a DELTA of another VM under the name of this one is refused', async () => {
    writeFileSync(farm.delta.path, other.delta.bytes);
    const code = await refused(farm.delta);
    expect(['WRONG_FULL', 'ARCHIVE_DAMAGED', 'NOT_FOUND']).toContain(code);
    farm.put();
  });

  it('a turned bit in the version of a DELTA is told in one plain line', async () => {
    const version = 8 * (farm.delta.bytes.length - 512 + 'phd-delta-end '.length);
    const codes: string[] = [];
    for (const bit of [1, 5, 8 + 5])
      codes.push(await withFlip(farm.delta, version + bit, () => refused(farm.delta)));
    expect(codes).toEqual(['FORMAT_UNSUPPORTED', 'ARCHIVE_DAMAGED', 'ARCHIVE_DAMAGED']);
  });

  it('an empty DELTA under the name of a DELTA is refused', async () => {
    writeFileSync(farm.delta.path, farm.empty.bytes);
    expect(await refused(farm.delta)).toBe('ARCHIVE_DAMAGED');
    farm.put();
  });

  it('a FULL without its empty DELTA is proved by its own map', async () => {
    rmSync(farm.empty.path);
    expect(await reader.restore(farm.full)).toEqual({ kind: 'equal' });
    farm.put();
  });

  it('a gzip file of another program under the name of a FULL is refused', async () => {
    const { gzipSync } = await import('node:zlib');
    writeFileSync(farm.full.path, gzipSync(farm.full.disk));
    expect(await refused(farm.delta)).toBe('WRONG_FULL');
    rmSync(farm.empty.path);
    const outcome = await reader.restore(farm.full);
    expect(outcome.kind).toBe('error');
    farm.put();
  });

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['zeros', Buffer.alloc(100_000)],
    ['text', Buffer.from('#!/bin/sh\nexit 0\n'.repeat(1000))],
    ['noise', Buffer.from(Array.from({ length: 50_000 }, (_, at) => (at * 7919) & 0xff))],
  ])('%s under the name of an archive is refused', async (_name, bytes) => {
    for (const archive of [farm.full, farm.delta]) {
      writeFileSync(archive.path, bytes);
      expect(await refused(archive)).toMatch(/^(ARCHIVE_DAMAGED|WRONG_FULL|FORMAT_UNSUPPORTED)$/);
      expect(readFileSync(archive.path).equals(bytes) && existsSync(archive.path)).toBe(true);
      farm.put();
    }
  });
});
