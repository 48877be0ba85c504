import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  notPlainReason,
  parseDescriptor,
  printDescriptor,
  withExtent,
} from '../../src/datastore/descriptor.ts';
import { PhdError } from '../../src/errors.ts';

const ESX = `# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=5a3c8f01
parentCID=ffffffff
isNativeSnapshot="no"
createType="vmfs"

# Extent description
RW 10485760 VMFS "Fedora_VM1-flat.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "652"
ddb.uuid = "60 00 C2 9d 1e 34 43 64-18 08 23 fd e5 65 65 ad"
`;

const parse = (text: string | Buffer) => parseDescriptor(Buffer.from(text as string), 'disk.vmdk');

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof PhdError) return `${error.code} ${error.message}`;
    throw error;
  }
  return 'no error';
}

describe('a descriptor', () => {
  it('gives version, ids, type, extent and disk data base', () => {
    const descriptor = parse(ESX);
    expect(descriptor).toMatchObject({
      version: 1,
      encoding: 'UTF-8',
      cid: '5a3c8f01',
      parentCid: 'ffffffff',
      createType: 'vmfs',
      parentFileNameHint: null,
    });
    expect(descriptor.extents).toEqual([
      { access: 'RW', sectors: 10485760, type: 'VMFS', fileName: 'Fedora_VM1-flat.vmdk', startSector: null },
    ]);
    expect(descriptor.ddb.get('adaptertype')).toBe('lsilogic');
    expect(descriptor.ddb.get('geometry.cylinders')).toBe('652');
    expect(notPlainReason(descriptor)).toBeNull();
  });

  it('reads the same with CRLF, NUL padding and keys in other case', () => {
    const expected = parse(ESX);
    expect(parse(ESX.replaceAll('\n', '\r\n'))).toEqual(expected);
    expect(parse(Buffer.concat([Buffer.from(ESX), Buffer.alloc(700)]))).toEqual(expected);
    expect(parse(ESX.replace('createType', 'CREATETYPE').replace('CID=5a3c8f01', 'cid=5A3C8F01'))).toEqual(
      expected,
    );
  });

  it('reads names with blanks and equal signs', () => {
    const text = ESX.replace('Fedora_VM1-flat.vmdk', 'a = b (2)-flat.vmdk');
    expect(parse(text).extents[0]!.fileName).toBe('a = b (2)-flat.vmdk');
  });

  it.each([
    ['windows-1252', Buffer.from([0x47, 0xfc, 0x6e]), 'Gün'],
    ['GBK', Buffer.from([0xb4, 0xc5, 0xc5, 0xcc]), '磁盘'],
    ['Big5', Buffer.from([0xba, 0xcf, 0xba, 0xd0]), '磁碟'],
    ['Shift_JIS', Buffer.from([0x83, 0x5c, 0x83, 0x66]), 'ソデ'],
  ])('decodes names by the encoding it names: %s', (encoding, name, expected) => {
    const [before, after] = ESX.replace('UTF-8', encoding).split('Fedora_VM1');
    const bytes = Buffer.concat([Buffer.from(before!), name, Buffer.from(after!)]);
    expect(parse(bytes).extents[0]!.fileName).toBe(`${expected}-flat.vmdk`);
  });

  it.each([
    ['no first line', ESX.replace('# Disk DescriptorFile', '# A file'), 'first line'],
    ['version after another setting', ESX.replace('version=1\n', '').concat('version=1\n'), 'first setting'],
    ['a blank in version', ESX.replace('version=1', 'version = 1'), 'first setting'],
    ['version 4', ESX.replace('version=1', 'version=4'), 'first setting'],
    ['a CID that is no hex', ESX.replace('5a3c8f01', '../../x'), 'CID'],
    ['a setting that stands twice', ESX.concat('parentCID=12345678\n'), 'second time'],
    ['a line of nonsense', ESX.concat('RW many VMFS "x"\n'), 'line 18'],
    ['a NUL in the midst', ESX.replace('#DDB', '\0'), 'NUL'],
    ['an endless line', ESX.concat('#'.repeat(5000)), 'longer than'],
    [
      'an unknown encoding with a name that needs it',
      ESX.replace('UTF-8', 'EBCDIC').replace('VM1', 'ü'),
      'encoding',
    ],
    ['a size beyond 64 TiB', ESX.replace('10485760', '999999999999'), '64 TiB'],
    ['a whole disk', 'x'.repeat(5 * 1024 * 1024), 'larger than'],
  ])('is refused with the reason: %s', (_what, text, reason) => {
    const result = codeOf(() => parse(text));
    expect(result).toMatch(/^FORMAT_UNSUPPORTED disk.vmdk is not a usable descriptor/);
    expect(result).toContain(reason);
  });

  it.each([
    ['parent CID', ['parentCID=ffffffff', 'parentCID=5a3c8f01'], 'snapshot (parentCID'],
    ['no parent CID', ['parentCID=ffffffff\n', ''], 'no parentCID'],
    ['parent file', ['isNativeSnapshot="no"', 'parentFileNameHint="a.vmdk"'], 'snapshot'],
    ['vmfsSparse', ['"vmfs"', '"vmfsSparse"'], 'snapshot (vmfsSparse)'],
    ['monolithicSparse', ['"vmfs"', '"monolithicSparse"'], 'sparse'],
    ['streamOptimized', ['"vmfs"', '"streamOptimized"'], 'sparse'],
    ['two extents', ['RW 10485760', 'RW 4193792 FLAT "a-f001.vmdk" 0\nRW 10485760'], 'split (2 extents)'],
    ['split type', ['"vmfs"', '"twoGbMaxExtentFlat"'], 'split'],
    ['RDM', ['"vmfs"', '"vmfsRDM"'], 'raw-mapped'],
    ['RDM passthrough', ['"vmfs"', '"vmfsPassthroughRawDeviceMap"'], 'raw-mapped'],
    ['RDM extent', ['VMFS "', 'VMFSRDM "'], 'raw-mapped'],
    ['fullDevice', ['"vmfs"', '"fullDevice"'], 'raw-mapped'],
    ['no extent', ['RW 10485760 VMFS "Fedora_VM1-flat.vmdk"', ''], 'no extent'],
    ['ZERO extent', ['VMFS "Fedora_VM1-flat.vmdk"', 'ZERO'], 'type ZERO'],
    ['start sector', ['-flat.vmdk"', '-flat.vmdk" 63'], 'sector 63'],
    ['absolute path', ['Fedora_VM1-flat.vmdk', '/etc/shadow'], 'not a file beside it'],
    ['parent folder', ['Fedora_VM1-flat.vmdk', '../x-flat.vmdk'], 'not a file beside it'],
    ['Windows path', ['Fedora_VM1-flat.vmdk', 'C:\\x-flat.vmdk'], 'not a file beside it'],
  ])('that is not one flat disk says why: %s', (_what, [from, to], reason) => {
    expect(notPlainReason(parse(ESX.replace(from!, to!)))).toContain(reason);
  });

  it('never breaks on arbitrary bytes: a value or FORMAT_UNSUPPORTED', () => {
    const lines = fc.array(fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom(...ESX.split('\n'))));
    fc.assert(
      fc.property(lines, (parts) => {
        const result = codeOf(() => parse(`# Disk DescriptorFile\nversion=1\n${parts.join('\n')}`));
        expect(result).toMatch(/^(no error|FORMAT_UNSUPPORTED)/);
      }),
    );
  });

  it('is read as it was printed', () => {
    const text = printDescriptor({
      encoding: 'UTF-8',
      cid: '0123abcd',
      createType: 'monolithicFlat',
      extents: [{ access: 'RW', sectors: 8, type: 'FLAT', fileName: 'ü-flat.vmdk', startSector: 0 }],
      ddb: [['adapterType', 'ide']],
    });
    const descriptor = parse(text);
    expect(descriptor.extents[0]).toEqual({
      access: 'RW',
      sectors: 8,
      type: 'FLAT',
      fileName: 'ü-flat.vmdk',
      startSector: 0,
    });
    expect(descriptor.cid).toBe('0123abcd');
    expect(descriptor.ddb).toEqual(new Map([['adaptertype', 'ide']]));
  });
});

