import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { MemoryDisk, writeDelta, writeFull } from '../../support/reference-writer.ts';
import { blocksOnDisk, linkFolder, locate, noise, Place, SHELLS, type ShellName } from './place.ts';

const PASSPHRASES = ["sy'stem $(pass) \\", 'master "pass"'];
const VARIANTS = [
  { name: 'gzip', codec: 'gzip', passphrases: [] },
  { name: 'zstd', codec: 'zstd', passphrases: [] },
  { name: 'lzop', codec: 'lzop', passphrases: [] },
  { name: 'encrypted gzip', codec: 'gzip', passphrases: PASSPHRASES },
  { name: 'encrypted zstd', codec: 'zstd', passphrases: PASSPHRASES },
] as const;

describe.each(VARIANTS)('restore from a $name FULL', ({ codec, passphrases }) => {
  let place: Place;
  beforeAll(async () => {
    place = await Place.make({ codec, passphrases: [...passphrases] });
  });
  afterAll(() => place.remove());
  afterEach(() => {
    expect(place.leftovers()).toEqual([]);
    place.emptyOut();
    place.put();
  });
  const env: Record<string, string> = passphrases[0] ? { USE_SPASS: passphrases[0] } : {};

  it.each(SHELLS)('gives the changed disk and the disk of the FULL under %s', async (shell) => {
    const run = await place.run(shell, place.deltaPath, ['autorun', 'restore', 'verify'], { env });
    expect(run, run.stderr).toMatchObject({ status: 0, stderr: '' });
    expect(place.isRestored(place.after)).toBe(true);
    expect(place.outNames()).toEqual(['RedHat_VM1-flat.vmdk', 'RedHat_VM1.vmdk']);
    place.emptyOut();
    const empty = await place.run(shell, place.emptyPath, ['autorun', 'restore'], { env });
    expect(empty, empty.stderr).toMatchObject({ status: 0, stderr: '' });
    expect(place.isRestored(place.before)).toBe(true);
  });

  it.each(SHELLS)('verifies DELTA, FULL and restored disk under %s', async (shell) => {
    const run = await place.run(shell, place.deltaPath, ['AutoRun', 'DELTA', 'full', 'noerrors', 'exit'], {
      env,
    });
    expect(run.stdout).toContain('CHECKSUMS ALL GOOD IN DELTA FILE');
    expect(run.stdout).toContain('CHECKSUMS ALL GOOD IN FULL BACKUP');
    expect(run.status).toBe(0);
    writeFileSync(place.flat, place.after.bytes());
    expect((await place.run(shell, place.deltaPath, ['autorun', 'verify'], { env })).status).toBe(0);
    const wrong = place.after.bytes();
    wrong[1_500_000] = wrong[1_500_000]! ^ 1;
    writeFileSync(place.flat, wrong);
    const bad = await place.run(shell, place.deltaPath, ['autorun', 'verify'], { env });
    expect(bad.status).toBe(3);
    expect(bad.stderr).toContain('region 1');
  });

  it('works with a dd that knows neither whole blocks nor byte counts', async () => {
    const old = join(place.root, 'old-dd');
    if (!existsSync(old)) {
      linkFolder(old, {});
      const script = `#!/bin/sh\nfor each; do case $each in *iflag=*) echo "dd: unknown operand $each" >&2; exit 1;; esac; done\nexec ${locate('dd')} "$@"\n`;
      writeFileSync(join(old, 'dd'), script, { mode: 0o755 });
    }
    const path = `${old}:${place.path('dash')}`;
    const run = await place.run('dash', place.deltaPath, ['autorun', 'restore', 'delta', 'full'], {
      env,
      path,
    });
    expect(run, run.stderr).toMatchObject({ status: 0 });
    expect(place.isRestored(place.after)).toBe(true);
  });
});

