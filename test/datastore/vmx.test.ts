import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { escapeValue, parseVmx, printVmxUuid, vmxDisks, vmxUuid } from '../../src/datastore/vmx.ts';
import { rewriteVmx, type VmxRewrite } from '../../src/datastore/vmx-rewrite.ts';
import type { PhdError } from '../../src/errors.ts';

const VMX = `#!/usr/bin/vmware
.encoding = "UTF-8"
displayName = "Fedora |22test|22 VM"
uuid.bios = "56 4d 1e 34 43 64 18 08-23 fd e5 65 65 ad d9 65"
uuid.location = "56 4d 1e 34 43 64 18 08-23 fd e5 65 65 ad d9 65"
nvram = "Fedora_VM1.nvram"
scsi0.present = "TRUE"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "Fedora_VM1.vmdk"
scsi0:0.deviceType = "scsi-hardDisk"
SCSI0:12.FileName = "second.vmdk"
scsi0:12.present = "true"
scsi0:3.present = "FALSE"
scsi0:3.fileName = "gone.vmdk"
scsi1.present = "FALSE"
scsi1:0.fileName = "off.vmdk"
ide0:0.present = TRUE
ide0:0.fileName = ide.vmdk
ide1:0.present = "TRUE"
ide1:0.deviceType = "cdrom-image"
ide1:0.fileName = "/iso/a.iso"
ide1:1.present = "TRUE"
ide1:1.deviceType = "atapi-cdrom"
ide1:1.fileName = "auto detect"
sata0:1.fileName = "/vmfs/volumes/other/far.vmdk"
nvme0:0.fileName = "fast.vmdk"
ethernet0.present = "TRUE"
ethernet0.generatedAddress = "00:0c:29:43:64:18"
ethernet1.present = "TRUE"
ethernet1.address = "00:50:56:aa:bb:cc"
sched.swap.derivedName = "/vmfs/volumes/old/x.vswp"
`;

const parse = (text: string | Buffer) => parseVmx(Buffer.from(text as string), 'a.vmx');

function rewrite(text: string | Buffer, change: Partial<VmxRewrite> = {}) {
  return rewriteVmx(Buffer.from(text as string), {
    diskFiles: new Map(vmxDisks(parse(text)).map(({ slot, fileName }) => [slot, fileName])),
    identity: 'keep',
    disconnectNetwork: false,
    pathExists: () => true,
    ...change,
  });
}

describe('a VMX', () => {
  it('gives values whatever the case of their keys, with escapes undone', () => {
    const { values, encoding, duplicates } = parse(VMX);
    expect(values.get('displayname')).toBe('Fedora "test" VM');
    expect(values.get('ide0:0.filename')).toBe('ide.vmdk');
    expect({ encoding, duplicates }).toEqual({ encoding: 'UTF-8', duplicates: [] });
  });

  it('names the disks that are connected, and no CD drives', () => {
    expect(vmxDisks(parse(VMX)).map(({ slot, scsiId, fileName }) => [slot, scsiId, fileName])).toEqual([
      ['scsi0:0', '00', 'Fedora_VM1.vmdk'],
      ['scsi0:12', '012', 'second.vmdk'],
      ['sata0:1', '01', '/vmfs/volumes/other/far.vmdk'],
      ['ide0:0', '00', 'ide.vmdk'],
      ['nvme0:0', '00', 'fast.vmdk'],
    ]);
  });

  it('reads CRLF, comments behind values and blank lines', () => {
    const { values, lineEnd } = parse('# a\r\n\r\ndisplayName = "x # y"  # z\r\n');
    expect(values.get('displayname')).toBe('x # y');
    expect(lineEnd).toBe('\r\n');
  });

  it.each([
    ['windows-1252', Buffer.from('G\xfcn', 'latin1'), 'Gün'],
    ['GBK', Buffer.from([0xb4, 0xc5]), '磁'],
    ['UTF-8', Buffer.from('Gün'), 'Gün'],
  ])('decodes names by the encoding it names: %s', (encoding, name, expected) => {
    const bytes = Buffer.concat([
      Buffer.from(`.encoding = "${encoding}"\ndisplayName = "`),
      name,
      Buffer.from('"\n'),
    ]);
    expect(parse(bytes).values.get('displayname')).toBe(expected);
  });

  it('takes the first of two equal keys and names them', () => {
    const vmx = parse('a = "1"\nA = "2"\n');
    expect(vmx.values.get('a')).toBe('1');
    expect(vmx.duplicates).toEqual(['a']);
  });

  it.each([
    ['too many bytes', 'a = "1"\n'.repeat(200_000)],
    ['a line without end', `a = "${'x'.repeat(20_000)}"`],
    ['NUL bytes', 'a = "1"\0'],
    ['no setting', '# nothing\n'],
  ])('is refused: %s', (_what, text) => {
    expect(() => parse(text)).toThrow(/a.vmx is not a usable VMX/);
  });

  it('never breaks on arbitrary bytes: a value or FORMAT_UNSUPPORTED', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.constantFrom(...VMX.split('\n')), (bytes, line) => {
        try {
          vmxDisks(parse(Buffer.concat([Buffer.from(`${line}\n`), bytes])));
        } catch (error) {
          expect((error as PhdError).code).toBe('FORMAT_UNSUPPORTED');
        }
      }),
    );
  });

  it('gives any value back that was escaped', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), (value) => {
        const vmx = parse(`k = "${escapeValue(value)}"\n`);
        expect(vmx.values.get('k')).toBe(value);
      }),
    );
  });

  it('writes the UUID as a block of 16 bytes, we write 8-4-4-4-12', () => {
    const uuid = '564d1e34-4364-1808-23fd-e56565add965';
    expect(vmxUuid(parse(VMX).values.get('uuid.bios'))).toBe(uuid);
    expect(vmxUuid(printVmxUuid(uuid))).toBe(uuid);
    expect(vmxUuid('56 4d')).toBeNull();
    expect(vmxUuid(undefined)).toBeNull();
  });
});

