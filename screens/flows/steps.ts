/** Questions one after the other, each with a way back to the one before. */
import type { Desk } from '../desk.ts';
import type { AskSpec } from '../dialogue.ts';

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

/** Asks for one line under this title and keeps it; false is "back". */
export type AskLine = (spec: Omit<AskSpec, 'title'>, keep: (text: string) => void) => Promise<boolean>;

export function lineAsker(desk: Desk, title: string): AskLine {
  return async (spec, keep) => {
    const text = await desk.dialogue.ask({ title, ...spec });
    // Blanks at the ends of a secret are part of it.
    if (text !== undefined) keep(spec.isSecret ? text : text.trim());
    return text !== undefined;
  };
}

/** Said with each question for a secret. */
export const SECRET_WORDS =
  'It is kept in a file of its own that only you can read. Empty: as it was, or none.';

export function textFault(text: string): string | undefined {
  return text.trim() === '' ? 'this must not be empty' : undefined;
}

export function wholeFault(text: string, to: number): string | undefined {
  const isGood = /^\d{1,5}$/.test(text.trim()) && Number(text) >= 1 && Number(text) <= to;
  return isGood ? undefined : `expected a whole number 1 to ${to}`;
}
