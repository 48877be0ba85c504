/** A backup job of phd.yaml with its patterns and schedules read. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { noSuch } from '../config/no-such.ts';
import { PhdError } from '../errors.ts';
import type { BackupJobConfig, Config } from '../model/config.ts';
import { nearNames } from '../model/near-names.ts';
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

export interface JobFault {
  job: BackupJobConfig;
  /** `/etc/phd/phd.yaml:12: job nightly: ...` */
  text: string;
}

/** All that is wrong with the jobs of a configuration. */
export function jobFaults(config: Config): JobFault[] {
  return config.backupJobs.flatMap((job) =>
    [...faultsOf(job), ...strangersOf(job, config)].map((text) => ({
      job,
      text: `${config.file}:${job.line}: ${text}`,
    })),
  );
}

/** What a job names and the configuration does not have. */
function strangersOf(job: BackupJobConfig, { file, hosts, targets }: Config): string[] {
  const names = hosts.map(({ name }) => name);
  // A word that is no host was taken for a folder beside phd.yaml.
  const slips = (job.from ?? [])
    .filter((one) => !names.includes(one) && path.dirname(one) === path.dirname(file) && !existsSync(one))
    .map((one) => path.basename(one));
  return [
    ...(job.targets ?? [])
      .filter((number) => !targets.some((one) => one.number === number && !one.readOnly))
      .map((number) => `job ${job.name}: there is no target ${number} that may be written`),
    ...slips.map((one) => {
      const near = nearNames(one, names);
      const words = near.length === 0 ? '' : `; did you mean ${near.join(' or ')}?`;
      return `job ${job.name}: from: there is no host ${one}, nor a folder of that name${words}`;
    }),
  ];
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
