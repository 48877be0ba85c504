/** Which VMs a job takes: names, globs, patterns; and NAUbackup files with the lists of their manuals. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nauLists, nauSelector, parseNau } from '../../src/backup-jobs/nau-config.ts';
import { selectVms } from '../../src/backup-jobs/select-vms.ts';
import { parseEntry, parseNauEntry } from '../../src/backup-jobs/vm-pattern.ts';
import { globMatches } from '../../src/model/glob.ts';

const vms = (...names: string[]): { name: string }[] => names.map((name) => ({ name }));
const shown = (list: readonly { vm: { name: string }; keep: number | null }[]): string[] =>
  list.map(({ vm, keep }) => (keep === null ? vm.name : `${vm.name}:${keep}`));

const select = (pool: { name: string }[], entries: string[], excludes: string[] = []) =>
  selectVms(pool, entries.map(parseEntry), excludes.map(parseEntry));

describe('An entry of a job', () => {
  it.each([
    ['web', 'web', true],
    ['web', 'web1', false],
    ['web*', 'web1', true],
    ['web?', 'web12', false],
    ['*-test', 'db-test', true],
    ['/web-\\d+/', 'web-12', true],
    ['/web-\\d+/', 'web-12b', false],
    ['/eb-1/', 'web-1', false],
    ['[prod] mail', '[prod] mail', true],
    ['it\'s "so", (1)', 'it\'s "so", (1)', true],
  ])('%s takes %s: %s', (entry, name, takes) => {
    expect(parseEntry(entry).matches(name)).toBe(takes);
  });

  it('may say how many backups are kept; a colon in a name is no such number', () => {
    expect(parseEntry('web*:7')).toMatchObject({ text: 'web*', keep: 7 });
    expect(parseEntry('a:b')).toMatchObject({ text: 'a:b', keep: null });
    expect(() => parseEntry('web:0')).toThrow(/at least one backup/);
    expect(() => parseEntry(':3')).toThrow(/expected the name/);
  });

  it.each([
    ['/a(?=b)/', /lookaround cannot be used/],
    ['/(?<!a)b/', /lookaround cannot be used/],
    ['/(a)\\1/', /back-references cannot be used/],
    ['/(?P<x>a)(?P=x)/', /back-references cannot be used/],
    ['/[a/', /is no regular expression/],
  ])('%s is refused by name', (entry, why) => {
    expect(() => parseEntry(entry)).toThrow(why);
  });

  it('is never slow: patterns that make others take for ever end at once', () => {
    const name = `${'a'.repeat(5000)}!`;
    expect(parseEntry('/(a+)+/').matches(name)).toBe(false);
    expect(globMatches(`${'*a'.repeat(50)}b`, name)).toBe(false);
  });

  it('as a glob means what a regular expression says of it', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?', '.'), maxLength: 8 });
    fc.assert(
      fc.property(text, fc.string({ unit: fc.constantFrom('a', 'b', '.'), maxLength: 8 }), (glob, name) => {
        const regex = [...glob].map((one) => (one === '*' ? '.*' : one === '?' ? '.' : `\\${one}`)).join('');
        const escaped = regex.replaceAll('\\a', 'a').replaceAll('\\b', 'b');
        expect(globMatches(glob, name)).toBe(new RegExp(`^${escaped}$`, 's').test(name));
      }),
    );
  });
});

describe('A selection', () => {
  const pool = vms('web1', 'web2', 'db1', 'db1-test', 'mail');

  it('counts names before patterns, whatever their order, and excludes take away', () => {
    const { selected, excluded } = select(pool, ['web*:3', 'web1:9', '*'], ['*-test']);
    expect(shown(selected)).toEqual(['web1:9', 'web2', 'db1', 'mail']);
    expect(excluded).toEqual([{ vm: { name: 'db1-test' }, by: '*-test' }]);
    const turned = select(pool, ['*', 'web1:9', 'web*:3'], ['*-test']);
    expect(shown(turned.selected)).toEqual(['web1:9', 'web2:3', 'db1', 'mail']);
  });

  it('names what no VM bears, and entries that say different things', () => {
    const { errors, warnings } = select(pool, ['web3', 'x*', 'web*:1', 'web1:2', 'web1:3'], ['nobody']);
    expect(errors).toEqual(['web3: there is no such VM', 'exclude nobody: there is no such VM']);
    expect(warnings).toEqual([
      'web1: web1:2 and web1:3 differ, the last one counts: web1:3',
      'x*: no VM matches',
    ]);
  });

  it('does not depend on the order of the VMs', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray(pool, { minLength: 5 }), (turned) => {
        const one = select(pool, ['web*:2', 'db*', 'mail:4'], ['*test']);
        const other = select(turned, ['web*:2', 'db*', 'mail:4'], ['*test']);
        expect(shown(other.selected).sort()).toEqual(shown(one.selected).sort());
      }),
    );
  });
});

describe('A NAUbackup file', () => {
  const pool = vms(
    'PROD-ubuntu14',
    'PROD-ubuntu12-benchmark',
    'PROD-CentOS7-large-user-disks',
    'DEV-RH6',
    'DEV-RH7',
    'PROD-WinSvr',
    'DEV mySql',
  );

  it('of the manual makes the lists of the manual', () => {
    const config = parseNau(`# Weekend VMs - with VM name's fixed
max_backups=4
backup_dir=/snapshots/BACKUPS
#
vdi-export=PROD-CentOS7-large-user-disks
vm-export=PROD.*
vm-export=DEV-RH.*:3
exclude=PROD-ubuntu12-benchmark
`);
    const lists = nauLists(config, pool);
    expect(lists.errors).toEqual([]);
    expect(lists.warnings).toEqual([]);
    expect(config.settings).toMatchObject({
      backupDir: '/snapshots/BACKUPS',
      statusLog: '/snapshots/NAUbackup/status.log',
      compress: false,
      maxBackups: 4,
      vdiExportFormat: 'raw',
      poolDbBackup: false,
    });
    expect(shown(lists.vdiExport)).toEqual(['PROD-CentOS7-large-user-disks']);
    expect(shown(lists.vmExport)).toEqual(['PROD-ubuntu14', 'DEV-RH6:3', 'DEV-RH7:3', 'PROD-WinSvr']);
    expect(lists.excluded.map(({ vm }) => vm.name)).toEqual(['PROD-ubuntu12-benchmark']);
  });

  it('makes the same lists in any order of its lines', () => {
    const lines = [
      'vdi-export=PROD-CentOS7-large-user-disks',
      'vm-export=PROD.*',
      'vm-export=DEV-RH.*:3',
      'vm-export=DEV-RH7:9',
      'metadata-export=DEV.*',
      'exclude=PROD-ubuntu12-benchmark',
    ];
    const namesOf = (text: string) => {
      const { vmExport, vdiExport, metadataExport } = nauLists(parseNau(text), pool);
      return [shown(vmExport), shown(vdiExport), shown(metadataExport)];
    };
    const wanted = [
      ['PROD-ubuntu14', 'DEV-RH6:3', 'DEV-RH7:9', 'PROD-WinSvr'],
      ['PROD-CentOS7-large-user-disks'],
      ['DEV mySql'],
    ];
    fc.assert(
      fc.property(fc.shuffledSubarray(lines, { minLength: lines.length }), (turned) => {
        expect(namesOf(turned.join('\n'))).toEqual(wanted);
      }),
    );
  });

  it('or selector: a name without a VM is an error, as in the first preview of the manual', () => {
    const missing = nauLists(parseNau(nauSelector('DEV-mySql')), pool);
    expect(missing.errors).toEqual(['vm-export=DEV-mySql: there is no such VM']);
    const found = nauLists(parseNau(nauSelector('DEV mySql')), pool);
    expect(found.errors).toEqual([]);
    expect(shown(found.vmExport)).toEqual(['DEV mySql']);
    expect(shown(nauLists(parseNau(nauSelector('vdi-export=DEV-RH6')), pool).vdiExport)).toEqual(['DEV-RH6']);
    expect(shown(nauLists(parseNau(nauSelector('.*')), pool).vmExport)).toHaveLength(pool.length);
  });

  it('of both manuals: every example pattern takes what its comment says', () => {
    const takes = (entry: string, name: string): boolean => parseNauEntry(entry).matches(name);
    expect(takes('PRD-PRINT$', 'PRD-PRINT')).toBe(true);
    expect(takes('PRD-PRINT$', 'PRD-PRINTER1')).toBe(false);
    expect(takes('PRD-a.*', 'PRD-a')).toBe(true);
    expect(takes('DEV-V.*TEMP$', 'DEV-V1-TEMP')).toBe(true);
    expect(takes('DEV-V.*TEMP$', 'DEV-V1-TEMP2')).toBe(false);
    expect(parseNauEntry('DEV-web3:7')).toMatchObject({ isName: true, keep: 7 });
    for (const name of ['DEV-xTEST1', 'DEV-test']) expect(takes('DEV-.*(TEST|test).*', name)).toBe(true);
    for (const name of ['DEV-Test', 'DEV-atest9']) expect(takes('DEV-.*[Tt]est.*', name)).toBe(true);
    expect(parseNauEntry('.*SAVE$:5')).toMatchObject({ keep: 5 });
    expect(takes('.*SAVE$:5', 'x-SAVE')).toBe(true);
    expect(takes('PRD-.*print[4-5]$:5', 'PRD-aprint5')).toBe(true);
    expect(takes('PRD-.*print[4-5]$:5', 'PRD-aprint6')).toBe(false);
    expect(takes('PRD-.*print[\\d{1,}]$:8', 'PRD-print7')).toBe(true);
    expect(takes('TEMP-.*', 'my-TEMP-1')).toBe(false);
    expect(takes('PROD*', 'PRO')).toBe(true);
  });

  it('with mistakes is read on, each named with its line', () => {
    const config = parseNau(
      'vm-export=PRD-[aA.*\nmax_backups=none\nvm-export=(?!DEV).*\nMAX=3\nnonsense\ncompress=maybe\nvm-export=DEV-RH6\n',
    );
    expect(config.errors).toEqual([
      expect.stringMatching(/^line 1: "PRD-\[aA\.\*" is no regular expression: /),
      'line 2: max_backups: expected a whole number, 1 or more',
      expect.stringMatching(/^line 3: .*lookaround cannot be used/),
      expect.stringMatching(/^line 6: compress: expected True or False/),
      'line 4: MAX is no key',
      'line 5: "nonsense" is no KEY=VALUE',
    ]);
    expect(shown(nauLists(config, pool).vmExport)).toEqual(['DEV-RH6']);
    expect(parseNau('ignore_extra_keys=True\nMAX=3\n').errors).toEqual([]);
    expect(nauLists(parseNau('vm-export=NONE.*\n'), pool)).toMatchObject({
      errors: [],
      warnings: ['vm-export=NONE.*: no VM matches'],
    });
  });

  it.each([fc.string(), fc.string({ unit: 'binary' })])('of any text never throws', (text) => {
    fc.assert(
      fc.property(text, (any) => {
        nauLists(parseNau(any), pool);
      }),
    );
  });
});
