/** What the backup jobs would do, VM by VM, with the reason; what is wrong in them; VMs that no job takes. */
import { localStamp } from '../clock.ts';
import { previewBackup } from '../engine/backup-preview.ts';
import type { EngineContext } from '../engine/context.ts';
import { defaultTarget } from '../engine/default-target.ts';
import { type ListedRow, listedRows } from '../engine/list-archives.ts';
import { walkArchives } from '../engine/walk-archives.ts';
import { fromErrno } from '../errors.ts';
import type { Stamp } from '../model/archive.ts';
import { globMatches } from '../model/glob.ts';
import { jobFaults, openJob } from './job.ts';
import { findJobVms, type JobVm } from './job-vms.ts';
import type { KeepRules } from './retention.ts';
import { rulesOf } from './run-backup-job.ts';
import type { Schedule } from './schedule.ts';
import { selectVms } from './select-vms.ts';
import { SharedVms } from './shared-vms.ts';

export interface PreviewedVm {
  job: string;
  vm: string;
  from: string;
  target: number | null;
  /** What the next run makes unless more than the threshold has changed; null: it is not taken, or cannot be told. */
  mode: 'full' | 'delta' | null;
  /** The entry that takes it, or takes it away, and why this mode. */
  reason: string;
  disks: number | null;
  diskBytes: number | null;
  /** Of the last archive of that kind on the target; null: there is none. */
  expectedBytes: number | null;
  keep: KeepRules | null;
  /** Disks that cannot be backed up as they stand, each with the reason. */
  refused: string[];
}

export interface PreviewedJob {
  name: string;
  enabled: boolean;
  /** Local times. */
  nextFull: Stamp | null;
  nextDelta: Stamp | null;
  vms: PreviewedVm[];
  excluded: PreviewedVm[];
  errors: string[];
  warnings: string[];
}

export interface Preview {
  jobs: PreviewedJob[];
  /** VMs that no enabled job takes. */
  uncovered: JobVm[];
  /** Of the configuration and of sources that cannot be listed. */
  errors: string[];
}

/** Of all jobs, or one of them. Throws CANCELLED, USAGE. */
export async function previewJobs(
  context: EngineContext,
  only: string | null,
  signal?: AbortSignal,
): Promise<Preview> {
  const { config, clock } = context;
  const faults = jobFaults(config);
  const errors = faults.map(({ text }) => text);
  const broken = new Set(faults.map(({ job }) => job));
  const all = await findJobVms(context, null, signal);
  const covered = new Set<string>();
  const sharing = new SharedVms(context, signal);
  const jobs: PreviewedJob[] = [];
  for (const one of config.backupJobs.filter((job) => !broken.has(job))) {
    const job = openJob(one);
    const found = one.from === null ? all : await findJobVms(context, one.from, signal);
    const selection = selectVms(found.vms, job.vms, job.exclude);
    if (one.enabled) for (const { vm } of selection.selected) covered.add(keyOf(vm));
    if (only !== null && one.name !== only) continue;
    const targets = one.targets ?? [defaultTarget(config)];
    const vms: PreviewedVm[] = [];
    for (const selected of selection.selected) {
      const base = {
        job: one.name,
        vm: selected.vm.name,
        from: selected.vm.from,
        keep: rulesOf(job, selected),
      };
      const source = await lookAt(context, selected.vm, one.disks, one.excludeDisks);
      for (const target of targets)
        vms.push({
          ...base,
          target,
          ...source.shown,
          ...expected(context, source.uuid, target, selected.by),
        });
    }
    const shared = await sharing.of(
      job,
      selection.selected.map(({ vm }) => vm),
    );
    const kept = [...shared].map(([vm, why]) => `${vm.name}: ${why}: nothing of it is removed`);
    jobs.push({
      name: one.name,
      enabled: one.enabled,
      nextFull: nextOf(job.full, clock.now()),
      nextDelta: nextOf(job.delta, clock.now()),
      vms,
      excluded: selection.excluded.map(({ vm, by }) => notTaken(one.name, vm, `exclude ${by}`)),
      errors: [...(one.from === null ? [] : found.faults), ...selection.errors],
      warnings: [...found.warnings, ...selection.warnings, ...kept],
    });
  }
  return {
    jobs,
    uncovered: all.vms.filter((vm) => !covered.has(keyOf(vm))),
    errors: [...errors, ...all.faults],
  };
}

