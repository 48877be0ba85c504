/** What the index stands on: how old each target's rows are, whether it was reached, and whether the clock is right. */
import type { ArchiveRow, TargetState } from '../../db/archive-rows.ts';
import { localStamp } from '../clock.ts';
import type { Stamp } from '../model/archive.ts';
import type { EngineContext } from './context.ts';
import { formatCount } from './display-text.ts';

const MINUTE_MS = 60_000;
/** The autumn hour, in which stamps of this host may run ahead, and a little. */
const CLOCK_TOLERANCE_MS = 65 * MINUTE_MS;

export interface TargetStatus extends TargetState {
  /** Since the last complete listing, 0 if that lies in the future; null: never listed completely. */
  ageMs: number | null;
  /** Whether the last attempt reached it; null: never tried. */
  isReached: boolean | null;
  /** True if it is due: never listed, older than the setting, or listed in the future. */
  isOld: boolean;
}

export interface ClockState {
  newestStamp: Stamp | null;
  /** Archives, each copy counted, whose stamp lies more than 65 minutes ahead. */
  futureArchives: number;
  /** Targets whose last complete listing lies ahead: the clock was set back since. */
  listedAhead: number[];
  /** One line, or null if nothing is wrong. Retention and replication stop on it. */
  fault: string | null;
}

export interface IndexState {
  /** By number. */
  targets: TargetStatus[];
  clock: ClockState;
}

type StateSource = Pick<EngineContext, 'index' | 'clock'> & { config: { indexMaxAgeMinutes: number } };

/** State of the index now; throws IO. */
export function indexState(source: StateSource): IndexState {
  const nowMs = source.clock.now().getTime();
  const oldMs = source.config.indexMaxAgeMinutes * MINUTE_MS;
  const targets = source.index.targets().map((state) => {
    const ageMs = state.listedMs === null ? null : nowMs - state.listedMs;
    return {
      ...state,
      ageMs: ageMs === null ? null : Math.max(0, ageMs),
      isReached: state.outcome === null ? null : state.outcome !== 'failed',
      isOld: ageMs === null || ageMs < 0 || ageMs >= oldMs,
    };
  });
  return { targets, clock: clockState(source) };
}

/**
 * Since when a row was not seen again (UTC), or null if the last attempt at its target saw it or was complete: an
 * unchanged folder counts as seen by a complete listing that did not open it.
 */
export function staleSince(row: ArchiveRow, target: TargetState | undefined): number | null {
  if (target === undefined || target.outcome === null || target.outcome === 'complete') return null;
  const seenMs = Math.max(row.seenMs, target.listedMs ?? 0);
  return seenMs < (target.triedMs ?? 0) ? seenMs : null;
}

/** What is wrong with the clock in one line, or null (see `ClockState`). */
export function clockFault(source: Pick<EngineContext, 'index' | 'clock'>): string | null {
  return clockState(source).fault;
}

function clockState({ index, clock }: Pick<EngineContext, 'index' | 'clock'>): ClockState {
  const now = clock.now();
  const newestStamp = index.newestStamp() ?? null;
  const limit = localStamp(new Date(now.getTime() + CLOCK_TOLERANCE_MS));
  const isAhead = newestStamp !== null && newestStamp > limit;
  const futureArchives = isAhead ? index.countAfter(limit) : 0;
  const listedAhead = index
    .targets()
    .filter(({ listedMs }) => (listedMs ?? 0) > now.getTime() + CLOCK_TOLERANCE_MS)
    .map(({ number }) => number);
  const state = { newestStamp, futureArchives, listedAhead };
  const here = `but it is ${spaced(localStamp(now))} here: check the clock`;
  if (isAhead) {
    const howMany = futureArchives === 1 ? '' : ` (one of ${formatCount(futureArchives, 'archive')} ahead)`;
    return { ...state, fault: `the newest archive is of ${spaced(newestStamp)}${howMany}, ${here}` };
  }
  if (listedAhead.length > 0) {
    return { ...state, fault: `target ${listedAhead.join(', ')} was listed at a later time, ${here}` };
  }
  return { ...state, fault: null };
}

const spaced = (stamp: Stamp): string => stamp.replace('T', ' ');
