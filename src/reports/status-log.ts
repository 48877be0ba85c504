/**
 * The status log: lines `2026/11/26 22:00:00,vm-backup,HOST,begin|end,text` in local time, as scripts that read those of
 * NAUbackup expect them. A run's lines are written at once, so two writers never mix within a line.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { localStamp } from '../clock.ts';
import { escapeText, formatBytes, formatCount } from '../engine/display-text.ts';
import { fromErrno } from '../errors.ts';
import { makeFolder } from '../make-folder.ts';
import { type RunReport, totalsOf, type VmReport } from './run-report.ts';

export async function logBegin(
  file: string,
  host: string,
  { job, mode, startedAt }: Pick<RunReport, 'job' | 'mode' | 'startedAt'>,
): Promise<void> {
  await append(file, [lineOf(startedAt, 'backup-job', host, 'begin', `${job} (${mode})`)]);
}

/** A line for each VM and the totals: `S` good, `W` with warnings, `E` errors. Throws IO, NO_SPACE. */
export async function logEnd(file: string, host: string, report: RunReport): Promise<void> {
  const { job, endedAt, vms, errors, isKilled } = report;
  const { good, warnings, errors: wrong } = totalsOf(report);
  await append(file, [
    ...vms.flatMap((vm) => vmLines(vm, host, endedAt)),
    ...errors.map((text) => lineOf(endedAt, 'backup-job', host, 'end', `ERROR ${text}`)),
    lineOf(
      endedAt,
      'backup-job',
      host,
      'end',
      `${job} ${isKilled ? 'KILLED ' : ''}S:${good} W:${warnings} E:${wrong}`,
    ),
  ]);
}

/** With the times of the VM itself; they are written when the run ends. */
function vmLines(vm: VmReport, host: string, runEndedAt: string): string[] {
  const end = lineOf(vm.endedAt ?? runEndedAt, 'vm-backup', host, 'end', vmText(vm));
  if (vm.startedAt === null) return [end];
  const words = vm.target === null ? vm.vm : `${vm.vm} to target ${vm.target}`;
  return [lineOf(vm.startedAt, 'vm-backup', host, 'begin', words), end];
}

function vmText({ vm, target, result, message, disks, archiveBytes, seconds }: VmReport): string {
  if (result === 'failed') return `${vm} ERROR ${message ?? ''}`;
  const words = result === 'warnings' ? 'WARNING ' : '';
  return `${vm} ${words}${formatCount(disks, 'disk')} ${formatBytes(archiveBytes)} in ${Math.round(seconds)} s to target ${target ?? '?'}`;
}

function lineOf(timeUtc: string, kind: string, host: string, what: 'begin' | 'end', text: string): string {
  const date = new Date(timeUtc);
  const stamp = localStamp(date).replaceAll('-', '/').replace('T', ' ');
  const seconds = String(date.getSeconds()).padStart(2, '0');
  // The commas of the form are those before the text.
  return `${stamp}:${seconds},${kind},${host.replaceAll(',', '_')},${what},${escapeText(text)}\n`;
}

async function append(file: string, lines: readonly string[]): Promise<void> {
  try {
    await makeFolder(path.dirname(file), 0o777);
    // A pipe that nobody reads would hold the run up for ever.
    const { O_APPEND, O_CREAT, O_NONBLOCK, O_WRONLY } = constants;
    const handle = await open(file, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0o640);
    try {
      await handle.write(lines.join(''));
      if ((await handle.stat()).isFile()) await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fromErrno(error, `cannot write the status log ${file}`);
  }
}
