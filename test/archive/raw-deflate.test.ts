/** Blocks deflated and inflated in memory of the caller's: by states of zlib that are kept, and by documented calls. */
import { randomBytes } from 'node:crypto';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { documentedRawDeflate, type RawDeflate, reusingRawDeflate } from '../../src/archive/raw-deflate.ts';

const BLOCK_BYTES = 262_144;
const text = Buffer.from('what a disk holds, and again '.repeat(10_000)).subarray(0, BLOCK_BYTES);
const mixed = Buffer.concat([text.subarray(0, 100_000), randomBytes(100_000)]);

it('this Node lets states of zlib be kept', () => {
  expect(reusingRawDeflate()).not.toBeNull();
});

describe.each<[string, RawDeflate]>([
  ['kept states', reusingRawDeflate() as RawDeflate],
  ['documented calls', documentedRawDeflate],
])('%s', (_, way) => {
  const inflated = (payload: Buffer, expectedBytes: number): Buffer => {
    const target = Buffer.from(new SharedArrayBuffer(expectedBytes + 1));
    return target.subarray(0, way.inflateInto(target, payload));
  };

  it.each([1, 6, 9])('level %i: what zlib itself would make, block after block', (level) => {
    for (const block of [text, mixed, text.subarray(0, 1000), Buffer.alloc(BLOCK_BYTES), mixed]) {
      const target = Buffer.from(new SharedArrayBuffer(block.length));
      const bytes = way.deflateInto(target, block, level) as number;
      const payload = Buffer.from(target.subarray(0, bytes));
      expect(payload.equals(deflateRawSync(block, { level, memLevel: 9 }))).toBe(true);
      expect(inflateRawSync(payload).equals(block)).toBe(true);
      expect(inflated(payload, block.length).equals(block)).toBe(true);
    }
  });

  it('what does not shrink is refused, and the next block is none the worse', () => {
    const noise = randomBytes(BLOCK_BYTES);
    expect(way.deflateInto(Buffer.alloc(BLOCK_BYTES), noise, 1)).toBeNull();
    const target = Buffer.alloc(text.length);
    const bytes = way.deflateInto(target, text, 1) as number;
    expect(inflateRawSync(target.subarray(0, bytes)).equals(text)).toBe(true);
  });

  it('damaged, cut and too long data is refused, and the next block is none the worse', () => {
    const good = deflateRawSync(mixed);
    const flipped = Buffer.from(good);
    flipped[3]! ^= 0xff;
    const bad: [Buffer, number][] = [
      [good.subarray(0, -1), mixed.length],
      [good.subarray(0, 1000), mixed.length],
      [Buffer.concat([good, Buffer.from([0])]), mixed.length],
      [Buffer.alloc(0), mixed.length],
    ];
    for (const [payload, expectedBytes] of bad) {
      expect(() => inflated(payload, expectedBytes)).toThrow();
      expect(inflated(good, mixed.length).equals(mixed)).toBe(true);
    }
    const outcome = (): Buffer | null => {
      try {
        return inflated(flipped, mixed.length);
      } catch {
        return null;
      }
    };
    expect(outcome()?.equals(mixed) ?? false).toBe(false);
    const more = deflateRawSync(Buffer.concat([mixed, Buffer.alloc(1)]));
    const tooLong = (): number => {
      try {
        return inflated(more, mixed.length).length;
      } catch {
        return -1;
      }
    };
    expect(tooLong()).not.toBe(mixed.length);
  });
});
