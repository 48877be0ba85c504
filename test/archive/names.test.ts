import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeName,
  encodeName,
  isPartOfArchive,
  parseArchiveName,
  parseFolderName,
  printArchiveName,
  printFolderName,
  uuidOfVm,
} from '../../src/archive/names.ts';
import type { ArchiveName, FolderName } from '../../src/model/archive.ts';

const UUID = '564d1e34-4364-1808-23fd-e56565add965';

function full(disk: string, stamp: string, more: Partial<ArchiveName> = {}): ArchiveName {
  return {
    kind: 'full',
    generation: 3,
    scsiId: '00',
    disk,
    codec: 'gzip',
    encrypted: false,
    stamp,
    fullStamp: stamp,
    ...more,
  };
}

function delta(disk: string, stamp: string, fullStamp: string, more: Partial<ArchiveName> = {}): ArchiveName {
  return { ...full(disk, stamp), kind: 'delta', codec: null, fullStamp, ...more };
}

describe('folder names', () => {
  const examples: [string, FolderName][] = [
    [
      `2008.04.07-RedHat_VM1.${UUID}.FULL`,
      { date: '2008-04-07', vm: 'RedHat_VM1', uuid: UUID, allFulls: true },
    ],
    [
      `2008.05.02-Fedora_VM1.${UUID}.FULL`,
      { date: '2008-05-02', vm: 'Fedora_VM1', uuid: UUID, allFulls: true },
    ],
    [
      '2007.09.20-CRM.564d122a-0ed7-3b92-2f46-aee9456b2074',
      { date: '2007-09-20', vm: 'CRM', uuid: '564d122a-0ed7-3b92-2f46-aee9456b2074', allFulls: false },
    ],
    [
      `2026.01.31-a-b.c d.FULL.${UUID}`,
      { date: '2026-01-31', vm: 'a-b.c d.FULL', uuid: UUID, allFulls: false },
    ],
  ];

  it.each(examples)('%s is read and printed', (entry, folder) => {
    expect(parseFolderName(entry)).toEqual(folder);
    expect(printFolderName(folder)).toBe(entry);
  });

  it('a UUID in upper case is read as lower case', () => {
    expect(parseFolderName(`2008.04.07-x.${UUID.toUpperCase()}`)?.uuid).toBe(UUID);
  });

  it.each([
    '',
    'lost+found',
    `2008.13.07-x.${UUID}`,
    `2008.02.30-x.${UUID}`,
    `2008.04.07-.${UUID}`,
    '2008.04.07-x.564d1e34',
    `2008.04.07-x.${UUID}.full.bak`,
    `2008.04.07-x\u001b[2J.${UUID}`,
    `2008.04.07-x%00y.${UUID}`,
    `2008.04.07-../x.${UUID}`,
    `2008.04.07-${'x'.repeat(300)}.${UUID}`,
  ])('%j is no folder of a run', (entry) => {
    expect(parseFolderName(entry)).toBeUndefined();
  });
});

