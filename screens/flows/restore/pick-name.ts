/** The list of VMs, or of disk names. */
import type { DiskListRow, VmListRow } from '../../../src/engine/browse-archives.ts';
import type { ListFilter } from '../../../src/engine/list-archives.ts';
import type { ListAction, ListColumn } from '../../dialogue.ts';
import { editFilter, filterText } from '../filter.ts';
import { type Draft, stampText } from './draft.ts';
import { clockNote, indexFault, REFRESH_MS, targetNote } from './list-notes.ts';
import { browsedSource, type Shown } from './sources.ts';
import type { StepEnd } from './steps.ts';

export const FILTER_ACTION: ListAction = {
  key: 'f',
  id: 'filter',
  footer: 'filter',
  help: 'name, dates, transport, target, mode of all lists',
};

const PLAN_ACTION: ListAction = {
  key: 'p',
  id: 'plan',
  footer: 'plan',
  help: 'restore the marked VMs together: order, goals, room',
};
/** The list is read on in slices of this. */
const PLAN_LOOK_MS = 50;

const GONE = '(gone)';

/** `web (esx1, 9d01)` where another VM has this name. */
export function vmText({
  vm,
  uuid,
  host,
  isNameRepeated,
}: Pick<VmListRow, 'vm' | 'uuid' | 'host' | 'isNameRepeated'>): string {
  if (!isNameRepeated) return vm;
  return `${vm} (${[host, uuid.slice(-4)].filter(Boolean).join(', ')})`;
}

const FIGURES: readonly ListColumn<Shown<VmListRow | DiskListRow>>[] = [
  { title: 'runs', columns: 5, align: 'right', text: ({ row }) => figure(row?.runCount) },
  { title: 'newest', columns: 16, text: ({ row }) => stampText(row?.newestStamp ?? '') },
  { title: 'targets', columns: 8, text: ({ row }) => row?.targetNumbers?.join(',') ?? '', from: 60 },
];

function figure(value: number | null | undefined): string {
  return value == null ? '' : String(value);
}

export async function pickVm(draft: Draft): Promise<StepEnd> {
  const columns: ListColumn<Shown<VmListRow>>[] = [
    { title: 'VM', columns: 0, text: ({ row }) => (row === null ? GONE : vmText(row)) },
    ...FIGURES,
  ];
  return pick(draft, {
    title: 'VM',
    names: 'vm',
    columns,
    open: (filter) => draft.browser.vms(filter),
    take: (vm) => {
      draft.vm = vm;
    },
    at: draft.vm && String(draft.vm.id),
    // Kept while the person walks to and fro.
    ...(draft.by === 'vm' && { marked: markedOf(draft), plan: planner(draft) }),
  });
}

function planner(draft: Draft): (ids: readonly string[]) => Promise<void> {
  return async (ids) => {
    const list = draft.browser.vms({});
    while (list.advance(PLAN_LOOK_MS));
    const rows = ids.flatMap((id) => {
      const at = list.indexOf(Number(id));
      const row = at < 0 ? undefined : list.rows(at, 1)[0];
      return row ? [row] : [];
    });
    const { planOf } = await import('../plan/plan.ts');
    await planOf(draft.desk, rows);
  };
}

const marks = new WeakMap<Draft, Set<string>>();

function markedOf(draft: Draft): Set<string> {
  const marked = marks.get(draft) ?? new Set<string>();
  marks.set(draft, marked);
  return marked;
}

export async function pickDisk(draft: Draft): Promise<StepEnd> {
  const columns: ListColumn<Shown<DiskListRow>>[] = [
    { title: 'Disk', columns: 0, text: ({ row }) => row?.disk ?? GONE },
    { title: 'VM', columns: 16, text: ({ row }) => ownerText(row) },
    ...FIGURES,
  ];
  return pick(draft, {
    title: 'Disk',
    names: 'disk',
    columns,
    open: (filter) => draft.browser.disks(filter),
    take: (disk) => {
      draft.disk = disk;
    },
    at: draft.disk && String(draft.disk.id),
  });
}

function ownerText(row: DiskListRow | null): string {
  if (row === null) return '';
  return row.vm === null ? `${row.vmCount} VMs` : vmText(row.vm);
}

interface NameList<Row extends { id: number }> {
  title: string;
  names: 'vm' | 'disk';
  columns: readonly ListColumn<Shown<Row>>[];
  open: (filter: ListFilter) => ReturnType<Draft['browser']['vms']> | ReturnType<Draft['browser']['disks']>;
  take: (row: Row) => void;
  at: string | undefined;
  /** Ids of marked rows, and what makes a plan of them. */
  marked?: Set<string>;
  plan?: (ids: readonly string[]) => Promise<void>;
}

async function pick<Row extends VmListRow | DiskListRow>(
  draft: Draft,
  list: NameList<Row>,
): Promise<StepEnd> {
  const { desk } = draft;
  let { at } = list;
  for (;;) {
    const source = browsedSource<Row>((text) => {
      const filter = text === '' ? desk.filter : { ...desk.filter, [list.names]: text };
      return list.open(filter) as unknown as ReturnType<Parameters<typeof browsedSource<Row>>[0]>;
    }, indexFault(draft));
    const answer = await desk.dialogue.list({
      title: `${list.title}${clockNote(draft)}`,
      filter: filterText(desk.filter),
      source,
      idOf: ({ id }) => id,
      columns: list.columns,
      actions: list.plan === undefined ? [FILTER_ACTION] : [FILTER_ACTION, PLAN_ACTION],
      ...(list.marked && { marked: list.marked }),
      empty: emptyText(draft),
      refreshMs: REFRESH_MS,
      note: targetNote(draft),
      ...(at !== undefined && { at }),
    });
    if (answer === undefined) return 'back';
    if (answer.kind === 'quit') return 'quit';
    if (answer.kind === 'action') {
      at = answer.row?.id ?? at;
      if (answer.id === 'plan') {
        const here = answer.row?.row ? [answer.row.id] : [];
        await list.plan?.(list.marked?.size ? [...list.marked] : here);
        continue;
      }
      if ((await editFilter(desk, list.names)) === 'quit') return 'quit';
      continue;
    }
    if (answer.row.row === null) {
      desk.dialogue.notice('it is gone from the index', 'warning');
      continue;
    }
    list.take(answer.row.row);
    return 'next';
  }
}

function emptyText({ desk }: Draft): string {
  return filterText(desk.filter) === ''
    ? 'No archives yet: back up a VM, or Re-index in the Restore menu.'
    : 'Nothing passes the filter: F changes it.';
}
