/**
 * The text of `vmdks.auto`: which disks are restored again and again, and where to. Lines are kept as they stand, so
 * that printing gives back every byte; what cannot be read is a fault of its line and of no other.
 */
import path from 'node:path';

/** One disk to restore. */
export interface RestoreLine {
  /** 1 is the first line of the file. */
  lineNumber: number;
  /** Folder name of the VM; null in the older form, which names only a disk. */
  vm: string | null;
  /** Lower case; null: any. */
  uuid: string | null;
  /** Digits as in archive names; null: any. */
  scsiId: string | null;
  disk: string;
  /** Absolute path of the disk to write, normalized. */
  goal: string;
  /** 0 or negative; null: what USE_DAYS says. */
  days: number | null;
}

export interface LineNote {
  lineNumber: number;
  message: string;
}

export interface VmdksAuto {
  /** Every line with its line end, as it stands. */
  rawLines: string[];
  restores: RestoreLine[];
  /** USE_DAYS: 0 or negative. */
  days: number;
  /** Line of a USE_DAYS that cannot be read: lines without days of their own must not run then. */
  daysFaultLine: number | null;
  /** ARGS=verify */
  verify: boolean;
  /** USE_SPASS or USE_MPASS is set; the values are not kept here. */
  hasPassphrases: boolean;
  /** Lines that cannot be used. No fault repeats what may be a passphrase. */
  faults: LineNote[];
}

/** A line may be at most this long, in characters. */
const MAX_LINE = 8192;
const MAX_DAYS = 36_500;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
/** A blank after the `#` makes it a comment. */
const VARIABLE = /^#(USE_SPASS|USE_MPASS|USE_DAYS|ARGS)=(.*)$/is;
const NAKED_VARIABLE = /^(USE_SPASS|USE_MPASS|USE_DAYS|ARGS)\s*=/i;
const OLDER_FORM = /^(?:(\d{4})-)?([^|\s]+)\|(\/[^|\s]*)$/;
/** The line that explains the fields in files of esXpress. */
const TEMPLATE = /^VM_NAME\|UUID_OF_VM\|SCSI_ID\|VMDK_NAME\|COMPLETE_RESTORE_PATH\|USE_DAYS$/i;
/** Words of ARGS that ask for what is done anyway. */
const IDLE_WORDS = new Set(['noerrors', 'errors', 'no', 'auto', 'run', 'autorun', 'restore', 'overwrite'])
  .add('exit')
  .add('noabort')
  .add('noabrot');

/** Reads the whole file. Never throws: faults stand in the result. */
export function parseVmdksAuto(text: string): VmdksAuto {
  const rawLines = text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
  const read: VmdksAuto = {
    rawLines,
    restores: [],
    days: 0,
    daysFaultLine: null,
    verify: false,
    hasPassphrases: false,
    faults: [],
  };
  rawLines.forEach((raw, at) => {
    const lineNumber = at + 1;
    const fault = readLine(raw.replace(/\r?\n$/, ''), lineNumber, read);
    if (fault !== undefined) read.faults.push({ lineNumber, message: fault });
  });
  return read;
}

/** The text again, byte for byte. */
export function printVmdksAuto({ rawLines }: Pick<VmdksAuto, 'rawLines'>): string {
  return rawLines.join('');
}

/** The line of a disk. Fields that could not be read back the same way make it undefined. */
export function printRestoreLine(line: Omit<RestoreLine, 'lineNumber'> & { vm: string }): string | undefined {
  const { vm, uuid, scsiId, disk, goal, days } = line;
  const fields = [vm, uuid ?? '*', scsiId ?? '*', disk, goal, ...(days === null ? [] : [String(days)])];
  const text = `RESTORE:${fields.join('|')}`;
  const [again, ...others] = parseVmdksAuto(text).restores;
  const isSame =
    others.length === 0 &&
    again !== undefined &&
    (['vm', 'uuid', 'scsiId', 'disk', 'goal', 'days'] as const).every((key) => again[key] === line[key]);
  return isSame ? text : undefined;
}

/** What has to be added to the file so that these lines stand at its end, with the line ends it has. */
export function textToAppend(before: string, lines: readonly string[]): string {
  const end = /\r\n/.test(before) && !/[^\r]\n/.test(before) ? '\r\n' : '\n';
  const lead = before === '' || before.endsWith('\n') ? '' : end;
  return lead + lines.map((line) => line + end).join('');
}

/** Takes one line in; returns what is wrong with it. */
function readLine(whole: string, lineNumber: number, read: VmdksAuto): string | undefined {
  const line = whole.replace(/^\ufeff/, '').trimStart();
  if (line === '' || line.startsWith('##')) return undefined;
  if (line.length > MAX_LINE) return `longer than ${MAX_LINE} characters`;
  if (line.startsWith('#')) {
    const [, name, value = ''] = VARIABLE.exec(line) ?? [];
    return name === undefined ? undefined : readVariable(name.toUpperCase(), value, lineNumber, read);
  }
  const [, naked] = NAKED_VARIABLE.exec(line) ?? [];
  if (naked !== undefined) {
    const name = naked.toUpperCase();
    if (name === 'USE_DAYS') read.daysFaultLine = lineNumber;
    return `${name} needs a # directly before it`;
  }
  if (line.includes('\ufffd')) return 'not UTF-8';
  if (/\p{Cc}/u.test(line.replaceAll('\t', ''))) return 'control characters';
  const restore = /^RESTORE:/i.test(line) ? readRestore(line.slice('RESTORE:'.length)) : readOlder(line);
  if (typeof restore === 'string') return restore;
  if (restore !== undefined) read.restores.push({ lineNumber, ...restore });
  return undefined;
}