describe('finding and refusing the FULL', () => {
  let place: Place;
  beforeAll(async () => {
    place = await Place.make();
  });
  afterAll(() => place.remove());
  afterEach(() => {
    place.emptyOut();
    place.put();
  });

  it('is found by its digest when both archives were renamed', async () => {
    const fullPath = join(place.fullPath, '..', 'some old backup.phd');
    const deltaPath = join(place.deltaPath, '..', '-moved $(touch canary).phd');
    renameSync(place.fullPath, fullPath);
    renameSync(place.deltaPath, deltaPath);
    const run = await place.run('dash', deltaPath, ['autorun', 'restore']);
    expect(run, run.stderr).toMatchObject({ status: 0 });
    expect(place.isRestored(place.after)).toBe(true);
    rmSync(fullPath);
    rmSync(deltaPath);
  });

  it('is missed with status 4 and named', async () => {
    rmSync(place.fullPath);
    const run = await place.run('dash', place.deltaPath, ['autorun', 'restore']);
    expect(run.status).toBe(4);
    expect(run.stderr).toContain(place.full.fileName);
    expect(place.outNames()).toEqual([]);
  });

  it.each(['gzip', 'zstd', 'lzop', 'encrypted'])(
    'of another disk under the right name is refused before anything is written (%s)',
    async (kind) => {
      const codec = kind === 'encrypted' ? 'gzip' : (kind as 'gzip');
      const passphrases = kind === 'encrypted' ? ['system'] : [];
      const other = await Place.make({ codec, passphrases });
      // The same but for one block, and padded to the same size where only the size tells them apart.
      const foreign = await writeFull(other.before.copy().set(3, noise(4096, 77)), { codec, passphrases });
      writeFileSync(other.fullPath, foreign.bytes);
      const run = await other.run('busybox ash', other.deltaPath, ['autorun', 'restore'], {
        env: { USE_SPASS: 'system' },
      });
      expect(run.status).toBe(3);
      expect(other.outNames()).toEqual([]);
      other.remove();
    },
  );

  it.each([
    ['cut at a member border', (full: Buffer, at: number) => full.subarray(0, at)],
    ['cut inside a member', (full: Buffer, at: number) => full.subarray(0, at + 9)],
    ['with a member appended', (full: Buffer) => Buffer.concat([full, full.subarray(full.length - 218)])],
    ['with garbage appended', (full: Buffer) => Buffer.concat([full, Buffer.from('garbage')])],
    [
      'with one flipped bit',
      (full: Buffer, at: number) =>
        Buffer.concat([
          full.subarray(0, at + 900),
          Buffer.from([full[at + 900]! ^ 4]),
          full.subarray(at + 901),
        ]),
    ],
  ])('%s is an error, or the disk is right all the same', async (_name, damage) => {
    writeFileSync(place.fullPath, damage(place.full.bytes, place.full.members[300]!.offset));
    for (const shell of SHELLS) {
      place.emptyOut();
      const run = await place.run(shell, place.deltaPath, ['autorun', 'restore']);
      if (run.status === 0) expect(place.isRestored(place.after)).toBe(true);
      else {
        expect([1, 3]).toContain(run.status);
        expect(place.outNames()).toEqual([]);
      }
      const verified = await place.run(shell, place.deltaPath, ['autorun', 'full']);
      expect(verified.status).not.toBe(0);
    }
  });

  it('of the same content packed anew is read whole', async () => {
    const again = await writeFull(place.before, {
      identity: { host: 'another name, so that offsets differ' },
    });
    writeFileSync(place.fullPath, again.bytes);
    const run = await place.run('dash', place.deltaPath, ['autorun', 'restore']);
    expect(run, run.stderr).toMatchObject({ status: 0 });
    expect(place.isRestored(place.after)).toBe(true);
  });
});