describe('the descriptor for another place', () => {
  it('differs in its extent line alone', () => {
    const moved = withExtent(ESX, 'CRM-flat.vmdk', 2048);
    expect(moved).toBe(
      ESX.replace('RW 10485760 VMFS "Fedora_VM1-flat.vmdk"', 'RW 2048 VMFS "CRM-flat.vmdk"'),
    );
  });

  it('keeps line ends, padding, start sector and odd spacing', () => {
    const odd = ESX.replace('RW 10485760 VMFS', 'rw   10485760\tFLAT').replace(
      'flat.vmdk"',
      'flat.vmdk"  0 ',
    );
    const bytes = Buffer.concat([Buffer.from(odd.replaceAll('\n', '\r\n')), Buffer.alloc(300)]);
    const expected = Buffer.from(
      bytes.toString('latin1').replace('10485760', '2048').replace('Fedora_VM1-flat', 'x-flat'),
      'latin1',
    );
    expect(withExtent(bytes, 'x-flat.vmdk', 2048).equals(expected)).toBe(true);
  });

  it('is byte for byte the same under its own name and size, in any encoding', () => {
    const [before, after] = ESX.replace('UTF-8', 'GBK').split('Fedora_VM1');
    const bytes = Buffer.concat([Buffer.from(before!), Buffer.from([0xb4, 0xc5]), Buffer.from(after!)]);
    expect(withExtent(bytes, '磁-flat.vmdk', 10485760).equals(bytes)).toBe(true);
  });

  it('writes other names in the encoding of the file, or refuses', () => {
    const western = Buffer.from(ESX.replace('UTF-8', 'windows-1252'));
    expect(
      withExtent(western, 'Gün-flat.vmdk', 8).includes(Buffer.from('"G\xfcn-flat.vmdk"', 'latin1')),
    ).toBe(true);
    expect(withExtent(ESX, 'Gün-flat.vmdk', 8)).toContain('RW 8 VMFS "Gün-flat.vmdk"');
    expect(codeOf(() => withExtent(western, '磁-flat.vmdk', 8))).toContain(
      'cannot be written in the encoding',
    );
  });

  it.each(['a"b-flat.vmdk', '../x', 'a/b', 'a\nb', '..', ''])('refuses the name %j', (name) => {
    expect(codeOf(() => withExtent(ESX, name, 8))).toMatch(/^FORMAT_UNSUPPORTED/);
  });

  it('refuses what is not the descriptor of one flat disk', () => {
    const snapshot = ESX.replace('parentCID=ffffffff', 'parentCID=5a3c8f01');
    expect(codeOf(() => withExtent(snapshot, 'x-flat.vmdk', 8))).toContain('snapshot');
  });
});
