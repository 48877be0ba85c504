import type { Desk } from '../desk.ts';

export async function daemon(desk: Desk): Promise<void> {
  await desk.dialogue.tell('daemon', ['daemon']);
}
