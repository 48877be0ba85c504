import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { CAMPAIGN } from '../../faults/farm.ts';
import { flip, Place, SHELLS } from './place.ts';

/** Damaged input: the answer is an error, or the right bytes. Never wrong bytes with status 0. */
async function expectErrorOrRight(
  place: Place,
  shell: (typeof SHELLS)[number],
  what: string,
): Promise<number | null> {
  place.emptyOut();
  const run = await place.run(shell, place.deltaPath, ['autorun', 'restore'], {
    env: { USE_SPASS: 'system' },
  });
  if (run.status === 0) expect(place.isRestored(place.after), what).toBe(true);
  else expect(place.outNames(), `${what}: ${run.stderr}`).toEqual([]);
  return run.status;
}

describe.each([
  ['plain', []],
  ['encrypted', ['system']],
])('a damaged %s DELTA', (_name, passphrases) => {
  let place: Place;
  beforeAll(async () => {
    const files = [{ kind: 'vmx' as const, name: 'a.vmx', content: Buffer.from('memsize = "512"\n') }];
    place = await Place.make({ passphrases, files });
  });
  afterAll(() => place.remove());
  afterEach(() => {
    expect(place.leftovers()).toEqual([]);
    place.put();
  });

  it.each(SHELLS)('that was cut anywhere is refused under %s', async (shell) => {
    const { bytes, headBytes } = place.delta;
    for (const size of [
      headBytes + 1,
      headBytes + 4096,
      bytes.length - 600,
      bytes.length - 512,
      bytes.length - 1,
    ]) {
      writeFileSync(place.deltaPath, bytes.subarray(0, size));
      expect(await expectErrorOrRight(place, shell, `cut to ${size}`)).toBe(3);
    }
  });

  it.each(SHELLS)('whose line ends were converted is refused by one clear line under %s', async (shell) => {
    const text = place.delta.bytes.toString('latin1').replaceAll('\n', '\r\n');
    writeFileSync(place.deltaPath, Buffer.from(text, 'latin1'));
    place.emptyOut();
    const run = await place.run(shell, place.deltaPath, ['autorun', 'restore']);
    expect(run.status).toBe(3);
    expect(run.stderr).toMatch(/^.*line ends were converted.*\n$/);
  });

  it('with a flipped bit in the program text never ends with status 0 and nothing done', async () => {
    const text = place.delta.bytes.subarray(0, place.delta.headBytes).toString('latin1').trimEnd();
    // Line ends and quotes decide what the shell takes for code; a here-document would swallow the rest.
    expect(text).not.toContain('<<');
    const spots = [text.length - 1, text.indexOf('main "$@"') - 1];
    for (let at = 0; at < 12; at++)
      spots.push(text.indexOf(at % 2 ? '\n' : "'", Math.floor((at * text.length) / 12)));
    for (const [at, offset] of spots.entries()) {
      writeFileSync(place.deltaPath, flip(place.delta.bytes, offset, at % 7));
      expect(await expectErrorOrRight(place, SHELLS[at % SHELLS.length]!, `flip at ${offset}`)).not.toBe(0);
    }
  });

  it('with a byte appended is refused', async () => {
    writeFileSync(place.deltaPath, Buffer.concat([place.delta.bytes, Buffer.from('\n')]));
    expect(await expectErrorOrRight(place, 'dash', 'appended')).toBe(3);
  });

  it('with a flipped bit in any part is refused by the verify of the DELTA, and never restored wrong', async () => {
    const spots = place.delta.parts.flatMap((part) =>
      [0, 0.3, 0.7, 1].map((at) => part.offset + Math.floor(at * (part.bytes - 1))),
    );
    spots.push(place.delta.manifestOffset + 40, place.delta.bytes.length - 500, place.delta.headBytes - 1);
    for (const [at, offset] of spots.entries()) {
      writeFileSync(place.deltaPath, flip(place.delta.bytes, offset, at % 8));
      const shell = SHELLS[at % SHELLS.length]!;
      await expectErrorOrRight(place, shell, `flip at ${offset}`);
      const run = await place.run(shell, place.deltaPath, ['autorun', 'delta'], {
        env: { USE_SPASS: 'system' },
      });
      expect(run.status, `flip at ${offset}: ${run.stderr}`).toBe(3);
    }
  });
});

describe.each([
  ['gzip', 'gzip', []],
  ['zstd', 'zstd', []],
  ['lzop', 'lzop', []],
  ['encrypted', 'gzip', ['system']],
] as const)('a damaged FULL (%s)', (_name, codec, passphrases) => {
  it('with random flips is an error or gives the right disk', async () => {
    const place = await Place.make({ codec, passphrases: [...passphrases] });
    let refused = 0;
    const rounds = Math.ceil(15 * CAMPAIGN);
    for (let round = 0; round < rounds; round++) {
      const offset = Math.floor(((round + 0.5) / rounds) * place.full.bytes.length) + (round % 3);
      writeFileSync(place.fullPath, flip(place.full.bytes, offset, round % 8));
      const status = await expectErrorOrRight(place, SHELLS[round % SHELLS.length]!, `flip at ${offset}`);
      if (status !== 0) refused++;
    }
    expect(refused).toBeGreaterThan(0);
    place.remove();
  });
});