describe('the goal', () => {
  let place: Place;
  beforeAll(async () => {
    place = await Place.make({ createType: 'monolithicFlat' });
  });
  afterAll(() => place.remove());
  afterEach(() => place.emptyOut());

  it('is left alone if it exists, until the word overwrite is given; zeros are then written too', async () => {
    const dirty = Buffer.alloc(place.after.diskBytes, 0xa5);
    writeFileSync(place.flat, dirty);
    for (const shell of SHELLS) {
      const refused = await place.run(shell, place.deltaPath, ['autorun', 'restore']);
      expect(refused.status).toBe(1);
      expect(refused.stderr).toContain('overwrite');
      expect(readFileSync(place.flat).equals(dirty)).toBe(true);
      const run = await place.run(shell, place.deltaPath, ['autorun', 'restore', 'overwrite']);
      expect(run, run.stderr).toMatchObject({ status: 0 });
      expect(place.isRestored(place.after)).toBe(true);
      writeFileSync(place.flat, dirty);
    }
  });

  it('of another size is refused with both figures', async () => {
    writeFileSync(place.flat, Buffer.alloc(4096));
    const run = await place.run('dash', place.deltaPath, ['autorun', 'restore', 'overwrite']);
    expect(run.status).toBe(1);
    expect(run.stderr).toContain('4096');
    expect(run.stderr).toContain(String(place.after.diskBytes));
  });

  it('that fails half-way has an empty first block', async () => {
    writeFileSync(place.flat, Buffer.alloc(place.after.diskBytes, 0xa5));
    writeFileSync(place.fullPath, place.full.bytes.with(place.full.members[500]!.offset + 700, 1));
    const run = await place.run('dash', place.deltaPath, ['autorun', 'restore', 'overwrite']);
    expect(run.status).toBe(3);
    expect(readFileSync(place.flat).subarray(0, 4096).equals(Buffer.alloc(4096))).toBe(true);
    place.put();
  });

  it('holds holes where the disk is zero', async () => {
    await place.run('dash', place.deltaPath, ['autorun', 'restore']);
    expect(blocksOnDisk(place.flat) * 512).toBeLessThan(place.after.diskBytes * 0.6);
  });

  it('may be named by USE_RFULL_PATH, and has a stub of the type of the source', async () => {
    const named = join(place.out, 'it\'s $(new) "q"');
    mkdirSync(named);
    const env = { USE_RFULL_PATH: join(named, 'other.vmdk') };
    const run = await place.run('busybox ash', place.deltaPath, ['auto', 'run', 'restore', 'no', 'errors'], {
      env,
    });
    expect(run, run.stderr).toMatchObject({ status: 0 });
    expect(place.isRestored(place.after, join(named, 'other-flat.vmdk'))).toBe(true);
    const stub = readFileSync(join(named, 'other.vmdk'), 'utf8');
    expect(stub).toContain('createType="monolithicFlat"');
    expect(stub).toContain(`RW ${place.after.diskBytes / 512} FLAT "other-flat.vmdk" 0`);
  });

  it('on a full volume fails with status 6 and leaves nothing', async () => {
    const small = join(place.root, 'small');
    mkdirSync(small);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=400k', 'tmpfs', small]);
    try {
      for (const path of [place.path('dash'), noDf(place)]) {
        const run = await place.run('dash', place.deltaPath, ['autorun', 'restore'], {
          env: { USE_RPATH: small },
          path,
        });
        expect(run, run.stderr).toMatchObject({ status: 6 });
        expect(run.stderr).toContain('no room');
        expect(execFileSync('ls', ['-A', small], { encoding: 'utf8' })).toBe('');
      }
    } finally {
      execFileSync('umount', [small]);
    }
  });
});

const TOOLS = 'dd gzip awk sed od cut cat tr wc head tail mkfifo mktemp mv rm stty sha256sum mkdir'.split(
  ' ',
);

/** PATH of just the tools that the program says it needs. */
function noDf(place: Place): string {
  const folder = join(place.root, 'tools');
  return existsSync(folder)
    ? folder
    : linkFolder(folder, Object.fromEntries(TOOLS.map((tool) => [tool, locate(tool)])));
}

