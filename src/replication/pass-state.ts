/** What a pass leaves for the next one: jobs whose end it did not see, lines that failed, when it ran. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { writeClosedFile } from '../engine/configuration.ts';
import { fromErrno } from '../errors.ts';
import type { Places } from '../model/config.ts';

const pendingJob = z.object({ job: z.number().int(), archive: z.string(), goal: z.string() });
const failedGoal = z.object({
  goal: z.string(),
  archive: z.string().nullable(),
  job: z.number().int().nullable(),
  code: z.string(),
  message: z.string(),
});
const passState = z.object({
  /** UTC, ISO 8601; null: no pass yet. */
  startedAt: z.string().nullable().default(null),
  /** Null while it runs, and if it was broken off. */
  endedAt: z.string().nullable().default(null),
  /** What stopped the whole pass; null: nothing did. */
  fault: z.string().nullable().default(null),
  restored: z.number().int().default(0),
  /** Queued, and the end was not seen yet. */
  pending: z.array(pendingJob).default([]),
  /** Of the last pass. */
  failed: z.array(failedGoal).default([]),
  /** Archives up to this stamp are no sign of a wrong clock: a person said so. */
  confirmedStamp: z.string().nullable().default(null),
});

export type PassState = z.output<typeof passState>;
export type PendingJob = PassState['pending'][number];
export type FailedGoal = PassState['failed'][number];

function fileOf(places: Places): string {
  return path.join(places.stateDir, 'replication.json');
}

/** A state that is not there or cannot be read is that of a home without any pass. Throws IO. */
export async function readPassState(places: Places): Promise<PassState> {
  try {
    return passState.parse(JSON.parse(await readFile(fileOf(places), 'utf8')));
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    if (isMissing || error instanceof SyntaxError || error instanceof z.ZodError) return passState.parse({});
    throw fromErrno(error, `cannot read ${fileOf(places)}`);
  }
}

export async function writePassState(places: Places, state: PassState): Promise<void> {
  await writeClosedFile(fileOf(places), `${JSON.stringify(state)}\n`);
}