function readVariable(name: string, value: string, lineNumber: number, read: VmdksAuto): string | undefined {
  if (name === 'USE_DAYS') {
    const days = parseDays(value.trim());
    if (days === undefined) {
      read.daysFaultLine = lineNumber;
      return `USE_DAYS: ${DAYS_EXPECTED}`;
    }
    read.days = days;
    return undefined;
  }
  if (name === 'ARGS') return readArgs(value, read);
  if (value === '') return `${name} is empty: put ## before it to do without`;
  read.hasPassphrases = true;
  return undefined;
}

function readArgs(value: string, read: VmdksAuto): string | undefined {
  let fault: string | undefined;
  for (const word of value.toLowerCase().split(/\s+/)) {
    if (word === 'verify') read.verify = true;
    else if (word === 'ignore')
      fault ??= 'ARGS=ignore is refused: a replica with wrong blocks is none; nothing is ignored';
    else if (word !== '' && !IDLE_WORDS.has(word))
      fault ??= `ARGS: ${JSON.stringify(word)} is not known: expected verify or noerrors`;
  }
  return fault;
}

const DAYS_EXPECTED = 'expected 0 or days back, such as -3';

function parseDays(text: string): number | undefined {
  if (!/^(0|-\d{1,5})$/.test(text)) return undefined;
  const days = Number(text) + 0;
  return days >= -MAX_DAYS ? days || 0 : undefined;
}

type Fields = Omit<RestoreLine, 'lineNumber'>;

/** Fields behind `RESTORE:`, or what is wrong with them; undefined for the line that only explains them. */
function readRestore(text: string): Fields | string | undefined {
  if (TEMPLATE.test(text.trim())) return undefined;
  const fields = text.split('|').map((field) => field.trim());
  if (fields.length < 5 || fields.length > 6) {
    return `${fields.length} fields: expected RESTORE:VM|UUID|SCSI|DISK|PATH or the same with |DAYS`;
  }
  const [vm = '', uuid = '', scsiId = '', disk = '', goal = '', dayText] = fields;
  if (vm === '') return 'the VM is missing (first field)';
  if (uuid !== '*' && uuid !== '%' && !UUID.test(uuid))
    return `${JSON.stringify(uuid)} is no UUID (second field): expected one, or * for any`;
  if (scsiId !== '*' && !/^\d{2,8}$/.test(scsiId))
    return `${JSON.stringify(scsiId)} is no SCSI id (third field): expected two digits such as 00, or * for any`;
  const fault = diskFault(disk) ?? goalFault(goal);
  if (fault !== undefined) return fault;
  const days = dayText === undefined || dayText === '' ? null : parseDays(dayText);
  if (days === undefined) return `${JSON.stringify(dayText)}: ${DAYS_EXPECTED} (sixth field)`;
  return {
    vm,
    uuid: UUID.test(uuid) ? uuid.toLowerCase() : null,
    scsiId: scsiId === '*' ? null : scsiId,
    disk,
    goal: path.posix.normalize(goal),
    days,
  };
}

/** `[NNNN-]name|/vmfs/volume`: the disk goes onto the volume itself; the last two digits are the SCSI id. */
function readOlder(line: string): Fields | string {
  const [, prefix, disk = '', volume = ''] = OLDER_FORM.exec(line.trimEnd()) ?? [];
  if (disk === '') return 'neither RESTORE:VM|UUID|SCSI|DISK|PATH nor the older NNNN-DISK|/VOLUME';
  const fault = diskFault(disk) ?? goalFault(`${volume}/${disk}`);
  if (fault !== undefined) return fault;
  const goal = path.posix.normalize(`${volume}/${disk}`);
  return { vm: null, uuid: null, scsiId: prefix?.slice(2) ?? null, disk, goal, days: null };
}

function diskFault(disk: string): string | undefined {
  if (disk === '') return 'the disk is missing (fourth field)';
  return disk.includes('/') || disk === '.' || disk === '..'
    ? `${JSON.stringify(disk)} is no name of a disk`
    : undefined;
}

function goalFault(goal: string): string | undefined {
  if (goal === '') return 'the path to restore to is missing (fifth field)';
  if (!goal.startsWith('/'))
    return `${JSON.stringify(goal)} is no complete path: expected /VOLUME/FOLDER/DISK`;
  if (/\t/.test(goal)) return 'a tab in the path';
  if (goal.split('/').some((part) => part === '..' || part === '.'))
    return `${JSON.stringify(goal)}: . and .. cannot stand in the path`;
  return goal.endsWith('/') ? `${JSON.stringify(goal)} names a folder: add the name of the disk` : undefined;
}
