/**
 * Which runs of a VM on a target stay. Nothing that a kept run needs is ever removed, nor the newest good copy, nor what
 * a person holds; what is not understood stays too.
 */
import { shownName } from '../datastore/plain-name.ts';
import type { Stamp } from '../model/archive.ts';

export interface RetainedRun {
  stamp: Stamp;
  /** As folders of the target call it: VMs that were copied bear one UUID, and each has its own runs. */
  vm: string;
  /** Folder on the target. */
  folder: string;
  /** Stamps of the FULLs that its DELTAs need; its own among them where it is a FULL. */
  needs: readonly Stamp[];
  /** It has all its disks, each whole, with what it needs. */
  isComplete: boolean;
  /** An archive of it was found damaged or unreadable. */
  isDamaged: boolean;
  isHeld: boolean;
  /** A restore reads it, or waits to. */
  isRead: boolean;
  /** It holds what this program lists and cannot read. */
  isForeign: boolean;
  /** An archive of it has not arrived whole, and it is young enough to be under way. */
  isArriving: boolean;
}

/** Each counts runs (`last`) or the newest run of each of so many days, weeks (Monday first), months. */
export interface KeepRules {
  last: number;
  daily: number;
  weekly: number;
  monthly: number;
}

export interface RetentionLine {
  run: RetainedRun;
  keep: boolean;
  /** Why it stays, or goes. */
  reason: string;
}

/** A line for each run, newest first. The rules count the runs of VMs that are copies of each other by themselves. */
export function retain(runs: readonly RetainedRun[], rules: KeepRules): RetentionLine[] {
  const sorted = [...runs].sort((a, b) => (a.stamp > b.stamp ? -1 : a.stamp < b.stamp ? 1 : 0));
  const reasons = new Map<RetainedRun, string>();
  for (const names of namesOfVms(sorted))
    keepByRules(
      sorted.filter(({ vm }) => names.includes(vm)),
      rules,
      reasons,
    );
  keepNeeded(sorted, reasons);
  return sorted.map((run) => {
    const reason = reasons.get(run);
    if (reason !== undefined) return { run, keep: true, reason };
    return {
      run,
      keep: false,
      reason: run.isComplete ? 'no rule keeps it' : 'it is not whole, and a newer run is complete',
    };
  });
}

/**
 * Names of each VM. A VM that was renamed has runs of one name after those of the other; names whose runs lie among each other are of
 * copies, which bear one UUID.
 */
function namesOfVms(sorted: readonly RetainedRun[]): string[][] {
  const spans = [...new Set(sorted.map(({ vm }) => vm))].map((vm) => {
    const stamps = sorted.filter((run) => run.vm === vm).map(({ stamp }) => stamp);
    return { vm, newest: stamps[0] as Stamp, oldest: stamps.at(-1) as Stamp };
  });
  const vms: { names: string[]; newest: Stamp }[] = [];
  for (const { vm, newest, oldest } of spans.sort((a, b) => (a.oldest < b.oldest ? -1 : 1))) {
    const before = vms.filter((one) => one.newest < oldest).sort((a, b) => (a.newest < b.newest ? 1 : -1))[0];
    if (before === undefined) vms.push({ names: [vm], newest });
    else {
      before.names.push(vm);
      before.newest = newest;
    }
  }
  return vms.map(({ names }) => names);
}

/** Of the runs of one VM, newest first. */
function keepByRules(
  sorted: readonly RetainedRun[],
  rules: KeepRules,
  reasons: Map<RetainedRun, string>,
): void {
  const keep = (run: RetainedRun, reason: string): void => {
    if (!reasons.has(run)) reasons.set(run, reason);
  };
  const complete = sorted.filter(({ isComplete }) => isComplete);
  for (const run of sorted) if (run.isHeld) keep(run, 'held');
  for (const run of sorted) if (run.isRead) keep(run, 'a restore reads it, or waits to');
  for (const run of sorted) if (run.isForeign) keep(run, 'made by another program');
  for (const run of sorted) if (run.isArriving) keep(run, 'it may be under way');
  complete.slice(0, rules.last).forEach((run, at) => {
    keep(run, `one of the last ${rules.last} (${at + 1})`);
  });
  for (const [count, word, spanOf] of spansOf(rules)) {
    const spans = new Set<string>();
    for (const run of complete) {
      const span = spanOf(run.stamp);
      if (spans.has(span)) continue;
      if (spans.size >= count) break;
      spans.add(span);
      keep(run, `the newest of ${word} ${span}`);
    }
  }
  const [newest] = complete;
  if (newest !== undefined) keep(newest, 'the newest complete run');
  const good = complete.find(({ isDamaged }) => !isDamaged);
  if (good !== undefined) keep(good, 'the newest run that is not known to be damaged');
  // It may be a copy all the same, of which one VM alone is left.
  for (const name of new Set(complete.map(({ vm }) => vm))) {
    const last = complete.find(({ vm, isDamaged }) => vm === name && !isDamaged);
    if (last !== undefined) keep(last, `the newest good run of ${shownName(name)}`);
  }
  // What is newer than the newest complete run may be under way.
  for (const run of sorted)
    if (newest === undefined || run.stamp > newest.stamp) keep(run, 'not complete yet');
}

/** A DELTA without its FULL is lost: FULLs of kept runs stay, and what these need. */
function keepNeeded(runs: readonly RetainedRun[], reasons: Map<RetainedRun, string>): void {
  for (;;) {
    const needed = new Map<Stamp, Stamp>();
    for (const run of runs.filter((one) => reasons.has(one)))
      for (const stamp of run.needs) if (!needed.has(stamp)) needed.set(stamp, run.stamp);
    const added = runs.filter((run) => needed.has(run.stamp) && !reasons.has(run));
    if (added.length === 0) return;
    for (const run of added) reasons.set(run, `the FULL of ${needed.get(run.stamp)?.replace('T', ' ')}`);
  }
}

function spansOf({ daily, weekly, monthly }: KeepRules): [number, string, (stamp: Stamp) => string][] {
  return [
    [daily, 'day', (stamp) => stamp.slice(0, 10)],
    [weekly, 'the week of', mondayOf],
    [monthly, 'month', (stamp) => stamp.slice(0, 7)],
  ];
}

/** Date of the Monday of a stamp's week; stamps are local, so no time zone enters. */
function mondayOf(stamp: Stamp): string {
  const [year = 0, month = 1, day = 1] = stamp.slice(0, 10).split('-').map(Number);
  const date = new Date(Date.UTC(year, month - 1, day));
  date.setUTCDate(date.getUTCDate() - ((date.getUTCDay() + 6) % 7));
  return date.toISOString().slice(0, 10);
}
