/** The backup menu: a VM, the backup jobs with their runs, a preview, how all of it stands. */
import { BACKUP_JOB_MENU, backupMenu as menuOf } from '../../menus/backup-menus.ts';
import type { RunRecord } from '../../src/backup-jobs/run-record.ts';
import { localStamp } from '../../src/clock.ts';
import { escapeText } from '../../src/engine/display-text.ts';
import type { Desk } from '../desk.ts';
import type { Line } from '../dialogue.ts';
import type { Mark } from '../frame.ts';
import { rowSource } from './restore/sources.ts';
import { tellFailure } from './tell-failure.ts';

export async function backupMenu(desk: Desk): Promise<void> {
  let at: string | undefined;
  for (;;) {
    await desk.heedChangedConfig();
    const { backupJobs } = (await desk.context()).config;
    const menu = menuOf({ jobs: backupJobs.length });
    const chosen = await desk.dialogue.menu(menu, at === undefined ? {} : { at });
    if (chosen === undefined || chosen === 'quit') return;
    at = chosen;
    await desk.heedChangedConfig();
    await tellFailure(desk, 'That did not work', async () => {
      if (chosen === 'vm') await (await import('./backup.ts')).backup(desk);
      if (chosen === 'jobs') await jobs(desk);
      if (chosen === 'preview') await preview(desk, null);
      if (chosen === 'status') await status(desk);
    });
  }
}

interface JobRow {
  name: string;
  last: string;
  next: string;
  mark: Mark;
}

async function jobs(desk: Desk): Promise<void> {
  let at: string | undefined;
  for (;;) {
    const rows = await jobRows(desk);
    const answer = await desk.dialogue.list<JobRow>({
      title: 'Backup jobs',
      source: rowSource(rows, ({ name }) => name),
      idOf: ({ name }) => name,
      ...(at === undefined ? {} : { at }),
      columns: [
        { title: 'Job', columns: 16, text: ({ name }) => name },
        { title: 'Last run', columns: 26, text: ({ last }) => last },
        { title: 'Next', columns: 0, text: ({ next }) => next },
      ],
      markOf: ({ mark }) => mark,
      empty: 'No backup job is in phd.yaml.',
    });
    if (answer === undefined || answer.kind === 'quit') return;
    if (answer.row === undefined) continue;
    at = answer.row.name;
    await oneJob(desk, answer.row);
  }
}

async function jobRows(desk: Desk): Promise<JobRow[]> {
  const [{ readJobState, readRecords }, { isAlive }, { openedJob }, { nextOf }] = await Promise.all([
    import('../../src/backup-jobs/run-record.ts'),
    import('../../src/queue/process-identity.ts'),
    import('../../src/backup-jobs/due-jobs.ts'),
    import('../../src/backup-jobs/preview.ts'),
  ]);
  const { config, places, clock } = await desk.context();
  const records = readRecords(places);
  return config.backupJobs.map((one) => {
    const faults: string[] = [];
    const job = openedJob(one, faults);
    const last = records.find((record) => record.job === one.name);
    const { running } = readJobState(places, one.name);
    const failed =
      last === undefined ? 0 : last.errors.length + last.vms.filter(({ code }) => code !== null).length;
    const ended =
      last === undefined
        ? 'never'
        : `${localStamp(new Date(last.endedAt)).replace('T', ' ')} ${wordsOf(last, failed)}`;
    const now = clock.now();
    const next =
      job === null
        ? (faults[0] ?? '')
        : one.enabled
          ? soonest(nextOf(job.full, now), nextOf(job.delta, now))
          : 'off';
    const isGone = running !== null && !isAlive(running.process);
    return {
      name: one.name,
      last: running === null ? ended : isGone ? 'killed' : 'runs now',
      next,
      mark: job === null || failed > 0 || isGone ? 'bad' : 'plain',
    };
  });
}

/** The one that comes first; at the same time the FULL. */
function soonest(full: string | null, delta: string | null): string {
  if (full === null && delta === null) return 'only by hand';
  const isFull = delta === null || (full !== null && full <= delta);
  return `${isFull ? 'FULL' : 'DELTA'} ${(isFull ? full : delta)?.replace('T', ' ')}`;
}

function wordsOf({ isKilled, vms, warnings }: RunRecord, failed: number): string {
  if (isKilled) return 'killed';
  if (failed > 0) return `${failed} failed`;
  return warnings.length > 0 || vms.some(({ result }) => result === 'warnings') ? 'warnings' : 'good';
}

async function oneJob(desk: Desk, row: JobRow): Promise<void> {
  let at = 'delta';
  for (;;) {
    const chosen = await desk.dialogue.menu(BACKUP_JOB_MENU, {
      at,
      lines: () => [`${row.name}: last run ${row.last}`, row.next],
    });
    if (chosen === undefined || chosen === 'quit') return;
    at = chosen;
    await tellFailure(desk, 'That did not work', async () => {
      if (chosen === 'delta' || chosen === 'full') await run(desk, row.name, chosen);
      if (chosen === 'last') await showLast(desk, row.name);
      if (chosen === 'preview') await preview(desk, row.name);
    });
    if (chosen === 'delta' || chosen === 'full') return;
  }
}

async function run(desk: Desk, name: string, mode: 'delta' | 'full'): Promise<void> {
  const { startBackupJob } = await import('../../src/backup-jobs/start-backup-job.ts');
  await startBackupJob(await desk.queue(), name, mode, desk.env);
  void desk.refreshState();
  await desk.dialogue.tell('It runs', [
    `Backup job ${name} runs in the background, whether or not this console stays.`,
    'Background status shows its VMs, the list of backup jobs how it ended.',
  ]);
}

async function showLast(desk: Desk, name: string): Promise<void> {
  const [{ readRecords }, { textOf }] = await Promise.all([
    import('../../src/backup-jobs/run-record.ts'),
    import('../../src/reports/report-text.ts'),
  ]);
  const { places, hostName } = await desk.context();
  const last = readRecords(places).find(({ job }) => job === name);
  const lines = last === undefined ? ['It was never run.'] : textOf(last, hostName).trimEnd().split('\n');
  await desk.dialogue.read({ title: `Last run of ${name}`, lines: () => lines });
}

async function preview(desk: Desk, only: string | null): Promise<void> {
  const found = await desk.dialogue.busy('Preview', async (signal, say) => {
    say('looking at datastores and hosts');
    const { previewJobs } = await import('../../src/backup-jobs/preview.ts');
    return await previewJobs(await desk.context(), only, signal);
  });
  if (found === undefined) return;
  const { previewLines } = await import('../../src/backup-jobs/preview-text.ts');
  const faults = [...found.errors, ...found.jobs.flatMap(({ errors, warnings }) => [...errors, ...warnings])];
  const lines = [...faults.map((line) => `! ${line}`), ...previewLines(found)].map(escapeText);
  await desk.dialogue.read({ title: 'Preview', lines: () => lines });
}

async function status(desk: Desk): Promise<void> {
  const { findingsOf } = await import('../../src/backup-jobs/findings.ts');
  const findings = await findingsOf(await desk.context(), await desk.queue());
  const marks: Record<string, Mark> = { ok: 'plain', warning: 'warning', critical: 'bad' };
  await desk.dialogue.tell(
    'Status',
    findings.map(
      ({ level, about, text }): Line => ({ text: `${about}: ${text}`, mark: marks[level] ?? 'plain' }),
    ),
  );
}