describe('odd disks', () => {
  const B = 4096;
  const cases: [string, MemoryDisk, MemoryDisk][] = [
    ['smaller than a block', MemoryDisk.from(noise(1000, 1), B), MemoryDisk.from(noise(1000, 2), B)],
    ['of one block that became zero', MemoryDisk.from(noise(B, 1), B), new MemoryDisk(B, B)],
    ['all zero, and still', new MemoryDisk(300 * B + 5, B), new MemoryDisk(300 * B + 5, B)],
    ['all changed', MemoryDisk.from(noise(20 * B, 1), B), MemoryDisk.from(noise(20 * B, 2), B)],
    [
      'with a short zero block at its end',
      MemoryDisk.from(noise(9 * B + 77, 3), B),
      MemoryDisk.from(noise(9 * B, 4), B),
    ],
    [
      'of blocks of 1 MiB',
      MemoryDisk.from(noise(3 << 20, 5), 1 << 20),
      MemoryDisk.from(noise(3 << 20, 5), 1 << 20),
    ],
  ];
  cases[4]![2] = cases[4]![1].copy().set(9, null);

  it.each(cases)('%s are restored, into a new file and over a dirty one', async (_name, before, after) => {
    const place = await Place.make({ before, after, identity: { disk: 'raw image' } });
    const flat = join(place.out, 'raw image');
    for (const shell of SHELLS) {
      place.emptyOut();
      const run = await place.run(shell, place.deltaPath, ['autorun', 'delta', 'restore', 'full']);
      expect(run, run.stderr).toMatchObject({ status: 0, stderr: '' });
      expect(place.isRestored(after, flat)).toBe(true);
      expect(place.outNames()).toEqual(['raw image']);
      writeFileSync(flat, Buffer.alloc(after.diskBytes, 0x11));
      const over = await place.run(shell, place.deltaPath, ['autorun', 'restore', 'overwrite']);
      expect(over, over.stderr).toMatchObject({ status: 0 });
      expect(place.isRestored(after, flat)).toBe(true);
    }
    place.remove();
  });

  it('of more than 4 GiB keep their offsets', async () => {
    const blockBytes = 1 << 20;
    const before = new MemoryDisk(4_300 * blockBytes, blockBytes);
    before.set(1, noise(blockBytes, 1)).set(4_299, noise(blockBytes, 2));
    const after = before.copy().set(4_290, noise(blockBytes, 3));
    const place = await Place.make({ before, after });
    const run = await place.run('dash', place.deltaPath, ['autorun', 'restore']);
    expect(run, run.stderr).toMatchObject({ status: 0, stderr: '' });
    expect(statSync(place.flat).size).toBe(4_300 * blockBytes);
    const file = openSync(place.flat, 'r');
    for (const block of [1, 2, 4_290, 4_298, 4_299]) {
      const got = Buffer.alloc(blockBytes);
      readSync(file, got, 0, blockBytes, block * blockBytes);
      expect(got.equals(after.get(block) ?? Buffer.alloc(blockBytes))).toBe(true);
    }
    closeSync(file);
    place.remove();
  });
});

