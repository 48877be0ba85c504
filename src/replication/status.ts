/** How replication stands: its settings, its file, its last pass; and whether the next pass is due. */
import { ExclusiveLock } from '../../db/exclusive-lock.ts';
import { readJobSettings, readReplicationSettings } from '../engine/configuration.ts';
import type { Places } from '../model/config.ts';
import type { Queue } from '../queue/queue.ts';
import { passLockFile } from './pass.ts';
import { type FailedGoal, readPassState } from './pass-state.ts';
import { readVmdksAuto, vmdksFile } from './vmdks-file.ts';

const MINUTE_MS = 60_000;

export interface ReplicationStatus {
  enabled: boolean;
  /** False: the daemon starts no restores, and so no pass. */
  restoreQueue: boolean;
  everyMinutes: number;
  file: string;
  /** Lines in use that can be read; null: there is no file. */
  lines: number | null;
  faults: number;
  /** A pass runs now. */
  running: boolean;
  daemon: boolean;
  startedAt: string | null;
  endedAt: string | null;
  restored: number;
  fault: string | null;
  /** Jobs whose end no pass has seen yet. */
  waiting: number;
  failed: FailedGoal[];
  /** The last pass in one line. */
  lastPass: string;
}

/** Throws CONFIG_INVALID, IO. Not to be asked by a pass itself. */
export async function replicationStatus(queue: Queue): Promise<ReplicationStatus> {
  const { places } = queue;
  const { enabled, everyMinutes } = await readReplicationSettings(places);
  const { restoreQueue } = await readJobSettings(places);
  const file = await readVmdksAuto(places);
  const { startedAt, endedAt, restored, fault, pending, failed } = await readPassState(places);
  const running = ExclusiveLock.isHeld(passLockFile(queue));
  const end =
    fault !== null
      ? `did not get through: ${fault}`
      : endedAt === null
        ? 'was broken off'
        : `ended at ${endedAt}: ${restored} restored, ${failed.length} failed`;
  const lastPass =
    startedAt === null
      ? 'no pass was run yet'
      : running
        ? `a pass runs since ${startedAt}`
        : `the pass of ${startedAt} ${end}`;
  return {
    enabled,
    restoreQueue,
    everyMinutes,
    file: vmdksFile(places),
    lines: file?.restores.length ?? null,
    faults: file?.faults.length ?? 0,
    running,
    daemon: queue.isDaemonRunning(),
    startedAt,
    endedAt,
    restored,
    fault,
    waiting: pending.length,
    failed,
    lastPass,
  };
}

/** Whether the daemon is to start a pass now. A start that lies in the future counts for nothing: the clock was set back. */
export async function isPassDue(places: Places, nowMs: number): Promise<boolean> {
  const { enabled, everyMinutes } = await readReplicationSettings(places);
  if (!enabled || !(await readJobSettings(places)).restoreQueue) return false;
  const { startedAt } = await readPassState(places);
  const ageMs = nowMs - (startedAt === null ? Number.NEGATIVE_INFINITY : Date.parse(startedAt));
  return !(ageMs >= 0 && ageMs < everyMinutes * MINUTE_MS);
}
