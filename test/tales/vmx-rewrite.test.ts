/** A VM restored to another place: its VMX is fitted, every changed line is shown, the archived one stays beside it. */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HOOK_TIMEOUT_MS, linesOf, MIB, Tale } from './tale.ts';

let tale: Tale;
let archived: string;
let archive: string;

beforeAll(async () => {
  tale = new Tale();
  const disks = ['Web.vmdk', 'Web_1.vmdk'].map((name) => ({ name, sizeBytes: 2 * MIB }));
  const vm = await tale.makeVm('Web', disks);
  appendFileSync(
    vm.vmxPath,
    [
      'ethernet0.present = "TRUE"',
      'ethernet0.addressType = "static"',
      'ethernet0.address = "00:50:56:00:00:07"',
      'serial0.present = "TRUE"',
      'serial0.fileName = "/vmfs/volumes/gone/console.txt"',
      'sched.swap.dir = "/vmfs/volumes/gone"',
      '',
    ].join('\n'),
  );
  archived = readFileSync(vm.vmxPath, 'utf8');
  const { disks: done } = await tale.backup(vm.folder);
  archive = done[0]?.archive ?? '';
}, HOOK_TIMEOUT_MS);
afterAll(() => tale.remove());

const setting = (text: string, key: string): string | undefined =>
  new RegExp(`^${key.replaceAll('.', '\\.')} = "(.*)"$`, 'im').exec(text)?.[1];

describe('phd vmx --rewrite', () => {
  it('shows the changed lines without writing, if asked', async () => {
    const folder = tale.newFolder();
    const { status, stdout } = await tale.phd([
      'vmx',
      archive,
      '--to',
      folder,
      '--rewrite',
      'copy',
      '--dry-run',
    ]);
    expect(status).toBe(0);
    expect(stdout).toContain('+ ethernet0.startConnected = "FALSE"');
    expect(stdout).toContain('- sched.swap.dir = "/vmfs/volumes/gone"');
    expect(stdout).toContain('+ scsi0:0.present = "FALSE"');
    expect(existsSync(folder)).toBe(false);
  });

  it('refuses words that make no sense, before anything is read', async () => {
    for (const words of [['--rewrite', 'sideways'], ['--dry-run'], ['--display-name', 'x']]) {
      const { status, stderr } = await tale.phd(['vmx', archive, '--to', tale.newFolder(), ...words]);
      expect({ status, isTold: /--rewrite|--dry-run|--display-name/.test(stderr) }).toEqual({
        status: 2,
        isTold: true,
      });
    }
    expect((await tale.phd(['restore', archive, '--to', tale.newFolder(), '--rewrite', 'copy'])).status).toBe(
      2,
    );
  });
});

describe('phd restore --vmx --rewrite', () => {
  it('makes a copy with its own UUID and MAC, its disks connected, its network unplugged', async () => {
    const folder = tale.newFolder();
    const words = ['--vmx', '--rewrite', 'copy', '--display-name', 'Web copy'];
    const { status, stdout } = await tale.phd(['restore', '--vm', 'Web', '--to', folder, ...words]);
    expect(status).toBe(0);
    const vmx = readFileSync(path.join(folder, 'Web.vmx'), 'utf8');
    expect(setting(vmx, 'displayName')).toBe('Web copy');
    expect(setting(vmx, 'uuid.action')).toBe('create');
    expect(setting(vmx, 'uuid.bios')).not.toBe(setting(archived, 'uuid.bios'));
    expect(setting(vmx, 'ethernet0.address')).toMatch(/^00:50:56:[0-3][0-9a-f](:[0-9a-f]{2}){2}$/);
    expect(setting(vmx, 'ethernet0.address')).not.toBe('00:50:56:00:00:07');
    expect(setting(vmx, 'ethernet0.startConnected')).toBe('FALSE');
    expect(setting(vmx, 'serial0.startConnected')).toBe('FALSE');
    expect(setting(vmx, 'scsi0:0.fileName')).toBe('Web.vmdk');
    expect(setting(vmx, 'scsi0:1.fileName')).toBe('Web_1.vmdk');
    expect(setting(vmx, 'scsi0:1.present')).not.toBe('FALSE');
    expect(readFileSync(path.join(folder, 'Web.vmx.original'), 'utf8')).toBe(archived);
    expect(stdout).toContain(`+ uuid.bios = "${setting(vmx, 'uuid.bios')}"`);
  });

  it('moves a single disk under another name and disconnects the one that is not there', async () => {
    const folder = tale.newFolder();
    const words = ['--name', 'System.vmdk', '--vmx', '--rewrite', 'moved'];
    expect((await tale.phd(['restore', archive, '--to', folder, ...words])).status).toBe(0);
    const vmx = readFileSync(path.join(folder, 'Web.vmx'), 'utf8');
    expect(setting(vmx, 'uuid.action')).toBe('keep');
    expect(setting(vmx, 'uuid.bios')).toBe(setting(archived, 'uuid.bios'));
    expect(setting(vmx, 'ethernet0.address')).toBe('00:50:56:00:00:07');
    expect(setting(vmx, 'scsi0:0.fileName')).toBe('System.vmdk');
    expect(setting(vmx, 'scsi0:1.present')).toBe('FALSE');
  });

  it('does the same as a job, before the other disks of the VM are there', async () => {
    const folder = tale.newFolder();
    const words = ['--vmx', '--rewrite', 'copy', '--background', '--json'];
    const queued = await tale.phd(['restore', '--vm', 'Web', '--to', folder, ...words]);
    expect(queued.status).toBe(0);
    const [first] = linesOf(queued, 'queued');
    expect((await tale.phd(['job', 'run', String(first?.job)])).status).toBe(0);
    expect(existsSync(path.join(folder, 'Web_1.vmdk'))).toBe(false);
    const vmx = readFileSync(path.join(folder, 'Web.vmx'), 'utf8');
    expect(setting(vmx, 'scsi0:1.fileName')).toBe('Web_1.vmdk');
    expect(setting(vmx, 'scsi0:1.present')).not.toBe('FALSE');
    expect(setting(vmx, 'uuid.action')).toBe('create');
  });
});