describe('checksum errors with the word ignore', () => {
  it('end with status 3 and a disk that is named damaged', async () => {
    const place = await Place.make();
    const blocks = place.delta.parts.find((part) => part.name === 'blocks')!;
    // The stored digest in the first member's extra field: content stays right, the part does not.
    writeFileSync(place.deltaPath, flip(place.delta.bytes, blocks.offset + 30));
    const strict = await place.run('dash', place.deltaPath, ['autorun', 'restore']);
    expect(strict.status).toBe(3);
    expect(place.outNames()).toEqual([]);
    const run = await place.run('dash', place.deltaPath, ['autorun', 'restore', 'ignore']);
    expect(run.status).toBe(3);
    expect(place.outNames()).toEqual(['RedHat_VM1-flat.vmdk.damaged']);
    expect(run.stderr).toContain('NOT proved');
    place.remove();
  });
});

describe.each(SHELLS)('what is damaged in the middle, with the word ignore, under %s', (shell) => {
  const blockBytes = 4096;
  /** Of the wrong bytes of a disk the numbers of their blocks. */
  function wrongBlocks(found: Buffer, wanted: Buffer): number[] {
    const wrong = [];
    for (let block = 0; block * blockBytes < wanted.length; block++) {
      const range = [block * blockBytes, (block + 1) * blockBytes] as const;
      if (!found.subarray(...range).equals(wanted.subarray(...range))) wrong.push(block);
    }
    return wrong;
  }

  it.each(['gzip', 'zstd'] as const)(
    'costs the blocks it hit of a %s FULL, and names them',
    async (codec) => {
      const place = await Place.make({ codec });
      const bytes = Buffer.from(place.full.bytes);
      // Three members: each costs its own block and no more.
      for (const at of [0.2, 0.4, 0.5]) bytes[Math.floor(bytes.length * at)]! ^= 0x55;
      writeFileSync(place.fullPath, bytes);
      const strict = await place.run(shell, place.deltaPath, ['autorun', 'restore']);
      expect(strict.status).toBe(3);
      expect(strict.stderr).toMatch(/Error: the FULL is damaged: \S+/);
      expect(place.outNames()).toEqual([]);
      const run = await place.run(shell, place.deltaPath, ['autorun', 'restore', 'ignore']);
      expect(run.status, run.stderr).toBe(3);
      const [disk, ranges] = ['RedHat_VM1-flat.vmdk.damaged', 'RedHat_VM1-flat.vmdk.damaged.ranges'];
      expect(place.outNames()).toEqual([disk, ranges]);
      const wrong = wrongBlocks(readFileSync(join(place.out, disk!)), place.after.bytes());
      expect(wrong.length).toBeGreaterThan(0);
      expect(wrong.length).toBeLessThan(4);
      const named = readFileSync(join(place.out, ranges!), 'utf8').trim().split('\n').slice(1);
      expect(named).toEqual(wrong.map((block) => `${block * blockBytes} ${blockBytes}`));
      for (const block of wrong) expect(run.stderr).toContain(`Lost: block ${block} of the disk`);
      writeFileSync(place.fullPath, place.full.bytes.subarray(0, Math.floor(bytes.length * 0.7)));
      place.emptyOut();
      const cut = await place.run(shell, place.deltaPath, ['autorun', 'restore', 'ignore']);
      expect(cut.status, cut.stderr).toBe(3);
      const lost = wrongBlocks(readFileSync(join(place.out, disk!)), place.after.bytes());
      expect(rangesOf(place)).toEqual(lost.map((block) => [block * blockBytes, blockBytes]));
      place.remove();
    },
  );

  it('names blocks whose members unpack and are those of others, beside one that does not unpack', async () => {
    const place = await Place.make();
    const bytes = Buffer.from(place.full.bytes);
    // Incompressible blocks have members of one length, so a misplaced copy of some stays in step.
    const starts: number[] = [];
    const head = Buffer.from('1f8b08040000000000ff280050422400', 'hex');
    for (let at = bytes.indexOf(head); at >= 0; at = bytes.indexOf(head, at + 1)) starts.push(at);
    const lengthOf = (index: number): number => starts[index + 1]! - starts[index]!;
    const first = starts.findIndex((_, at) => at > 9 && lengthOf(at) === lengthOf(at + 1));
    const [one, two] = [first, first + 1].map((at) =>
      Buffer.from(bytes.subarray(starts[at]!, starts[at + 1]!)),
    );
    two!.copy(bytes, starts[first]!);
    one!.copy(bytes, starts[first + 1]!);
    bytes[starts[first + 6]! + 100]! ^= 0x55;
    writeFileSync(place.fullPath, bytes);
    const run = await place.run(shell, place.deltaPath, ['autorun', 'restore', 'ignore']);
    expect(run.status, run.stderr).toBe(3);
    const wrong = wrongBlocks(readFileSync(`${place.flat}.damaged`), place.after.bytes());
    expect(wrong).toHaveLength(3);
    const named = rangesOf(place).map(([at, size]) => [at / blockBytes, size]);
    expect(named.sort((a, b) => a[0]! - b[0]!)).toEqual(wrong.map((block) => [block, blockBytes]));
    place.remove();
  });

  it('costs the blocks it hit of a DELTA; a disk that was there before stays as it was', async () => {
    const place = await Place.make();
    const part = place.delta.parts.find(({ name }) => name === 'blocks')!;
    const bytes = Buffer.from(place.delta.bytes);
    bytes[part.offset + 100]! ^= 0x55;
    bytes[part.offset + 9000]! ^= 0x55;
    writeFileSync(place.deltaPath, bytes);
    const before = Buffer.alloc(place.after.bytes().length, 0xee);
    writeFileSync(place.flat, before);
    const words = ['autorun', 'restore', 'ignore', 'overwrite'];
    const run = await place.run(shell, place.deltaPath, words);
    expect(run.status, run.stderr).toBe(3);
    expect(readFileSync(place.flat).equals(before)).toBe(true);
    const wrong = wrongBlocks(readFileSync(`${place.flat}.damaged`), place.after.bytes());
    expect(wrong[0]).toBe(0);
    expect(wrong).toHaveLength(2);
    expect(rangesOf(place)).toEqual(wrong.map((block) => [block * blockBytes, blockBytes]));
    const saved = `${place.flat}.damaged`;
    writeFileSync(saved, 'saved before');
    expect((await place.run(shell, place.deltaPath, words)).status).toBe(3);
    expect(readFileSync(saved, 'utf8')).toBe('saved before');
    expect(wrongBlocks(readFileSync(`${saved}-2`), place.after.bytes())).toEqual(wrong);
    writeFileSync(place.deltaPath, place.delta.bytes);
    expect((await place.run(shell, place.deltaPath, words)).status).toBe(0);
    expect(place.isRestored(place.after)).toBe(true);
    expect(place.leftovers()).toEqual([]);
    place.remove();
  });

  it('names all that is lost: of a FULL that was cut, of a table with false numbers, of a stream', async () => {
    const place = await Place.make();
    const expectAllNamed = async (env: Record<string, string> = {}): Promise<number> => {
      place.emptyOut();
      const run = await place.run(shell, place.deltaPath, ['autorun', 'restore', 'ignore'], { env });
      expect(run.status, run.stderr).toBe(3);
      const wrong = wrongBlocks(readFileSync(`${place.flat}.damaged`), place.after.bytes());
      const named = rangesOf(place);
      for (const block of wrong)
        expect(
          named.some(([at, bytes]) => at <= block * blockBytes && block * blockBytes < at + bytes),
          String(block),
        ).toBe(true);
      return wrong.length;
    };
    const { bytes } = place.full;
    writeFileSync(place.fullPath, bytes.subarray(0, Math.floor(bytes.length * 0.6)));
    const cut = await expectAllNamed();
    expect(cut).toBeGreaterThan(10);
    expect(cut).toBeLessThan(80);
    // Without the map beside it, its own table says where its members lie.
    rmSync(place.emptyPath);
    const odd = flip(bytes, Math.floor(bytes.length * 0.2));
    const page = odd.indexOf(Buffer.from('504d', 'hex'), Math.floor(bytes.length * 0.9));
    odd.fill(0xff, page + 4, page + 14);
    writeFileSync(place.fullPath, odd);
    expect(await expectAllNamed()).toBe(1);
    place.put();
    const away = join(place.root, 'away.phd');
    writeFileSync(away, flip(bytes, Math.floor(bytes.length * 0.5)));
    rmSync(place.fullPath);
    const blocks = place.delta.parts.find(({ name }) => name === 'blocks')!;
    writeFileSync(place.deltaPath, flip(place.delta.bytes, blocks.offset + 9000));
    const http = createServer((_, response) => response.end(readFileSync(away)));
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/away.phd`;
    expect(await expectAllNamed({ PHD_LYNX: url })).toBeGreaterThan(20);
    http.close();
    place.remove();
  });
});

/** Offset and bytes of each line of a list of lost ranges. */
function rangesOf(place: Place, flat = place.flat): [number, number][] {
  const lines = readFileSync(`${flat}.damaged.ranges`, 'utf8').trim().split('\n');
  return lines.slice(1).map((line) => line.split(' ').map(Number) as [number, number]);
}

describe('a folder that cannot be made', () => {
  it('is an error that names it', async () => {
    const place = await Place.make();
    writeFileSync(join(place.out, 'file'), '');
    const env = { USE_RPATH: join(place.out, 'file', 'folder') };
    const run = await place.run('dash', place.deltaPath, ['autorun', 'restore'], { env });
    expect(run.status).toBe(1);
    expect(run.stderr).toContain(join('file', 'folder'));
    place.remove();
  });
});
