import type { Desk } from '../desk.ts';

export async function restoreMenu(desk: Desk): Promise<void> {
  await desk.dialogue.tell('restore-menu', ['restore-menu']);
}