describe('archive names', () => {
  const examples: [string, ArchiveName][] = [
    ['00-RedHat_VM1.vmdk.gz-080429-1134.phd', full('RedHat_VM1.vmdk', '2008-04-29T11:34')],
    ['00-RedHat_VM1.vmdk.gz-080407-1110.phd', full('RedHat_VM1.vmdk', '2008-04-07T11:10')],
    ['00-Fedora_VM1.vmdk.gz-080502-1113.phd', full('Fedora_VM1.vmdk', '2008-05-02T11:13')],
    ['00-CRM.vmdk.gz-070920-1601.phd', full('CRM.vmdk', '2007-09-20T16:01')],
    [
      '00-RedHat_VM1.vmdk.delta-2008.04.29-1134-080429-1134.phd',
      delta('RedHat_VM1.vmdk', '2008-04-29T11:34', '2008-04-29T11:34'),
    ],
    [
      '00-RedHat_VM1.vmdk.delta-2008.04.29-1157-080429-1134.phd',
      delta('RedHat_VM1.vmdk', '2008-04-29T11:57', '2008-04-29T11:34'),
    ],
    [
      '00-Win2K3.vmdk.delta-2007.01.29-0220-070124-2111.phd',
      delta('Win2K3.vmdk', '2007-01-29T02:20', '2007-01-24T21:11'),
    ],
    [
      '1001-dft01.vmdk.delta-2006.04.19-2001-060402',
      delta('dft01.vmdk', '2006-04-19T20:01', '2006-04-02', { generation: 2, scsiId: '1001' }),
    ],
    ['00-a.vmdk.zst-260101-0000.phd', full('a.vmdk', '2026-01-01T00:00', { codec: 'zstd' })],
    ['01-a.dsk.lzo-260101-2359.phd', full('a.dsk', '2026-01-01T23:59', { codec: 'lzop', scsiId: '01' })],
    ['00-a.vmdk.gz.gpg-260101-0000.phd', full('a.vmdk', '2026-01-01T00:00', { encrypted: true })],
    [
      '115-a.vmdk.delta.gpg-2026.01.02-0304-260101-0000.phd',
      delta('a.vmdk', '2026-01-02T03:04', '2026-01-01T00:00', { encrypted: true, scsiId: '115' }),
    ],
    [
      '00-a.gz-080429-1134.phd.delta-1.gz-260101-0000.phd',
      full('a.gz-080429-1134.phd.delta-1', '2026-01-01T00:00'),
    ],
    ['00-raw image.gz-260101-0000.phd', full('raw image', '2026-01-01T00:00')],
    ['00-50%25 %22off%22%3A %0A.vmdk.gz-260101-0000.phd', full('50% "off": \n.vmdk', '2026-01-01T00:00')],
  ];

  it.each(examples)('%s is read and printed', (entry, name) => {
    expect(parseArchiveName(entry)).toEqual(name);
    expect(printArchiveName(name)).toBe(entry);
  });

  it('a dash printed instead of a dot in the date of a DELTA is read', () => {
    expect(parseArchiveName('00-RedHat_VM1.vmdk.delta-2008-04.29-1134-080429-1134.phd')).toEqual(
      delta('RedHat_VM1.vmdk', '2008-04-29T11:34', '2008-04-29T11:34'),
    );
  });

  it.each([
    '0005-esxpressmui.vmdk',
    '0005-VisualStudio.vmdk',
    '1001-dft01.dsk',
    '1001-dft02.dsk',
    '1101-oraforms00.vmdk',
    '1101-Genrad.vmdk',
    '0006-snapshots.vmdk',
  ])('a disk under its four-digit id keeps both: %s', (listed) => {
    const [scsiId = '', disk = ''] = [listed.slice(0, 4), listed.slice(5)];
    expect(parseArchiveName(`${listed}.gz-080429-1134.phd`)).toEqual(
      full(disk, '2008-04-29T11:34', { scsiId }),
    );
  });

  it.each([
    '',
    '.',
    '..',
    'README',
    '00-a.vmdk.gz-080429-1134.phd.part',
    '00-a.vmdk.gz-081329-1134.phd',
    '00-a.vmdk.gz-080431-1134.phd',
    '00-a.vmdk.gz-080429-2434.phd',
    '00-a.vmdk.gz-080429-1160.phd',
    '0-a.vmdk.gz-080429-1134.phd',
    '00-.gz-080429-1134.phd',
    '00-a.vmdk.bz2-080429-1134.phd',
    '00-..%2F..%2Fetc%2Fpasswd.gz-080429-1134.phd',
    '00-%2E%2E.gz-080429-1134.phd',
    '00-a%00.vmdk.gz-080429-1134.phd',
    '00-../a.vmdk.gz-080429-1134.phd',
    '00-a\u001b]0;x\u0007.vmdk.gz-080429-1134.phd',
    '00-a\u009b2J.vmdk.gz-080429-1134.phd',
    '00-a\n.vmdk.gz-080429-1134.phd',
    `00-${'a'.repeat(400)}.gz-080429-1134.phd`,
    '00-a.vmdk.delta-2008.04.29-1134-080429-1134.phd ',
  ])('%j is no archive', (entry) => {
    expect(parseArchiveName(entry)).toBeUndefined();
  });

  it('no text makes the parser throw', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (entry) => {
        expect([parseArchiveName(entry), parseFolderName(entry)]).toHaveLength(2);
      }),
    );
  });

  it('a file that is being written is known by its name', () => {
    expect(isPartOfArchive('00-a.vmdk.gz-080429-1134.phd.part')).toBe(true);
    expect(isPartOfArchive('00-a.vmdk.gz-080429-1134.phd')).toBe(false);
    expect(isPartOfArchive('notes.part')).toBe(false);
  });
});

