/** What the menus show of the world; the console fills it in, a field is null until it is known. */

export interface ConsoleState {
  jobs: { waiting: number; running: number; failedUnseen: number } | null;
  daemon: 'running' | 'stopping' | 'not running' | null;
  /** One line for each lock that is set. */
  locks: readonly string[] | null;
  targetCount: number | null;
  /** How many filters are on. */
  filter: string | null;
  /** Why the state cannot be read, as long as that lasts. */
  fault: string | null;
}

export const UNKNOWN_STATE: ConsoleState = {
  jobs: null,
  daemon: null,
  locks: null,
  targetCount: null,
  filter: null,
  fault: null,
};

/** `idle`, `running 2, waiting 1`, `last run had 3 errors` */
export function runningText({ jobs }: ConsoleState): string {
  if (jobs === null) return '...';
  if (jobs.running > 0)
    return `running ${jobs.running}${jobs.waiting > 0 ? `, waiting ${jobs.waiting}` : ''}`;
  const waiting = jobs.waiting > 0 ? `, waiting ${jobs.waiting}` : '';
  if (jobs.failedUnseen > 0) {
    return `last run had ${jobs.failedUnseen} error${jobs.failedUnseen === 1 ? '' : 's'}${waiting}`;
  }
  return `idle${waiting}`;
}

export function daemonText({ daemon }: ConsoleState): string {
  return daemon ?? '...';
}

/** `none`, or the first lock and how many more. */
export function locksText({ locks }: ConsoleState): string {
  if (locks === null) return '...';
  const [first, ...others] = locks;
  if (first === undefined) return 'none';
  return others.length === 0 ? first : `${first} (and ${others.length} more)`;
}
