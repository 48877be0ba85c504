/** Which archives open with which passphrase: tried, not guessed; what nothing opens stands first. */
import { formatCount } from '../../src/engine/display-text.ts';
import type { OpeningPassphrases } from '../../src/engine/opening-passphrases.ts';
import type { Desk } from '../desk.ts';

export async function showOpeningPassphrases(desk: Desk): Promise<void> {
  const context = await desk.context();
  const runs = await desk.dialogue.busy('Which archives open with which', async (signal, say) => {
    const { indexTargets } = await import('../../src/engine/index-targets.ts');
    say('listing targets');
    await indexTargets(context, { scope: 'old', signal });
    const { openingPassphrases } = await import('../../src/engine/opening-passphrases.ts');
    const onRun = (done: number, total: number): void => say(`run ${done + 1} of ${total}`);
    return await openingPassphrases(context, desk.filter, { signal, onRun });
  });
  if (runs === undefined) return;
  if (runs.length === 0) return desk.dialogue.tell('Encryption', ['No archive of the index is encrypted.']);
  const lines = linesOf(runs);
  await desk.dialogue.read({ title: 'Which archives open with which passphrase', lines: () => lines });
}

function linesOf(runs: readonly OpeningPassphrases[]): string[] {
  const groups = new Map<string, OpeningPassphrases[]>();
  for (const run of runs) {
    const words = wordsOf(run);
    groups.set(words, [...(groups.get(words) ?? []), run]);
  }
  const isBad = ({ opens }: OpeningPassphrases): boolean => opens.length === 0;
  const sorted = [...groups].sort(
    ([, [a]], [, [b]]) => Number(isBad(b as OpeningPassphrases)) - Number(isBad(a as OpeningPassphrases)),
  );
  return sorted.flatMap(([words, members]) => {
    const rows = members.map(
      ({ row }) => `${row.stamp.replace('T', ' ')}  target ${row.targetNumber}  ${row.vm}`,
    );
    return [`${words}: ${formatCount(members.length, 'run')}`, ...rows, ''];
  });
}

function wordsOf({ opens, fault }: OpeningPassphrases): string {
  if (fault !== null) return `Cannot be read (${fault.message})`;
  return opens.length === 0
    ? 'Nothing that is configured opens these'
    : `Opened by the ${opens.join(' and the ')} passphrase`;
}
