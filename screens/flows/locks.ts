/** Locks over the queue: who set which, from where and when; clear them, set them, end what runs. */
import { LOCK_KIND_MENU, LOCKS_MENU } from '../../menus/tree.ts';
import { formatCount } from '../../src/engine/display-text.ts';
import type { JobKind, LockKind } from '../../src/model/job.ts';
import type { Queue } from '../../src/queue/queue.ts';
import type { Desk } from '../desk.ts';
import type { Line } from '../dialogue.ts';
import { tellFailure } from './tell-failure.ts';

/** More would not fit on a small screen. */
const SHOWN_LINES = 8;
const BOTH: readonly LockKind[] = ['restore', 'backup'];

export async function locks(desk: Desk): Promise<void> {
  const queue = await desk.queue();
  let at: string | undefined;
  for (;;) {
    await desk.refreshState();
    const chosen = await desk.dialogue.menu(LOCKS_MENU, { at, lines: () => lockLines(desk) });
    if (chosen === undefined || chosen === 'quit') return;
    at = chosen;
    await tellFailure(desk, 'That did not work', async () => {
      if (chosen === 'clear') await clear(desk, queue);
      if (chosen === 'stop') await stop(desk, queue);
      if (chosen === 'kill') await kill(desk, queue);
    });
  }
}

function lockLines({ state }: Desk): readonly Line[] {
  const set = state.locks ?? [];
  const running = `${formatCount(state.jobs?.running ?? 0, 'job')} running, ${state.jobs?.waiting ?? 0} waiting.`;
  if (set.length === 0) return ['No lock is set: jobs may start.', running];
  return [...set.map((text): Line => ({ text, mark: 'warning' })), running];
}

/** undefined is back. */
async function kindsAsked(desk: Desk): Promise<readonly LockKind[] | undefined> {
  const chosen = await desk.dialogue.menu(LOCK_KIND_MENU, { at: 'both', lines: () => lockLines(desk) });
  if (chosen === undefined || chosen === 'quit') return undefined;
  return chosen === 'both' ? BOTH : [chosen as LockKind];
}

async function clear(desk: Desk, queue: Queue): Promise<void> {
  const set = queue.db.locks().map(({ kind }) => kind);
  const kinds = set.length > 1 ? await kindsAsked(desk) : set;
  if (kinds === undefined) return;
  const cleared = kinds.filter((kind) => queue.db.clearLock(kind));
  const names = cleared.map((kind) => `${kind}s`).join(' and ');
  desk.dialogue.notice(names === '' ? 'No lock was set.' : `${names} may start again.`);
}

async function stop(desk: Desk, queue: Queue): Promise<void> {
  const kinds = await kindsAsked(desk);
  if (kinds === undefined) return;
  const { submitterOf } = await import('../../src/queue/submitter.ts');
  const by = submitterOf(desk.env);
  const set = kinds.filter((kind) => queue.db.setLock({ kind, by, at: queue.now() }));
  const names = set.map((kind) => `${kind}s`).join(' and ');
  desk.dialogue.notice(
    names === '' ? 'It was set already.' : `${names} are stopped: what runs finishes its disk.`,
  );
}

/** Sets the locks first, so that nothing starts while work is ended: jobs, and commands on another screen. */
async function kill(desk: Desk, queue: Queue): Promise<void> {
  const kinds = await kindsAsked(desk);
  if (kinds === undefined) return;
  const { foregroundWork, killForeground } = await import('../../src/queue/foreground.ts');
  queue.settleInterrupted();
  const isAll = kinds.length === BOTH.length;
  const isMeant = (kind: JobKind): boolean => isAll || kinds.some((one) => one === kind);
  const jobs = queue.db.jobs({ states: ['running'] }).filter(({ kind }) => isMeant(kind));
  const commands = foregroundWork(queue.places).filter(({ kind }) => isMeant(kind));
  const what = [
    ...jobs.map(({ id, kind, title }) => `job ${id}: ${kind} ${title}`),
    ...commands.map(({ kind, process: { pid } }) => `process ${pid}: a ${kind} on another screen`),
  ];
  const isSure = await desk.dialogue.confirm({
    title: 'Kill what runs',
    lines: what.length === 0 ? ['Nothing runs. The locks are set all the same.'] : what.slice(0, SHOWN_LINES),
    question:
      what.length === 0
        ? 'Set the locks?'
        : `Set the locks and end ${what.length === 1 ? 'it' : `all ${what.length}`} now?`,
    isDestructive: true,
  });
  if (!isSure) return;
  const { submitterOf } = await import('../../src/queue/submitter.ts');
  for (const kind of kinds) queue.db.setLock({ kind, by: submitterOf(desk.env), at: queue.now() });
  const { killJobs } = await import('./job-kill.ts');
  await killJobs(
    desk,
    jobs.map(({ id }) => id),
  );
  for (const command of commands) await killForeground(command);
}