describe('names that cannot stand in a file name', () => {
  it.each([
    ['.hidden', '%2Ehidden'],
    ['-rf', '%2Drf'],
    ['a.', 'a%2E'],
    ['a ', 'a%20'],
    ['.', '%2E'],
    ['a/b\\c:d*e?f"g<h>i|j%k', 'a%2Fb%5Cc%3Ad%2Ae%3Ff%22g%3Ch%3Ei%7Cj%25k'],
    ['\u0000\u001b\u007f\u0085', '%00%1B%7F%C2%85'],
    ["it's $(me) `x`; &", "it's $(me) `x`; &"],
    ['\udc80\udcff', '%80%FF'],
  ])('%j is written as %s and read back', (name, encoded) => {
    expect(encodeName(name)).toBe(encoded);
    expect(decodeName(encoded)).toBe(name);
  });

  it('a decomposed name is written composed', () => {
    expect(encodeName('Bu\u0308ro')).toBe('B\u00fcro');
  });

  it('a percent sign of a foreign name without two hex digits stands for itself', () => {
    expect(decodeName('100%_done')).toBe('100%_done');
  });

  it('a long name is cut to 200 bytes, ending in ~ and 8 digits of the SHA-256 of the whole', () => {
    expect(encodeName('x'.repeat(200))).toBe('x'.repeat(200));
    expect(encodeName('x'.repeat(201))).toBe(`${'x'.repeat(191)}~84a0678c`);
  });

  it('a cut never splits an escape or a character, and names that differ late stay apart', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', minLength: 70 }),
        fc.constantFrom('a', '*', '\u20ac'),
        (start, filler) => {
          const one = encodeName(start + filler.repeat(200) + '1');
          const two = encodeName(start + filler.repeat(200) + '2');
          expect(Buffer.byteLength(one)).toBeLessThanOrEqual(200);
          expect(one).toMatch(/^(?:[^%]|%[0-9A-F]{2})*~[0-9a-f]{8}$/su);
          expect(one).not.toBe(two);
          // A character cut in two would show as U+FFFD that the name itself did not hold.
          if (!start.includes('\ufffd')) expect(one).not.toContain('\ufffd');
        },
      ),
    );
  });

  it('every disk, stamp, codec and id survives the way to a name and back', () => {
    const stamps = fc
      .date({
        min: new Date('2001-01-01T00:00:00Z'),
        max: new Date('2099-12-31T23:59:00Z'),
        noInvalidDate: true,
      })
      .map((date) => date.toISOString().slice(0, 16));
    const names = fc
      .record({
        disk: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }),
        scsiId: fc.stringMatching(/^\d{2,4}$/),
        codec: fc.constantFrom('gzip', 'zstd', 'lzop', null),
        encrypted: fc.boolean(),
        stamp: stamps,
        fullStamp: stamps,
      })
      .map(
        (parts): ArchiveName => ({
          ...parts,
          kind: parts.codec === null ? 'delta' : 'full',
          generation: 3,
          disk: parts.disk
            .normalize('NFC')
            .replace(/[/\0]/g, '_')
            .replace(/^\.\.?$/, '_'),
          fullStamp: parts.codec === null ? parts.fullStamp : parts.stamp,
        }),
      );
    fc.assert(
      fc.property(names, (name) => {
        expect(parseArchiveName(printArchiveName(name))).toEqual(name);
      }),
    );
  });

  it('every VM name survives the way to a folder name and back', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }),
        fc.boolean(),
        (vm, allFulls) => {
          const folder = {
            date: '2026-11-20',
            vm: vm.normalize('NFC').replaceAll('\0', '_'),
            uuid: UUID,
            allFulls,
          };
          expect(parseFolderName(printFolderName(folder))).toEqual(folder);
        },
      ),
    );
  });
});

describe('a VM without a UUID', () => {
  it('gets one of version 5 from its host and path, always the same', () => {
    const uuid = uuidOfVm('esx1', '/vmfs/volumes/a/vm/vm.vmx');
    expect(uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(uuidOfVm('esx1', '/vmfs/volumes/a/vm/vm.vmx')).toBe(uuid);
    expect(uuidOfVm('esx2', '/vmfs/volumes/a/vm/vm.vmx')).not.toBe(uuid);
  });
});
