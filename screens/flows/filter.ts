/** The filter over all lists; it stays until it is reset. */
import { FILTER_MENU } from '../../menus/tree.ts';
import { type ListFilter, parseDateRange } from '../../src/engine/list-archives.ts';
import { fromErrno } from '../../src/errors.ts';
import type { Desk } from '../desk.ts';

type Transport = NonNullable<ListFilter['transport']>;
type Vmfs = NonNullable<ListFilter['vmfs']>;
type Mode = NonNullable<ListFilter['mode']>;

/** Which names a part narrows: those of VMs, or those of disks. */
export type FilteredNames = 'vm' | 'disk';

/** `quit` leaves for the menu before the list; either way the filter is kept. */
export async function editFilter(desk: Desk, names: FilteredNames): Promise<'back' | 'quit'> {
  let at: string | undefined;
  for (;;) {
    const lines = () => [`Now: ${filterText(desk.filter) || 'no filter'}`];
    const chosen = await desk.dialogue.menu(FILTER_MENU, { lines, ...(at !== undefined && { at }) });
    if (chosen === undefined || chosen === 'back') return 'back';
    if (chosen === 'quit') return 'quit';
    at = chosen;
    await change(desk, names, chosen);
    desk.state = { ...desk.state, filter: filterText(desk.filter) || null };
  }
}

async function change(desk: Desk, names: FilteredNames, what: string): Promise<void> {
  const { filter } = desk;
  if (what === 'reset') desk.filter = {};
  if (what === 'name') await askName(desk, names);
  if (what === 'dates') await askDates(desk);
  if (what === 'target') await askTarget(desk);
  if (what === 'transport')
    desk.filter = { ...filter, transport: turn<Transport>(['all', 'ssh', 'ftp'], filter.transport) };
  if (what === 'vmfs') desk.filter = { ...filter, vmfs: turn<Vmfs>(['show', 'only', 'hide'], filter.vmfs) };
  if (what === 'mode') desk.filter = { ...filter, mode: turn<Mode>(['all', 'full', 'delta'], filter.mode) };
}

/** The next value, the first after the last. */
function turn<Value extends string>(values: readonly [Value, ...Value[]], now: Value | undefined): Value {
  return values[values.indexOf(now ?? values[0]) + 1] ?? values[0];
}

async function askName(desk: Desk, names: FilteredNames): Promise<void> {
  const answer = await desk.dialogue.ask({
    title: 'Part of the name',
    question: `Any part of the name of the ${names === 'vm' ? 'VM' : 'disk'}; empty for all:`,
    preset: desk.filter[names] ?? '',
  });
  if (answer === undefined) return;
  const { [names]: _, ...rest } = desk.filter;
  desk.filter = answer.trim() === '' ? rest : { ...rest, [names]: answer.trim() };
}

async function askDates(desk: Desk): Promise<void> {
  const answer = await desk.dialogue.ask({
    title: 'Date range',
    lines: ['2026-11-20 for a day, 2026-11-01..2026-11-20 for a range; empty for all.'],
    question: 'Archives of:',
    preset: rangeText(desk.filter),
    fault: (text) => {
      try {
        if (text.trim() !== '') parseDateRange(text.trim());
        return undefined;
      } catch (error) {
        return fromErrno(error, text).message;
      }
    },
  });
  if (answer === undefined) return;
  const { from, to, ...rest } = desk.filter;
  desk.filter = answer.trim() === '' ? rest : { ...rest, ...parseDateRange(answer.trim()) };
}

async function askTarget(desk: Desk): Promise<void> {
  const { config } = await desk.context();
  const named = (text: string) => config.targets.find(({ number }) => String(number) === text.trim());
  const isAll = (text: string): boolean => ['', '%'].includes(text.trim());
  const answer = await desk.dialogue.ask({
    title: 'Target',
    lines: [config.targets.map(({ number, name }) => `${number} ${name}`).join('  ')],
    question: 'Number of the target, % for all:',
    preset: String(desk.filter.target ?? '%'),
    fault: (text) => (isAll(text) || named(text) ? undefined : 'there is no target of this number'),
  });
  if (answer === undefined) return;
  desk.filter = { ...desk.filter, target: isAll(answer) ? null : (named(answer)?.number ?? null) };
}

function rangeText({ from, to }: ListFilter): string {
  if (from === undefined || to === undefined) return '';
  const short = (stamp: string, edge: string): string => stamp.replace(edge, '');
  const [first, last] = [short(from, 'T00:00'), short(to, 'T23:59')];
  return first === last ? first : `${first}..${last}`;
}

/** What the filter lets through, as titles tell it; '' without one. */
export function filterText(filter: ListFilter): string {
  const { vm, disk, transport = 'all', vmfs = 'show', target, mode = 'all' } = filter;
  const parts = [
    vm === undefined ? '' : `VM *${vm}*`,
    disk === undefined ? '' : `disk *${disk}*`,
    rangeText(filter),
    transport === 'all' ? '' : transport,
    vmfs === 'show' ? '' : `vmfs ${vmfs}`,
    target == null ? '' : `target ${target}`,
    mode === 'all' ? '' : `${mode === 'full' ? 'FULLs' : 'DELTAs'} only`,
  ];
  return parts.filter((part) => part !== '').join(', ');
}
