/**
 * Which VMs a list of entries takes, and how many backups of each are kept. The order of the lines does not matter:
 * names count first, patterns add what no name has named, excludes take away. Of two entries of one kind the last
 * counts.
 */
import type { VmPattern } from './vm-pattern.ts';

export interface Selected<Vm> {
  vm: Vm;
  /** Null: as the job says. */
  keep: number | null;
  /** The entry that took it. */
  by: string;
}

export interface Selection<Vm> {
  /** In the order of the list of VMs. */
  selected: Selected<Vm>[];
  /** Taken, and taken away again. */
  excluded: { vm: Vm; by: string }[];
  /** Names that no VM bears. */
  errors: string[];
  /** Patterns that take nothing, entries that say different things of one VM. */
  warnings: string[];
}

export function selectVms<Vm extends { name: string }>(
  vms: readonly Vm[],
  entries: readonly VmPattern[],
  excludes: readonly VmPattern[],
): Selection<Vm> {
  const warnings: string[] = [];
  const errors: string[] = [];
  const selected: Selected<Vm>[] = [];
  const excluded: Selection<Vm>['excluded'] = [];
  for (const vm of vms) {
    const named = entries.filter(({ isName, matches }) => isName && matches(vm.name));
    const fitting = named.length > 0 ? named : entries.filter(({ matches }) => matches(vm.name));
    const entry = fitting.at(-1);
    if (entry === undefined) continue;
    if (new Set(fitting.map(({ keep }) => keep)).size > 1)
      warnings.push(
        `${vm.name}: ${fitting.map(entryText).join(' and ')} differ, the last one counts: ${entryText(entry)}`,
      );
    const against = excludes.find(({ matches }) => matches(vm.name));
    if (against === undefined) selected.push({ vm, keep: entry.keep, by: entry.text });
    else excluded.push({ vm, by: against.text });
  }
  for (const [kind, list] of [
    ['', entries],
    ['exclude ', excludes],
  ] as const) {
    for (const { text, isName, matches } of list) {
      if (vms.some(({ name }) => matches(name))) continue;
      if (isName) errors.push(`${kind}${text}: there is no such VM`);
      else warnings.push(`${kind}${text}: no VM matches`);
    }
  }
  return { selected, excluded, errors, warnings };
}

function entryText({ text, keep }: VmPattern): string {
  return keep === null ? text : `${text}:${keep}`;
}
