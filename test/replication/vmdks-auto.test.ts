import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  parseVmdksAuto,
  printRestoreLine,
  printVmdksAuto,
  textToAppend,
} from '../../src/replication/vmdks-auto.ts';

const UUID = '564d122a-0ed7-3b92-2f46-aee9456b2074';
/** The file of the manual, as it prints it; the blank before the # is its own. */
const MANUAL = `## /etc/phd/vmdks
# Copyright PHD Technologies Inc, 2007
#
# By default, the most recent backup will be restored.
# USE_DAYS=-1 will not restore a backup newer then yesterday.
# USE_DAYS=-3 will not restore a backup newer then 3 days ago.
#
# USE_DAYS=-3
#
 # You can also set the USE_DAYS value on a per VMDK basis instead of globally.
#
RESTORE:VM_NAME|UUID_OF_VM|SCSI_ID|VMDK_NAME|Complete_Restore_Path|Use_Days
#
RESTORE:CRM|${UUID}|00|CRM.vmdk|/vmfs/volumes/ISCSI02/ronzo/CRM.vmdk
RESTORE:CRM|${UUID}|00|CRM.vmdk|/vmfs/volumes/ISCSI02/caleb/CRM.vmdk|-3
`;

const line = (fields: string): string => `RESTORE:${fields}\n`;
const only = (text: string) => {
  const { restores, faults } = parseVmdksAuto(text);
  expect(faults).toEqual([]);
  expect(restores).toHaveLength(1);
  return restores[0];
};
const faultOf = (text: string): string => {
  const { restores, faults } = parseVmdksAuto(text);
  expect(restores).toEqual([]);
  expect(faults).toHaveLength(1);
  return faults[0]?.message ?? '';
};

