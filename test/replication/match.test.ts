import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { IndexDb, type ListedArchive } from '../../db/index-db.ts';
import { parseArchiveName } from '../../src/archive/names.ts';
import { lastStampFor, type MatchContext, matchLine } from '../../src/replication/match.ts';
import { parseRestoredLog, printEntry } from '../../src/replication/restored-log.ts';
import { parseVmdksAuto } from '../../src/replication/vmdks-auto.ts';
import { makeTempHome, type TempHome } from '../support/temp-home.ts';

const UUID = '564d122a-0ed7-3b92-2f46-aee9456b2074';
const OTHER = '564d122a-0ed7-3b92-2f46-aee9456b2075';
const NOW = new Date(2026, 10, 20, 13, 0);
const GOAL = '/vmfs/volumes/ISCSI02/ronzo/CRM.vmdk';

let home: TempHome;
let index: IndexDb;
beforeEach(() => {
  home = makeTempHome();
  index = IndexDb.open(path.join(home.root, 'index.db'));
  index.syncTargets([
    { number: 1, name: 'local', transport: 'vmfs', place: '/backups' },
    { number: 2, name: 'ftp1', transport: 'ftp', place: 'ftp1:/b' },
  ]);
});
afterEach(() => {
  index.close();
  home.remove();
});

interface Made {
  vm?: string;
  uuid?: string;
  target?: number;
  complete?: boolean;
  scsiId?: string;
  withFull?: boolean;
  header?: ListedArchive['header'];
}

/** Puts a DELTA of the day (a number of November) into the index, with a FULL of its own; its `N:folder/file`. */
function backup(day: string, made: Made = {}): string {
  const {
    vm = 'CRM',
    uuid = UUID,
    target = 1,
    complete = true,
    scsiId = '00',
    withFull = true,
    header,
  } = made;
  const name = `2026.11.${day}-${vm}.${uuid}`;
  const listed = (file: string, more: Partial<ListedArchive> = {}): ListedArchive => {
    const parsed = parseArchiveName(file);
    if (parsed === undefined) throw new Error(`${file} is no archive`);
    return { file, name: parsed, sizeBytes: 1000, complete: true, ...more };
  };
  const delta = `${scsiId}-CRM.vmdk.delta-2026.11.${day}-0001-2611${day}-0001.phd`;
  const archives = [listed(delta, { complete, ...(header === undefined ? {} : { header }) })];
  if (withFull) archives.push(listed(`${scsiId}-CRM.vmdk.gz-2611${day}-0001.phd`));
  index.recordFolder({
    targetNumber: target,
    name,
    modifiedMs: 1,
    listedMs: 2,
    complete: false,
    skipped: 0,
    vm,
    uuid,
    archives,
  });
  return `${target}:${name}/${delta}`;
}

interface Wanted {
  days?: string;
  log?: string;
  head?: string;
  dead?: number[];
}

/** Decision of one line; fields as in the file, the goal is added. */
function match(fields: string, { days, log = '', head = '', dead = [] }: Wanted = {}) {
  const file = parseVmdksAuto(
    `${head}${fields.includes('|/') ? fields : `RESTORE:${fields}|${GOAL}${days === undefined ? '' : `|${days}`}`}\n`,
  );
  const [line] = file.restores;
  if (line === undefined) throw new Error(JSON.stringify(file.faults));
  const context: MatchContext = {
    index,
    now: NOW,
    file,
    restored: parseRestoredLog(log),
    deadTargets: new Set(dead),
  };
  const { kind, reason, warnings } = matchLine(line, context);
  return { kind, reason, warnings: warnings.join('\n') };
}

const restored = (archive: string, goal = GOAL): string =>
  printEntry({ time: '2026-11-19T01:00:00.000Z', archive, goal, bytes: 1, result: 'restored' });

