/** The log of the program, from its end, following what is added. */
import { logFileOf } from '../../src/engine/log-file.ts';
import type { Desk } from '../desk.ts';
import { FileTail } from '../file-tail.ts';

const LOOK_EVERY_MS = 1_000;

export async function log(desk: Desk): Promise<void> {
  const { places } = await desk.queue();
  const tail = new FileTail(logFileOf(places));
  await desk.dialogue.read({
    title: 'Log',
    lines: () => tail.lines(),
    refreshMs: LOOK_EVERY_MS,
    isFollowing: true,
  });
}
