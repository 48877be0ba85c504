/** Ties a long operation to the command line: progress, warnings, ^C. */
import type { OperationHooks } from '../engine/backup.ts';
import type { Cli } from './cli.ts';
import { openProgress } from './progress.ts';

/**
 * Runs `work` with hooks; the bar is off the screen whenever a line is printed, and at the end. `namesOf` tells what a
 * label of the progress names; default: a disk.
 */
export async function withHooks<T>(
  cli: Cli,
  isJson: boolean,
  work: (hooks: OperationHooks) => Promise<T>,
  namesOf: (label: string) => { archive?: string; disk?: string } = (disk) => ({ disk }),
): Promise<T> {
  const view = await openProgress(cli.streams, isJson);
  try {
    return await work({
      signal: cli.signal,
      onProgress: (event) =>
        view.show({ ...event, ...namesOf(event.label), label: `${event.label} (${event.phase})` }),
      onWarning: (message) => {
        view.end();
        cli.warnOnce(message);
      },
    });
  } finally {
    view.end();
  }
}