describe('the VMX for another place', () => {
  it('in the same role changes nothing but uuid.action and stale paths', () => {
    const { text, changes } = rewrite(VMX);
    expect(changes).toEqual([
      { lineNumber: 31, before: 'sched.swap.derivedName = "/vmfs/volumes/old/x.vswp"', after: null },
      { lineNumber: null, before: null, after: 'uuid.action = "keep"' },
    ]);
    expect(text).toBe(`${VMX.split('\n').slice(0, 30).join('\n')}\nuuid.action = "keep"\n`);
  });

  it('bears the new name, escaped, and the new disk files; a disk that did not come along is disconnected', () => {
    const { text } = rewrite(VMX, {
      displayName: 'a "b" | ü',
      diskFiles: new Map([['scsi0:0', 'new name.vmdk']]),
    });
    const vmx = parse(text);
    expect(vmx.values.get('displayname')).toBe('a "b" | ü');
    expect(vmxDisks(vmx).map(({ slot, fileName }) => [slot, fileName])).toEqual([
      ['scsi0:0', 'new name.vmdk'],
    ]);
  });

  it('as a copy gets another UUID and other addresses', () => {
    const uuid = '11111111-2222-3333-4444-555555555555';
    const { values } = parse(rewrite(VMX, { identity: 'new', newUuid: uuid }).text);
    expect(vmxUuid(values.get('uuid.bios'))).toBe(uuid);
    expect(values.get('uuid.action')).toBe('create');
    expect(values.has('uuid.location')).toBe(false);
    expect(values.has('ethernet0.generatedaddress')).toBe(false);
    expect(values.get('ethernet1.address')).toMatch(/^00:50:56:[0-3][0-9a-f]:[0-9a-f]{2}:[0-9a-f]{2}$/);
    expect(values.get('ethernet1.address')).not.toBe('00:50:56:aa:bb:cc');
    const random = parse(rewrite(VMX, { identity: 'new' }).text).values.get('uuid.bios');
    expect(vmxUuid(random)).toMatch(/^[0-9a-f-]{36}$/);
    expect(vmxUuid(random)).not.toBe(vmxUuid(values.get('uuid.bios')));
  });

  it('unplugs network cards and drives whose files do not exist here', () => {
    const asked: string[] = [];
    const { values } = parse(
      rewrite(VMX, {
        disconnectNetwork: true,
        pathExists: (path) => {
          asked.push(path);
          return false;
        },
      }).text,
    );
    expect(values.get('ethernet0.startconnected')).toBe('FALSE');
    expect(values.get('ethernet1.startconnected')).toBe('FALSE');
    expect(values.get('ide1:0.startconnected')).toBe('FALSE');
    expect(values.has('ide1:1.startconnected')).toBe(false);
    expect(asked).toEqual(['/iso/a.iso']);
  });

  it('names NVRAM without its old folder', () => {
    const { values } = parse(rewrite('nvram = "/old/place/x.nvram"\n').text);
    expect(values.get('nvram')).toBe('x.nvram');
  });

  it('keeps CRLF and drops the second of two equal keys', () => {
    const { text } = rewrite('a = "1"\r\nA = "2"\r\n');
    expect(text).toBe('a = "1"\r\nuuid.action = "keep"\r\n');
  });

  it('becomes UTF-8 and says so', () => {
    const { text } = rewrite(Buffer.from('.encoding = "windows-1252"\ndisplayName = "G\xfcn"\n', 'latin1'));
    expect(text).toContain('.encoding = "UTF-8"\ndisplayName = "Gün"\n');
  });

  it('lists its changes so that they turn the old text into the new', () => {
    const { text, changes } = rewrite(VMX, { identity: 'new', displayName: 'copy', disconnectNetwork: true });
    const lines: (string | null)[] = VMX.split('\n').slice(0, -1);
    for (const { lineNumber, before, after } of changes) {
      if (lineNumber === null) lines.push(after);
      else {
        expect(lines[lineNumber - 1]).toBe(before);
        lines[lineNumber - 1] = after;
      }
    }
    expect(`${lines.filter((line) => line !== null).join('\n')}\n`).toBe(text);
  });
});
