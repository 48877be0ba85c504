/** A preview of the backup jobs as lines for people. */
import { formatBytes, formatCount } from '../engine/display-text.ts';
import type { Preview, PreviewedJob, PreviewedVm } from './preview.ts';

export function previewLines({ jobs, uncovered }: Preview): string[] {
  return [
    ...(jobs.length === 0 ? ['no backup job is configured'] : []),
    ...jobs.flatMap((job) => [
      `${job.name}${job.enabled ? '' : ' (off)'}: ${timesOf(job)}`,
      ...job.vms.map((vm) => `  ${lineOf(vm)}`),
      ...job.excluded.map(({ vm, reason }) => `  - ${vm}: ${reason}`),
    ]),
    ...uncovered.map(({ name, from }) => `no job takes ${name} (${from})`),
  ];
}

/** When a job runs next, in words. */
function timesOf({ nextFull, nextDelta }: Pick<PreviewedJob, 'nextFull' | 'nextDelta'>): string {
  const times = [
    ...(nextFull === null ? [] : [`FULL ${nextFull.replace('T', ' ')}`]),
    ...(nextDelta === null ? [] : [`DELTA ${nextDelta.replace('T', ' ')}`]),
  ];
  return times.length === 0 ? 'only by hand' : `next ${times.join(', ')}`;
}

function lineOf({
  vm,
  from,
  target,
  mode,
  reason,
  disks,
  diskBytes,
  expectedBytes,
  keep,
  refused,
}: PreviewedVm): string {
  const what = mode === null ? 'backup' : mode.toUpperCase();
  const size = disks === null ? '' : `, ${formatCount(disks, 'disk')}, ${formatBytes(diskBytes ?? 0)}`;
  const about = expectedBytes === null ? '' : `, about ${formatBytes(expectedBytes)}`;
  const kept = keep === null ? 'keeps all' : `keeps ${keepText(keep)}`;
  const left = refused.map((one) => `; left out: ${one}`).join('');
  return `${vm} (${from}): ${what} to target ${target ?? '?'}${size}${about}, ${kept}; ${reason}${left}`;
}

function keepText(keep: NonNullable<PreviewedVm['keep']>): string {
  return Object.entries(keep)
    .filter(([, count]) => count > 0)
    .map(([word, count]) => `${count} ${word}`)
    .join(', ');
}