describe('passphrases', () => {
  let place: Place;
  beforeAll(async () => {
    place = await Place.make({ passphrases: PASSPHRASES });
  });
  afterAll(() => place.remove());
  afterEach(() => {
    expect(place.leftovers()).toEqual([]);
    place.emptyOut();
  });

  it.each([
    ['system', { USE_SPASS: PASSPHRASES[0]! }],
    ['master', { USE_MPASS: PASSPHRASES[1]! }],
    ['own words for both', { USE_DPASS: PASSPHRASES[0]!, USE_FPASS: PASSPHRASES[1]! }],
    ['wrong system and right master', { USE_SPASS: 'wrong', USE_MPASS: PASSPHRASES[1]! }],
  ])('%s opens both archives', async (_name, env) => {
    for (const shell of SHELLS) {
      place.emptyOut();
      const run = await place.run(shell, place.deltaPath, ['autorun', 'restore'], { env });
      expect(run, run.stderr).toMatchObject({ status: 0 });
      expect(place.isRestored(place.after)).toBe(true);
      // Parts that no random name of a folder can hold.
      expect(run.stdout + run.stderr).not.toMatch(/sy'|stem \$|\(pass\)|master "|"pass"/);
    }
  });

  it('missing or wrong ones end with status 7 and leave nothing', async () => {
    const wrong: Record<string, string>[] = [
      {},
      { USE_SPASS: 'wrong' },
      { USE_SPASS: PASSPHRASES[1]! },
      { USE_SPASS: '' },
    ];
    for (const env of wrong) {
      const run = await place.run('dash', place.deltaPath, ['autorun', 'restore'], { env });
      expect(run.status).toBe(7);
      expect(run.stderr.trim().split('\n')).toHaveLength(1);
      expect(place.outNames()).toEqual([]);
    }
  });

  it('of the FULL that differ from those of the DELTA are taken from USE_FPASS', async () => {
    const other = await writeFull(place.before, { passphrases: ['of the full'] });
    const delta = await writeDelta(other, place.after, { passphrases: ['of the delta'] });
    const folder = join(place.root, 'two');
    mkdirSync(folder);
    writeFileSync(join(folder, other.fileName), other.bytes);
    writeFileSync(join(folder, delta.fileName), delta.bytes);
    const right = { USE_DPASS: 'of the delta', USE_FPASS: 'of the full' };
    expect(
      (await place.run('dash', join(folder, delta.fileName), ['autorun', 'restore'], { env: right })).status,
    ).toBe(0);
    expect(place.isRestored(place.after)).toBe(true);
    const wrong = { USE_DPASS: 'of the delta', USE_FPASS: 'of the delta' };
    const run = await place.run('dash', join(folder, delta.fileName), ['autorun', 'full'], { env: wrong });
    expect(run.status).toBe(7);
    expect(run.stderr).toMatch(/^Error: .*FULL.*\n$/);
  });
});

describe('on an ESX host', () => {
  it('vmkfstools makes the disk, which is then filled, and vim-cmd registers the VMX after a yes', async () => {
    const content = Buffer.from('displayName = "x"\n');
    const before = MemoryDisk.from(noise(64 * 4096, 1), 4096);
    const place = await Place.make({
      before,
      after: before.copy().set(0, noise(4096, 2)).set(9, null),
      files: [{ kind: 'vmx', name: 'my vm.vmx', content }],
    });
    const tools = join(place.root, 'esx');
    mkdirSync(tools);
    const log = join(place.root, 'esx.log');
    const record = `for each; do printf '[%s]' "$each"; done >>"${log}"; echo >>"${log}"`;
    const make = `#!/bin/sh\n${record}\nfor goal; do :; done\necho host >"$goal"\ndd if=/dev/null of="\${goal%.vmdk}-flat.vmdk" bs=1 count=0 seek=262144 2>/dev/null\n`;
    writeFileSync(join(tools, 'vmkfstools'), make, { mode: 0o755 });
    writeFileSync(join(tools, 'vim-cmd'), `#!/bin/sh\n${record}\n`, { mode: 0o755 });
    const path = `${tools}:${place.path('busybox ash')}`;
    const run = await place.run('busybox ash', place.deltaPath, ['autorun', 'restore'], { path });
    expect(run, run.stderr).toMatchObject({ status: 0, stderr: '' });
    expect(place.isRestored(place.after)).toBe(true);
    expect(readFileSync(join(place.out, 'RedHat_VM1.vmdk'), 'utf8')).toBe('host\n');
    const input = `V\n1\n${place.out}\nyes\nQ\n`;
    expect((await place.run('busybox ash', place.deltaPath, [], { path, input })).status).toBe(0);
    expect(readFileSync(log, 'utf8')).toBe(
      `[-c][256k][-a][lsilogic][${place.out}/RedHat_VM1.vmdk]\n[solo/registervm][${place.out}/my vm.vmx]\n`,
    );
    place.remove();
  });
});

describe('flags that the caller gave its shell', () => {
  it.each(['dash -fC', 'bash --posix -fC'] as string[] as ShellName[])(
    'change nothing under %s',
    async (shell) => {
      const place = await Place.make({ codec: 'gzip', passphrases: [] });
      try {
        const run = await place.run(shell, place.deltaPath, ['autorun', 'restore', 'verify']);
        expect(run, run.stderr).toMatchObject({ status: 0, stderr: '' });
        expect(place.isRestored(place.after)).toBe(true);
      } finally {
        place.remove();
      }
    },
  );
});
