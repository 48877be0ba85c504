/** Jobs of the queue, the locks over it and the processes that work on it, as plain types. */

export const JOB_KINDS = ['restore', 'backup', 'verify'] as const;
export type JobKind = (typeof JOB_KINDS)[number];

export const JOB_STATES = [
  'waiting',
  'running',
  'done',
  'done with warnings',
  'failed',
  'cancelled',
  'interrupted',
] as const;
export type JobState = (typeof JOB_STATES)[number];
/** States that an attempt ends in. */
export type EndState = Exclude<JobState, 'waiting' | 'running'>;

export const LOCK_KINDS = ['backup', 'restore'] as const;
/** A lock says that nothing new of its kind starts; what runs finishes its current disk. */
export type LockKind = (typeof LOCK_KINDS)[number];

/** Who asked for something, and from where. */
export interface Submitter {
  user: string;
  host: string;
  /** Device of the terminal; null without one. */
  tty: string | null;
  /** Address of the SSH client; null if it was no SSH login. */
  sshClient: string | null;
}

/** One process among all that ever bore its number: a pid alone comes back. */
export interface ProcessIdentity {
  pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks since boot. */
  startTicks: string;
  /** /proc/sys/kernel/random/boot_id */
  bootId: string;
}

export interface JobProgress {
  /** What is being worked on: a disk, an archive. */
  label: string;
  phase: string;
  /** 0 .. 100 */
  percent: number;
  bytes: number;
  totalBytes: number;
  /** Over the last seconds. */
  bytesPerSecond: number;
  /** Over the whole phase. */
  meanBytesPerSecond?: number;
  elapsedSeconds?: number;
  /** Null until it can be told. */
  remainingSeconds: number | null;
  /** 0 .. 100 of what comes from each archive of a restore; null if nothing does. */
  fullPercent?: number | null;
  deltaPercent?: number | null;
}

/** How an attempt ended. */
export interface JobOutcome {
  state: EndState;
  exitStatus: number;
  /** Null where nothing failed. */
  errorCode: string | null;
  errorMessage: string | null;
  warningCount: number;
  /** Figures of the operation as JSON; null if it gave none. */
  result: string | null;
}

export interface Job {
  id: number;
  /** Number of the first job of those queued together; null for one queued alone. */
  groupId: number | null;
  kind: JobKind;
  /** One line for lists. */
  title: string;
  /** JSON; checked when it is read. */
  request: string;
  state: JobState;
  submitter: Submitter;
  /** UTC, ISO 8601, as all times here. */
  createdAt: string;
  startedAt: string | null;
  endedAt: string | null;
  /** 0 until it was first started. */
  attempt: number;
  /** Process of the present or last attempt. */
  owner: ProcessIdentity | null;
  progress: JobProgress | null;
  /** Null while the attempt has not ended. */
  exitStatus: number | null;
  errorCode: string | null;
  errorMessage: string | null;
  warningCount: number;
  result: string | null;
  /** A person has looked at how it ended. */
  isSeen: boolean;
}

/** One start of a job. */
export interface JobAttempt {
  attempt: number;
  owner: ProcessIdentity;
  startedAt: string;
  endedAt: string | null;
  state: JobState;
  exitStatus: number | null;
}

export interface QueueLock {
  kind: LockKind;
  by: Submitter;
  /** UTC, ISO 8601. */
  at: string;
}

/** How a daemon was asked to end. */
export type StopRequest = 'after-jobs' | 'now';

export interface DaemonRecord {
  process: ProcessIdentity;
  startedAt: string;
  version: string;
  stopRequest: StopRequest | null;
}
