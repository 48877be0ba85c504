/** A new host takes over the configuration that another one left on its first target. */
import type { FoundCopy } from '../../src/safekeeping/copy-place.ts';
import type { Desk } from '../desk.ts';
import type { Line } from '../dialogue.ts';
import { rowSource } from './restore/sources.ts';
import { tellFailure } from './tell-failure.ts';

/** True if a configuration was taken over; false where there is none, or the person goes on without. */
export async function offerAdoption(desk: Desk, targetNumber: number): Promise<boolean> {
  const isTaken = await tellFailure(desk, 'The copy cannot be taken over', async () => {
    const { copiesOn } = await import('../../src/safekeeping/adopt.ts');
    const copies = await copiesOn(await desk.context(), targetNumber);
    const found = await pickCopy(desk, copies);
    return found !== undefined && (await takeOver(desk, targetNumber, found));
  });
  return isTaken ?? false;
}

async function pickCopy(desk: Desk, copies: readonly FoundCopy[]): Promise<FoundCopy | undefined> {
  const [first, second] = copies;
  if (second === undefined) return first;
  const answer = await desk.dialogue.list<FoundCopy>({
    title: 'This target holds configurations: take over which',
    source: rowSource(copies, ({ hostName }) => hostName),
    idOf: ({ hostName }) => hostName,
    columns: [
      { title: 'Host', columns: 0, text: ({ hostName }) => hostName },
      { title: 'Made (UTC)', columns: 22, text: ({ time }) => time },
    ],
    empty: 'none',
  });
  return answer?.kind === 'row' ? answer.row : undefined;
}

async function takeOver(desk: Desk, targetNumber: number, found: FoundCopy): Promise<boolean> {
  const { adopt, planAdoption } = await import('../../src/safekeeping/adopt.ts');
  const context = await desk.context();
  const adoption = await planAdoption(context, targetNumber, found);
  const missing = adoption.missing.map((text): Line => ({ text, mark: 'warning' }));
  const isWanted = await desk.dialogue.confirm({
    title: `Configuration of ${found.hostName}`,
    lines: ['The target holds a copy of it, without secrets:', ...adoption.summary],
    question: 'Take it over?',
  });
  if (!isWanted) return false;
  await adopt(context, adoption);
  await desk.forgetContext();
  if (missing.length > 0) await desk.dialogue.tell('Still to be done', missing);
  return true;
}
