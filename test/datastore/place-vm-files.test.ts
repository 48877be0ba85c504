import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ArchivedFile, placeVmFiles } from '../../src/datastore/place-vm-files.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'phd-place-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const file = (kind: ArchivedFile['kind'], name: string, content = 'x'): ArchivedFile => ({
  kind,
  name,
  bytes: Buffer.from(content),
});

describe('the files of a VM', () => {
  it('are written into a folder that is made for them; descriptors come with their disks', async () => {
    const goal = join(folder, 'new', 'CRM');
    const files = [
      file('vmx', 'CRM.vmx', 'a = "1"\n'),
      file('nvram', 'CRM.nvram'),
      file('log', 'vmware.log'),
    ];
    const placed = await placeVmFiles(goal, [...files, file('descriptor', 'CRM.vmdk')]);
    expect(placed.failed).toEqual([]);
    expect(readdirSync(goal).sort()).toEqual(['CRM.nvram', 'CRM.vmx', 'vmware.log']);
    expect(readFileSync(join(goal, 'CRM.vmx'), 'utf8')).toBe('a = "1"\n');
  });

  it.each<[ArchivedFile['kind'], string]>([
    ['vmx', '../CRM.vmx'],
    ['vmx', '/etc/cron.d/x.vmx'],
    ['vmx', 'authorized_keys'],
    ['nvram', '.bashrc'],
    ['log', 'a\n.log'],
    ['vmsd', '..'],
  ])('that bear a hostile name are not written, the others are: %s %j', async (kind, name) => {
    const placed = await placeVmFiles(folder, [file(kind, name), file('log', 'good.log')]);
    expect(placed.failed).toMatchObject([{ name, error: { code: 'ARCHIVE_DAMAGED' } }]);
    expect(readdirSync(folder)).toEqual(['good.log']);
  });

  it('never replace others', async () => {
    writeFileSync(join(folder, 'CRM.vmx'), 'mine');
    const placed = await placeVmFiles(folder, [file('vmx', 'CRM.vmx'), file('log', 'a.log')]);
    expect(placed.failed).toMatchObject([{ name: 'CRM.vmx', error: { code: 'EXISTS' } }]);
    expect(readFileSync(join(folder, 'CRM.vmx'), 'utf8')).toBe('mine');
    expect(placed.written).toEqual([join(folder, 'a.log')]);
  });

  it('fit the new place if asked: the changes are shown, the old VMX is kept beside', async () => {
    const old = 'displayName = "CRM"\nuuid.bios = "x"\n';
    const placed = await placeVmFiles(folder, [file('vmx', 'CRM.vmx', old)], {
      displayName: 'CRM copy',
      diskFiles: new Map(),
      identity: 'keep',
      disconnectNetwork: true,
      pathExists: () => true,
    });
    expect(readFileSync(join(folder, 'CRM.vmx.original'), 'utf8')).toBe(old);
    expect(readFileSync(join(folder, 'CRM.vmx'), 'utf8')).toContain('displayName = "CRM copy"\n');
    expect(placed.changes[0]).toEqual({
      lineNumber: 1,
      before: 'displayName = "CRM"',
      after: 'displayName = "CRM copy"',
    });
  });
});
