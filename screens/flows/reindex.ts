/** Re-index: all targets at once, each with its own progress; Esc leaves it. */
import type { EngineContext } from '../../src/engine/context.ts';
import type { IndexEvent, TargetIndexResult } from '../../src/engine/index-targets.ts';
import type { Desk } from '../desk.ts';
import { fitted, type Row, span, wrap } from '../frame.ts';
import type { Look } from '../look.ts';

const LOOK_EVERY_MS = 500;
const NAME_COLUMNS = 12;

/** By hand: every folder of every target, since targets get refilled from tape. */
export async function reindex(desk: Desk): Promise<void> {
  await watchIndex(desk, await desk.context(), 'all');
}

/** When a restore menu is entered: targets whose index is older than the setting. Nothing is shown if there are none. */
export async function freshenIndex(desk: Desk): Promise<void> {
  const context = await contextOfNow(desk);
  const { indexState } = await import('../../src/engine/index-state.ts');
  const isOld = indexState(context).targets.some((target) => target.isOld);
  if (isOld) await watchIndex(desk, context, 'old');
}

/** An index that was deleted, or made anew by another process, is opened anew. */
async function contextOfNow(desk: Desk): Promise<EngineContext> {
  const { statSync } = await import('node:fs');
  const context = await desk.context();
  const inode = statSync(context.index.file, { throwIfNoEntry: false })?.ino;
  const opened = inodes.get(context);
  if (opened === undefined && inode !== undefined) inodes.set(context, inode);
  if (inode !== undefined && (opened === undefined || opened === inode)) return context;
  await desk.forgetContext();
  return await desk.context();
}

/** File that each context's index was, when it was first looked at. */
const inodes = new WeakMap<EngineContext, number>();

interface Course {
  events: Map<number, IndexEvent>;
  results: Map<number, TargetIndexResult>;
  isOver: boolean;
  fault: string | undefined;
}

/** `all` stays until a key is pressed; `old` goes on by itself, and a notice names what failed. */
async function watchIndex(desk: Desk, context: EngineContext, scope: 'old' | 'all'): Promise<void> {
  const { indexTargets } = await import('../../src/engine/index-targets.ts');
  const abort = new AbortController();
  const course: Course = { events: new Map(), results: new Map(), isOver: false, fault: undefined };
  const work = indexTargets(context, {
    scope,
    signal: abort.signal,
    onEvent: (event) => course.events.set(event.targetNumber, event),
    onTarget: (result) => course.results.set(result.targetNumber, result),
  })
    .catch((error: Error) => {
      course.fault = error.message;
    })
    .finally(() => {
      course.isOver = true;
    });
  try {
    await desk.dialogue.watch({
      title: scope === 'all' ? 'Re-index' : 'Looking for new archives',
      rows: (columns) => ({ rows: rowsOf(context, course, columns, desk.look) }),
      refreshMs: LOOK_EVERY_MS,
      ...(scope === 'old' && { isOver: () => (course.isOver ? 'over' : undefined) }),
    });
  } finally {
    abort.abort();
  }
  await Promise.race([work, new Promise((resolve) => setTimeout(resolve, 1000).unref())]);
  const failed = [...course.results.values()].filter(
    ({ error }) => error !== null && error.code !== 'CANCELLED',
  );
  if (scope === 'old' && failed.length > 0) {
    desk.dialogue.notice(failed.map(({ error }) => error?.message).join('; '), 'warning');
  }
}

function rowsOf(context: EngineContext, course: Course, columns: number, look: Look): Row[] {
  const rows = context.config.targets.flatMap(({ number, name, transport }): Row[] => {
    const what = `${String(number).padStart(4)} ${fitted(name, NAME_COLUMNS, look)} ${transport.padEnd(5)}`;
    const result = course.results.get(number);
    const text = result === undefined ? courseText(course.events.get(number)) : endText(result);
    const mark = result === undefined ? 'plain' : result.error === null ? 'good' : 'bad';
    const lines = wrap(text, Math.max(20, columns - what.length - 1), look);
    const indent = ' '.repeat(what.length);
    return lines.map((line, at) => [span(at === 0 ? what : indent), span(` ${line}`, mark)]);
  });
  if (course.fault !== undefined) rows.push([], [span(course.fault, 'bad')]);
  if (course.isOver) rows.push([], [span('Done. Esc goes back.')]);
  return rows;
}

function courseText(event: IndexEvent | undefined): string {
  if (event === undefined) return 'waiting for its list';
  const { foldersDone, foldersTotal, archiveCount } = event;
  const percent = foldersTotal === 0 ? 0 : Math.floor((100 * foldersDone) / foldersTotal);
  return `${String(percent).padStart(3)}%, ${foldersDone} of ${foldersTotal} folders, ${archiveCount} archives`;
}

function endText({ outcome, folderCount, archiveCount, strayEntries, error }: TargetIndexResult): string {
  if (outcome === 'fresh') return 'young enough, not listed again';
  const stray = strayEntries > 0 ? `, ${strayEntries} stray names skipped` : '';
  const figures = `${folderCount} folders, ${archiveCount} archives${stray}`;
  if (outcome === 'complete') return `done: ${figures}`;
  // The row names the target already.
  const why = error?.message.replace(/^target \d+ \([^)]*\): /, '');
  return outcome === 'partial'
    ? `in part: ${figures}; ${why ?? 'the list may be cut'}`
    : `not reached: ${why}`;
}
