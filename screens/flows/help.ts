/** All menus and all keys, made from the tables that rule them. */
import { printedKeys } from '../../menus/printed-keys.ts';
import type { Desk } from '../desk.ts';

export { printedKeys };

export async function help(desk: Desk): Promise<void> {
  const lines = printedKeys();
  await desk.dialogue.read({ title: 'Help', lines: () => lines });
}
