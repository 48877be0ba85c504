/** What lists say of the index they stand on: targets that were not reached, and clocks that are wrong. */
import { formatAge } from '../../../src/engine/display-text.ts';
import { indexState, type TargetStatus } from '../../../src/engine/index-state.ts';
import { fromErrno } from '../../../src/errors.ts';
import type { Line } from '../../dialogue.ts';
import type { Draft } from './draft.ts';

/** The index is looked at again so often. */
export const REFRESH_MS = 2_000;

/** The line under the title of a list: made anew now and then, since it is asked for with every paint. */
export function targetNote({ context }: Draft): () => Line | undefined {
  let madeMs = Number.NEGATIVE_INFINITY;
  let note: Line | undefined;
  return () => {
    if (performance.now() - madeMs >= REFRESH_MS) {
      madeMs = performance.now();
      note = lookedAt(context);
    }
    return note;
  };
}

function lookedAt(context: Draft['context']): Line | undefined {
  try {
    return noteOf(indexState(context).targets);
  } catch (error) {
    return { text: fromErrno(error, 'the index cannot be read').message, mark: 'bad' };
  }
}

/** Told where a list stands, when the index cannot be read any more. */
export function indexFault({ desk }: Draft): (message: string) => void {
  return (message) => desk.dialogue.notice(`${message}: leave the list and open it again`, 'bad');
}

/** `! target 2 vault not reached, rows 3 h old`; undefined while all are young and were reached. */
function noteOf(targets: readonly TargetStatus[]): Line | undefined {
  const parts = targets.flatMap(({ number, name, ageMs, isReached, isOld }) => {
    if (isReached !== false && !isOld) return [];
    const age = ageMs === null ? 'never listed whole' : `rows ${formatAge(ageMs)} old`;
    return [`${number} ${name}${isReached === false ? ' not reached' : ''}, ${age}`];
  });
  return parts.length === 0 ? undefined : { text: `! target ${parts.join('; ')}`, mark: 'warning' };
}

/** Added to the title where a clock is wrong: retention and replication stop on it. */
export function clockNote({ context }: Draft): string {
  const { fault } = indexState(context).clock;
  return fault === null ? '' : `  ! ${fault}`;
}
