/** One suite for every transport: what `src/storage/storage.ts` promises, on a real target. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PhdError } from '../../src/errors.ts';
import type { TargetSettings } from '../../src/model/target.ts';
import { openStorage } from '../../src/storage/open-storage.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { testTarget } from '../../src/storage/target-test.ts';

export interface TargetUnderTest {
  settings: Partial<TargetSettings> & Pick<TargetSettings, 'transport' | 'path'>;
  /** Local path of the target's root. */
  folder: string;
  password?: string;
  privateKey?: string;
  askHostKey?: () => Promise<boolean>;
  /** Names the server refuses or changes; none of ours holds such characters. */
  refusedNames?: string[];
  stop(): Promise<void>;
}

export function settingsWith(
  overrides: Partial<TargetSettings> & Pick<TargetSettings, 'transport' | 'path'>,
): TargetSettings {
  return {
    number: 1,
    name: 'under test',
    host: null,
    port: null,
    user: null,
    tls: 'none',
    tlsPin: null,
    knownHostsFile: null,
    legacyAlgorithms: false,
    bandwidthLimitBytesPerSecond: null,
    maxConnections: null,
    readOnly: false,
    timeoutMs: 10_000,
    readBack: 'tail',
    ...overrides,
  };
}

export function storageOf(
  target: TargetUnderTest,
  overrides: Partial<TargetSettings> = {},
  log: string[] = [],
): Promise<Storage> {
  return openStorage(settingsWith({ ...target.settings, ...overrides }), {
    password: async () => target.password ?? null,
    privateKey: async () => target.privateKey ?? null,
    askHostKey: target.askHostKey ?? (async () => true),
    log: (text) => void log.push(text),
  });
}

export async function* chunks(data: Buffer, size = 65_536): AsyncGenerator<Buffer> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}

export async function bytesOf(source: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
}

export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'no error';
  } catch (error) {
    if (error instanceof PhdError) return error.code;
    throw error;
  }
}

const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

