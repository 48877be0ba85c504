import type { Desk } from '../desk.ts';

export async function background(desk: Desk): Promise<void> {
  await desk.dialogue.tell('background', ['background']);
}
