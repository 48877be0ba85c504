/** Failures that leave the person where they are. */
import { PhdError } from '../../src/errors.ts';
import type { Desk } from '../desk.ts';

/** Does it; a failure of the work is told and gives undefined, anything else (abort to the main menu) passes. */
export async function tellFailure<T>(
  desk: Desk,
  title: string,
  work: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof PhdError)) throw error;
    await desk.dialogue.tell(title, [{ text: error.message, mark: 'bad' }]);
    return undefined;
  }
}
