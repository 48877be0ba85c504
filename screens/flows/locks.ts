/** Locks over the queue: who set which, from where and when; clear them, set them, end what runs. */
import { LOCK_KIND_MENU, LOCKS_MENU } from '../../menus/tree.ts';
import { formatCount } from '../../src/engine/display-text.ts';
import type { LockKind } from '../../src/model/job.ts';
import type { Queue } from '../../src/queue/queue.ts';
import type { Desk } from '../desk.ts';
import type { Line } from '../dialogue.ts';
import { tellFailure } from './tell-failure.ts';

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

/** Sets the locks first, so that nothing starts while jobs are ended. */
async function kill(desk: Desk, queue: Queue): Promise<void> {
  const kinds = await kindsAsked(desk);
  if (kinds === undefined) return;
  queue.settleInterrupted();
  const isAll = kinds.length === BOTH.length;
  const running = queue.db.jobs({ states: ['running'], ...(isAll ? {} : { kinds }) });
  const what = running.map(({ id, kind, title }) => `${id}  ${kind} ${title}`);
  const isSure = await desk.dialogue.confirm({
    title: 'Kill what runs',
    lines: running.length === 0 ? ['Nothing runs. Locks are set, so that nothing starts.'] : what.slice(0, 8),
    question: running.length === 0 ? 'Set the locks?' : `End ${formatCount(running.length, 'job')} now?`,
    isDestructive: true,
  });
  if (!isSure) return;
  const { submitterOf } = await import('../../src/queue/submitter.ts');
  for (const kind of kinds) queue.db.setLock({ kind, by: submitterOf(desk.env), at: queue.now() });
  const { killJobs } = await import('./job-kill.ts');
  await killJobs(
    desk,
    running.map(({ id }) => id),
  );
}
