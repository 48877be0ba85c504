/** What a menu is: entries with a key, a label, a help line, and why one may not be chosen just now. */
import type { ConsoleState } from './state.ts';

export interface MenuEntry {
  /** Letter or digit that acts at once. */
  key: string;
  /** What the flow calls it. */
  id: string;
  /** Plain, or made from the state (a state line). */
  label: string | ((state: ConsoleState) => string);
  /** One sentence for the help. */
  help: string;
  /** Why it cannot be chosen now; null if it can. */
  disabled?: (state: ConsoleState) => string | null;
}

export interface Menu {
  id: string;
  title: string;
  entries: readonly MenuEntry[];
  /** There is nothing to go back to: Esc marks Quit first, and leaves only from there. */
  isTop?: boolean;
}

export function labelOf(entry: MenuEntry, state: ConsoleState): string {
  return typeof entry.label === 'string' ? entry.label : entry.label(state);
}

/** Why the entry cannot be chosen, or null. */
export function reasonAgainst(entry: MenuEntry, state: ConsoleState): string | null {
  return entry.disabled?.(state) ?? null;
}