describe('a line', () => {
  it('takes the newest archive; days behind, the newest of that day or before', () => {
    const made = ['15', '18', '19', '20'].map((day) => backup(day));
    expect(match(`CRM|${UUID}|00|CRM.vmdk`)).toEqual({ kind: 'restore', reason: made[3], warnings: '' });
    expect(match(`CRM|*|*|CRM.vmdk`, { days: '-1' }).reason).toBe(made[2]);
    expect(match(`CRM|%|00|CRM.vmdk`, { days: '-2' }).reason).toBe(made[1]);
    expect(match('CRM|*|00|CRM.vmdk', { days: '-3' }).reason).toBe(made[0]);
    expect(match('CRM|*|00|CRM.vmdk', { head: '#USE_DAYS=-3\n' }).reason).toBe(made[0]);
    expect(match('CRM|*|00|CRM.vmdk', { head: '#USE_DAYS=-3\n', days: '0' }).reason).toBe(made[3]);
    expect(match('CRM|*|00|CRM.vmdk', { days: '-7' })).toMatchObject({
      kind: 'too new',
      reason: 'the newest is of 2026-11-20 00:01, none of 2026-11-13 or before',
    });
  });

  it('without days of its own does nothing while USE_DAYS cannot be read', () => {
    const made = backup('20');
    expect(match('CRM|*|00|CRM.vmdk', { head: '#USE_DAYS=3\n' })).toMatchObject({
      kind: 'no match',
      reason: 'USE_DAYS in line 1 cannot be read: mend it first',
    });
    expect(match('CRM|*|00|CRM.vmdk', { head: '#USE_DAYS=3\n', days: '0' }).reason).toBe(made);
  });

  it('is done when restored.log names archive and goal, from whichever target it came; another goal is not', () => {
    const made = backup('20');
    backup('20', { target: 2 });
    for (const log of [restored(made), restored(made.replace(/^1:/, '2:')), `${restored(made)}half a li`])
      expect(match('CRM|*|00|CRM.vmdk', { log }).kind).toBe('already restored');
    expect(match('CRM|*|00|CRM.vmdk', { log: restored(made, '/vmfs/volumes/A/CRM.vmdk') }).kind).toBe(
      'restore',
    );
    expect(match('CRM|*|00|CRM.vmdk', { log: restored(made).slice(0, -4) }).kind).toBe('restore');
  });

  it('that goes back behind what lies there says so', () => {
    backup('18');
    const newer = backup('20');
    const back = match('CRM|*|00|CRM.vmdk', { days: '-1', log: restored(newer) });
    expect(back.kind).toBe('restore');
    expect(back.warnings).toContain('older than what lies there');
  });

  it('of several VMs or disks takes the newest and names the others', () => {
    backup('18', { uuid: OTHER, scsiId: '01' });
    const made = backup('19');
    const wide = match('CRM|*|*|CRM.vmdk');
    expect(wide.reason).toBe(made);
    expect(wide.warnings).toContain(
      `several match, the newest is taken; the others: CRM ${OTHER} 01-CRM.vmdk`,
    );
    expect(match(`CRM|${OTHER}|*|CRM.vmdk`)).toMatchObject({ kind: 'restore', warnings: '' });
  });

  it('without match says whether the VM is there at all', () => {
    backup('20');
    expect(match('ERP|*|00|ERP.vmdk').reason).toBe('no backup of ERP.vmdk of ERP is in the index');
    expect(match(`CRM|${OTHER}|00|CRM.vmdk`).reason).toContain(`one has SCSI id 00, UUID ${UUID}`);
    expect(match('crm|*|00|CRM.vmdk').kind).toBe('no match');
    expect(match('ERP|*|00|ERP.vmdk', { dead: [2] }).reason).toBe(
      'no backup of ERP.vmdk of ERP is in the index (target 2 could not be listed now)',
    );
  });

  it('passes over what is arriving, foreign, without FULL or of a run that lacks disks, and names it', () => {
    const header = {
      runId: null,
      host: null,
      displayName: null,
      diskBytes: 1,
      changedBlocks: 0,
      unreadableSectors: 0,
      foreign: false,
    };
    const good = backup('15');
    backup('16', { complete: false });
    backup('17', { header: { ...header, runDisks: [], foreign: true } });
    backup('18', { withFull: false });
    backup('19', { header: { ...header, runDisks: ['00 CRM.vmdk', '01 b.vmdk'] } });
    const { kind, reason, warnings } = match('CRM|*|00|CRM.vmdk');
    expect([kind, reason]).toEqual(['restore', good]);
    expect(warnings).toContain('2026-11-19 00:01, its run lacks 01 b.vmdk');
    expect(warnings).toContain('2026-11-18 00:01, its FULL of 2026-11-18 00:01 is on no target');
    expect(warnings).toContain('2026-11-17 00:01, made by another program');
    backup('15', { complete: false });
    expect(match('CRM|*|00|CRM.vmdk').reason).toContain('none can be restored');
  });

  it('of copies takes the local one, or the one whose target can be reached', () => {
    backup('20', { target: 2 });
    const local = backup('20');
    expect(match('CRM|*|00|CRM.vmdk').reason).toBe(local);
    expect(match('CRM|*|00|CRM.vmdk', { dead: [1] }).reason).toBe(local.replace(/^1:/, '2:'));
  });

  it('finds the one that can be restored behind many that cannot', () => {
    const good = backup('01');
    for (let day = 2; day <= 20; day++) backup(String(day).padStart(2, '0'), { complete: false });
    expect(match('CRM|*|00|CRM.vmdk').reason).toBe(good);
  });

  it('of the older form matches disk and SCSI id of any VM; without match the name alone, with a warning', () => {
    const made = backup('20', { scsiId: '05' });
    expect(match('0005-CRM.vmdk|/vmfs/LOCAL')).toEqual({ kind: 'restore', reason: made, warnings: '' });
    expect(match('CRM.vmdk|/vmfs/LOCAL').reason).toBe(made);
    const byName = match('1001-CRM.vmdk|/vmfs/LOCAL');
    expect(byName.reason).toBe(made);
    expect(byName.warnings).toContain('no CRM.vmdk has SCSI id 01: taken by its name alone');
    expect(match('1001-ERP.vmdk|/vmfs/LOCAL').kind).toBe('no match');
  });
});

