/** The VMs of an ESX host, from the table of `vim-cmd vmsvc/getallvms` and one script about all of them. */
import { randomBytes } from 'node:crypto';
import { shownName } from '../../datastore/plain-name.ts';
import { vmxUuid } from '../../datastore/vmx.ts';
import { shellQuoted } from '../../storage/shell-word.ts';
import type { HostVm, PowerState } from '../host.ts';
import type { EsxShell } from './esx-shell.ts';

export interface EsxVm extends HostVm {
  place: string;
  /** Path of the VMX on the host: `/vmfs/volumes/datastore1/web/web.vmx`. */
  vmxPath: string;
}

/** A row of the table. */
interface Row {
  id: string;
  name: string;
  /** `[datastore1] web/web.vmx` */
  place: string;
}

const ROW_TAIL = /^\[([^\]]+)\] (.*?\.vmx)\s+\S+\s+vmx-\d+(?:\s|$)/i;
const VOLUMES = '/vmfs/volumes';

/** Rows of the table; lines of annotations, which follow their row, are no rows. */
export function parseVmTable(text: string): Row[] {
  const lines = text.split(/\r?\n/);
  const header = lines.find((line) => /^Vmid\s+Name\s+File\s/.test(line));
  const fileColumn = header?.indexOf('File') ?? -1;
  const rows = new Map<string, Row>();
  for (const line of lines) {
    const [, id, rest] = /^(\d+)(\s+\S.*)$/.exec(line) ?? [];
    if (id === undefined || rest === undefined || rows.has(id)) continue;
    const at = placeColumn(line, fileColumn);
    if (at === undefined) continue;
    const [, store, file] = ROW_TAIL.exec(line.slice(at)) ?? [];
    rows.set(id, { id, name: line.slice(id.length, at).trim(), place: `[${store}] ${file}` });
  }
  return [...rows.values()];
}

/** Where `[datastore] path` begins: below its title, else (wide characters move it) at the first bracket that fits, after blanks. */
function placeColumn(line: string, fileColumn: number): number | undefined {
  const fits = [...line.matchAll(/\s\[/g)]
    .map(({ index }) => index + 1)
    .filter((at) => ROW_TAIL.test(line.slice(at)));
  if (fits.includes(fileColumn)) return fileColumn;
  return fits.find((at) => /\s{2}$/.test(line.slice(0, at))) ?? fits[0];
}

/** `[datastore1] web/web.vmx` as a path of the host; null where it leads out of its datastore. */
export function pathOfPlace(place: string): string | null {
  const [, store, file] = /^\[([^\]/]+)\] (.+)$/.exec(place) ?? [];
  if (store === undefined || file === undefined) return null;
  const parts = [store, ...file.split('/')];
  if (parts.some((part) => part === '..' || part === '.' || part === '')) return null;
  return `${VOLUMES}/${parts.join('/')}`;
}

/** All VMs with their states and UUIDs: two commands, however many there are. Throws TARGET_*, CANCELLED. */
export async function listEsxVms(
  shell: EsxShell,
  signal?: AbortSignal,
  onFault: (fault: string) => void = () => undefined,
): Promise<EsxVm[]> {
  const table = (await shell.output('vim-cmd vmsvc/getallvms', 'cannot list the VMs', { signal })).toString(
    'utf8',
  );
  for (const [, id] of table.matchAll(/^Skipping invalid VM '(\d{1,9})'/gm))
    onFault(`VM ${id} is left out by the host itself: invalid`);
  const rows = parseVmTable(table).flatMap((row) => {
    const vmxPath = pathOfPlace(row.place);
    if (vmxPath !== null) return [{ ...row, vmxPath }];
    onFault(`VM ${row.id} (${shownName(row.name)}) has no place that can be read: ${shownName(row.place)}`);
    return [];
  });
  if (rows.length === 0) return [];
  // Names and files come from the host: no line of theirs can be taken for one of the script's.
  const mark = `phd-${randomBytes(9).toString('hex')}`;
  const text = (
    await shell.script(factsScript(rows, mark), 'cannot ask for the state of the VMs', { signal })
  ).toString('utf8');
  const facts = factsOf(text, mark);
  return rows.map((row) => {
    const one = facts.get(row.id);
    return { ...row, uuid: one?.uuid ?? null, power: one?.power ?? 'unknown' };
  });
}

function factsScript(rows: readonly (Row & { vmxPath: string })[], mark: string): string {
  const ids = rows.map(({ id }) => id).join(' ');
  const lines = [
    `if esxcli vm process list </dev/null 2>/dev/null; then echo "${mark} told"; else`,
    // Hosts without that command are asked for each VM.
    `for id in ${ids}; do echo "${mark} power $id $(vim-cmd vmsvc/power.getstate $id </dev/null 2>/dev/null | tail -n 1)"; done`,
    'fi',
    'facts() {',
    `  echo "${mark} vm $1 $(readlink -f "$2")"`,
    `  grep -i -E '^[[:space:]]*(uuid[.]bios|checkpoint[.]vmstate)[[:space:]]*=' "$2" 2>/dev/null`,
    '}',
    ...rows.map(({ id, vmxPath }) => `facts ${id} ${shellQuoted(vmxPath)}`),
    'true',
  ];
  return `${lines.join('\n')}\n`;
}

interface Facts {
  uuid: string | null;
  power: PowerState;
}

function factsOf(text: string, mark: string): Map<string, Facts> {
  const [running = '', ...parts] = text.split(new RegExp(`^${mark} `, 'm'));
  const runningPaths = new Set(
    [...running.matchAll(/^[ \t]+Config File: (.+)$/gm)].map(([, file]) => file?.trim()),
  );
  const isTold = parts.some((part) => part.startsWith('told'));
  const powers = new Map<string, PowerState>();
  for (const part of parts) {
    const [, id, words] = /^power (\d+) (.*)$/m.exec(part) ?? [];
    if (id !== undefined) powers.set(id, powerOf(words ?? ''));
  }
  const facts = new Map<string, Facts>();
  for (const part of parts) {
    const [, id, realPath = ''] = /^vm (\d+) (.*)$/m.exec(part) ?? [];
    if (id === undefined) continue;
    const uuid = vmxUuid(/^[ \t]*uuid\.bios[ \t]*=[ \t]*"([^"]*)"/im.exec(part)?.[1]);
    const isSuspended = /^[ \t]*checkpoint\.vmstate[ \t]*=[ \t]*"[^"]+"/im.test(part);
    const power = isTold
      ? runningPaths.has(realPath)
        ? 'on'
        : isSuspended
          ? 'suspended'
          : 'off'
      : powers.get(id);
    facts.set(id, { uuid, power: power ?? 'unknown' });
  }
  return facts;
}

function powerOf(words: string): PowerState {
  if (/powered on/i.test(words)) return 'on';
  if (/powered off/i.test(words)) return 'off';
  return /suspended/i.test(words) ? 'suspended' : 'unknown';
}
