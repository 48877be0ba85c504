/** A run of a backup job as it is told to people and programs. */

export interface VmReport {
  vm: string;
  from: string;
  target: number | null;
  /** Number of its job in the queue; null: none was queued. */
  job: number | null;
  result: 'done' | 'warnings' | 'failed';
  code: string | null;
  message: string | null;
  disks: number;
  diskBytes: number;
  archiveBytes: number;
  seconds: number;
  /** UTC, ISO 8601; null: it was not begun. */
  startedAt: string | null;
  endedAt: string | null;
}

export interface RunReport {
  runId: string;
  job: string;
  mode: 'full' | 'delta';
  /** UTC, ISO 8601. */
  startedAt: string;
  endedAt: string;
  vms: readonly VmReport[];
  removedRuns: number;
  errors: readonly string[];
  warnings: readonly string[];
  /** It was killed before its end. */
  isKilled: boolean;
}

/** VMs that succeeded, that succeeded with warnings, and all that went wrong. */
export function totalsOf({ vms, errors }: RunReport): { good: number; warnings: number; errors: number } {
  const count = (result: VmReport['result']): number => vms.filter((vm) => vm.result === result).length;
  return { good: count('done'), warnings: count('warnings'), errors: count('failed') + errors.length };
}

export function isFailed(report: RunReport): boolean {
  return report.isKilled || totalsOf(report).errors > 0;
}
