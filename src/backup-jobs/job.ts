/** A backup job of phd.yaml with its patterns and schedules read. */
import { noSuch } from '../config/no-such.ts';
import { PhdError } from '../errors.ts';
import type { BackupJobConfig, Config } from '../model/config.ts';
import { parseSchedule, type Schedule } from './schedule.ts';
import { parseEntry, type VmPattern } from './vm-pattern.ts';

export interface BackupJob {
  config: BackupJobConfig;
  vms: VmPattern[];
  exclude: VmPattern[];
  full: Schedule | null;
  delta: Schedule | null;
}

/** Throws CONFIG_INVALID with the first fault, which names the job. */
export function openJob(config: BackupJobConfig): BackupJob {
  const [fault] = faultsOf(config);
  if (fault !== undefined) throw new PhdError('CONFIG_INVALID', fault);
  return {
    config,
    vms: config.vms.map(parseEntry),
    exclude: config.exclude.map(parseEntry),
    full: config.full === null ? null : parseSchedule(config.full),
    delta: config.delta === null ? null : parseSchedule(config.delta),
  };
}

/** The job of this name. Throws USAGE with those that there are, CONFIG_INVALID. */
export function namedJob({ file, backupJobs }: Config, name: string): BackupJob {
  const found = backupJobs.find((one) => one.name === name);
  if (found !== undefined) return openJob(found);
  throw noSuch(
    'backup job',
    name,
    file,
    backupJobs.map((one) => one.name),
    'write it under backupJobs:',
  );
}

/** All that is wrong with the jobs of a configuration, a line each. */
export function jobFaults({ backupJobs, targets }: Config): string[] {
  return backupJobs.flatMap((job) => [
    ...faultsOf(job),
    ...(job.targets ?? [])
      .filter((number) => !targets.some((one) => one.number === number && !one.readOnly))
      .map((number) => `job ${job.name}: there is no target ${number} that may be written`),
  ]);
}

function faultsOf(job: BackupJobConfig): string[] {
  const checks: (() => unknown)[] = [
    ...[...job.vms, ...job.exclude].map((entry) => () => parseEntry(entry)),
    ...[job.full, job.delta].flatMap((text) => (text === null ? [] : [() => parseSchedule(text)])),
  ];
  return checks.flatMap((check) => {
    try {
      check();
      return [];
    } catch (error) {
      return [`job ${job.name}: ${(error as Error).message}`];
    }
  });
}