describe('days', () => {
  it('are counted in the calendar: months, the hours of spring and autumn', () => {
    expect(lastStampFor(new Date(2026, 2, 1, 0, 30), -1)).toBe('2026-02-28T23:59');
    expect(lastStampFor(new Date(2026, 9, 26, 0, 30), -1)).toBe('2026-10-25T23:59');
    expect(lastStampFor(new Date(2026, 2, 30, 0, 30), -1)).toBe('2026-03-29T23:59');
    expect(lastStampFor(NOW, 0)).toBe('2026-11-20T23:59');
  });
});

describe('a wide index', () => {
  it('1,000 lines with nothing to do ask the index alone: no archive is opened', () => {
    const VMS = 1_000;
    const DAYS = 5;
    const lines: string[] = [];
    const log: string[] = [];
    for (let n = 0; n < VMS; n++) {
      const vm = `VM${n}`;
      const uuid = `564d0000-0000-0000-0000-${String(n).padStart(12, '0')}`;
      const names = Array.from({ length: DAYS }, (_, day) => {
        const at = new Date(2026, 10, 1 + day);
        const two = (value: number): string => String(value).padStart(2, '0');
        const month = two(at.getMonth() + 1);
        const date = `${at.getFullYear()}.${month}.${two(at.getDate())}`;
        const short = `26${month}${two(at.getDate())}`;
        return [`00-d.vmdk.delta-${date}-0001-${short}-0001.phd`, `00-d.vmdk.gz-${short}-0001.phd`];
      });
      const folder = `2026.11.05-${vm}.${uuid}`;
      const archives = names.flat().map((file) => {
        const name = parseArchiveName(file);
        if (name === undefined) throw new Error(file);
        return { file, name, sizeBytes: 1, complete: true };
      });
      index.recordFolder({
        targetNumber: 2,
        name: folder,
        modifiedMs: 1,
        listedMs: 2,
        complete: true,
        skipped: 0,
        vm,
        uuid,
        archives,
      });
      const goal = `/v/${vm}/d.vmdk`;
      lines.push(`RESTORE:${vm}|${n % 2 === 0 ? uuid : '*'}|${n % 3 === 0 ? '*' : '00'}|d.vmdk|${goal}`);
      log.push(restored(`2:${folder}/${names.at(-1)?.[0]}`, goal));
    }
    expect(index.countArchives({})).toBe(10_000);
    const file = parseVmdksAuto(lines.join('\n'));
    const context = {
      index,
      now: NOW,
      file,
      restored: parseRestoredLog(log.join('')),
      deadTargets: new Set<number>(),
    };
    const kinds = file.restores.map((line) => matchLine(line, context).kind);
    expect(kinds.every((kind) => kind === 'already restored')).toBe(true);
    expect(kinds).toHaveLength(1_000);
  });
});
