import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseArchiveName, parseFolderName } from '../../src/archive/names.ts';
import { runsOfVm, vmName } from '../bench/archive-names.ts';
import { inPlaceVerdicts, memoryVerdict, ratioVerdicts } from '../bench/goals.ts';
import type { GrowthRow } from '../bench/growth.ts';
import { parseOptions, parseSize } from '../bench/options.ts';
import { drawGrowth } from '../bench/plot.ts';
import { median, Samples } from '../bench/samples.ts';
import { sumOfWrites } from '../bench/written-bytes.ts';

const MIB = 1024 ** 2;

describe('the median', () => {
  it('is the middle value, or the mean of the two middle ones', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(median([])).toBeNaN();
  });

  it('has as many values below as above, in whatever order they came', () => {
    fc.assert(
      fc.property(fc.array(fc.integer(), { minLength: 1 }), (values) => {
        const middle = median(values);
        const below = values.filter((one) => one < middle).length;
        const above = values.filter((one) => one > middle).length;
        expect(Math.max(below, above)).toBeLessThanOrEqual(values.length / 2);
      }),
    );
  });
});

describe('the words of the bench', () => {
  it('give sizes in powers of 1024', () => {
    expect(parseSize('256M')).toBe(256 * MIB);
    expect(parseSize('2T')).toBe(2 * 1024 ** 4);
    expect(() => parseSize('1.5G')).toThrow('is no size');
  });

  it('run everything by default, and only the named parts with --only', () => {
    expect([...parseOptions([], '/p').parts]).toEqual([
      'backup',
      'restore',
      'transport',
      'memory',
      'index',
      'replication',
    ]);
    expect([...parseOptions(['--only', 'index'], '/p').parts]).toEqual(['index']);
    expect(() => parseOptions(['--only', 'speed'], '/p')).toThrow('--only speed');
    expect(() => parseOptions(['--runs', '0'], '/p')).toThrow('--runs 0');
  });

  it('let a word win over --quick', () => {
    const options = parseOptions(['--quick', '--size', '512M'], '/p');
    expect(options).toMatchObject({ diskBytes: 512 * MIB, runs: 1, jsonFile: '/p/dist/bench.json' });
  });
});

describe('a goal', () => {
  const job = 'verify';
  const samples = (ours: number, theirs: number): Samples => {
    const all = new Samples();
    all.add(job, 'phd gzip', true, { seconds: ours, peakBytes: null });
    all.add(job, 'restic check --read-data', false, { seconds: theirs, peakBytes: null });
    return all;
  };

  it('is met up to its limit and missed above it', () => {
    expect(ratioVerdicts(samples(8, 10), new Set([job]))[0]).toMatchObject({ reached: 0.8, isMet: true });
    expect(ratioVerdicts(samples(9, 10), new Set([job]))[0]).toMatchObject({ reached: 0.9, isMet: false });
  });

  it('is neither met nor missed without figures of both sides, and says of which', () => {
    const all = new Samples();
    all.add(job, 'phd gzip', true, { seconds: 1, peakBytes: null });
    const [verdict] = ratioVerdicts(all, new Set([job]));
    expect(verdict).toMatchObject({
      reached: null,
      isMet: null,
      why: 'no figures of restic check --read-data',
    });
  });

  it('of jobs that were not asked for is left out', () => {
    expect(ratioVerdicts(samples(1, 1), new Set())).toEqual([]);
  });

  it('for bytes written stays open where they could not be counted', () => {
    const figures = [{ differingBytes: 100, writtenBytes: 120, observedBytes: null }];
    expect(inPlaceVerdicts(figures).map((one) => one.isMet)).toEqual([false, null]);
  });

  it('for memory takes the worst operation of the worst disk', () => {
    const row = (peak: number): GrowthRow => ({
      diskBytes: 1024 * MIB,
      usedBytes: MIB,
      isSparse: false,
      seconds: { FULL: 1 },
      peakBytes: { FULL: 100 * MIB, verify: peak * MIB },
    });
    expect(memoryVerdict([row(200), row(300)])).toMatchObject({ reached: 300, isMet: false });
    expect(memoryVerdict([])).toMatchObject({ reached: null, isMet: null });
  });
});

describe('the sum of writes in a log of strace', () => {
  it('counts what was written to the one file, by any call, and nothing that failed', () => {
    const log = [
      'pwrite64(21</d/disk-flat.vmdk>, ""..., 262144, 0) = 262144',
      'pwritev(21</d/disk-flat.vmdk>, [{iov_base=""..., iov_len=4096}], 1, 524288) = 4096',
      'write(21</d/disk-flat.vmdk>, ""..., 10) = -1 ENOSPC (No space left on device)',
      'write(1</d/other>, ""..., 99) = 99',
      '+++ exited with 0 +++',
    ];
    expect(sumOfWrites(log.join('\n'), '/d/disk-flat.vmdk')).toBe(266_240);
  });
});

describe('the archives of the index bench', () => {
  it('bear names that the program reads as it would its own', () => {
    for (const run of runsOfVm(1234, 3)) {
      expect(parseFolderName(run.folder)).toMatchObject({ vm: run.vm.normalize('NFC'), uuid: run.uuid });
      for (const { file, name } of run.archives) expect(parseArchiveName(file)).toEqual(name);
    }
  });

  it('are of as many VMs as are asked for', () => {
    const names = new Set(Array.from({ length: 100_000 }, (_, n) => vmName(n)));
    expect(names.size).toBe(100_000);
  });
});

describe('the plot', () => {
  it('has a line for each operation that was measured, and no figure that is none', () => {
    const row = (gib: number): GrowthRow => ({
      diskBytes: gib * 1024 ** 3,
      usedBytes: gib * 400 * MIB,
      isSparse: false,
      seconds: { FULL: gib, restore: gib / 2 },
      peakBytes: { FULL: 100 * MIB, restore: Number.NaN },
    });
    const svg = drawGrowth([row(1), row(4)]);
    expect(svg.match(/<polyline /g)).toHaveLength(4);
    expect(svg).not.toContain('NaN');
    expect(drawGrowth([])).not.toContain('Infinity');
  });
});