describe('vmdks.auto', () => {
  it('of the manual: two restores, one of them three days behind; comments and the line of field names do nothing', () => {
    const { restores, faults, days, verify, hasPassphrases } = parseVmdksAuto(MANUAL);
    expect({ faults, days, verify, hasPassphrases }).toEqual({
      faults: [],
      days: 0,
      verify: false,
      hasPassphrases: false,
    });
    const crm = { vm: 'CRM', uuid: UUID, scsiId: '00', disk: 'CRM.vmdk' };
    expect(restores).toEqual([
      { ...crm, lineNumber: 14, goal: '/vmfs/volumes/ISCSI02/ronzo/CRM.vmdk', days: null },
      { ...crm, lineNumber: 15, goal: '/vmfs/volumes/ISCSI02/caleb/CRM.vmdk', days: -3 },
    ]);
  });

  it.each([0, -1, -3, -7])('#USE_DAYS=%i holds for all lines', (days) => {
    expect(parseVmdksAuto(`#USE_DAYS=${days}\n`)).toMatchObject({ days, faults: [] });
  });

  it.each(['# USE_DAYS=-3', '##USE_DAYS=-3', '## USE_DAYS=-3', '# ARGS=verify', '##ARGS=ignore'])(
    '%s is a comment',
    (text) => {
      expect(parseVmdksAuto(text)).toMatchObject({ days: 0, verify: false, faults: [] });
    },
  );

  it('#ARGS: noerrors is so anyway, verify reads the disk again, ignore is refused, others are named', () => {
    expect(parseVmdksAuto('#ARGS=noerrors\n')).toMatchObject({ verify: false, faults: [] });
    expect(parseVmdksAuto('#ARGS=noerrors verify\r\n')).toMatchObject({ verify: true, faults: [] });
    expect(faultOf('\n#ARGS=ignore\n')).toContain('refused');
    expect(faultOf('#ARGS=quick\n')).toContain('"quick" is not known');
  });

  it('passphrases are seen and not kept, and no fault repeats them', () => {
    const read = parseVmdksAuto('#USE_SPASS=open sesame\nUSE_MPASS=open sesame\nopen sesame\n');
    expect(read.hasPassphrases).toBe(true);
    expect(read.faults.map(({ lineNumber }) => lineNumber)).toEqual([2, 3]);
    const { rawLines: _, ...kept } = read;
    expect(JSON.stringify(kept)).not.toContain('sesame');
    expect(faultOf('#USE_SPASS=\n')).toContain('empty');
  });

  it('a USE_DAYS that cannot be read is remembered, since the newest may not be what is wanted', () => {
    for (const text of ['#USE_DAYS=3', '#USE_DAYS=three', '#USE_DAYS=-99999', 'USE_DAYS=-3']) {
      expect(parseVmdksAuto(text)).toMatchObject({ days: 0, daysFaultLine: 1 });
      expect(parseVmdksAuto(text).faults).toHaveLength(1);
    }
  });

  it('any UUID is * or %, any SCSI id is *; blanks around fields do not count', () => {
    for (const any of ['*', '%'])
      expect(only(line(`CRM|${any}|*|CRM.vmdk|/v/c/CRM.vmdk|0`))).toMatchObject({
        uuid: null,
        scsiId: null,
        days: 0,
      });
    expect(
      only(line(` My VM | ${UUID.toUpperCase()} | 00 | a b.vmdk | /v/it's/a b.vmdk | -1 `)),
    ).toMatchObject({
      vm: 'My VM',
      uuid: UUID,
      disk: 'a b.vmdk',
      goal: "/v/it's/a b.vmdk",
      days: -1,
    });
  });

  it.each([
    ['CRM', 'expected RESTORE:VM|UUID|SCSI|DISK|PATH'],
    [`CRM|${UUID}|00|CRM.vmdk`, '4 fields'],
    [`CRM|${UUID}|00|CRM.vmdk|/v/CRM.vmdk|-1|x`, '7 fields'],
    [`|${UUID}|00|CRM.vmdk|/v/CRM.vmdk`, 'the VM is missing'],
    ['CRM|564d|00|CRM.vmdk|/v/CRM.vmdk', '"564d" is no UUID'],
    ['CRM||00|CRM.vmdk|/v/CRM.vmdk', '"" is no UUID'],
    ['CRM|*|0:0|CRM.vmdk|/v/CRM.vmdk', '"0:0" is no SCSI id'],
    ['CRM|*|%|CRM.vmdk|/v/CRM.vmdk', '"%" is no SCSI id'],
    ['CRM|*|00||/v/CRM.vmdk', 'the disk is missing'],
    ['CRM|*|00|../CRM.vmdk|/v/CRM.vmdk', 'no name of a disk'],
    ['CRM|*|00|CRM.vmdk|', 'the path to restore to is missing'],
    ['CRM|*|00|CRM.vmdk|v/CRM.vmdk', 'no complete path'],
    ['CRM|*|00|CRM.vmdk|/v/../etc/CRM.vmdk', 'cannot stand in the path'],
    ['CRM|*|00|CRM.vmdk|/v/CRM/', 'names a folder'],
    ['CRM|*|00|CRM.vmdk|/v/CRM.vmdk|2', 'expected 0 or days back'],
    ['CRM|*|00|CRM.vmdk|/v/CRM.vmdk|-1.5', 'expected 0 or days back'],
    ['CRM|*|00|CRM.vmdk|/v/CR\u0007M.vmdk', 'control characters'],
    ['CRM|*|00|CR\ufffdM.vmdk|/v/CRM.vmdk', 'not UTF-8'],
  ])('RESTORE:%s is a fault: %s', (fields, words) => {
    expect(faultOf(line(fields))).toContain(words);
  });

  it('a broken line is named by its number and stops no other', () => {
    const text = `\r\nRESTORE:broken\r\nRESTORE:CRM|*|00|CRM.vmdk|/v/CRM.vmdk\r\nwhat\r\nRESTORE:A|*|*|a.dsk|/v/a.dsk`;
    const { restores, faults } = parseVmdksAuto(text);
    expect(faults.map(({ lineNumber }) => lineNumber)).toEqual([2, 4]);
    expect(restores.map(({ lineNumber, goal }) => [lineNumber, goal])).toEqual([
      [3, '/v/CRM.vmdk'],
      [5, '/v/a.dsk'],
    ]);
  });

  it('of 10,000 lines is read in an instant, without a last newline as well', () => {
    const text = Array.from({ length: 10_000 }, (_, n) => `RESTORE:VM${n}|*|00|d.vmdk|/v/VM${n}/d.vmdk`).join(
      '\n',
    );
    const startedMs = performance.now();
    const read = parseVmdksAuto(text);
    expect(performance.now() - startedMs).toBeLessThan(1000);
    expect(read.restores).toHaveLength(10_000);
    expect(read.restores.at(-1)).toMatchObject({ lineNumber: 10_000, vm: 'VM9999' });
    expect(printVmdksAuto(read)).toBe(text);
  });
});