export function nextOf(schedule: Schedule | null, now: Date): Stamp | null {
  const next = schedule?.next(now);
  return next == null ? null : localStamp(next);
}

function keyOf({ from, source }: JobVm): string {
  return JSON.stringify([from, source]);
}

function notTaken(job: string, { name, from }: JobVm, reason: string): PreviewedVm {
  const nothing = { target: null, mode: null, disks: null, diskBytes: null, expectedBytes: null, keep: null };
  return { job, vm: name, from, reason, ...nothing, refused: [] };
}

/** Disks of a local VM; those of a VM on a host show when it is held still. */
async function lookAt(
  context: EngineContext,
  { source, hostVm }: JobVm,
  disks: readonly string[] | null,
  excluded: readonly string[],
): Promise<{ uuid: string | null; shown: Pick<PreviewedVm, 'disks' | 'diskBytes' | 'refused'> }> {
  if (!('folder' in source))
    return { uuid: hostVm?.uuid ?? null, shown: { disks: null, diskBytes: null, refused: [] } };
  try {
    const preview = await previewBackup(context, source.folder);
    const isWanted = (name: string): boolean =>
      (disks?.some((one) => globMatches(one, name)) ?? true) &&
      !excluded.some((one) => globMatches(one, name));
    const wanted = preview.disks.filter(({ name }) => isWanted(name));
    const shown = {
      disks: wanted.length,
      diskBytes: wanted.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      refused: preview.refused.filter(({ disk }) => isWanted(disk)).map(({ reason }) => reason),
    };
    return { uuid: preview.uuid, shown };
  } catch (error) {
    return {
      uuid: null,
      shown: { disks: 0, diskBytes: 0, refused: [fromErrno(error, source.folder).message] },
    };
  }
}

/** What the index says of the VM's archives on that target. */
function expected(
  context: EngineContext,
  uuid: string | null,
  target: number | null,
  by: string,
): Pick<PreviewedVm, 'mode' | 'reason' | 'expectedBytes'> {
  if (uuid === null || target === null) return { mode: null, reason: `taken by ${by}`, expectedBytes: null };
  const rows = [...walkArchives(context, { uuid, targets: [target] })].flatMap((page) =>
    listedRows(context, page),
  );
  const fulls = rows.filter(({ kind, state }) => kind === 'full' && state !== 'arriving or cut');
  const bytes = (list: readonly ListedRow[]): number | null => {
    const [newest] = list;
    if (newest === undefined) return null;
    return list
      .filter(({ stamp }) => stamp === newest.stamp)
      .reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  };
  if (fulls.length === 0)
    return { mode: 'full', reason: `taken by ${by}; no FULL is on target ${target}`, expectedBytes: null };
  // As base-full.ts decides: a DELTA against a FULL that is known to be bad would restore nothing.
  const diskOf = ({ scsiId, disk }: ListedRow): string => `${scsiId} ${disk}`;
  const now = new Set(rows.filter(({ stamp }) => stamp === rows[0]?.stamp).map(diskOf));
  const newestOf = new Map([...fulls].reverse().map((row) => [diskOf(row), row]));
  const bad = [...newestOf.values()].find((row) => row.verifyResult === 'damaged' && now.has(diskOf(row)));
  if (bad !== undefined) {
    const reason = `taken by ${by}; its FULL of ${bad.stamp.replace('T', ' ')} was found damaged`;
    return { mode: 'full', reason, expectedBytes: bytes(fulls) };
  }
  const deltas = rows.filter(({ kind, stamp, fullStamp }) => kind === 'delta' && stamp !== fullStamp);
  const newest = fulls[0]?.stamp.replace('T', ' ');
  return { mode: 'delta', reason: `taken by ${by}; its FULL is of ${newest}`, expectedBytes: bytes(deltas) };
}
