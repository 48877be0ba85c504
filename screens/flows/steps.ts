/** Questions one after the other, each with a way back to the one before. */

export interface Step<Answers> {
  /** False: answers so far make this question needless. */
  isWanted?: (answers: Answers) => boolean;
  /** Asks and keeps the answer; false is "back". */
  ask: (answers: Answers) => Promise<boolean>;
}

/** True when all were answered, false when the person went back before the first. */
export async function askSteps<Answers>(answers: Answers, steps: readonly Step<Answers>[]): Promise<boolean> {
  let at = 0;
  let by = 1;
  while (at >= 0 && at < steps.length) {
    const { isWanted, ask } = steps[at] as Step<Answers>;
    if (isWanted?.(answers) ?? true) by = (await ask(answers)) ? 1 : -1;
    at += by;
  }
  return at >= 0;
}
