/** Replication: its state, its lines, its passes. A pass is a process of its own: the console may go away. */
import { replicationMenu } from '../../menus/tree.ts';
import { cutToWidth, formatBytes, formatCount } from '../../src/engine/display-text.ts';
import { PhdError } from '../../src/errors.ts';
import type { Queue } from '../../src/queue/queue.ts';
import type { FailedGoal } from '../../src/replication/pass-state.ts';
import type { ReplicationStatus } from '../../src/replication/status.ts';
import type { Desk } from '../desk.ts';
import { type Line, ToMainMenu } from '../dialogue.ts';
import { localTime } from './job-figures.ts';
import { tellFailure } from './tell-failure.ts';

/** More failures than these are in the log. */
const SHOWN_FAILURES = 3;
const LOOK_EVERY_MS = 1_000;

type Step = (desk: Desk, queue: Queue, status: ReplicationStatus) => Promise<void>;

const STEPS: Record<string, Step> = {
  switch: switchOver,
  run: (desk, queue, status) => runNow(desk, queue, status, []),
  retry: retryFailed,
  'dry-run': dryRun,
  edit: editLines,
  load: loadDiskNames,
  view: viewRestored,
  forget: forgetRestored,
  locks: async (desk) => (await import('./locks.ts')).locks(desk),
  background: async (desk) => (await import('./background.ts')).background(desk),
  log: async (desk) => (await import('./log.ts')).log(desk),
};

export async function replication(desk: Desk): Promise<void> {
  const queue = await desk.queue();
  const { replicationStatus } = await import('../../src/replication/status.ts');
  let at = 'run';
  for (;;) {
    await desk.refreshState();
    const status = await replicationStatus(queue);
    const chosen = await desk.dialogue.menu(replicationMenu(status.enabled), {
      at,
      lines: () => stateLines(status, desk.dialogue.columns),
    });
    if (chosen === undefined || chosen === 'quit') return;
    if (chosen === 'abort') throw new ToMainMenu();
    at = chosen;
    await tellFailure(desk, 'That did not work', () => (STEPS[chosen] as Step)(desk, queue, status));
  }
}

function stateLines(status: ReplicationStatus, columns: number): readonly Line[] {
  const { enabled, everyMinutes, lines, faults, failed, daemon, restoreQueue } = status;
  const every = enabled ? `on, a pass every ${everyMinutes} min` : 'off';
  const held: Line[] =
    enabled && !daemon
      ? [{ text: 'No daemon runs: passes wait until it is started (main menu, 2).', mark: 'warning' }]
      : enabled && !restoreQueue
        ? [{ text: 'The restore queue is off (Configuration, R): the daemon runs no pass.', mark: 'warning' }]
        : [];
  const unread: Line[] =
    faults === 0
      ? []
      : [{ text: `${formatCount(faults, 'line')} that cannot be read: E shows which.`, mark: 'bad' }];
  return [
    `Replication is ${every}. ${lines === null ? 'No vmdks.auto yet: F makes it.' : `${formatCount(lines, 'line')} in vmdks.auto.`}`,
    lastPassText(status),
    ...held,
    ...unread,
    ...failed.slice(0, SHOWN_FAILURES).map((one): Line => {
      // One row each: the menu below must stay in sight.
      const text = cutToWidth(`Failed: ${shortGoal(one)}: ${one.message}`, columns - 1);
      return { text, mark: 'bad' };
    }),
    ...(failed.length > SHOWN_FAILURES
      ? [{ text: `and ${failed.length - SHOWN_FAILURES} more: G lists them`, mark: 'bad' } as const]
      : []),
  ];
}

function lastPassText({ startedAt, endedAt, running, restored, failed, fault }: ReplicationStatus): string {
  if (startedAt === null) return 'No pass was run yet.';
  const begun = localTime(startedAt);
  if (running) return `A pass runs since ${begun}.`;
  if (fault !== null) return `The pass of ${begun} did not get through: ${fault}`;
  if (endedAt === null) return `The pass of ${begun} was broken off.`;
  return `Last pass: ${begun}, ${restored} restored, ${failed.length} failed.`;
}

async function switchOver(desk: Desk, queue: Queue, { enabled }: ReplicationStatus): Promise<void> {
  const { setSetting } = await import('../../src/engine/configuration.ts');
  await setSetting(queue.places, 'replication.enabled', String(!enabled));
  desk.dialogue.notice(enabled ? 'Replication is off.' : 'Replication is on.');
}

/** The pass writes its plan and its end to a log of its own, which is shown as it grows. */
async function runNow(
  desk: Desk,
  queue: Queue,
  { running }: ReplicationStatus,
  words: readonly string[],
): Promise<void> {
  if (running) throw new PhdError('LOCKED', 'a pass runs already: see Background status');
  const isSure = await desk.dialogue.confirm({
    title: words.length === 0 ? 'Run a pass now' : 'Go again over what failed',
    lines: ['Targets are listed, and what is new is restored over the disks that vmdks.auto names.'],
    question: 'Run it?',
    isDestructive: true,
  });
  if (!isSure) return;
  const { startPass } = await import('../../src/replication/start-pass.ts');
  const pass = await startPass(queue, desk.env, words);
  const { FileTail } = await import('../file-tail.ts');
  const tail = new FileTail(pass.logFile);
  await desk.dialogue.read({
    title: 'Pass of replication (it goes on without this screen)',
    lines: () => [...tail.lines(), ...(pass.ended() === undefined ? [] : ['', 'The pass has ended.'])],
    refreshMs: LOOK_EVERY_MS,
    isFollowing: true,
  });
}

