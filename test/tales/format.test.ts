/** Two tellers of FORMAT.md: a writer and a reader that share no code with the program, and the program itself. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { noise, sampleDisks } from '../archive/delta-program/place.ts';
import { Farm, type FarmRequest, loadEngine, SYSTEM_PASSPHRASE } from '../faults/farm.ts';
import { requirePeer, writePeerScript } from '../support/peers.ts';
import { readDelta, readFull, singleOf } from '../support/reference-reader.ts';
import {
  MemoryDisk,
  type ReferenceCodec,
  type ReferenceDelta,
  type ReferenceFile,
  type ReferenceFull,
  writeDelta,
  writeFull,
} from '../support/reference-writer.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

const FILES: ReferenceFile[] = [
  { kind: 'vmx', name: 'a b.vmx', content: Buffer.from('displayName = "a b"\n') },
  { kind: 'nvram', name: 'a b.nvram', content: noise(8_684, 1) },
];

/** Blocks of the usual size: 9, the last one short and zero. */
function plainDisks(): { before: MemoryDisk; after: MemoryDisk } {
  const before = new MemoryDisk(8 * 262_144 + 512);
  for (const block of [0, 2, 3, 7]) before.set(block, noise(block === 3 ? 700 : 262_144, block));
  const after = before.copy().set(2, null).set(5, noise(262_144, 50)).set(8, noise(512, 51));
  return { before, after };
}

const WRITTEN: [string, ReferenceCodec, string[], () => { before: MemoryDisk; after: MemoryDisk }][] = [
  ['gzip', 'gzip', [], plainDisks],
  ['gzip of 601 blocks of 4 KiB', 'gzip', [], sampleDisks],
  ['zstd', 'zstd', [], plainDisks],
  ['lzop', 'lzop', [], plainDisks],
  ['gzip, one passphrase', 'gzip', ['system words'], plainDisks],
  ['zstd, two passphrases', 'zstd', ['system words', 'master words'], plainDisks],
];

describe('Archives that another writer makes from FORMAT.md', () => {
  let home: TempHome;
  let count = 0;
  const ownPath = process.env.PATH;
  beforeAll(async () => {
    home = makeTempHome();
    await writePeerScript(await requirePeer('lzop'), home.write('bin/lzop', '', 0o755));
    process.env.PATH = `${path.join(home.root, 'bin')}:${ownPath}`;
    home.write('secrets/system', 'other words\n');
    home.write('secrets/master', 'master words\n');
    home.write('secrets/former', 'system words\n');
  });
  afterAll(() => {
    process.env.PATH = ownPath;
    home.remove();
  });

  function put(target: string, folder: string, archive: ReferenceFull | ReferenceDelta): string {
    mkdirSync(path.join(target, folder), { recursive: true });
    writeFileSync(path.join(target, folder, archive.fileName), archive.bytes);
    return `1:${folder}/${archive.fileName}`;
  }

  it.each(WRITTEN)(
    'are indexed, verified and restored whole: %s',
    async (_name, codec, passphrases, disks) => {
      count += 1;
      const target = home.folder(`target-${count}`);
      home.writeConfig(`targets:
  - { number: 1, name: one, transport: vmfs, path: target-${count} }
encryption: { systemPassphraseFile: secrets/system, masterPassphraseFile: secrets/master, formerPassphraseFiles: [secrets/former] }
`);
      const { before, after } = disks();
      const full = await writeFull(before, { codec, passphrases });
      const files = FILES;
      const delta = await writeDelta(full, after, { files });
      const places = {
        full: put(target, full.folderName, full),
        empty: put(target, full.folderName, await writeDelta(full, null, { files })),
        delta: put(target, full.folderName.replace('2026.04.07', '2026.04.30').replace('.FULL', ''), delta),
      };
      const engine = await loadEngine();
      const context = await engine.openContext({ env: home.env });
      try {
        await engine.index(context, {});
        const rows = engine.list(context, {}, { limit: 10 });
        expect(rows.map(({ state }) => state)).toEqual([null, null, null]);
        const wanted: [keyof typeof places, MemoryDisk][] = [
          ['full', before],
          ['empty', before],
          ['delta', after],
        ];
        for (const [which, disk] of wanted) {
          const archive = await engine.archiveRef(context, places[which]);
          await engine.verifyArchive(context, archive);
          const to = path.join(home.root, `out-${count}-${which}`);
          const result = await engine.restore(context, { archive, to, verify: true });
          expect(result.unproved).toBe(false);
          expect(readFileSync(result.flatPath).equals(disk.bytes()), which).toBe(true);
        }
        const to = path.join(home.root, `vmx-${count}`);
        await engine.restoreVmx(context, { archive: await engine.archiveRef(context, places.delta), to });
        expect(readFileSync(path.join(to, 'a b.nvram')).equals(FILES[1]?.content as Buffer)).toBe(true);
      } finally {
        await context.close();
      }
    },
  );
});

const MADE: [string, FarmRequest][] = [
  ['gzip', { codec: 'gzip' }],
  ['gzip of more than a page of blocks', { codec: 'gzip', diskBytes: 40 * 2 ** 20 + 1536 }],
  ['zstd', { codec: 'zstd' }],
  ['encrypted gzip', { codec: 'gzip', encrypt: true }],
  ['encrypted zstd', { codec: 'zstd', encrypt: true }],
];

describe('Archives of this program, to another reader made from FORMAT.md', () => {
  it.each(MADE)('are right in every field, and restore whole: %s', async (name, request) => {
    const farm = await Farm.make({ ...request, seed: name.replaceAll(' ', '-') });
    try {
      const passphrase = request.encrypt ? SYSTEM_PASSPHRASE : null;
      const full = await readFull(farm.full.bytes, request.codec as 'gzip' | 'zstd', passphrase);
      expect(full.disk.equals(farm.full.disk)).toBe(true);
      const empty = await readDelta(farm.empty.bytes, full, passphrase);
      expect(singleOf(empty.manifest, 'kind')).toBe('empty');
      expect(empty.disk.equals(farm.full.disk)).toBe(true);
      const delta = await readDelta(farm.delta.bytes, full, passphrase);
      expect(singleOf(delta.manifest, 'kind')).toBe('delta');
      expect(delta.disk.equals(farm.delta.disk)).toBe(true);
      expect(singleOf(delta.manifest, 'fullFile')).toBe(farm.full.file);
      expect(singleOf(delta.manifest, 'fullFolder')).toBe(farm.full.folder);
      for (const kind of ['vmx', 'nvram', 'log', 'descriptor']) {
        const file = delta.files.find((one) => one.kind === kind);
        const original = readFileSync(path.join(farm.vm.folder, file?.name ?? ''));
        expect(file?.content.equals(original), kind).toBe(true);
      }
    } finally {
      farm.remove();
    }
  });
});