describe('the older vmdks form', () => {
  it.each([
    ['0005-esxpressmui.vmdk', '05', 'esxpressmui.vmdk'],
    ['0005-VisualStudio.vmdk', '05', 'VisualStudio.vmdk'],
    ['1001-dft01.dsk', '01', 'dft01.dsk'],
    ['1001-dft02.dsk', '01', 'dft02.dsk'],
    ['1101-oraforms00.vmdk', '01', 'oraforms00.vmdk'],
    ['1101-Genrad.vmdk', '01', 'Genrad.vmdk'],
    ['0006-snapshots.vmdk', '06', 'snapshots.vmdk'],
  ])('%s: the last two digits are the SCSI id; imported lines are comments', (name, scsiId, disk) => {
    expect(parseVmdksAuto(`# ${name}|/vmfs/\n`)).toMatchObject({ restores: [], faults: [] });
    expect(only(`${name}|/vmfs/LOCAL\n`)).toEqual({
      lineNumber: 1,
      vm: null,
      uuid: null,
      scsiId,
      disk,
      goal: `/vmfs/LOCAL/${disk}`,
      days: null,
    });
  });

  it('a name alone, without a SCSI id', () => {
    expect(only('linux_imap.vmdk|/vmfs/LOCAL')).toMatchObject({
      scsiId: null,
      goal: '/vmfs/LOCAL/linux_imap.vmdk',
    });
  });

  it.each(['a b.vmdk|/vmfs/LOCAL', 'a.vmdk|/vmfs/LO CAL', 'a.vmdk|LOCAL', 'a.vmdk|/v/../w', 'a.vmdk'])(
    '%s is a fault',
    (text) => {
      expect(faultOf(text)).not.toBe('');
    },
  );
});

describe('round trip', () => {
  const pieces = fc.constantFrom(
    '#',
    '##',
    '# ',
    'RESTORE:',
    '|',
    '*',
    UUID,
    '00',
    '/v/a.vmdk',
    '-3',
    '\r',
    ' ',
    'ü',
    '\ufeff',
  );
  const text = fc.array(fc.oneof(pieces, fc.constant('\n'), fc.string({ unit: 'grapheme' })), {
    maxLength: 60,
  });

  it('whatever the text is, printing gives it back, and reading it never throws', () => {
    fc.assert(
      fc.property(text, (parts) => {
        const whole = parts.join('');
        const read = parseVmdksAuto(whole);
        expect(printVmdksAuto(read)).toBe(whole);
        expect(read.faults.every(({ lineNumber }) => lineNumber <= read.rawLines.length)).toBe(true);
      }),
    );
  });

  it('appended lines leave all before them as it was, with its line ends, after a missing last newline too', () => {
    expect(textToAppend('a\r\nb', ['c', 'd'])).toBe('\r\nc\r\nd\r\n');
    expect(textToAppend('a\nb\n', ['c'])).toBe('c\n');
    expect(textToAppend('', ['c'])).toBe('c\n');
    fc.assert(
      fc.property(text, (parts) => {
        const before = parts.join('');
        const added = before + textToAppend(before, ['RESTORE:CRM|*|00|CRM.vmdk|/v/CRM.vmdk']);
        const { rawLines, restores } = parseVmdksAuto(added);
        expect(added.startsWith(before)).toBe(true);
        expect(restores.at(-1)).toMatchObject({ lineNumber: rawLines.length, vm: 'CRM' });
      }),
    );
  });

  it('a printed line reads back the same; names that cannot are none', () => {
    const crm = { vm: 'CRM', uuid: UUID, scsiId: '00', disk: 'CRM.vmdk', goal: '/v/CRM.vmdk', days: null };
    expect(printRestoreLine(crm)).toBe(`RESTORE:CRM|${UUID}|00|CRM.vmdk|/v/CRM.vmdk`);
    expect(printRestoreLine({ ...crm, uuid: null, scsiId: null, days: -3 })).toBe(
      'RESTORE:CRM|*|*|CRM.vmdk|/v/CRM.vmdk|-3',
    );
    for (const vm of ['a|b', ' a', 'a\nRESTORE:b', 'a\x1b'])
      expect(printRestoreLine({ ...crm, vm })).toBeUndefined();
  });
});