/** What failed, each with its whole reason; R goes over all of it again. */
async function retryFailed(desk: Desk, queue: Queue, status: ReplicationStatus): Promise<void> {
  const { failed } = status;
  if (failed.length === 0) throw new PhdError('NOT_FOUND', 'nothing failed in the last pass');
  const { rowSource } = await import('./restore/sources.ts');
  let at: string | undefined;
  for (;;) {
    const answer = await desk.dialogue.list<FailedGoal>({
      title: 'What failed in the last pass',
      source: rowSource(failed, ({ goal }) => goal),
      idOf: ({ goal }) => goal,
      ...(at === undefined ? {} : { at }),
      columns: [
        { title: 'Disk', columns: 26, text: shortGoal },
        { title: 'Why', columns: 0, text: ({ message }) => message },
      ],
      actions: [{ key: 'r', id: 'run', footer: 'run again', help: 'a pass over all of these lines' }],
      empty: 'Nothing failed.',
    });
    if (answer === undefined || answer.kind === 'quit') return;
    if (answer.kind === 'action') return await runNow(desk, queue, status, ['--retry-failed']);
    const { goal, archive, job, message } = answer.row;
    at = goal;
    await desk.dialogue.tell(shortGoal(answer.row), [
      goal,
      { text: message, mark: 'bad' },
      ...(archive === null ? [] : [`from ${archive}`]),
      ...(job === null ? [] : [`job ${job}: Background status has its log`]),
    ]);
  }
}

/** Folder and disk. */
function shortGoal({ goal }: FailedGoal): string {
  return goal.split('/').slice(-2).join('/');
}

async function dryRun(desk: Desk, queue: Queue): Promise<void> {
  const { startPass } = await import('../../src/replication/start-pass.ts');
  const pass = await desk.dialogue.busy('Dry run', async (signal, say) => {
    say('listing targets and matching lines');
    const begun = await startPass(queue, desk.env, ['--dry-run'], signal);
    await begun.end;
    return begun;
  });
  if (pass === undefined) return;
  const { FileTail } = await import('../file-tail.ts');
  const lines = new FileTail(pass.logFile).lines();
  const shown = lines.length === 0 ? ['vmdks.auto has no line in use: E edits it, F loads names.'] : lines;
  await desk.dialogue.read({ title: 'What each line would do', lines: () => shown });
}

async function editLines(desk: Desk, queue: Queue): Promise<void> {
  const { appendVmdksAuto, readVmdksAuto, vmdksFile } = await import('../../src/replication/vmdks-file.ts');
  const { runOverFile } = await import('./lent-program.ts');
  if ((await readVmdksAuto(queue.places)) === undefined) await appendVmdksAuto(queue.places, []);
  const editor = desk.env.VISUAL || desk.env.EDITOR || 'vi';
  const failure = await runOverFile(desk, editor, vmdksFile(queue.places));
  if (failure !== undefined) return desk.dialogue.tell('Edit vmdks.auto', [`${failure}: set EDITOR`]);
  const read = await readVmdksAuto(queue.places);
  const faults = read?.faults ?? [];
  if (faults.length === 0) {
    desk.dialogue.notice(`${formatCount(read?.restores.length ?? 0, 'line')} in use, no faults.`);
    return;
  }
  const lines = faults.map(({ lineNumber, message }) => `line ${lineNumber}: ${message}`);
  await desk.dialogue.read({ title: 'Lines that cannot be read', lines: () => lines });
}

async function loadDiskNames(desk: Desk): Promise<void> {
  const context = await desk.context();
  const loaded = await desk.dialogue.busy('Load disk names', async (signal, say) => {
    say('listing targets');
    const { indexTargets } = await import('../../src/engine/index-targets.ts');
    const results = await indexTargets(context, { signal });
    say('looking for names');
    const { loadNames } = await import('../../src/replication/load-names.ts');
    const errors = results.flatMap(({ error }) => (error === null ? [] : [error.message]));
    return { ...(await loadNames(context)), errors };
  });
  if (loaded === undefined) return;
  const { added, knownCount, unfit, errors } = loaded;
  await desk.dialogue.tell('Load disk names', [
    `${formatCount(added.length, 'line')} added, commented out; ${knownCount} there already.`,
    ...unfit.map((name): Line => ({ text: `${name}: this name cannot stand there`, mark: 'warning' })),
    ...errors.map((text): Line => ({ text, mark: 'bad' })),
  ]);
}

async function viewRestored(desk: Desk, queue: Queue): Promise<void> {
  const { readRestoredLog } = await import('../../src/replication/restored-log.ts');
  const { entries, damagedLines } = await readRestoredLog(queue.places);
  const lines = entries.map(
    ({ time, archive, goal, bytes, result }) =>
      `${localTime(time)} ${result} ${goal}, ${formatBytes(bytes)}, from ${archive}`,
  );
  if (lines.length === 0) lines.push('Nothing was restored by replication yet.');
  if (damagedLines.length > 0) lines.push(`No entry in line ${damagedLines.join(', ')}.`);
  await desk.dialogue.read({ title: 'restored.log', lines: () => lines });
}

async function forgetRestored(desk: Desk, queue: Queue): Promise<void> {
  const isSure = await desk.dialogue.confirm({
    title: 'Delete restored.log',
    lines: ['The next pass restores every line again.'],
    question: 'Delete it?',
    isDestructive: true,
  });
  if (!isSure) return;
  const { clearRestoredLog } = await import('../../src/replication/restored-log.ts');
  await clearRestoredLog(queue.places);
  desk.dialogue.notice('restored.log is deleted.');
}
