import type { Desk } from '../desk.ts';

export async function configuration(desk: Desk): Promise<void> {
  await desk.dialogue.tell('configuration', ['configuration']);
}
