import type { Desk } from '../desk.ts';

export async function backup(desk: Desk): Promise<void> {
  await desk.dialogue.tell('backup', ['backup']);
}
