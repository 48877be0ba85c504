/** What a run of the verify plan leaves for the next one. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { writeClosedFile } from '../engine/configuration.ts';
import { fromErrno } from '../errors.ts';
import type { Places } from '../model/config.ts';

const planState = z.object({
  /** UTC, ISO 8601: nothing is due before; null: look at once. */
  nextLookAt: z.string().nullable().default(null),
  /** When an archive was tried in vain: its target was dead, its file gone. Such an archive has no date of verification. */
  tried: z.record(z.string(), z.string()).default({}),
  /** The last run. */
  startedAt: z.string().nullable().default(null),
  endedAt: z.string().nullable().default(null),
  goodCount: z.number().int().default(0),
  failedCount: z.number().int().default(0),
  /** Archives that were due and were not come to. */
  leftCount: z.number().int().default(0),
});

export type PlanState = z.output<typeof planState>;

function fileOf(places: Places): string {
  return path.join(places.stateDir, 'verify-plan.json');
}

/** A state that is not there or cannot be read is that of a home without any run. Throws IO. */
export async function readPlanState(places: Places): Promise<PlanState> {
  try {
    return planState.parse(JSON.parse(await readFile(fileOf(places), 'utf8')));
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    if (isMissing || error instanceof SyntaxError || error instanceof z.ZodError) return planState.parse({});
    throw fromErrno(error, `cannot read ${fileOf(places)}`);
  }
}

export async function writePlanState(places: Places, state: PlanState): Promise<void> {
  await writeClosedFile(fileOf(places), `${JSON.stringify(state)}\n`);
}