export function describeContract(name: string, start: () => Promise<TargetUnderTest>): void {
  describe(`contract on ${name}`, () => {
    let target: TargetUnderTest;
    let storage: Storage;
    const local = (file: string): string => path.join(target.folder, file);

    beforeAll(async () => {
      target = await start();
      storage = await storageOf(target);
    });
    afterAll(async () => {
      await storage?.close();
      await target?.stop();
    });

    it.each([0, 1, 262_143, 262_145, 3_000_001])(
      'writes %i bytes, proves them and gives them back',
      async (size) => {
        const data = randomBytes(size);
        const seen: number[] = [];
        const result = await storage.write(`w-${size}.part`, chunks(data), {
          onBytes: (bytes) => seen.push(bytes),
        });
        expect(result).toEqual({ sizeBytes: size, sha256: sha256(data) });
        expect(readFileSync(local(`w-${size}.part`)).equals(data)).toBe(true);
        expect(seen.at(-1) ?? 0).toBe(size);
        expect((await bytesOf(storage.read(`w-${size}.part`, { offsetBytes: 0 }))).equals(data)).toBe(true);
      },
    );

    it('a source may use the memory of a chunk again once the next is asked for', async () => {
      const data = randomBytes(9_000_000);
      const lent = Buffer.alloc(300_000);
      const lending = async function* (): AsyncGenerator<Buffer> {
        for (let at = 0; at < data.length; at += lent.length) {
          data.copy(lent, 0, at, at + lent.length);
          yield lent;
          lent.fill(0xee);
        }
      };
      await storage.write('lent.part', lending());
      expect(readFileSync(local('lent.part')).equals(data)).toBe(true);
    });

    it('reads the whole back if asked', async () => {
      const data = randomBytes(5_000_000);
      const result = await storage.write('all.part', chunks(data), { readBack: 'all' });
      expect(result.sha256).toBe(sha256(data));
    });

    it('reads any range, many times, and the last bytes', async () => {
      const data = randomBytes(2_500_000);
      writeFileSync(local('ranges'), data);
      for (const [offset, length] of [
        [0, 1],
        [1, 262_144],
        [700_001, 300_000],
        [2_499_999, 1],
        [2_000_000, 500_000],
      ] as const) {
        const read = await bytesOf(storage.read('ranges', { offsetBytes: offset, lengthBytes: length }));
        expect(read.equals(data.subarray(offset, offset + length))).toBe(true);
      }
      expect(
        (await bytesOf(storage.read('ranges', { offsetBytes: 2_400_000 }))).equals(data.subarray(2_400_000)),
      ).toBe(true);
    });

    it('reads long ranges, from the start and from within', async () => {
      const data = randomBytes(24_000_000);
      writeFileSync(local('long'), data);
      expect((await bytesOf(storage.read('long', { offsetBytes: 0 }))).equals(data)).toBe(true);
      const read = await bytesOf(storage.read('long', { offsetBytes: 1_000_003, lengthBytes: 15_000_000 }));
      expect(read.equals(data.subarray(1_000_003, 16_000_003))).toBe(true);
    });

    it('frees the line when a read is broken off', async () => {
      writeFileSync(local('broken-off'), Buffer.alloc(20_000_000, 7));
      const one = await storageOf(target, { maxConnections: 1 });
      try {
        for (let round = 0; round < 3; round += 1) {
          for await (const chunk of one.read('broken-off', { offsetBytes: round })) {
            expect(chunk[0]).toBe(7);
            break;
          }
        }
        expect((await one.stat('broken-off'))?.sizeBytes).toBe(20_000_000);
      } finally {
        await one.close();
      }
    });

    it('fails if a range reaches beyond the end', async () => {
      writeFileSync(local('short'), 'abc');
      expect(await codeOf(bytesOf(storage.read('short', { offsetBytes: 1, lengthBytes: 5 })))).toMatch(
        /IO|TARGET_LIED/,
      );
    });

    it('serves several callers at once', async () => {
      const data = randomBytes(1_000_000);
      writeFileSync(local('shared'), data);
      const reads = Array.from({ length: 8 }, (_, at) =>
        bytesOf(storage.read('shared', { offsetBytes: at * 1000, lengthBytes: 500_000 })),
      );
      const results = await Promise.all(reads);
      results.forEach((one, at) => {
        expect(one.equals(data.subarray(at * 1000, at * 1000 + 500_000))).toBe(true);
      });
    });

    it('lists files and folders with sizes; links are "other"', async () => {
      mkdirSync(local('listed/inner'), { recursive: true });
      writeFileSync(local('listed/a file'), 'four');
      writeFileSync(local('listed/.hidden'), '');
      symlinkSync('a file', local('listed/link'));
      const { entries, complete } = await storage.list('listed');
      expect(complete).toBe(true);
      const short = entries.map(({ name, kind, sizeBytes }) => ({ name, kind, sizeBytes }));
      short.sort((a, b) => (a.name < b.name ? -1 : 1));
      expect(short).toEqual([
        { name: '.hidden', kind: 'file', sizeBytes: 0 },
        { name: 'a file', kind: 'file', sizeBytes: 4 },
        { name: 'inner', kind: 'folder', sizeBytes: 0 },
        { name: 'link', kind: 'other', sizeBytes: 0 },
      ]);
    });

    it('tells a folder that is absent from one that is empty', async () => {
      mkdirSync(local('empty'));
      expect(await storage.list('empty')).toEqual({ entries: [], complete: true });
      expect(await codeOf(storage.list('absent'))).toBe('NOT_FOUND');
    });

    it('never follows a symbolic link', async () => {
      writeFileSync(local('outside'), 'secret');
      symlinkSync('outside', local('to-file'));
      expect((await storage.stat('to-file'))?.kind).toBe('other');
      expect(await codeOf(bytesOf(storage.read('to-file', { offsetBytes: 0 })))).toBe('TARGET_REFUSED');
    });

    it('looks at names: there, not there, the root', async () => {
      writeFileSync(local('there'), 'abc');
      expect(await storage.stat('there')).toMatchObject({ name: 'there', kind: 'file', sizeBytes: 3 });
      expect(await storage.stat('not-there')).toBeUndefined();
      expect(await storage.stat('no/folder/here')).toBeUndefined();
      expect((await storage.stat(''))?.kind).toBe('folder');
    });

    it('never writes over a name and never renames onto one', async () => {
      writeFileSync(local('taken'), 'old');
      writeFileSync(local('new'), 'new');
      expect(await codeOf(storage.write('taken', chunks(Buffer.from('x'))))).toBe('EXISTS');
      expect(await codeOf(storage.rename('new', 'taken'))).toBe('EXISTS');
      expect(readFileSync(local('taken'), 'utf8')).toBe('old');
    });

    it('renames and removes', async () => {
      await storage.makeFolder('moves');
      await storage.write('moves/a.part', chunks(Buffer.from('abc')));
      await storage.rename('moves/a.part', 'moves/a');
      expect(readFileSync(local('moves/a'), 'utf8')).toBe('abc');
      await storage.remove('moves/a');
      expect(await storage.stat('moves/a')).toBeUndefined();
      await storage.removeFolder('moves');
      expect(await storage.stat('moves')).toBeUndefined();
      expect(await codeOf(storage.remove('moves'))).toBe('NOT_FOUND');
      expect(await codeOf(storage.rename('gone', 'elsewhere'))).toBe('NOT_FOUND');
      expect(await codeOf(bytesOf(storage.read('gone', { offsetBytes: 0 })))).toBe('NOT_FOUND');
    });

    it('makes folders with their parents, twice; keeps one that is not empty', async () => {
      await storage.makeFolder('p/q r/s');
      await storage.makeFolder('p/q r/s');
      expect((await storage.stat('p/q r/s'))?.kind).toBe('folder');
      expect(await codeOf(storage.removeFolder('p/q r'))).toMatch(/EXISTS/);
    });

    it.each([
      " lead and trail'",
      '-rf',
      '$(touch x) `id` "q"',
      'ü日本 %41',
      '[a-z]*?',
      '{x,y}~#;&',
      'back\\slash',
    ])('takes the name %s as it is', async (name) => {
      if (target.refusedNames?.includes(name)) {
        expect(await codeOf(storage.makeFolder(`odd ${name}`))).toBe('TARGET_REFUSED');
        return;
      }
      await storage.makeFolder(`odd ${name}`);
      await storage.write(`odd ${name}/${name}.part`, chunks(Buffer.from(name)));
      await storage.rename(`odd ${name}/${name}.part`, `odd ${name}/${name}`);
      expect(readFileSync(local(`odd ${name}/${name}`), 'utf8')).toBe(name);
      expect((await storage.list(`odd ${name}`)).entries.map((entry) => entry.name)).toEqual([name]);
      const read = await bytesOf(storage.read(`odd ${name}/${name}`, { offsetBytes: 0 }));
      expect(read.toString()).toBe(name);
    });

    it.each(['../x', 'a/../x', '/etc/passwd', 'a//b', './a', 'a\r\nDELE b', 'a\0b', 'a\u001b[2J'])(
      'refuses the path %j before a byte is sent',
      async (bad) => {
        expect(await codeOf(storage.write(bad, chunks(Buffer.from('x'))))).toBe('USAGE');
        expect(await codeOf(storage.list(bad))).toBe('USAGE');
        expect(await codeOf(storage.remove(bad))).toBe('USAGE');
      },
    );

    it('leaves nothing behind when the source fails or the caller gives up', async () => {
      const failing = async function* (): AsyncGenerator<Buffer> {
        yield Buffer.alloc(100_000);
        throw new PhdError('SOURCE_CHANGED', 'the disk changed');
      };
      expect(await codeOf(storage.write('failing.part', failing()))).toBe('SOURCE_CHANGED');
      const controller = new AbortController();
      const aborting = async function* (): AsyncGenerator<Buffer> {
        yield Buffer.alloc(100_000);
        controller.abort();
        yield Buffer.alloc(100_000);
      };
      expect(await codeOf(storage.write('aborted.part', aborting(), { signal: controller.signal }))).toBe(
        'CANCELLED',
      );
      expect(await storage.stat('failing.part')).toBeUndefined();
      expect(await storage.stat('aborted.part')).toBeUndefined();
    });

    it('changes nothing on a readOnly target', async () => {
      const fixed = await storageOf(target, { readOnly: true });
      writeFileSync(local('fixed'), 'abc');
      expect(await codeOf(fixed.write('n', chunks(Buffer.from('x'))))).toBe('TARGET_REFUSED');
      expect(await codeOf(fixed.remove('fixed'))).toBe('TARGET_REFUSED');
      expect(await codeOf(fixed.rename('fixed', 'n'))).toBe('TARGET_REFUSED');
      expect(await codeOf(fixed.makeFolder('n'))).toBe('TARGET_REFUSED');
      expect((await bytesOf(fixed.read('fixed', { offsetBytes: 0 }))).toString()).toBe('abc');
      await fixed.close();
    });

    it('passes the target test, which leaves nothing behind', async () => {
      const before = (await storage.list('')).entries.length;
      const { steps, ok } = await testTarget(storage);
      expect(steps.filter((step) => !step.ok)).toEqual([]);
      expect(steps.map((step) => step.name)).toEqual([
        'mkdir',
        'write',
        'rename',
        'list',
        'ranged read',
        'delete',
      ]);
      expect(ok).toBe(true);
      expect((await storage.list('')).entries.length).toBe(before);
    });

    it('tells free space as a figure or as unknown', async () => {
      const free = await storage.freeSpaceBytes();
      expect(free === null || (Number.isSafeInteger(free) && free > 0)).toBe(true);
    });
  });
}
