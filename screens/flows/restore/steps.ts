/** A flow as a row of questions: each may be gone back from to the one before. */

/** `skip` goes on in the direction one came from: a question with a single answer is not asked. */
export type StepEnd = 'next' | 'back' | 'skip' | 'quit';

export type Step<Draft> = (draft: Draft) => Promise<StepEnd>;

/** `next`: all were answered; `back`: out of the first; `quit`: to the last menu. */
export async function runSteps<Draft>(
  draft: Draft,
  steps: readonly Step<Draft>[],
): Promise<'next' | 'back' | 'quit'> {
  let at = 0;
  let direction = 1;
  while (at >= 0 && at < steps.length) {
    const end = await (steps[at] as Step<Draft>)(draft);
    if (end === 'quit') return 'quit';
    if (end !== 'skip') direction = end === 'next' ? 1 : -1;
    at += direction;
  }
  return at < 0 ? 'back' : 'next';
}
