/** Dates on which there are archives: all, or one. */
import type { BrowseFilter } from '../../../src/engine/browse-archives.ts';
import { lastStampOf } from '../../../src/engine/list-archives.ts';
import { editFilter, filterText } from '../filter.ts';
import type { Draft } from './draft.ts';
import { targetNote } from './list-notes.ts';
import { FILTER_ACTION, vmText } from './pick-name.ts';
import { rowSource } from './sources.ts';
import type { StepEnd } from './steps.ts';

/** The filter and what was chosen before: archives of this VM, or of this disk name. */
export function chosenFilter({ desk, vm, disk, day }: Draft): BrowseFilter {
  const { vm: vmPart, disk: diskPart, ...rest } = desk.filter;
  return {
    ...rest,
    ...(vm ? { vmName: vm.vm, uuid: vm.uuid, ...(diskPart && { disk: diskPart }) } : {}),
    ...(disk ? { diskName: disk.disk, ...(vmPart && { vm: vmPart }) } : {}),
    ...(day ? { from: later(`${day}T00:00`, rest.from), to: earlier(lastStampOf(day), rest.to) } : {}),
  };
}

const later = (a: string, b: string | undefined): string => (b !== undefined && b > a ? b : a);
const earlier = (a: string, b: string | undefined): string => (b !== undefined && b < a ? b : a);

/** `VM web`, `Disk web.vmdk` */
export function chosenText({ vm, disk }: Draft): string {
  return vm ? `VM ${vmText(vm)}` : `Disk ${disk?.disk ?? ''}`;
}

const WEEKDAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];

export async function pickDay(draft: Draft): Promise<StepEnd> {
  const { desk, browser } = draft;
  for (;;) {
    const { day: chosen, ...others } = draft;
    const days = browser.days(chosenFilter(others));
    const answer = await desk.dialogue.list({
      title: `Dates of ${chosenText(draft)}`,
      filter: filterText(desk.filter),
      source: rowSource(
        days,
        ({ day }) => day,
        ({ day }) => day,
      ),
      idOf: ({ day }) => day,
      heads: [
        {
          key: 's',
          id: 'all',
          label: days.length === 1 ? 'All archives' : `All archives of ${days.length} dates`,
        },
      ],
      columns: [
        { title: 'date', columns: 10, text: ({ day }) => day },
        { title: 'archives', columns: 8, align: 'right', text: ({ archiveCount }) => String(archiveCount) },
        {
          title: '',
          columns: 0,
          text: ({ day }) => WEEKDAYS[new Date(`${day}T00:00:00Z`).getUTCDay()] ?? '',
        },
      ],
      actions: [FILTER_ACTION],
      empty: 'No archives under this filter: F changes it.',
      note: targetNote(draft),
      at: chosen ?? 'all',
    });
    if (answer === undefined) return 'back';
    if (answer.kind === 'quit') return 'quit';
    if (answer.kind === 'action' && answer.id === 'filter') {
      if ((await editFilter(desk, draft.vm ? 'disk' : 'vm')) === 'quit') return 'quit';
      continue;
    }
    if (answer.kind === 'row') draft.day = answer.row.day;
    else delete draft.day;
    return 'next';
  }
}
