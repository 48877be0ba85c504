/** Which passphrase opens what, and that none is ever shown. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { changeImage, type TestVm } from '../support/disk-images.ts';
import { type BackedUp, fileDigest, HOOK_TIMEOUT_MS, linesOf, MIB, namesIn, only, Tale } from './tale.ts';

const SYSTEM = 'the canary of the system';
const MASTER = 'the canary of the masters';

let tale: Tale;
let vm: TestVm;
let delta: BackedUp;
const said: string[] = [];

beforeAll(async () => {
  tale = new Tale({ config: 'encryption: { systemPassphraseFile: system, masterPassphraseFile: master }\n' });
  tale.home.write('system', `${SYSTEM}\n`);
  tale.home.write('master', MASTER);
  tale.home.write('other', 'another passphrase');
  vm = await tale.makeVm('Safe', [{ name: 'Safe.vmdk', sizeBytes: 3 * MIB }]);
  await tale.backup(vm.folder, ['--encrypt']);
  await changeImage(vm.disks[0]?.flatPath ?? '', 2, 'after the FULL');
  const result = await tale.backup(vm.folder, ['--encrypt']);
  said.push(result.run.stdout, result.run.stderr);
  delta = only(result.disks);
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());

async function restoreWith(encryption: string) {
  tale.configure({ config: encryption === '' ? '' : `encryption: { ${encryption} }\n` });
  const to = tale.newFolder();
  const run = await tale.phd(['restore', delta.archive, '--to', to, '--json']);
  said.push(run.stdout, run.stderr);
  return { run, to };
}

describe('An encrypted pair', () => {
  it('says so in its names, and holds nothing of the disk in clear', () => {
    expect(delta.mode).toBe('delta');
    expect(delta.archive).toContain('.delta.gpg-');
    expect(delta.full).toContain('.gz.gpg-');
    const vmx = readFileSync(path.join(vm.folder, 'Safe.vmx'), 'latin1').split('\n')[2] as string;
    for (const archive of [delta.full, delta.archive]) {
      const content = readFileSync(tale.file(archive), 'latin1');
      expect(content).not.toContain(vmx);
      expect(content).not.toMatch(/canary/);
    }
  });

  const good: [string, string][] = [
    ['both passphrases', 'systemPassphraseFile: system, masterPassphraseFile: master'],
    ['the master passphrase alone', 'masterPassphraseFile: master'],
    ['a former passphrase', 'systemPassphraseFile: other, formerPassphraseFiles: [other, system]'],
  ];
  it.each(good)('restores with %s', async (_name, encryption) => {
    const { run, to } = await restoreWith(encryption);
    expect(run.status, run.stderr).toBe(0);
    expect(fileDigest(path.join(to, 'Safe-flat.vmdk'))).toBe(fileDigest(vm.disks[0]?.flatPath ?? ''));
  });

  const bad: [string, string, string][] = [
    ['a wrong passphrase', 'systemPassphraseFile: other', 'PASSPHRASE_WRONG'],
    ['no passphrase', '', 'PASSPHRASE_MISSING'],
  ];
  it.each(bad)('ends with status 7 with %s, and writes nothing', async (_name, encryption, code) => {
    const { run, to } = await restoreWith(encryption);
    expect(run.status).toBe(7);
    expect(linesOf(run, 'error')).toMatchObject([{ archive: delta.archive, code }]);
    expect(namesIn(to)).toEqual([]);
  });

  it('a passphrase file that is lost keeps nobody from archives that are plain', async () => {
    const plain = await tale.makeVm('Open', [{ name: 'Open.vmdk', sizeBytes: MIB }]);
    const { archive } = only((await tale.backup(plain.folder, ['--plain'])).disks);
    tale.configure({ config: 'encryption: { systemPassphraseFile: lost }\n' });
    const to = tale.newFolder();
    const run = await tale.phd(['restore', archive, '--to', to]);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).toMatch(/lost.*archives that are encrypted cannot be opened/);
    expect(fileDigest(path.join(to, 'Open-flat.vmdk'))).toBe(fileDigest(plain.disks[0]?.flatPath ?? ''));
    const sealed = await tale.phd(['restore', delta.archive, '--to', tale.newFolder()]);
    expect(sealed.status).not.toBe(0);
    expect(sealed.stderr).toContain('lost');
  });

  it('is not made without a system passphrase', async () => {
    tale.configure({});
    const run = await tale.phd(['backup', vm.folder, '--encrypt']);
    expect(run.status).toBe(7);
    expect(run.stderr).toContain('no system passphrase is configured');
  });

  it('no passphrase was ever printed or logged', async () => {
    const log = await tale.phd(['log']);
    said.push(...tale.ownTexts());
    expect(said.length).toBeGreaterThan(12);
    expect([...said, log.stdout, log.stderr].join('\n')).not.toMatch(/canary/);
  });
});
