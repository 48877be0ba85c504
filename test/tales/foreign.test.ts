/** Archives of esXpress, and FULLs that lost their DELTA. */
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makePatternImage, type TestVm } from '../support/disk-images.ts';
import {
  type BackedUp,
  fileDigest,
  flipByte,
  HOOK_TIMEOUT_MS,
  linesOf,
  MIB,
  namesIn,
  only,
  Tale,
  tool,
} from './tale.ts';

const FOLDER = '2008.04.29-Old_VM.564d1e34-4364-1808-23fd-e56565add965.FULL';
const FULL_3 = `1:${FOLDER}/00-Old_VM.vmdk.gz-080429-1134.phd`;
const LZOP_3 = `1:${FOLDER}/01-Old_VM.vmdk.lzo-080429-1134.phd`;
const DELTA_2 = `1:${FOLDER}/0000-Old_VM.vmdk.delta-2008.04.29-1134-080401`;

let tale: Tale;
let image: string;

beforeAll(async () => {
  tale = new Tale({ config: 'encryption: { systemPassphraseFile: system }\n' });
  tale.home.write('system', 'a passphrase');
  await tale.provide('lzop');
  image = tale.path('old.img');
  await makePatternImage(image, 2 * MIB + 512, 'old');
  tale.home.write(FULL_3.replace('1:', 'one/'), gzipSync(readFileSync(image)));
  tale.home.write(LZOP_3.replace('1:', 'one/'), await tool('lzop', ['-c', image]));
  tale.home.write(DELTA_2.replace('1:', 'one/'), 'a payload that nobody knows');
  await tale.phd(['index']);
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());

describe('An archive of esXpress', () => {
  it('is listed, and a DELTA of version 2 is marked as foreign', async () => {
    const rows = linesOf(await tale.phd(['list', '--json']));
    expect(rows.map((row) => [row.mode, row.codec, row.time, row.foreign]).sort()).toEqual([
      ['delta', null, '2008-04-29T11:34', true],
      ['full', 'gzip', '2008-04-29T11:34', false],
      ['full', 'lzop', '2008-04-29T11:34', false],
    ]);
  });

  it.each([FULL_3, LZOP_3])(
    '%s restores only with --accept-unproved, and is called unproved',
    async (archive) => {
      const to = tale.newFolder();
      const refused = await tale.phd(['restore', archive, '--to', to]);
      expect(refused.status).toBe(1);
      expect(refused.stderr).toContain('carries no digests');
      expect(namesIn(to)).toEqual([]);
      const run = await tale.phd(['restore', archive, '--to', to, '--accept-unproved']);
      expect(run.status, run.stderr).toBe(0);
      expect(run.stdout).toMatch(/^UNPROVED: /m);
      expect(run.stdout).not.toContain('ALL BLOCKS PROVED');
      expect(run.stderr).toContain('is unproved');
      expect(fileDigest(path.join(to, 'Old_VM-flat.vmdk'))).toBe(fileDigest(image));
      expect(namesIn(to)).toContain('Old_VM.vmdk');
    },
  );

  it('that is a DELTA of version 2 is refused with a reason', async () => {
    const to = tale.newFolder();
    const run = await tale.phd(['restore', DELTA_2, '--to', to, '--accept-unproved']);
    expect(run.status).toBe(1);
    expect(run.stderr).toMatch(/version 2 .* not documented/);
    expect(namesIn(to)).toEqual([]);
  });

  it('that is cut ends with an error, and nothing bears the final name', async () => {
    const cut = FULL_3.replace('00-', '05-');
    const content = readFileSync(tale.file(FULL_3));
    tale.home.write(cut.replace('1:', 'one/'), content.subarray(0, content.length - 20));
    const to = tale.newFolder();
    const run = await tale.phd(['restore', cut, '--to', to, '--accept-unproved']);
    expect(run.status).toBe(3);
    expect(namesIn(to)).toEqual([]);
  });
});

describe('A FULL whose DELTA is gone', () => {
  let vm: TestVm;
  const flat = (): string => vm.disks[0]?.flatPath ?? '';

  async function loneFull(words: string[]): Promise<BackedUp> {
    const full = only((await tale.backup(vm.folder, ['--full', ...words])).disks);
    rmSync(tale.file(full.archive));
    return full;
  }

  beforeAll(async () => {
    vm = await tale.makeVm('Lone', [{ name: 'Lone.vmdk', sizeBytes: 3 * MIB }]);
  });

  it.each([[['--codec', 'gzip']], [['--codec', 'zstd']], [['--encrypt']]])(
    'restores through its own map, every block proved (%j)',
    async (words) => {
      const full = await loneFull(words);
      const to = tale.newFolder();
      const { run, disks } = await tale.restore([full.full, '--to', to]);
      expect(only(disks).unproved).toBe(false);
      expect(run.stderr).toContain('has no empty DELTA: it restores through its own map');
      expect(fileDigest(path.join(to, 'Lone-flat.vmdk'))).toBe(fileDigest(flat()));
    },
  );

  it('is authenticated as a whole before anything is written, if it is encrypted', async () => {
    const full = await loneFull(['--encrypt']);
    const size = readFileSync(tale.file(full.full)).length;
    flipByte(tale.file(full.full), Math.floor(size / 2));
    const to = tale.newFolder();
    const run = await tale.phd(['restore', full.full, '--to', to]);
    expect(run.status).toBe(3);
    expect(namesIn(to)).toEqual([]);
  });

  it('restores as a stream only if it is lzop, since that has no map', async () => {
    const full = await loneFull(['--codec', 'lzop']);
    const to = tale.newFolder();
    expect((await tale.phd(['restore', full.full, '--to', to])).status).toBe(1);
    const { disks } = await tale.restore([full.full, '--to', to, '--accept-unproved']);
    expect(only(disks).unproved).toBe(true);
    expect(fileDigest(path.join(to, 'Lone-flat.vmdk'))).toBe(fileDigest(flat()));
  });
});
