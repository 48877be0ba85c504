/** What lists say of the index they stand on: targets that were not reached, and clocks that are wrong. */
import { formatAge } from '../../../src/engine/display-text.ts';
import type { Line } from '../../dialogue.ts';
import type { Draft } from './draft.ts';

/** The index is looked at again so often. */
export const REFRESH_MS = 2_000;

/** The line under the title of a list: made anew now and then, since it is asked for with every paint. */
export function targetNote(draft: Draft): () => Line | undefined {
  let madeMs = Number.NEGATIVE_INFINITY;
  let note: Line | undefined;
  return () => {
    if (performance.now() - madeMs >= REFRESH_MS) {
      madeMs = performance.now();
      note = noteOf(draft);
    }
    return note;
  };
}

function noteOf({ browser, context }: Draft): Line | undefined {
  const nowMs = context.clock.now().getTime();
  const limitMs = context.config.indexMaxAgeMinutes * 60_000;
  const parts: string[] = [];
  for (const { number, name, error, listedMs } of browser.targets()) {
    const ageMs = listedMs === null ? null : nowMs - listedMs;
    if (error === null && ageMs !== null && ageMs < limitMs) continue;
    const age = ageMs === null ? 'never listed' : `rows ${formatAge(ageMs)} old`;
    parts.push(`${number} ${name}${error === null ? '' : ' not reached'}, ${age}`);
  }
  return parts.length === 0 ? undefined : { text: `! target ${parts.join('; ')}`, mark: 'warning' };
}

/** Added to the title where archives lie in the future: retention and replication stop on it. */
export async function clockNote({ context }: Draft): Promise<string> {
  const { clockFault } = await import('../../../src/engine/index-targets.ts');
  const fault = clockFault(context);
  return fault === null ? '' : `  ! ${fault}`;
}
