/** Archives of version 1 stay readable for ever: these were written once and are never written again. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineContext } from '../../src/engine/context.ts';
import { loadEngine } from '../faults/farm.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

interface Kept {
  name: string;
  folder: string;
  file: string;
  /** SHA-256 of the file itself. */
  sha256: string;
  /** SHA-256 of the disk it restores to. */
  diskSha256: string;
}

const FOLDER = new URL('../fixtures/v1/', import.meta.url);
const kept = JSON.parse(readFileSync(new URL('archives.json', FOLDER), 'utf8')) as Kept[];
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

let home: TempHome;
let context: EngineContext;

beforeAll(async () => {
  home = makeTempHome();
  home.writeConfig(`targets:
  - { number: 1, name: kept, transport: vmfs, path: kept }
encryption: { systemPassphraseFile: secrets/system }
`);
  home.write('secrets/system', 'kept passphrase\n');
  for (const { name, folder, file } of kept) {
    mkdirSync(path.join(home.folder('kept'), folder), { recursive: true });
    writeFileSync(
      path.join(home.root, 'kept', folder, file),
      gunzipSync(readFileSync(new URL(name, FOLDER))),
    );
  }
  context = await (await loadEngine()).openContext({ env: home.env });
});
afterAll(async () => {
  await context.close();
  home.remove();
});

describe('archives of version 1', () => {
  it('are kept of every kind', () => {
    const kinds = kept.map(({ file }) => /\.(gz|zst|delta)(\.gpg)?-/.exec(file)?.[0]).sort();
    expect(new Set(kinds)).toEqual(new Set(['.gz-', '.zst-', '.gz.gpg-', '.delta-', '.delta.gpg-']));
  });

  it.each(kept)('$file restores to the bytes of the day it was written', async (one) => {
    const file = path.join(home.root, 'kept', one.folder, one.file);
    expect(sha256(readFileSync(file))).toBe(one.sha256);
    const engine = await loadEngine();
    const ref = { storage: await context.storage(1), folder: one.folder, file: one.file };
    const to = path.join(home.root, 'out');
    const warnings: string[] = [];
    const onWarning = (line: string): void => void warnings.push(line);
    const { flatPath } = await engine.restore(context, { archive: ref, to }, { onWarning });
    expect(warnings.some((line) => line.includes('incomplete: 3 sectors'))).toBe(
      one.name.startsWith('device-'),
    );
    expect(sha256(readFileSync(flatPath))).toBe(one.diskSha256);
    await engine.verifyArchive(context, ref);
    rmSync(to, { recursive: true });
  });
});
