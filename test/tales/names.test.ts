/** Names that a shell, a terminal or a file system would stumble over: backed up, listed, restored under the true name. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomLooking } from '../support/disk-images.ts';
import { HOOK_TIMEOUT_MS, linesOf, namesIn, only, type Run, Tale } from './tale.ts';

const IMAGE_BYTES = 300_032;

/** Name of a VM folder, name of its disk. */
const VMS: Record<string, [string, string]> = {
  'quotes of both kinds': [`it's "the" one`, `it's "the" disk.img`],
  'commands in it': ['$(touch PWNED) `touch PWNED` ; touch PWNED', '$(touch PWNED);`touch PWNED`&.img'],
  'blanks at its ends': [' blank ', ' blank .img'],
  'a leading dash': ['-rf', '--help.img'],
  'leading dots': ['..danger', '..danger.img'],
  'percent signs and colons': ['50%41:C*', '%2e%2e%2fa?.img'],
  'a newline': ['new\nline', 'plain.img'],
  'a control sequence': ['esc\u001b[2Jape', 'plain.img'],
  'decomposed letters': ['Mu\u0308nchen', 'Cafe\u0301.img'],
  '255 bytes': ['L'.repeat(255), `${'D'.repeat(246)}.img`],
};
const cases = Object.keys(VMS);

let tale: Tale;
let outside: string[];

beforeAll(async () => {
  tale = new Tale();
  for (const [what, [vmName, disk]] of Object.entries(VMS)) {
    mkdirSync(path.join(tale.datastore, vmName));
    writeFileSync(path.join(tale.datastore, vmName, disk), randomLooking(what, IMAGE_BYTES));
  }
  outside = readdirSync(path.dirname(tale.home.root)).filter((name) => name === 'PWNED' || name === 'a');
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());

describe('VMs and disks with hostile names', () => {
  it('are backed up, each into a folder of its own on the target, and nothing of a name is obeyed', async () => {
    const folders = cases.map((what) => path.join(tale.datastore, VMS[what]?.[0] ?? ''));
    const run = await tale.phd(['backup', '--json', ...folders], { cwd: tale.home.folder('here') });
    expect(run.status, run.stderr).toBe(0);
    expect(linesOf(run, 'done').map(({ vm }) => vm)).toEqual(cases.map((what) => VMS[what]?.[0]));
    const onTarget = readdirSync(tale.path('one')).filter((name) => name !== 'phd-configuration');
    expect(onTarget).toHaveLength(cases.length);
    for (const file of tale.filesOn('one')) {
      expect(file).toMatch(/^\d{4}\.\d\d\.\d\d-[^/]+\/00-[^/]+\.phd$/);
      expect(file).not.toMatch(/[\p{Cc}\\:*?"<>|]/u);
      for (const part of file.split('/')) expect(Buffer.byteLength(part)).toBeLessThanOrEqual(255);
    }
    expect(namesIn(tale.path('here'))).toEqual([]);
    expect(readdirSync(path.dirname(tale.home.root)).filter((name) => /^(PWNED|a)$/.test(name))).toEqual(
      outside,
    );
  });

  it('are listed: as they are in JSON, made visible for a terminal', async () => {
    await tale.phd(['index']);
    const rows = linesOf(await tale.phd(['list', '--json', '--mode', 'full']));
    for (const what of cases.filter((one) => one !== '255 bytes')) {
      const [vm, disk] = (VMS[what] ?? []).map((name) => name.normalize('NFC'));
      expect(rows, what).toContainEqual(expect.objectContaining({ vm, disk }));
    }
    expect(rows).toContainEqual(
      expect.objectContaining({ vm: expect.stringMatching(/^L{191}~[0-9a-f]{8}$/) }),
    );
    const { stdout } = await tale.phd(['list']);
    expect(stdout).not.toMatch(/[^\P{Cc}\n]/u);
    expect(stdout).toContain('esc\\x1b[2Jape');
    expect(stdout).toContain('new\\x0aline');
    expect(stdout.trim().split('\n')).toHaveLength(1 + 2 * cases.length);
  });

  it.each(cases)('with %s restore by the name of the VM under the true name of the disk', async (what) => {
    const [vm, disk] = VMS[what] ?? ['', ''];
    const to = tale.newFolder();
    const words = vm.startsWith('-') ? [`--vm=${vm}`] : ['--vm', vm];
    const { disks } = await tale.restore([...words, '--to', to], { cwd: tale.path('here') });
    expect(only(disks).disk).toBe(disk);
    expect(namesIn(to)).toEqual([disk]);
    expect(readFileSync(path.join(to, disk)).equals(randomLooking(what, IMAGE_BYTES))).toBe(true);
    expect(namesIn(tale.path('here'))).toEqual([]);
  });

  it.each(['decomposed letters', '255 bytes'])(
    'with %s are backed up as DELTA the next day, also without jobs.db',
    async (what) => {
      tale.loseState();
      const { disks } = await tale.backup(path.join(tale.datastore, VMS[what]?.[0] ?? ''));
      expect(only(disks)).toMatchObject({ mode: 'delta', changedBlocks: 0 });
    },
  );
});

describe('A disk whose name no file of a datastore should bear', () => {
  const refused: [string, string][] = [
    ['a newline', 'two\nlines.img'],
    ['a control sequence', 'esc\u001b]0;owned\u0007.img'],
    ['255 bytes, so that no .part fits', `${'x'.repeat(251)}.img`],
  ];
  it.each(refused)('(%s) is backed up, and restores under a name that is given', async (what, disk) => {
    const folder = tale.home.folder(`vmfs/odd ${what}`);
    writeFileSync(path.join(folder, disk), randomLooking(what, IMAGE_BYTES));
    const { archive } = only((await tale.backup(folder)).disks);
    const to = tale.newFolder();
    const plain: Run = await tale.phd(['restore', archive, '--to', to]);
    expect(plain.status).toBe(2);
    expect(plain.stderr).toContain('cannot be the name of a restored disk');
    expect(plain.stderr).not.toMatch(/[^\P{Cc}\n]/u);
    await tale.restore([archive, '--to', to, '--name', 'plain.img']);
    expect(readFileSync(path.join(to, 'plain.img')).equals(randomLooking(what, IMAGE_BYTES))).toBe(true);
  });
});
