/** A run as a mail: the subject tells the outcome first, the text fits 78 columns. */
import { cutToWidth, escapeText, formatBytes, formatCount } from '../engine/display-text.ts';
import { isFailed, type RunReport, totalsOf, type VmReport } from './run-report.ts';

const COLUMNS = 78;

export function subjectOf(report: RunReport, host: string): string {
  const { good, warnings, errors } = totalsOf(report);
  const outcome = report.isKilled ? 'KILLED' : isFailed(report) ? 'FAILED' : warnings > 0 ? 'WARNING' : 'OK';
  const counts = [`${good + warnings} backed up`, ...(errors > 0 ? [formatCount(errors, 'error')] : [])].join(
    ', ',
  );
  return cutToWidth(escapeText(`${outcome}: backup job ${report.job} on ${host}: ${counts}`), COLUMNS);
}

/** What failed comes first. */
export function textOf(report: RunReport, host: string): string {
  const { vms, errors, warnings, removedRuns, startedAt, endedAt } = report;
  const failed = vms.filter(({ result }) => result === 'failed');
  const others = vms.filter(({ result }) => result !== 'failed');
  const bytes = vms.reduce((sum, { archiveBytes }) => sum + archiveBytes, 0);
  const lines = [
    `Backup job ${report.job} (${report.mode}) on ${host}`,
    `from ${startedAt} to ${endedAt}`,
    `${formatBytes(bytes)} written, ${removedRuns} old runs removed`,
    ...section('ERRORS', [...errors, ...failed.map(({ vm, message }) => `${vm}: ${message ?? 'failed'}`)]),
    ...section('WARNINGS', warnings),
    ...section('BACKED UP', others.map(vmLine)),
  ];
  return `${lines.flatMap(folded).join('\n')}\n`;
}

function vmLine({ vm, target, result, job, disks, diskBytes, archiveBytes, seconds }: VmReport): string {
  const mark = result === 'warnings' ? ` (with warnings: phd jobs log ${job ?? ''})` : '';
  return `${vm}: ${formatCount(disks, 'disk')}, ${formatBytes(diskBytes)} as ${formatBytes(archiveBytes)} in ${Math.round(seconds)} s, target ${target ?? '?'}${mark}`;
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', title, ...lines.map((line) => `  ${line}`)];
}

function folded(line: string): string[] {
  const lines: string[] = [];
  let rest = escapeText(line);
  while (rest.length > COLUMNS) {
    const blank = rest.lastIndexOf(' ', COLUMNS);
    const at = blank > COLUMNS / 2 ? blank : COLUMNS;
    lines.push(rest.slice(0, at));
    rest = `    ${rest.slice(at).trimStart()}`;
  }
  return [...lines, rest];
}
