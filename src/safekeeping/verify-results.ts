/** What is known of the archives of the index by their verification. */
import type { EngineContext } from '../engine/context.ts';
import { withVerify } from '../engine/list-archives.ts';
import { walkArchives } from '../engine/walk-archives.ts';

const DAY_MS = 86_400_000;

export interface VerifyResultCounts {
  /** Whole archives of this program. */
  total: number;
  damaged: number;
  unreadable: number;
  /** Not verified within the days of the verify plan. */
  neverOrOld: number;
}

export function verifyResultCounts(context: EngineContext): VerifyResultCounts {
  const limitMs = context.clock.now().getTime() - context.config.verifyPlan.everyDays * DAY_MS;
  const counts: VerifyResultCounts = { total: 0, damaged: 0, unreadable: 0, neverOrOld: 0 };
  for (const page of walkArchives(context, {})) {
    for (const row of page) {
      if (!row.complete || row.generation === 2) continue;
      const { verifyResult, verifiedAt } = withVerify(context, row);
      counts.total++;
      if (verifyResult === 'damaged') counts.damaged++;
      if (verifyResult === 'unreadable') counts.unreadable++;
      if (verifiedAt === null || Date.parse(verifiedAt) < limitMs) counts.neverOrOld++;
    }
  }
  return counts;
}
