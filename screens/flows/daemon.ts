/** The daemon: whether it runs, start it, stop it after its jobs or now. */
import { DAEMON_MENU } from '../../menus/tree.ts';
import { formatCount } from '../../src/engine/display-text.ts';
import { fromErrno } from '../../src/errors.ts';
import type { Queue } from '../../src/queue/queue.ts';
import type { Desk } from '../desk.ts';
import type { Line } from '../dialogue.ts';
import { localTime } from './job-figures.ts';
import { tellFailure } from './tell-failure.ts';

type Control = typeof import('../../src/queue/daemon-control.ts');

export async function daemon(desk: Desk): Promise<void> {
  const queue = await desk.queue();
  const control = await import('../../src/queue/daemon-control.ts');
  let at: string | undefined;
  for (;;) {
    await desk.refreshState();
    const held = await queueOffLine(queue);
    const chosen = await desk.dialogue.menu(DAEMON_MENU, {
      at: at ?? (queue.isDaemonRunning() ? 'stop' : 'start'),
      lines: () => [...statusLines(desk, queue, control), ...held],
    });
    if (chosen === undefined || chosen === 'quit') return;
    at = chosen;
    await tellFailure(desk, 'That did not work', async () => {
      if (chosen === 'start') await start(desk, queue, control);
      if (chosen === 'stop') await stop(desk, queue, control);
      if (chosen === 'stop-now') await stopNow(desk, queue, control);
      if (chosen === 'log') await (await import('./log.ts')).log(desk);
    });
  }
}

/** Why restores wait although the daemon runs. */
async function queueOffLine(queue: Queue): Promise<Line[]> {
  const { readJobSettings } = await import('../../src/engine/configuration.ts');
  const { QUEUE_OFF } = await import('../../src/queue/gate.ts');
  try {
    if ((await readJobSettings(queue.places)).restoreQueue) return [];
    return [{ text: `Restores wait: ${QUEUE_OFF}.`, mark: 'warning' }];
  } catch (error) {
    return [{ text: fromErrno(error, 'the settings cannot be read').message, mark: 'bad' }];
  }
}

function statusLines({ state }: Desk, queue: Queue, control: Control): readonly Line[] {
  const counts = `${formatCount(state.jobs?.waiting ?? 0, 'job')} waiting, ${state.jobs?.running ?? 0} running.`;
  try {
    const { isRunning, record } = control.daemonStatus(queue);
    if (!isRunning) return ['No daemon runs: queued jobs wait until it is started.', counts];
    if (record === null) return ['The daemon is starting.', counts];
    const stopping = record.stopRequest === null ? '' : ' It stops after its jobs.';
    return [
      `The daemon runs since ${localTime(record.startedAt)}, process ${record.process.pid}.${stopping}`,
      counts,
    ];
  } catch (error) {
    return [{ text: fromErrno(error, 'the queue cannot be read').message, mark: 'bad' }];
  }
}

async function start(desk: Desk, queue: Queue, control: Control): Promise<void> {
  const isNew = await desk.dialogue.busy('Daemon', async (_signal, say) => {
    say('starting');
    return await control.startDaemon(queue, desk.env);
  });
  if (isNew !== undefined) desk.dialogue.notice(isNew ? 'The daemon runs.' : 'It ran already.');
}

async function stop(desk: Desk, queue: Queue, control: Control): Promise<void> {
  const isGone = await desk.dialogue.busy('Daemon', async (_signal, say) => {
    say('asking it to stop');
    return await control.stopDaemon(queue, 'after-jobs');
  });
  if (isGone !== undefined) {
    desk.dialogue.notice(
      isGone ? 'The daemon has stopped.' : 'It starts nothing new and stops after what runs.',
    );
  }
}

async function stopNow(desk: Desk, queue: Queue, control: Control): Promise<void> {
  const running = queue.db.counts().running ?? 0;
  const isSure = await desk.dialogue.confirm({
    title: 'Stop now',
    lines: [`${formatCount(running, 'running job')} will be ended. Retry goes on where they were.`],
    question: 'Stop the daemon now?',
    isDestructive: true,
  });
  if (!isSure) return;
  const isGone = await desk.dialogue.busy('Daemon', async (_signal, say) => {
    say('ending jobs and the daemon');
    return await control.stopDaemon(queue, 'now');
  });
  if (isGone !== undefined)
    desk.dialogue.notice(isGone ? 'The daemon has stopped.' : 'The daemon does not answer: see the log.');
}
