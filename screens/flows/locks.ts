import type { Desk } from '../desk.ts';

export async function locks(desk: Desk): Promise<void> {
  await desk.dialogue.tell('locks', ['locks']);
}
