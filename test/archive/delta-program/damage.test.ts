import { writeFileSync } from 'node:fs';
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
