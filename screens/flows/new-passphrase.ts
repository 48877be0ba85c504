/** A new passphrase, typed twice. */
import type { Desk } from '../desk.ts';

/** Undefined for back; '' only if it may be empty. */
export async function askTwice(
  desk: Desk,
  question: string,
  mayBeEmpty: boolean,
): Promise<string | undefined> {
  const title = 'Encryption';
  for (;;) {
    const first = await desk.dialogue.ask({
      title,
      question,
      isSecret: true,
      fault: (text) => (text === '' && !mayBeEmpty ? 'an empty passphrase is refused' : undefined),
    });
    if (first === undefined || first === '') return first;
    const second = await desk.dialogue.ask({ title, question: 'The same again', isSecret: true });
    if (second === undefined) return undefined;
    if (first === second) return first;
    await desk.dialogue.tell(title, [{ text: 'They differ: once more.', mark: 'bad' }]);
  }
}
